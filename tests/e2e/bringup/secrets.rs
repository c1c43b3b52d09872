//! Secrets that are lost, foreign, adopted, or stripped of their finalizers.

use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use rig::crds::Generation;
use rig::proxy::{Call, Effect, Fault, Moment};
use rig::scratch::Scratch;
use rig::wait::wait_for;
use serde_json::{Value, json};

use crate::common::case::Case;
use crate::common::traffic::RESYNC;
use crate::common::{DEADLINE, listed, nico, over_both};

over_both![
    on demand:
    a_token_deleted_by_hand_stops_all_writes_until_it_is_restored,
    a_foreign_token_is_refused_and_an_adopted_one_left_alone,
    finalizers_that_a_hand_takes_off_are_put_back,
    a_key_that_went_since_keeps_its_machine_from_being_written,
];

/// A token is never silently made again while a configuration refers to it.
async fn a_token_deleted_by_hand_stops_all_writes_until_it_is_restored(generation: Generation) {
    let case = Case::of(generation, &nico().args(&RESYNC)).await;
    case.world.machines_named(&["cp-01", "w-01"]).await;
    case.world
        .nio()
        .set("cp-01", |knobs| knobs.never_reacts = true);
    case.cluster("prod", listed(&["cp-01"], &["w-01", "w-02"]))
        .await;
    let claimed = || async { (case.configurations().await.len() == 2).then_some(()) };
    wait_for("two machines are claimed", DEADLINE, claimed).await;
    let token = case.secret_value("prod-join-token", "token").await;
    let secrets = case.world.secrets();
    secrets
        .delete("prod-join-token", &DeleteParams::default())
        .await
        .unwrap();
    let message = case.stalled("prod", "JoinTokenLost").await;
    assert!(
        message.contains("only NICO's finalizer still holds it"),
        "{message}"
    );
    // The message has the commands.
    let desk = Scratch::new("lost-token");
    let kubectl = case.world.environment().control_plane.kubectl_command();
    let words = [kubectl.get_program()]
        .into_iter()
        .chain(kubectl.get_args());
    let words: Vec<String> = words.map(|it| format!("'{}'", it.display())).collect();
    let enter = |command: &str| {
        let function = format!("kubectl() {{ {} \"$@\"; }}; {command}", words.join(" "));
        let mut shell = Command::new("sh");
        let output = shell
            .args(["-c", &function])
            .current_dir(desk.path())
            .output();
        let output = output.unwrap();
        assert!(output.status.success(), "{command}: {output:?}");
    };
    let (_, commands) = message.split_once(" Save it: ").unwrap();
    let (save, commands) = commands.split_once(". Remove the finalizer: ").unwrap();
    let (remove, create) = commands.split_once(". Create it again: ").unwrap();
    enter(save);
    enter(remove);
    let gone = |status: &Value| {
        let found = rig::world::condition(status, "Stalled");
        found["message"]
            .as_str()
            .is_some_and(|text| text.contains("is gone"))
    };
    case.world
        .wait_status("prod", "it is gone", DEADLINE, gone)
        .await;
    // A machine that could be taken now is not.
    case.world.machine("w-02").await;
    case.two_more_passes().await;
    assert_eq!(case.configurations().await, ["cp-01", "w-01"]);
    assert_eq!(case.secret("prod-join-token").await, None);
    enter(create);
    case.world
        .nio()
        .set("cp-01", |knobs| knobs.never_reacts = false);
    case.told("prod", "DataPlaneReady", "True", "AsExpected")
        .await;
    case.told("prod", "KubeconfigReady", "True", "AsExpected")
        .await;
    assert_eq!(case.secret_value("prod-join-token", "token").await, token);
    case.finish().await;
}

/// A planted token is not used; one that its owner lets the cluster use is, and stays the owner's.
async fn a_foreign_token_is_refused_and_an_adopted_one_left_alone(generation: Generation) {
    let case = Case::of(generation, &nico().args(&RESYNC)).await;
    case.world.machines_named(&["cp-01", "w-01"]).await;
    let planted = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "prod-worker-token"},
        "stringData": {"token": "a-token-of-my-own"}});
    case.world.apply(&planted.to_string()).await.unwrap();
    case.cluster("prod", listed(&["cp-01"], &["w-01"])).await;
    let message = case.stalled("prod", "SecretConflict").await;
    assert!(message.contains("prod-worker-token"), "{message}");
    assert!(
        message.contains("nico.homystack.com/adopt: prod"),
        "{message}"
    );
    assert!(!message.contains("of-my-own"), "{message}");
    assert_eq!(case.configurations().await, Vec::<String>::new());
    let secrets = case.world.secrets();
    let adopt =
        Patch::Merge(json!({"metadata": {"annotations": {"nico.homystack.com/adopt": "prod"}}}));
    let owned = secrets
        .patch("prod-worker-token", &PatchParams::default(), &adopt)
        .await
        .unwrap();
    case.ready("prod").await;
    let applied = case.world.nio().applies("w-01").pop().unwrap().applied;
    assert_eq!(applied.files["join-token"], b"a-token-of-my-own");
    case.delete("prod").await;
    case.wait_gone("prod").await;
    let left = case.secret("prod-worker-token").await.unwrap();
    assert_eq!(left.resource_version(), owned.resource_version());
    assert_eq!(case.secret("prod-join-token").await, None);
    case.finish().await;
}

