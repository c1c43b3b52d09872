//! What `deploy/monitoring` gives to Prometheus and Grafana: each alert has a runbook and fires when it should, and nothing asks for a
//! metric that NICO does not serve.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use rig::{deploy, environment::Environment};
use serde_json::Value;

const RULES: &str = include_str!("../../deploy/monitoring/rules.yaml");
const PROMETHEUS_RULE: &str = include_str!("../../deploy/monitoring/prometheusrule.yaml");
const SERVICE_MONITOR: &str = include_str!("../../deploy/monitoring/servicemonitor.yaml");
const DASHBOARD: &str = include_str!("../../deploy/monitoring/dashboard.json");
const RUNBOOKS: &str = include_str!("../../deploy/monitoring/RUNBOOKS.md");
const OPERATIONS: &str = include_str!("../../deploy/OPERATIONS.md");
const STATUS: &str = include_str!("../../src/api/status.rs");
const FIRED: &str = include_str!("alerts.yaml");

fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

fn yaml(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn alerts() -> Vec<Value> {
    let groups = yaml(RULES)["groups"].as_array().unwrap().clone();
    let rules = groups.iter().flat_map(|it| it["rules"].as_array().unwrap());
    rules.cloned().collect()
}

pub(crate) fn panels() -> Vec<Value> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    dashboard["panels"].as_array().unwrap().clone()
}

/// The expressions of a panel, with a duration in place of Grafana's variable.
pub(crate) fn queries_of(panel: &Value) -> Vec<String> {
    let targets = panel["targets"].as_array().into_iter().flatten();
    let queries = targets.map(|it| text(&it["expr"]).replace("$__rate_interval", "5m"));
    queries.collect()
}

/// The expressions of the dashboard.
fn queries() -> Vec<String> {
    panels().iter().flat_map(queries_of).collect()
}

/// The labels of each metric, by the table of the documentation, which is what is served.
fn served() -> BTreeMap<String, BTreeSet<String>> {
    let rows = rig::pages::table(OPERATIONS, "| metric | type | labels | meaning |");
    let metrics = rows.into_iter().map(|cells| {
        let labels = cells[2].split(',').map(|it| it.trim().to_owned());
        let name = &cells[0];
        let (name, le) = if cells[1] == "histogram" {
            (format!("{name}_bucket"), Some("le".to_owned()))
        } else {
            (name.to_owned(), None)
        };
        let labels = labels.filter(|it| !it.is_empty()).chain(le);
        (name, labels.collect())
    });
    metrics.collect()
}

/// The metrics of an expression, each with its matchers.
fn selectors(expression: &str) -> Vec<(&str, &str)> {
    let starts = expression.match_indices("nico_").map(|(at, _)| at);
    let selectors = starts.map(|at| {
        let rest = &expression[at..];
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let (name, rest) = rest.split_at(rest.find(|c| !is_word(c)).unwrap_or(rest.len()));
        let matchers = rest.strip_prefix('{').and_then(|it| it.split_once('}'));
        (name, matchers.map_or("", |(matchers, _)| matchers))
    });
    selectors.collect()
}

/// Every metric, every label that is matched, and every value of it is one that NICO serves.
#[test]
fn every_expression_asks_for_what_is_served() {
    let served = served();
    let of_rules: Vec<String> = alerts()
        .iter()
        .map(|it| text(&it["expr"]).to_owned())
        .collect();
    let expressions = || of_rules.iter().cloned().chain(queries());
    let mut asked = BTreeSet::new();
    for expression in expressions() {
        for (metric, matchers) in selectors(&expression) {
            asked.insert(metric.to_owned());
            let labels = served.get(metric).unwrap_or_else(|| panic!("{expression}"));
            for matcher in matchers.split("\",").filter(|it| !it.is_empty()) {
                let (label, values) = matcher.split_once(['=', '!']).unwrap();
                assert!(labels.contains(label), "{label} in {expression}");
                let values = values.trim_start_matches(['=', '~', '"']);
                let values = values.trim_end_matches('"').split('|');
                // Codes are those of HTTP.
                for value in values.filter(|_| label != "code") {
                    let is_known = OPERATIONS.contains(&format!("`{value}`"))
                        || STATUS.contains(&format!("    {value},\n"))
                        || ["True", "False", "Unknown"].contains(&value);
                    assert!(is_known, "{value} in {expression}");
                }
            }
        }
    }
    let all: BTreeSet<String> = served.into_keys().collect();
    assert_eq!(asked, all, "an alert or a panel for each metric");
}

#[test]
fn the_operator_and_a_plain_prometheus_get_the_same_alerts() {
    assert_eq!(yaml(PROMETHEUS_RULE)["spec"], yaml(RULES));
}

#[test]
fn every_alert_has_a_runbook_and_fires_in_a_test() {
    let alerts = alerts();
    let names: Vec<&str> = alerts.iter().map(|it| text(&it["alert"])).collect();
    for (alert, name) in alerts.iter().zip(&names) {
        let anchor = name.to_lowercase();
        let runbook = format!("deploy/monitoring/RUNBOOKS.md#{anchor}");
        assert_eq!(alert["annotations"]["runbook"], runbook);
        let severity = text(&alert["labels"]["severity"]);
        assert!(["critical", "warning"].contains(&severity), "{name}");
        let is_tried = FIRED.contains(&format!("alertname=\"{name}\""))
            || FIRED.contains(&format!("alertname: {name}\n"));
        assert!(is_tried, "{name}");
    }
    let sections = RUNBOOKS.split("\n## ").skip(1);
    let sections: Vec<(&str, &str)> = sections.map(|it| it.split_once('\n').unwrap()).collect();
    let headings: Vec<&str> = sections.iter().map(|(heading, _)| *heading).collect();
    assert_eq!(headings, names);
    for (heading, section) in sections {
        for part in ["**Means:**", "**Look at:**", "**Do:**"] {
            assert!(section.contains(part), "{heading}: {part}");
        }
    }
}

