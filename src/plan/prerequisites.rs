//! What must hold before anything is planned: a valid spec, an NIO that NICO knows, and a repository.

use std::sync::Arc;

use crate::api::conditions::{Cause, ConditionType, Reason};
use crate::api::names::{
    CLUSTER_FINALIZER, Commit, join_token_name, ledger_name, worker_token_name,
};
use crate::api::spec::{RefPolicy, ValidSpec};

use super::action::{Action, ChildWrite, FinalizerWrite};
use super::desired::Common;
use super::nio;
use super::observed::{LedgerView, Observed, PAUSE, SecretView};
use super::output::Output;
use super::pin::Pin;
use super::restored;
use super::selection::Selection;
use super::settings::Settings;
use super::writes::Token;

/// The input of all later steps.
#[derive(Clone, Debug)]
pub struct Prerequisites {
    /// The valid spec.
    pub spec: Arc<ValidSpec>,
    /// The fields that all configurations share.
    pub common: Arc<Common>,
}

/// The valid spec, or its errors.
pub fn spec(observed: &Observed) -> Result<&Arc<ValidSpec>, Cause> {
    let spec = observed.spec.as_ref();
    spec.map_err(|problems| Cause::new(Reason::InvalidSpec, problems.join("; ")))
}

/// The prerequisites, or what the user has to correct.
pub fn check(
    observed: &Observed,
    spec: &Arc<ValidSpec>,
    settings: &Settings,
    pin: &Pin,
) -> Result<Prerequisites, Output> {
    let mut amiss = Output::default();
    let stalled = ConditionType::Stalled;
    match observed.nio {
        None => {
            amiss.look_for_missing();
            amiss.wait(
                stalled,
                Reason::NIOMissing,
                "the API server does not serve NIO's Machine and NixosConfiguration, or not those of the NIO that --nio names: install NIO, or correct --nio",
            );
        }
        Some(nio) => {
            let nio = nio::for_generation(nio);
            if let Some(why) = nio.refuses_pin() {
                let named = spec.git_ref.as_deref().and_then(Commit::named_by);
                let message = if spec.ref_policy == Some(RefPolicy::Pin) {
                    Some(format!(
                        "spec.refPolicy: {why}: set it to Follow or leave it out"
                    ))
                } else {
                    // It would fail on the first machine, and the rollout would stop there.
                    named.map(|_| format!("spec.ref: {why}: name a branch"))
                };
                if let Some(message) = message {
                    amiss.wait(stalled, Reason::PinNotSupported, message);
                }
            }
            if spec.full_install
                && let Some(why) = nio.refuses_full_install()
            {
                let message = format!("spec.fullInstall: {why}");
                amiss.wait(stalled, Reason::FullInstallUnsafe, message);
            }
        }
    }
    let git_repo = spec
        .git_repo
        .as_ref()
        .or(settings.default_git_repo.as_ref());
    if git_repo.is_none() {
        amiss.wait(
            stalled,
            Reason::GitRepoMissing,
            "spec.gitRepo is not set and the operator has no --default-git-repo: set one of them",
        );
    }
    let name = ledger_name(&observed.cluster.name);
    let ledger = match &observed.ledger {
        LedgerView::Foreign => Some(restored::foreign_ledger(observed)),
        LedgerView::Unreadable(error) => {
            let message = format!(
                "ConfigMap {name}: {error}: restore the key, or delete the ConfigMap, and NICO creates it again"
            );
            Some((stalled, Cause::new(Reason::LedgerUnreadable, message)))
        }
        LedgerView::Absent | LedgerView::Leftover | LedgerView::Ours(..) => None,
    };
    if let Some((condition, cause)) = ledger {
        amiss.look_for_missing();
        amiss.wait_because(condition, cause);
    }
    let git_ref = match pin.git_ref(spec) {
        Ok(git_ref) => git_ref,
        Err(cause) => {
            amiss.wait_because(ConditionType::MachinesAvailable, cause);
            None
        }
    };
    match (observed.nio, git_repo) {
        (Some(nio), Some(git_repo)) if amiss.waits.is_empty() => Ok(Prerequisites {
            common: Arc::new(Common {
                nio,
                git_repo: git_repo.clone(),
                git_ref,
                pinned_since: pin.target.as_ref().map(|target| target.since),
                configuration_subdir: spec.configuration_subdir.clone(),
                credentials: spec.credentials.clone(),
                full_install: spec.full_install,
            }),
            spec: Arc::clone(spec),
        }),
        _ => Err(amiss),
    }
}

