//! Merge patches on configurations, as the API server applies them.

use nico::api::nio::NixosConfiguration;
use nico::plan::observed::controller;
use nico::plan::writes::Precondition;
use serde_json::{Value, json};

use crate::world::{Refused, World, as_stored, edit};

impl World {
    /// A merge patch on a configuration of the cluster's own.
    pub(super) fn merge(
        &mut self,
        name: &str,
        at: &Precondition,
        owner: &str,
        body: &Value,
    ) -> Result<(), Refused> {
        self.at(name, at, owner)?;
        self.merge_into(name, body);
        Ok(())
    }

    /// A change of the spec is a new generation.
    pub(super) fn merge_into(&mut self, name: &str, body: &Value) {
        let (version, nio) = (self.count(), self.nio);
        let configuration = self.configuration(name);
        let mut object = serde_json::to_value(&*configuration).unwrap();
        json_merge(&mut object, body);
        let mut merged: NixosConfiguration = serde_json::from_value(object).unwrap();
        edit(&mut merged.spec, |it| as_stored(nio, it));
        let meta = &mut merged.metadata;
        meta.resource_version = Some(version.to_string());
        if merged.spec != configuration.spec {
            meta.generation = meta.generation.map(|generation| generation + 1);
        }
        *configuration = merged;
    }

    pub(super) fn at(
        &mut self,
        name: &str,
        at: &Precondition,
        owner: &str,
    ) -> Result<&mut NixosConfiguration, Refused> {
        let configuration = self.configurations.get_mut(name).ok_or(Refused)?;
        assert!(
            controller(&configuration.metadata).is_some_and(|controller| controller.uid == owner),
            "an object that the cluster does not own is never written"
        );
        (Precondition::of(&configuration.metadata) == *at)
            .then_some(configuration)
            .ok_or(Refused)
    }
}

/// JSON merge patch (RFC 7386).
fn json_merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        target.clone_from(patch);
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let Some(object) = target.as_object_mut() else {
        return;
    };
    for (field, value) in fields {
        if value.is_null() {
            object.remove(field);
        } else {
            json_merge(object.entry(field).or_insert(Value::Null), value);
        }
    }
}
