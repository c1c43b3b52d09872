//! One round of fetching a kubeconfig: the machines in turn, until one has what is wanted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use tracing::debug;

use crate::api::conditions::{Cause, Reason};
use crate::api::digest::sha256;
use crate::api::names::MachineName;
use crate::api::nio::SSH_KEY;
use crate::api::spec::Endpoint;
use crate::controller::calls::CallError;
use crate::controller::gate::{Class, Gate};
use crate::controller::named::secret_value;
use crate::controller::schedule::KEY_MEMORY;
use crate::plan::observed::{AtHand, NotWorking};
use crate::plan::writes::Wanted;
use crate::remote::deadlines::{Deadlines, KUBECONFIG_VERIFICATION};
use crate::remote::known_hosts::KnownHosts;
use crate::remote::kubeconfig::facts;
use crate::remote::kubeconfig::fetch::{FetchRequest, fetch};
use crate::remote::kubeconfig::verify::{VerifyError, verify};
use crate::remote::offload::ANSWERS;
use crate::remote::secret::SecretText;
use crate::remote::ssh::Login;

/// A kubeconfig that was fetched.
#[derive(Clone)]
pub struct Fetched {
    /// Built from the parts that were read, not as the machine sent it.
    pub kubeconfig: SecretText,
    /// What the planner may know of it.
    pub at_hand: AtHand,
    /// The file and the machine, and which files were passed over, for an event.
    pub origin: String,
}

impl Fetched {
    /// SHA-256 of the kubeconfig.
    #[must_use]
    pub fn digest(&self) -> String {
        sha256(self.kubeconfig.expose().as_bytes())
    }
}

/// One machine to fetch from.
#[derive(Clone, Debug)]
pub struct FetchSource {
    /// The machine.
    pub machine: MachineName,
    /// Its address.
    pub host: String,
    /// Its user.
    pub user: String,
    /// Name of the Secret with its private key.
    pub key: String,
}

