//! What a person who watches a roll can read: who is in flight, since when and why; how far it is; why it stands still and what
//! to do. And what a wiped or restored status changes: nothing (I3).

use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use rig::judge::rollout::Rules;
use rig::world::condition;
use serde_json::{Value, json};

use crate::common::DEADLINE;
use crate::common::case::{Case, row};
use crate::rolling::{IN_TURN, NEW, ready, repository};

/// The one machine in flight: its role, since when, and what it waits for.
fn flight(status: &Value) -> (String, Timestamp, String) {
    let rows = status["rollout"]["inFlight"].as_array().unwrap();
    assert_eq!(rows.len(), 1, "{status}");
    let text = |field: &str| rows[0][field].as_str().unwrap().to_owned();
    (
        text("role"),
        text("since").parse().unwrap(),
        text("waitingFor"),
    )
}

/// Waits until so many of both roles are at the target revision.
async fn updated(case: &Case, workers: u64, control_plane: u64) -> Value {
    let what = format!("{workers} and {control_plane} are updated");
    let counts = |status: &Value| {
        status["dataPlane"]["updated"] == workers
            && status["controlPlane"]["updated"] == control_plane
    };
    case.world
        .wait_status("prod", &what, DEADLINE, counts)
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_answers_what_a_person_asks_of_a_roll() {
    let case = ready().await;
    let status = case.world.status("prod").await;
    assert!(status["rollout"]["inFlight"].is_null(), "{status}");
    let old = status["revision"].clone();
    for machine in ["w-01", "w-02", "cp-01"] {
        case.deaf(machine, true);
    }
    // RFC 3339 times in annotations may lack the fraction.
    let edited = Timestamp::now().as_second();
    let before = case.roll(repository(NEW)).await;

    case.flying(&["w-01"]).await;
    let status = case
        .says(
            "RollingOut",
            "InFlight",
            "w-01 waits for NIO to apply its configuration",
        )
        .await;
    let (role, since, waits_for) = flight(&status);
    assert_eq!(role, "worker");
    assert!(
        (edited..=Timestamp::now().as_second()).contains(&since.as_second()),
        "{since} {edited}"
    );
    assert!(waits_for.contains("NIO"), "{waits_for}");
    let status = updated(&case, 0, 0).await;
    for (machine, state) in IN_TURN
        .iter()
        .zip(["Applying"].iter().chain(&["Outdated"; 4]))
    {
        let is = |status: &Value| row(status, machine)["state"] == **state;
        case.world
            .wait_status("prod", &format!("{machine} is {state}"), DEADLINE, is)
            .await;
    }
    assert_ne!(status["revision"], old, "{status}");
    assert_eq!(status["dataPlane"]["total"], 2, "{status}");
    assert_eq!(status["controlPlane"]["total"], 3, "{status}");
    assert_eq!(condition(&status, "Ready")["status"], "False", "{status}");
    assert_eq!(status["phase"], "Provisioning", "{status}");

    case.deaf("w-01", false);
    case.flying(&["w-02"]).await;
    updated(&case, 1, 0).await;
    case.deaf("w-02", false);
    case.flying(&["cp-01"]).await;
    let status = updated(&case, 2, 0).await;
    assert_eq!(flight(&status).0, "control-plane");

    // It stands still, and the status says what to do.
    case.edit("prod", json!({"rollout": {"progressDeadlineSeconds": 1}}))
        .await;
    let status = case.stuck_at("cp-01").await;
    let stalled = condition(&status, "Stalled");
    assert_eq!(
        stalled["message"],
        "Machine cp-01 was not confirmed within 1 s of its last write: see its NixosConfiguration and NIO's log; the next change of the spec goes to it first"
    );
    assert_eq!(condition(&status, "Ready")["message"], stalled["message"]);
    let failed = row(&status, "cp-01");
    assert_eq!(failed["state"], "Failed", "{status}");
    assert_eq!(failed["reason"], "ProgressDeadlineExceeded", "{status}");
    case.nothing_but(before, &IN_TURN[..3]).await;

    // It goes away by itself when its cause does.
    case.deaf("cp-01", false);
    let status = case.ends_with(before, &IN_TURN).await;
    for (kind, wanted) in [
        ("Ready", "True"),
        ("Stalled", "False"),
        ("RollingOut", "False"),
    ] {
        assert_eq!(condition(&status, kind)["status"], wanted, "{status}");
    }
    assert!(status["rollout"]["inFlight"].is_null(), "{status}");
    updated(&case, 2, 3).await;
    let rules = Rules::of(vec![before]);
    case.finish_rolled(&rules).await;
}

/// U4: no decision rests on the status, wiped or restored from an old backup.
#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_is_wiped_or_restored_in_mid_roll_changes_nothing() {
    let case = ready().await;
    let good = case.world.status("prod").await;
    for machine in ["w-01", "cp-02"] {
        case.deaf(machine, true);
    }
    let before = case.roll(repository(NEW)).await;
    let all = [("w-01", &IN_TURN[..1]), ("cp-02", &IN_TURN[..4])];
    for (machine, written) in all {
        for status in [Value::Null, good.clone()] {
            case.flying(&[machine]).await;
            let nothing = json!({"status": null});
            let restored = json!({ "status": status });
            for patch in [nothing, restored] {
                let clusters = case.world.clusters();
                clusters
                    .patch_status("prod", &PatchParams::default(), &Patch::Merge(patch))
                    .await
                    .unwrap();
            }
            let told = case.flying(&[machine]).await;
            assert_eq!(condition(&told, "Ready")["status"], "False", "{told}");
            case.nothing_but(before, written).await;
        }
        case.deaf(machine, false);
    }
    case.ends_with(before, &IN_TURN).await;
    let rules = Rules::of(vec![before]);
    case.finish_rolled(&rules).await;
}
