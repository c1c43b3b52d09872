//! Fetches the admin kubeconfig from a control plane machine and builds it anew. It is not tried here: see `verify`.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::timeout;

use super::rebuild::{self, Rebuilt, RebuiltFor, Unsafe};
use crate::api::conditions::Reason;
use crate::api::spec::Endpoint;
use crate::remote::deadlines::Deadlines;
use crate::remote::known_hosts::KnownHosts;
use crate::remote::offload::ANSWERS;
use crate::remote::secret::{SecretBytes, SecretText};
use crate::remote::ssh::{self, FileRead, Login, Session, SshError};

/// Where the distributions put the admin kubeconfig, in the order in which they are tried.
pub const WELL_KNOWN: [&str; 5] = [
    "/etc/rancher/k3s/k3s.yaml",
    "/etc/rancher/rke2/rke2.yaml",
    "/var/lib/k0s/pki/admin.conf",
    "/etc/kubernetes/admin.conf",
    "/etc/kubernetes/cluster-admin.kubeconfig",
];

/// What is fetched, from where and with what.
#[derive(Clone, Copy)]
pub struct FetchRequest<'a> {
    /// The cluster's name, a DNS label.
    pub cluster: &'a str,
    /// The machine, and the user on it.
    pub login: Login<'a>,
    /// The machine's private key.
    pub key: &'a SecretText,
    /// The pinned host keys.
    pub known_hosts: &'a Arc<KnownHosts>,
    /// `spec.kubeconfig.path`; absent: the well-known places.
    pub path: Option<&'a str>,
    /// `spec.controlPlaneEndpoint`.
    pub endpoint: Option<&'a Endpoint>,
    /// How long it may take.
    pub deadlines: Deadlines,
}

/// Why a kubeconfig was not fetched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The machine cannot be asked.
    #[error(transparent)]
    Ssh(#[from] SshError),
    /// What the machine sent is refused.
    #[error("the kubeconfig at {path} of machine {machine} is refused: {why}")]
    Unsafe {
        /// The machine.
        machine: String,
        /// The file.
        path: String,
        /// Why.
        why: Unsafe,
    },
    /// There is no kubeconfig where it was looked for.
    #[error("no admin kubeconfig can be read on machine {machine}: {}; set `kubeconfig.path` where it lies elsewhere", tried(.missing, .denied))]
    NotFound {
        /// The machine.
        machine: String,
        /// Paths at which there is no file.
        missing: Vec<String>,
        /// Paths at which there is a file that neither the user nor `sudo -n` may read.
        denied: Vec<String>,
    },
    /// The path in the spec is not one that may be asked for.
    #[error(
        "`spec.kubeconfig.path` must be an absolute path of letters, digits, `.`, `_`, `-` and `/` without `..`"
    )]
    Path,
}

impl FetchError {
    /// The reason of the condition `KubeconfigReady`.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Ssh(error) => error.reason(),
            Self::Unsafe { .. } => Reason::KubeconfigUnsafe,
            Self::NotFound { .. } | Self::Path => Reason::KubeconfigUnreadable,
        }
    }
}

fn tried(missing: &[String], denied: &[String]) -> String {
    let mut parts = Vec::new();
    if !denied.is_empty() {
        let paths = denied.join(", ");
        parts.push(format!(
            "{paths} cannot be read by its user, nor with sudo without a password"
        ));
    }
    if !missing.is_empty() {
        parts.push(format!("there is no file at {}", missing.join(", ")));
    }
    parts.join("; ")
}

/// Logs in, reads the kubeconfig and the files that it names, and builds it anew. Where the host was unknown and its key was
/// accepted, the line to be pinned is put into `new_host_key_line`, whatever comes of the rest.
pub async fn fetch(
    request: &FetchRequest<'_>,
    new_host_key_line: &mut Option<String>,
) -> Result<Rebuilt, FetchError> {
    let FetchRequest {
        login,
        key,
        known_hosts,
        deadlines,
        ..
    } = request;
    if request
        .path
        .is_some_and(|path| !rebuild::is_clean_path(path))
    {
        return Err(FetchError::Path);
    }
    let all = async {
        let session = ssh::connect(login, key, known_hosts, deadlines, new_host_key_line).await?;
        read(request, &session).await
    };
    timeout(deadlines.whole, all).await.unwrap_or_else(|_| {
        let at = format!("{} ({})", login.machine, login.host);
        let during = "to send its kubeconfig";
        Err(SshError::Timeout { at, during }.into())
    })
}

async fn read(request: &FetchRequest<'_>, session: &Session) -> Result<Rebuilt, FetchError> {
    let (path, content) = find(request, session).await?;
    let refused = |why| FetchError::Unsafe {
        machine: request.login.machine.to_owned(),
        path: path.to_owned(),
        why,
    };
    let inspect = move || rebuild::inspect(content.expose());
    let parsed = ANSWERS.offload(inspect).await.map_err(refused)?;
    let mut files = BTreeMap::new();
    for (field, file) in parsed.files() {
        match session.read_file(file).await {
            Ok(FileRead::Content(content)) => drop(files.insert(field, content)),
            // An error of the last two kinds would quote the path, which is the machine's word.
            Ok(FileRead::Missing | FileRead::Denied)
            | Err(SshError::TooLarge { .. } | SshError::CutOff { .. }) => {
                return Err(refused(Unsafe::FileMissing { field }));
            }
            Err(error) => return Err(error.into()),
        }
    }
    let cluster = request.cluster.to_owned();
    let address = request.login.host.to_owned();
    let endpoint = request.endpoint.cloned();
    let finish = move || {
        let target = RebuiltFor {
            cluster: &cluster,
            machine_address: &address,
            endpoint: endpoint.as_ref(),
        };
        parsed.finish(&files, &target)
    };
    ANSWERS.offload(finish).await.map_err(refused)
}

/// The first place at which there is a file that can be read.
async fn find<'a>(
    request: &FetchRequest<'a>,
    session: &Session,
) -> Result<(&'a str, SecretBytes), FetchError> {
    let (mut missing, mut denied) = (Vec::new(), Vec::new());
    let paths = match &request.path {
        Some(path) => std::slice::from_ref(path),
        None => &WELL_KNOWN[..],
    };
    for path in paths {
        match session.read_file(path).await? {
            FileRead::Content(content) => return Ok((path, content)),
            FileRead::Missing => missing.push((*path).to_owned()),
            FileRead::Denied => denied.push((*path).to_owned()),
        }
    }
    Err(FetchError::NotFound {
        machine: request.login.machine.to_owned(),
        missing,
        denied,
    })
}
