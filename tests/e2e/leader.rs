//! Several replicas with leader election: one writes, and another takes over when it is told to end, is killed, is cut off, is paused,
//! or loses the Lease by a person's hand.

use std::path::Path;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use rig::judge::broken_rules;
use rig::judge::rollout::{Evidence, Rules, broken_rolls};
use rig::process::KillSwitch;
use rig::proxy::{Call, Effect, Fault, Gate, Moment, Proxy};
use rig::wait::{wait_describing, wait_for};
use rig::world::{NicoSetup, RunningNico, World};
use serde_json::{Value, json};

use crate::common::shown::at_rest;
use crate::common::{DEADLINE, five, listed, nico, three_and_two};

mod changes;
mod clocks;

/// A replica with a proxy of its own.
struct Replica {
    proxy: Proxy,
    nico: RunningNico,
}

fn setup(world: &World) -> NicoSetup {
    nico().args(&["--leader-elect", "--lease-namespace", world.namespace()])
}

impl Replica {
    async fn start(world: &World) -> Self {
        Self::start_with(world, &[]).await
    }

    async fn start_with(world: &World, args: &[&str]) -> Self {
        Self::of(world, &setup(world).args(args)).await
    }

    /// Another program.
    async fn start_as(world: &World, program: &Path) -> Self {
        let mut setup = setup(world);
        program.clone_into(&mut setup.binary);
        Self::of(world, &setup).await
    }

    async fn of(world: &World, setup: &NicoSetup) -> Self {
        let proxy = world.proxy().await;
        let nico = world.nico(setup, &proxy).await;
        Self { proxy, nico }
    }

    /// Waits for its end; the exit code.
    async fn ends(&self) -> Option<i32> {
        let ended = self.nico.wait_exit(DEADLINE).await;
        ended.expect("the replica ends").code()
    }

    /// Its writes, with when they came.
    fn writes(&self) -> Vec<(Instant, Call)> {
        let started = self.proxy.started();
        let writes = self.proxy.writes().into_iter();
        writes.map(|call| (started + call.at, call)).collect()
    }

    /// Waits until its metrics have this line.
    async fn shows(&self, line: &str) {
        let shows = || async {
            let (_, text) = self.nico.get("/metrics").await?;
            text.lines().any(|it| it == line).then_some(())
        };
        let told = || async { format!("{:?}", self.nico.get("/metrics").await) };
        wait_describing(line, DEADLINE, shows, told).await;
    }

    fn signal(&self, signal: &str) {
        let pid = self.nico.pid().to_string();
        let mut kill = std::process::Command::new("kill");
        assert!(kill.args([signal, &pid]).status().unwrap().success());
    }
}

fn leases(world: &World) -> Api<Lease> {
    Api::namespaced(world.client().clone(), world.namespace())
}

/// Who holds the Lease.
async fn holder(world: &World) -> Option<String> {
    let lease = leases(world).get_opt("nico-leader").await.ok()??;
    lease.spec?.holder_identity
}

/// Waits until another than `before` holds the Lease, and how long that took.
async fn next_holder(world: &World, before: Option<&str>) -> (String, Duration) {
    let begun = Instant::now();
    let changed = || async {
        let holder = holder(world).await?;
        (Some(holder.as_str()) != before).then_some(holder)
    };
    let holder = wait_for("another replica leads", DEADLINE, changed).await;
    (holder, begun.elapsed())
}

async fn edit(world: &World, spec: Value) -> Option<i64> {
    let edit = Patch::Merge(json!({ "spec": spec }));
    let edited = world
        .clusters()
        .patch("prod", &PatchParams::default(), &edit)
        .await;
    edited.unwrap().metadata.generation
}

/// Waits until the cluster is Ready at that generation.
async fn settled(world: &World, generation: Option<i64>) {
    let what = "Ready at the generation that was asked for";
    world
        .wait_status("prod", what, DEADLINE, |status| at_rest(status, generation))
        .await;
}

