//! One round of fetching a kubeconfig: tries the machines in turn until one has the wanted one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tracing::debug;

use super::hosts::Changed;
use super::logins::Logins;
use super::pace::{Ended, Paces, Purpose};
use crate::api::conditions::{Cause, Reason};
use crate::api::digest::sha256;
use crate::api::names::{MachineName, known_hosts_name};
use crate::api::nio::SSH_KEY;
use crate::api::spec::Endpoint;
use crate::controller::calls::CallError;
use crate::controller::named::{map_now, secret_value};
use crate::controller::schedule::KEY_MEMORY;
use crate::plan::assemble;
use crate::plan::observed::{AtHand, KnownHostsView, NotWorking};
use crate::plan::writes::Wanted;
use crate::remote::deadlines::{Deadlines, KUBECONFIG_VERIFICATION};
use crate::remote::gate::Class;
use crate::remote::known_hosts::{HostPins, KNOWN_HOSTS_KEY, KnownHosts, Policy};
use crate::remote::kubeconfig::facts;
use crate::remote::kubeconfig::fetch::{FetchError, FetchRequest, fetch};
use crate::remote::kubeconfig::verify::{VerifyError, verify};
use crate::remote::lock::lock;
use crate::remote::offload::ANSWERS;
use crate::remote::secret::SecretText;
use crate::remote::ssh::Login;

/// A fetched kubeconfig.
#[derive(Clone)]
pub struct Fetched {
    /// Rebuilt from its harmless parts, not as the machine sent it.
    pub kubeconfig: SecretText,
    /// Port of the members' API servers, if known.
    pub port: Option<u16>,
    /// The facts for the planner.
    pub at_hand: AtHand,
    /// The file and machine of its origin, and which files were skipped, for an event.
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

/// Where the pinned host keys of a cluster are.
#[derive(Clone, Debug)]
pub struct Pins {
    /// The cluster's namespace.
    pub namespace: String,
    /// The cluster's name.
    pub cluster: String,
    /// The cluster's uid.
    pub uid: String,
}

/// What to fetch, from where and how.
pub struct FetchSpec {
    /// The cluster's pins.
    pub pins: Pins,
    /// Machines to try, in this order.
    pub sources: Vec<FetchSource>,
    /// Port of the machines' SSH servers.
    pub ssh_port: u16,
    /// `spec.kubeconfig.path`.
    pub path: Option<String>,
    /// `spec.controlPlaneEndpoint`.
    pub endpoint: Option<Endpoint>,
    /// Which kubeconfig is wanted.
    pub wanted: Wanted,
}

/// The outcome of a round. Without a kubeconfig or a failure, none of the fetched ones was better than the stored one.
#[derive(Default)]
pub(super) struct Round {
    /// A suitable kubeconfig: the first that works, else the first of all.
    pub(super) fetched: Option<Fetched>,
    /// Why there is none: the failure of the first machine that failed.
    pub(super) failure: Option<Cause>,
    /// Machines that presented a host key other than the pinned one.
    pub(super) host_keys_changed: BTreeMap<MachineName, Changed>,
    /// Machines that were skipped because their host keys still have to be pinned.
    pub(super) unpinned: BTreeSet<MachineName>,
}

impl Round {
    /// Whether a working kubeconfig was fetched.
    pub(super) fn works(&self) -> bool {
        self.fetched
            .as_ref()
            .is_some_and(|fetched| fetched.at_hand.works())
    }
}

/// The private keys for a search, by Secret, and the pinned host keys. They are kept for a while, since a search retries soon, but not for
/// long, so that it notices when a user fixes them.
#[derive(Default)]
pub(super) struct Memory {
    keys: BTreeMap<String, (Instant, Option<SecretText>)>,
    pins: Option<(Instant, Arc<KnownHosts>)>,
}

impl Memory {
    /// Forgets the pinned host keys.
    pub(super) fn forget_pins(&mut self) {
        self.pins = None;
    }

    /// The key in a Secret; `None` if it does not exist.
    pub(super) async fn key(
        &mut self,
        client: &kube::Client,
        namespace: &str,
        secret: &str,
    ) -> Result<Option<SecretText>, CallError> {
        let known = self.keys.get(secret);
        if let Some((_, key)) = known.filter(|(at, _)| at.elapsed() < KEY_MEMORY) {
            return Ok(key.clone());
        }
        let key = secret_value(client, namespace, secret, SSH_KEY).await?;
        self.keys
            .insert(secret.to_owned(), (Instant::now(), key.clone()));
        Ok(key)
    }

