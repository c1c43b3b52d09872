//! Configurations: claimed, written anew, marked, given back (SPEC 3.2).

use rand::TryRng as _;
use rand::rngs::SysRng;
use serde_json::json;
use tracing::info;

use super::{ActError, Hand};
use crate::api::digest::hex;
use crate::api::names::{MachineName, TOUCHED_ANNOTATION};
use crate::api::nio::{NixosConfiguration, NixosConfigurationKind};
use crate::controller::calls;
use crate::controller::events::Happening;
use crate::plan::writes::{Claim, Precondition, Rewrite};

impl Hand<'_> {
    /// POSTs a configuration; the name lets exactly one cluster win (SPEC 2.3).
    pub(super) async fn post(&self, claim: &Claim) -> Result<(), ActError> {
        let configuration: NixosConfigurationKind = serde_json::from_value(claim.body.clone())
            .map_err(|_| ActError::Lost("the configuration cannot be written"))?;
        let NixosConfigurationKind { metadata, spec } =
            calls::create(&self.api(), &configuration).await?;
        self.context.stores.configurations.saw(NixosConfiguration {
            metadata,
            spec,
            status: None,
        });
        info!(cluster = %self.observed.cluster.name, namespace = %self.observed.cluster.namespace, machine = %claim.machine, marker = %claim.marker, "claimed");
        self.tell(&Happening::Claimed(claim.machine.clone(), claim.role));
        Ok(())
    }

    pub(super) async fn give_back(
        &self,
        name: &str,
        version: &Precondition,
    ) -> Result<(), ActError> {
        calls::delete(&self.api::<NixosConfiguration>(), name, version).await?;
        info!(cluster = %self.observed.cluster.name, namespace = %self.observed.cluster.namespace, machine = %name, "given back");
        self.tell(&Happening::GivenBack(name.to_owned()));
        Ok(())
    }

    pub(super) async fn rewrite(&self, rewrite: &Rewrite) -> Result<(), ActError> {
        let Rewrite {
            machine,
            version,
            marker,
            body,
        } = rewrite;
        self.patch(machine.as_str(), version, body.clone()).await?;
        info!(cluster = %self.observed.cluster.name, namespace = %self.observed.cluster.namespace, %machine, %marker, "written anew");
        self.tell(&Happening::Updating(machine.clone()));
        Ok(())
    }

    /// Gives a configuration a mark never used before; returns it as the API server answers.
    pub(super) async fn touch(
        &self,
        machine: &MachineName,
        version: &Precondition,
    ) -> Result<NixosConfiguration, ActError> {
        let metadata = json!({"annotations": {TOUCHED_ANNOTATION: fresh_value()?}});
        self.mark(machine.as_str(), version, &metadata).await
    }

    /// A quiet write: nothing but metadata of ours (SPEC 4.1).
    pub(super) async fn mark(
        &self,
        name: &str,
        version: &Precondition,
        metadata: &serde_json::Value,
    ) -> Result<NixosConfiguration, ActError> {
        self.patch(name, version, json!({ "metadata": metadata }))
            .await
    }

    async fn patch(
        &self,
        name: &str,
        version: &Precondition,
        body: serde_json::Value,
    ) -> Result<NixosConfiguration, ActError> {
        let api = self.api::<NixosConfiguration>();
        let configuration = calls::patch(&api, name, version, body).await?;
        self.context
            .stores
            .configurations
            .saw(configuration.clone());
        Ok(configuration)
    }
}

/// A value that nobody has used before.
fn fresh_value() -> Result<String, ActError> {
    let mut bytes = [0_u8; 8];
    SysRng
        .try_fill_bytes(&mut bytes)
        .map_err(|_| ActError::Randomness)?;
    Ok(hex(&bytes))
}
