//! All that one tenant can do to NICO from its namespace, and its machines with it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use rig::crds::configurations;
use rig::deploy;
use rig::machines::{Answer, MachineHost, ServerChannel};
use rig::wait::wait_for;
use rig::world::{MachineSpec, World};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::common::deep::deep_objects;
use crate::common::{DEADLINE, listed};

/// Clusters whose machines have giant keys; each keeps a thread busy for seconds if it is computed with.
const GIANTS: usize = 4;
/// Machines with long addresses.
const ADDRESSES: usize = 40;
/// Clusters whose machines answer nothing: as many as fill all places of passes and log-ins.
const SLOW: usize = 72;
/// Entries of a ledger that was edited by hand.
const ENTRIES: usize = 18_000;
/// Configurations of a megabyte each.
const HOARD: usize = 240;
/// Where the machines that answer badly have their kubeconfig.
const PATH: &str = "/etc/kubeconfig";

/// The tenant's machines; they answer until this is dropped.
pub(crate) struct Tenant(Vec<MachineHost>);

impl Tenant {
    /// Makes all of it.
    pub(crate) async fn move_in(world: &World) -> Self {
        let mut hosts = Vec::new();
        giant_keys(world).await;
        long_addresses(world).await;
        deep_objects(world.client(), world.namespace(), "deep").await;
        names(world).await;
        hosts.extend(slow_machines(world).await);
        hosts.push(channels(world).await);
        hosts.push(ledger(world).await);
        hoard(world).await;
        Self(hosts)
    }

    /// The clusters that must have been looked at before anything is shown. No client of the test's own can read the deep one.
    pub(crate) fn clusters() -> Vec<String> {
        let mut clusters: Vec<String> = ["far", "names", "channels", "ledger"]
            .map(str::to_owned)
            .into();
        clusters.extend((0..GIANTS).map(|n| format!("giant-{n}")));
        clusters.extend((0..SLOW).map(|n| format!("slow-{n}")));
        clusters
    }

    /// How often machines were connected to.
    pub(crate) fn connections(&self) -> u64 {
        self.0.iter().map(MachineHost::connections).sum()
    }

    /// How many channels of theirs were accepted.
    pub(crate) fn opened(&self) -> u64 {
        self.0.iter().map(MachineHost::opened).sum()
    }
}

async fn patch<K>(api: &Api<K>, name: &str, patch: Value)
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap();
}

async fn machine(world: &World, name: &str, spec: Value) {
    world
        .machine_objects(&MachineSpec::new(name).label("far", "yes"), "127.0.0.2")
        .await;
    patch(&world.machines(), name, json!({ "spec": spec })).await;
}

/// As DER wants it, of what is longer than 64 KiB or shorter than 128 bytes.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let length = match content.len() {
        0..128 => vec![length[7]],
        _ => [&[0x84][..], &length[4..]].concat(),
    };
    [&[tag][..], &length, content].concat()
}

/// An RSA key of 260 KB.
fn giant_key() -> String {
    let long = [vec![0], vec![0xff; 24_000]].concat();
    let numbers = [
        &[0][..],
        &long,
        &[1, 0, 1],
        &long,
        &long,
        &long,
        &long,
        &long,
        &long,
    ];
    let key = element(0x30, &numbers.map(|number| element(2, number)).concat());
    let base64 = STANDARD.encode(key);
    format!("-----BEGIN RSA PRIVATE KEY-----\n{base64}\n-----END RSA PRIVATE KEY-----\n")
}

/// Point 1: as a machine's key, as credentials and in a planted token.
async fn giant_keys(world: &World) {
    let key = giant_key();
    let secrets = world.secrets();
    for n in 0..GIANTS {
        let name = format!("giant-{n}");
        machine(world, &name, json!({})).await;
        let giant = json!({"stringData": {"ssh-privatekey": key}});
        patch(&secrets, &format!("ssh-{name}"), giant).await;
        let token: Value = json!({"apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": format!("{name}-join-token"), "annotations": {"nico.homystack.com/adopt": name}},
            "stringData": {"token": "a".repeat(64), "ssh-privatekey": key}});
        deploy::apply_value(world.client(), world.namespace(), token)
            .await
            .unwrap();
        let mut spec = listed(&[&name], &[]);
        spec["credentialsRef"] = json!({"name": format!("ssh-{name}")});
        world.cluster(&name, spec).await.unwrap();
    }
}

/// Point 2.
async fn long_addresses(world: &World) {
    let address = "a".repeat(300_000);
    for n in 0..ADDRESSES {
        machine(world, &format!("far-{n:02}"), json!({"ipAddress": address})).await;
    }
    let pool = |count| json!({"machineSelector": {"matchLabels": {"far": "yes"}}, "count": count});
    let spec = json!({"gitRepo": "https://git.example.com/flakes.git", "controlPlane": pool(3),
        "dataPlane": pool(ADDRESSES)});
    world.cluster("far", spec).await.unwrap();
}

