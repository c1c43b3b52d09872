//! The mirrors of SSH keys (SPEC 3.1).

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::ResourceExt as _;
use serde_json::{Value, json};
use zeroize::Zeroize as _;

use super::configuration::fresh_value;
use super::{ActError, Hand, version_of};
use crate::api::ledger::mirrors_in;
use crate::api::names::{
    MachineName, TOUCHED_ANNOTATION, ledger_name, mirrored_machine, ssh_mirror_name,
};
use crate::api::nio::SSH_KEY;
use crate::controller::calls;
use crate::controller::key_source::KeySource;
use crate::plan::writes::Precondition;

impl Hand<'_> {
    /// Writes the mirror of a machine's key as its own Secret holds it now.
    pub(super) async fn write_mirror(
        &self,
        machine: &MachineName,
        version: Option<&Precondition>,
    ) -> Result<(), ActError> {
        let cluster = &self.observed.cluster;
        let source = self
            .observed
            .machines
            .get(machine)
            .and_then(|object| KeySource::of(object, self.observed.nio, &cluster.namespace))
            .ok_or(ActError::Lost("the Machine names no SSH key any more"))?;
        let key = source
            .read(&self.context.client, &cluster.namespace)
            .await?
            .ok_or(ActError::Lost("the SSH key is no longer there"))?;
        let name = ssh_mirror_name(machine);
        let mut metadata = self.child_meta(&name, true)?;
        // A write that changes nothing keeps the version, and what was decided before it would not fail.
        let touched = (TOUCHED_ANNOTATION.to_owned(), fresh_value()?);
        metadata.annotations = Some(BTreeMap::from([touched]));
        let mut secret = Secret {
            metadata,
            data: Some(BTreeMap::from([(
                SSH_KEY.to_owned(),
                ByteString(key.expose().as_bytes().to_vec()),
            )])),
            ..Secret::default()
        };
        let written = self.put_mirror(&name, &secret, version).await;
        for value in secret.data.iter_mut().flatten() {
            value.1.0.zeroize();
        }
        self.forget(&name);
        written
    }

    async fn put_mirror(
        &self,
        name: &str,
        secret: &Secret,
        version: Option<&Precondition>,
    ) -> Result<(), ActError> {
        let api = self.api::<Secret>();
        let Some(version) = version else {
            // The ledger names it, and still does.
            self.ledger_stands().await?;
            calls::create(&api, secret).await?;
            return self.unless_gone::<Secret>(name).await;
        };
        let Some(found) = calls::get_opt(&api, name).await? else {
            return Err(ActError::Lost("the mirror of an SSH key is gone"));
        };
        let mut body = serde_json::to_value(secret)
            .map_err(|_| ActError::Lost("the mirror of an SSH key cannot be written"))?;
        // Nothing but the one value is in it; finalizers of others stay.
        for key in found.data.iter().flatten().map(|(key, _)| key) {
            if key != SSH_KEY {
                body["data"][key] = Value::Null;
            }
        }
        let mut finalizers: BTreeSet<String> = found
            .metadata
            .finalizers
            .iter()
            .flatten()
            .cloned()
            .collect();
        finalizers.extend(secret.metadata.finalizers.iter().flatten().cloned());
        let own = &body["metadata"];
        body["metadata"] = json!({
            "labels": own["labels"], "annotations": own["annotations"], "finalizers": finalizers
        });
        calls::patch(&api, name, version, body).await?;
        Ok(())
    }

    /// Lets this version of a mirror go, to which nothing refers.
    pub(super) async fn drop_mirror(
        &self,
        machine: &MachineName,
        version: &Precondition,
    ) -> Result<(), ActError> {
        let (name, api) = (ssh_mirror_name(machine), self.api::<Secret>());
        self.while_it_lives().await?;
        self.forget(&name);
        let Some(found) = calls::get_opt(&api, &name).await? else {
            return Ok(());
        };
        if self.is_too_old() || version_of(&found) != *version {
            return Err(ActError::Lost("the mirror of an SSH key changed meanwhile"));
        }
        match self.without_in_use(&name, found).await? {
            Some(left) if left.metadata.deletion_timestamp.is_none() => {
                Ok(calls::delete(&api, &name, &version_of(&left)).await?)
            }
            _ => Ok(()),
        }
    }

    /// The mirrors that there may be, but for those of machines whose configuration is still there: those that the ledger names;
    /// without one that can be read, one of each machine that the status tells of, and of each Machine of the namespace.
    pub(super) async fn mirror_names(&self) -> Result<Vec<String>, ActError> {
        let cluster = &self.observed.cluster;
        let map = calls::get_opt(&self.api::<ConfigMap>(), &ledger_name(&cluster.name)).await?;
        // An orphaning deletion may have taken its owner already.
        let is_ours = |map: &ConfigMap| {
            let mut owners = map.owner_references().iter();
            self.owns(map) || !owners.any(|owner| owner.controller == Some(true))
        };
        let named = map
            .filter(is_ours)
            .and_then(|map| mirrors_in(map.data.as_ref()?));
        let mut machines: BTreeSet<MachineName> = if let Some(named) = named {
            named.iter().filter_map(|it| mirrored_machine(it)).collect()
        } else {
            let held = &self.context.stores.machines;
            let all = held.filter(&cluster.namespace, |_| true);
            let all = all.iter().map(|machine| machine.name_any());
            let told = cluster.status.machines.iter().map(|row| row.name.clone());
            all.chain(told)
                .filter_map(|name: String| MachineName::parse(&name))
                .collect()
        };
        machines.retain(|machine| {
            let held = self.observed.configurations.get(machine.as_str());
            !held.is_some_and(|held| self.observed.owns(held))
        });
        Ok(machines.iter().map(ssh_mirror_name).collect())
    }
}