#[test]
fn the_dashboard_asks_the_chosen_data_source() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let variable = &dashboard["templating"]["list"][0];
    assert_eq!(variable["type"], "datasource");
    assert_eq!(variable["query"], "prometheus");
    let chosen = format!("${{{}}}", text(&variable["name"]));
    let (mut ids, mut cells) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels() {
        let title = text(&panel["title"]);
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}");
        let at = |side: &str| panel["gridPos"][side].as_u64().unwrap();
        for x in at("x")..at("x") + at("w") {
            assert!(x < 24, "{title}");
            for y in at("y")..at("y") + at("h") {
                assert!(cells.insert((x, y)), "{title} overlaps another");
            }
        }
        if panel["type"] == "row" {
            continue;
        }
        assert_eq!(panel["datasource"]["uid"], chosen, "{title}");
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{title}");
        for target in targets {
            assert_eq!(target["datasource"]["uid"], chosen, "{title}");
        }
    }
}

/// The Prometheus Operator finds the Service, and the port by its name.
#[test]
fn the_service_monitor_selects_the_service() {
    let objects = deploy::documents(include_str!("../../deploy/nico.yaml"));
    let services = objects.iter().filter(|it| it["kind"] == "Service");
    let services: Vec<&Value> = services.collect();
    let [service] = services[..] else {
        panic!("{services:?}");
    };
    let monitor = &yaml(SERVICE_MONITOR)["spec"];
    for (label, value) in monitor["selector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(&service["metadata"]["labels"][label], value);
    }
    let namespaces = monitor["namespaceSelector"]["matchNames"].as_array();
    assert_eq!(
        namespaces.unwrap()[..],
        [service["metadata"]["namespace"].clone()]
    );
    let endpoints = monitor["endpoints"].as_array().unwrap();
    let ports = service["spec"]["ports"].as_array().unwrap();
    assert_eq!(endpoints.len(), 1);
    assert!(ports.iter().any(|it| it["name"] == endpoints[0]["port"]));
}

/// What the commands of the page apply, beside an installed NICO and the definitions of the Prometheus Operator.
#[tokio::test(flavor = "multi_thread")]
async fn the_overlay_applies_scraping_alerts_and_the_dashboard() {
    let environment = Environment::shared().await;
    let definitions = include_str!("prometheus-operator.yaml");
    rig::crds::install_crd_text(&environment.client, definitions).await;
    let folder = path("deploy/monitoring");
    let folder = folder.to_str().unwrap();
    let kubectl = async |arguments: &[&str]| {
        let output = environment.control_plane.kubectl(arguments).await.unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && told.is_empty(), "{told}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    kubectl(&["apply", "-k", folder]).await;
    let again = kubectl(&["apply", "-k", folder]).await;
    let unchanged = again.lines().filter(|line| line.ends_with(" unchanged"));
    assert_eq!(unchanged.count(), 3, "{again}");
    let stored = kubectl(&["get", "-k", folder, "-o", "json"]).await;
    let stored: Value = serde_json::from_str(&stored).unwrap();
    let of_kind = |kind: &str| {
        let mut items = stored["items"].as_array().unwrap().iter();
        items.find(|it| it["kind"] == kind).unwrap()
    };
    assert_eq!(
        of_kind("ConfigMap")["data"]["dashboard.json"],
        Value::from(DASHBOARD)
    );
    for (kind, text) in [
        ("PrometheusRule", PROMETHEUS_RULE),
        ("ServiceMonitor", SERVICE_MONITOR),
    ] {
        assert_eq!(of_kind(kind)["spec"], yaml(text)["spec"]);
    }
}

/// Whether promtool is content; `false` where it is not installed.
fn promtool(arguments: &[&str]) -> bool {
    let Ok(output) = Command::new("promtool").args(arguments).output() else {
        rig::tools::skipped("promtool", "it is not installed");
        return false;
    };
    let told = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&told)
    );
    true
}

#[test]
fn alerts_fire_as_their_tests_say() {
    let (rules, tests) = (
        path("deploy/monitoring/rules.yaml"),
        path("tests/program/alerts.yaml"),
    );
    if promtool(&["check", "rules", rules.to_str().unwrap()]) {
        promtool(&["test", "rules", tests.to_str().unwrap()]);
    }
}

/// promtool reads no dashboards, so their expressions are given to it as rules.
#[test]
fn prometheus_reads_the_expressions_of_the_dashboard() {
    let queries = queries();
    let rules = queries.iter().enumerate().map(
        |(number, expr)| serde_json::json!({"record": format!("panel:{number}"), "expr": expr}),
    );
    let rules: Vec<Value> = rules.collect();
    assert!(rules.len() > 20, "{}", rules.len());
    let groups = serde_json::json!({"groups": [{"name": "panels", "rules": rules}]});
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let file = directory.join(format!("panels-{}.yaml", std::process::id()));
    std::fs::write(&file, groups.to_string()).unwrap();
    promtool(&["check", "rules", file.to_str().unwrap()]);
    std::fs::remove_file(file).unwrap();
}
