//! What becomes of machines in the middle of a roll (M1 to M8).

use kube::api::{DeleteParams, Patch, PatchParams};
use rig::judge::rollout::{Rules, order};
use rig::nio::Attempt;
use rig::wait::wait_for;
use rig::world::{MachineSpec, condition};
use serde_json::{Value, json};

use crate::common::DEADLINE;
use crate::common::case::{Case, in_flight, row};
use crate::rollout_faults::{
    ORDER, assert_all_hold, does_nothing, edit, repository, rolled_once, stands_at, three_and_one,
};

async fn delete_machine(case: &Case, machine: &str) -> String {
    let machines = case.world.machines();
    let object = machines.get(machine).await.unwrap();
    let delete = DeleteParams::default();
    machines.delete(machine, &delete).await.unwrap();
    let ip = object.data["spec"]["ipAddress"].as_str();
    ip.unwrap().to_owned()
}

/// M1 and M2: the roll stands still with a machine that is gone, and goes on with its successor of the same name. One that was
/// done with is not written again for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_deleted_in_flight_holds_the_roll_until_it_is_made_again() {
    let case = three_and_one().await;
    let mut rules = Rules::default();
    stands_at(&case, &mut rules, "cp-01", "b").await;
    let began = rules.rolls[0];
    let ip = delete_machine(&case, "cp-01").await;
    let message = case
        .told("prod", "MachinesAvailable", "False", "MachineMissing")
        .await;
    assert!(message.contains("cp-01"), "{message}");
    case.two_more_passes().await;
    assert_eq!(order(&case.evidence(), began), ORDER[..2]);
    assert_eq!(case.in_flight("prod").await, ["cp-01"]);
    let again = MachineSpec::new("cp-01");
    case.world.machine_objects(&again, &ip).await;
    let ip = delete_machine(&case, "w-01").await;
    let again = MachineSpec::new("w-01");
    case.world.machine_objects(&again, &ip).await;
    does_nothing(&case, "cp-01", false);
    rolled_once(&case, &rules, "b").await;
    case.finish_rolled(&rules).await;
}

fn selected() -> Value {
    let of = |role: &str, count: usize| json!({"machineSelector": {"matchLabels": {"role": role}}, "count": count, "machines": null});
    json!({"controlPlane": of("cp", 3), "dataPlane": of("worker", 1)})
}

