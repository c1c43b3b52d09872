//! From the JSON of a spec to a [`ValidSpec`], by the rules of [`super::rules`] (SPEC 1.1), whatever the JSON is: the API server may
//! have let it through under an older definition.
//!
//! Nothing of a value that may hold a secret is repeated in a message. Fields that are not known are ignored, as the API server
//! prunes them; null is absent, as there.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use kube::core::{Expression, Selector};
use serde_json::{Map, Value};

pub use super::fields::SpecError;
use super::fields::{Errors, Fields, quoted};
use super::names::MachineName;
use super::rules;
use super::spec::{Endpoint, MaxUnavailable, Pool, RefPolicy, Rollout, RolloutOrder, ValidSpec};

/// Checks a cluster's name and spec. Total: any JSON has an answer.
pub fn validate(name: &str, spec: &Value) -> Result<ValidSpec, Vec<SpecError>> {
    let errors = Errors::default();
    errors.check("metadata.name", name, &rules::DNS_LABEL);
    let valid = if let Value::Object(map) = spec {
        valid_spec(&Fields {
            path: "spec".to_owned(),
            map,
            errors: &errors,
        })
    } else {
        errors.add("spec", "must be an object");
        None
    };
    let errors = errors.into_vec();
    match valid {
        Some(valid) if errors.is_empty() => Ok(valid),
        _ => Err(errors),
    }
}

/// `None` only where an error was reported.
fn valid_spec(spec: &Fields<'_>) -> Option<ValidSpec> {
    let git_repo = spec.text("gitRepo", &rules::GIT_REPO);
    let git_ref = spec.text("ref", &rules::GIT_REF);
    let ref_policy = spec.choice(
        "refPolicy",
        &[("Follow", RefPolicy::Follow), ("Pin", RefPolicy::Pin)],
    );
    let configuration_subdir = spec.text("configurationSubdir", &rules::SUBDIR);
    let credentials = spec
        .object("credentialsRef")
        .and_then(|fields| fields.required_text("name", &rules::SECRET_NAME));
    let control_plane = spec
        .required_object("controlPlane")
        .and_then(|fields| control_plane(&fields));
    let data_plane = spec
        .object("dataPlane")
        .map_or(Some(Pool::None), |fields| data_plane(&fields));
    if let (Some(control_plane), Some(data_plane)) = (&control_plane, &data_plane) {
        one_role_each(spec, control_plane, data_plane);
    }
    let endpoint = spec.object("controlPlaneEndpoint").and_then(|fields| {
        Some(Endpoint {
            host: fields.required_text("host", &rules::HOST)?,
            port: fields
                .number("port", &rules::PORT)
                .map_or(Some(rules::DEFAULT_PORT), |port| port.try_into().ok())?,
        })
    });
    let full_install = spec.flag("fullInstall", false);
    let inject_ssh_key = spec.flag("injectSSHKey", true);
    let kubeconfig_path = spec
        .object("kubeconfig")
        .and_then(|fields| fields.text("path", &rules::KUBECONFIG_PATH));
    let paused = spec.flag("paused", false);
    let rollout = rollout(spec);
    Some(ValidSpec {
        git_repo,
        git_ref,
        ref_policy,
        configuration_subdir,
        credentials,
        control_plane: control_plane?,
        data_plane: data_plane?,
        endpoint,
        full_install,
        inject_ssh_key,
        kubeconfig_path,
        paused,
        rollout,
    })
}

fn control_plane(fields: &Fields<'_>) -> Option<Pool> {
    let asked = Asked::read(fields, &rules::CONTROL_PLANE_COUNT);
    let pool = asked.pool();
    if pool.is_none() && asked.sound {
        fields
            .errors
            .add(&fields.path, rules::CONTROL_PLANE_MESSAGE);
    }
    pool
}

fn data_plane(fields: &Fields<'_>) -> Option<Pool> {
    let asked = Asked::read(fields, &rules::DATA_PLANE_COUNT);
    match (&asked.machines, &asked.selector, asked.count) {
        (None, _, Some(0)) | (None, None, None) => asked.sound.then_some(Pool::None),
        _ => {
            let pool = asked.pool();
            if pool.is_none() && asked.sound {
                fields.errors.add(&fields.path, rules::DATA_PLANE_MESSAGE);
            }
            pool
        }
    }
}

/// The fields of a role as they were read.
struct Asked {
    /// The list, where it is not empty.
    machines: Option<BTreeSet<MachineName>>,
    selector: Option<Selector>,
    count: Option<usize>,
    /// No error was found in any of them.
    sound: bool,
}

impl Asked {
    fn read(fields: &Fields<'_>, limits: &RangeInclusive<i64>) -> Self {
        let before = fields.errors.count();
        let machines = fields.names("machines", *limits.end());
        let selector = fields
            .object("machineSelector")
            .and_then(|selector| self::selector(&selector));
        let count = fields
            .number("count", limits)
            .and_then(|count| usize::try_from(count).ok());
        Self {
            machines: (!machines.is_empty()).then_some(machines),
            selector,
            count,
            sound: fields.errors.count() == before,
        }
    }

    /// A list that is not empty wins over selector and count (SPEC 1.1).
    fn pool(&self) -> Option<Pool> {
        if let Some(machines) = &self.machines {
            return Some(Pool::Listed(machines.clone()));
        }
        Some(Pool::Selected {
            selector: self.selector.clone()?,
            count: self.count?,
        })
    }
}

