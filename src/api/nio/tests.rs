use kube::core::{ObjectList, WatchEvent};
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::api::cluster::RawCluster;
use crate::api::text::MAX_SHOWN;

fn bytes(object: &impl Serialize) -> usize {
    serde_json::to_string(object).unwrap().len()
}

/// A configuration as classic's API server returns it: kopf's copy of the whole and the record of who wrote which field beside it.
fn configuration(cluster_nix: &str) -> Value {
    let spec = json!({
        "gitRepo": "https://git/repo",
        "flake": "#w",
        "onRemoveFlake": "#minimal",
        "machineRef": { "name": "w" },
        "fullInstall": false,
        "additionalFiles": [
            { "path": "cluster.nix", "valueType": "Inline", "inline": cluster_nix },
            { "path": "join-token", "valueType": "SecretRef", "secretRef": { "name": "prod-worker-token" } },
        ],
    });
    let fields: Value = (0..40)
        .map(|n| (format!("f:{n}"), json!({ ".": {} })))
        .collect();
    json!({
        "metadata": {
            "name": "w",
            "uid": "u",
            "annotations": {
                "kopf.zalando.org/last-handled-configuration": json!({ "spec": spec }).to_string(),
                "kubectl.kubernetes.io/last-applied-configuration": json!({ "spec": spec }).to_string(),
                "nico.homystack.com/written": "2026-11-27T20:00:00Z",
            },
            "managedFields": [{ "manager": "kopf", "fieldsV1": fields }],
        },
        "spec": spec,
    })
}

#[test]
fn of_a_configuration_little_more_is_kept_than_its_files() {
    for nix in [1_000, 60_000] {
        let sent = configuration(&"x".repeat(nix));
        let kept: NixosConfiguration = serde_json::from_value(sent.clone()).unwrap();
        let (sent, kept) = (bytes(&sent), bytes(&kept));
        println!("a configuration with {nix} bytes of cluster.nix: {sent} bytes sent, {kept} kept");
        assert!(kept < nix + 700, "{kept}");
        assert!(sent > 3 * nix, "{sent}");
    }
}

/// One tenant can create tens of thousands of them.
#[test]
fn of_the_metadata_of_machines_and_jobs_little_is_kept() {
    fn kept<K: DeserializeOwned + Resource>(metadata: &Value) -> usize {
        let object: K = serde_json::from_value(json!({ "metadata": metadata })).unwrap();
        bytes(object.meta())
    }
    let name = |n: usize| format!("example.com/{n:0>40}");
    let owner = |n: usize| json!({"apiVersion": "v1", "kind": "Pod", "name": name(n), "uid": name(n), "controller": n == 0});
    let metadata = json!({
        "name": "a", "uid": "u",
        "finalizers": (0..100).map(name).collect::<Vec<_>>(),
        "ownerReferences": (0..40).map(owner).collect::<Vec<_>>(),
        "labels": (0..100).map(|n| (name(n), "x".into())).collect::<Map<_, _>>(),
    });
    let labels = bytes(&metadata["labels"]);
    let machine = kept::<Machine>(&metadata);
    assert!(machine < labels + 100, "{machine}");
    let of_work = [
        kept::<Job>(&metadata),
        kept::<CronJob>(&metadata),
        kept::<NixCronJob>(&metadata),
        kept::<NixJob>(&metadata),
    ];
    assert!(of_work.iter().all(|it| *it < 400), "{of_work:?}");
    let job: Job = serde_json::from_value(json!({ "metadata": metadata })).unwrap();
    let owners = job.metadata.owner_references.unwrap();
    assert_eq!((owners.len(), owners[0].controller), (1, Some(true)));
}

#[test]
fn texts_that_are_not_what_they_should_be_are_not_kept() {
    let long = "x".repeat(300_000);
    let machine: Machine = serde_json::from_value(json!({
        "metadata": { "name": "w", "annotations": { "note": long }, "managedFields": [{ "x": long }] },
        "spec": {
            "ipAddress": long,
            "host": long,
            "hostname": long,
            "sshUser": long,
            "sshKeySecretRef": { "name": long, "namespace": long },
            "more": long,
        },
        "status": { "discoverable": true, "hardwareFacts": long },
    }))
    .unwrap();
    assert!(bytes(&machine) < 300, "{}", bytes(&machine));
    let configuration: NixosConfiguration = serde_json::from_value(json!({
        "metadata": { "name": "w" },
        "spec": { "machineRef": { "name": "w" }, "more": long },
        "status": { "conditions": [{ "type": "Ready", "message": long }] },
    }))
    .unwrap();
    assert!(bytes(&configuration) < 300 + MAX_SHOWN);
}

