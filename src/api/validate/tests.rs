//! What the check says, and that it has an answer to anything.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::api::fields::MAX_ERRORS;

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
