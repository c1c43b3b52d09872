//! What a bring-up costs, as counts and ratios: writes by kind, silence afterwards, how soon `Ready` is told, memory, idle CPU, and
//! what a settled cluster reads. Run it with `cargo test --release --test e2e figures:: -- --nocapture` for the figures of a release.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::common::traffic::{Counter, RESYNC, events, judge, kinds, resyncs, settle, significant};
use crate::common::{DEADLINE, five, nico, three_and_two};
use futures::StreamExt;
use kube::ResourceExt;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use rig::crds::{configuration_resource, machine_resource};
use rig::proxy::{Call, Effect, Fault, Moment, Proxy};
use rig::wait::wait_for;
use rig::world::{RunningNico, World, condition};
use serde_json::json;

/// Bring-ups of which the delays are told.
const BRING_UPS: usize = 10;
/// Machines beside the cluster's own.
const BYSTANDERS: usize = 1000;
/// Machines, and as many configurations, of others in a cluster's namespace.
const OTHERS: usize = 300;
/// Resyncs over which a settled cluster is watched.
const LOOKS: usize = 5;
/// Requests of a bring-up of 3+2, and of a roll of it, at the most. Undisturbed they are 63 and 122; on a slow machine more of NICO's
/// writes cross NIO's, and are made again.
const MOST_REQUESTS: [usize; 2] = [82, 160];
/// What one conflict with a write of NIO may cost beside: where the machine is slow, there are more.
const REQUESTS_A_CONFLICT: usize = 12;
/// Of Linux's `/proc/<pid>/stat`.
const TICKS_A_SECOND: f64 = 100.0;

/// When things were first seen, by watches of the test's own.
#[derive(Default)]
struct Seen {
    /// NIO's proof on a configuration, by its name.
    applied: BTreeMap<String, Instant>,
    ready: Option<Instant>,
}

/// Follows a world's configurations and clusters until the tasks are aborted.
fn follow(world: &World) -> (Arc<Mutex<Seen>>, Vec<tokio::task::JoinHandle<()>>) {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let take = |seen: &Arc<Mutex<Seen>>, take: fn(&mut Seen, &DynamicObject)| {
        let seen = Arc::clone(seen);
        move |object: watcher::Result<DynamicObject>| {
            if let Ok(object) = object {
                take(&mut seen.lock().unwrap(), &object);
            }
            std::future::ready(())
        }
    };
    let applied = take(&seen, |seen, configuration| {
        if configuration.data["status"]["additionalFilesHash"].is_string() {
            let first = seen.applied.entry(configuration.name_any());
            first.or_insert_with(Instant::now);
        }
    });
    let ready = take(&seen, |seen, cluster| {
        if condition(&cluster.data["status"], "Ready")["status"] == "True" {
            seen.ready.get_or_insert_with(Instant::now);
        }
    });
    let config = watcher::Config::default;
    let configurations = watcher(world.configurations(), config()).default_backoff();
    let clusters = watcher(world.clusters(), config()).default_backoff();
    let tasks = vec![
        tokio::spawn(configurations.applied_objects().for_each(applied)),
        tokio::spawn(clusters.applied_objects().for_each(ready)),
    ];
    (seen, tasks)
}

/// Brings a cluster of 3+2 up in a world of its own. Returns how long after NIO's last proof `Ready` was told.
async fn bring_up() -> (World, Proxy, RunningNico, Counter, Duration) {
    let world = World::new().await;
    five(&world).await;
    let proxy = world.proxy().await;
    let resyncs = resyncs(&proxy, "prod");
    let nico = world.nico(&nico().args(&RESYNC), &proxy).await;
    let (seen, tasks) = follow(&world);
    world.cluster("prod", three_and_two()).await.unwrap();
    world.wait_ready("prod", DEADLINE).await;
    let delay = wait_for("the watches have seen it", DEADLINE, || async {
        let seen = seen.lock().unwrap();
        let last = seen
            .applied
            .values()
            .max()
            .filter(|_| seen.applied.len() == 5)?;
        Some(seen.ready?.saturating_duration_since(*last))
    })
    .await;
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    settle(&proxy, &resyncs).await;
    judge(&world, &proxy, "a bring-up");
    (world, proxy, nico, resyncs, delay)
}