/// All writes in their order kept the rules, and nobody wrote once another one had begun.
fn judge(world: &World, replicas: &[Replica], rolls: Option<Rules>) {
    let mut writes: Vec<(usize, Instant, Call)> = Vec::new();
    for (number, replica) in replicas.iter().enumerate() {
        let of_it = replica.writes().into_iter();
        writes.extend(of_it.map(|(at, call)| (number, at, call)));
        assert_eq!(replica.proxy.forbidden().len(), 0);
        assert!(!replica.nico.output().contains("panicked"));
    }
    writes.sort_by_key(|(_, at, _)| *at);
    let mut leaders: Vec<usize> = writes.iter().map(|(number, ..)| *number).collect();
    leaders.dedup();
    let mut each = leaders.clone();
    each.sort_unstable();
    each.dedup();
    let lines = || {
        writes
            .iter()
            .map(|(number, _, call)| format!("{number} {}\n", call.line()))
    };
    assert_eq!(each.len(), leaders.len(), "{}", lines().collect::<String>());
    let calls: Vec<Call> = writes.iter().map(|(.., call)| call.clone()).collect();
    let broken = broken_rules(&calls);
    assert_eq!(
        broken,
        Vec::<String>::new(),
        "{}",
        lines().collect::<String>()
    );
    if let Some(rules) = rolls {
        let proxies: Vec<&Proxy> = replicas.iter().map(|replica| &replica.proxy).collect();
        let broken = broken_rolls(&Evidence::of(world.nio(), &proxies), &rules);
        assert_eq!(
            broken,
            Vec::<String>::new(),
            "{}",
            lines().collect::<String>()
        );
    }
}

/// Before which writes of a life the leader is killed, while another replica stands by.
const KILLED_AT: [usize; 4] = [3, 8, 4, 6];

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_takes_over_from_leaders_that_are_killed_or_told_to_end() {
    let world = World::new().await;
    five(&world).await;
    let mut replicas = vec![Replica::start(&world).await];
    let (mut leader, _) = next_holder(&world, None).await;
    // Ready, and silent.
    replicas.push(Replica::start(&world).await);
    let generation = world
        .cluster("prod", three_and_two())
        .await
        .unwrap()
        .metadata
        .generation;
    let mut roll = None;
    for (life, n) in KILLED_AT.into_iter().enumerate() {
        let [.., leading, following] = &replicas[..] else {
            panic!("two replicas run");
        };
        assert_eq!(
            following.proxy.writes().len(),
            0,
            "a follower writes nothing"
        );
        leading.shows("nico_leader 1").await;
        following.shows("nico_leader 0").await;
        let switch = KillSwitch::default();
        switch.arm(&leading.nico);
        let begun = leading.proxy.writes().len();
        let nth = begun + n;
        leading.proxy.fault(
            Fault::on(
                move |call| call.n >= nth,
                Moment::Before,
                Effect::Kill(switch),
            )
            .times(1),
        );
        assert_eq!(leading.ends().await, None, "life {life} is killed");
        let (next, took) = next_holder(&world, Some(&leader)).await;
        println!("kill -9 at write {nth} of life {life}: taken over after {took:?}");
        leader = next;
        if life == 1 {
            settled(&world, generation).await;
            roll = Some(world.nio().now());
            edit(
                &world,
                json!({"gitRepo": "https://git.example.com/new.git"}),
            )
            .await;
        }
        replicas.push(Replica::start(&world).await);
    }
    // In the middle of a roll, or after it: who is told to end finishes its write and hands over.
    let [.., leading, _] = &replicas[..] else {
        panic!("two replicas run");
    };
    let took = hands_over(&world, leading).await;
    println!("SIGTERM: taken over after {took:?}");
    let generation = edit(&world, json!({"paused": false})).await;
    settled(&world, generation).await;
    let [.., leading] = &replicas[..] else {
        panic!("a replica runs");
    };
    leading.shows("nico_clusters{phase=\"Ready\"} 1").await;
    leading
        .shows("nico_machines{role=\"worker\",state=\"Confirmed\"} 2")
        .await;
    judge(
        &world,
        &replicas,
        Some(Rules::of(roll.into_iter().collect())),
    );
}

/// Waits until the leader has given the Lease up and has ended, and another replica leads: how long that took.
async fn hands_over(world: &World, leading: &Replica) -> Duration {
    let leader = holder(world).await;
    leading.nico.terminate().await;
    let (_, took) = next_holder(world, leader.as_deref()).await;
    assert_eq!(leading.ends().await, Some(0));
    let output = leading.nico.output();
    assert!(output.contains("the Lease is given up"), "{output}");
    let line = "watching KubernetesClusters once it leads";
    assert!(output.contains(line), "{output}");
    took
}

/// Who is told to end drops what only waits: for a cluster's own API that hangs, or for an answer of the API server.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_only_waits_hands_over_at_once() {
    let world = World::new().await;
    let host = world.machine("cp-01").await;
    world.machine("w-01").await;
    let first = Replica::start(&world).await;
    leads(&first).await;
    // Longer than a process may take to end.
    let second = Replica::start_with(&world, &["--request-timeout", "60s"]).await;
    let both = listed(&["cp-01"], &["w-01"]);
    world.cluster("prod", both).await.unwrap();
    world.wait_ready("prod", DEADLINE).await;

    host.api_hangs(true);
    let held = host.api_held();
    let repository = json!({"gitRepo": "https://git.example.com/new.git"});
    let generation = edit(&world, repository).await;
    let asks = || async { (host.api_held() > held).then_some(()) };
    let told = || async { world.describe().await };
    wait_describing("the cluster is asked", DEADLINE, asks, told).await;
    let took = hands_over(&world, &first).await;
    println!("SIGTERM while a cluster's API hangs: taken over after {took:?}");

    let of_pass = |call: &Call| call.verb == "get" && call.resource == "configmaps";
    let gate = Gate::default();
    let hang = Fault::on(of_pass, Moment::Before, Effect::Gate(gate.clone()));
    second.proxy.fault(hang);
    host.api_hangs(false);
    gate.reached().await;
    let third = Replica::start(&world).await;
    let took = hands_over(&world, &second).await;
    println!("SIGTERM while a read hangs: taken over after {took:?}");

    leads(&third).await;
    settled(&world, generation).await;
    judge(&world, &[first, second, third], None);
}

