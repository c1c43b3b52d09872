//! Writes through the slot, and what ends an entry (SPEC 4.2). Each insists on the version that the plan rests on.

use rand::TryRng as _;
use rand::rngs::SysRng;
use serde_json::json;
use tracing::info;

use super::{ActError, Hand};
use crate::api::digest::hex;
use crate::api::ledger::Ledger;
use crate::api::names::{MachineName, TOUCHED_ANNOTATION};
use crate::api::nio::NixosConfiguration;
use crate::controller::calls::{self, CALL_TIMEOUT};
use crate::controller::events::Happening;
use crate::controller::observe::{now, question};
use crate::plan::action::{Precondition, Rewrite};
use crate::plan::observed::Word;
use crate::plan::slot::{Deed, Disruptive, is_settled};

impl Hand<'_> {
    /// A write under the entry that this hand's plan was made with; everything that the plan rests on was read just before.
    pub(in crate::controller) async fn disrupt(
        &self,
        disruptive: &Disruptive,
    ) -> Result<(), ActError> {
        // A process that slept meanwhile must not act on what it decided before: the wait for late requests counts on it.
        if self.taken_up.elapsed() > CALL_TIMEOUT {
            return Err(ActError::Lost("too much time passed since it was decided"));
        }
        match disruptive.deed() {
            Deed::Rewrite(rewrite) => self.rewrite(rewrite).await,
            Deed::Join(claim) => self.post(claim).await,
            Deed::DeleteNode { name, uid } => {
                let question = question(&self.context.client, self.observed).await?;
                let question = question.map_err(ActError::Lost)?;
                if !question.delete_node(name, uid).await {
                    return Err(ActError::Lost(
                        "no API server of the cluster took the deletion of the Node",
                    ));
                }
                self.tell(&Happening::NodeDeleted(
                    disruptive.machine().clone(),
                    name.clone(),
                ));
                Ok(())
            }
        }
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
        let mut bytes = [0_u8; 8];
        SysRng
            .try_fill_bytes(&mut bytes)
            .map_err(|_| ActError::Randomness)?;
        let body = json!({"metadata": {"annotations": {TOUCHED_ANNOTATION: hex(&bytes)}}});
        self.patch(machine.as_str(), version, body).await
    }

    /// Touches the child; where the answer shows it settled, the entry goes, by the ledger of before the touch.
    pub(super) async fn end_entry(
        &self,
        machine: &MachineName,
        child: &Precondition,
        ledger: &Precondition,
        after: &Ledger,
    ) -> Result<(), ActError> {
        let answer = self.touch(machine, child).await?;
        if !self.observed.owns(&answer) || !is_settled(self.observed, &answer, now()) {
            return Err(ActError::Lost("the machine is in flight again"));
        }
        self.update_ledger(ledger, after).await
    }

    /// Asks the cluster how its machines are, in the background.
    pub(super) fn ask(&self) {
        let (client, observed) = (self.context.client.clone(), self.observed.clone());
        let uid = observed.cluster.uid.clone();
        self.context
            .background
            .start_ask(self.cluster_ref(), &uid, async move {
                match question(&client, &observed).await.ok()? {
                    Ok(question) => Some(question.ask().await),
                    Err(why) => Some(Word::Silent(why.to_owned())),
                }
            });
    }

    pub(super) async fn patch(
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
