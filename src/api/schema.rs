//! The rules of [`super::rules`] as the API server reads them: `OpenAPI` schemas and CEL rules, field by field.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool, ValidationRule,
};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::rules::{self, Check, CheckKind, Text};

impl Text {
    /// The schema of a string with this rule. The pattern stands beside the CEL rule of the same words for tools that know no CEL.
    ///
    /// The API server quotes the value in the message of either, so a text that may hold a secret gets neither here:
    /// [`Self::rules_from_parent`] gives it rules of the object around it, of which only the word "object" is quoted.
    fn schema(&self) -> Schema {
        let mut schema = json_schema!({
            "type": "string",
            "minLength": self.min,
            "maxLength": self.max,
        });
        if self.quotable {
            let rules: Vec<Value> = self
                .checks
                .iter()
                .map(|check| json!({ "rule": check.cel("self"), "message": check.message }))
                .collect();
            schema.insert("x-kubernetes-validations".to_owned(), json!(rules));
            let plain = |check: &&Check| check.kind == CheckKind::Matches;
            if let Some(check) = self.checks.iter().find(plain) {
                schema.insert("pattern".to_owned(), json!(check.pattern));
            }
        }
        schema
    }

    fn rules_from_parent(&self, field: &str) -> impl Iterator<Item = Value> {
        self.checks.iter().map(move |check| {
            json!({
                "rule": format!("!has(self.{field}) || {}", check.cel(&format!("self.{field}"))),
                "message": check.message,
                "fieldPath": format!(".{field}"),
            })
        })
    }
}

macro_rules! fields {
    ($($name:ident: $rule:ident),* $(,)?) => {
        $(pub(super) fn $name(_: &mut SchemaGenerator) -> Schema {
            rules::$rule.schema()
        })*
    };
}

fields! {
    git_repo: GIT_REPO,
    git_ref: GIT_REF,
    subdir: SUBDIR,
    kubeconfig_path: KUBECONFIG_PATH,
    secret_name: SECRET_NAME,
    host: HOST,
}

macro_rules! numbers {
    ($($name:ident: $rule:ident),* $(,)?) => {
        $(pub(super) fn $name(_: &mut SchemaGenerator) -> Schema {
            json_schema!({
                "type": "integer",
                "format": "int32",
                "minimum": rules::$rule.start(),
                "maximum": rules::$rule.end(),
            })
        })*
    };
}

numbers! {
    control_plane_count: CONTROL_PLANE_COUNT,
    data_plane_count: DATA_PLANE_COUNT,
    port: PORT,
    progress_deadline: PROGRESS_DEADLINE,
    drain_timeout: DRAIN_TIMEOUT,
}

fn machines(max: i64) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": max,
        "x-kubernetes-list-type": "set",
        "items": rules::DNS_LABEL.schema(),
    })
}

pub(super) fn control_plane_machines(_: &mut SchemaGenerator) -> Schema {
    machines(*rules::CONTROL_PLANE_COUNT.end())
}

pub(super) fn data_plane_machines(_: &mut SchemaGenerator) -> Schema {
    machines(*rules::DATA_PLANE_COUNT.end())
}

pub(super) fn max_unavailable(_: &mut SchemaGenerator) -> Schema {
    let rule = format!(
        "type(self) == int ? self >= {} && self <= {} : {}",
        rules::MAX_UNAVAILABLE.start(),
        rules::MAX_UNAVAILABLE.end(),
        rules::PERCENT.cel("self"),
    );
    json_schema!({
        "x-kubernetes-int-or-string": true,
        "x-kubernetes-validations": [{ "rule": rule, "message": rules::MAX_UNAVAILABLE_MESSAGE }],
    })
}

/// A `LabelSelector` (Kubernetes API reference), bounded so that the CEL rules stay within the API server's budget.
pub(super) fn selector(_: &mut SchemaGenerator) -> Schema {
    let keys: Vec<Value> = rules::LABEL_KEY
        .checks
        .iter()
        .map(|check| {
            json!({
                "rule": format!("self.all(key, {})", check.cel("key")),
                "message": format!("each key {}", check.message),
            })
        })
        .collect();
    json_schema!({
        "type": "object",
        "x-kubernetes-map-type": "atomic",
        "properties": {
            "matchLabels": {
                "description": "Labels that a Machine must have, with these values.",
                "type": "object",
                "maxProperties": rules::MAX_REQUIREMENTS,
                "additionalProperties": rules::LABEL_VALUE.schema(),
                "x-kubernetes-validations": keys,
            },
            "matchExpressions": {
                "description": "Further requirements; a Machine must meet all of them.",
                "type": "array",
                "maxItems": rules::MAX_REQUIREMENTS,
                "x-kubernetes-list-type": "atomic",
                "items": requirement(),
            },
        },
    })
}