/// Waits until this replica leads.
async fn leads(replica: &Replica) {
    let leads = || async { replica.nico.output().contains("leading").then_some(()) };
    let told = || async { replica.nico.output() };
    wait_describing("the replica leads", DEADLINE, leads, told).await;
}

/// A cluster that is Ready, and two replicas of which the first leads.
async fn led_by_the_first() -> (World, Replica, Replica) {
    let world = World::new().await;
    five(&world).await;
    let first = Replica::start(&world).await;
    leads(&first).await;
    let second = Replica::start(&world).await;
    world
        .cluster("prod", listed(&["cp-01"], &[]))
        .await
        .unwrap();
    world.wait_ready("prod", DEADLINE).await;
    (world, first, second)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_from_the_lease_stops_before_another_writes() {
    let (world, first, second) = led_by_the_first().await;
    // Only its calls for the Lease fail: all else that it writes still arrives.
    let of_lease = |call: &Call| call.resource == "leases";
    first
        .proxy
        .fault(Fault::on(of_lease, Moment::Before, Effect::Hang));
    leads(&second).await;
    // Each would have something to write, if it still might.
    for worker in ["w-01", "w-02"] {
        let generation = edit(&world, json!({"dataPlane": {"machines": [worker]}})).await;
        settled(&world, generation).await;
    }
    assert_eq!(first.ends().await, Some(1));
    let output = first.nico.output();
    assert!(output.contains("could not be renewed in time"), "{output}");
    judge(&world, &[first, second], None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_paused_writes_nothing_when_it_goes_on() {
    let (world, first, second) = led_by_the_first().await;
    first.signal("-STOP");
    // What it has to do when it goes on.
    let generation = edit(&world, json!({"dataPlane": {"machines": ["w-01"]}})).await;
    leads(&second).await;
    settled(&world, generation).await;
    edit(&world, json!({"dataPlane": {"machines": ["w-02"]}})).await;
    first.signal("-CONT");
    assert_eq!(first.ends().await, Some(1));
    judge(&world, &[first, second], None);
}

/// The Lease is a person's to delete and to edit. The leader goes on unless the Lease names another one, and nobody works beside it.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_a_person_deletes_or_edits_has_one_holder_again() {
    let world = World::new().await;
    five(&world).await;
    let mut replicas = vec![Replica::start(&world).await];
    leads(&replicas[0]).await;
    replicas.push(Replica::start(&world).await);
    let lease = leases(&world);
    let (first, _) = next_holder(&world, None).await;
    let goes_on = async |what: &str| {
        let (next, _) = next_holder(&world, None).await;
        // On a machine without time it may have been too late.
        let output = replicas[0].nico.output();
        let late = output.contains("could not be renewed in time");
        assert!(next == first || late, "{what}: {next} leads\n{output}");
    };
    let deletion = DeleteParams::default();
    lease.delete("nico-leader", &deletion).await.unwrap();
    goes_on("the Lease was deleted").await;
    let nobody = Patch::Merge(json!({"spec": {"holderIdentity": null}}));
    let params = PatchParams::default();
    let cleared = lease.patch("nico-leader", &params, &nobody).await;
    cleared.unwrap();
    goes_on("its holder was cleared").await;
    replicas.push(Replica::start(&world).await);
    let stranger = Patch::Merge(json!({"spec": {"holderIdentity": "a person"}}));
    let edited = lease.patch("nico-leader", &params, &stranger).await;
    edited.unwrap();
    let ended = || async {
        let mut outputs = replicas.iter().map(|it| it.nico.output());
        outputs
            .any(|output| output.contains("is held by a person"))
            .then_some(())
    };
    wait_for("the leader ends", DEADLINE, ended).await;
    next_holder(&world, Some("a person")).await;
    world
        .cluster("prod", listed(&["cp-01"], &[]))
        .await
        .unwrap();
    world.wait_ready("prod", DEADLINE).await;
    judge(&world, &replicas, None);
}
