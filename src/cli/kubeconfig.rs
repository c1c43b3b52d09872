//! Finds the management API server as kubectl does: `KUBECONFIG`, `~/.kube/config`, else the pod's service account.
//!
//! kube's own inference falls back to the service account when a kubeconfig is broken, and does not report the file. Here, the first source
//! that exists is used. Errors that could quote the file are never shown, since it holds credentials.

use std::{
    env,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use kube::config::{Config, InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};

use crate::remote::git::Reach;

/// Time for a TCP and TLS connection to the API server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that receives nothing for this long is closed.
const WATCH_TIMEOUT: Duration = Duration::from_secs(300);

/// No API server was found. The message names the file and how to fix it.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConfigError {
    /// A kubeconfig that `KUBECONFIG` names.
    #[error("KUBECONFIG names {path}, which {why}; correct the file or the variable")]
    Named { path: String, why: String },
    /// The user's `~/.kube/config`.
    #[error("the kubeconfig {path} {why}; correct it, or name another one in KUBECONFIG")]
    Default { path: String, why: String },
    /// No kubeconfig, and not in a pod.
    #[error(
        "no API server is known: KUBECONFIG is not set, ~/.kube/config does not exist, and this is no pod with a service account ({0}); \
         name a kubeconfig in KUBECONFIG"
    )]
    Nowhere(InClusterError),
    /// In a pod without service account credentials.
    #[error(
        "the pod's service account cannot be used: {0}; set automountServiceAccountToken: true in the Deployment"
    )]
    ServiceAccount(InClusterError),
}

/// The configuration of the client, with its timeouts, and whether NICO uses the service account of a pod. kube's own retries are off:
/// they would repeat a POST.
pub(super) async fn find() -> Result<(Config, Reach), ConfigError> {
    let (mut config, reach) = source().await?;
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    // This detects a dead watch: kube-runtime asks the API server to end each watch after 290 s, so a live one is never silent for longer.
    // Every other call has a shorter timeout.
    config.read_timeout = Some(WATCH_TIMEOUT);
    // kube uses HTTPS_PROXY for every address. kubectl does not use it for loopback addresses, and neither does NICO.
    if config.cluster_url.host().is_some_and(is_loopback) {
        config.proxy_url = None;
    }
    Ok((config, reach))
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host == "localhost"
        || host
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback())
}

async fn source() -> Result<(Config, Reach), ConfigError> {
    let from_host = |config| (config, Reach::Host);
    let named = env::var_os("KUBECONFIG").unwrap_or_default();
    let paths: Vec<PathBuf> = env::split_paths(&named)
        .filter(|path| !path.as_os_str().is_empty())
        .collect();
    if !paths.is_empty() {
        return load(&paths)
            .await
            .map(from_host)
            .map_err(|(path, why)| ConfigError::Named { path, why });
    }
    if let Some(path) = env::home_dir().map(|home| home.join(".kube").join("config"))
        && path.exists()
    {
        return load(&[path])
            .await
            .map(from_host)
            .map_err(|(path, why)| ConfigError::Default { path, why });
    }
    let of_pod = Config::incluster().map(|config| (config, Reach::Pod));
    of_pod.map_err(|error| match env::var_os("KUBERNETES_SERVICE_HOST") {
        Some(_) => ConfigError::ServiceAccount(error),
        None => ConfigError::Nowhere(error),
    })
}

/// Reads and merges the files as kubectl does: if there are several, those that do not exist are skipped.
async fn load(paths: &[PathBuf]) -> Result<Config, (String, String)> {
    let all = || {
        let shown: Vec<_> = paths.iter().map(|path| shown(path)).collect();
        shown.join(" and ")
    };
    let mut merged = Kubeconfig::default();
    let mut found = false;
    for path in paths {
        if !path.exists() {
            continue;
        }
        found = true;
        merged = Kubeconfig::read_from(path)
            .and_then(|file| merged.merge(file))
            .map_err(|error| (shown(path), why(&error)))?;
    }
    if !found {
        return Err((all(), "does not exist".to_owned()));
    }
    Config::from_custom_kubeconfig(merged, &KubeConfigOptions::default())
        .await
        .map_err(|error| (all(), why(&error)))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn why(error: &KubeconfigError) -> String {
    match error {
        // The parser's message quotes the lines around the error.
        KubeconfigError::Parse(_) => "is not a kubeconfig in YAML".to_owned(),
        KubeconfigError::CurrentContextNotSet => "sets no current-context".to_owned(),
        KubeconfigError::LoadContext(name) => {
            format!("has no context {name:?}, which its current-context names")
        }
        KubeconfigError::LoadClusterOfContext(name) => {
            format!("has no cluster {name:?}, which its current context names")
        }
        KubeconfigError::MissingClusterUrl => {
            "names no server in the cluster of its current context".to_owned()
        }
        other => format!("cannot be used: {other}"),
    }
}
