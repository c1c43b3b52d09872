//! Leaders that end while machines join, are drained, leave or are updated.

use kube::api::{DeleteParams, ListParams};
use rig::crds::Generation;
use rig::judge::rollout::{Evidence, Rules, order};
use rig::process::KillSwitch;
use rig::proxy::{Call, Effect, Fault, Moment, Proxy};
use rig::wait::wait_describing;
use rig::world::World;
use serde_json::json;

use super::{Replica, edit, judge, next_holder, settled};
use crate::common::case::{in_flight, took_effect};
use crate::common::{DEADLINE, five, over_both, three_and_two};
use crate::rolling::leaving::{allow_one, budget, pod};

over_both![
    on demand:
    leaders_are_killed_while_machines_join_are_drained_and_leave_and_in_the_deletion,
    a_rolling_restart_in_mid_rollout_changes_nothing_in_the_order_of_writes,
];

/// The leader, and the replica that stands by.
fn both(replicas: &[Replica]) -> [&Replica; 2] {
    let [.., leading, following] = replicas else {
        panic!("two replicas run");
    };
    [leading, following]
}

/// The leader is killed once such a call took effect, before it learns of that.
pub(super) fn kill_after(leading: &Replica, call: impl Fn(&Call) -> bool + Send + Sync + 'static) {
    let switch = KillSwitch::default();
    switch.arm(&leading.nico);
    let kill = Fault::on(call, Moment::After, Effect::Kill(switch));
    leading.proxy.fault(kill.times(1));
}

/// Waits until the leader was killed and the other one leads, and has another one stand by.
async fn next(world: &World, replicas: &mut Vec<Replica>, leader: &mut String) {
    assert_eq!(both(replicas)[0].ends().await, None, "it is killed");
    (*leader, _) = next_holder(world, Some(leader)).await;
    replicas.push(Replica::start(world).await);
}

/// Successful writes of all replicas.
fn written(replicas: &[Replica], such: impl Fn(&Call) -> bool) -> usize {
    let writes = replicas.iter().flat_map(|it| it.proxy.writes());
    writes
        .filter(|call| took_effect(call) && such(call))
        .count()
}

fn of_configuration(call: &Call, verb: &str, machine: &str) -> bool {
    call.verb == verb && call.resource == "nixosconfigurations" && call.object_name() == machine
}

async fn leaders_are_killed_while_machines_join_are_drained_and_leave_and_in_the_deletion(
    generation: Generation,
) {
    let world = World::alone_of(generation, |_| ()).await;
    five(&world).await;
    world.machine("w-03").await;
    let mut replicas = vec![Replica::start(&world).await];
    let (mut leader, _) = next_holder(&world, None).await;
    replicas.push(Replica::start(&world).await);
    world.cluster("prod", three_and_two()).await.unwrap();
    world.wait_ready("prod", DEADLINE).await;
    let pods = pod(&world, "w-02", "kept").await;
    let budgets = budget(&world, "kept").await;

    let joins = |call: &Call| of_configuration(call, "create", "w-03");
    kill_after(both(&replicas)[0], joins);
    let began = world.nio().now();
    let workers = json!({"dataPlane": {"machines": ["w-01", "w-03"]}});
    let edited = edit(&world, workers).await;
    next(&world, &mut replicas, &mut leader).await;

    world
        .wait_condition("prod", "RollingOut", "True", "Draining", DEADLINE)
        .await;
    both(&replicas)[0].signal("-9");
    next(&world, &mut replicas, &mut leader).await;

    let leaves = |call: &Call| of_configuration(call, "delete", "w-02");
    kill_after(both(&replicas)[0], leaves);
    allow_one(&budgets, "kept").await;
    next(&world, &mut replicas, &mut leader).await;

    settled(&world, edited).await;
    assert!(pods.get_opt("kept").await.unwrap().is_none());
    assert!(world.nodes().get_opt("w-02").await.unwrap().is_none());
    assert_eq!(
        [written(&replicas, joins), written(&replicas, leaves)],
        [1, 1]
    );
    judge(&world, &replicas, Some(Rules::of(vec![began])));

    // The one that stays releases each machine.
    let releases = |call: &Call| of_configuration(call, "delete", "w-01");
    kill_after(both(&replicas)[0], releases);
    let clusters = world.clusters();
    clusters
        .delete("prod", &DeleteParams::default())
        .await
        .unwrap();
    next(&world, &mut replicas, &mut leader).await;
    let gone = || async {
        clusters
            .get_opt("prod")
            .await
            .unwrap()
            .is_none()
            .then_some(())
    };
    let told = || async { world.describe().await };
    wait_describing("the cluster is gone", DEADLINE, gone, told).await;
    let left = world.configurations().list(&ListParams::default()).await;
    assert_eq!(left.unwrap().items.len(), 0);
    judge(&world, &replicas, None);
}

/// As a Deployment restarts its Pods: one more, then one less, until both are new. This happens while NIO applies the first worker, and
/// while it applies a control plane machine.
async fn a_rolling_restart_in_mid_rollout_changes_nothing_in_the_order_of_writes(
    generation: Generation,
) {
    let world = World::of(generation, |_| ()).await;
    five(&world).await;
    let mut replicas = vec![Replica::start(&world).await];
    next_holder(&world, None).await;
    replicas.push(Replica::start(&world).await);
    world.cluster("prod", three_and_two()).await.unwrap();
    world.wait_ready("prod", DEADLINE).await;

    let held = ["w-01", "cp-02"];
    let holds = |machine: &str, it: bool| {
        world.nio().set(machine, |knobs| knobs.never_reacts = it);
    };
    for machine in held {
        holds(machine, true);
    }
    let began = world.nio().now();
    let repository = json!({"gitRepo": "https://git.example.com/new.git"});
    let edited = edit(&world, repository).await;
    for machine in held {
        let flies = |status: &serde_json::Value| in_flight(status) == [machine];
        let what = format!("{machine} is in flight");
        world.wait_status("prod", &what, DEADLINE, flies).await;
        for _ in 0..2 {
            replicas.push(Replica::start(&world).await);
            let mut running = replicas.iter().filter(|it| it.nico.exit_status().is_none());
            let oldest = running.next().expect("three replicas run");
            oldest.nico.terminate().await;
            assert_eq!(oldest.ends().await, Some(0));
        }
        holds(machine, false);
    }
    settled(&world, edited).await;
    let proxies: Vec<&Proxy> = replicas.iter().map(|it| &it.proxy).collect();
    let evidence = Evidence::of(world.nio(), &proxies);
    let all = ["w-01", "w-02", "cp-01", "cp-02", "cp-03"];
    assert_eq!(order(&evidence, began), all);
    let files = |call: &Call| {
        let body = call.body.as_ref();
        call.verb == "patch" && body.is_some_and(|it| it["spec"]["additionalFiles"].is_array())
    };
    assert_eq!(written(&replicas, files), all.len(), "each is written once");
    judge(&world, &replicas, Some(Rules::of(vec![began])));
}
