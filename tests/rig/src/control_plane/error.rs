//! Errors of a control plane.

use std::{io, path::PathBuf};

use super::START_DEADLINE;
use crate::go_build;

/// Errors of a control plane.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The binary is missing and could not be built.
    #[error(transparent)]
    Build(#[from] go_build::Error),
    /// A certificate could not be made.
    #[error("certificates of the control plane: {0}")]
    Certificates(#[from] rcgen::Error),
    /// A file or directory of the control plane.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// No port is free on loopback.
    #[error("no free port on loopback: {0}")]
    Port(io::Error),
    /// A program could not be started.
    #[error("{name} could not be started: {source}")]
    Start {
        /// Which one.
        name: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// A process ended by itself.
    #[error("{name} ended ({status}); its last lines:\n{log}")]
    Ended {
        /// Which one.
        name: &'static str,
        /// Its exit status.
        status: String,
        /// Its last twenty lines.
        log: String,
    },
    /// It was not ready in time.
    #[error("the API server was not ready within {} seconds ({why}); its last lines:\n{log}", START_DEADLINE.as_secs())]
    NotReady {
        /// The last error.
        why: String,
        /// Its last twenty lines.
        log: String,
    },
    /// A kubeconfig could not be written.
    #[error("kubeconfig: {0}")]
    Kubeconfig(#[from] serde_yaml::Error),
    /// A kubeconfig could not be read.
    #[error("kubeconfig: {0}")]
    ReadKubeconfig(#[from] kube::config::KubeconfigError),
    /// The API server refused a request.
    #[error(transparent)]
    Api(#[from] kube::Error),
    /// A token was requested, and the response has none.
    #[error("the API server answered a request for a token without one")]
    NoToken,
    /// The runtime ended meanwhile.
    #[error("the runtime ended while the control plane was being built")]
    Interrupted,
    /// Another control plane is shared in this process already.
    #[error("the shared control plane was started with other options")]
    OtherOptions,
}
