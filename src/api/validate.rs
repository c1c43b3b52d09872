//! Turns the stored JSON of a spec into a [`ValidSpec`]. The JSON may be anything, since an older definition may have accepted it: serde
//! reads it, then every rule of [`super::rules`] is checked.
//!
//! Fields that are not known are ignored, as the API server prunes them; null is absent, as there.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::core::{Expression, Selector};
use serde_json::Value;
use serde_path_to_error::{Deserializer, Path, Segment, Track};

use super::cluster::{ClusterSpec, PoolSpec, RolloutSpec, crd};
pub use super::errors::SpecError;
use super::errors::{Validator, quoted};
use super::names::MachineName;
use super::read::object;
use super::rules::{self, PoolRule};
use super::spec::{Endpoint, MaxUnavailable, Pool, Rollout, RolloutOrder, ValidSpec};

/// Checks a cluster's name and spec. It returns a result for any JSON.
pub fn validate(name: &str, spec: &Value) -> Result<ValidSpec, Vec<SpecError>> {
    let mut check = Validator::default();
    check.text("metadata.name", name, &rules::DNS_LABEL);
    let mut track = Track::new();
    let read: Result<Option<ClusterSpec>, _> = object(Deserializer::new(spec, &mut track));
    let valid = read.ok().flatten();
    let valid = valid.map(|spec| valid_spec(spec, &mut check));
    if valid.is_none() {
        refuse_type(&track.path(), &mut check);
    }
    valid
        .filter(|_| check.errors.is_empty())
        .ok_or(check.errors)
}

/// The schema of a spec, in the definition.
static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let definition = serde_json::to_value(crd()).unwrap_or_default();
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
});

