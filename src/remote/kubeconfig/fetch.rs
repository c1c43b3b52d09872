//! Fetches the admin kubeconfig from a control plane machine, and rebuilds it from its harmless parts.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use tokio::time::timeout;

use super::rebuild::{self, Rebuilt, RebuiltFor, Unsafe};
use super::verify::VerifyError;
use crate::api::conditions::Reason;
use crate::api::spec::Endpoint;
use crate::remote::deadlines::Deadlines;
use crate::remote::known_hosts::KnownHosts;
use crate::remote::offload::ANSWERS;
use crate::remote::secret::{SecretBytes, SecretText};
use crate::remote::ssh::{self, FileRead, Login, Session, SshError, Step};

/// The paths of the admin kubeconfig in the distributions, in the order in which they are tried.
pub const WELL_KNOWN: [&str; 5] = [
    "/etc/rancher/k3s/k3s.yaml",
    "/etc/rancher/rke2/rke2.yaml",
    "/var/lib/k0s/pki/admin.conf",
    "/etc/kubernetes/admin.conf",
    "/etc/kubernetes/cluster-admin.kubeconfig",
];

/// What to fetch, from where, and with which credentials.
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
    /// `spec.kubeconfig.path`; `None`: the well-known paths.
    pub path: Option<&'a str>,
    /// `spec.controlPlaneEndpoint`.
    pub endpoint: Option<&'a Endpoint>,
    /// How long it may take.
    pub deadlines: Deadlines,
}

