//! What the README promises: no flag, condition or reason is missing, and its YAML is a cluster.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::Value;

const README: &str = include_str!("../README.md");
const CONDITIONS: &str = include_str!("../src/api/conditions.rs");

/// The variants of an enum in the source of the conditions.
fn variants(of: &str) -> Vec<&'static str> {
    let (_, body) = CONDITIONS.split_once(&format!("pub enum {of} {{")).unwrap();
    let (body, _) = body.split_once("\n}").unwrap();
    let lines = body.lines().map(str::trim);
    lines
        .filter_map(|line| line.strip_suffix(','))
        .filter(|line| !line.starts_with("//"))
        .collect()
}

#[test]
fn every_condition_and_reason_is_explained() {
    for kind in ["ConditionType", "Reason"] {
        let variants = variants(kind);
        assert!(variants.len() > 5, "{kind}: {variants:?}");
        for variant in variants {
            assert!(README.contains(&format!("`{variant}`")), "{kind} {variant}");
        }
    }
}

#[test]
fn the_example_obeys_the_rules() {
    let (_, example) = README.split_once("```yaml\n").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    let cluster: Value = serde_yaml::from_str(example).unwrap();
    let name = cluster["metadata"]["name"].as_str().unwrap();
    nico::api::validate::validate(name, &cluster["spec"]).unwrap();
}