    /// The pinned host keys.
    async fn pins(
        &mut self,
        client: &kube::Client,
        spec: &FetchSpec,
    ) -> Result<Arc<KnownHosts>, CallError> {
        if let Some((at, pins)) = &self.pins
            && at.elapsed() < KEY_MEMORY
        {
            return Ok(Arc::clone(pins));
        }
        let (pins, _) = read_pins(client, &spec.pins).await?;
        self.pins = Some((Instant::now(), Arc::clone(&pins)));
        Ok(pins)
    }
}

/// The pinned host keys and their text, from one read.
pub(super) async fn read_pins(
    client: &kube::Client,
    pins: &Pins,
) -> Result<(Arc<KnownHosts>, String), CallError> {
    let name = known_hosts_name(&pins.cluster);
    let map = map_now(client, &pins.namespace, &name).await?;
    let policy = match assemble::known_hosts(&pins.uid, map.as_ref()) {
        KnownHostsView::Foreign => Policy::PinnedOnly,
        KnownHostsView::Absent | KnownHostsView::Ours => Policy::TrustOnFirstUse,
    };
    let text = map.and_then(|mut map| map.data.remove(KNOWN_HOSTS_KEY));
    let text = text.unwrap_or_default();
    let length = text.len();
    let parse = move || (Arc::new(KnownHosts::parse(&name, &text, policy)), text);
    Ok(ANSWERS.run(length, parse).await)
}

/// The pinned keys of a host.
pub(super) async fn pins_of(known: &Arc<KnownHosts>, host: &str, port: u16) -> Option<HostPins> {
    let length = known.length();
    let (known, host) = (Arc::clone(known), host.to_owned());
    ANSWERS.run(length, move || known.pins(&host, port)).await
}

/// Fetches from the first machine that has the wanted kubeconfig. No host is trusted on first use here: a host whose key has to be pinned
/// is skipped until it is. A machine to which the next connection is not due is skipped too, and its last outcome still counts.
pub(super) async fn fetch_round(
    client: &kube::Client,
    spec: &FetchSpec,
    memory: &mut Memory,
    paces: &Mutex<Paces>,
    (logins, class): (&Logins, Class),
) -> Round {
    let mut round = Round::default();
    // One of the machines has delivered a kubeconfig before.
    let mut is_at_hand = false;
    for source in &spec.sources {
        let attempt = match attempt(client, spec, source, memory).await {
            Ok(attempt) => attempt,
            Err(failure) => {
                round.failure.get_or_insert(failure);
                continue;
            }
        };
        if attempt.waits_for_pin {
            round.unpinned.insert(source.machine.clone());
            continue;
        }
        let machine = &source.machine;
        let under = (Purpose::Fetch, attempt.under.as_str());
        let is_due = lock(paces).is_due(machine, under, Instant::now());
        if !is_due {
            match lock(paces).last(machine) {
                Some(Err(failure)) => drop(round.failure.get_or_insert_with(|| failure.clone())),
                Some(Ok(())) => is_at_hand = true,
                None => {}
            }
            continue;
        }
        // The place is taken for each machine: a slow one keeps it for a minute at most.
        let _place = logins
            .enter(&spec.pins.namespace, &spec.pins.cluster, class)
            .await;
        lock(paces).begin(machine, Instant::now());
        let fetched = fetch_from(spec, source, &attempt, logins).await;
        let ended = match &fetched {
            Ok(_) => Ended::Waiting,
            Err((ended, _)) => *ended,
        };
        let fetched = fetched.map_err(|(_, failure)| failure);
        let fetched = fetched.and_then(|fetched| suitable(spec.wanted, fetched));
        let brought = fetched.as_ref().map(drop).map_err(Clone::clone);
        lock(paces).end(machine, Instant::now(), ended, Some(brought));
        match fetched {
            Ok(Some(fetched)) if round.fetched.is_none() || fetched.at_hand.works() => {
                round.fetched = Some(fetched);
            }
            Ok(_) => {}
            Err(failure) => {
                if failure.reason == Reason::HostKeyChanged {
                    let changed = Changed {
                        cause: failure.clone(),
                        refused_by: attempt.pins.map(|it| it.keys()).unwrap_or_default(),
                    };
                    round.host_keys_changed.insert(machine.clone(), changed);
                }
                debug!(%machine, reason = %failure.reason, "no kubeconfig from this machine");
                round.failure.get_or_insert(failure);
            }
        }
        if round.works() {
            break;
        }
    }
    if round.fetched.is_some() || is_at_hand {
        round.failure = None;
    } else if spec.sources.is_empty() {
        round.failure = Some(Cause::new(
            Reason::KubeconfigUnreadable,
            "no control plane machine that NIO has applied can be asked: check the addresses and the SSH keys of their Machines",
        ));
    }
    round
}

/// Returns the fetched kubeconfig if it is the wanted one; `None` if it works but is no better than the stored one.
fn suitable(wanted: Wanted, fetched: Fetched) -> Result<Option<Fetched>, Cause> {
    match &fetched.at_hand.verified {
        _ if fetched.at_hand.suits(wanted) => Ok(Some(fetched)),
        Ok(()) => Ok(None),
        Err(NotWorking { why, .. }) => Err(Cause::new(
            Reason::Unverified,
            format!(
                "nodes cannot be listed through what was read: {why}: check that the API server runs, and that NICO reaches its address"
            ),
        )),
    }
}

/// The credentials for a log-in to a machine.
struct Attempt {
    key: SecretText,
    known_hosts: Arc<KnownHosts>,
    /// Its host key still has to be pinned.
    waits_for_pin: bool,
    pins: Option<HostPins>,
    /// A digest of everything whose change may help after a failure.
    under: String,
}

async fn attempt(
    client: &kube::Client,
    spec: &FetchSpec,
    source: &FetchSource,
    memory: &mut Memory,
) -> Result<Attempt, Cause> {
    let unreadable = |error: CallError| Cause::new(Reason::KubeconfigUnreadable, error.to_string());
    let known_hosts = memory.pins(client, spec).await.map_err(unreadable)?;
    let key = memory.key(client, &spec.pins.namespace, &source.key).await;
    let Some(key) = key.map_err(unreadable)? else {
        let (secret, machine) = (&source.key, &source.machine);
        let message =
            format!("Secret {secret} with the SSH key of machine {machine} is missing: create it");
        return Err(Cause::new(Reason::SSHKeyMissing, message));
    };
    let pins = pins_of(&known_hosts, &source.host, spec.ssh_port).await;
    let waits_for_pin = known_hosts.policy() == Policy::TrustOnFirstUse
        && pins.as_ref().is_some_and(|pins| !pins.is_pinned());
    let under = format!(
        "{source:?} {:?} {:?} {pins:?} {}",
        spec.path,
        spec.endpoint,
        sha256(key.expose().as_bytes())
    );
    Ok(Attempt {
        key,
        known_hosts,
        waits_for_pin,
        pins,
        under: sha256(under.as_bytes()),
    })
}

async fn fetch_from(
    spec: &FetchSpec,
    source: &FetchSource,
    attempt: &Attempt,
    logins: &Logins,
) -> Result<Fetched, (Ended, Cause)> {
    let request = FetchRequest {
        cluster: &spec.pins.cluster,
        login: Login {
            machine: source.machine.as_str(),
            host: &source.host,
            looked_up: None,
            port: spec.ssh_port,
            user: &source.user,
        },
        key: &attempt.key,
        known_hosts: &attempt.known_hosts,
        path: spec.path.as_deref(),
        endpoint: spec.endpoint.as_ref(),
        deadlines: Deadlines::DEFAULT,
    };
    let works = async |text: &SecretText| verify(text, KUBECONFIG_VERIFICATION).await;
    let fetched = fetch(&request, &mut None, works).await.map_err(|error| {
        if let FetchError::Ssh(error) = &error {
            logins.failed(error);
        }
        (ended(&error), Cause::new(error.reason(), error.to_string()))
    })?;
    let passed_over = fetched.passed_over();
    let origin = format!(
        "{} of machine {}{passed_over}",
        fetched.path, source.machine
    );
    let port = fetched.kubeconfig.member_port();
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
        port,
        kubeconfig,
        origin,
    })
}

/// How a connection ended that did not deliver a kubeconfig.
fn ended(error: &FetchError) -> Ended {
    match error {
        FetchError::Ssh(error) => Ended::of(error),
        // The file does not exist yet.
        FetchError::NotFound { denied, .. } if denied.is_empty() => Ended::Waiting,
        FetchError::NotFound { .. } | FetchError::Unsafe { .. } | FetchError::Path => Ended::Amiss,
    }
}

/// Verifies that Nodes can be listed through a kubeconfig.
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
