//! The metrics of `/metrics`, in the `OpenMetrics` format. Labels have few values: none names a machine, and only the expiry of a
//! kubeconfig has a series for each cluster.

mod shown;

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::{Method, StatusCode};
use jiff::Timestamp;
use kube::runtime::reflector::Store;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::leader::term::Term;
use super::memory::Memories;
use crate::api::cluster::RawCluster;
use crate::remote::gate::Gate;
use crate::remote::lock::lock;
use crate::remote::ssh::SshError;
use shown::Shown;

/// The content type of what [`Metrics::render`] returns.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Histogram buckets in seconds: a pass over an unchanged cluster takes milliseconds, and the pass timeout is minutes.
const DURATIONS: [f64; 9] = [0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 20.0, 60.0, 300.0];

/// The outcomes of reconciles. Each has its series from the start, so that `increase` counts the first one.
const OUTCOMES: [&str; 8] = [
    "success",
    "stale",
    "unread",
    "status",
    "write",
    "timeout",
    "not-listed",
    "panic",
];

/// Label names with their values.
type Labels<const N: usize> = [(&'static str, String); N];

/// All metrics of this process.
pub struct Metrics {
    registry: Registry,
    reconciles: Family<Labels<1>, Counter>,
    durations: Histogram,
    requests: Family<Labels<2>, Counter>,
    ssh_failures: Family<Labels<1>, Counter>,
    queue: Family<Labels<2>, Gauge>,
    leader: Gauge,
    shown: Shown,
    term: Option<Term>,
    /// The store and the memory of clusters, once this process leads.
    clusters: Mutex<Option<(Store<RawCluster>, Arc<Memories>)>>,
    /// The gates whose queues are counted, once this process leads.
    gates: Mutex<Vec<(&'static str, Gate)>>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// Metrics of a process that leads while `term` lasts; with `None`, it always leads.
    #[must_use]
    pub fn new(term: Option<Term>) -> Arc<Self> {
        let mut registry = Registry::with_prefix("nico");
        let reconciles = Family::<Labels<1>, Counter>::default();
        registry.register(
            "reconciles",
            "Reconciles that ended, by outcome: success, or why they failed",
            reconciles.clone(),
        );
        for outcome in OUTCOMES {
            drop(reconciles.get_or_create(&[("outcome", outcome.to_owned())]));
        }
        let durations = Histogram::new(DURATIONS);
        registry.register_with_unit(
            "reconcile_duration",
            "How long reconciles took, waits for machines included",
            Unit::Seconds,
            durations.clone(),
        );
        let requests = Family::<Labels<2>, Counter>::default();
        registry.register(
            "api_requests",
            "Requests to the API server, by method and status code; code none: no answer, or not sent",
            requests.clone(),
        );
        let ssh_failures = Family::<Labels<1>, Counter>::default();
        registry.register(
            "ssh_failures",
            "Log-ins to machines, and exchanges of keys with them, that failed, by kind",
            ssh_failures.clone(),
        );
        for kind in SshError::KINDS {
            drop(ssh_failures.get_or_create(&[("kind", kind.to_owned())]));
        }
        let queue = Family::<Labels<2>, Gauge>::default();
        registry.register(
            "queue",
            "Pieces of work that wait for their turn, or have it, by queue and state",
            queue.clone(),
        );
        let leader = Gauge::default();
        registry.register(
            "leader",
            "1 where this replica may write, else 0",
            leader.clone(),
        );
        let shown = Shown::register(&mut registry);
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        registry.register("build", "The version of NICO", Info::new(version));
        Arc::new(Self {
            registry,
            reconciles,
            durations,
            requests,
            ssh_failures,
            queue,
            leader,
            shown,
            term,
            clusters: Mutex::default(),
            gates: Mutex::default(),
        })
    }

    /// Counts these clusters from now on, with their memory.
    pub(super) fn show_clusters(&self, clusters: Store<RawCluster>, memories: Arc<Memories>) {
        *lock(&self.clusters) = Some((clusters, memories));
    }

    /// Counts the queue of this gate from now on.
    pub(super) fn show_queue(&self, name: &'static str, gate: Gate) {
        lock(&self.gates).push((name, gate));
    }

    /// Counts a finished reconcile.
    pub(super) fn reconciled(&self, outcome: &'static str, took: Duration) {
        let labels = [("outcome", outcome.to_owned())];
        self.reconciles.get_or_create(&labels).inc();
        self.durations.observe(took.as_secs_f64());
    }

    /// Counts a request, with the status code of its response if there was one.
    pub(super) fn requested(&self, method: &Method, code: Option<StatusCode>) {
        let code = code.map_or_else(|| "none".to_owned(), |code| code.as_u16().to_string());
        let labels = [("method", method.to_string()), ("code", code)];
        self.requests.get_or_create(&labels).inc();
    }

    /// Counts a failed log-in to a machine.
    pub(super) fn ssh_failed(&self, kind: &'static str) {
        let labels = [("kind", kind.to_owned())];
        self.ssh_failures.get_or_create(&labels).inc();
    }

    /// Renders all metrics with their current values.
    #[must_use]
    pub fn render(&self) -> String {
        let leads = self.term.as_ref().is_none_or(Term::may_write);
        self.leader.set(leads.into());
        let known = lock(&self.clusters).clone();
        if let Some((clusters, memories)) = known {
            let ends = |uid: &str| memories.kubeconfig_ends(uid);
            self.shown.show(&clusters.state(), ends, Timestamp::now());
        } else {
            self.shown.show(&[], |_| None, Timestamp::now());
        }
        self.count_queues();
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

impl Metrics {
    fn count_queues(&self) {
        for (name, gate) in &*lock(&self.gates) {
            let (waiting, working) = gate.counts();
            for (state, count) in [("waiting", waiting), ("working", working)] {
                let labels = [("queue", (*name).to_owned()), ("state", state.to_owned())];
                let count = i64::try_from(count).unwrap_or(i64::MAX);
                self.queue.get_or_create(&labels).set(count);
            }
        }
    }
}

/// A gauge in seconds.
type Seconds = Gauge<f64, AtomicU64>;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests;