/// Reports what the field at that path must be, as the definition has it: serde's own message would repeat the value.
fn refuse_type(path: &Path, check: &mut Validator) {
    let mut schema = &*SCHEMA;
    let mut field = "spec".to_owned();
    for segment in path {
        match segment {
            Segment::Seq { index } => {
                field = format!("{field}[{index}]");
                schema = &schema["items"];
            }
            Segment::Map { key } => {
                let known = schema["properties"].get(key);
                let plain = known.is_some() || rules::LABEL_KEY.check(key).is_ok();
                let key = if plain { key.clone() } else { quoted(key) };
                field = format!("{field}.{key}");
                schema = known.unwrap_or(&schema["additionalProperties"]);
            }
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    let words = schema["enum"].as_array().map(|words| {
        let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
        format!("must be one of {}", words.join(", "))
    });
    let message = words.unwrap_or_else(|| match schema["type"].as_str() {
        Some("object") => "must be an object".to_owned(),
        Some("array") => "must be a list".to_owned(),
        Some("boolean") => "must be true or false".to_owned(),
        Some("string") => "must be a string".to_owned(),
        Some(_) => {
            let bound = |key: &str| schema[key].as_f64().unwrap_or_default();
            let (min, max) = (bound("minimum"), bound("maximum"));
            format!("must be a whole number from {min} to {max}")
        }
        // The only field of two types.
        None => rules::MAX_UNAVAILABLE_MESSAGE.to_owned(),
    });
    check.refuse(&field, message);
}

/// The spec with its defaults; not to be used where an error was found.
fn valid_spec(spec: ClusterSpec, check: &mut Validator) -> ValidSpec {
    let control_plane = spec.control_plane.unwrap_or_default();
    let mut ignored = beside_machines("spec.controlPlane", &control_plane);
    let control_plane = pool(
        "spec.controlPlane",
        control_plane,
        &rules::CONTROL_PLANE,
        check,
    );
    let data_plane = spec.data_plane.unwrap_or_default();
    ignored.extend(beside_machines("spec.dataPlane", &data_plane));
    let data_plane = pool("spec.dataPlane", data_plane, &rules::DATA_PLANE, check);
    one_role_each(&control_plane, &data_plane, check);
    let credentials = spec
        .credentials_ref
        .map(|secret| secret.name.unwrap_or_default());
    let path = spec.kubeconfig.and_then(|kubeconfig| kubeconfig.path);
    ValidSpec {
        git_repo: check.optional("spec.gitRepo", spec.git_repo, &rules::GIT_REPO),
        git_ref: check.optional("spec.ref", spec.git_ref, &rules::GIT_REF),
        ref_policy: spec.ref_policy,
        configuration_subdir: check.optional(
            "spec.configurationSubdir",
            spec.configuration_subdir,
            &rules::SUBDIR,
        ),
        credentials: check.optional("spec.credentialsRef.name", credentials, &rules::SECRET_NAME),
        control_plane,
        data_plane,
        endpoint: spec.control_plane_endpoint.map(|endpoint| {
            let host = endpoint.host.unwrap_or_default();
            check.text("spec.controlPlaneEndpoint.host", &host, &rules::HOST);
            let field = "spec.controlPlaneEndpoint.port";
            let port = check.number(field, endpoint.port, &rules::PORT);
            let port = port.unwrap_or(rules::DEFAULT_PORT);
            Endpoint { host, port }
        }),
        full_install: spec.full_install.unwrap_or(false),
        inject_ssh_key: spec.inject_ssh_key.unwrap_or(true),
        kubeconfig_path: check.optional("spec.kubeconfig.path", path, &rules::KUBECONFIG_PATH),
        paused: spec.paused.unwrap_or(false),
        rollout: rollout(&spec.rollout.unwrap_or_default(), check),
        ignored,
    }
}

fn rollout(asked: &RolloutSpec, check: &mut Validator) -> Rollout {
    let deadline = check.number(
        "spec.rollout.progressDeadlineSeconds",
        asked.progress_deadline_seconds,
        &rules::PROGRESS_DEADLINE,
    );
    let drain = check.number(
        "spec.rollout.drainTimeoutSeconds",
        asked.drain_timeout_seconds,
        &rules::DRAIN_TIMEOUT,
    );
    Rollout {
        order: asked.order.unwrap_or(RolloutOrder::WorkersFirst),
        max_unavailable: max_unavailable(asked.max_unavailable.as_ref(), check),
        progress_deadline_seconds: deadline.unwrap_or(rules::DEFAULT_PROGRESS_DEADLINE),
        node_checks: asked.node_checks.unwrap_or(true),
        drain_timeout_seconds: drain.unwrap_or(rules::DEFAULT_DRAIN_TIMEOUT),
    }
}

fn max_unavailable(asked: Option<&IntOrString>, check: &mut Validator) -> MaxUnavailable {
    let allowed = match asked {
        None => Some(MaxUnavailable::Count(1)),
        Some(IntOrString::String(text)) => rules::percent(text).map(MaxUnavailable::Percent),
        Some(IntOrString::Int(count)) => rules::MAX_UNAVAILABLE
            .contains(&i64::from(*count))
            .then(|| MaxUnavailable::Count(count.unsigned_abs())),
    };
    allowed.unwrap_or_else(|| {
        check.refuse(
            "spec.rollout.maxUnavailable",
            rules::MAX_UNAVAILABLE_MESSAGE,
        );
        MaxUnavailable::Count(1)
    })
}

/// The fields of a role that have no effect, since it lists machines.
fn beside_machines(field: &str, asked: &PoolSpec) -> Vec<String> {
    let lists = asked.machines.as_ref().is_some_and(|it| !it.is_empty());
    let fields = [
        ("machineSelector", asked.machine_selector.is_some()),
        ("count", asked.count.is_some()),
    ];
    let fields = fields.into_iter().filter(|(_, given)| lists && *given);
    fields.map(|(name, _)| format!("{field}.{name}")).collect()
}

/// A list that is not empty wins over selector and count.
fn pool(field: &str, asked: PoolSpec, rule: &PoolRule, check: &mut Validator) -> Pool {
    let listed = asked.machines.unwrap_or_default();
    let machines = machines(
        &format!("{field}.machines"),
        &listed,
        *rule.count.end(),
        check,
    );
    let selector = asked
        .machine_selector
        .map(|asked| selector(&format!("{field}.machineSelector"), asked, check));
    let count = check.number(&format!("{field}.count"), asked.count, &rule.count);
    match (selector, count) {
        _ if !listed.is_empty() => Pool::Listed(machines),
        (Some(selector), Some(count)) if count > 0 => Pool::Selected { selector, count },
        (None, None) | (_, Some(0)) if rule.count.contains(&0) => Pool::None,
        _ => {
            check.refuse(field, rule.message);
            Pool::None
        }
    }
}

fn machines(
    field: &str,
    listed: &[String],
    max: i64,
    check: &mut Validator,
) -> BTreeSet<MachineName> {
    let mut machines = BTreeSet::new();
    let max = usize::try_from(max).unwrap_or_default();
    if !check.at_most(field, listed.len(), max) {
        return machines;
    }
    for (index, name) in listed.iter().enumerate() {
        let field = format!("{field}[{index}]");
        if check.text(&field, name, &rules::DNS_LABEL)
            && !MachineName::parse(name).is_some_and(|name| machines.insert(name))
        {
            check.refuse(&field, format!("{} is listed twice", quoted(name)));
        }
    }
    machines
}

/// Lists alone can name a machine twice; a selector leaves out what the other role has.
fn one_role_each(control_plane: &Pool, data_plane: &Pool, check: &mut Validator) {
    const MOST_NAMED: usize = 5;
    let workers: BTreeSet<&MachineName> = data_plane.listed().collect();
    let both: Vec<&str> = control_plane
        .listed()
        .filter(|name| workers.contains(name))
        .map(MachineName::as_str)
        .take(MOST_NAMED)
        .collect();
    if !both.is_empty() {
        let message = format!("{}: {}", rules::BOTH_ROLES_MESSAGE, both.join(", "));
        check.refuse("spec.dataPlane.machines", message);
    }
}

fn selector(field: &str, asked: LabelSelector, check: &mut Validator) -> Selector {
    let labels = asked.match_labels.unwrap_or_default();
    let label_field = format!("{field}.matchLabels");
    if check.at_most(&label_field, labels.len(), rules::MAX_REQUIREMENTS) {
        for (key, value) in &labels {
            if let Err(message) = rules::LABEL_KEY.check(key) {
                let message = format!("each key {message}; one is {}", quoted(key));
                check.refuse(&label_field, message);
            } else {
                check.text(&format!("{label_field}.{key}"), value, &rules::LABEL_VALUE);
            }
        }
    }
    let mut selector: Selector = labels.into_iter().collect();
    let requirements = asked.match_expressions.unwrap_or_default();
    let field = format!("{field}.matchExpressions");
    if check.at_most(&field, requirements.len(), rules::MAX_REQUIREMENTS) {
        let requirements = requirements.into_iter().enumerate();
        selector.extend(requirements.filter_map(|(index, requirement)| {
            expression(&format!("{field}[{index}]"), requirement, check)
        }));
    }
    selector
}

/// `None` only where an error was found.
fn expression(
    field: &str,
    requirement: LabelSelectorRequirement,
    check: &mut Validator,
) -> Option<Expression> {
    let LabelSelectorRequirement {
        key,
        operator,
        values,
    } = requirement;
    let values = values.unwrap_or_default();
    check.text(&format!("{field}.key"), &key, &rules::LABEL_KEY);
    let value_field = format!("{field}.values");
    if check.at_most(&value_field, values.len(), rules::MAX_VALUES) {
        for (index, value) in values.iter().enumerate() {
            let field = format!("{value_field}[{index}]");
            check.text(&field, value, &rules::LABEL_VALUE);
        }
    }
    let has_values = !values.is_empty();
    let values = values.into_iter().collect();
    let (expression, needs_values) = match operator.as_str() {
        "In" => (Expression::In(key, values), true),
        "NotIn" => (Expression::NotIn(key, values), true),
        "Exists" => (Expression::Exists(key), false),
        "DoesNotExist" => (Expression::DoesNotExist(key), false),
        _ => {
            let message = format!("must be one of {}", rules::OPERATORS.join(", "));
            check.refuse(&format!("{field}.operator"), message);
            return None;
        }
    };
    if has_values != needs_values {
        check.refuse(field, rules::VALUES_MESSAGE);
    }
    Some(expression)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
