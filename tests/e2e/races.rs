//! Two clusters that want the same machines, for many rounds: no machine is ever in both, and neither starves (I1).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::common::{DEADLINE, listed, nico, over_both};
use futures::StreamExt;
use kube::ResourceExt;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject};
use kube::runtime::reflector::Store;
use kube::runtime::reflector::store::Writer;
use kube::runtime::{WatchStreamExt, reflector, watcher};
use rig::crds::{Generation, cluster_resource, configuration_resource};
use rig::judge::broken_rules;
use rig::proxy::Proxy;
use rig::wait::{wait_describing, wait_for};
use rig::world::{MachineSpec, World, condition};
use serde_json::{Value, json};

over_both![on demand: two_clusters_that_want_the_same_machines_never_share_one_and_never_starve];

/// Namespaces side by side, each with an operator of its own; the last one with two.
const LANES: usize = 4;
const MACHINES: [&str; 5] = ["m-1", "m-2", "m-3", "m-4", "m-5"];

/// Two for each of the wishes; 200 in all, which takes minutes, with `NICO_RACES=all`.
fn rounds() -> usize {
    if std::env::var_os("NICO_RACES").is_some_and(|which| which == "all") {
        50
    } else {
        16
    }
}

fn selected(pool: &str, control_plane: usize, workers: usize) -> Value {
    let pool = json!({"matchLabels": {pool: "yes"}});
    let mut spec = json!({
        "gitRepo": "https://git.example.com/flakes.git",
        "controlPlane": {"machineSelector": pool, "count": control_plane},
    });
    if workers > 0 {
        spec["dataPlane"] = json!({"machineSelector": pool, "count": workers});
    }
    spec
}

/// What the two ask for. Each can have it alone, and no two together.
fn wishes(round: usize) -> (&'static str, Value, Value) {
    let three = ["m-1", "m-2", "m-3"];
    match round % 8 {
        0 => ("one machine", listed(&["m-1"], &[]), listed(&["m-1"], &[])),
        1 => ("the same list", listed(&three, &[]), listed(&three, &[])),
        2 => (
            "roles crossed",
            listed(&["m-1"], &["m-2"]),
            listed(&["m-2"], &["m-1"]),
        ),
        3 => (
            "lists that share one",
            listed(&three, &[]),
            listed(&["m-3", "m-4", "m-5"], &[]),
        ),
        4 => (
            "the list reversed",
            listed(&["m-1", "m-2"], &[]),
            listed(&["m-2", "m-1"], &[]),
        ),
        5 => (
            "labels of five, three each",
            selected("five", 3, 0),
            selected("five", 3, 0),
        ),
        6 => (
            "labels of three, both roles",
            selected("three", 1, 2),
            selected("three", 1, 2),
        ),
        _ => (
            "labels and a list",
            selected("three", 1, 1),
            listed(&["m-3", "m-2"], &[]),
        ),
    }
}

/// Who holds which machine, by every event of a watch; what must not be is kept as sentences.
#[derive(Default)]
struct Holders {
    by_machine: BTreeMap<String, (String, String)>,
    broken: Vec<String>,
}

impl Holders {
    fn saw(&mut self, configuration: &DynamicObject) {
        let name = configuration.name_any();
        let machine = configuration.data["spec"]["machineRef"]["name"].as_str();
        if machine != Some(&name) {
            self.broken
                .push(format!("{name} names the machine {machine:?}"));
        }
        let Some(owner) = configuration.owner_references().first() else {
            self.broken.push(format!("{name} has no owner"));
            return;
        };
        let held = (configuration.uid().unwrap_or_default(), owner.uid.clone());
        if let Some((uid, before)) = self.by_machine.insert(name.clone(), held.clone())
            && uid == held.0
            && before != held.1
        {
            self.broken.push(format!(
                "{name} went from {before} to {} while it lived",
                held.1
            ));
        }
    }
}

/// What watches show of a namespace, so that the rounds do not ask the API server forty times a second.
struct View {
    clusters: Store<DynamicObject>,
    configurations: Store<DynamicObject>,
    holders: Arc<Mutex<Holders>>,
    tasks: [tokio::task::JoinHandle<()>; 2],
}

impl Drop for View {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

/// A store of what a watch shows, and the task that fills it and shows every object to `saw`.
fn follow(
    api: Api<DynamicObject>,
    resource: ApiResource,
    saw: impl Fn(&DynamicObject) + Send + Sync + 'static,
) -> (Store<DynamicObject>, tokio::task::JoinHandle<()>) {
    let writer = Writer::new(resource);
    let store = writer.as_reader();
    let events = watcher(api, watcher::Config::default()).default_backoff();
    let objects = reflector(writer, events).applied_objects();
    let task = tokio::spawn(objects.for_each(move |object| {
        if let Ok(object) = object {
            saw(&object);
        }
        std::future::ready(())
    }));
    (store, task)
}

impl View {
    async fn new(world: &World) -> Self {
        let holders = Arc::new(Mutex::new(Holders::default()));
        let seen = Arc::clone(&holders);
        let (configurations, first) = follow(
            world.configurations(),
            configuration_resource(),
            move |object| seen.lock().unwrap().saw(object),
        );
        let (clusters, second) = follow(world.clusters(), cluster_resource(), |_| ());
        let _ = tokio::join!(
            configurations.wait_until_ready(),
            clusters.wait_until_ready()
        );
        Self {
            clusters,
            configurations,
            holders,
            tasks: [first, second],
        }
    }

