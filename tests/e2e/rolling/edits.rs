//! What an edit of the spec rolls, and in which order.

use rig::crds::Generation;
use rig::judge::rollout::{Order, Rules};
use rig::proxy::{Effect, Moment};
use serde_json::{Value, json};

use crate::bringup::warnings::warnings;
use crate::common::over_both;
use crate::common::steps::{Step, at};
use crate::rolling::{IN_TURN, NEW, THREE, ready, ready_with, repository};

over_both![
    a_new_repository_rolls_workers_first_then_the_control_plane;
    on demand:
    every_field_that_machines_hold_rolls_them_and_others_roll_none,
    a_worker_whose_write_is_refused_holds_up_none_of_those_taken_with_it,
    a_kubelet_newer_than_the_api_server_stops_workers_first,
];

async fn a_new_repository_rolls_workers_first_then_the_control_plane(generation: Generation) {
    let case = ready(generation).await;
    let before = case.roll(repository(NEW)).await;
    case.ends_with(before, &IN_TURN).await;
    for machine in IN_TURN {
        let applies = case.world.nio().applies(machine);
        let last = &applies.last().unwrap().applied;
        assert_eq!(last.git_repo, NEW, "{machine}");
        assert_eq!(last.marker, Some(case.marker(machine).await), "{machine}");
    }
    case.settled("prod").await;
    let told = warnings(&case, "prod").await;
    assert_eq!(told, [], "a rollout is normal operation");
    let rules = Rules::of(vec![before]);
    case.finish_rolled(&rules).await;
}

/// Each of these is given to NIO with another marker, and NIO applies it; what no machine holds rolls none.
async fn every_field_that_machines_hold_rolls_them_and_others_roll_none(generation: Generation) {
    let (case, hosts) = ready_with(generation, &THREE, &["w-01"], json!({})).await;
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "git"},
        "stringData": {"token": "an-access-token"}});
    case.world.apply(&secret.to_string()).await.unwrap();
    let turn = ["w-01", "cp-01", "cp-02", "cp-03"];
    let mut rules = Rules::default();
    let edits: [(Value, &[&str]); 5] = [
        (json!({"rollout": {"progressDeadlineSeconds": 600}}), &[]),
        (json!({"ref": "release-2"}), &turn),
        (json!({"configurationSubdir": "hosts/prod"}), &turn),
        (json!({"credentialsRef": {"name": "git"}}), &turn),
        (json!({"ref": null}), &turn),
    ];
    for (edit, machines) in edits {
        let before = case.roll(edit.clone()).await;
        rules.rolls.push(before);
        case.ends_with(before, machines).await;
        for machine in machines {
            let held = case.configuration(machine).await.data["spec"].clone();
            for (field, value) in edit.as_object().unwrap() {
                // The API server puts NIO's default in the place of a ref that is not sent.
                let wanted = if value.is_null() {
                    &json!("main")
                } else {
                    value
                };
                assert_eq!(held[field], *wanted, "{machine}: {field}");
            }
        }
    }
    // With an endpoint the members are asked at port 6443, which the rig's machines do not have.
    let endpoint = json!({"host": hosts[2].ip().to_string(), "port": hosts[2].api_port()});
    let edit = json!({"controlPlaneEndpoint": endpoint, "rollout": {"nodeChecks": false}});
    let before = case.roll(edit).await;
    rules.rolls.push(before);
    case.ends_with(before, &turn).await;
    for machine in turn {
        assert_eq!(case.cluster_nix(machine).await["endpoint"], endpoint);
    }
    case.finish_rolled(&rules).await;
}

/// Of two workers that are taken together, one of which the write is refused keeps its entry, holds up no other, and is written next.
async fn a_worker_whose_write_is_refused_holds_up_none_of_those_taken_with_it(
    generation: Generation,
) {
    let rollout = json!({"rollout": {"maxUnavailable": 2}});
    let (case, _hosts) = ready_with(generation, &["cp-01"], &["w-01", "w-02"], rollout).await;
    let refused = at("w-01", Step::Written, Moment::Before, Effect::Status(409));
    case.proxy.fault(refused);
    let before = case.roll(repository(NEW)).await;
    case.ends_with(before, &["w-02", "w-01", "cp-01"]).await;
    let rules = Rules {
        max_unavailable: 2,
        rolls: vec![before],
        ..Rules::default()
    };
    case.finish_rolled(&rules).await;
}

/// A worker that is newer than the API server stops a roll that takes workers first; the other order goes on.
async fn a_kubelet_newer_than_the_api_server_stops_workers_first(generation: Generation) {
    let case = ready(generation).await;
    case.deaf("w-01", true);
    let before = case.roll(repository(NEW)).await;
    case.flying(&["w-01"]).await;
    case.world.flake().kubelet_version("w-01", "v1.99.0").await;
    case.deaf("w-01", false);
    let mend = "set spec.rollout.order: ControlPlaneFirst";
    case.says("RollingOut", "VersionSkew", mend).await;
    case.nothing_but(before, &["w-01"]).await;
    let other_order = json!({"rollout": {"order": "ControlPlaneFirst"}});
    let then = case.roll(other_order).await;
    case.ends_with(then, &["cp-01", "cp-02", "cp-03", "w-02"])
        .await;
    let rules = Rules {
        order: Order::ControlPlaneFirst,
        rolls: vec![before, then],
        ..Rules::default()
    };
    case.finish_rolled(&rules).await;
}
