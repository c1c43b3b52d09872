//! Actions become API calls, each under its precondition. Nothing is chosen here: an action that cannot be carried out ends the pass.

mod access;
mod slot;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Api;
use kube::api::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;
use rand::TryRng as _;
use rand::rngs::SysRng;
use serde_json::json;
use tracing::info;
use zeroize::Zeroize as _;

use super::calls::{self, CallError};
use super::context::Context;
use super::events::Happening;
use crate::api::cluster::RawCluster;
use crate::api::digest::hex;
use crate::api::ledger::Ledger;
use crate::api::names::{
    CONFIRMED_ANNOTATION, IN_USE_FINALIZER, MachineName, WITHDRAWN, join_token_name,
    known_hosts_name, kubeconfig_name, ledger_name, worker_token_name,
};
use crate::api::nio::{NixosConfiguration, NixosConfigurationKind};
use crate::plan::action::{Action, Child, Claim, Precondition, Token};
use crate::plan::desired::{TOKEN_KEY, owner_reference};
use crate::plan::observed::{LedgerView, Observed, labels};

/// Why an action was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ActError {
    /// An API call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The operating system gave no randomness.
    #[error("the operating system gives no random bytes")]
    Randomness,
    /// What the action needs is no longer at hand.
    #[error("{0}")]
    Lost(&'static str),
}

impl ActError {
    /// Whether the next pass, from fresh reads, is all that is needed.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        match self {
            Self::Call(error) => error.is_stale(),
            Self::Lost(_) => true,
            Self::Randomness => false,
        }
    }
}

/// What came of an action.
pub enum Outcome {
    /// It is done.
    Done,
    /// The cluster object was written.
    Cluster(Box<RawCluster>),
    /// The entry of a machine was taken: the ledger as that left it.
    Taken(MachineName, Precondition),
}

/// Carries actions out for one cluster.
pub struct Hand<'a> {
    /// The operator.
    pub context: &'a Context,
    /// What the plan was made from.
    pub observed: &'a Observed,
    /// The ledger that the plan rests on: as it was read, then as this hand wrote it.
    ledger: Mutex<Option<Precondition>>,
    taken_up: Instant,
}

impl<'a> Hand<'a> {
    /// A hand for one plan.
    #[must_use]
    pub fn new(context: &'a Context, observed: &'a Observed) -> Self {
        let ledger = match &observed.ledger {
            LedgerView::Ours(version, _) => Some(version.clone()),
            _ => None,
        };
        Self {
            context,
            observed,
            ledger: Mutex::new(ledger),
            taken_up: Instant::now(),
        }
    }

    /// Carries one action out.
    pub async fn act(&self, action: &Action) -> Result<Outcome, ActError> {
        match action {
            Action::Take {
                machine,
                ledger,
                taken,
                without_quorum,
            } => {
                self.update_ledger(ledger, taken).await?;
                if let Some(n) = without_quorum {
                    self.tell(&Happening::QuorumNotKept(machine.clone(), *n));
                }
                return Ok(Outcome::Taken(machine.clone(), self.rests_on()?));
            }
            // Only what was planned under an entry is written under it.
            Action::Disrupt(_) => return Err(ActError::Lost("the entry is not in hand")),
            Action::EndEntry {
                machine,
                child,
                ledger,
                after,
            } => self.end_entry(machine, child, ledger, after).await?,
            Action::Touch(machine, version) => drop(self.touch(machine, version).await?),
            Action::Rewrite(rewrite) => {
                self.ledger_stands().await?;
                self.rewrite(rewrite).await?;
            }
            Action::Withdraw(machine, version) => {
                let body = json!({"metadata": {"annotations": {CONFIRMED_ANNOTATION: WITHDRAWN}}});
                self.patch(machine.as_str(), version, body).await?;
            }
            Action::AskCluster => self.ask(),
            _ => return self.act_at_rest(action).await,
        }
        Ok(Outcome::Done)
    }