/// What is fetched, from where and how.
pub struct FetchSpec {
    /// The cluster's namespace.
    pub namespace: String,
    /// The cluster's name.
    pub cluster: String,
    /// Machines to try, in this order.
    pub sources: Vec<FetchSource>,
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

/// What a round brought. Neither a kubeconfig nor a failure: all that were fetched are no better than the stored one.
#[derive(Default)]
pub(super) struct Round {
    /// One that suits: the first that works, else the first of all.
    pub(super) fetched: Option<Fetched>,
    /// Why there is none, as it was on the first machine that failed.
    pub(super) failure: Option<Cause>,
    /// The line to be pinned, where a host was unknown.
    pub(super) host_key_line: Option<String>,
}

impl Round {
    /// Whether one was fetched that works.
    pub(super) fn works(&self) -> bool {
        self.fetched.as_ref().is_some_and(|it| it.at_hand.works())
    }
}

/// The private keys that a search needs, by Secret. They are kept for a while, since a search tries again at once.
#[derive(Default)]
pub(super) struct Keys(BTreeMap<String, (Instant, Option<SecretText>)>);

impl Keys {
    /// The key in that Secret; `None` where it is not there.
    pub(super) async fn get(
        &mut self,
        client: &kube::Client,
        namespace: &str,
        secret: &str,
    ) -> Result<Option<SecretText>, CallError> {
        let known = self.0.get(secret);
        if let Some((_, key)) = known.filter(|(at, _)| at.elapsed() < KEY_MEMORY) {
            return Ok(key.clone());
        }
        let key = secret_value(client, namespace, secret, SSH_KEY).await?;
        self.0
            .insert(secret.to_owned(), (Instant::now(), key.clone()));
        Ok(key)
    }
}

/// Fetches from the first machine that has what is wanted. Stops at a host whose key is to be pinned, so that each key is pinned
/// before the next one is met.
pub(super) async fn fetch_round(
    client: &kube::Client,
    spec: &FetchSpec,
    keys: &mut Keys,
    (searching, class): (&Gate, Class),
) -> Round {
    let mut round = Round::default();
    for source in &spec.sources {
        // Taken for each machine: one that is slow holds a place for a minute at most.
        let _place = searching.enter(&spec.namespace, &spec.cluster, class).await;
        let fetched = fetch_from(client, spec, source, keys, &mut round.host_key_line).await;
        match fetched.and_then(|fetched| suitable(spec.wanted, fetched)) {
            Ok(Some(fetched)) if round.fetched.is_none() || fetched.at_hand.works() => {
                round.fetched = Some(fetched);
            }
            Ok(_) => {}
            Err(failure) => {
                debug!(machine = %source.machine, reason = %failure.reason, "no kubeconfig from this machine");
                round.failure.get_or_insert(failure);
            }
        }
        if round.works() || round.host_key_line.is_some() {
            break;
        }
    }
    if round.fetched.is_some() {
        round.failure = None;
    } else if spec.sources.is_empty() {
        round.failure = Some(Cause::new(
            Reason::KubeconfigUnreadable,
            "no confirmed control plane machine can be asked",
        ));
    }
    round
}

/// What was fetched, where it is what is wanted; `None` where it works and is no better than the stored one.
fn suitable(wanted: Wanted, fetched: Fetched) -> Result<Option<Fetched>, Cause> {
    match &fetched.at_hand.verified {
        _ if fetched.at_hand.suits(wanted) => Ok(Some(fetched)),
        Ok(()) => Ok(None),
        Err(NotWorking { why, .. }) => Err(Cause::new(
            Reason::Unverified,
            format!("nodes cannot be listed through what was read: {why}"),
        )),
    }
}

async fn fetch_from(
    client: &kube::Client,
    spec: &FetchSpec,
    source: &FetchSource,
    keys: &mut Keys,
    host_key_line: &mut Option<String>,
) -> Result<Fetched, Cause> {
    let key = match keys.get(client, &spec.namespace, &source.key).await {
        Ok(Some(key)) => key,
        Ok(None) => {
            return Err(Cause::new(
                Reason::SSHKeyMissing,
                format!(
                    "Secret {} with the SSH key of machine {} is missing",
                    source.key, source.machine
                ),
            ));
        }
        Err(error) => {
            return Err(Cause::new(Reason::KubeconfigUnreadable, error.to_string()));
        }
    };
    let request = FetchRequest {
        cluster: &spec.cluster,
        login: Login {
            machine: source.machine.as_str(),
            host: &source.host,
            port: spec.ssh_port,
            user: &source.user,
        },
        key: &key,
        known_hosts: &spec.known_hosts,
        path: spec.path.as_deref(),
        endpoint: spec.endpoint.as_ref(),
        deadlines: Deadlines::DEFAULT,
    };
    let works = async |text: &SecretText| verify(text, KUBECONFIG_VERIFICATION).await;
    let fetched = fetch(&request, host_key_line, works)
        .await
        .map_err(|error| Cause::new(error.reason(), error.to_string()))?;
    let passed_over = fetched.passed_over();
    let origin = format!(
        "{} of machine {}{passed_over}",
        fetched.path, source.machine
    );
    let kubeconfig = fetched.kubeconfig.into_text();
    let text = kubeconfig.clone();
    let ends = ANSWERS.offload(move || facts::ends(text.expose().as_bytes()));
    let verified = fetched.verified.map_err(|error| NotWorking {
        why: format!("{error} (from {origin})"),
        ..not_working(&error)
    });
    Ok(Fetched {
        at_hand: AtHand {
            verified,
            ends: ends.await,
        },
        kubeconfig,
        origin,
    })
}

/// Whether nodes can be listed through a kubeconfig.
pub(super) async fn lists_nodes(kubeconfig: &SecretText) -> Result<(), NotWorking> {
    let verified = verify(kubeconfig, KUBECONFIG_VERIFICATION).await;
    verified.map_err(|error| not_working(&error))
}

fn not_working(error: &VerifyError) -> NotWorking {
    NotWorking {
        unreachable: matches!(error, VerifyError::Unreachable { .. }),
        why: error.to_string(),
    }
}
