//! One round of reading the kubeconfig: the machines in turn, until one has it (SPEC 6).

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;
use tracing::debug;

use crate::api::cluster::RawCluster;
use crate::api::conditions::{Cause, Reason};
use crate::api::digest::sha256;
use crate::api::names::MachineName;
use crate::api::nio::SSH_KEY;
use crate::api::spec::Endpoint;
use crate::controller::named::secret_value;
use crate::plan::observed::NotWorking;
use crate::plan::writes::Wanted;
use crate::remote::known_hosts::KnownHosts;
use crate::remote::kubeconfig::facts;
use crate::remote::kubeconfig::fetch::{self, FetchRequest};
use crate::remote::kubeconfig::verify::{VerifyError, verify};
use crate::remote::secret::SecretText;
use crate::remote::ssh::{Deadlines, Login};

/// Bounds one try of a kubeconfig.
pub(super) const VERIFY: Duration = Duration::from_secs(10);

/// A kubeconfig that was read.
#[derive(Clone)]
pub struct Read {
    /// Built anew (SPEC 6).
    pub kubeconfig: SecretText,
    /// Whether nodes were listed through it.
    pub verified: Result<(), NotWorking>,
    /// When its client certificate ends; `None` where it has none.
    pub ends: Option<Timestamp>,
}

impl Read {
    /// SHA-256 of the kubeconfig.
    #[must_use]
    pub fn digest(&self) -> String {
        sha256(self.kubeconfig.expose().as_bytes())
    }
}

/// One machine to read from.
#[derive(Clone, Debug)]
pub struct Source {
    /// The machine.
    pub machine: MachineName,
    /// Its address.
    pub host: String,
    /// Its user.
    pub user: String,
    /// Name of the Secret with its private key.
    pub key: String,
}

/// What one fetch needs.
#[derive(Clone)]
pub struct Order {
    /// The cluster.
    pub cluster: ObjectRef<RawCluster>,
    /// Its uid.
    pub uid: String,
    /// Machines to try, in this order.
    pub sources: Vec<Source>,
    /// Pinned host keys.
    pub known_hosts: Arc<KnownHosts>,
    /// Port of the machines' SSH servers.
    pub ssh_port: u16,
    /// `spec.kubeconfig.path`.
    pub path: Option<String>,
    /// `spec.controlPlaneEndpoint`.
    pub endpoint: Option<Endpoint>,
    /// Which one is looked for.
    pub wanted: Wanted,
}

/// What was read, nothing where all that was is no better than what there is, or why nothing was; and the line to be pinned,
/// where a host was unknown.
pub(super) type Outcome = (Result<Option<Read>, Cause>, Option<String>);

/// Reads from the first machine that has what is wanted; where one that does not work will do, takes the first that was read.
/// What fails on all is told as it was on the first. Stops at a host whose key is to be pinned, so that each key is pinned before
/// the next one is met.
pub(super) async fn try_all(client: &kube::Client, order: &Order) -> Outcome {
    let mut first_failure = None;
    let mut untried = None;
    let mut nothing_better = false;
    for source in &order.sources {
        let (outcome, line) = try_one(client, order, source).await;
        let outcome = outcome.and_then(|read| suits(order.wanted, read));
        let works = |read: &Read| read.verified.is_ok();
        if line.is_some() || matches!(&outcome, Ok(Some(read)) if works(read)) {
            return (outcome, line);
        }
        match outcome {
            Ok(None) => nothing_better = true,
            Ok(Some(read)) => {
                untried.get_or_insert(read);
            }
            Err(failure) => {
                debug!(cluster = %order.cluster.name, machine = %source.machine, reason = %failure.reason, "no kubeconfig from this machine");
                first_failure.get_or_insert(failure);
            }
        }
    }
    if untried.is_some() || (nothing_better && first_failure.is_none()) {
        return (Ok(untried), None);
    }
    let nobody = || {
        Cause::new(
            Reason::KubeconfigUnreadable,
            "no confirmed control plane machine can be asked",
        )
    };
    (Err(first_failure.unwrap_or_else(nobody)), None)
}

/// What was read, where it is what is wanted.
fn suits(wanted: Wanted, read: Read) -> Result<Option<Read>, Cause> {
    match (wanted, &read.verified) {
        (Wanted::First | Wanted::Any, _) | (Wanted::Working, Ok(())) => Ok(Some(read)),
        (Wanted::Working | Wanted::Later(_), Err(not_working)) => Err(Cause::new(
            Reason::Unverified,
            format!(
                "nodes cannot be listed through what was read: {}",
                not_working.why
            ),
        )),
        (Wanted::Later(than), Ok(())) => {
            let is_later = read.ends.is_none_or(|ends| ends > than);
            Ok(is_later.then_some(read))
        }
    }
}

async fn try_one(
    client: &kube::Client,
    order: &Order,
    source: &Source,
) -> (Result<Read, Cause>, Option<String>) {
    let namespace = order.cluster.namespace.as_deref().unwrap_or_default();
    let missing = || {
        Cause::new(
            Reason::SSHKeyMissing,
            format!(
                "Secret {} with the SSH key of machine {} is missing",
                source.key, source.machine
            ),
        )
    };
    let key = match secret_value(client, namespace, &source.key, SSH_KEY).await {
        Ok(Some(key)) => key,
        Ok(None) => return (Err(missing()), None),
        Err(error) => {
            return (
                Err(Cause::new(Reason::KubeconfigUnreadable, error.to_string())),
                None,
            );
        }
    };
    let request = FetchRequest {
        cluster: &order.cluster.name,
        login: Login {
            machine: source.machine.as_str(),
            host: &source.host,
            port: order.ssh_port,
            user: &source.user,
        },
        key: &key,
        known_hosts: &order.known_hosts,
        path: order.path.as_deref(),
        endpoint: order.endpoint.as_ref(),
        deadlines: Deadlines::DEFAULT,
    };
    match fetch::fetch(&request).await {
        Err(error) => (
            Err(Cause::new(error.reason(), error.to_string())),
            error.new_host_key_line,
        ),
        Ok(fetched) => {
            let kubeconfig = fetched.kubeconfig.into_text();
            let verified = verify(&kubeconfig, VERIFY)
                .await
                .map_err(|error| not_working(&error));
            (
                Ok(Read {
                    ends: facts::ends(kubeconfig.expose().as_bytes()),
                    kubeconfig,
                    verified,
                }),
                fetched.new_host_key_line,
            )
        }
    }
}

/// What a try says to the planner.
pub(super) fn not_working(error: &VerifyError) -> NotWorking {
    NotWorking {
        unreachable: matches!(error, VerifyError::Unreachable { .. }),
        why: error.to_string(),
    }
}
