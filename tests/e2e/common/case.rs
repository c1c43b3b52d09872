//! One test's world with a running NICO: common steps of tests, and the checks at their end.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Node, Secret};
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, ResourceExt};
use rig::crds::Generation;
use rig::environment::Environment;
use rig::judge::rollout::{Evidence, Rules, broken_rolls};
use rig::nio::NioOptions;
use rig::proxy::Proxy;
use rig::wait::{wait_describing, wait_for};
use rig::world::{NicoSetup, RunningNico, World, condition};
use serde_json::{Value, json};

pub(crate) use super::shown::{at_rest, in_flight, took_effect};
use super::traffic::{resyncs, settle};
use super::{DEADLINE, nico};

/// One test's world with a running NICO.
pub(crate) struct Case {
    pub(crate) world: World,
    pub(crate) proxy: Proxy,
    pub(crate) nico: RunningNico,
}

impl Case {
    /// A new world with NICO in its default setup.
    pub(crate) async fn start() -> Self {
        Self::with(&nico()).await
    }

    /// A new world with this generation of NIO, and NICO with this setup.
    pub(crate) async fn of(generation: Generation, setup: &NicoSetup) -> Self {
        Self::in_world(World::of(generation, |_| ()).await, setup).await
    }

    /// A new world, and NICO with this setup.
    pub(crate) async fn with(setup: &NicoSetup) -> Self {
        Self::in_world(World::new().await, setup).await
    }

    /// A new world whose NIO has changed options.
    pub(crate) async fn with_nio(change: impl FnOnce(&mut NioOptions)) -> Self {
        Self::in_world(World::with(change).await, &nico()).await
    }

    /// A new world in the test's own management cluster.
    pub(crate) async fn on(environment: &'static Environment, setup: &NicoSetup) -> Self {
        Self::in_world(World::on(environment, |_| ()).await, setup).await
    }

    /// A new world with its own workload API server, in which Nodes have their machines' names.
    pub(crate) async fn alone(setup: &NicoSetup) -> Self {
        Self::in_world(World::alone().await, setup).await
    }

    /// Like [`Case::alone`], with this generation of NIO and changed options.
    pub(crate) async fn alone_of(
        generation: Generation,
        setup: &NicoSetup,
        change: impl FnOnce(&mut NioOptions),
    ) -> Self {
        Self::in_world(World::alone_of(generation, change).await, setup).await
    }

    /// Like [`Case::with`], in an existing world.
    pub(crate) async fn in_world(world: World, setup: &NicoSetup) -> Self {
        let proxy = world.proxy().await;
        let nico = world.nico(setup, &proxy).await;
        Self { world, proxy, nico }
    }

    /// The evidence so far for the check of rollouts.
    pub(crate) fn evidence(&self) -> Evidence {
        Evidence::of(self.world.nio(), &[&self.proxy])
    }

    /// Ends a test with rollouts, and checks their rules as well.
    pub(crate) async fn finish_rolled(self, rules: &Rules) {
        let broken = broken_rolls(&self.evidence(), rules);
        assert_eq!(broken, Vec::<String>::new(), "{}", self.proxy.write_lines());
        self.finish().await;
    }

    /// Ends the test. Checks that every write kept the rules, that nothing was requested beyond the shipped rights, that no machine founded
    /// a second cluster, that there was no panic, and that NICO ends cleanly on SIGTERM.
    pub(crate) async fn finish(self) {
        let Self { world, proxy, nico } = self;
        let broken = rig::judge::broken_rules(&proxy.writes());
        assert_eq!(broken, Vec::<String>::new(), "{}", proxy.write_lines());
        let mut forbidden = proxy.forbidden();
        // A starting API server refuses everyone.
        forbidden.retain(|call| !call.faulted);
        assert!(forbidden.is_empty(), "{forbidden:?}");
        assert_eq!(world.flake().splits(), vec![]);
        nico.terminate().await;
        let status = nico.wait_exit(Duration::from_secs(15)).await;
        let output = nico.output();
        assert_eq!(
            status.and_then(|status| status.code()),
            Some(0),
            "NICO ends when told to\n{output}"
        );
        assert!(!output.contains("panicked"), "{output}");
    }

    /// Applies a cluster with this spec.
    pub(crate) async fn cluster(&self, name: &str, spec: Value) -> DynamicObject {
        self.world.cluster(name, spec).await.unwrap()
    }

    /// Changes a cluster's spec by a merge patch, as `kubectl patch` does.
    pub(crate) async fn edit(&self, cluster: &str, spec: Value) {
        self.merge(cluster, json!({ "spec": spec })).await;
    }

