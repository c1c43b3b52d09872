//! Control planes that grow and shrink (M9), are replaced altogether (M10), and members that a person wants replaced. The entry of
//! each machine that left stands for a while, and of a control plane one leaves at a time.

use kube::api::{Patch, PatchParams};
use rig::judge::rollout::{Rules, order};
use rig::world::{MachineSpec, condition};
use serde_json::{Value, json};

use crate::common::case::{Case, in_flight, names};
use crate::common::traffic::RESYNC;
use crate::common::{DEADLINE, listed, nico};
use crate::leaving::{at_rest, ready};

/// A spec with this control plane.
fn control_plane(machines: &[&str]) -> Value {
    json!({"controlPlane": {"machines": machines}})
}

/// Waits until the cluster is Ready with exactly these members, and nothing is in flight.
async fn consists_of(case: &Case, machines: &[&str]) {
    let generation = case.generation("prod").await;
    let what = format!("the cluster consists of {machines:?}");
    let done = |status: &Value| {
        let rows = status["machines"].as_array().into_iter().flatten();
        let mut rows: Vec<&str> = rows.filter_map(|row| row["name"].as_str()).collect();
        rows.sort_unstable();
        at_rest(status, generation) && rows == machines
    };
    case.world.wait_status("prod", &what, DEADLINE, done).await;
    let mut held = case.configurations().await;
    held.sort();
    assert_eq!(held, machines);
}

/// Neither configuration nor Node is left of these; the others know of them no more.
async fn left(case: &Case, machines: &[&str], told: &[&str]) {
    for machine in machines {
        let node = case.world.node_name(machine);
        let found = case.world.nodes().get_opt(&node).await.unwrap();
        assert!(found.is_none(), "{node}\n{}", case.proxy.write_lines());
        assert_eq!(
            case.machine_status(machine).await["hasConfiguration"],
            false
        );
    }
    for machine in told {
        let nix = case.cluster_nix(machine).await;
        for gone in machines {
            assert!(!names(&nix["controlPlane"]).contains(gone), "{nix}");
            assert!(!names(&nix["workers"]).contains(gone), "{nix}");
        }
    }
}

fn rolls(rolls: Vec<std::time::Duration>) -> Rules {
    Rules {
        rolls,
        ..Rules::default()
    }
}

/// M9, and the founder is among those that leave.
#[tokio::test(flavor = "multi_thread")]
async fn three_become_five_and_three_again() {
    let three = ["cp-01", "cp-02", "cp-03"];
    let case = ready(&three, &[]).await;
    case.world.machines_named(&["cp-04", "cp-05"]).await;
    let first = case.world.nio().now();
    let five = ["cp-01", "cp-02", "cp-03", "cp-04", "cp-05"];
    case.edit("prod", control_plane(&five)).await;
    consists_of(&case, &five).await;
    let second = case.world.nio().now();
    let rest = ["cp-03", "cp-04", "cp-05"];
    case.edit("prod", control_plane(&rest)).await;
    consists_of(&case, &rest).await;
    left(&case, &["cp-01", "cp-02"], &rest).await;
    let order = order(&case.evidence(), second);
    assert_eq!(order, ["cp-01", "cp-02", "cp-03", "cp-04", "cp-05"]);
    assert_eq!(case.world.flake().foundings().len(), 1);
    case.finish_rolled(&rolls(vec![first, second])).await;
}

/// M9: of two nobody leaves before a person says that etcd knows.
#[tokio::test(flavor = "multi_thread")]
async fn three_become_one_with_a_persons_word() {
    let case = ready(&["cp-01", "cp-02", "cp-03"], &[]).await;
    let began = case.world.nio().now();
    case.edit("prod", control_plane(&["cp-03"])).await;
    let stands = |status: &Value| {
        let rolling = condition(status, "RollingOut");
        let message = rolling["message"].as_str().unwrap_or_default();
        rolling["reason"] == "WouldLoseQuorum"
            && message.contains("take it out of etcd")
            && message.contains("accept-quorum-loss: cp-02")
    };
    let world = &case.world;
    world
        .wait_status("prod", "WouldLoseQuorum", DEADLINE, stands)
        .await;
    assert_eq!(case.configurations().await, ["cp-02", "cp-03"]);
    let accept = async |machine: &str| {
        let annotation = json!({"nico.homystack.com/accept-quorum-loss": machine});
        case.merge("prod", json!({"metadata": {"annotations": annotation}}))
            .await;
    };
    // A word about another one is none about this.
    accept("cp-03").await;
    case.two_more_passes().await;
    assert_eq!(case.configurations().await, ["cp-02", "cp-03"]);
    accept("cp-02").await;
    consists_of(&case, &["cp-03"]).await;
    left(&case, &["cp-01", "cp-02"], &["cp-03"]).await;
    let order = order(&case.evidence(), began);
    assert_eq!(order, ["cp-01", "cp-02", "cp-03"]);
    case.finish_rolled(&rolls(vec![began])).await;
}

