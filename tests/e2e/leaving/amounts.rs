//! A control plane that is replaced altogether. The entry of each machine that left stays for a while, and one machine leaves
//! at a time.

use rig::crds::Generation;
use rig::judge::rollout::{Rules, order};
use serde_json::{Value, json};

use crate::common::case::Case;
use crate::common::shown::{in_flight, names};
use crate::common::{DEADLINE, over_both};
use crate::leaving::{at_rest, ready};

over_both![on demand: all_three_are_replaced_at_once];

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

/// Three others. First all of them join, then one of the old ones leaves after the other, the founder first. It would take six
/// minutes: in the third one's place the cluster is deleted, unless `NICO_LEAVING=all`.
async fn all_three_are_replaced_at_once(generation: Generation) {
    let old = ["cp-01", "cp-02", "cp-03"];
    let new = ["cp-04", "cp-05", "cp-06"];
    let case = ready(generation, &old, &[]).await;
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
