//! What must hold before anything is planned: a valid spec, an NIO that NICO knows, and a repository (SPEC 1.1, 7).

use std::sync::Arc;

use crate::api::conditions::{ConditionType, Reason};
use crate::api::names::{CLUSTER_FINALIZER, join_token_name, ledger_name, worker_token_name};
use crate::api::nio::Generation;
use crate::api::spec::{RefPolicy, ValidSpec};

use super::Settings;
use super::action::{Action, ChildWrite, FinalizerWrite, Plan};
use super::desired::Common;
use super::observed::{LedgerView, Observed, SecretView};
use super::writes::Token;

/// What every later step stands on.
#[derive(Clone, Debug)]
pub struct Ground {
    /// The valid spec.
    pub spec: Arc<ValidSpec>,
    /// What all configurations have in common.
    pub common: Common,
}

/// The valid spec, or the wait that says what is wrong with it.
pub fn spec(observed: &Observed, plan: &mut Plan) -> Option<Arc<ValidSpec>> {
    observed
        .spec
        .as_ref()
        .map(Arc::clone)
        .inspect_err(|problems| {
            plan.wait(
                ConditionType::Stalled,
                Reason::InvalidSpec,
                problems.join("; "),
            );
        })
        .ok()
}

/// The ground to plan on, or the waits that say what a person must mend.
pub fn check(
    observed: &Observed,
    spec: &Arc<ValidSpec>,
    settings: &Settings,
    plan: &mut Plan,
) -> Option<Ground> {
    match observed.nio {
        None => plan.wait(
            ConditionType::Stalled,
            Reason::NIOMissing,
            "the API server does not serve NIO's Machine and NixosConfiguration: install NIO",
        ),
        Some(Generation::V1) => plan.wait(
            ConditionType::Stalled,
            Reason::NIONotSupported,
            "this release of NICO works with classic NIO only; nothing is written beside NIO v1",
        ),
        Some(Generation::Classic) => {
            if spec.ref_policy == Some(RefPolicy::Pin) {
                plan.wait(
                    ConditionType::Stalled,
                    Reason::PinNotSupported,
                    "spec.refPolicy: classic NIO cannot pin a commit: set it to Follow or leave it out",
                );
            }
            if spec.full_install {
                plan.wait(
                    ConditionType::Stalled,
                    Reason::FullInstallUnsafe,
                    "spec.fullInstall: classic NIO would wipe the disks again on every later apply: set it to false, and install the machines before NICO takes them",
                );
            }
        }
    }
    let git_repo = spec
        .git_repo
        .clone()
        .or_else(|| settings.default_git_repo.clone());
    if git_repo.is_none() {
        plan.wait(
            ConditionType::Stalled,
            Reason::GitRepoMissing,
            "spec.gitRepo is not set and the operator has no --default-git-repo: set one of them",
        );
    }
    match &observed.ledger {
        LedgerView::Foreign => plan.wait(
            ConditionType::Stalled,
            Reason::SecretConflict,
            format!(
                "ConfigMap {} exists and is not NICO's: rename or delete it",
                ledger_name(&observed.cluster.name)
            ),
        ),
        LedgerView::Unreadable(error) => plan.wait(
            ConditionType::Stalled,
            Reason::LedgerUnreadable,
            format!(
                "ConfigMap {}: {error}: restore the key, or delete the ConfigMap and NICO makes it anew",
                ledger_name(&observed.cluster.name)
            ),
        ),
        LedgerView::Absent | LedgerView::Leftover | LedgerView::Ours(..) => {}
    }
    if plan
        .waits
        .iter()
        .any(|wait| wait.condition == ConditionType::Stalled)
    {
        return None;
    }
    Some(Ground {
        common: Common {
            nio: observed.nio?,
            git_repo: git_repo?,
            git_ref: spec.git_ref.clone(),
            configuration_subdir: spec.configuration_subdir.clone(),
            credentials: spec.credentials.clone(),
        },
        spec: Arc::clone(spec),
    })
}

/// The finalizer comes before anything that a deletion would have to give back (SPEC 3.6).
pub fn ensure_finalizer(observed: &Observed, plan: &mut Plan) {
    let finalizers = &observed.cluster.finalizers;
    if !finalizers
        .iter()
        .any(|finalizer| finalizer == CLUSTER_FINALIZER)
    {
        let mut all = finalizers.clone();
        all.push(CLUSTER_FINALIZER.to_owned());
        plan.actions.push(Action::Finalizer(FinalizerWrite::Add(
            observed.cluster.precondition(),
            all,
        )));
    }
}

/// Whether a configuration may refer to the tokens and the credentials.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Secrets {
    /// What is to be done about the tokens just before the first claim.
    pub first: Vec<Action>,
    /// Nothing stands in the way.
    pub usable: bool,
}

/// Looks at the tokens and the credentials, and says what a person must mend (SPEC 3.1, 7).
pub fn secrets(observed: &Observed, ground: &Ground, plan: &mut Plan) -> Secrets {
    let cluster = &observed.cluster.name;
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
        let (reason, message) = match view {
            SecretView::Ours | SecretView::Adopted => continue,
            SecretView::Absent if unused => {
                secrets
                    .first
                    .push(Action::Child(ChildWrite::CreateToken(token)));
                continue;
            }
            // Nothing refers to it: it is let go, and made anew in the next pass.
            SecretView::Leftover | SecretView::Terminating if unused => {
                plan.actions
                    .push(Action::Child(ChildWrite::Delete(token.into())));
                plan.wait(
                    ConditionType::MachinesAvailable,
                    Reason::SecretMissing,
                    format!("Secret {name} is being deleted: once it is gone it is made anew"),
                );
                secrets.usable = false;
                continue;
            }
            SecretView::Leftover | SecretView::Terminating => (
                Reason::JoinTokenLost,
                format!(
                    "Secret {name} was deleted by hand and only NICO's finalizer still holds it, while configurations refer to it: save its value, take the finalizer nico.homystack.com/in-use off, and create it again with that value and the annotation nico.homystack.com/adopt: {cluster}; nothing is written before, or until the cluster is deleted and applied again"
                ),
            ),
            SecretView::Absent => (
                Reason::JoinTokenLost,
                format!(
                    "Secret {name} is gone while configurations refer to it: restore it by hand with the annotation nico.homystack.com/adopt: {cluster}, or delete the cluster and apply it again"
                ),
            ),
            SecretView::Unusable => (
                Reason::SecretConflict,
                format!("Secret {name} must hold the key token, not empty, and no other key"),
            ),
            SecretView::Foreign => (
                Reason::SecretConflict,
                format!(
                    "Secret {name} exists and is not NICO's: rename or delete it, or annotate it nico.homystack.com/adopt: {cluster} to have it used"
                ),
            ),
        };
        plan.wait(ConditionType::Stalled, reason, message);
        secrets.usable = false;
    }
    if let (Some(view), Some(name)) = (observed.credentials, &ground.common.credentials)
        && matches!(view, SecretView::Absent | SecretView::Terminating)
    {
        plan.wait(
            ConditionType::MachinesAvailable,
            Reason::SecretMissing,
            format!("spec.credentialsRef.name: Secret {name} does not exist: create it"),
        );
        secrets.usable = false;
    }
    secrets
}