    /// Actions that disrupt nobody.
    async fn act_at_rest(&self, action: &Action) -> Result<Outcome, ActError> {
        match action {
            Action::AddFinalizer(version, finalizers) => self
                .finalizers(version, finalizers)
                .await
                .map(|written| Outcome::Cluster(Box::new(written))),
            Action::RemoveFinalizer(version, finalizers) => {
                self.finalizers(version, finalizers).await?;
                info!(cluster = %self.observed.cluster.name, namespace = %self.observed.cluster.namespace, "every machine is given back");
                Ok(Outcome::Done)
            }
            Action::CreateLedger(ledger) => {
                self.create_ledger(ledger).await.map(|()| Outcome::Done)
            }
            Action::UpdateLedger(version, ledger) => self
                .update_ledger(version, ledger)
                .await
                .map(|()| Outcome::Done),
            Action::CreateToken(token) => self.create_token(*token).await.map(|()| Outcome::Done),
            Action::Claim(claim) => self.claim(claim).await.map(|()| Outcome::Done),
            Action::GiveBack(name, version) => {
                self.give_back(name, version).await.map(|()| Outcome::Done)
            }
            Action::Confirm(machine, version, marker) => {
                let body =
                    json!({"metadata": {"annotations": {CONFIRMED_ANNOTATION: marker.as_str()}}});
                self.patch(machine.as_str(), version, body).await?;
                self.tell(&Happening::Confirmed(machine.clone()));
                Ok(Outcome::Done)
            }
            Action::TakeBack(name, version, metadata) => {
                let body = json!({ "metadata": metadata });
                self.patch(name, version, body).await?;
                Ok(Outcome::Done)
            }
            Action::FetchKubeconfig(machines) => self.fetch(machines).await.map(|()| Outcome::Done),
            Action::VerifyKubeconfig => {
                let cluster = &self.observed.cluster;
                self.context.background.start_verify(
                    self.cluster_ref(),
                    &cluster.uid,
                    cluster.namespace.clone(),
                    kubeconfig_name(&cluster.name),
                );
                Ok(Outcome::Done)
            }
            Action::PinHostKey => self.pin_host_key().await.map(|()| Outcome::Done),
            Action::StoreKubeconfig => self.store_kubeconfig().await.map(|()| Outcome::Done),
            Action::DeleteChild(child) => self.delete_child(*child).await.map(|()| Outcome::Done),
            Action::Take { .. }
            | Action::Disrupt(_)
            | Action::EndEntry { .. }
            | Action::Touch(..)
            | Action::Rewrite(_)
            | Action::Withdraw(..)
            | Action::AskCluster => Ok(Outcome::Done),
        }
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(
            self.context.client.clone(),
            &self.observed.cluster.namespace,
        )
    }

    /// Whether the cluster is an object's controller.
    fn owns<K: kube::Resource>(&self, object: &K) -> bool {
        let owners = object.owner_references();
        owners
            .iter()
            .any(|owner| owner.controller == Some(true) && owner.uid == self.observed.cluster.uid)
    }

    fn cluster_ref(&self) -> ObjectRef<RawCluster> {
        ObjectRef::new(&self.observed.cluster.name).within(&self.observed.cluster.namespace)
    }

    fn forget(&self, name: &str) {
        self.context
            .named
            .forget(&self.observed.cluster.namespace, name);
    }

    fn tell(&self, happening: &Happening) {
        self.context.events.tell(&self.observed.cluster, happening);
    }

