//! Configurations: they are created, updated, annotated and deleted.

use rand::TryRng as _;
use rand::rngs::SysRng;
use tracing::info;

use super::{ActError, Executor};
use crate::api::digest::hex;
use crate::api::names::{MachineName, Marker};
use crate::api::nio::{NixosConfiguration, NixosConfigurationKind};
use crate::controller::calls;
use crate::controller::events::{Happening, Reach};
use crate::plan::action::{ConfigurationWrite, Mark};
use crate::plan::confirmed::Proof;
use crate::plan::writes::{Claim, Precondition, Rewrite};

/// How often a mark is written again where NIO wrote the configuration meanwhile. NIO makes two or three writes in a row.
const CROSSINGS: usize = 3;

impl Executor<'_> {
    /// POSTs a configuration. Since the name is the machine's, exactly one cluster can claim it.
    pub(super) async fn post(&self, claim: &Claim) -> Result<(), ActError> {
        let configuration: NixosConfigurationKind = serde_json::from_value(claim.body.render())
            .map_err(|_| ActError::Lost("the configuration cannot be written"))?;
        let NixosConfigurationKind { metadata, spec } =
            calls::create(&self.api(), &configuration).await?;
        self.context.stores.configurations.saw(NixosConfiguration {
            metadata,
            spec,
            status: None,
        });
        info!(machine = %claim.machine, marker = %claim.marker, "claimed");
        Ok(())
    }

    /// Tells which machines this executor has claimed, in one event for each role, and what it has taken back.
    pub(in crate::controller) fn emit_claims(&mut self) {
        let restored = std::mem::take(&mut self.restored);
        if !restored.is_empty() {
            self.emit(&Happening::TakenBack(restored));
        }
        for (role, machines) in std::mem::take(&mut self.claimed) {
            self.emit(&Happening::Claimed(machines, role));
        }
    }

    pub(super) async fn configuration(
        &mut self,
        write: &ConfigurationWrite,
    ) -> Result<(), ActError> {
        match write {
            ConfigurationWrite::Claim(claim) => self.claim_together(&[claim]).await.map(drop),
            ConfigurationWrite::Rewrite(rewrite) => {
                self.ledger_stands().await?;
                self.rewrite(rewrite).await
            }
            ConfigurationWrite::GiveBack(name, version) => {
                if !self.observed.cluster.deleting {
                    // Another operator may have found out meanwhile that the cluster is founded.
                    self.ledger_is_unchanged().await?;
                }
                self.give_back(name, version).await
            }
            ConfigurationWrite::Mark(name, version, mark) => {
                self.mark(name, version, mark).await?;
                if matches!(mark, Mark::Restored(_)) {
                    self.restored.push(format!("NixosConfiguration {name}"));
                }
                Ok(())
            }
        }
    }

    pub(super) async fn give_back(
        &self,
        name: &str,
        version: &Precondition,
    ) -> Result<(), ActError> {
        calls::delete(&self.api::<NixosConfiguration>(), name, version).await?;
        info!(machine = %name, "configuration deleted");
        let machine = MachineName::parse(name);
        let reach = if machine.is_some_and(|it| self.observed.discoverable(&it)) {
            Reach::Reached
        } else {
            Reach::NotReached
        };
        self.emit(&Happening::GivenBack(name.to_owned(), reach));
        Ok(())
    }

    pub(super) async fn rewrite(&self, rewrite: &Rewrite) -> Result<(), ActError> {
        let Rewrite {
            machine,
            version,
            marker,
            body,
        } = rewrite;
        self.patch(machine.as_str(), version, body.render()).await?;
        info!(%machine, %marker, "written again");
        self.emit(&Happening::Updating(machine.clone()));
        Ok(())
    }

    /// A quiet write; returns the configuration from the response.
    pub(super) async fn mark(
        &self,
        name: &str,
        version: &Precondition,
        mark: &Mark,
    ) -> Result<NixosConfiguration, ActError> {
        if matches!(mark, Mark::TakenBack(_)) {
            self.while_it_lives().await?;
        }
        if matches!(mark, Mark::Restored(_)) {
            self.while_unchanged().await?;
        }
        let body = mark.body(&fresh_value()?);
        let mut marked = self.patch(name, version, body.clone()).await;
        for _ in 0..CROSSINGS {
            if let (Mark::Confirmed(marker), Err(error)) = (mark, &marked)
                && error.is_stale()
                && let Some(version) = self.still_proved(name, marker).await?
            {
                // A new version may only mean that NIO annotated what it has just applied.
                marked = self.patch(name, &version, body.clone()).await;
            }
        }
        let marked = marked?;
        match mark {
            Mark::Confirmed(_) => self.emit(&Happening::Confirmed(name.to_owned())),
            Mark::Forced(_) => self.emit(&Happening::Forced(name.to_owned())),
            Mark::TakenBack(_)
            | Mark::Restored(_)
            | Mark::Withdrawn
            | Mark::Touched
            | Mark::Settled(_) => {}
        }
        Ok(marked)
    }

    /// The current version of a configuration, if NIO still proves this attempt of it.
    async fn still_proved(
        &self,
        name: &str,
        marker: &Marker,
    ) -> Result<Option<Precondition>, ActError> {
        let Some(now) = calls::get_opt(&self.api::<NixosConfiguration>(), name).await? else {
            return Ok(None);
        };
        let member = self.observed.as_member(&now);
        Ok(member
            .filter(|it| it.controlled && it.marker().as_ref() == Some(marker))
            .filter(|it| it.proof() == Some(Proof::OfHeld))
            .map(|it| it.version()))
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

/// A random value that was not used before.
fn fresh_value() -> Result<String, ActError> {
    let mut bytes = [0_u8; 8];
    SysRng
        .try_fill_bytes(&mut bytes)
        .map_err(|_| ActError::Randomness)?;
    Ok(hex(&bytes))
}
