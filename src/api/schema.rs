//! The rules of [`super::rules`] as the API server reads them: `OpenAPI` schemas and CEL rules, field by field.

use std::ops::RangeInclusive;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool, ValidationRule,
};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::rules::{self, PoolRule, Text};

/// What the API server checks of a text, in CEL alone: a `pattern` with the same expression would refuse the same value twice, with a
/// message that shows a regular expression.
///
/// The API server quotes the value in the message, so a text that may hold a secret gets no rules here: [`spec_rules`]
/// gives it rules of the object around it, of which only the word "object" is quoted.
fn bounds_of(text: &Text) -> Value {
    let mut bounds = json!({ "minLength": text.length.start(), "maxLength": text.length.end() });
    if text.quotable {
        let rules = text.checks.iter();
        bounds["x-kubernetes-validations"] = rules
            .map(|check| json!({ "rule": check.cel("self"), "message": check.message }))
            .collect();
    }
    bounds
}

fn bounds_of_number(limits: &RangeInclusive<i64>) -> Value {
    json!({ "format": "int32", "minimum": limits.start(), "maximum": limits.end() })
}

/// Adds keywords to the schemas at these pointers.
fn extend<const N: usize>(schema: &mut Schema, keywords: [(&str, Value); N]) {
    for (pointer, more) in keywords {
        if let (Some(Value::Object(at)), Value::Object(more)) = (schema.pointer_mut(pointer), more)
        {
            at.extend(more);
        }
    }
}

/// Bounds of a text.
pub(super) fn text(rule: &Text) -> impl FnMut(&mut Schema) {
    move |schema| extend(schema, [("", bounds_of(rule))])
}

/// Bounds of a number.
pub(super) fn number(limits: &RangeInclusive<i64>) -> impl FnMut(&mut Schema) {
    move |schema| extend(schema, [("", bounds_of_number(limits))])
}

/// What a role may ask for.
pub(super) fn pool(rule: &PoolRule) -> impl FnMut(&mut Schema) {
    move |schema| {
        let together = json!([{ "rule": rule.cel, "message": rule.message }]);
        let list = json!({ "maxItems": rule.count.end(), "x-kubernetes-list-type": "set" });
        extend(
            schema,
            [
                ("", json!({ "x-kubernetes-validations": together })),
                ("/properties/machines", list),
                ("/properties/machines/items", bounds_of(&rules::DNS_LABEL)),
                ("/properties/count", bounds_of_number(&rule.count)),
            ],
        );
    }
}

/// Bounds a `LabelSelector` so that the CEL rules stay within the API server's budget.
pub(super) fn selector(schema: &mut Schema) {
    let keys = rules::LABEL_KEY.checks.iter().map(|check| {
        json!({
            "rule": format!("self.all(key, {})", check.cel("key")),
            "message": format!("each key {}", check.message),
        })
    });
    let labels = json!({
        "maxProperties": rules::MAX_REQUIREMENTS,
        "x-kubernetes-validations": keys.collect::<Value>(),
    });
    let requirement = json!([{
        "rule": "self.operator in ['In', 'NotIn'] == (has(self.values) && size(self.values) > 0)",
        "message": rules::VALUES_MESSAGE,
    }]);
    let list = |max: usize| json!({ "maxItems": max, "x-kubernetes-list-type": "atomic" });
    let items = "/properties/matchExpressions/items";
    let of_items = |rest: &str| format!("{items}/properties/{rest}");
    extend(
        schema,
        [
            ("", json!({ "x-kubernetes-map-type": "atomic" })),
            ("/properties/matchLabels", labels),
            (
                "/properties/matchLabels/additionalProperties",
                bounds_of(&rules::LABEL_VALUE),
            ),
            (
                "/properties/matchExpressions",
                list(rules::MAX_REQUIREMENTS),
            ),
            (items, json!({ "x-kubernetes-validations": requirement })),
            (&of_items("key"), bounds_of(&rules::LABEL_KEY)),
            (&of_items("operator"), json!({ "enum": rules::OPERATORS })),
            (&of_items("values"), list(rules::MAX_VALUES)),
            (&of_items("values/items"), bounds_of(&rules::LABEL_VALUE)),
        ],
    );
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
    let repository = rules::GIT_REPO.checks.iter().map(|check| {
        json!({
            "rule": format!("!has(self.gitRepo) || {}", check.cel("self.gitRepo")),
            "message": check.message,
            "fieldPath": ".gitRepo",
        })
    });
    repository.chain([roles]).collect()
}

/// The rule on the cluster's own name, at the root of the schema, where alone the API server allows one. It is asked at creation
/// only: a name never changes, and a rule of the root is asked at every write of the status, even where nothing it reads changed.
pub(super) fn restrict_name(root: &mut JSONSchemaProps) {
    let name = &rules::DNS_LABEL;
    let string = JSONSchemaProps {
        type_: Some("string".to_owned()),
        max_length: i64::try_from(*name.length.end()).ok(),
        ..JSONSchemaProps::default()
    };
    let metadata = JSONSchemaProps {
        type_: Some("object".to_owned()),
        properties: Some([("name".to_owned(), string)].into()),
        ..JSONSchemaProps::default()
    };
    let properties = root.properties.get_or_insert_default();
    properties.insert("metadata".to_owned(), metadata);
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

/// Gives the status of an object that NICO has not looked at yet a generation that no object has. Without it, tools that follow
/// kstatus (Flux, Helm) take an object without conditions for done.
pub(super) fn default_observed_generation(root: &mut JSONSchemaProps) {
    const FIELD: &str = "observedGeneration";
    let property = |schema: &mut JSONSchemaProps, name: &str, default: Value| {
        let property = schema.properties.as_mut()?.get_mut(name)?;
        property.default = Some(JSON(default));
        Some(())
    };
    // The default of a field applies only where the object around it is there, which has a default, too.
    if property(root, "status", json!({ FIELD: -1 })).is_some()
        && let Some(properties) = &mut root.properties
        && let Some(status) = properties.get_mut("status")
    {
        property(status, FIELD, json!(-1));
    }
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