    /// Changes a cluster by a merge patch.
    pub(crate) async fn merge(&self, cluster: &str, patch: Value) {
        let clusters = self.world.clusters();
        clusters
            .patch(cluster, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
    }

    /// Deletes a cluster, without waiting.
    pub(crate) async fn delete(&self, cluster: &str) {
        let clusters = self.world.clusters();
        clusters
            .delete(cluster, &DeleteParams::default())
            .await
            .unwrap();
    }

    /// Waits until a cluster is gone.
    pub(crate) async fn wait_gone(&self, cluster: &str) {
        let gone = || async {
            let found = self.world.clusters().get_opt(cluster).await.ok()?;
            found.is_none().then_some(())
        };
        let what = format!("{cluster} is gone");
        wait_describing(&what, DEADLINE, gone, || async {
            format!(
                "{}\n{}\n{}",
                self.world.describe().await,
                self.proxy.write_lines(),
                self.nico.output()
            )
        })
        .await;
    }

    /// Waits until a condition has this status and reason, and returns its message.
    pub(crate) async fn told(
        &self,
        cluster: &str,
        kind: &str,
        status: &str,
        reason: &str,
    ) -> String {
        let found = self
            .world
            .wait_condition(cluster, kind, status, reason, DEADLINE)
            .await;
        found["message"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until a cluster is Stalled for this reason, and returns the message.
    pub(crate) async fn stalled(&self, cluster: &str, reason: &str) -> String {
        let message = self.told(cluster, "Stalled", "True", reason).await;
        let status = self.world.status(cluster).await;
        assert_eq!(status["phase"], "Failed", "{status}");
        assert_eq!(condition(&status, "Ready")["status"], "False", "{status}");
        message
    }

    /// Waits until a cluster is Ready and returns its status.
    pub(crate) async fn ready(&self, cluster: &str) -> Value {
        self.world.wait_ready(cluster, DEADLINE).await
    }

    /// The generation of a cluster's spec.
    pub(crate) async fn generation(&self, cluster: &str) -> Option<i64> {
        let found = self.world.clusters().get(cluster).await.unwrap();
        found.metadata.generation
    }

    /// Waits until a cluster is Ready for its newest generation, and none of its machines is in flight; returns its status.
    pub(crate) async fn rolled_out(&self, cluster: &str) -> Value {
        let generation = self.generation(cluster).await;
        let at_rest = move |status: &Value| at_rest(status, generation);
        self.world
            .wait_status(cluster, "rolled out", DEADLINE, at_rest)
            .await
    }

    /// Waits until NICO has reconciled each cluster twice more. NICO must have been started with [`RESYNC`], so that all clusters are
    /// reconciled in turn.
    pub(crate) async fn two_more_passes(&self) {
        let clusters = self.world.clusters().list(&ListParams::default()).await;
        // A pass that is running now began earlier.
        let wanted = 3 * clusters.unwrap().items.len().max(1);
        let Some(before) = self.passes().await else {
            panic!("NICO serves no metrics\n{}", self.nico.output());
        };
        let passed = || async { (self.passes().await? >= before + wanted).then_some(()) };
        wait_for("NICO reconciles each cluster twice more", DEADLINE, passed).await;
    }

    /// Waits until a cluster rests: host keys, the ledger and NIO v1's schedules are still written after it is Ready. NICO must have
    /// been started with [`RESYNC`].
    pub(crate) async fn settled(&self, cluster: &str) {
        settle(&self.proxy, &resyncs(&self.proxy, cluster)).await;
    }

    /// How many reconciles have ended, from NICO's metrics.
    async fn passes(&self) -> Option<usize> {
        let (_, text) = self.nico.get("/metrics").await?;
        let counts = text
            .lines()
            .filter(|line| line.starts_with("nico_reconciles_total{"));
        let count = |line: &str| line.rsplit_once(' ')?.1.parse::<usize>().ok();
        Some(counts.filter_map(count).sum())
    }

    /// The names of the configurations in the namespace.
    pub(crate) async fn configurations(&self) -> Vec<String> {
        let all = ListParams::default();
        let found = self.world.configurations().list(&all).await;
        found.unwrap().iter().map(ResourceExt::name_any).collect()
    }

    /// A configuration.
    pub(crate) async fn configuration(&self, machine: &str) -> DynamicObject {
        self.world.configurations().get(machine).await.unwrap()
    }

    /// The marker in a machine's configuration; empty if there is none.
    pub(crate) async fn marker(&self, machine: &str) -> String {
        let found = self.world.configurations().get_opt(machine).await;
        let files = found
            .unwrap()
            .map(|configuration| configuration.data["spec"]["additionalFiles"].clone());
        let last = files.and_then(|files| {
            files.as_array()?.last()?["path"]
                .as_str()
                .map(str::to_owned)
        });
        last.unwrap_or_default()
    }

    /// Waits until a machine's configuration has another marker than this, and returns it.
    pub(crate) async fn wait_marker_changed(&self, machine: &str, old: &str) -> String {
        let changed = || async {
            let marker = self.marker(machine).await;
            (!marker.is_empty() && marker != old).then_some(marker)
        };
        let what = format!("{machine} is written again");
        wait_describing(&what, DEADLINE, changed, || self.world.describe()).await
    }

    /// The machines that are in flight according to the status.
    pub(crate) async fn in_flight(&self, cluster: &str) -> Vec<String> {
        in_flight(&self.world.status(cluster).await)
    }

    /// The content of a machine's cluster.nix.
    pub(crate) async fn cluster_nix(&self, machine: &str) -> Value {
        let configuration = self.configuration(machine).await;
        let files = configuration.data["spec"]["additionalFiles"].clone();
        let path = files[0]["path"].as_str().unwrap();
        assert_eq!(path.rsplit('/').next(), Some("cluster.nix"), "{files}");
        rig::nix::parse(files[0]["inline"].as_str().unwrap()).unwrap()
    }

    /// A Machine's `status` field.
    pub(crate) async fn machine_status(&self, machine: &str) -> Value {
        let machine = self.world.machines().get(machine).await.unwrap();
        machine.data["status"].clone()
    }

    /// Creates a NixosConfiguration that does not belong to NICO.
    pub(crate) async fn foreign_configuration(&self, name: &str, machine: &str) {
        let configuration: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "nio.homystack.com/v1alpha1", "kind": "NixosConfiguration",
            "metadata": {"name": name, "annotations": {"example.com/owner": "somebody"}},
            "spec": {"gitRepo": "https://git.example.com/other.git", "flake": "#other", "onRemoveFlake": "#minimal",
                "machineRef": {"name": machine}},
        }))
        .unwrap();
        let configurations = self.world.configurations();
        configurations
            .create(&PostParams::default(), &configuration)
            .await
            .unwrap();
    }