/// The finalizer comes before anything that a deletion would have to release.
pub fn add_finalizer(observed: &Observed) -> Output {
    let held = &observed.cluster.finalizers;
    let missing = !held.iter().any(|it| it == CLUSTER_FINALIZER);
    let add = || {
        let all = held.iter().cloned().chain([CLUSTER_FINALIZER.to_owned()]);
        let version = observed.cluster.precondition();
        Action::Finalizer(FinalizerWrite::Add(version, all.collect()))
    };
    missing.then(add).into_iter().collect()
}

/// Reads SSH keys again that machines lack.
pub fn look_for_keys(selection: &Selection) -> Output {
    let mut output = Output::default();
    if selection.lacks_keys() {
        output.look_for_missing();
    }
    output
}

/// Whether a configuration may refer to the tokens and the credentials.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Secrets {
    /// Writes to the tokens just before the first claim.
    pub first: Vec<Action>,
    /// The tokens and credentials can be used.
    pub usable: bool,
}

/// The cause if the credentials Secret does not exist.
#[must_use]
pub fn credentials_missing(name: &str) -> String {
    format!("spec.credentialsRef.name: Secret {name} does not exist: create it")
}

/// Checks the tokens and the credentials, and reports what the user has to correct.
pub fn secrets(observed: &Observed, prerequisites: &Prerequisites) -> (Secrets, Output) {
    let mut output = Output::default();
    let (namespace, cluster) = (&observed.cluster.namespace, &observed.cluster.name);
    let unused = observed.belongings().next().is_none();
    let mut secrets = Secrets {
        first: Vec::new(),
        usable: true,
    };
    for (token, view, name) in [
        (Token::Join, observed.join_token, join_token_name(cluster)),
        (
            Token::Worker,
            observed.worker_token,
            worker_token_name(cluster),
        ),
    ] {
        let create = format!(
            "kubectl -n {namespace} create secret generic {name} --from-file=token && kubectl -n {namespace} annotate secret {name} nico.homystack.com/adopt={cluster}"
        );
        let (reason, message) = match view {
            SecretView::Ours | SecretView::Adopted => continue,
            SecretView::Absent if unused => {
                secrets
                    .first
                    .push(Action::Child(ChildWrite::CreateToken(token)));
                continue;
            }
            // Nothing refers to it: its finalizer is removed, and the next pass creates another one.
            SecretView::Leftover | SecretView::Terminating if unused => {
                output.act(Action::Child(ChildWrite::Delete(token.into())));
                output.wait(
                    ConditionType::MachinesAvailable,
                    Reason::SecretMissing,
                    format!(
                        "Secret {name} is being deleted: NICO creates it again once it is gone; remove the finalizer that holds it if nobody else does"
                    ),
                );
                secrets.usable = false;
                continue;
            }
            SecretView::Leftover | SecretView::Terminating => (
                Reason::JoinTokenLost,
                format!(
                    "Secret {name} was deleted while machines use it, and only NICO's finalizer still holds it. No machine is changed until it is there again. Save it: (umask 077; kubectl -n {namespace} get secret {name} -o jsonpath='{{.data.token}}' | base64 -d > token). Remove the finalizer: kubectl -n {namespace} patch secret {name} --type=merge -p '{{\"metadata\":{{\"finalizers\":null}}}}'. Create it again: {create}"
                ),
            ),
            SecretView::Absent => (
                Reason::JoinTokenLost,
                format!(
                    "Secret {name} is gone while machines use it. No machine is changed until it is there again. If you have its value in a file named token: {create}. If not, delete the cluster and apply it again"
                ),
            ),
            SecretView::Unusable => (
                Reason::SecretConflict,
                format!("Secret {name} must hold the key token, not empty, and no other key"),
            ),
            SecretView::Foreign if observed.left.children.contains_key(&token.into()) => {
                (Reason::SecretConflict, format!("Secret {name} {PAUSE}"))
            }
            SecretView::Foreign => (
                Reason::SecretConflict,
                format!(
                    "Secret {name} exists and is not NICO's: rename or delete it, or annotate it nico.homystack.com/adopt: {cluster} to have it used"
                ),
            ),
        };
        output.wait(ConditionType::Stalled, reason, message);
        secrets.usable = false;
    }
    if let (Some(view), Some(name)) = (observed.credentials, &prerequisites.common.credentials)
        && matches!(view, SecretView::Absent | SecretView::Terminating)
    {
        output.wait(
            ConditionType::MachinesAvailable,
            Reason::SecretMissing,
            credentials_missing(name),
        );
        secrets.usable = false;
    }
    // It is removed in this pass and created again in the next. Until then nothing is written that needs it.
    secrets.usable &= !matches!(observed.ledger, LedgerView::Leftover);
    if !secrets.usable {
        output.look_for_missing();
    }
    (secrets, output)
}