/// M10: three others. First all of them join, then one of the old ones leaves after the other, the founder first. It would take six
/// minutes: in the third one's place the cluster is deleted, unless `NICO_LEAVING=all`.
#[tokio::test(flavor = "multi_thread")]
async fn all_three_are_replaced_at_once() {
    let old = ["cp-01", "cp-02", "cp-03"];
    let new = ["cp-04", "cp-05", "cp-06"];
    let case = ready(&old, &[]).await;
    case.world.machines_named(&new).await;
    let began = case.world.nio().now();
    case.edit("prod", control_plane(&new)).await;
    let (last, all) = (["cp-01", "cp-02"], std::env::var("NICO_LEAVING").is_ok());
    if all {
        consists_of(&case, &new).await;
        left(&case, &old, &new).await;
        assert_eq!(case.world.flake().foundings().len(), 1);
        case.finish_rolled(&rolls(vec![began])).await;
        return;
    }
    let second = |status: &Value| in_flight(status) == last[1..];
    let what = "the second one leaves";
    case.world.wait_status("prod", what, DEADLINE, second).await;
    let node = case.world.node_name("cp-02");
    let gone = || async {
        let found = case.world.nodes().get_opt(&node).await.ok()?;
        found.is_none().then_some(())
    };
    rig::wait::wait_for("its Node goes", DEADLINE, gone).await;
    let written = order(&case.evidence(), began);
    assert_eq!(written, [new.as_slice(), &last].concat());
    assert_eq!(
        case.configurations().await,
        [&["cp-03"], new.as_slice()].concat()
    );
    let founded = case.world.flake().foundings();
    assert_eq!(founded.len(), 1, "{founded:?}");
    let mut rules = rolls(vec![began]);
    rules
        .deletions
        .push((case.world.nio().now(), "prod".to_owned()));
    case.delete("prod").await;
    case.wait_gone("prod").await;
    case.nothing_is_left().await;
    case.removed_with_all_files(&[old.as_slice(), &new].concat(), began);
    case.finish_rolled(&rules).await;
}

async fn wants_replaced(case: &Case, machine: &str) {
    let annotations = json!({"nico.homystack.com/release": "true"});
    let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
    let machines = case.world.machines();
    machines
        .patch(machine, &PatchParams::default(), &patch)
        .await
        .unwrap();
}

/// A pool of machines, all but one of which are chosen by a selector; the first of them is annotated `release`.
async fn replaced(role: &str, listed: Value, pool: [&str; 3], count: usize) {
    let case = Case::with(&nico().args(&RESYNC)).await;
    for name in &pool[..count] {
        let machine = MachineSpec::new(name).label("pool", "x");
        case.world.machine_with(machine).await;
    }
    let mut spec = listed;
    spec[role] = json!({"count": count, "machineSelector": {"matchLabels": {"pool": "x"}}});
    let mut others: Vec<String> = Vec::new();
    for name in spec["controlPlane"]["machines"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let name = name.as_str().unwrap().to_owned();
        case.world.machine(&name).await;
        others.push(name);
    }
    case.world.cluster("prod", spec).await.unwrap();
    case.ready("prod").await;
    let began = case.world.nio().now();
    wants_replaced(&case, pool[0]).await;
    // Nobody is there to take its place.
    case.two_more_passes().await;
    assert_eq!(order(&case.evidence(), began), Vec::<String>::new());
    let machine = MachineSpec::new(pool[count]).label("pool", "x");
    case.world.machine_with(machine).await;
    let mut members: Vec<&str> = others.iter().map(String::as_str).collect();
    members.extend(&pool[1..=count]);
    consists_of(&case, &members).await;
    left(&case, &pool[..1], &members).await;
    let written = order(&case.evidence(), began);
    assert_eq!(written[..2], [pool[count], pool[0]], "{written:?}");
    case.finish_rolled(&rolls(vec![began])).await;
}

/// Another takes its place first.
#[tokio::test(flavor = "multi_thread")]
async fn an_annotated_worker_leaves_once_another_has_taken_its_place() {
    replaced(
        "dataPlane",
        listed(&["cp-01"], &[]),
        ["w-01", "w-02", "w-03"],
        2,
    )
    .await;
}

/// Two workers leave together, and nobody waits for late requests of theirs: that would last longer than this test.
#[tokio::test(flavor = "multi_thread")]
async fn workers_leave_together_and_without_a_wait() {
    let slow = [&RESYNC[..], &["--request-timeout", "300s"]].concat();
    let case = Case::with(&nico().args(&slow)).await;
    case.world
        .machines_named(&["cp-01", "w-01", "w-02", "w-03"])
        .await;
    let mut spec = listed(&["cp-01"], &["w-01", "w-02", "w-03"]);
    spec["rollout"] = json!({"maxUnavailable": 2});
    case.world.cluster("prod", spec).await.unwrap();
    case.ready("prod").await;
    let began = case.world.nio().now();
    case.edit("prod", json!({"dataPlane": {"machines": ["w-01"]}}))
        .await;
    consists_of(&case, &["cp-01", "w-01"]).await;
    left(&case, &["w-02", "w-03"], &["cp-01", "w-01"]).await;
    let rules = Rules {
        max_unavailable: 2,
        ..rolls(vec![began])
    };
    case.finish_rolled(&rules).await;
}
