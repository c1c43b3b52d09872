use serde_json::{Value, json};

use super::*;

#[derive(Deserialize)]
struct Object {
    #[serde(deserialize_with = "metadata")]
    metadata: ObjectMeta,
}

fn read(metadata: &Value) -> ObjectMeta {
    let text = json!({ "metadata": metadata }).to_string();
    serde_json::from_str::<Object>(&text).unwrap().metadata
}

fn bytes(meta: &ObjectMeta) -> usize {
    serde_json::to_string(meta).unwrap().len()
}

fn many(count: usize, value: &str) -> Value {
    (0..count)
        .map(|n| (format!("k{n}"), Value::from(value)))
        .collect()
}

#[test]
fn labels_that_are_not_all_kept_are_marked_and_those_of_nico_stay() {
    let whole = json!({ "labels": many(100, "x"), "name": "a" });
    assert_eq!(labels(&read(&whole)).unwrap().len(), 100);
    assert_eq!(labels(&ObjectMeta::default()).map(BTreeMap::len), Some(0));
    let mut all = many(60_000, "");
    all[CLUSTER_LABEL] = "prod".into();
    let meta = read(&json!({ "labels": all }));
    assert_eq!(labels(&meta), None);
    assert_eq!(meta.labels.as_ref().unwrap()[CLUSTER_LABEL], "prod");
    assert!(bytes(&meta) < 200, "{}", bytes(&meta));
}

#[test]
fn a_list_that_is_not_kept_whole_says_so() {
    let mut finalizers: Vec<String> = (0..120_000).map(|n| format!("a/{n}")).collect();
    finalizers.push(IN_USE_FINALIZER.to_owned());
    let owner = |n: usize, controller: bool| json!({"apiVersion": "v1", "kind": "Pod", "name": format!("p{n}"), "uid": n.to_string(), "controller": controller});
    let mut owners: Vec<Value> = (0..10_000).map(|n| owner(n, false)).collect();
    owners.push(owner(10_000, true));
    let meta = read(&json!({ "finalizers": finalizers, "ownerReferences": owners }));
    assert_eq!(meta.finalizers.as_ref().unwrap(), &[IN_USE_FINALIZER, CUT]);
    let kept = meta.owner_references.as_ref().unwrap();
    let kept: Vec<_> = kept
        .iter()
        .map(|it| (it.uid.as_str(), it.controller))
        .collect();
    assert_eq!(kept, [("10000", Some(true)), (CUT, None)]);
    assert!(bytes(&meta) < 500, "{}", bytes(&meta));
}

#[test]
fn an_owner_with_a_long_name_is_another_one() {
    let long = "x".repeat(300_000);
    let owners =
        json!([{"apiVersion": long, "kind": long, "name": long, "uid": long, "controller": true}]);
    let meta = read(&json!({ "ownerReferences": owners }));
    assert!(bytes(&meta) < 500, "{}", bytes(&meta));
}

#[test]
fn of_annotations_those_are_kept_that_nico_reads() {
    let mut annotations = many(10_000, "x");
    annotations["nico.homystack.com/other"] = "x".into();
    annotations[WRITTEN_ANNOTATION] = "2026-11-27T20:00:00Z".into();
    annotations[CONFIRMED_ANNOTATION] = "x".repeat(250_000).into();
    let meta = read(&json!({ "annotations": annotations }));
    let kept = meta.annotations.unwrap();
    let expected = [
        (CONFIRMED_ANNOTATION, CUT),
        (WRITTEN_ANNOTATION, "2026-11-27T20:00:00Z"),
    ];
    let kept: Vec<_> = kept.iter().map(|(key, it)| (&**key, &**it)).collect();
    assert_eq!(kept, expected);
}

/// The API server allows 256 KiB of annotations for each object.
#[test]
fn of_a_cluster_only_the_list_of_names_may_be_long() {
    #[derive(Deserialize)]
    struct Cluster {
        #[serde(deserialize_with = "cluster_metadata")]
        metadata: ObjectMeta,
    }
    let names = "a,".repeat(50_000);
    let annotations =
        json!({ FORCE_RELEASE_ANNOTATION: names, ACCEPT_QUORUM_LOSS_ANNOTATION: names });
    let text = json!({"metadata": {"annotations": annotations}}).to_string();
    let kept = serde_json::from_str::<Cluster>(&text).unwrap().metadata;
    let kept = kept.annotations.unwrap();
    assert_eq!(kept[FORCE_RELEASE_ANNOTATION], names);
    assert_eq!(kept[ACCEPT_QUORUM_LOSS_ANNOTATION], CUT);
}

/// A name that is cut in two would be another machine's.
#[test]
fn of_a_list_of_names_that_is_too_long_whole_names_are_kept() {
    let name = "a".repeat(62);
    let all: Vec<String> = (0..1_000_000 / 63).map(|_| name.clone()).collect();
    let kept = cut_annotation(
        FORCE_RELEASE_ANNOTATION,
        &all.join(","),
        LONGEST_FORCE_RELEASE,
    );
    assert!(kept.len() <= LONGEST_FORCE_RELEASE);
    assert!(kept.split(',').all(|it| it == name));
    assert!(kept.split(',').count() > 1100);
    let one = "a".repeat(1_000_000);
    assert_eq!(cut_annotation(FORCE_RELEASE_ANNOTATION, &one, 9), CUT);
}

/// One that is not in the list is never seen, however NICO asks for it.
#[test]
fn every_annotation_that_nico_names_is_kept() {
    let on_nodes = ["nico.homystack.com/draining", "nico.homystack.com/cordoned"];
    let constants = include_str!("../names.rs").split("_ANNOTATION: &str = \"");
    let named: Vec<&str> = constants
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .filter(|name| !on_nodes.contains(name))
        .collect();
    assert!(named.len() > 8, "{named:?}");
    let forgotten = named.iter().filter(|name| !ANNOTATIONS.contains(name));
    assert_eq!(forgotten.collect::<Vec<_>>(), Vec::<&&str>::new());
}
