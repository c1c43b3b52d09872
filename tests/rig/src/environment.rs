//! What all tests of a binary share. It is started once, on the rig's runtime: the management control plane with NIO's and NICO's
//! definitions and the shipped rights, the workload API server, and the pool of machines.

#![allow(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "the rig stops with a sentence where it cannot go on"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::control_plane::{self, ControlPlane};
use crate::crds::{Generation, install_children, install_crd_text, install_crds};
use crate::deploy;
use crate::machines::MachinePool;
use crate::runtime;
use crate::wait::wait_for;
use crate::workload::Workload;

/// How long an API server may take to learn of new rights.
const RIGHTS: Duration = Duration::from_secs(60);

/// The root of the repository from which the rig was built.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A management cluster with machines, without its namespaced objects.
pub struct Environment {
    /// The generation of NIO with which it was started.
    pub generation: Generation,
    /// The management control plane.
    pub control_plane: ControlPlane,
    /// An administrator's client for the rig's own runtime.
    pub client: Client,
    /// The API server of the workload clusters.
    pub workload: Arc<Workload>,
    /// The machines' addresses and ports.
    pub pool: Arc<MachinePool>,
    /// The objects of `deploy/base/` that grant NICO its rights.
    pub rights: Vec<Value>,
    /// The objects of `deploy/one-namespace/`, which grant NICO the same rights in only one namespace.
    pub namespace_rights: Vec<Value>,
}

/// Extends a shipped policy to the `ServiceAccount` of every world.
fn of_all_worlds(mut policy: Value) -> Value {
    for condition in policy
        .pointer_mut("/spec/matchConditions")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        let shipped = "request.userInfo.username == \"system:serviceaccount:nico-system:nico\"";
        assert_eq!(condition["expression"], shipped);
        condition["expression"] =
            r#"request.userInfo.username.matches("^system:serviceaccount:[^:]+:nico$")"#.into();
    }
    policy
}

impl Environment {
    /// Starts everything, with NIO's definitions of this generation, and NICO's from `crds/`.
    pub async fn start(generation: Generation) -> Self {
        let started = runtime().spawn(async move {
            let options = control_plane::Options::management();
            let (control_plane, workload) =
                tokio::join!(ControlPlane::start(options), Workload::start());
            let control_plane = control_plane.expect("the management control plane starts");
            let client = control_plane.client();
            install_crds(&client, generation).await;
            if generation == Generation::V1 {
                install_children(&client).await;
            }
            for (_, text) in deploy::manifests(&repository().join("crds")) {
                install_crd_text(&client, &text).await;
            }
            // Without a restart, the garbage collector would discover the new kinds up to half a minute late.
            control_plane
                .restart_controllers()
                .expect("the controllers start again");
            let rights = deploy::rights(&repository().join("deploy/base"));
            for object in &rights {
                deploy::apply_value(&client, "default", object.clone())
                    .await
                    .expect("the API server takes the shipped rights");
            }
            for policy in deploy::admission(&repository().join("deploy/base")) {
                deploy::apply_value(&client, "default", of_all_worlds(policy))
                    .await
                    .expect("the API server takes the shipped policies");
            }
            let namespace_rights = deploy::rights(&repository().join("deploy/one-namespace"));
            let pool = MachinePool::start(workload.address()).await;
            Self {
                generation,
                control_plane,
                client,
                workload: Arc::new(workload),
                pool,
                rights,
                namespace_rights,
            }
        });
        started.await.expect("the environment starts")
    }

    /// The environment of this process with classic NIO. The first call starts it.
    pub async fn shared() -> &'static Self {
        Self::of(Generation::Classic).await
    }

    /// The environment of this process with this generation of NIO. The first call starts it.
    pub async fn of(generation: Generation) -> &'static Self {
        static CLASSIC: OnceCell<Environment> = OnceCell::const_new();
        static V1: OnceCell<Environment> = OnceCell::const_new();
        let shared = match generation {
            Generation::Classic => &CLASSIC,
            Generation::V1 => &V1,
        };
        shared.get_or_init(|| Self::start(generation)).await
    }

    /// A kubeconfig for the API server at `url`, with the shipped `ServiceAccount`, which has its rights in all namespaces.
    pub async fn service_account_kubeconfig(&self, url: &str) -> String {
        let (namespace, name) =
            deploy::service_account(&self.rights).expect("deploy/ ships a ServiceAccount");
        self.kubeconfig_of(&namespace, &name, url).await
    }

    /// A kubeconfig for the API server at `url`, with a new `ServiceAccount` in `namespace`. It has the rights that are shipped for one
    /// namespace, and those for the Lease, only in that namespace.
    pub async fn namespace_kubeconfig(
        &self,
        client: &Client,
        namespace: &str,
        url: &str,
    ) -> String {
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": "nico", "namespace": namespace}});
        let mut objects = vec![account];
        let to_the_lease = self.rights.iter().filter(|object| {
            object["kind"]
                .as_str()
                .is_some_and(|kind| ["Role", "RoleBinding"].contains(&kind))
        });
        for mut object in to_the_lease.chain(&self.namespace_rights).cloned() {
            object["metadata"]["namespace"] = json!(namespace);
            if object["kind"] == "RoleBinding" {
                object["subjects"] =
                    json!([{"kind": "ServiceAccount", "name": "nico", "namespace": namespace}]);
            }
            objects.push(object);
        }
        for object in objects {
            deploy::apply_value(client, namespace, object)
                .await
                .expect("the API server takes the shipped rights");
        }
        self.kubeconfig_of(namespace, "nico", url).await
    }

    async fn kubeconfig_of(&self, namespace: &str, name: &str, url: &str) -> String {
        let token = self.control_plane.service_account_token(namespace, name);
        let token = token.await.expect("the ServiceAccount gets a token");
        self.wait_for_rights(namespace, &token).await;
        self.control_plane
            .token_kubeconfig(Some(url), &token)
            .expect("a kubeconfig can be written")
    }

    /// Waits until the API server knows the rights of a token. Its caches see a new binding late, and NICO's first requests would be
    /// refused.
    async fn wait_for_rights(&self, namespace: &str, token: &str) {
        let client = self.control_plane.token_client(token);
        let client = client.await.expect("a token makes a client");
        let seen = || async {
            let clusters = crate::crds::clusters(&client, namespace);
            let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
            let listed = clusters.list(&ListParams::default().limit(1)).await;
            let read = secrets.get_opt("no-such-secret").await;
            (listed.is_ok() && read.is_ok()).then_some(())
        };
        wait_for("the rights of the ServiceAccount are known", RIGHTS, seen).await;
    }
}