/// Point 8.
async fn names(world: &World) {
    let names = [
        "a b".to_owned(),
        "../../secrets/x".to_owned(),
        format!("a\n\u{1b}[31m{}", "b".repeat(100_000)),
    ];
    let machines: Vec<String> = (0..names.len()).map(|n| format!("names-{n}")).collect();
    for (machine_name, name) in machines.iter().zip(names) {
        machine(
            world,
            machine_name,
            json!({"sshKeySecretRef": {"name": name}}),
        )
        .await;
    }
    let machines: Vec<&str> = machines.iter().map(String::as_str).collect();
    world
        .cluster("names", listed(&machines[..1], &machines[1..]))
        .await
        .unwrap();
}

/// Point 6: machines that take every connection and answer nothing.
async fn slow_machines(world: &World) -> Vec<MachineHost> {
    let names: Vec<String> = (0..SLOW).map(|n| format!("slow-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let hosts = world.machines_named(&names).await;
    for (name, host) in names.iter().zip(&hosts) {
        host.hang(true);
        world.cluster(name, listed(&[name], &[])).await.unwrap();
    }
    hosts
}

/// Point 7: a machine that opens channels and exchanges keys without end.
async fn channels(world: &World) -> MachineHost {
    let host = world.machine("channels").await;
    host.rekey_always(true);
    host.answer(
        PATH,
        Answer::Opens(ServerChannel::Agent, vec![b'x'; 60_000]),
    );
    let mut spec = listed(&["channels"], &[]);
    spec["kubeconfig"] = json!({ "path": PATH });
    world.cluster("channels", spec).await.unwrap();
    host
}

/// Point 6: a ledger of thousands of entries; and point 8: what NIO is made to say of its machine.
async fn ledger(world: &World) -> MachineHost {
    let host = world.machine("ledger").await;
    world
        .cluster("ledger", listed(&["ledger"], &[]))
        .await
        .unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(world.client().clone(), world.namespace());
    let made = || async { maps.get_opt("ledger-nico").await.ok().flatten() };
    wait_for("there is a ledger", DEADLINE, made).await;
    let entry = |n: usize| json!({"machine": format!("m{n}"), "role": "worker", "state": "active"});
    let entries: Vec<Value> = (0..ENTRIES).map(entry).collect();
    let slot = json!({"entries": entries, "fencing": false}).to_string();
    patch(&maps, "ledger-nico", json!({"data": {"slot": slot}})).await;
    let configurations: Api<DynamicObject> = world.configurations();
    let made = || async { configurations.get_opt("ledger").await.ok().flatten() };
    wait_for("there is a configuration", DEADLINE, made).await;
    let condition = json!({"type": "Applied", "status": "False", "reason": "\u{1b}[31m",
        "message": format!("\n\u{1b}[31m{}", "x".repeat(100_000))});
    let status = Patch::Merge(json!({"status": {"conditions": [condition]}}));
    configurations
        .patch_status("ledger", &PatchParams::default(), &status)
        .await
        .unwrap();
    host
}

/// Configurations with the label of a cluster, each with another text that is as long as NICO accepts, and of which it keeps as much as it
/// keeps of any. NIO would read all of them again and again, so they are in a namespace without it.
async fn hoard(world: &World) {
    let namespace = format!("{}-hoard", world.namespace());
    let client = world.client();
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    let object = serde_json::from_value(object).unwrap();
    Api::<Namespace>::all(client.clone())
        .create(&PostParams::default(), &object)
        .await
        .unwrap();
    let api = configurations(client, &namespace);
    let create = async |n: usize| {
        let name = format!("hoard-{n}");
        let row = |name: String| json!({"name": name, "ip": format!("{n}.{}", "x".repeat(4_900))});
        let others = (1..198).map(|at| row(format!("{}-{at:03}", "x".repeat(59))));
        let rows: Vec<Value> = std::iter::once(row(name.clone())).chain(others).collect();
        let values = json!({"name": "hoard", "id": "0000000000000001", "bootstrap": name, "join": null,
            "endpoint": null, "controlPlane": rows, "workers": []});
        let text = rig::nix::text(&values);
        let configuration = json!({
            "apiVersion": "nio.homystack.com/v1alpha1",
            "kind": "NixosConfiguration",
            "metadata": {"name": name, "labels": {"nico.homystack.com/cluster": "hoard"}},
            "spec": {
                "gitRepo": "https://git.example.com/flakes.git",
                "flake": "#hoard",
                "onRemoveFlake": "#minimal",
                "machineRef": {"name": name},
                "additionalFiles": [{"path": "cluster.nix", "valueType": "Inline", "inline": text}],
            },
        });
        let configuration = serde_json::from_value(configuration).unwrap();
        api.create(&PostParams::default(), &configuration)
            .await
            .unwrap();
    };
    let all = futures::stream::iter(0..HOARD).map(create);
    all.buffered(4).collect::<Vec<()>>().await;
}