async fn label(case: &Case, machine: &str, role: Value) {
    let patch = json!({"metadata": {"labels": {"role": role}}});
    let machines = case.world.machines();
    machines
        .patch(machine, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap();
}

/// U7, M3 and M7: from list to selector and back nothing rolls, a selected machine whose labels go stays and is rolled in its
/// turn, and machines that NIO reaches only now and then are rolled all the same.
#[tokio::test(flavor = "multi_thread")]
async fn selectors_labels_and_flapping_machines_change_no_roll() {
    let case = three_and_one().await;
    let mut rules = Rules::default();
    for machine in ORDER {
        let role = if machine == "w-01" { "worker" } else { "cp" };
        label(&case, machine, json!(role)).await;
    }
    let began = case.world.nio().now();
    edit(&case, &mut rules, selected()).await;
    case.rolled_out("prod").await;
    case.two_more_passes().await;
    assert!(order(&case.evidence(), began).is_empty());
    stands_at(&case, &mut rules, "cp-01", "b").await;
    label(&case, "w-01", Value::Null).await;
    label(&case, "cp-02", json!("none")).await;
    does_nothing(&case, "cp-01", false);
    rolled_once(&case, &rules, "b").await;
    let reported = |status: &Value| {
        let reason = |machine| row(status, machine)["reason"].clone();
        reason("w-01") == "SelectorMismatch" && reason("cp-02") == "SelectorMismatch"
    };
    case.world
        .wait_status("prod", "the mismatch is told", DEADLINE, reported)
        .await;
    let began = case.world.nio().now();
    let mut list =
        json!({"controlPlane": {"machines": &ORDER[1..]}, "dataPlane": {"machines": ["w-01"]}});
    for role in ["controlPlane", "dataPlane"] {
        list[role]["machineSelector"] = Value::Null;
        list[role]["count"] = Value::Null;
    }
    edit(&case, &mut rules, list).await;
    case.rolled_out("prod").await;
    case.two_more_passes().await;
    assert!(order(&case.evidence(), began).is_empty());
    let flaps = |flaps: bool| {
        for machine in ["w-01", "cp-02"] {
            case.world
                .nio()
                .set(machine, |knobs| knobs.flapping = flaps);
        }
    };
    flaps(true);
    let began = case.world.nio().now();
    edit(&case, &mut rules, repository("c")).await;
    case.rolled_out("prod").await;
    assert_all_hold(&case, "c").await;
    // One that is not reached at its turn lets its peers go first.
    let mut written = order(&case.evidence(), began);
    assert_eq!(written.remove(0), "w-01");
    written.sort();
    assert_eq!(written, ORDER[1..]);
    flaps(false);
    case.ready("prod").await;
    case.finish_rolled(&rules).await;
}

/// Waits until so many of both roles are up to date, and nothing is in flight.
async fn up_to_date(case: &Case, control_plane: usize, workers: usize) -> Value {
    let generation = case.generation("prod").await;
    let reached = move |status: &Value| {
        status["observedGeneration"].as_i64() == generation
            && status["controlPlane"]["updated"] == control_plane
            && status["dataPlane"]["updated"] == workers
            && in_flight(status).is_empty()
    };
    let what = format!("{control_plane} and {workers} are up to date");
    case.world
        .wait_status("prod", &what, DEADLINE, reached)
        .await
}

/// M4 and M5: machines that are listed and cannot be had hold up nobody, and join when they can; one machine in both roles is
/// refused, and the roll goes on as it was.
#[tokio::test(flavor = "multi_thread")]
async fn machines_that_are_missing_hold_up_nobody_and_join_later() {
    let case = three_and_one().await;
    let mut rules = Rules::default();
    let absent = MachineSpec::new("w-02").undiscoverable();
    case.world.machine_with(absent).await;
    let mut spec = repository("b");
    spec["dataPlane"] = json!({"machines": ["w-01", "w-02", "w-03"]});
    edit(&case, &mut rules, spec).await;
    let clusters = case.world.clusters();
    let both = json!({"spec": {"controlPlane": {"machines": ["cp-01", "cp-02", "cp-03", "w-01"]}}});
    let refused = clusters
        .patch("prod", &PatchParams::default(), &Patch::Merge(both))
        .await;
    let refused = refused.expect_err("one machine in both roles").to_string();
    assert!(refused.contains("one role only"), "{refused}");
    let status = up_to_date(&case, 3, 1).await;
    assert_eq!(condition(&status, "Ready")["status"], "False", "{status}");
    assert_eq!(condition(&status, "MachinesAvailable")["status"], "False");
    assert_eq!(row(&status, "w-03")["reason"], "MachineMissing");
    assert_eq!(row(&status, "w-02")["reason"], "MachineUndiscoverable");
    assert_eq!(order(&case.evidence(), rules.rolls[0]), ORDER);
    // Each newcomer is followed by a roll that tells all of it.
    rules.rolls.push(case.world.nio().now());
    case.world
        .nio()
        .set("w-02", |knobs| knobs.unreachable = false);
    up_to_date(&case, 3, 2).await;
    rules.rolls.push(case.world.nio().now());
    case.world.machine("w-03").await;
    case.rolled_out("prod").await;
    up_to_date(&case, 3, 3).await;
    case.finish_rolled(&rules).await;
}

/// How many writes of NICO's to a machine's configuration there were since that write.
fn writes_to(case: &Case, machine: &str, since: usize) -> usize {
    let writes = case.proxy.writes().split_off(since);
    let of_it = writes
        .iter()
        .filter(|call| call.resource == "nixosconfigurations" && call.object_name() == machine);
    of_it.count()
}

/// Another party's configuration of a machine; its end leaves on the machine what is there.
async fn their_configuration(case: &Case, machine: &str) {
    case.foreign_configuration("theirs", machine).await;
    let nothing = json!({"spec": {"onRemoveFlake": null}});
    let configurations = case.world.configurations();
    configurations
        .patch("theirs", &PatchParams::default(), &Patch::Merge(nothing))
        .await
        .unwrap();
    case.told("prod", "MachinesAvailable", "False", "MachineInUse")
        .await;
}

/// M8: NICO writes no configuration of a machine that another party's configuration names, neither before its turn nor in flight.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_another_configuration_names_is_not_written() {
    let case = three_and_one().await;
    let mut rules = Rules::default();
    stands_at(&case, &mut rules, "w-01", "b").await;
    their_configuration(&case, "cp-02").await;
    let since = case.proxy.writes().len();
    does_nothing(&case, "w-01", false);
    up_to_date(&case, 2, 1).await;
    case.two_more_passes().await;
    let lines = case.proxy.write_lines();
    assert_eq!(writes_to(&case, "cp-02", since), 0, "{lines}");
    case.remove_configuration("theirs").await;
    case.rolled_out("prod").await;
    let rolled = order(&case.evidence(), rules.rolls[0]);
    assert_eq!(rolled, ["w-01", "cp-01", "cp-03", "cp-02"]);
    // In flight it is neither confirmed nor touched nor written, and nobody else's turn comes.
    stands_at(&case, &mut rules, "w-01", "c").await;
    their_configuration(&case, "w-01").await;
    let since = case.proxy.writes().len();
    does_nothing(&case, "w-01", false);
    let marker = case.marker("w-01").await;
    let applied = || async {
        let applies = case.world.nio().applies("w-01");
        let ours = |attempt: &Attempt| attempt.applied.marker.as_deref() == Some(&marker);
        applies.iter().any(ours).then_some(())
    };
    wait_for("NIO applies it", DEADLINE, applied).await;
    case.two_more_passes().await;
    assert_eq!(writes_to(&case, "w-01", since), 0);
    assert_eq!(case.in_flight("prod").await, ["w-01"]);
    assert_eq!(order(&case.evidence(), rules.rolls[1]), ["w-01"]);
    case.remove_configuration("theirs").await;
    // Classic forgets with it that ours is applied: the next change of the spec mends that.
    edit(&case, &mut rules, repository("d")).await;
    rolled_once(&case, &rules, "d").await;
    case.finish_rolled(&rules).await;
}
