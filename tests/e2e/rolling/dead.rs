//! A control plane machine that is permanently off, replaced. The longest of these tests.

use std::time::Duration;

use rig::crds::Generation;
use rig::judge::rollout::{Evidence, Rules};
use rig::process::REQUEST_TIMEOUT;
use rig::wait::wait_describing;
use rig::world::condition;
use serde_json::{Value, json};

use crate::common::shown::{in_flight, names, took_effect};
use crate::common::{DEADLINE, over_both};
use crate::rolling::leaving::pod;
use crate::rolling::{THREE, ready_with};

over_both![on demand: a_dead_control_plane_machine_is_released_with_its_node_before_another_joins];

/// When a machine's first write since then came.
fn first_write(evidence: &Evidence, machine: &str, since: Duration) -> Duration {
    let mut writes = evidence.writes.iter().filter(|call| {
        call.at > since && call.resource == "nixosconfigurations" && took_effect(call)
    });
    let found = writes.find(|call| call.object_name() == machine);
    found.unwrap().at
}

/// The dead one leaves first, undrained, its Node after it, and then another joins. Its entry, of which no child is
/// left, stands for four times the request timeout.
async fn a_dead_control_plane_machine_is_released_with_its_node_before_another_joins(
    generation: Generation,
) {
    let (case, _hosts) = ready_with(generation, &THREE, &[], json!({})).await;
    case.world.machine("cp-04").await;
    let pods = pod(&case.world, "cp-03", "app").await;
    case.world.flake().dead("cp-03", true);
    case.unreachable("cp-03", true);
    let before = case
        .roll(json!({"controlPlane": {"machines": ["cp-01", "cp-02", "cp-04"]}}))
        .await;
    let node_gone = || async {
        let found = case.world.nodes().get_opt("cp-03").await.ok()?;
        found.is_none().then_some(())
    };
    let seen = || async {
        format!(
            "{}\n{}",
            case.proxy.write_lines(),
            case.world.describe().await
        )
    };
    wait_describing("its Node goes", DEADLINE, node_gone, seen).await;
    assert_eq!(case.written(before), ["cp-03"]);
    assert!(!case.configurations().await.contains(&"cp-03".to_owned()));
    let status = case.flying(&["cp-03"]).await;
    let waits_for = &status["rollout"]["inFlight"][0]["waitingFor"];
    assert!(
        waits_for
            .as_str()
            .unwrap()
            .contains("the safety pause after its release"),
        "{status}"
    );
    case.nothing_but(before, &["cp-03"]).await;

    let replaced = |status: &Value| {
        status["controlPlane"]["updated"] == 3
            && condition(status, "Ready")["status"] == "True"
            && in_flight(status).is_empty()
            && !status["machines"].to_string().contains("cp-03")
    };
    case.world
        .wait_status("prod", "cp-04 replaces it", DEADLINE, replaced)
        .await;
    // The newcomer was told of all at once.
    assert_eq!(case.written(before), ["cp-03", "cp-04", "cp-01", "cp-02"]);
    let evidence = case.evidence();
    let gone = evidence.gone.iter().find(|(_, machine)| machine == "cp-03");
    let joined = first_write(&evidence, "cp-04", before);
    assert!(
        joined.saturating_sub(gone.unwrap().0) >= 4 * REQUEST_TIMEOUT,
        "a late POST could still have landed: {joined:?}"
    );
    let pod = pods.get("app").await.unwrap();
    assert!(pod.metadata.deletion_timestamp.is_none(), "it was evicted");
    let nodes = case.nodes("prod").await;
    assert_eq!(nodes, ["cp-01", "cp-02", "cp-04"]);
    for machine in ["cp-01", "cp-02", "cp-04"] {
        let nix = case.cluster_nix(machine).await;
        assert_eq!(names(&nix["controlPlane"]), ["cp-01", "cp-02", "cp-04"]);
    }
    let rules = Rules::of(vec![before]);
    case.finish_rolled(&rules).await;
}