#[test]
fn a_malformed_address_is_none_and_its_field_is_named() {
    let machine = |spec: Value| Machine {
        spec: serde_json::from_value(spec).unwrap(),
        ..Machine::default()
    };
    for (spec, address, malformed) in [
        (
            json!({ "hostname": "w.lan", "ipAddress": "10.0.0.1" }),
            Some("10.0.0.1"),
            None,
        ),
        (
            json!({ "hostname": "w.lan", "ipAddress": "" }),
            Some("w.lan"),
            None,
        ),
        (
            json!({ "hostname": "w.lan", "ipAddress": "10.0.0.1;id" }),
            None,
            Some("spec.ipAddress"),
        ),
        (json!({ "host": "a b" }), None, Some("spec.host")),
        (json!({ "hostname": "a\nb" }), None, Some("spec.hostname")),
        (json!({}), None, None),
    ] {
        let machine = machine(spec.clone());
        assert_eq!(
            (machine.address(), machine.malformed_address()),
            (address, malformed),
            "{spec}"
        );
    }
}

/// JSON of any form, with the names of real fields among its keys.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,8}|2026-11-27T20:00:00Z|w".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            any_object(inner),
        ]
    })
}

fn any_object(inner: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    let key = "metadata|spec|status|name|labels|annotations|finalizers|ownerReferences|creationTimestamp|deletionTimestamp|generation|machineRef|additionalFiles|sshKeySecretRef|ipAddress|conditions|type|message|\\PC{0,4}";
    prop::collection::btree_map(key, inner, 0..8)
        .prop_map(|fields| Value::Object(fields.into_iter().collect()))
}

proptest! {
    /// One odd object must not fail the list or the watch of all.
    #[test]
    fn any_object_decodes(metadata in any_object(any_json()), spec in any_json(), status in any_json()) {
        let text = json!({ "metadata": metadata, "spec": spec, "status": status }).to_string();
        prop_assert!(serde_json::from_str::<Machine>(&text).is_ok(), "{}", text);
        prop_assert!(serde_json::from_str::<NixosConfiguration>(&text).is_ok(), "{}", text);
        prop_assert!(serde_json::from_str::<RawCluster>(&text).is_ok(), "{}", text);
    }
}

/// The text of any value, also of numbers that no f64 holds.
fn any_text() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null"),
        Just("true"),
        Just("1e999"),
        Just("-0"),
        Just("123456789012345678901234567890"),
        Just("\"x\""),
        Just("\"\\u0000\""),
        Just("[]"),
        Just("{}"),
    ];
    leaf.prop_map(str::to_owned)
        .prop_recursive(3, 16, 4, |inner| {
            let key = prop::sample::select(vec![
                "name",
                "conditions",
                "type",
                "machineRef",
                "additionalFiles",
                "x",
            ]);
            let fields = prop::collection::btree_map(key, inner.clone(), 0..4);
            let fields = fields.prop_map(|fields| {
                let fields: Vec<String> = fields
                    .iter()
                    .map(|(key, value)| format!("\"{key}\":{value}"))
                    .collect();
                format!("{{{}}}", fields.join(","))
            });
            let list =
                prop::collection::vec(inner, 0..4).prop_map(|list| format!("[{}]", list.join(",")));
            prop_oneof![fields, list]
        })
}