    fn child_meta(&self, name: &str, finalizer: bool) -> Result<ObjectMeta, ActError> {
        let owner: OwnerReference = serde_json::from_value(owner_reference(&self.observed.cluster))
            .map_err(|_| ActError::Lost("the owner reference cannot be written"))?;
        Ok(ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(self.observed.cluster.namespace.clone()),
            labels: Some(labels(&self.observed.cluster.name)),
            owner_references: Some(vec![owner]),
            finalizers: finalizer.then(|| vec![IN_USE_FINALIZER.to_owned()]),
            ..ObjectMeta::default()
        })
    }

    async fn finalizers(
        &self,
        version: &Precondition,
        finalizers: &[String],
    ) -> Result<RawCluster, ActError> {
        let body = json!({"metadata": {"finalizers": finalizers}});
        Ok(calls::patch(
            &self.api::<RawCluster>(),
            &self.observed.cluster.name,
            version,
            body,
        )
        .await?)
    }

    async fn create_ledger(&self, ledger: &Ledger) -> Result<(), ActError> {
        let name = ledger_name(&self.observed.cluster.name);
        let map = ConfigMap {
            metadata: self.child_meta(&name, true)?,
            data: Some(ledger.to_data()),
            ..ConfigMap::default()
        };
        let created = calls::create(&self.api(), &map).await;
        self.forget(&name);
        self.rest_on(&created?);
        self.unless_gone::<ConfigMap>(&name).await
    }

    /// A child that was made after its cluster went would be held for ever by NICO's own finalizer: it is let go at once.
    async fn unless_gone<K>(&self, name: &str) -> Result<(), ActError>
    where
        K: calls::Object + kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
    {
        let cluster = &self.observed.cluster;
        let live = calls::get_opt(&self.api::<RawCluster>(), &cluster.name).await?;
        if live.is_some_and(|live| live.metadata.uid.as_deref() == Some(&cluster.uid)) {
            return Ok(());
        }
        self.delete_named::<K>(name).await?;
        Err(ActError::Lost("the cluster is gone"))
    }

    fn rest_on(&self, ledger: &ConfigMap) {
        *self.ledger.lock().unwrap_or_else(PoisonError::into_inner) = Some(version_of(ledger));
    }

    /// The ledger as this hand wrote it last.
    fn rests_on(&self) -> Result<Precondition, ActError> {
        let ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        ledger
            .clone()
            .ok_or(ActError::Lost("the ledger is not at hand"))
    }

    /// Whether nobody wrote the ledger since: else another operator may have begun another founding.
    async fn ledger_stands(&self) -> Result<(), ActError> {
        let expected = self
            .ledger
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let name = ledger_name(&self.observed.cluster.name);
        let found = calls::get_opt(&self.api::<ConfigMap>(), &name)
            .await?
            .map(|map| version_of(&map));
        if expected.is_none() || found != expected || self.taken_up.elapsed() > calls::CALL_TIMEOUT
        {
            self.forget(&name);
            return Err(ActError::Lost("the ledger changed since the plan was made"));
        }
        Ok(())
    }

    async fn update_ledger(&self, version: &Precondition, ledger: &Ledger) -> Result<(), ActError> {
        let name = ledger_name(&self.observed.cluster.name);
        let mut data: BTreeMap<String, Option<String>> = ledger
            .to_data()
            .into_iter()
            .map(|(key, value)| (key, Some(value)))
            .collect();
        if let LedgerView::Ours(_, old) = &self.observed.ledger {
            for key in old.to_data().into_keys() {
                data.entry(key).or_insert(None);
            }
        }
        let patched = calls::patch(
            &self.api::<ConfigMap>(),
            &name,
            version,
            json!({ "data": data }),
        )
        .await;
        self.forget(&name);
        self.rest_on(&patched?);
        Ok(())
    }

    async fn create_token(&self, token: Token) -> Result<(), ActError> {
        let name = match token {
            Token::Join => join_token_name(&self.observed.cluster.name),
            Token::Worker => worker_token_name(&self.observed.cluster.name),
        };
        let mut bytes = [0_u8; 32];
        SysRng
            .try_fill_bytes(&mut bytes)
            .map_err(|_| ActError::Randomness)?;
        let hex = hex(&bytes);
        bytes.zeroize();
        let mut secret = Secret {
            metadata: self.child_meta(&name, true)?,
            immutable: Some(true),
            data: Some(BTreeMap::from([(
                TOKEN_KEY.to_owned(),
                ByteString(hex.into_bytes()),
            )])),
            ..Secret::default()
        };
        let created = calls::create(&self.api(), &secret).await;
        for value in secret.data.iter_mut().flatten() {
            value.1.0.zeroize();
        }
        self.forget(&name);
        created?;
        self.unless_gone::<Secret>(&name).await
    }

    async fn claim(&self, claim: &Claim) -> Result<(), ActError> {
        self.ledger_stands().await?;
        self.post(claim).await
    }

    async fn post(&self, claim: &Claim) -> Result<(), ActError> {
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

    async fn give_back(&self, name: &str, version: &Precondition) -> Result<(), ActError> {
        calls::delete(&self.api::<NixosConfiguration>(), name, version).await?;
        info!(cluster = %self.observed.cluster.name, namespace = %self.observed.cluster.namespace, machine = %name, "given back");
        self.tell(&Happening::GivenBack(name.to_owned()));
        Ok(())
    }

    /// Only what is ours goes: a Secret that was adopted, and known hosts of the user's own, stay as they are.
    async fn delete_child(&self, child: Child) -> Result<(), ActError> {
        let cluster = &self.observed.cluster.name;
        match child {
            Child::JoinToken => self.delete_named::<Secret>(&join_token_name(cluster)).await,
            Child::WorkerToken => {
                self.delete_named::<Secret>(&worker_token_name(cluster))
                    .await
            }
            Child::Kubeconfig => self.delete_named::<Secret>(&kubeconfig_name(cluster)).await,
            Child::KnownHosts => {
                self.delete_named::<ConfigMap>(&known_hosts_name(cluster))
                    .await
            }
            Child::Ledger => self.delete_named::<ConfigMap>(&ledger_name(cluster)).await,
        }
    }

    async fn delete_named<K>(&self, name: &str) -> Result<(), ActError>
    where
        K: calls::Object + kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
    {
        let api = self.api::<K>();
        let Some(mut object) = calls::get_opt(&api, name).await? else {
            return Ok(());
        };
        let held = object
            .finalizers()
            .iter()
            .any(|finalizer| finalizer == IN_USE_FINALIZER);
        let leftover =
            held && object.meta().deletion_timestamp.is_some() && !self.observed.cluster.deleting;
        if !self.owns(&object) && !leftover {
            return Ok(());
        }
        self.forget(name);
        if object
            .finalizers()
            .iter()
            .any(|finalizer| finalizer == IN_USE_FINALIZER)
        {
            let others: Vec<&String> = object
                .finalizers()
                .iter()
                .filter(|finalizer| *finalizer != IN_USE_FINALIZER)
                .collect();
            let body = json!({"metadata": {"finalizers": others}});
            object = match calls::patch(&api, name, &version_of(&object), body).await {
                Err(CallError::Gone(_)) => return Ok(()),
                patched => patched?,
            };
        }
        if object.meta().deletion_timestamp.is_none() {
            calls::delete(&api, name, &version_of(&object)).await?;
        }
        Ok(())
    }
}

fn version_of<K: kube::Resource>(object: &K) -> Precondition {
    Precondition {
        uid: object.meta().uid.clone().unwrap_or_default(),
        resource_version: object.meta().resource_version.clone().unwrap_or_default(),
    }
}
