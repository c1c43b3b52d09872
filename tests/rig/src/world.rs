//! A world for one test: a new namespace of the shared management cluster with its own NIO and machines, and NICO running against it
//! through a proxy, with only the shipped rights.

#![allow(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "the rig stops with a sentence where it cannot go on"
)]

mod canary;
mod machine;
mod nico;

pub use machine::MachineSpec;
pub use nico::{NicoSetup, RunningNico};

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Node, Secret};
use kube::Client;
use kube::api::{Api, DynamicObject, ListParams, ObjectMeta, PostParams};
use serde_json::{Value, json};

use crate::crds::{self, Generation};
use crate::deploy;
use crate::environment::Environment;
use crate::machines::KeyPair;
use crate::nio::{Nio, NioOptions};
use crate::wait::wait_describing;
use crate::workload::{Flake, Lease, Tenancy, Workload};

/// One test's part of the management cluster.
pub struct World {
    environment: &'static Environment,
    client: Client,
    nodes: Api<Node>,
    namespace: String,
    nio: Nio,
    flake: Flake,
    key: KeyPair,
}

impl World {
    /// A new namespace with a NIO that applies within a tenth of a second.
    pub async fn new() -> Self {
        Self::with(|_| ()).await
    }

    /// A new namespace with a NIO with changed options.
    pub async fn with(change: impl FnOnce(&mut NioOptions)) -> Self {
        Self::on(Environment::shared().await, change).await
    }

    /// A new namespace of the test's own management cluster.
    pub async fn on(
        environment: &'static Environment,
        change: impl FnOnce(&mut NioOptions),
    ) -> Self {
        Self::make(environment, None, change).await
    }

    /// A new namespace of the shared management cluster with this generation of NIO.
    pub async fn of(generation: Generation, change: impl FnOnce(&mut NioOptions)) -> Self {
        Self::on(Environment::of(generation).await, change).await
    }

    /// A new namespace with its own workload API server as long as the world exists. Nodes have the machines' names, and control plane
    /// Nodes have the label. A process has six of these API servers: while all are in use, this waits.
    pub async fn alone() -> Self {
        Self::alone_with(|_| ()).await
    }

    /// Like [`World::alone`], with a NIO with changed options.
    pub async fn alone_with(change: impl FnOnce(&mut NioOptions)) -> Self {
        Self::alone_of(Generation::Classic, change).await
    }

    /// Like [`World::alone`], in the management cluster with this generation of NIO.
    pub async fn alone_of(generation: Generation, change: impl FnOnce(&mut NioOptions)) -> Self {
        let (environment, lease) = tokio::join!(Environment::of(generation), Lease::take());
        Self::make(environment, Some(lease), change).await
    }

    async fn make(
        environment: &'static Environment,
        lease: Option<Lease>,
        change: impl FnOnce(&mut NioOptions),
    ) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let client = environment.control_plane.client();
        let namespace = format!("world-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let object = Namespace {
            metadata: ObjectMeta {
                name: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        };
        Api::all(client.clone())
            .create(&PostParams::default(), &object)
            .await
            .expect("a namespace can be made");
        let flake = match lease {
            Some(lease) => Flake::leased(lease),
            None => Flake::new(
                environment.workload.clone(),
                Tenancy::Worlds(namespace.clone()),
            ),
        };
        let mut options = NioOptions::namespace(&namespace);
        options.generation = environment.generation;
        change(&mut options);
        let nio = Nio::start(environment.client.clone(), options, flake.hook());
        Self {
            environment,
            client,
            nodes: Api::all(flake.workload().control_plane().client()),
            namespace,
            nio,
            flake,
            key: KeyPair::generate(),
        }
    }