/// What a list and a watch make of an object, and of a good one after it.
fn listed_and_watched<T: DeserializeOwned + Clone>(object: &str, good: &str) -> Vec<T> {
    let list = format!(
        r#"{{"kind":"x","apiVersion":"x","metadata":{{"resourceVersion":"1"}},"items":[{object},{good}]}}"#
    );
    let list: ObjectList<T> = serde_json::from_str(&list).unwrap();
    let event = format!(r#"{{"type":"MODIFIED","object":{object}}}"#);
    let event: WatchEvent<T> = serde_json::from_str(&event).unwrap();
    assert!(matches!(event, WatchEvent::Modified(_)));
    list.items
}

proptest! {
    #[test]
    fn no_object_breaks_a_list_or_a_watch(
        field in prop::sample::select(vec!["name", "labels", "annotations", "finalizers", "ownerReferences", "creationTimestamp",
            "generation", "managedFields"]),
        values in prop::collection::vec(any_text(), 4),
    ) {
        let [metadata, spec, status, more] = &values[..] else { unreachable!() };
        let object = format!(r#"{{"metadata":{{"uid":"u","{field}":{metadata}}},"spec":{spec},"status":{status},"x":{more}}}"#);
        let good = r#"{"metadata":{"name":"good"},"spec":{"hostname":"w","machineRef":{"name":"w"}}}"#;
        let machines: Vec<Machine> = listed_and_watched(&object, good);
        prop_assert_eq!(machines[1].address(), Some("w"));
        let configurations: Vec<NixosConfiguration> = listed_and_watched(&object, good);
        prop_assert_eq!(configurations[1].spec.machine(), Some("w"));
        let clusters: Vec<RawCluster> = listed_and_watched(&object, good);
        prop_assert_eq!(&clusters[1].spec["hostname"], &json!("w"));
        prop_assert_eq!(machines[0].metadata.uid.as_deref(), Some("u"));
    }
}

#[test]
fn a_text_of_a_status_that_is_too_long_is_not_kept() {
    let status = |length: usize| -> NixosConfiguration {
        let text = "a".repeat(length);
        serde_json::from_value(json!({"metadata": {}, "status": {"appliedCommit": text, "targetMachine": text, "phase": text,
            "additionalFilesHash": text, "resolvedRevision": text}}))
        .unwrap()
    };
    let kept = |length| serde_json::to_string(&status(length).status).unwrap().len();
    assert!(kept(1024) > 5 * 1024);
    assert!(kept(1025) < 200, "{}", kept(1025));
}

fn stored(spec: &Value, metadata: &Value) -> NixosConfiguration {
    serde_json::from_str(&json!({ "metadata": metadata, "spec": spec }).to_string()).unwrap()
}

/// A tenant may have many configurations of the size that etcd stores.
#[test]
fn of_a_configuration_that_is_no_clusters_only_its_machine_is_kept() {
    let spec = |files: usize| {
        let file = |n: usize| json!({"path": n.to_string(), "inline": "x".repeat(130_000)});
        let files: Vec<Value> = (0..files).map(file).collect();
        json!({"gitRepo": "https://git/repo", "machineRef": {"name": "w"}, "additionalFiles": files})
    };
    let foreign = stored(&spec(5), &json!({"name": "other"}));
    assert_eq!(foreign.spec.machine(), Some("w"));
    assert!(bytes(&foreign) < 200, "{}", bytes(&foreign));
    let other =
        json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "p", "controller": true});
    let owned = stored(
        &spec(5),
        &json!({"name": "other", "ownerReferences": [other]}),
    );
    assert!(bytes(&owned) < 300, "{}", bytes(&owned));
    // One that claims to be a cluster's.
    let labels = json!({"nico.homystack.com/cluster": "prod"});
    let labelled = stored(&spec(10), &json!({"name": "w", "labels": labels}));
    assert_eq!(labelled.spec.files(), []);
    assert_eq!(
        labelled.spec.get("gitRepo"),
        Some(&json!("https://git/repo"))
    );
    assert!(bytes(&labelled) < 300, "{}", bytes(&labelled));
}

/// Their texts differ, and each is as long as NICO accepts.
#[test]
fn of_very_many_long_configurations_of_one_namespace_little_is_kept() {
    let labels = json!({"nico.homystack.com/cluster": "prod"});
    let held = |namespace: &str, n: usize| {
        let text = format!("{n}{}", "x".repeat(1_000_000));
        let files = json!([{"path": "cluster.nix", "valueType": "Inline", "inline": text},
            {"path": "marker", "valueType": "Inline", "inline": ""}]);
        let spec = json!({"machineRef": {"name": "w"}, "additionalFiles": files});
        let metadata = json!({"name": "w", "namespace": namespace, "labels": labels});
        stored(&spec, &metadata)
    };
    let bytes_of = |all: &[NixosConfiguration]| all.iter().map(bytes).sum::<usize>();
    let greedy: Vec<_> = (0..40).map(|n| held("greedy", n)).collect();
    assert!(bytes_of(&greedy) < 9_000_000, "{}", bytes_of(&greedy));
    let modest: Vec<_> = (0..4).map(|n| held("modest", n)).collect();
    assert!(bytes_of(&modest) > 4_000_000, "{}", bytes_of(&modest));
    // What is not kept whole is not taken for another.
    assert_ne!(greedy[38], greedy[39]);
    assert_eq!(held("greedy", 39), greedy[39]);
    let marker = greedy[39].spec.file("marker").unwrap();
    assert_eq!(marker.inline().unwrap().as_str(), "");
    drop(greedy);
    assert!(bytes_of(&[held("greedy", 39)]) > 1_000_000);
}

