//! SSH keys that classic NIO cannot hand out alone: in another namespace, or beside other keys. They are mirrored (SPEC 3.1).

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use rig::crds::Generation;
use rig::environment::Environment;
use rig::machines::KeyPair;
use rig::proxy::{Call, Effect, Fault, Moment};
use rig::wait::wait_describing;
use serde_json::{Value, json};

use crate::common::case::Case;
use crate::common::traffic::RESYNC;
use crate::common::{DEADLINE, listed, nico};

const KEY: &str = "ssh-privatekey";

async fn change(api: &Api<Secret>, name: &str, patch: Value) {
    let params = PatchParams::default();
    api.patch(name, &params, &Patch::Merge(patch))
        .await
        .unwrap();
}

/// Waits until the mirror of a machine's key holds this text, and is held.
async fn mirrors(case: &Case, machine: &str, key: &str) {
    let name = format!("nico-ssh-{machine}");
    let in_step = || async {
        let secret = case.secret(&name).await?;
        let data = secret.data?;
        let held = secret.metadata.finalizers.unwrap_or_default();
        let alone = data.len() == 1 && data.get(KEY)?.0 == key.as_bytes();
        (alone && held == ["nico.homystack.com/in-use"]).then_some(())
    };
    let what = format!("{name} is in step");
    wait_describing(&what, DEADLINE, in_step, || case.world.describe()).await;
}

/// The key that a machine was given last.
fn given(case: &Case, machine: &str) -> Option<Vec<u8>> {
    let last = case.world.nio().applies(machine).pop()?;
    last.applied.files.get("machine-ssh-key").cloned()
}

/// K1, U5: a key beside another one, of which classic would hand out the first.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_beside_another_is_mirrored_and_kept_in_step() {
    let case = Case::with(&nico().args(&RESYNC)).await;
    let hosts = case.world.machines_named(&["cp-01", "w-01"]).await;
    let secrets = case.world.secrets();
    // Somebody has the name.
    let theirs = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "nico-ssh-w-01",
        "labels": {"app.kubernetes.io/managed-by": "nico", "nico.homystack.com/cluster": "prod"}},
        "stringData": {KEY: "planted"}});
    case.world.apply(&theirs.to_string()).await.unwrap();
    let planted = case.secret("nico-ssh-w-01").await;
    change(
        &secrets,
        "ssh-w-01",
        json!({"stringData": {"known_hosts": "x"}}),
    )
    .await;
    case.world
        .cluster("prod", listed(&["cp-01"], &["w-01"]))
        .await
        .unwrap();
    let message = case
        .told("prod", "MachinesAvailable", "False", "SecretConflict")
        .await;
    assert!(message.contains("nico-ssh-w-01"), "{message}");
    assert_eq!(case.secret("nico-ssh-w-01").await, planted);
    let deletion = DeleteParams::default();
    secrets.delete("nico-ssh-w-01", &deletion).await.unwrap();
    case.ready("prod").await;
    let own = case.world.key().private_pem();
    mirrors(&case, "w-01", &own).await;
    assert_eq!(given(&case, "w-01").as_deref(), Some(own.as_bytes()));
    assert_eq!(case.secret("nico-ssh-cp-01").await, None);

    // Another key: in step first, then its machine is written anew, and no other.
    let rotated = KeyPair::generate();
    hosts[1].authorize("nixos", vec![rotated.public().clone()]);
    let others = case.marker("cp-01").await;
    let marker = case.marker("w-01").await;
    change(
        &secrets,
        "ssh-w-01",
        json!({"stringData": {KEY: rotated.private_pem()}}),
    )
    .await;
    case.wait_marker_changed("w-01", &marker).await;
    case.ready("prod").await;
    mirrors(&case, "w-01", &rotated.private_pem()).await;
    assert_eq!(
        given(&case, "w-01").as_deref(),
        Some(rotated.private_pem().as_bytes())
    );
    assert_eq!(case.marker("cp-01").await, others);

    // A hand on the mirror is undone, and nothing rolls.
    let marker = case.marker("w-01").await;
    change(
        &secrets,
        "nico-ssh-w-01",
        json!({"stringData": {KEY: "else", "more": "x"}, "metadata": {"finalizers": null}}),
    )
    .await;
    mirrors(&case, "w-01", &rotated.private_pem()).await;
    let uid = |secret: Option<Secret>| secret?.metadata.uid;
    let first = uid(case.secret("nico-ssh-w-01").await);
    secrets.delete("nico-ssh-w-01", &deletion).await.unwrap();
    let made_anew = || async {
        let now = uid(case.secret("nico-ssh-w-01").await)?;
        (Some(now) != first).then_some(())
    };
    wait_describing("the mirror is made anew", DEADLINE, made_anew, || {
        case.world.describe()
    })
    .await;
    mirrors(&case, "w-01", &rotated.private_pem()).await;
    assert_eq!(case.marker("w-01").await, marker);

    // Where the key stands alone again, the machine is given it itself, and the mirror goes.
    change(&secrets, "ssh-w-01", json!({"data": {"known_hosts": null}})).await;
    case.wait_marker_changed("w-01", &marker).await;
    let gone = || async { case.secret("nico-ssh-w-01").await.is_none().then_some(()) };
    wait_describing("the mirror is gone", DEADLINE, gone, || {
        case.world.describe()
    })
    .await;
    case.ready("prod").await;
    assert_eq!(case.map("prod-nico").await["mirrors"], "[]");
    case.finish().await;
}

