//! A namespace in memory: machines, configurations and clusters, with just so much of the API server that plans can be carried
//! out one after the other, and what people do there. `shell.rs` and `nio.rs` bring it to life.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use nico::api::conditions::{Cause, Reason};
use nico::api::ledger::Ledger;
use nico::api::names::{CLUSTER_LABEL, MachineName};
use nico::api::nio::{Generation, Machine, NixosConfiguration, NixosConfigurationSpec};
use nico::api::status::{ClusterStatus, Role};
use nico::plan::Settings;
use nico::plan::action::Action;
use nico::plan::nio;
use nico::plan::observed::{
    ClusterView, Fetch, GitAnswer, KnownHostsView, KubeconfigView, NodeView, SecretView,
    SshKeyView, Works,
};
use nico::plan::writes::Child;
use serde_json::{Map, Value, json};

/// Where the clock of every world starts.
pub const START: i64 = 1_800_000_000;

/// A cluster object and what NICO keeps beside it.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub view: ClusterView,
    pub spec: Value,
    pub ledger: Option<(u64, Ledger)>,
    pub join_token: SecretView,
    pub worker_token: SecretView,
    pub credentials: Option<SecretView>,
    pub kubeconfig: KubeconfigView,
    pub known_hosts: KnownHostsView,
    /// Those of its children that an earlier cluster of its name left.
    pub left: BTreeSet<Child>,
    pub since: BTreeMap<nico::plan::patience::Clock, Timestamp>,
    /// What the git server was last asked, and its answer.
    pub resolved: Option<GitAnswer>,
}

/// A namespace.
#[derive(Clone, Debug)]
pub struct World {
    pub now: Timestamp,
    pub settings: Settings,
    pub nio: Option<Generation>,
    pub machines: BTreeMap<MachineName, Machine>,
    pub ssh_keys: BTreeMap<MachineName, SshKeyView>,
    pub configurations: BTreeMap<String, NixosConfiguration>,
    pub clusters: BTreeMap<String, Cluster>,
    /// Every write that went through, with its cluster.
    pub written: Vec<(String, Action)>,
    /// Machines on which nothing that NIO does succeeds.
    pub broken: BTreeSet<MachineName>,
    /// The Nodes of the machines, as their cluster's API shows them.
    pub nodes: BTreeMap<String, NodeView>,
    /// Machines whose Node is never Ready.
    pub unwell: BTreeSet<MachineName>,
    /// Machines that NICO disrupted and that NIO has neither proved nor given back since.
    pub flying: BTreeMap<MachineName, Role>,
    /// Whether the API servers refuse the kubeconfig.
    pub refusing: bool,
    /// Machines whose names are no DNS labels.
    pub misnamed: BTreeMap<String, Arc<Machine>>,
    /// How often everything was read live.
    pub lists: usize,
    /// Pods of each Node, and those that a `PodDisruptionBudget` holds back.
    pub pods: BTreeMap<String, usize>,
    pub held_back: BTreeMap<String, usize>,
    /// What is wrong with the TLS of the API servers that do not answer; empty where that is not why.
    pub untrusted: &'static str,
    /// What holds a Node that is deleted.
    pub finalizers: BTreeMap<String, Vec<String>>,
    /// Control plane machines whose API server does not answer.
    pub mute: BTreeSet<MachineName>,
    /// Those whose API server is not ready.
    pub ill: BTreeSet<MachineName>,
    /// Whether no kubelet runs on the control plane, so that it has no Nodes.
    pub without_kubelets: bool,
    /// What NIO v1 does.
    pub v1: crate::nio_v1::NioV1,
    counter: u64,
}

/// A write that the API server refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

impl World {
    pub fn new() -> Self {
        Self {
            now: Timestamp::from_second(START).unwrap(),
            settings: Settings::default(),
            nio: Some(Generation::Classic),
            machines: BTreeMap::new(),
            ssh_keys: BTreeMap::new(),
            configurations: BTreeMap::new(),
            clusters: BTreeMap::new(),
            written: Vec::new(),
            misnamed: BTreeMap::new(),
            broken: BTreeSet::new(),
            nodes: BTreeMap::new(),
            unwell: BTreeSet::new(),
            flying: BTreeMap::new(),
            refusing: false,
            lists: 0,
            pods: BTreeMap::new(),
            held_back: BTreeMap::new(),
            untrusted: "",
            finalizers: BTreeMap::new(),
            mute: BTreeSet::new(),
            ill: BTreeSet::new(),
            without_kubelets: false,
            v1: crate::nio_v1::NioV1::default(),
            counter: 0,
        }
    }

