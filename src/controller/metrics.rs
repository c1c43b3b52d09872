//! What `/metrics` serves, in the format of `OpenMetrics`. Labels have few values: none names a cluster, a machine or a namespace.

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
use super::lock::lock;
use crate::api::cluster::RawCluster;
use shown::Shown;

/// The content type of what [`Metrics::render`] returns.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Seconds: a settled cluster takes milliseconds, and a pass is ended after minutes.
const DURATIONS: [f64; 9] = [0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 20.0, 60.0, 300.0];

/// Label names with their values.
type Labels<const N: usize> = [(&'static str, String); N];

/// All metrics of this process.
pub struct Metrics {
    registry: Registry,
    reconciles: Family<Labels<1>, Counter>,
    durations: Histogram,
    requests: Family<Labels<2>, Counter>,
    leader: Gauge,
    shown: Shown,
    term: Option<Term>,
    /// The clusters that this process knows, once it leads.
    clusters: Mutex<Option<Store<RawCluster>>>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// Metrics of a process that leads while `term` lasts; without one, always.
    #[must_use]
    pub fn new(term: Option<Term>) -> Arc<Self> {
        let mut registry = Registry::with_prefix("nico");
        let reconciles = Family::<Labels<1>, Counter>::default();
        registry.register(
            "reconciles",
            "Reconciles that ended, by outcome: success, or why they failed",
            reconciles.clone(),
        );
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
            leader,
            shown,
            term,
            clusters: Mutex::default(),
        })
    }

    /// From now on these clusters are counted.
    pub(super) fn count(&self, clusters: Store<RawCluster>) {
        *lock(&self.clusters) = Some(clusters);
    }

    /// A reconcile has ended.
    pub(super) fn reconciled(&self, outcome: &'static str, took: Duration) {
        let labels = [("outcome", outcome.to_owned())];
        self.reconciles.get_or_create(&labels).inc();
        self.durations.observe(took.as_secs_f64());
    }

    /// A request was answered, or was not.
    pub(super) fn requested(&self, method: &Method, code: Option<StatusCode>) {
        let code = code.map_or_else(|| "none".to_owned(), |code| code.as_u16().to_string());
        let labels = [("method", method.to_string()), ("code", code)];
        self.requests.get_or_create(&labels).inc();
    }

    /// All of them, as they are at this moment.
    #[must_use]
    pub fn render(&self) -> String {
        let leads = self.term.as_ref().is_none_or(Term::may_write);
        self.leader.set(leads.into());
        let clusters = lock(&self.clusters);
        let clusters = clusters.as_ref().map(Store::state).unwrap_or_default();
        self.shown.show(&clusters, Timestamp::now());
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// A gauge of seconds.
type Seconds = Gauge<f64, AtomicU64>;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    fn clusters(status: &serde_json::Value) -> Vec<Arc<RawCluster>> {
        let cluster = json!({"metadata": {"name": "prod", "namespace": "clusters"}, "spec": {}, "status": status});
        vec![Arc::new(serde_json::from_value(cluster).unwrap())]
    }

    fn full() -> Arc<Metrics> {
        let metrics = Metrics::new(None);
        metrics.reconciled("success", Duration::from_millis(30));
        metrics.requested(&Method::GET, Some(StatusCode::OK));
        metrics.requested(&Method::PATCH, None);
        let condition = |kind: &str, status: &str, reason: &str| json!({"type": kind, "status": status, "reason": reason});
        let status = json!({
            "phase": "Provisioning",
            "conditions": [condition("Ready", "False", "InFlight"), condition("Mine", "True", "Other")],
            "machines": [{"name": "cp-01", "role": "control-plane", "state": "Applying"}],
            "rollout": {"inFlight": [
                {"machine": "cp-01", "role": "control-plane", "since": "1970-01-01T00:00:30Z", "waitingFor": "NIO"},
                {"machine": "cp-02", "role": "control-plane", "since": "1970-01-01T00:00:10Z", "waitingFor": "NIO"},
            ]},
        });
        let now = Timestamp::from_second(60).unwrap();
        metrics.shown.show(&clusters(&status), now);
        metrics
    }

    /// What is served without the look at the clusters, which [`full`] has set.
    fn text(metrics: &Metrics) -> String {
        let mut text = String::new();
        encode(&mut text, &metrics.registry).unwrap();
        text
    }

    #[test]
    fn what_happened_is_counted() {
        let text = text(&full());
        for line in [
            "nico_reconciles_total{outcome=\"success\"} 1",
            "nico_reconcile_duration_seconds_count 1",
            "nico_api_requests_total{method=\"PATCH\",code=\"none\"} 1",
            "nico_clusters{phase=\"Provisioning\"} 1",
            "nico_clusters{phase=\"Failed\"} 0",
            "nico_cluster_conditions{condition=\"Ready\",status=\"False\",reason=\"InFlight\"} 1",
            "nico_machines{role=\"control-plane\",state=\"Applying\"} 1",
            "nico_machines_in_flight 2",
            "nico_oldest_in_flight_seconds 50.0",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} in\n{text}");
        }
        assert!(!text.contains("Mine"), "a foreign condition:\n{text}");
        assert!(!text.contains("prod") && !text.contains("cp-0"), "{text}");
    }

    /// Whoever may write a status may not fill the memory of NICO, or of Prometheus.
    #[test]
    fn foreign_reasons_make_no_series_without_end() {
        let metrics = Metrics::new(None);
        for number in 0..5000 {
            let condition =
                json!({"type": "Ready", "status": "False", "reason": format!("R{number}")});
            let status = json!({"conditions": [condition]});
            metrics
                .shown
                .show(&clusters(&status), Timestamp::UNIX_EPOCH);
        }
        let many: Vec<_> = (0..5000)
            .map(|number| json!({"type": "Ready", "status": "False", "reason": format!("R{number}")}))
            .collect();
        let status = json!({ "conditions": many });
        metrics
            .shown
            .show(&clusters(&status), Timestamp::UNIX_EPOCH);
        let text = text(&metrics);
        let series = text.matches("nico_cluster_conditions{").count();
        assert!((1..=1 + shown::MOST_REASONS).contains(&series), "{series}");
        assert!(text.contains("reason=\"other\"} 4"), "{text}");
    }

    #[test]
    fn who_leads_says_so() {
        let leads = |metrics: &Metrics| metrics.render().contains("nico_leader 1\n");
        assert!(leads(&Metrics::new(None)));
        assert!(!leads(&Metrics::new(Some(Term::default()))));
    }

    /// The table of the documentation is what is served: name, type and labels.
    #[test]
    fn the_documentation_lists_every_metric() {
        let page = include_str!("../../deploy/OPERATIONS.md");
        let (_, table) = page
            .split_once("| metric | type | labels | meaning |")
            .unwrap();
        let rows = table
            .lines()
            .skip(2)
            .take_while(|line| line.starts_with('|'));
        let words = |row: &str| -> Vec<String> {
            let cells = row
                .split('|')
                .map(|cell| cell.replace('`', "").trim().to_owned());
            cells.skip(1).take(3).collect()
        };
        let listed: Vec<Vec<String>> = rows.map(words).collect();
        let text = text(&full());
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let mut served: Vec<Vec<String>> = Vec::new();
        for line in types {
            let (family, kind) = line.split_once(' ').unwrap();
            let suffix = match kind {
                "counter" => "_total",
                "info" => "_info",
                "histogram" => "_bucket",
                _ => "",
            };
            let name = format!("{family}{suffix}");
            let sample = text.lines().find_map(|line| {
                let rest = line.strip_prefix(&name)?;
                rest.starts_with(['{', ' ']).then_some(rest)
            });
            let labels = sample
                .unwrap()
                .split_once('}')
                .map_or("", |(labels, _)| labels);
            let names: Vec<&str> = labels
                .trim_start_matches('{')
                .split(',')
                .filter_map(|label| Some(label.split_once('=')?.0))
                .filter(|label| *label != "le")
                .collect();
            let name = if kind == "histogram" {
                family.to_owned()
            } else {
                name
            };
            served.push(vec![name, kind.to_owned(), names.join(", ")]);
        }
        let by_name = |rows: Vec<Vec<String>>| -> BTreeMap<String, Vec<String>> {
            rows.into_iter().map(|row| (row[0].clone(), row)).collect()
        };
        assert_eq!(by_name(listed), by_name(served));
    }
}