    fn status(&self, cluster: &str) -> Value {
        let mut clusters = self.clusters.state().into_iter();
        let found = clusters.find(|object| object.name_any() == cluster);
        found.map_or(Value::Null, |cluster| cluster.data["status"].clone())
    }

    /// Whether a cluster has its control plane.
    fn stands(&self, cluster: &str) -> bool {
        condition(&self.status(cluster), "ControlPlaneReady")["status"] == "True"
    }

    /// Whether it has all that it asks for. (Workers that come after the founding leave the others out of date: `Ready` then
    /// waits for rolling updates.)
    fn is_whole(&self, cluster: &str) -> bool {
        let status = self.status(cluster);
        let full = |role: &Value| role.is_null() || role["ready"] == role["total"];
        self.stands(cluster)
            && status["kubeconfigSecret"].is_string()
            && full(&status["controlPlane"])
            && full(&status["dataPlane"])
    }

    fn is_empty(&self) -> bool {
        self.clusters.is_empty() && self.configurations.is_empty()
    }
}

/// One round; returns who came first.
async fn round(
    world: &World,
    view: &View,
    proxy: &Proxy,
    case: &str,
    wishes: (Value, Value),
) -> &'static str {
    let told = || async {
        format!(
            "{case}\n{}\n{}",
            proxy.write_lines(),
            world.describe().await
        )
    };
    let (a, b) = tokio::join!(world.cluster("a", wishes.0), world.cluster("b", wishes.1));
    a.unwrap();
    b.unwrap();
    let first = || async { ["a", "b"].into_iter().find(|cluster| view.stands(cluster)) };
    let winner = wait_describing("one of two has its control plane", DEADLINE, first, told).await;
    let other = if winner == "a" { "b" } else { "a" };
    let delete = DeleteParams::default();
    world.clusters().delete(winner, &delete).await.unwrap();
    let whole = || async { view.is_whole(other).then_some(()) };
    wait_describing("the other one has all its machines", DEADLINE, whole, told).await;
    world.clusters().delete(other, &delete).await.unwrap();
    let empty = || async { view.is_empty().then_some(()) };
    wait_describing("both are gone", DEADLINE, empty, told).await;
    winner
}

async fn lane(generation: Generation, lane: usize) -> Vec<(&'static str, &'static str, Duration)> {
    let world = World::of(generation, |options| {
        options.delay = Duration::from_millis(10);
        options.tick = Duration::from_secs(1);
    })
    .await;
    for machine in MACHINES {
        let mut spec = MachineSpec::new(machine).label("five", "yes");
        if machine <= "m-3" {
            spec = spec.label("three", "yes");
        }
        world.machine_with(spec).await;
    }
    let proxy = world.proxy().await;
    let operators = if lane + 1 == LANES { 2 } else { 1 };
    let mut running = Vec::new();
    for _ in 0..operators {
        running.push(world.nico(&nico(), &proxy).await);
    }
    let view = View::new(&world).await;
    let mut outcomes = Vec::new();
    for n in 0..rounds() {
        let (kind, a, b) = wishes(n + lane);
        let case = format!("lane {lane}, round {n}, {kind}");
        let began = Instant::now();
        let winner = round(&world, &view, &proxy, &case, (a, b)).await;
        outcomes.push((kind, winner, began.elapsed()));
    }
    let broken = broken_rules(&proxy.writes());
    assert!(broken.is_empty(), "lane {lane}: {broken:#?}");
    let broken = view.holders.lock().unwrap().broken.clone();
    assert!(broken.is_empty(), "lane {lane}: {broken:#?}");
    assert_eq!(world.flake().splits(), [], "lane {lane}");
    assert!(proxy.forbidden().is_empty(), "{:?}", proxy.forbidden());
    for nico in &running {
        assert_eq!(nico.exit_status(), None);
        nico.terminate().await;
        wait_for("the end", DEADLINE, || async { nico.exit_status() }).await;
    }
    outcomes
}

async fn two_clusters_that_want_the_same_machines_never_share_one_and_never_starve(
    generation: Generation,
) {
    let lanes = futures::future::join_all((0..LANES).map(|n| lane(generation, n))).await;
    let mut kinds: BTreeMap<&str, (usize, usize, Duration)> = BTreeMap::new();
    for (kind, winner, took) in lanes.into_iter().flatten() {
        let (first, second, longest) = kinds.entry(kind).or_default();
        *if winner == "a" { first } else { second } += 1;
        *longest = took.max(*longest);
    }
    for (kind, (a, b, longest)) in &kinds {
        println!(
            "{kind}: a came first {a} times, b {b} times; the longest round took {} ms",
            longest.as_millis()
        );
    }
    let all: usize = kinds.values().map(|(a, b, _)| a + b).sum();
    assert_eq!(all, LANES * rounds());
    println!("{all} rounds, {} of them with two operators", rounds());
}
