//! The workload cluster of the machines: another real API server, its Nodes, and the flake, which simulates what a machine does once NIO
//! has applied a configuration to it.

#![allow(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "the rig stops with a sentence where it cannot go on"
)]

mod flake;
mod lease;
mod node;

pub use flake::{Flake, Founding, Tenancy};
pub use lease::Lease;
pub use node::{CONTROL_PLANE_LABEL, NodeSpec};

use std::net::{Ipv4Addr, SocketAddr};

use kube::Client;
use serde_json::{Value, json};

use crate::control_plane::{self, ControlPlane, Options};
use crate::machines::all_addresses;

/// Where k3s writes its admin kubeconfig; NICO tries this path first.
pub const KUBECONFIG_PATH: &str = "/etc/rancher/k3s/k3s.yaml";

/// The workload API server.
pub struct Workload {
    control_plane: ControlPlane,
    client: Client,
    address: SocketAddr,
    /// The API server's version, which is also the default of kubelets.
    version: String,
}

impl Workload {
    /// Starts a workload API server. Its certificate covers the address of every machine.
    ///
    /// Call it on the rig's runtime, so that its client outlives a test.
    pub async fn start() -> Self {
        Self::try_start()
            .await
            .expect("the workload's control plane starts")
    }

    /// Like [`Workload::start`], but returns errors.
    pub async fn try_start() -> Result<Self, control_plane::Error> {
        let options = Options {
            extra_sans: all_addresses(),
            ..Options::default()
        };
        let control_plane = ControlPlane::start(options).await?;
        let port = control_plane
            .url()
            .rsplit(':')
            .next()
            .and_then(|port| port.parse().ok());
        let address = (
            Ipv4Addr::LOCALHOST,
            port.expect("the API server's URL names its port"),
        );
        let client = control_plane.client();
        let version = client.apiserver_version().await?.git_version;
        Ok(Self {
            control_plane,
            client,
            address: address.into(),
            version,
        })
    }

    /// The address of the API server.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The API server's version, such as `v1.37.2`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The control plane itself.
    #[must_use]
    pub fn control_plane(&self) -> &ControlPlane {
        &self.control_plane
    }

    /// The administrator's kubeconfig as k3s writes it on a machine: the server is loopback with the machine's API port, and credentials
    /// are embedded.
    #[must_use]
    pub fn kubeconfig(&self, api_port: u16) -> String {
        let text = self.control_plane.admin_kubeconfig();
        let mut config: Value = serde_yaml::from_str(text).expect("our own kubeconfig parses");
        config["clusters"][0]["name"] = json!("default");
        config["clusters"][0]["cluster"]["server"] = json!(format!("https://127.0.0.1:{api_port}"));
        config["users"][0]["name"] = json!("default");
        config["contexts"] =
            json!([{"name": "default", "context": {"cluster": "default", "user": "default"}}]);
        config["current-context"] = json!("default");
        serde_yaml::to_string(&config).expect("a kubeconfig can be written")
    }
}
