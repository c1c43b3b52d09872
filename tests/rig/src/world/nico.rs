//! NICO in a world: the real binary, the shipped `ServiceAccount`, and a proxy between it and the API server.

use std::ops::Deref;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::World;
use crate::process::{Nico, NicoOptions};
use crate::proxy::Proxy;

/// Options of NICO in a world.
#[derive(Clone, Debug)]
pub struct NicoSetup {
    /// The binary (`env!("CARGO_BIN_EXE_nico")`).
    pub binary: PathBuf,
    /// The tracing filter: `nico=debug,warn` by default, `trace` to search for secrets.
    pub log: String,
    /// Additional arguments of `nico run`.
    pub args: Vec<String>,
    /// Whether it watches all namespaces, with the rights to do so.
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

    /// Watches all namespaces. It then sees other worlds of the binary, so this is for binaries with only one world.
    #[must_use]
    pub fn everywhere(mut self) -> Self {
        self.everywhere = true;
        self
    }

    /// Sets the tracing filter.
    #[must_use]
    pub fn log(mut self, filter: &str) -> Self {
        filter.clone_into(&mut self.log);
        self
    }

    /// Adds arguments.
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
    /// Its bearer token for the management API server, which must not appear anywhere.
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

    /// Starts NICO for this namespace through `proxy`, without waiting.
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
