//! Where a measurement takes place: a management control plane of its own with a stand-in for NIO, Machines, and NICO. All Machines
//! have the address of one SSH server, where the kubeconfig lies at once: a log-in costs as always, and no machine costs anything.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use rig::control_plane::ControlPlane;
use rig::crds::{self, Generation};
use rig::deploy;
use rig::environment::repository;
use rig::machines::{HostOptions, KeyPair, MachineHost, MachinePool};
use rig::process::{Nico, NicoOptions};
use rig::wait::try_wait_for;
use rig::workload::{KUBECONFIG_PATH, Workload};
use serde_json::{Value, json};

use crate::Failure;
use crate::clusters::Clusters;
use crate::nio::Nio;
use crate::usage::{Meter, Usage};

/// Requests of the driver at the same time.
const SIDE_BY_SIDE: usize = 16;
/// The Secret with the SSH key of all machines of a namespace.
const KEY: &str = "ssh";
/// How long NICO's start may take.
const START: Duration = Duration::from_secs(120);

/// What all measurements share: the API server of the clusters, and the machine.
pub(crate) struct Scene {
    _workload: Workload,
    key: KeyPair,
    host: MachineHost,
}

impl Scene {
    /// Starts it.
    pub(crate) async fn start() -> Result<Self, Failure> {
        rig::control_plane::prepare().await?;
        let workload = Workload::try_start().await?;
        let pool = MachinePool::start(workload.address()).await;
        let key = KeyPair::generate();
        let host = pool.host(HostOptions::new(&key)).await;
        host.put_file(KUBECONFIG_PATH, workload.kubeconfig(host.api_port()));
        host.serve_api(true);
        Ok(Self {
            _workload: workload,
            key,
            host,
        })
    }
}

/// A management control plane.
pub(crate) struct Site<'a> {
    scene: &'a Scene,
    control_plane: ControlPlane,
    /// An administrator's client.
    pub(crate) client: Client,
    /// Kubeconfig of NICO's ServiceAccount.
    kubeconfig: String,
    /// A client of NICO's ServiceAccount.
    pub(crate) account: Client,
    /// How far the clusters are.
    pub(crate) clusters: Clusters,
    _nio: Nio,
}

impl<'a> Site<'a> {
    /// Starts one, without NICO. NIO applies a configuration at once.
    pub(crate) async fn start(scene: &'a Scene) -> Result<Self, Failure> {
        Self::beside_nio_that_takes(scene, Duration::ZERO).await
    }

    /// Starts one, without NICO, where it takes NIO as long as `apply` to apply a configuration.
    pub(crate) async fn beside_nio_that_takes(
        scene: &'a Scene,
        apply: Duration,
    ) -> Result<Self, Failure> {
        let control_plane = ControlPlane::start(rig::control_plane::Options::management()).await?;
        let client = control_plane.client();
        crds::install_crds(&client, Generation::Classic).await;
        for (_, text) in deploy::manifests(&repository().join("crds")) {
            crds::install_crd_text(&client, &text).await;
        }
        // Or it would learn of the new kinds half a minute late.
        control_plane.restart_controllers()?;
        let rights = deploy::rights(&repository().join("deploy/base"));
        for object in &rights {
            deploy::apply_value(&client, "default", object.clone()).await?;
        }
        let (namespace, name) =
            deploy::service_account(&rights).ok_or("deploy/ ships no ServiceAccount")?;
        let token = control_plane
            .service_account_token(&namespace, &name)
            .await?;
        let account = control_plane.token_client(&token).await?;
        let known = || async {
            let listed = crds::clusters(&account, "default")
                .list(&ListParams::default())
                .await;
            let read = Api::<Secret>::namespaced(account.clone(), "default")
                .get_opt("none")
                .await;
            (listed.is_ok() && read.is_ok()).then_some(())
        };
        try_wait_for(START, known)
            .await
            .ok_or("the rights are not known")?;
        Ok(Self {
            scene,
            kubeconfig: control_plane.token_kubeconfig(None, &token)?,
            account,
            clusters: Clusters::watch(&client),
            _nio: Nio::start(client.clone(), apply),
            client,
            control_plane,
        })
    }

    /// Starts NICO, directly at the API server or at a proxy's `url`, and waits until it is ready.
    pub(crate) async fn nico(&self, url: Option<&str>, args: &[&str]) -> Result<Nico, Failure> {
        let mut kubeconfig = self.kubeconfig.clone();
        if let Some(url) = url {
            kubeconfig = kubeconfig.replace(self.control_plane.url(), url);
        }
        let mut all = vec!["--request-timeout".to_owned(), "30s".to_owned()];
        all.extend(args.iter().map(|arg| (*arg).to_owned()));
        let options = NicoOptions {
            binary: std::env::current_exe()?,
            kubeconfig,
            namespace: None,
            ssh_port: self.scene.host.ssh_port(),
            log: "warn".to_owned(),
            args: all,
        };
        let nico = Nico::start(options).await;
        let ready = || async { (nico.get("/readyz").await?.0 == 200).then_some(()) };
        let ready = try_wait_for(START, ready).await;
        ready.ok_or_else(|| format!("NICO does not start: {}", nico.output()))?;
        Ok(nico)
    }