/// Why a kubeconfig was not fetched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// SSH to the machine failed.
    #[error(transparent)]
    Ssh(#[from] SshError),
    /// All kubeconfigs of the machine are refused.
    #[error("no kubeconfig of machine {machine} can be used: {}", listed(.refused))]
    Unsafe {
        /// The machine.
        machine: String,
        /// The files, each with why it is refused or cannot be read.
        refused: Vec<(String, String)>,
    },
    /// No kubeconfig was found at the paths that were tried.
    #[error("no admin kubeconfig can be read on machine {machine}: {}; set `kubeconfig.path` where it lies elsewhere", tried(.missing, .denied))]
    NotFound {
        /// The machine.
        machine: String,
        /// Paths at which there is no file.
        missing: Vec<String>,
        /// Paths at which there is a file that neither the user nor `sudo -n` may read.
        denied: Vec<String>,
    },
    /// The path in the spec is not allowed.
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

const DENIED: &str = "cannot be read by its user, nor with sudo without a password";

fn tried(missing: &[String], denied: &[String]) -> String {
    let mut parts = Vec::new();
    if !denied.is_empty() {
        parts.push(format!("{} {DENIED}", denied.join(", ")));
    }
    if !missing.is_empty() {
        parts.push(format!("there is no file at {}", missing.join(", ")));
    }
    parts.join("; ")
}

fn listed<E: Display>(files: &[(String, E)]) -> String {
    let each = files.iter().map(|(path, why)| format!("{path}: {why}"));
    each.collect::<Vec<_>>().join("; ")
}

/// A kubeconfig that was fetched.
pub struct Fetched {
    /// The rebuilt kubeconfig.
    pub kubeconfig: Rebuilt,
    /// Whether it works, or why not.
    pub verified: Result<(), VerifyError>,
    /// The file.
    pub path: String,
    /// The skipped files: those before it that are refused or do not work, each with the reason.
    pub passed_over: Vec<(String, String)>,
}

impl Fetched {
    /// The skipped files, for a message; empty if there are none.
    #[must_use]
    pub fn passed_over(&self) -> String {
        match listed(&self.passed_over) {
            files if files.is_empty() => files,
            files => format!("; passed over {files}"),
        }
    }
}

/// Logs in, reads kubeconfigs and the files that they name, and rebuilds them, until `works` reports that one works. Files that are refused
/// or do not work are skipped. If none works, the result is the first whose server does not answer, else the first of all. If the host was
/// unknown and its key was accepted, the line to pin is put into `new_host_key_line`, even if a later step fails.
pub async fn fetch(
    request: &FetchRequest<'_>,
    new_host_key_line: &mut Option<String>,
    works: impl AsyncFn(&SecretText) -> Result<(), VerifyError>,
) -> Result<Fetched, FetchError> {
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
    let mut search = Search::default();
    let all = async {
        let session = ssh::connect(login, key, known_hosts, deadlines, new_host_key_line).await?;
        search.all(request, &session, works).await
    };
    let ended = timeout(deadlines.whole, all).await.unwrap_or_else(|_| {
        let at = format!("{} ({})", login.machine, login.host);
        let during = Step::Kubeconfig;
        Err(SshError::Timeout { at, during })
    });
    search.found(login.machine, ended)
}

/// What was found at the paths so far.
#[derive(Default)]
struct Search {
    tried: Vec<(String, Rebuilt, Result<(), VerifyError>)>,
    refused: Vec<(String, Unsafe)>,
    missing: Vec<String>,
    denied: Vec<String>,
    broken_off: Vec<(String, SshError)>,
}

impl Search {
    /// Tries the paths until a kubeconfig works.
    async fn all(
        &mut self,
        request: &FetchRequest<'_>,
        session: &Session,
        works: impl AsyncFn(&SecretText) -> Result<(), VerifyError>,
    ) -> Result<(), SshError> {
        let places = match &request.path {
            Some(path) => std::slice::from_ref(path),
            None => &WELL_KNOWN[..],
        };
        for path in places {
            let content = match session.read_file(path).await {
                Ok(FileRead::Content(content)) => content,
                Ok(FileRead::Missing) => {
                    self.missing.push((*path).to_owned());
                    continue;
                }
                Ok(FileRead::Denied) => {
                    self.denied.push((*path).to_owned());
                    continue;
                }
                Err(SshError::TooLarge { .. }) => {
                    self.refused.push(((*path).to_owned(), Unsafe::TooLarge));
                    continue;
                }
                // The file may be a pipe, which never ends, or what reads it is killed. The connection may still be usable.
                Err(error @ (SshError::Timeout { .. } | SshError::CutOff { .. })) => {
                    self.broken_off.push(((*path).to_owned(), error));
                    continue;
                }
                Err(error) => return Err(error),
            };
            match rebuilt(request, session, content).await? {
                Ok(kubeconfig) => {
                    let verified = works(kubeconfig.text()).await;
                    let done = verified.is_ok();
                    self.tried.push(((*path).to_owned(), kubeconfig, verified));
                    if done {
                        break;
                    }
                }
                Err(why) => self.refused.push(((*path).to_owned(), why)),
            }
        }
        Ok(())
    }

    /// The files that are refused or cannot be read, each with the reason.
    fn unusable(&self) -> Vec<(String, String)> {
        let refused = self.refused.iter();
        let refused = refused.map(|(path, why)| (path.clone(), why.to_string()));
        let denied = self.denied.iter();
        let denied = denied.map(|path| (path.clone(), DENIED.to_owned()));
        let broken_off = self.broken_off.iter().map(|(path, error)| {
            let why = match error {
                SshError::Timeout { .. } => "does not end in time",
                _ => "the machine breaks off",
            };
            (path.clone(), why.to_owned())
        });
        refused.chain(denied).chain(broken_off).collect()
    }

    /// Returns the best kubeconfig that was found.
    fn found(mut self, machine: &str, ended: Result<(), SshError>) -> Result<Fetched, FetchError> {
        let at = |works: fn(&Result<(), VerifyError>) -> bool| {
            self.tried.iter().position(|(_, _, outcome)| works(outcome))
        };
        let best = at(Result::is_ok)
            .or_else(|| at(|outcome| matches!(outcome, Err(VerifyError::Unreachable { .. }))))
            .or_else(|| at(|_| true));
        let machine = machine.to_owned();
        let Some(best) = best else {
            if !self.refused.is_empty() {
                let refused = self.unusable();
                return Err(FetchError::Unsafe { machine, refused });
            }
            ended?;
            if let Some((_, error)) = self.broken_off.into_iter().next() {
                return Err(error.into());
            }
            return Err(FetchError::NotFound {
                machine,
                missing: self.missing,
                denied: self.denied,
            });
        };
        let (path, kubeconfig, verified) = self.tried.remove(best);
        let mut passed_over = self.unusable();
        let others = self.tried.into_iter().filter_map(|(path, _, verified)| {
            let why = verified.err()?;
            Some((path, why.to_string()))
        });
        passed_over.extend(others);
        Ok(Fetched {
            kubeconfig,
            verified,
            path,
            passed_over,
        })
    }
}

/// Rebuilds a kubeconfig from the harmless parts of `content` and of the files that it names.
async fn rebuilt(
    request: &FetchRequest<'_>,
    session: &Session,
    content: SecretBytes,
) -> Result<Result<Rebuilt, Unsafe>, SshError> {
    let inspect = move || rebuild::inspect(content.expose());
    let parsed = match ANSWERS.offload(inspect).await {
        Ok(parsed) => parsed,
        Err(why) => return Ok(Err(why)),
    };
    let mut files = BTreeMap::new();
    for (field, file) in parsed.files() {
        match session.read_file(file).await {
            Ok(FileRead::Content(content)) => drop(files.insert(field, content)),
            // The messages of the last two errors would quote the path, which the machine chose.
            Ok(FileRead::Missing | FileRead::Denied)
            | Err(SshError::TooLarge { .. } | SshError::CutOff { .. } | SshError::Timeout { .. }) =>
            {
                return Ok(Err(Unsafe::FileMissing { field }));
            }
            Err(error) => return Err(error),
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
    Ok(ANSWERS.offload(finish).await)
}