    /// What this world shares with others.
    #[must_use]
    pub fn environment(&self) -> &'static Environment {
        self.environment
    }

    /// An administrator's client for the runtime in which the world was created.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The NIO of this namespace.
    #[must_use]
    pub fn nio(&self) -> &Nio {
        &self.nio
    }

    /// Stops the NIO, and starts one of another generation instead.
    pub fn replace_nio(&mut self, generation: Generation) {
        self.nio = self.nio.replaced_by(generation);
    }

    /// The simulated machines.
    #[must_use]
    pub fn flake(&self) -> &Flake {
        &self.flake
    }

    /// The API server of the workload clusters of this world.
    #[must_use]
    pub fn workload(&self) -> &Workload {
        self.flake.workload()
    }

    /// An administrator's API for the Nodes there, including those of other worlds if it is shared.
    #[must_use]
    pub fn nodes(&self) -> Api<Node> {
        self.nodes.clone()
    }

    /// The name of a machine's Node.
    #[must_use]
    pub fn node_name(&self, machine: &str) -> String {
        self.flake.node_name(machine)
    }

    /// The SSH key with which NICO and NIO reach the machines.
    #[must_use]
    pub fn key(&self) -> &KeyPair {
        &self.key
    }

    /// The clusters of the namespace.
    #[must_use]
    pub fn clusters(&self) -> Api<DynamicObject> {
        crds::clusters(&self.client, &self.namespace)
    }

    /// The configurations of the namespace.
    #[must_use]
    pub fn configurations(&self) -> Api<DynamicObject> {
        crds::configurations(&self.client, &self.namespace)
    }

    /// The machines of the namespace.
    #[must_use]
    pub fn machines(&self) -> Api<DynamicObject> {
        crds::machines(&self.client, &self.namespace)
    }

    /// The Secrets of the namespace.
    #[must_use]
    pub fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Applies manifests in the namespace, as a user does.
    pub async fn apply(&self, text: &str) -> kube::Result<()> {
        deploy::apply_text(&self.client, &self.namespace, text).await
    }

    /// Creates a cluster with this spec. Most tests have no git server, so NIO resolves the ref unless the spec sets it.
    pub async fn cluster(&self, name: &str, mut spec: Value) -> kube::Result<DynamicObject> {
        if self.nio.generation() == Generation::V1
            && let Some(fields) = spec.as_object_mut()
        {
            fields.entry("refPolicy").or_insert("Follow".into());
        }
        let cluster = json!({"apiVersion": "nico.homystack.com/v1alpha1", "kind": "KubernetesCluster",
            "metadata": {"name": name}, "spec": spec});
        deploy::apply_value(&self.client, &self.namespace, cluster).await
    }

    /// The status of a cluster; null if there is no such cluster or status.
    pub async fn status(&self, cluster: &str) -> Value {
        let found = self.clusters().get_opt(cluster).await.ok().flatten();
        found.map_or(Value::Null, |cluster| cluster.data["status"].clone())
    }

    /// One condition of a cluster; null if it does not exist.
    pub async fn condition(&self, cluster: &str, kind: &str) -> Value {
        condition(&self.status(cluster).await, kind).clone()
    }

    /// Waits until a cluster's status fulfils a condition. A failure describes the namespace.
    pub async fn wait_status(
        &self,
        cluster: &str,
        what: &str,
        deadline: Duration,
        pleases: impl Fn(&Value) -> bool,
    ) -> Value {
        let look = || async {
            let status = self.status(cluster).await;
            pleases(&status).then_some(status)
        };
        let what = format!("{cluster} in {}: {what}", self.namespace);
        wait_describing(&what, deadline, look, || self.describe()).await
    }

    /// Waits until a cluster is Ready.
    pub async fn wait_ready(&self, cluster: &str, deadline: Duration) -> Value {
        self.wait_status(cluster, "Ready", deadline, |status| {
            condition(status, "Ready")["status"] == "True"
        })
        .await
    }

    /// Waits until a cluster has a condition with this status and reason.
    pub async fn wait_condition(
        &self,
        cluster: &str,
        kind: &str,
        status: &str,
        reason: &str,
        deadline: Duration,
    ) -> Value {
        let what = format!("{kind}={status}, {reason}");
        let found = self
            .wait_status(cluster, &what, deadline, |found| {
                let condition = condition(found, kind);
                condition["status"] == status && condition["reason"] == reason
            })
            .await;
        condition(&found, kind).clone()
    }

    /// Describes the namespace, for the message of a failure.
    pub async fn describe(&self) -> String {
        let mut text = String::new();
        for (kind, api) in [
            ("cluster", self.clusters()),
            ("configuration", self.configurations()),
            ("machine", self.machines()),
        ] {
            let found = api.list(&ListParams::default()).await;
            for object in found.map(|list| list.items).unwrap_or_default() {
                let name = object.metadata.name.unwrap_or_default();
                let status = serde_json::to_string_pretty(&object.data["status"]);
                let _ = writeln!(text, "{kind} {name}: {}", status.unwrap_or_default());
            }
        }
        text
    }
}

/// The condition of this type in a status; null if it does not exist.
#[must_use]
pub fn condition<'a>(status: &'a Value, kind: &str) -> &'a Value {
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let mut found = conditions.filter(|condition| condition["type"] == kind);
    found.next().unwrap_or(&Value::Null)
}
