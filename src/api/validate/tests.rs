//! What the check says, and that it has an answer to anything.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::api::errors::MAX_ERRORS;

fn messages(name: &str, spec: &Value) -> Vec<String> {
    validate(name, spec)
        .err()
        .unwrap_or_default()
        .iter()
        .map(SpecError::to_string)
        .collect()
}

#[test]
fn the_smallest_spec_gets_the_defaults() {
    let spec = validate(
        "prod",
        &json!({ "controlPlane": { "machines": ["cp-01"] } }),
    )
    .unwrap();
    assert_eq!(spec.control_plane.total(), 1);
    assert_eq!(spec.data_plane, Pool::None);
    assert!(spec.inject_ssh_key && spec.rollout.node_checks);
    assert!(!spec.full_install && !spec.paused);
    assert_eq!(spec.rollout.max_unavailable, MaxUnavailable::Count(1));
    assert_eq!(spec.rollout.progress_deadline_seconds, 4200);
    assert_eq!(spec.rollout.drain_timeout_seconds, 300);
}

#[test]
fn a_list_wins_over_selector_and_count() {
    let role = json!({ "machines": ["a"], "machineSelector": {}, "count": 3 });
    let spec = validate("prod", &json!({ "controlPlane": role })).unwrap();
    assert!(matches!(spec.control_plane, Pool::Listed(_)));
}

#[test]
fn a_password_is_never_repeated() {
    let secret = "hunter2";
    for (field, value) in [
        ("gitRepo", format!("https://u:{secret}@host/repo")),
        ("gitRepo", format!("https://{secret}@host/repo")),
        ("gitRepo", format!("u:{secret}@host:repo")),
        ("gitRepo", format!("nonsense {secret}")),
        ("ref", format!("https://u:{secret}@host/repo")),
        ("configurationSubdir", format!("u:{secret}@host")),
    ] {
        let spec = json!({ field: value, "controlPlane": { "machines": ["a"] } });
        let messages = messages("prod", &spec);
        assert_eq!(messages.len(), 1, "{value}");
        assert!(messages[0].starts_with(&format!("spec.{field}: ")));
        assert!(!messages[0].contains(secret), "{}", messages[0]);
    }
}

#[test]
fn a_refused_value_is_shown_short_and_escaped() {
    let name = format!("\u{202e}\n\"{}", "x".repeat(500));
    let messages = messages(&name, &json!({ "controlPlane": { "machines": ["a"] } }));
    assert_eq!(messages.len(), 1);
    assert!(messages[0].starts_with("metadata.name: must"));
    assert!(messages[0].is_ascii() || messages[0].ends_with("…\""));
    assert!(messages[0].len() < 400);
}

#[test]
fn a_value_of_a_wrong_type_is_named_by_its_whole_path_and_not_repeated() {
    let long = "hunter2".repeat(1000);
    let labels =
        |labels: Value| json!({ "controlPlane": { "machineSelector": { "matchLabels": labels } } });
    let role = |role: Value| json!({ "controlPlane": role });
    for (spec, message) in [
        (json!([long]), "spec: must be an object"),
        (json!(null), "spec: must be an object"),
        (role(json!([long])), "spec.controlPlane: must be an object"),
        (
            role(json!({ "machines": ["a", "b", "c", null] })),
            "spec.controlPlane.machines[3]: must be a string",
        ),
        (
            role(json!({ "machines": long })),
            "spec.controlPlane.machines: must be a list",
        ),
        (
            role(json!({ "count": long })),
            "spec.controlPlane.count: must be a whole number from 1 to 99",
        ),
        (
            json!({ "rollout": { "drainTimeoutSeconds": 0.5 } }),
            "spec.rollout.drainTimeoutSeconds: must be a whole number from 0 to 86400",
        ),
        (
            json!({ "rollout": { "maxUnavailable": [long] } }),
            "spec.rollout.maxUnavailable: must be a number from 1 to 1000, or a percentage from 1% to 100%",
        ),
        (
            json!({ "refPolicy": long }),
            "spec.refPolicy: must be one of Follow, Pin",
        ),
        (
            json!({ "refPolicy": [long] }),
            "spec.refPolicy: must be one of Follow, Pin",
        ),
        (
            json!({ "paused": long }),
            "spec.paused: must be true or false",
        ),
        (
            labels(json!({ "role": null })),
            "spec.controlPlane.machineSelector.matchLabels.role: must be a string",
        ),
        (
            labels(json!({ "https://u:hunter2@host": 7 })),
            "spec.controlPlane.machineSelector.matchLabels.not shown, since it may hold a password: must be a string",
        ),
        (
            labels(json!({ "\n".repeat(1000): 7 })),
            &format!(
                "spec.controlPlane.machineSelector.matchLabels.\"{}…\": must be a string",
                "\\n".repeat(64)
            ),
        ),
    ] {
        assert_eq!(messages("prod", &spec), [message]);
    }
}