    /// Deletes a configuration and waits until it is gone.
    pub(crate) async fn remove_configuration(&self, name: &str) {
        let configurations = self.world.configurations();
        configurations
            .delete(name, &DeleteParams::default())
            .await
            .unwrap();
        let gone = || async {
            let found = configurations.get_opt(name).await.ok()?;
            found.is_none().then_some(())
        };
        wait_for("the configuration is gone", DEADLINE, gone).await;
    }

    /// The ConfigMaps of the namespace.
    pub(crate) fn maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.world.client().clone(), self.world.namespace())
    }

    /// The data of a ConfigMap; empty if it does not exist.
    pub(crate) async fn map(&self, name: &str) -> BTreeMap<String, String> {
        let found = self.maps().get_opt(name).await.unwrap();
        found.and_then(|map| map.data).unwrap_or_default()
    }

    /// A Secret, if it exists.
    pub(crate) async fn secret(&self, name: &str) -> Option<Secret> {
        self.world.secrets().get_opt(name).await.unwrap()
    }

    /// The bytes of one key of a Secret.
    pub(crate) async fn secret_value(&self, name: &str, key: &str) -> Vec<u8> {
        let secret = self.secret(name).await.unwrap();
        secret.data.unwrap_or_default()[key].0.clone()
    }

    /// Writes the host keys of a cluster, as a person does.
    pub(crate) async fn write_known_hosts(&self, cluster: &str, lines: &str) -> ConfigMap {
        let name = format!("{cluster}-known-hosts");
        let patch = Patch::Merge(json!({"data": {"known_hosts": lines}}));
        let (maps, params) = (self.maps(), PatchParams::default());
        maps.patch(&name, &params, &patch).await.unwrap()
    }

    /// The Secrets and ConfigMaps with NICO's label.
    pub(crate) async fn children(&self) -> Vec<String> {
        let ours = ListParams::default().labels("app.kubernetes.io/managed-by=nico");
        let secrets = self.world.secrets().list(&ours).await.unwrap();
        let maps = self.maps().list(&ours).await.unwrap();
        let secrets = secrets.iter().map(ResourceExt::name_any);
        secrets
            .chain(maps.iter().map(ResourceExt::name_any))
            .collect()
    }

    /// The stored kubeconfig of a cluster.
    pub(crate) async fn kubeconfig(&self, cluster: &str) -> Value {
        let value = self
            .secret_value(&format!("{cluster}-kubeconfig"), "value")
            .await;
        serde_yaml::from_slice(&value).unwrap()
    }

    /// Lists the nodes through the stored kubeconfig of a cluster, as its user does.
    pub(crate) async fn nodes(&self, cluster: &str) -> Vec<String> {
        let text = self.kubeconfig(cluster).await;
        let kubeconfig: Kubeconfig = serde_json::from_value(text).unwrap();
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .unwrap();
        let nodes: Api<Node> = Api::all(Client::try_from(config).unwrap());
        let nodes = nodes.list(&ListParams::default()).await.unwrap();
        nodes.iter().map(ResourceExt::name_any).collect()
    }

    /// The successful writes so far as `verb resource name`, without those to status.
    pub(crate) fn deeds(&self) -> Vec<String> {
        let writes = self.proxy.writes();
        let done = writes
            .iter()
            .filter(|call| took_effect(call) && call.subresource.is_empty());
        done.map(|call| format!("{} {} {}", call.verb, call.resource, call.object_name()))
            .collect()
    }
}