/// What holds the Secrets and the ledger for NIO's sake is put back, and nothing else is written.
async fn finalizers_that_a_hand_takes_off_are_put_back(generation: Generation) {
    let case = Case::of(generation, &nico().args(&RESYNC)).await;
    case.world.machine("cp-01").await;
    case.cluster("prod", listed(&["cp-01"], &[])).await;
    case.ready("prod").await;
    let before = case.deeds().len();
    let theirs = json!({"metadata": {"finalizers": ["example.com/theirs"]}});
    let (strip, params) = (Patch::Merge(theirs), PatchParams::default());
    let secrets = case.world.secrets();
    for name in ["prod-join-token", "prod-worker-token"] {
        secrets.patch(name, &params, &strip).await.unwrap();
    }
    case.maps()
        .patch("prod-nico", &params, &strip)
        .await
        .unwrap();
    let held = || async {
        let finalizers = [
            case.secret("prod-join-token").await?.metadata.finalizers?,
            case.secret("prod-worker-token")
                .await?
                .metadata
                .finalizers?,
            case.maps()
                .get("prod-nico")
                .await
                .ok()?
                .finalizers()
                .to_vec(),
        ];
        let both = ["example.com/theirs", "nico.homystack.com/in-use"];
        finalizers.iter().all(|it| it[..] == both).then_some(())
    };
    wait_for("all are held again", DEADLINE, held).await;
    case.two_more_passes().await;
    let mut written = case.deeds().split_off(before);
    written.sort_unstable();
    assert_eq!(
        written,
        [
            "patch configmaps prod-nico",
            "patch secrets prod-join-token",
            "patch secrets prod-worker-token"
        ]
    );
    let none = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    case.delete("prod").await;
    let left = || async {
        let all = case.secret("prod-join-token").await?;
        all.metadata.deletion_timestamp.map(drop)
    };
    wait_for("it is deleted but for theirs", DEADLINE, left).await;
    case.wait_gone("prod").await;
    for name in ["prod-join-token", "prod-worker-token"] {
        secrets.patch(name, &params, &none).await.unwrap();
    }
    case.maps()
        .patch("prod-nico", &params, &none)
        .await
        .unwrap();
    case.finish().await;
}

/// A look at a Secret that is older than five seconds is made again before a machine is written; NICO notes it a moment later than
/// the proxy.
const FRESH: Duration = Duration::from_secs(6);

/// No watch tells that a Secret went: what a machine is given is looked at before it is written, and a resync is not waited for.
async fn a_key_that_went_since_keeps_its_machine_from_being_written(generation: Generation) {
    let case = Case::of(generation, &nico()).await;
    let looked = Arc::new(Mutex::new(Instant::now()));
    let last = Arc::clone(&looked);
    let is_look = move |call: &Call| {
        if call.verb == "get" && call.name == "ssh-w-01" {
            *last.lock().unwrap() = Instant::now();
        }
        false
    };
    let look = Fault::on(is_look, Moment::After, Effect::Reset);
    case.proxy.fault(look);
    case.world.machines_named(&["cp-01", "w-01", "w-02"]).await;
    case.cluster("prod", listed(&["cp-01"], &["w-01", "w-02"]))
        .await;
    case.ready("prod").await;
    let markers = [case.marker("w-01").await, case.marker("w-02").await];
    let (secrets, params) = (case.world.secrets(), DeleteParams::default());
    secrets.delete("ssh-w-01", &params).await.unwrap();
    // A look of so short a time ago would count.
    let old = || async { (looked.lock().unwrap().elapsed() > FRESH).then_some(()) };
    wait_for("the last look at the key is old", DEADLINE, old).await;
    let other = json!({"spec": {"gitRepo": "https://git.example.com/other.git"}});
    case.merge("prod", other).await;
    case.wait_marker_changed("w-02", &markers[1]).await;
    let message = case
        .told("prod", "RollingOut", "True", "SSHKeyMissing")
        .await;
    assert!(message.contains("Secret ssh-w-01"), "{message}");
    assert_eq!(case.marker("w-01").await, markers[0]);
    case.finish().await;
}
