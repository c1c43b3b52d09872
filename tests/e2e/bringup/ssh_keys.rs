//! SSH keys that NICO does not use: in another namespace, or where classic NIO would give the machine another key of the Secret.

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, Patch, PatchParams};
use rig::machines::KeyPair;
use rig::wait::wait_for;
use serde_json::{Value, json};

use crate::common::case::Case;
use crate::common::traffic::{Counter, RESYNC};
use crate::common::{DEADLINE, listed, nico};

const KEY: &str = "ssh-privatekey";

async fn change(api: &Api<Secret>, name: &str, patch: Value) {
    let params = PatchParams::default();
    api.patch(name, &params, &Patch::Merge(patch))
        .await
        .unwrap();
}

/// The key that a machine was given last.
fn given(case: &Case, machine: &str) -> Option<Vec<u8>> {
    let last = case.world.nio().applies(machine).pop()?;
    last.applied.files.get("machine-ssh-key").cloned()
}

/// Classic hands out the first key of a Secret.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_behind_another_is_refused_and_a_rotated_key_reaches_its_machine_alone() {
    let case = Case::with(&nico().args(&RESYNC)).await;
    let hosts = case.world.machines_named(&["cp-01", "w-01"]).await;
    let secrets = case.world.secrets();
    let other = |value: Value| json!({"data": {"known_hosts": value}});
    change(&secrets, "ssh-w-01", other(json!("eA=="))).await;
    case.cluster("prod", listed(&["cp-01"], &["w-01"])).await;
    let message = case
        .told("prod", "MachinesAvailable", "False", "SSHKeyUnusable")
        .await;
    for part in ["w-01", "Secret ssh-w-01", "known_hosts"] {
        assert!(message.contains(part), "{message}");
    }
    case.two_more_passes().await;
    assert!(case.world.nio().applies("w-01").is_empty());

    // A key that comes after it in byte order does no harm.
    change(&secrets, "ssh-w-01", other(Value::Null)).await;
    let public = json!({"stringData": {"ssh-publickey": "x"}});
    change(&secrets, "ssh-w-01", public).await;
    case.ready("prod").await;
    let own = case.world.key().private_pem();
    assert_eq!(given(&case, "w-01").as_deref(), Some(own.as_bytes()));

    let rotated = KeyPair::generate();
    hosts[1].authorize("nixos", vec![rotated.public().clone()]);
    let others = case.marker("cp-01").await;
    let marker = case.marker("w-01").await;
    let new_key = json!({"stringData": {KEY: rotated.private_pem()}});
    change(&secrets, "ssh-w-01", new_key).await;
    case.wait_marker_changed("w-01", &marker).await;
    // The status may be of before that write for a moment.
    let new = || async {
        let given = given(&case, "w-01")?;
        (given == rotated.private_pem().as_bytes()).then_some(())
    };
    wait_for("the new key is given", DEADLINE, new).await;
    case.ready("prod").await;
    assert_eq!(case.marker("cp-01").await, others);
    case.finish().await;
}

/// I16: no Secret of another namespace is asked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_in_another_namespace_is_refused_and_never_read() {
    let case = Case::with(&nico().args(&RESYNC)).await;
    case.world.machines_named(&["cp-01", "w-01"]).await;
    let namespace = case.world.namespace().to_owned();
    let own = namespace.clone();
    let elsewhere = Counter::on(&case.proxy, move |call| {
        call.resource == "secrets" && call.namespace != own
    });
    let lies_in = async |namespace: &str| {
        let reference =
            json!({"spec": {"sshKeySecretRef": {"name": "ssh-w-01", "namespace": namespace}}});
        let (machines, params) = (case.world.machines(), PatchParams::default());
        let patch = Patch::Merge(reference);
        machines.patch("w-01", &params, &patch).await.unwrap();
    };
    lies_in("default").await;
    case.cluster("prod", listed(&["cp-01"], &["w-01"])).await;
    let message = case
        .told("prod", "MachinesAvailable", "False", "SSHKeyUnusable")
        .await;
    for part in ["w-01", "Secret ssh-w-01", "namespace default", &namespace] {
        assert!(message.contains(part), "{message}");
    }
    case.two_more_passes().await;
    assert!(case.world.nio().applies("w-01").is_empty());
    lies_in(&namespace).await;
    case.ready("prod").await;
    assert_eq!(elsewhere.get(), 0);
    case.finish().await;
}
