//! Carries out actions as API calls, each with its precondition. It makes no decisions: an action that fails ends the pass.

mod access;
mod children;
mod configuration;
mod ledger;
mod slot;
pub mod together;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Api;
use kube::runtime::reflector::ObjectRef;
use serde_json::json;
use tracing::info;

use together::Birth;

use super::calls::{self, CallError};
use super::clock::TakenUp;
use super::context::Context;
use super::events::Happening;
use super::pass::Pass;
use crate::api::cluster::RawCluster;
use crate::api::names::{IN_USE_FINALIZER, MachineName};
use crate::api::status::Role;
use crate::plan::action::{Action, FinalizerWrite, LedgerWrite, NodeWork, Notice, SlotWrite};
use crate::plan::desired::owner_reference;
use crate::plan::observed::{LedgerView, Observed, controller, labels};
use crate::plan::writes::Precondition;

/// Why an action was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ActError {
    /// An API call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The operating system gave no randomness.
    #[error("the operating system gives no random bytes")]
    Randomness,
    /// Something that the action needs is no longer available.
    #[error("{0}")]
    Lost(&'static str),
}

impl ActError {
    /// Whether another pass from fresh reads is enough to recover.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        match self {
            Self::Call(error) => error.is_stale(),
            Self::Lost(_) => true,
            Self::Randomness => false,
        }
    }
}

/// Outcome of an action.
pub enum Outcome {
    /// It is done.
    Done,
    /// The cluster object was written.
    Cluster(Box<RawCluster>),
    /// The entries of these machines were taken; the ledger's version after that.
    Taken(Vec<MachineName>, Precondition),
}

/// Carries out actions for one cluster.
pub struct Executor<'a> {
    /// The pass.
    pub pass: &'a Pass<'a>,
    /// The operator.
    pub context: &'a Context,
    /// The observed state from which the plan was made.
    pub observed: &'a Observed,
    /// The same, shared with background work once some was started.
    shared: OnceLock<Arc<Observed>>,
    /// The version of the ledger on which the plan is based: as it was read, then as this executor wrote it.
    ledger: Option<Precondition>,
    taken_up: TakenUp,
    /// Claimed machines for which no event was published yet.
    claimed: BTreeMap<Role, Vec<MachineName>>,
    /// What it has taken back of an earlier cluster, for which no event was published yet.
    restored: Vec<String>,
}

impl<'a> Executor<'a> {
    /// An executor for one plan.
    #[must_use]
    pub fn new(pass: &'a Pass<'a>, observed: &'a Observed) -> Self {
        let ledger = match &observed.ledger {
            LedgerView::Ours(version, _) => Some(version.clone()),
            _ => None,
        };
        Self {
            pass,
            context: pass.context,
            observed,
            shared: OnceLock::new(),
            ledger,
            taken_up: TakenUp::now(),
            claimed: BTreeMap::new(),
            restored: Vec::new(),
        }
    }

    /// Carries out one action.
    pub async fn act(&mut self, action: &Action) -> Result<Outcome, ActError> {
        match action {
            Action::Finalizer(write) => return self.finalizer(write).await,
            Action::Slot(SlotWrite::Take {
                machines,
                ledger,
                taken,
                without_quorum,
            }) => {
                let taken = self.take(machines, ledger, taken, *without_quorum).await?;
                return Ok(Outcome::Taken(machines.clone(), taken));
            }
            Action::Slot(SlotWrite::End {
                children,
                ledger,
                before,
            }) => self.end_entries(children, ledger, before).await?,
            // Disruptive writes are carried out by [`Self::disrupt`], with the entry for which they were planned.
            Action::Disrupt(_) => return Err(ActError::Lost("the machine has no entry")),
            Action::Ledger(LedgerWrite::Create(ledger)) => {
                return self.create_together(&[Birth::Ledger(ledger)]).await;
            }
            Action::Ledger(LedgerWrite::Update(version, ledger)) => {
                self.update_ledger(version, ledger).await?;
            }
            Action::Configuration(write) => self.configuration(write).await?,
            Action::Child(write) => self.child(write).await?,
            Action::Node(NodeWork::Evict(node)) => self.evict(node),
            Action::Node(NodeWork::Undrain {
                machine,
                name,
                uid,
                cordoned,
            }) => self.undrain(machine, name, uid, *cordoned).await?,
            Action::Kubeconfig(work) => self.kubeconfig(work).await?,
            Action::ProbeWorkload => self.ask(),
            Action::Notify(Notice::LeftBehind(machine)) => {
                self.emit(&Happening::LeftBehind(machine.clone()));
            }
            Action::Notify(Notice::NodeStays(machine)) => {
                self.emit(&Happening::NodeStays(machine.clone()));
            }
            Action::Notify(Notice::MemberStays(machine)) => {
                self.emit(&Happening::MemberStays(machine.clone()));
            }
        }
        Ok(Outcome::Done)
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

    /// Whether the cluster is the controller of an object.
    fn controls<K: kube::Resource>(&self, object: &K) -> bool {
        controller(object.meta()).is_some_and(|owner| owner.uid == self.observed.cluster.uid)
    }

    fn cluster_ref(&self) -> ObjectRef<RawCluster> {
        ObjectRef::new(&self.observed.cluster.name).within(&self.observed.cluster.namespace)
    }

    fn forget(&self, name: &str) {
        self.context
            .named
            .forget(&self.observed.cluster.namespace, name);
    }

    fn emit(&self, happening: &Happening) {
        self.context.events.emit(&self.observed.cluster, happening);
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

    async fn finalizer(&self, write: &FinalizerWrite) -> Result<Outcome, ActError> {
        let (FinalizerWrite::Add(version, finalizers)
        | FinalizerWrite::Remove(version, finalizers)) = write;
        let cluster = &self.observed.cluster;
        let body = json!({"metadata": {"finalizers": finalizers}});
        let api = self.api::<RawCluster>();
        let written = calls::patch(&api, &cluster.name, version, body).await?;
        if matches!(write, FinalizerWrite::Add(..)) {
            return Ok(Outcome::Cluster(Box::new(written)));
        }
        info!("every machine is released");
        Ok(Outcome::Done)
    }
}