/// Lists alone can name a machine twice; a selector leaves out what the other role has (SPEC 2.2).
fn one_role_each(spec: &Fields<'_>, control_plane: &Pool, data_plane: &Pool) {
    let workers: BTreeSet<&MachineName> = data_plane.listed().collect();
    let both: Vec<&str> = control_plane
        .listed()
        .filter(|name| workers.contains(name))
        .map(MachineName::as_str)
        .collect();
    if !both.is_empty() {
        let message = format!("{}: {}", rules::BOTH_ROLES_MESSAGE, both.join(", "));
        spec.errors.add("spec.dataPlane.machines", &message);
    }
}

fn selector(fields: &Fields<'_>) -> Option<Selector> {
    let before = fields.errors.count();
    let mut selector: Vec<Expression> = match_labels(fields)
        .into_iter()
        .map(|(key, value)| Expression::Equal(key, value))
        .collect();
    let path = fields.path_of("matchExpressions");
    for (index, item) in fields
        .list("matchExpressions", rules::MAX_REQUIREMENTS)
        .iter()
        .enumerate()
    {
        let path = format!("{path}[{index}]");
        match item {
            Value::Object(map) => selector.extend(requirement(&Fields {
                path,
                map,
                errors: fields.errors,
            })),
            _ => fields.errors.add(&path, "must be an object"),
        }
    }
    (fields.errors.count() == before).then(|| selector.into_iter().collect())
}

fn match_labels(fields: &Fields<'_>) -> BTreeMap<String, String> {
    let Some(labels) = fields.object("matchLabels") else {
        return BTreeMap::new();
    };
    let path = &labels.path;
    if labels.map.len() > rules::MAX_REQUIREMENTS {
        let message = format!("must have at most {} entries", rules::MAX_REQUIREMENTS);
        labels.errors.add(path, &message);
        return BTreeMap::new();
    }
    let mut found = BTreeMap::new();
    for (key, value) in labels.map {
        if let Err(message) = rules::LABEL_KEY.check(key) {
            let message = format!("each key {message}; one is {}", quoted(key));
            labels.errors.add(path, &message);
            continue;
        }
        let path = labels.path_of(key);
        match value {
            Value::Null => {}
            Value::String(value) => {
                labels.errors.check(&path, value, &rules::LABEL_VALUE);
                found.insert(key.clone(), value.clone());
            }
            _ => labels.errors.add(&path, "must be a string"),
        }
    }
    found
}

/// How `matchExpressions` relate a label to values (Kubernetes API reference, `LabelSelectorRequirement`).
#[derive(Clone, Copy)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

fn requirement(fields: &Fields<'_>) -> Option<Expression> {
    let key = fields.required_text("key", &rules::LABEL_KEY);
    let operators = [
        ("In", Operator::In),
        ("NotIn", Operator::NotIn),
        ("Exists", Operator::Exists),
        ("DoesNotExist", Operator::DoesNotExist),
    ];
    let operator = fields.required_choice("operator", &operators)?;
    let path = fields.path_of("values");
    let list = fields.list("values", rules::MAX_VALUES);
    let mut values = BTreeSet::new();
    for (index, value) in list.iter().enumerate() {
        let path = format!("{path}[{index}]");
        if let Some(value) = fields.errors.string(&path, value) {
            fields.errors.check(&path, value, &rules::LABEL_VALUE);
            values.insert(value.to_owned());
        }
    }
    if matches!(operator, Operator::In | Operator::NotIn) == list.is_empty() {
        fields.errors.add(&fields.path, rules::VALUES_MESSAGE);
    }
    let key = key?;
    Some(match operator {
        Operator::In => Expression::In(key, values),
        Operator::NotIn => Expression::NotIn(key, values),
        Operator::Exists => Expression::Exists(key),
        Operator::DoesNotExist => Expression::DoesNotExist(key),
    })
}

fn rollout(spec: &Fields<'_>) -> Rollout {
    let empty = Map::new();
    let fields = spec.object("rollout").unwrap_or(Fields {
        path: spec.path_of("rollout"),
        map: &empty,
        errors: spec.errors,
    });
    let orders = [
        ("WorkersFirst", RolloutOrder::WorkersFirst),
        ("ControlPlaneFirst", RolloutOrder::ControlPlaneFirst),
    ];
    let seconds = |key, limits, default| {
        fields
            .number(key, limits)
            .map_or(default, |seconds| u32::try_from(seconds).unwrap_or(default))
    };
    Rollout {
        order: fields
            .choice("order", &orders)
            .unwrap_or(RolloutOrder::WorkersFirst),
        max_unavailable: max_unavailable(&fields),
        progress_deadline_seconds: seconds(
            "progressDeadlineSeconds",
            &rules::PROGRESS_DEADLINE,
            rules::DEFAULT_PROGRESS_DEADLINE,
        ),
        node_checks: fields.flag("nodeChecks", true),
        drain_timeout_seconds: seconds(
            "drainTimeoutSeconds",
            &rules::DRAIN_TIMEOUT,
            rules::DEFAULT_DRAIN_TIMEOUT,
        ),
    }
}

fn max_unavailable(fields: &Fields<'_>) -> MaxUnavailable {
    let found = match fields.get("maxUnavailable") {
        None => return MaxUnavailable::Count(1),
        Some(Value::String(text)) => rules::percent(text).map(MaxUnavailable::Percent),
        Some(value) => value
            .as_i64()
            .filter(|count| rules::MAX_UNAVAILABLE.contains(count))
            .and_then(|count| u32::try_from(count).ok())
            .map(MaxUnavailable::Count),
    };
    found.unwrap_or_else(|| {
        let path = fields.path_of("maxUnavailable");
        fields.errors.add(&path, rules::MAX_UNAVAILABLE_MESSAGE);
        MaxUnavailable::Count(1)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
