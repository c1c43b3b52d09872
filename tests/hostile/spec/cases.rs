//! What a hostile case is, and all of them.

use serde_json::{Value, json};

use crate::spec::{structure, texts};

/// One spec to be refused.
pub(crate) struct Case {
    /// For the report of a failure.
    pub(crate) what: String,
    /// Name of the cluster.
    pub(crate) name: String,
    pub(crate) spec: Value,
    /// The field that both refusals name.
    pub(crate) field: String,
}

/// All of them.
pub(crate) fn hostile() -> Vec<Case> {
    let mut cases = texts::cases();
    cases.extend(structure::cases());
    cases
}

/// The smallest good spec with these fields on top.
pub(crate) fn with(fields: Value) -> Value {
    let mut spec = json!({ "controlPlane": { "machines": ["cp-01"] } });
    if let (Some(spec), Value::Object(fields)) = (spec.as_object_mut(), fields) {
        spec.extend(fields);
    }
    spec
}

/// A spec, of which `field` is refused.
pub(crate) fn case(field: &str, spec: Value) -> Case {
    let shown: String = spec.to_string().chars().take(160).collect();
    Case {
        what: format!("{field} {shown}"),
        name: "prod".to_owned(),
        spec,
        field: field.to_owned(),
    }
}

/// The smallest good spec with a value in the place that `field` names.
pub(crate) fn at(field: &str, value: Value) -> Case {
    let mut nested = value;
    let path: Vec<&str> = field.split('.').skip(1).collect();
    for key in path.iter().rev() {
        nested = json!({ *key: nested });
    }
    case(field, with(nested))
}

/// As [`at`], for each of several values.
pub(crate) fn each<'a>(
    field: &'a str,
    values: impl IntoIterator<Item = Value, IntoIter: 'a>,
) -> impl Iterator<Item = Case> + 'a {
    values.into_iter().map(move |value| at(field, value))
}