/// I16: of a Secret elsewhere nothing but its metadata is read before its owner allows it.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_in_another_namespace_is_used_only_with_its_owners_leave() {
    let environment = Environment::start(Generation::Classic).await;
    let environment: &'static Environment = Box::leak(Box::new(environment));
    let case = Case::on(environment, &nico().everywhere().args(&RESYNC)).await;
    case.world.machines_named(&["cp-01", "w-01"]).await;
    let client = case.world.client().clone();
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let vault = serde_json::from_value(json!({"metadata": {"name": "vault"}})).unwrap();
    namespaces
        .create(&PostParams::default(), &vault)
        .await
        .unwrap();
    let vault: Api<Secret> = Api::namespaced(client, "vault");
    let own = case.world.key().private_pem();
    let secret = json!({"metadata": {"name": "keys"}, "stringData": {KEY: own, "a": "first"}});
    let secret = serde_json::from_value(secret).unwrap();
    vault.create(&PostParams::default(), &secret).await.unwrap();
    let whole = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&whole);
    case.proxy.fault(Fault::on(
        move |call: &Call| {
            if call.namespace == "vault" && !call.metadata_alone {
                count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            }
            false
        },
        Moment::After,
        Effect::Reset,
    ));
    let whole = || whole.load(std::sync::atomic::Ordering::SeqCst);
    for machine in ["cp-01", "w-01"] {
        let elsewhere =
            json!({"spec": {"sshKeySecretRef": {"name": "keys", "namespace": "vault"}}});
        case.world
            .machines()
            .patch(machine, &PatchParams::default(), &Patch::Merge(elsewhere))
            .await
            .unwrap();
    }
    case.world
        .cluster("prod", listed(&["cp-01"], &["w-01"]))
        .await
        .unwrap();
    let message = case
        .told("prod", "MachinesAvailable", "False", "SSHKeyForbidden")
        .await;
    let namespace = case.world.namespace().to_owned();
    let mend = format!("annotate it nico.homystack.com/allow-namespaces: {namespace}");
    assert!(message.contains(&mend), "{message}");
    case.two_more_looks().await;
    let allow = |whom: String| json!({"metadata": {"annotations": {"nico.homystack.com/allow-namespaces": whom}}});
    change(&vault, "keys", allow("others".to_owned())).await;
    case.two_more_looks().await;
    assert_eq!(case.configurations().await, Vec::<String>::new());
    assert_eq!(whole(), 0, "nothing but metadata was read");

    change(&vault, "keys", allow(format!("others, {namespace}"))).await;
    case.ready("prod").await;
    assert!(whole() > 0);
    for machine in ["cp-01", "w-01"] {
        mirrors(&case, machine, &own).await;
        assert_eq!(given(&case, machine).as_deref(), Some(own.as_bytes()));
    }
    assert_eq!(
        case.map("prod-nico").await["mirrors"],
        json!(["nico-ssh-cp-01", "nico-ssh-w-01"]).to_string()
    );
    let before = vault.get("keys").await.unwrap();
    case.delete("prod").await;
    case.wait_gone("prod").await;
    assert_eq!(case.children().await, Vec::<String>::new());
    assert_eq!(vault.get("keys").await.unwrap(), before);
    // The removal had the keys, too.
    let removals = case.world.nio().history();
    for attempt in removals.iter().filter(|it| it.applied.removal) {
        assert_eq!(attempt.applied.skipped, Vec::<String>::new());
    }
    case.finish().await;
}
