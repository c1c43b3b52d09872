//! Queries about the calls through a proxy: how many of a kind, which writes, and whether nothing is written any more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rig::judge::broken_rules;
use rig::proxy::{Call, Effect, Fault, Moment, Proxy};
use rig::wait::wait_describing;
use rig::world::World;
use serde_json::Value;

use super::DEADLINE;
use super::shown::took_effect;

/// The shortest resync, for tests that wait for resyncs.
pub(crate) const RESYNC: [&str; 2] = ["--resync", "1s"];

/// Counts the calls of a kind, until the proxy's faults are cleared.
#[derive(Clone)]
pub(crate) struct Counter(Arc<AtomicUsize>);

impl Counter {
    /// Counts calls for which `matches` returns true from now on. Add it before the faults: a call to which an earlier fault applies is not
    /// counted.
    pub(crate) fn on(
        proxy: &Proxy,
        matches: impl Fn(&Call) -> bool + Send + Sync + 'static,
    ) -> Self {
        let counter = Self(Arc::default());
        let count = Arc::clone(&counter.0);
        let look = move |call: &Call| {
            if matches(call) {
                count.fetch_add(1, Ordering::Relaxed);
            }
            false
        };
        proxy.fault(Fault::on(look, Moment::After, Effect::Reset));
        counter
    }

    /// How many there were so far.
    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Waits for this many more.
    pub(crate) async fn more(&self, what: &str, more: usize, deadline: Duration) {
        let goal = self.get() + more;
        let reached = || async { (self.get() >= goal).then_some(()) };
        let seen = || async { format!("{} of {goal}", self.get()) };
        wait_describing(what, deadline, reached, seen).await;
    }
}

/// Counts the resyncs of a cluster: each reads the join token once.
pub(crate) fn resyncs(proxy: &Proxy, cluster: &str) -> Counter {
    let token = format!("{cluster}-join-token");
    Counter::on(proxy, move |call| {
        call.verb == "get" && call.resource == "secrets" && call.name == token
    })
}

/// Counts the published events.
pub(crate) fn events(proxy: &Proxy) -> Counter {
    Counter::on(proxy, |call| {
        call.resource == "events" && call.verb != "get"
    })
}

/// Waits until three resyncs passed without a write (L2). NICO must run with [`RESYNC`].
pub(crate) async fn settle(proxy: &Proxy, resyncs: &Counter) {
    let quiet = || async {
        let before = proxy.writes().len();
        resyncs.more("three resyncs", 3, DEADLINE).await;
        (proxy.writes().len() == before).then_some(())
    };
    let seen = || async { proxy.write_lines() };
    wait_describing("three resyncs without a write", DEADLINE, quiet, seen).await;
}

/// A write, identified independently of its time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Write {
    pub(crate) verb: String,
    /// With the subresource.
    pub(crate) resource: String,
    pub(crate) name: String,
    /// Its number among the writes with this verb to this object, from 1.
    pub(crate) nth: usize,
}

impl Write {
    fn is(&self, call: &Call) -> bool {
        call.is_write()
            && call.verb == self.verb
            && call.rule_resource() == self.resource
            && call.object_name() == self.name
    }

    /// A fault for this write, once.
    pub(crate) fn fault(&self, moment: Moment, effect: Effect) -> Fault {
        let (write, seen) = (self.clone(), AtomicUsize::new(0));
        let it = move |call: &Call| {
            write.is(call) && seen.fetch_add(1, Ordering::SeqCst) + 1 == write.nth
        };
        Fault::on(it, moment, effect).times(1)
    }
}

/// The successful writes.
pub(crate) fn named(calls: &[Call]) -> Vec<Write> {
    let mut seen: BTreeMap<Write, usize> = BTreeMap::new();
    let done = |call: &&Call| call.code.is_some_and(|code| code < 300);
    let name = |call: &Call| {
        let mut write = Write {
            verb: call.verb.clone(),
            resource: call.rule_resource(),
            name: call.object_name().to_owned(),
            nth: 0,
        };
        let nth = seen.entry(write.clone()).or_default();
        *nth += 1;
        write.nth = *nth;
        write
    };
    calls.iter().filter(done).map(name).collect()
}

/// How many successful writes there were of each kind, as `verb resource`.
pub(crate) fn kinds(calls: &[Call]) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for write in named(calls) {
        *kinds
            .entry(format!("{} {}", write.verb, write.resource))
            .or_default() += 1;
    }
    kinds
}

/// The ids in written configurations.
pub(crate) fn ids(calls: &[Call]) -> BTreeSet<String> {
    let done = calls.iter().filter(|call| {
        call.resource == "nixosconfigurations" && call.code.is_some_and(|code| code < 300)
    });
    done.filter_map(|call| {
        let files = call.body.as_ref()?["spec"]["additionalFiles"].as_array()?;
        let file = files.iter().find(|file| file["path"] == "cluster.nix")?;
        let cluster = rig::nix::parse(file["inline"].as_str()?).ok()?;
        Some(cluster["id"].as_str()?.to_owned())
    })
    .collect()
}

/// Fails if the writes so far violated a rule, a cluster was not founded exactly once, or a machine got no token or another token than the
/// others.
pub(crate) fn judge(world: &World, proxy: &Proxy, case: &str) {
    let calls = proxy.writes();
    let lines = proxy.write_lines();
    let broken = broken_rules(&calls);
    assert!(broken.is_empty(), "{case}: {broken:#?}\n{lines}");
    let foundings = world.flake().foundings();
    assert_eq!(foundings.len(), 1, "{case}: {foundings:?}\n{lines}");
    assert_eq!(world.flake().splits(), [], "{case}\n{lines}");
    let ids = ids(&calls);
    assert_eq!(ids.len(), 1, "{case}: {ids:?}\n{lines}");
    let mut tokens: BTreeMap<String, BTreeSet<Vec<u8>>> = BTreeMap::new();
    for attempt in world.nio().history() {
        let applied = attempt.applied;
        assert!(
            applied.skipped.is_empty(),
            "{case}: {} applied without {:?}\n{lines}",
            applied.machine,
            applied.skipped
        );
        let control_plane = applied.files.contains_key("worker-token");
        for (path, bytes) in applied.files {
            let token = match path.as_str() {
                "join-token" if control_plane => "join",
                "join-token" | "worker-token" => "worker",
                _ => continue,
            };
            tokens.entry(token.to_owned()).or_default().insert(bytes);
        }
    }
    assert!(
        tokens.values().all(|values| values.len() == 1),
        "{case}: a token changed\n{lines}"
    );
}

/// How many status writes change something for which users and tools wait: phase, generation, Secret or the status of a condition. Other
/// changes are batched for seconds, so their number depends on the machine's speed.
pub(crate) fn significant(calls: &[Call]) -> usize {
    let mut before = BTreeMap::new();
    let mut count = 0;
    for call in calls {
        if call.subresource != "status" || !took_effect(call) {
            continue;
        }
        let status = call
            .body
            .as_ref()
            .map_or(&Value::Null, |body| &body["status"]);
        let conditions = status["conditions"].as_array().into_iter().flatten();
        let statuses = conditions
            .map(|condition| (condition["type"].to_string(), condition["status"].clone()));
        let fields = ["phase", "observedGeneration", "kubeconfigSecret"];
        let fields = fields.map(|field| (field.to_owned(), status[field].clone()));
        let mut news = false;
        for (name, value) in statuses.chain(fields.into_iter().filter(|field| !field.1.is_null())) {
            news |= before.insert(name, value.clone()) != Some(value);
        }
        count += usize::from(news);
    }
    count
}