/// Each file is a cluster.nix of a founder, with as many machines as NICO may have written, and longer addresses than it writes.
#[test]
fn of_a_founder_without_room_the_names_of_its_control_plane_are_kept() {
    let labels = json!({"nico.homystack.com/cluster": "prod"});
    let text = |n: usize, named: &str, rows: usize| {
        let row = |name: &str| json!({"name": name, "ip": format!("{n}.{}", "1".repeat(490))});
        let others = (1..rows).map(|at| row(&format!("{named}{at:03}")));
        let rows: Vec<Value> = std::iter::once(row("cp-000")).chain(others).collect();
        let values = json!({"name": "prod", "id": "0000000000000001", "bootstrap": "cp-000", "join": null,
            "endpoint": null, "controlPlane": rows, "workers": rows});
        rig::nix::text(&values)
    };
    let held = |n: usize, named: &str, rows: usize| {
        let file = |path: &str, n: usize| json!({"path": path, "valueType": "Inline", "inline": text(n, named, rows)});
        let files = json!([file("nio/cluster.nix", 2 * n), file("other.nix", 2 * n + 1)]);
        let spec = json!({"machineRef": {"name": "cp-000"}, "additionalFiles": files});
        stored(
            &spec,
            &json!({"name": "cp-000", "namespace": "founders", "labels": labels}),
        )
    };
    let all: Vec<_> = (0..40).map(|n| held(n, "cp-", 198)).collect();
    let last = &all[39].spec;
    let values = last.file("cluster.nix").unwrap().inline().unwrap().values();
    let values = values.unwrap();
    let (first, others) = values.control_plane.split_first().unwrap();
    assert!(first.name == "cp-000" && first.ip.len() > 490);
    assert_eq!(others.len(), 197);
    assert!(others.iter().all(|node| node.ip.is_empty()));
    assert_eq!(values.workers, std::slice::from_ref(first));
    assert!(bytes(values) < 8_000, "{}", bytes(values));
    assert_eq!(
        last.file("other.nix").unwrap().inline().unwrap().values(),
        None
    );
    // A list that is cut could be of machines that are all confirmed.
    for odd in [held(40, "cp-", 199), held(41, "cp_", 198)] {
        let cluster_nix = odd.spec.file("cluster.nix").unwrap().inline();
        assert_eq!(cluster_nix.unwrap().values(), None);
    }
}

#[test]
fn a_field_that_nico_cannot_have_written_is_neither_kept_nor_absent() {
    let labels = json!({"nico.homystack.com/cluster": "prod"});
    let long = "x".repeat(100_000);
    let many: Vec<usize> = (0..10_000).collect();
    let spec = json!({"gitRepo": long, "ref": [1, 2, 3, 4, 5, 6, 7, 8, 9], "machineRef": {"name": "w", "more": long}, "additionalFiles": many});
    let held = stored(&spec, &json!({"name": "w", "labels": labels}));
    assert_eq!(held.spec.machine(), Some("w"));
    assert_ne!(held.spec.get("machineRef"), Some(&json!({"name": "w"})));
    for field in ["gitRepo", "ref", "additionalFiles"] {
        assert_eq!(held.spec.get(field), Some(&json!(CUT)), "{field}");
    }
    assert!(bytes(&held) < 500, "{}", bytes(&held));
    let files = json!([{"path": long, "valueType": "Inline", "inline": "{ }"}]);
    let spec = json!({"machineRef": {"name": "w"}, "additionalFiles": files});
    let held = stored(&spec, &json!({"name": "w", "labels": labels}));
    assert_eq!(held.spec.get("additionalFiles"), Some(&json!(CUT)));
    assert!(held.spec.files().is_empty());
}

#[test]
fn of_conditions_the_first_of_each_type_is_kept() {
    let condition =
        |kind: &str, n: usize| json!({"type": kind, "status": "True", "message": n.to_string()});
    let long = "x".repeat(6000);
    let mut conditions: Vec<Value> = (0..200).map(|n| condition(&long, n)).collect();
    conditions.extend((0..20).flat_map(|n| ["Applied", "Stalled"].map(|kind| condition(kind, n))));
    let held: NixosConfiguration = serde_json::from_str(
        &json!({"metadata": {}, "status": {"conditions": conditions}}).to_string(),
    )
    .unwrap();
    let status = held.status.unwrap();
    assert_eq!(status.conditions.len(), 2);
    assert_eq!(status.condition("Applied").unwrap().message, "0");
}
