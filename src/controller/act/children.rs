//! Children that are not configurations: they are created once, and deleted when nothing refers to them.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{ListParams, ResourceExt as _};
use rand::TryRng as _;
use rand::rngs::SysRng;
use serde_json::json;
use zeroize::Zeroize as _;

use super::together::Birth;
use super::{ActError, Executor};
use crate::api::cluster::RawCluster;
use crate::api::digest::hex;
use crate::api::names::{
    IN_USE_FINALIZER, ORPHAN_FINALIZER, join_token_name, known_hosts_name, kubeconfig_name,
    ledger_name, worker_token_name,
};
use crate::api::nio::NixosConfiguration;
use crate::controller::calls::{self, CallError};
use crate::plan::action::ChildWrite;
use crate::plan::desired::{TOKEN_KEY, restored_metadata};
use crate::plan::facts::ObjectFacts;
use crate::plan::observed::controller;
use crate::plan::parting::{Parting, parting};
use crate::plan::writes::{Child, Precondition, Token};

/// How often NICO tries to let go of a child of a cluster that is gone. The garbage collector changes it at the same moment, and no later
/// pass would try again.
const ATTEMPTS: usize = 5;

/// A child's kind and name.
enum ChildObject {
    Secret(String),
    ConfigMap(String),
}

