//! NICO in a world: the real binary, the shipped `ServiceAccount`, and a proxy between it and the API server.

use std::ops::Deref;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::World;
use crate::process::{Nico, NicoOptions};
use crate::proxy::Proxy;

/// How NICO is started in a world.
#[derive(Clone, Debug)]
pub struct NicoSetup {
    /// The binary (`env!("CARGO_BIN_EXE_nico")`).
    pub binary: PathBuf,
    /// The tracing filter; `nico=debug,warn` unless told, `trace` for a search for secrets.
    pub log: String,
    /// Further arguments of `nico run`.
    pub args: Vec<String>,
    /// Whether it watches all namespaces, with the rights for that.
    pub everywhere: bool,
}

impl NicoSetup {
    /// The binary with its defaults, for one namespace.
    #[must_use]
    pub fn new(binary: impl AsRef<Path>) -> Self {
        Self {
            binary: binary.as_ref().to_owned(),
            log: "nico=debug,warn".to_owned(),
            args: vec![],
            everywhere: false,
        }
    }

    /// For all namespaces. Other worlds of the binary are then within its sight: for a test binary that has only one.
    #[must_use]
    pub fn everywhere(mut self) -> Self {
        self.everywhere = true;
        self
    }

    /// With a tracing filter.
    #[must_use]
    pub fn log(mut self, filter: &str) -> Self {
        filter.clone_into(&mut self.log);
        self
    }

    /// With further arguments.
    #[must_use]
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }
}

/// A running NICO; dereferences to the process.
pub struct RunningNico {
    process: Nico,
    token: String,
}

impl RunningNico {
    /// The bearer token by which it speaks to the management API server: nobody's to see.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }
}

impl Deref for RunningNico {
    type Target = Nico;

    fn deref(&self) -> &Nico {
        &self.process
    }
}

impl World {
    /// A proxy in front of the management API server.
    pub async fn proxy(&self) -> Proxy {
        Proxy::start(&self.environment.control_plane.config()).await
    }

    /// Starts NICO for this namespace through `proxy` and waits until it is ready.
    pub async fn nico(&self, setup: &NicoSetup, proxy: &Proxy) -> RunningNico {
        let nico = self.nico_unready(setup, proxy).await;
        nico.wait_ready().await;
        nico
    }

    /// Starts NICO for this namespace through `proxy`, and does not wait.
    pub async fn nico_unready(&self, setup: &NicoSetup, proxy: &Proxy) -> RunningNico {
        let environment = self.environment;
        let kubeconfig = if setup.everywhere {
            environment.service_account_kubeconfig(proxy.url()).await
        } else {
            environment
                .namespace_kubeconfig(&self.client, &self.namespace, proxy.url())
                .await
        };
        let parsed: Value = serde_yaml::from_str(&kubeconfig).expect("our own kubeconfig parses");
        let token = parsed["users"][0]["user"]["token"].as_str();
        let token = token.expect("it holds a token").to_owned();
        let process = Nico::start(NicoOptions {
            binary: setup.binary.clone(),
            kubeconfig,
            namespace: (!setup.everywhere).then(|| self.namespace.clone()),
            ssh_port: environment.pool.ssh_port(),
            log: setup.log.clone(),
            args: setup.args.clone(),
        })
        .await;
        RunningNico { process, token }
    }
}