fn requirement() -> Schema {
    let mut key = rules::LABEL_KEY.schema();
    key.insert("description".to_owned(), json!("Key of the label."));
    json_schema!({
        "type": "object",
        "required": ["key", "operator"],
        "properties": {
            "key": key,
            "operator": {
                "description": "How the label's value relates to values: In, NotIn, Exists or DoesNotExist.",
                "type": "string",
                "enum": ["In", "NotIn", "Exists", "DoesNotExist"],
            },
            "values": {
                "description": "Values for In and NotIn, at least one; none for Exists and DoesNotExist.",
                "type": "array",
                "maxItems": rules::MAX_VALUES,
                "x-kubernetes-list-type": "atomic",
                "items": rules::LABEL_VALUE.schema(),
            },
        },
        "x-kubernetes-validations": [{
            "rule": "self.operator in ['In', 'NotIn'] == (has(self.values) && size(self.values) > 0)",
            "message": rules::VALUES_MESSAGE,
        }],
    })
}

const LISTED: &str = "has(self.machines) && size(self.machines) > 0";

/// CEL rules of `controlPlane`.
pub(super) fn control_plane_rules() -> Value {
    json!([{
        "rule": format!("({LISTED}) || (has(self.machineSelector) && has(self.count))"),
        "message": rules::CONTROL_PLANE_MESSAGE,
    }])
}

/// CEL rules of `dataPlane`.
pub(super) fn data_plane_rules() -> Value {
    json!([{
        "rule": format!("({LISTED}) || has(self.machineSelector) == has(self.count) || (has(self.count) && self.count == 0)"),
        "message": rules::DATA_PLANE_MESSAGE,
    }])
}

/// CEL rules of the whole spec.
pub(super) fn spec_rules() -> Value {
    let workers = "self.dataPlane.machines";
    let roles = json!({
        "rule": format!(
            "!has(self.controlPlane.machines) || !has(self.dataPlane) || !has({workers}) || self.controlPlane.machines.all(name, !(name in {workers}))"
        ),
        "message": rules::BOTH_ROLES_MESSAGE,
        "messageExpression": format!(
            "'{}: ' + self.controlPlane.machines.filter(name, name in {workers})[0]",
            rules::BOTH_ROLES_MESSAGE
        ),
        "fieldPath": ".dataPlane.machines",
    });
    rules::GIT_REPO
        .rules_from_parent("gitRepo")
        .chain([roles])
        .collect()
}

/// The rule on the cluster's own name, at the root of the schema, where alone the API server allows one. It is asked at creation
/// only: a name never changes, and a rule of the root is asked at every write of the status, even where nothing it reads changed.
pub(super) fn restrict_name(root: &mut JSONSchemaProps) {
    let name = &rules::DNS_LABEL;
    let pattern = name.checks.first().map(|check| check.pattern.to_owned());
    root.properties.get_or_insert_default().insert(
        "metadata".to_owned(),
        JSONSchemaProps {
            type_: Some("object".to_owned()),
            properties: Some(
                [(
                    "name".to_owned(),
                    JSONSchemaProps {
                        type_: Some("string".to_owned()),
                        max_length: i64::try_from(name.max).ok(),
                        pattern,
                        ..JSONSchemaProps::default()
                    },
                )]
                .into(),
            ),
            ..JSONSchemaProps::default()
        },
    );
    let rules = name.checks.iter().map(|check| ValidationRule {
        rule: format!("oldSelf.hasValue() || {}", check.cel("self.metadata.name")),
        message: Some(format!("metadata.name {}", check.message)),
        optional_old_self: Some(true),
        ..ValidationRule::default()
    });
    root.x_kubernetes_validations
        .get_or_insert_default()
        .extend(rules);
}

/// Makes a generated schema plain for the API server: null means absent in every field, as everywhere in Kubernetes' own
/// types, and Rust's unsigned formats, of which the API server warns, become its own.
pub(super) fn tidy(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    schema.format = match schema.format.take().as_deref() {
        Some("uint32") => Some("int32".to_owned()),
        other => other.map(str::to_owned),
    };
    for property in schema
        .properties
        .iter_mut()
        .flat_map(|all| all.values_mut())
    {
        tidy(property);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        tidy(items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        tidy(values);
    }
}