impl Executor<'_> {
    pub(super) async fn child(&mut self, write: &ChildWrite) -> Result<(), ActError> {
        match write {
            ChildWrite::CreateToken(token) => self
                .create_together(&[Birth::Token(*token)])
                .await
                .map(drop),
            ChildWrite::AddFinalizer(child, version) => self.add_finalizer(*child, version).await,
            ChildWrite::TakeBack(child, version) => self.take_back(*child, version).await,
            ChildWrite::LetGo(child) => self.let_go(*child).await,
            ChildWrite::Delete(child) => self.delete_child(*child).await,
        }
    }

    /// The caller sees to it that it does not stay behind: [`Self::unless_gone`].
    pub(super) async fn create_token(&self, token: Token) -> Result<(), ActError> {
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
        self.context.named.saw_secret(created?);
        Ok(())
    }

    /// Lets go of children that were just written if the cluster is gone, or is being deleted. No later pass may look for such a child, and
    /// NICO's finalizer would keep it forever. While a configuration is left, they are the deletion's, since NIO may need them. An orphaning
    /// deletion leaves them as they are but for the finalizer.
    pub(super) async fn unless_gone(&self, written: &[Child]) -> Result<(), ActError> {
        if written.is_empty() {
            return Ok(());
        }
        let orphans = match self.live_cluster().await? {
            Some(live) if live.metadata.deletion_timestamp.is_none() => return Ok(()),
            Some(live) if live.finalizers().iter().any(|it| it == ORPHAN_FINALIZER) => true,
            Some(_) if self.has_configurations().await? => {
                return Err(ActError::Lost("the cluster is being deleted"));
            }
            Some(_) | None => false,
        };
        let part = async |child: Child| {
            if orphans {
                self.let_go(child).await
            } else {
                self.delete_object_of(child, false).await
            }
        };
        let mut failed = None;
        for child in written {
            let mut outcome = part(*child).await;
            for _ in 1..ATTEMPTS {
                if !outcome.as_ref().is_err_and(ActError::is_stale) {
                    break;
                }
                outcome = part(*child).await;
            }
            failed = failed.or(outcome.err());
        }
        Err(failed.unwrap_or(ActError::Lost("the cluster is gone")))
    }

    /// Whether any configuration belongs to the cluster.
    async fn has_configurations(&self) -> Result<bool, ActError> {
        let mut found = false;
        let all = ListParams::default();
        calls::list_metadata(&self.api::<NixosConfiguration>(), &all, |meta| {
            found |= controller(&meta).is_some_and(|it| it.uid == self.observed.cluster.uid);
        })
        .await?;
        Ok(found)
    }

    /// Ends the pass if the deletion of the cluster has begun. What was read before would be misinterpreted: the garbage collector removes
    /// owner references in an orphaning deletion, and marks children in a foreground deletion.
    pub(super) async fn while_it_lives(&self) -> Result<(), ActError> {
        if self.lives().await? {
            Ok(())
        } else {
            Err(ActError::Lost("the cluster is being deleted"))
        }
    }

    /// Ends the pass where the deletion of the cluster has begun, or its spec changed: it may no longer be paused.
    pub(super) async fn while_unchanged(&self) -> Result<(), ActError> {
        let generation = self.observed.cluster.generation;
        match self.living().await? {
            Some(live) if live.metadata.generation == Some(generation) => Ok(()),
            _ => Err(ActError::Lost(
                "the cluster changed since the plan was made",
            )),
        }
    }

    async fn lives(&self) -> Result<bool, ActError> {
        Ok(self.living().await?.is_some())
    }

    /// The cluster as it is now; `None` where its deletion has begun.
    async fn living(&self) -> Result<Option<RawCluster>, ActError> {
        let live = self.live_cluster().await?;
        Ok(live.filter(|live| live.metadata.deletion_timestamp.is_none()))
    }

    /// The cluster as it is now; `None` where it is gone, whatever has its name by now.
    async fn live_cluster(&self) -> Result<Option<RawCluster>, ActError> {
        let cluster = &self.observed.cluster;
        let live = calls::get_opt(&self.api::<RawCluster>(), &cluster.name).await?;
        Ok(live.filter(|live| live.metadata.uid.as_deref() == Some(&cluster.uid)))
    }

    /// Deletes a child that NICO owns. An adopted Secret and the user's own known hosts stay as they are.
    async fn delete_child(&self, child: Child) -> Result<(), ActError> {
        // While the cluster is not deleted, only a child with a deletion timestamp is removed: another operator may have created it again,
        // and use it.
        let lives = !self.observed.cluster.deleting;
        if lives {
            self.while_it_lives().await?;
        }
        self.delete_object_of(child, lives).await
    }

    async fn delete_object_of(&self, child: Child, cluster_lives: bool) -> Result<(), ActError> {
        match self.object_of(child) {
            ChildObject::Secret(name) => self.delete_named::<Secret>(&name, cluster_lives).await,
            ChildObject::ConfigMap(name) => {
                self.delete_named::<ConfigMap>(&name, cluster_lives).await
            }
        }
    }

    /// Adds NICO's finalizer to this version of a child.
    async fn add_finalizer(&self, child: Child, version: &Precondition) -> Result<(), ActError> {
        match self.object_of(child) {
            ChildObject::Secret(name) => self.add_finalizer_to::<Secret>(&name, version).await?,
            ChildObject::ConfigMap(name) => {
                self.add_finalizer_to::<ConfigMap>(&name, version).await?;
            }
        }
        self.unless_gone(&[child]).await
    }

    /// Makes the cluster the owner of that version of a child, and puts NICO's finalizer on what it should be on.
    async fn take_back(&mut self, child: Child, version: &Precondition) -> Result<(), ActError> {
        let is_held = matches!(child, Child::JoinToken | Child::WorkerToken | Child::Ledger);
        match self.object_of(child) {
            ChildObject::Secret(name) => {
                self.take_back_named::<Secret>(&name, version, is_held)
                    .await?;
            }
            ChildObject::ConfigMap(name) => {
                self.take_back_named::<ConfigMap>(&name, version, is_held)
                    .await?;
            }
        }
        self.restored.push(child.named(&self.observed.cluster.name));
        Ok(())
    }

    async fn take_back_named<K>(
        &self,
        name: &str,
        version: &Precondition,
        is_held: bool,
    ) -> Result<(), ActError>
    where
        K: calls::Object + kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
    {
        let api = self.api::<K>();
        self.forget(name);
        let Some(object) = calls::get_opt(&api, name).await? else {
            return Err(ActError::Lost("what was to be taken back is gone"));
        };
        let mut metadata = restored_metadata(&self.observed.cluster);
        let mut finalizers = object.finalizers().to_vec();
        if is_held && !finalizers.iter().any(|held| held == IN_USE_FINALIZER) {
            finalizers.push(IN_USE_FINALIZER.to_owned());
            metadata["finalizers"] = json!(finalizers);
        }
        self.while_unchanged().await?;
        calls::patch(&api, name, version, json!({ "metadata": metadata })).await?;
        Ok(())
    }

    /// Removes NICO's finalizer from a child, which stays.
    async fn let_go(&self, child: Child) -> Result<(), ActError> {
        match self.object_of(child) {
            ChildObject::Secret(name) => drop(self.let_go_named::<Secret>(&name, false).await?),
            ChildObject::ConfigMap(name) => {
                drop(self.let_go_named::<ConfigMap>(&name, false).await?);
            }
        }
        Ok(())
    }

    fn object_of(&self, child: Child) -> ChildObject {
        let cluster = &self.observed.cluster.name;
        match child {
            Child::JoinToken => ChildObject::Secret(join_token_name(cluster)),
            Child::WorkerToken => ChildObject::Secret(worker_token_name(cluster)),
            Child::Kubeconfig => ChildObject::Secret(kubeconfig_name(cluster)),
            Child::KnownHosts => ChildObject::ConfigMap(known_hosts_name(cluster)),
            Child::Ledger => ChildObject::ConfigMap(ledger_name(cluster)),
        }
    }

    async fn add_finalizer_to<K>(&self, name: &str, version: &Precondition) -> Result<(), ActError>
    where
        K: calls::Object + kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
    {
        let api = self.api::<K>();
        self.forget(name);
        let Some(object) = calls::get_opt(&api, name).await? else {
            return Err(ActError::Lost("what was to get the finalizer is gone"));
        };
        let mut finalizers = object.finalizers().to_vec();
        finalizers.push(IN_USE_FINALIZER.to_owned());
        self.while_it_lives().await?;
        let body = json!({"metadata": {"finalizers": finalizers}});
        calls::patch(&api, name, version, body).await?;
        Ok(())
    }

    async fn delete_named<K>(&self, name: &str, cluster_lives: bool) -> Result<(), ActError>
    where
        K: calls::Object + kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
    {
        if let Some((object, Parting::Deleted)) =
            self.let_go_named::<K>(name, cluster_lives).await?
        {
            calls::delete(&self.api::<K>(), name, &Precondition::of(object.meta())).await?;
        }
        Ok(())
    }

    /// Removes NICO's finalizer from an object. Returns the object if it still exists and NICO may change it.
    async fn let_go_named<K>(
        &self,
        name: &str,
        cluster_lives: bool,
    ) -> Result<Option<(K, Parting)>, ActError>
    where
        K: calls::Object + kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
    {
        let api = self.api::<K>();
        let Some(object) = calls::get_opt(&api, name).await? else {
            return Ok(None);
        };
        let facts = ObjectFacts::of(object.meta());
        if cluster_lives && !facts.deleting {
            self.forget(name);
            return Err(ActError::Lost(
                "the object that was to be deleted was created again",
            ));
        }
        let parting = parting(&facts, &self.observed.cluster.uid, cluster_lives);
        if parting == Parting::Untouched {
            return Ok(None);
        }
        self.forget(name);
        if !facts.in_use {
            return Ok(Some((object, parting)));
        }
        let mut others = object.finalizers().to_vec();
        others.retain(|finalizer| finalizer != IN_USE_FINALIZER);
        let body = json!({"metadata": {"finalizers": others}});
        match calls::patch(&api, name, &facts.version, body).await {
            Err(CallError::Gone(_)) => Ok(None),
            patched => Ok(Some((patched?, parting))),
        }
    }
}
