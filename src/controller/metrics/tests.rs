//! What is served matches the documentation.

use std::collections::BTreeMap;

use futures::FutureExt as _;
use serde_json::json;

use super::*;
use crate::api::conditions::Reason;
use crate::remote::gate::Class;

fn clusters(status: &serde_json::Value) -> Vec<Arc<RawCluster>> {
    let metadata = json!({"name": "prod", "namespace": "clusters", "uid": "of-prod"});
    let cluster = json!({"metadata": metadata, "spec": {}, "status": status});
    vec![Arc::new(serde_json::from_value(cluster).unwrap())]
}

fn full() -> Arc<Metrics> {
    let metrics = Metrics::new(None);
    metrics.reconciled("success", Duration::from_millis(30));
    metrics.requested(&Method::GET, Some(StatusCode::OK));
    metrics.requested(&Method::PATCH, None);
    metrics.ssh_failed("auth");
    let gate = Gate::new(1, 0);
    metrics.show_queue("passes", gate.clone());
    let enter = || Box::pin(gate.enter("clusters", "prod", Class::Other));
    let (mut works, mut waits) = (enter(), enter());
    let turn = works.as_mut().now_or_never();
    assert!(waits.as_mut().now_or_never().is_none());
    metrics.count_queues();
    drop(turn);
    let condition = |kind: &str, status: &str, reason: &str| json!({"type": kind, "status": status, "reason": reason, "lastTransitionTime": "1970-01-01T00:00:20Z"});
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
    let ends = |uid: &str| (uid == "of-prod").then_some(Timestamp::MAX);
    metrics.shown.show(&clusters(&status), ends, now);
    metrics
}

/// Renders the metrics without counting the clusters again, so that the values that [`full`] has set stay.
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
        "nico_oldest_condition_seconds{condition=\"Ready\",status=\"False\",reason=\"InFlight\"} 40.0",
        "nico_kubeconfig_expiry_timestamp_seconds{namespace=\"clusters\",cluster=\"prod\"} 253402207200",
        "nico_ssh_failures_total{kind=\"auth\"} 1",
        "nico_ssh_failures_total{kind=\"timeout\"} 0",
        "nico_reconciles_total{outcome=\"panic\"} 0",
        "nico_queue{queue=\"passes\",state=\"waiting\"} 1",
        "nico_queue{queue=\"passes\",state=\"working\"} 1",
    ] {
        assert!(
            text.lines().any(|served| served == line),
            "{line} in\n{text}"
        );
    }
    assert!(!text.contains("Mine"), "a foreign condition:\n{text}");
    assert!(!text.contains("cp-0"), "{text}");
    let named = text.lines().filter(|line| line.contains("prod"));
    assert_eq!(named.count(), 1, "{text}");
}

/// The clock of the process that wrote the status may be ahead, and clusters can be deleted.
#[test]
fn what_the_clusters_show_goes_with_them() {
    let metrics = full();
    metrics
        .shown
        .show(&[], |_| Some(Timestamp::MAX), Timestamp::MIN);
    let text = text(&metrics);
    for gone in [
        "nico_cluster_conditions{",
        "nico_oldest_condition_seconds{",
        "nico_kubeconfig_expiry_timestamp_seconds{",
    ] {
        assert!(!text.contains(gone), "{text}");
    }
    assert!(text.contains("nico_oldest_in_flight_seconds 0.0\n"));
}

/// A user who may write a status must neither fill the memory of NICO or Prometheus, nor take the places of NICO's own reasons.
#[test]
fn a_reason_that_is_none_of_nicos_has_no_series_of_its_own() {
    let metrics = Metrics::new(None);
    let condition = |reason: &str| json!({"type": "Ready", "status": "False", "reason": reason});
    let show = |reasons: &[String]| {
        let conditions: Vec<_> = reasons.iter().map(|reason| condition(reason)).collect();
        let status = json!({ "conditions": conditions });
        let now = Timestamp::UNIX_EPOCH;
        metrics.shown.show(&clusters(&status), |_| None, now);
        text(&metrics)
    };
    let foreign: Vec<String> = (0..5000).map(|number| format!("R{number}")).collect();
    let shown = show(&foreign);
    assert_eq!(shown.matches("nico_cluster_conditions{").count(), 1);
    assert!(shown.contains("reason=\"other\"} 5000\n"), "{shown}");
    let own: Vec<String> = Reason::ALL.iter().map(ToString::to_string).collect();
    let shown = show(&own);
    assert_eq!(shown.matches("nico_cluster_conditions{").count(), own.len());
    assert!(shown.contains("reason=\"QuorumLost\"} 1\n"), "{shown}");
    assert!(!shown.contains("reason=\"other\""), "{shown}");
}

#[test]
fn who_leads_says_so() {
    let leads = |metrics: &Metrics| metrics.render().contains("nico_leader 1\n");
    assert!(leads(&Metrics::new(None)));
    assert!(!leads(&Metrics::new(Some(Term::default()))));
}

/// The table in the documentation matches what is served: name, type and labels.
#[test]
fn the_documentation_lists_every_metric() {
    let page = include_str!("../../../deploy/OPERATIONS.md");
    let mut listed = rig::pages::table(page, "| metric | type | labels | meaning |");
    for row in &mut listed {
        row.truncate(3);
    }
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