fn check_writes(calls: &[Call]) {
    let mut counted = kinds(calls);
    let status = counted.remove("patch kubernetesclusters/status").unwrap();
    let expected = [
        // The finalizer.
        ("patch kubernetesclusters", 1),
        // The ledger and the known hosts.
        ("create configmaps", 2),
        // Two tokens and the kubeconfig.
        ("create secrets", 3),
        ("create nixosconfigurations", 5),
        // `confirmed`.
        ("patch nixosconfigurations", 5),
    ];
    let expected: BTreeMap<String, usize> = expected
        .map(|(kind, count)| (kind.to_owned(), count))
        .into();
    // That the cluster is founded, and the host keys of control plane machines that are confirmed later than the first.
    let patched = counted.remove("patch configmaps").unwrap();
    assert!((1..=3).contains(&patched), "{calls:#?}");
    assert_eq!(counted, expected, "{calls:#?}");
    let significant = significant(calls);
    assert!(significant <= 5, "{significant} status writes of weight");
    let refused = calls.iter().filter(|call| call.code == Some(409)).count();
    println!(
        "writes of a bring-up of 3+2: {counted:?}, {status} of status ({significant} of weight); {refused} refused as stale"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_is_told_soon() {
    let mut delays = Vec::new();
    for _ in 0..BRING_UPS {
        let (_world, proxy, _nico, _, delay) = bring_up().await;
        check_writes(&proxy.writes());
        delays.push(delay.as_millis());
    }
    delays.sort_unstable();
    println!(
        "Ready after NIO's last proof, with the kubeconfig at hand: {delays:?} ms; the promise is 1000"
    );
}

/// Requests of all kinds over some resyncs, for each of them.
async fn requests_a_resync(proxy: &Proxy, resyncs: &Counter) -> f64 {
    resyncs.more("a resync", 1, DEADLINE).await;
    let (requests, looks) = (proxy.requests(), resyncs.get());
    resyncs.more("some resyncs", LOOKS, DEADLINE).await;
    let (requests, looks) = (proxy.requests() - requests, resyncs.get() - looks);
    f64::from(u32::try_from(requests).unwrap()) / f64::from(u32::try_from(looks).unwrap())
}

/// Requests by kind, as `verb resource`, until the proxy's faults are cleared.
#[derive(Clone, Default)]
struct Requests(Arc<Mutex<BTreeMap<String, usize>>>);

impl Requests {
    fn on(proxy: &Proxy) -> Self {
        let requests = Self::default();
        let kinds = Arc::clone(&requests.0);
        let count = move |call: &Call| {
            let kind = format!("{} {}", call.verb, call.rule_resource());
            *kinds.lock().unwrap().entry(kind).or_default() += 1;
            false
        };
        proxy.fault(Fault::on(count, Moment::After, Effect::Reset));
        requests
    }

    /// The counts so far, which begin again at zero.
    fn take(&self) -> BTreeMap<String, usize> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// What a bring-up costs, or a roll.
struct Cost {
    requests: BTreeMap<String, usize>,
    sum: usize,
    conflicts: usize,
    kilobytes: usize,
}

impl Cost {
    /// How many requests there may have been, with this many for what is undisturbed.
    fn may_be(&self, undisturbed: usize) -> usize {
        undisturbed + self.conflicts * REQUESTS_A_CONFLICT
    }
}

/// Brings a cluster of 3+2 up among so many Machines and configurations of others, and rolls it.
async fn bring_up_and_roll(others: usize) -> [Cost; 2] {
    let world = World::new().await;
    five(&world).await;
    make_others(&world, others).await;
    let proxy = world.proxy().await;
    let requests = Requests::on(&proxy);
    let _nico = world.nico(&nico(), &proxy).await;
    let (mut bytes, mut written) = (0, 0);
    let mut take = |what: &str| {
        let kinds = requests.take();
        let sum: usize = kinds.values().sum();
        let kilobytes = (proxy.answered_bytes() - bytes) / 1000;
        bytes = proxy.answered_bytes();
        let writes = proxy.writes().split_off(written);
        written += writes.len();
        let conflicts = writes.iter().filter(|call| call.code == Some(409)).count();
        println!("requests of a {what} beside {others} others: {sum}, {kilobytes} kB: {kinds:?}");
        Cost {
            requests: kinds,
            sum,
            conflicts,
            kilobytes,
        }
    };
    take("start");
    world.cluster("prod", three_and_two()).await.unwrap();
    world.wait_ready("prod", DEADLINE).await;
    let bring_up = take("bring-up of 3+2");
    let missed: Vec<String> = proxy.missed().iter().map(Call::line).collect();
    println!("of these answered with 404: {}: {missed:?}", missed.len());
    let case = Patch::Merge(json!({"spec": {"gitRepo": "https://git.example.com/other.git"}}));
    let clusters = world.clusters();
    clusters
        .patch("prod", &PatchParams::default(), &case)
        .await
        .unwrap();
    world
        .wait_status("prod", "the roll has ended", DEADLINE, |status| {
            status["observedGeneration"] == 2
                && condition(status, "Ready")["status"] == "True"
                && status["rollout"]["inFlight"]
                    .as_array()
                    .is_none_or(Vec::is_empty)
        })
        .await;
    [bring_up, take("roll of 3+2")]
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_a_bring_up_and_of_a_roll() {
    for (cost, most) in bring_up_and_roll(0).await.iter().zip(&MOST_REQUESTS) {
        let requests = cost.sum;
        let most = cost.may_be(*most);
        assert!(requests <= most, "{requests} requests, {most} at the most");
    }
}

/// Five Machines are read one by one then, in the place of each list. What others have does not count.
#[tokio::test(flavor = "multi_thread")]
async fn what_others_have_in_the_namespace_costs_nothing() {
    let costs = [bring_up_and_roll(0).await, bring_up_and_roll(OTHERS).await];
    for ((alone, beside), most) in costs[0].iter().zip(&costs[1]).zip(&MOST_REQUESTS) {
        let lists = |cost: &Cost| {
            cost.requests
                .get("list machines")
                .copied()
                .unwrap_or_default()
        };
        assert!(lists(beside) <= lists(alone) * 5 * 3 / 2);
        let requests = beside.sum - lists(beside);
        let most = beside.may_be(*most);
        assert!(requests <= most, "{requests} requests, {most} at the most");
        // Before the claims, the metadata of all configurations are read, of less than 1 kB each.
        let (kilobytes, most) = (beside.kilobytes, alone.kilobytes * 2 + OTHERS);
        assert!(kilobytes <= most, "{kilobytes} kB, {most} at the most");
    }
}

/// Machines and configurations that are nobody's: each names a Machine that is not there, so that NIO leaves them alone.
async fn make_others(world: &World, count: usize) {
    let (machines, configurations) = (world.machines(), world.configurations());
    let make = async |n: usize| {
        let name = format!("other-{n}");
        let mut machine = DynamicObject::new(&name, &machine_resource());
        machine.data = json!({"spec": {"hostname": name, "sshUser": "nixos"}});
        let mut held = DynamicObject::new(&name, &configuration_resource());
        held.data = json!({"spec": {
            "gitRepo": "https://git.example.com/flakes.git",
            "flake": "#other",
            "machineRef": {"name": format!("elsewhere-{n}")},
        }});
        let create = PostParams::default();
        machines.create(&create, &machine).await.unwrap();
        configurations.create(&create, &held).await.unwrap();
    };
    let all = futures::stream::iter(0..count).map(make);
    all.buffer_unordered(16).collect::<Vec<()>>().await;
}

fn cpu(nico: &RunningNico) -> f64 {
    f64::from(u32::try_from(nico.cpu_ticks().unwrap()).unwrap()) / TICKS_A_SECOND
}

fn megabytes(nico: &RunningNico) -> u64 {
    nico.rss_bytes().unwrap() / 1_000_000
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settled_cluster_is_silent_and_cheap() {
    let (world, proxy, first, before, _) = bring_up().await;
    println!(
        "memory of nico run after the bring-up: {} MB",
        megabytes(&first)
    );
    let writes = proxy.writes().len();
    let told = events(&proxy);
    let (began, used) = (Instant::now(), cpu(&first));
    before.more("resyncs", LOOKS, DEADLINE).await;
    let (took, used) = (began.elapsed().as_secs_f64(), cpu(&first) - used);
    println!(
        "idle CPU, looking at everything every second: {:.2} % of a core",
        100.0 * used / took
    );

    first.terminate().await;
    first.wait_exit(DEADLINE).await.expect("it ends");
    let nico = world.nico(&nico().args(&RESYNC), &proxy).await;
    before
        .more("three resyncs after a restart", 4, DEADLINE)
        .await;
    assert_eq!(proxy.writes().len(), writes, "{}", proxy.write_lines());
    assert_eq!(told.get(), 0, "events of a settled cluster");

    let few = requests_a_resync(&proxy, &before).await;
    bystanders(&world).await;
    let many = requests_a_resync(&proxy, &before).await;
    println!(
        "requests a resync of a settled cluster of 3+2: {few:.1}; beside {BYSTANDERS} more machines {many:.1} (ratio {:.2}); memory then {} MB",
        many / few,
        megabytes(&nico)
    );
    assert!(many < few * 1.5, "{many} requests in the place of {few}");
    assert_eq!(proxy.writes().len(), writes, "{}", proxy.write_lines());
    let settled = requests_a_resync(&proxy, &before).await;
    assert!(settled < few * 1.5);
}

/// Machines that are nobody's.
async fn bystanders(world: &World) {
    world.nio().pause(true);
    let machines = world.machines();
    let make = async |n: usize| {
        let name = format!("bystander-{n}");
        let mut machine = DynamicObject::new(&name, &machine_resource());
        machine.data = json!({"spec": {"hostname": name, "sshUser": "nixos"}});
        machines
            .create(&PostParams::default(), &machine)
            .await
            .unwrap();
    };
    futures::stream::iter(0..BYSTANDERS)
        .map(make)
        .buffer_unordered(16)
        .collect::<Vec<()>>()
        .await;
}