    /// The administrator's configuration of the API server, for a proxy.
    pub(crate) fn config(&self) -> kube::Config {
        self.control_plane.config()
    }

    fn api_server(&self) -> Result<u32, Failure> {
        let pids = self.control_plane.pids();
        let found = pids.iter().find(|(name, _)| *name == "kube-apiserver");
        Ok(found.ok_or("no API server runs")?.1)
    }

    /// Begins to count.
    pub(crate) async fn meter(&self, nico: Option<&Nico>) -> Result<Meter, Failure> {
        Meter::start(&self.client, self.api_server()?, nico).await
    }

    /// Ends counting.
    pub(crate) async fn usage(&self, meter: &Meter, nico: Option<&Nico>) -> Result<Usage, Failure> {
        meter.stop(&self.client, nico).await
    }

    /// Makes a namespace with the SSH key of its machines.
    pub(crate) async fn namespace(&self, name: &str) -> Result<(), Failure> {
        let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": name}}))?;
        Api::all(self.client.clone())
            .create(&PostParams::default(), &namespace)
            .await?;
        let secret: Secret = serde_json::from_value(json!({"metadata": {"name": KEY}}))?;
        let secret = Secret {
            string_data: Some([("ssh-privatekey".to_owned(), self.scene.key.private_pem())].into()),
            ..secret
        };
        Api::namespaced(self.client.clone(), name)
            .create(&PostParams::default(), &secret)
            .await?;
        Ok(())
    }

    /// Makes discoverable Machines, as (namespace, name).
    pub(crate) async fn machines(&self, names: Vec<(String, String)>) -> Result<(), Failure> {
        let ip = self.scene.host.ip().to_string();
        let make = async |(namespace, name): (String, String)| -> Result<(), Failure> {
            let machines = crds::machines(&self.client, &namespace);
            let mut machine = DynamicObject::new(&name, &crds::machine_resource());
            machine.metadata.labels = Some([("role".to_owned(), "any".to_owned())].into());
            machine.data = json!({"spec": {"hostname": name, "ipAddress": ip, "sshUser": "nixos",
                "sshKeySecretRef": {"name": KEY, "namespace": namespace}}});
            machines.create(&PostParams::default(), &machine).await?;
            let status = json!({"status": {"discoverable": true, "hasConfiguration": false}});
            machines
                .patch_status(&name, &PatchParams::default(), &Patch::Merge(status))
                .await?;
            Ok(())
        };
        side_by_side(names, make).await
    }

    /// Makes clusters, as (namespace, name, spec).
    pub(crate) async fn apply(
        &self,
        clusters: Vec<(String, String, Value)>,
    ) -> Result<(), Failure> {
        let make = async |(namespace, name, spec): (String, String, Value)| -> Result<(), Failure> {
            let mut cluster = DynamicObject::new(&name, &crds::cluster_resource());
            cluster.data = json!({ "spec": spec });
            crds::clusters(&self.client, &namespace)
                .create(&PostParams::default(), &cluster)
                .await?;
            Ok(())
        };
        side_by_side(clusters, make).await
    }

    /// Deletes clusters, as (namespace, name), without waiting.
    pub(crate) async fn delete(&self, clusters: Vec<(String, String)>) -> Result<(), Failure> {
        let delete = async |(namespace, name): (String, String)| -> Result<(), Failure> {
            crds::clusters(&self.client, &namespace)
                .delete(&name, &DeleteParams::default())
                .await?;
            Ok(())
        };
        side_by_side(clusters, delete).await
    }

    /// Changes the repository of a cluster, so that it is rolled.
    pub(crate) async fn change(&self, namespace: &str, name: &str) -> Result<(), Failure> {
        let other = json!({"spec": {"gitRepo": "https://git.example.com/other.git"}});
        crds::clusters(&self.client, namespace)
            .patch(name, &PatchParams::default(), &Patch::Merge(other))
            .await?;
        Ok(())
    }

    /// Changes a cluster without changing its spec, so that it is looked at once: so many times, with this pause after each.
    pub(crate) async fn passes(
        &self,
        namespace: &str,
        name: &str,
        times: usize,
        pause: Duration,
    ) -> Result<(), Failure> {
        let clusters = crds::clusters(&self.client, namespace);
        for n in 0..times {
            let patch = Patch::Merge(
                json!({"metadata": {"annotations": {"example.com/look": n.to_string()}}}),
            );
            clusters
                .patch(name, &PatchParams::default(), &patch)
                .await?;
            tokio::time::sleep(pause).await;
        }
        Ok(())
    }
}

async fn side_by_side<T>(
    all: Vec<T>,
    each: impl AsyncFn(T) -> Result<(), Failure>,
) -> Result<(), Failure> {
    futures::stream::iter(all)
        .map(|one| each(one))
        .buffer_unordered(SIDE_BY_SIDE)
        .try_collect()
        .await
}