#[test]
fn a_number_of_any_size_is_held_to_its_bounds() {
    for count in [json!(u64::MAX), json!(1e300), json!(-1e300), json!(100)] {
        let spec = json!({ "controlPlane": { "machines": ["a"], "count": count } });
        assert_eq!(
            messages("prod", &spec),
            ["spec.controlPlane.count: must be a whole number from 1 to 99"]
        );
    }
}

#[test]
fn every_broken_rule_is_reported_at_once() {
    let spec = json!({
        "gitRepo": "/srv/git",
        "controlPlane": { "machineSelector": { "matchLabels": { "-": "-" } } },
        "dataPlane": { "count": 5 },
        "controlPlaneEndpoint": { "port": 0 },
        "rollout": { "maxUnavailable": 0 },
    });
    let fields: Vec<String> = validate("Prod", &spec)
        .unwrap_err()
        .into_iter()
        .map(|error| error.field)
        .collect();
    assert_eq!(
        fields,
        [
            "metadata.name",
            "spec.controlPlane.machineSelector.matchLabels",
            "spec.controlPlane",
            "spec.dataPlane",
            "spec.gitRepo",
            "spec.controlPlaneEndpoint.host",
            "spec.controlPlaneEndpoint.port",
            "spec.rollout.maxUnavailable",
        ]
    );
}

#[test]
fn thousands_of_errors_become_a_few() {
    let names: Vec<String> = (0..1000).map(|n| format!("-{n}")).collect();
    let spec = json!({ "controlPlane": { "machines": ["a"] }, "dataPlane": { "machines": names } });
    assert_eq!(messages("prod", &spec).len(), MAX_ERRORS);
}

/// Field names of the spec with any values at any depth: the walk is taken, and what it finds is nonsense.
fn nonsense() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[a-z0-9-]{0,8}".prop_map(Value::from),
        "(https?|ssh|git|ext|file)?:?/?/?[a-z@:%~/.]{0,20}".prop_map(Value::from),
        "[0-9]{0,3}%?".prop_map(Value::from),
    ];
    let key = prop::sample::select(vec![
        "gitRepo",
        "ref",
        "refPolicy",
        "configurationSubdir",
        "credentialsRef",
        "name",
        "controlPlane",
        "dataPlane",
        "machines",
        "machineSelector",
        "matchLabels",
        "matchExpressions",
        "key",
        "operator",
        "values",
        "count",
        "controlPlaneEndpoint",
        "host",
        "port",
        "kubeconfig",
        "path",
        "rollout",
        "maxUnavailable",
        "order",
    ]);
    leaf.prop_recursive(5, 64, 8, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map(key.clone().prop_map(str::to_owned), inner.clone(), 0..8)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
            btree_map(any::<String>(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_json_has_an_answer(name in any::<String>(), spec in nonsense()) {
        if let Err(errors) = validate(&name, &spec) {
            prop_assert!(!errors.is_empty());
            for error in errors {
                prop_assert!(!error.to_string().chars().any(char::is_control));
            }
        }
    }

    #[test]
    fn what_any_string_becomes_is_plain(text in any::<String>(), tail in "[ -~]{0,40}") {
        for value in [text.clone(), format!("https://host/{tail}"), format!("git@host:{tail}")] {
            let spec = json!({ "gitRepo": value, "controlPlane": { "machines": ["a"] } });
            if let Ok(valid) = validate("prod", &spec) {
                let repo = valid.git_repo.unwrap_or_default();
                let plain = |c: char| c.is_ascii_alphanumeric() || "._~@:/+=,%-".contains(c);
                prop_assert!(repo.chars().all(plain));
            }
        }
    }
}