    /// A number that nothing else has.
    pub fn count(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    pub fn wait(&mut self, seconds: i64) {
        self.now = Timestamp::from_second(self.now.as_second() + seconds).unwrap();
    }

    /// `kubectl create`.
    pub fn create_cluster(&mut self, name: &str, spec: Value) {
        let (uid, version) = (format!("{name}-uid-{}", self.count()), self.count());
        let view = ClusterView {
            namespace: "default".to_owned(),
            name: name.to_owned(),
            uid,
            resource_version: version.to_string(),
            generation: 1,
            created: Some(self.now),
            deleting: false,
            finalizers: Vec::new(),
            accept_quorum_loss: None,
            force_release: BTreeSet::new(),
            status: ClusterStatus::default(),
        };
        let cluster = Cluster {
            view,
            credentials: spec["credentialsRef"]
                .is_object()
                .then_some(SecretView::Adopted),
            spec,
            ledger: None,
            join_token: SecretView::Absent,
            worker_token: SecretView::Absent,
            kubeconfig: KubeconfigView {
                secret: SecretView::Absent,
                works: Works::Unknown,
                failures: 0,
                stored: None,
                try_again: false,
                fetch: Fetch::default(),
            },
            known_hosts: KnownHostsView::Absent,
            left: BTreeSet::new(),
            since: BTreeMap::new(),
            resolved: None,
        };
        self.clusters.insert(name.to_owned(), cluster);
    }

    /// Everything is deleted and put back from a backup, as `kubectl` does it: nothing has a status, and nothing but the Machines and
    /// the cluster is anybody's.
    pub fn restore(&mut self, name: &str) {
        let uid = format!("{name}-uid-{}", self.count());
        let held = self.configurations.len();
        let versions: Vec<u64> = (0..held).map(|_| self.count()).collect();
        for (held, version) in self.configurations.values_mut().zip(versions) {
            let labels = held.metadata.labels.as_ref();
            if labels.is_none_or(|it| it.get(CLUSTER_LABEL).is_none_or(|it| it != name)) {
                continue;
            }
            let meta = &mut held.metadata;
            meta.uid = Some(format!("uid-{version}"));
            meta.resource_version = Some(version.to_string());
            (meta.generation, meta.owner_references) = (Some(1), None);
            meta.deletion_timestamp = None;
            held.status = None;
        }
        self.v1.forget_jobs();
        for machine in self.machines.values_mut() {
            if let Some(status) = &mut machine.status {
                (status.has_configuration, status.applied_configuration) = (false, None);
            }
        }
        let version = self.count();
        let cluster = self.cluster(name);
        cluster.view.uid = uid;
        cluster.view.generation = 1;
        cluster.view.resource_version = version.to_string();
        cluster.view.status = ClusterStatus::default();
        cluster.since.clear();
        cluster.kubeconfig.works = Works::Unknown;
        cluster.kubeconfig.try_again = true;
        cluster.kubeconfig.fetch = Fetch::default();
        let is_made = |secret| matches!(secret, SecretView::Ours | SecretView::Unusable);
        let there = [
            (Child::JoinToken, is_made(cluster.join_token)),
            (Child::WorkerToken, is_made(cluster.worker_token)),
            (Child::Kubeconfig, is_made(cluster.kubeconfig.secret)),
            (
                Child::KnownHosts,
                cluster.known_hosts == KnownHostsView::Ours,
            ),
            (Child::Ledger, cluster.ledger.is_some()),
        ];
        let there = there.into_iter().filter(|(_, is_there)| *is_there);
        cluster.left = there.map(|(child, _)| child).collect();
    }

    pub fn cluster(&mut self, name: &str) -> &mut Cluster {
        self.clusters.get_mut(name).expect("the cluster is there")
    }

    /// `kubectl edit`: a new generation.
    pub fn edit(&mut self, name: &str, edit: impl FnOnce(&mut Value)) {
        let version = self.count();
        let cluster = self.cluster(name);
        edit(&mut cluster.spec);
        cluster.view.generation += 1;
        cluster.view.resource_version = version.to_string();
    }

    /// `kubectl delete`.
    pub fn delete_cluster(&mut self, name: &str) {
        let version = self.count();
        let Some(cluster) = self.clusters.get_mut(name) else {
            return;
        };
        cluster.view.deleting = true;
        cluster.view.resource_version = version.to_string();
        if cluster.view.finalizers.is_empty() {
            self.clusters.remove(name);
        }
    }

    pub fn machine(&mut self, name: &str) -> &mut Machine {
        let name = MachineName::parse(name).unwrap();
        self.machines.get_mut(&name).expect("the machine is there")
    }

    pub fn configuration(&mut self, name: &str) -> &mut NixosConfiguration {
        self.configurations
            .get_mut(name)
            .expect("the configuration is there")
    }

    /// Someone's hand on a configuration.
    pub fn edit_configuration(&mut self, name: &str, edit: impl FnOnce(&mut NixosConfiguration)) {
        let version = self.count();
        let configuration = self.configuration(name);
        edit(configuration);
        configuration.metadata.resource_version = Some(version.to_string());
        configuration.metadata.generation = configuration.metadata.generation.map(|g| g + 1);
    }

    /// `kubectl delete`: NIO's finalizer holds it until NIO let go.
    pub fn delete_configuration(&mut self, name: &str) {
        let (now, version) = (self.now, self.count());
        let configuration = self.configuration(name);
        configuration
            .metadata
            .deletion_timestamp
            .get_or_insert(Time(now));
        configuration.metadata.resource_version = Some(version.to_string());
    }

    /// What the API server makes of a POST: an object that exists already is not replaced.
    pub fn post(&mut self, body: &Value) -> Result<(), Refused> {
        let mut configuration: NixosConfiguration = serde_json::from_value(body.clone()).unwrap();
        let name = configuration.metadata.name.clone().unwrap();
        if self.configurations.contains_key(&name) {
            return Err(Refused);
        }
        edit(&mut configuration.spec, |it| as_stored(self.nio, it));
        let meta = &mut configuration.metadata;
        meta.uid = Some(format!("uid-{}", self.count()));
        meta.resource_version = Some(self.count().to_string());
        meta.generation = Some(1);
        meta.creation_timestamp = Some(Time(self.now));
        let nio = nio::for_generation(self.nio.unwrap_or(Generation::Classic));
        meta.finalizers = Some(vec![nio.finalizer().to_owned()]);
        self.configurations.insert(name, configuration);
        Ok(())
    }
}

/// A change of a spec as it is stored.
pub fn edit<T>(
    spec: &mut NixosConfigurationSpec,
    change: impl FnOnce(&mut Map<String, Value>) -> T,
) -> T {
    let mut stored = spec.stored();
    let result = change(&mut stored);
    *spec = stored.into();
    result
}

/// What NIO's schema makes of a spec: `ref` is filled in; classic prunes `secretRef.key`, and v1 fills in its schedule.
pub fn as_stored(nio: Option<Generation>, fields: &mut Map<String, Value>) {
    fields.entry("ref").or_insert_with(|| json!("main"));
    if nio == Some(Generation::V1) {
        let schedule = fields.entry("dayTwoSchedule");
        schedule.or_insert_with(|| json!("*/30 * * * *"));
        return;
    }
    for file in fields
        .get_mut("additionalFiles")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if let Some(secret) = file.get_mut("secretRef").and_then(Value::as_object_mut) {
            secret.remove("key");
        }
    }
}

/// A key that can be given to its machine.
pub fn usable_key(machine: &MachineName) -> SshKeyView {
    SshKeyView::Usable {
        secret: format!("ssh-{machine}"),
        fingerprint: format!("SHA256:{machine}"),
    }
}

/// Another key in the same Secret.
pub fn rotated_key(machine: &MachineName, fingerprint: &str) -> SshKeyView {
    SshKeyView::Usable {
        secret: format!("ssh-{machine}"),
        fingerprint: fingerprint.to_owned(),
    }
}

/// A key that cannot.
pub fn unusable_key(machine: &MachineName) -> SshKeyView {
    SshKeyView::Unusable(Cause::new(
        Reason::SSHKeyMissing,
        format!("Secret ssh-{machine} does not exist: create it"),
    ))
}
