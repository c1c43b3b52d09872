//! The pure core: what should be done next for one cluster, from what was observed (STYLE, "Shape").
//!
//! No client, no clock, no randomness, no I/O and no secret byte in here: the same function serves the controller, the
//! property tests and the model checker.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

pub mod action;
pub mod assemble;
pub mod bringup;
pub mod cluster_nix;
pub mod confirmed;
pub mod desired;
pub mod entered;
pub mod facts;
pub mod files_hash;
pub mod founding;
pub mod ground;
pub mod health;
pub mod kubeconfig;
pub mod observed;
pub mod patience;
pub mod quorum;
pub mod release;
pub mod rollout;
pub mod selection;
pub mod slot;
pub mod ssh_key;
pub mod status;
pub mod targets;
pub mod writes;

use action::{Action, ChildWrite, ConfigurationWrite, Mark, Plan};
use confirmed::Proof;
use observed::Observed;

/// What the operator was told at its start and the planner needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `gitRepo` of clusters that name none.
    pub default_git_repo: Option<String>,
    /// Bounds every call to the API server.
    pub request_timeout: Duration,
}

impl Settings {
    /// How long a request of one's own may still land. What was decided is written within one timeout or not at all, and that call
    /// takes another; the rest is for clocks and for a server that is slow to drop what nobody waits for.
    #[must_use]
    pub fn late_requests(&self) -> Duration {
        self.request_timeout.saturating_mul(4)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            default_git_repo: None,
            request_timeout: Duration::from_secs(30),
        }
    }
}

/// The next steps for a cluster. Total and deterministic: the same arguments give the same plan, whatever they hold (INVARIANTS I13).
#[must_use]
pub fn plan(observed: &Observed, now: Timestamp, settings: &Settings) -> Plan {
    let mut plan = Plan::default();
    steps(observed, now, settings, &mut plan);
    leave_what_is_given_back(&mut plan);
    plan
}

/// What is given back in this plan is not marked as applied: the mark would change its version, and what was confirmed is not
/// given back.
fn leave_what_is_given_back(plan: &mut Plan) {
    let given_back: BTreeSet<String> = plan
        .actions
        .iter()
        .filter_map(|action| match action {
            Action::Configuration(ConfigurationWrite::GiveBack(name, _)) => Some(name.clone()),
            _ => None,
        })
        .collect();
    plan.actions.retain(|action| {
        !matches!(action, Action::Configuration(ConfigurationWrite::Mark(machine, _, Mark::Confirmed(_))) if given_back.contains(machine.as_str()))
    });
}

/// The steps in order, one line each; the first that cannot go on is the last.
fn steps(observed: &Observed, now: Timestamp, settings: &Settings, plan: &mut Plan) {
    if observed.cluster.deleting {
        release::delete_cluster(observed, now, plan);
        return;
    }
    confirm(observed, plan);
    let Some(spec) = ground::spec(observed, plan) else {
        return;
    };
    plan.selection = selection::select(observed, &spec);
    if spec.inject_ssh_key {
        selection::leave_out_keyless(observed, &mut plan.selection);
    }
    status::keep_soft_clocks(observed, now, plan);
    kubeconfig::try_stored(observed, plan);
    let ground = ground::check(observed, &spec, settings, plan);
    let Some(founding) = founding::founding(observed, plan) else {
        return;
    };
    let Some(ground) = ground else {
        return;
    };
    let targets = targets::targets(observed, &ground, &founding, &plan.selection);
    rollout::keep_deadlines(observed, &spec, now, plan);
    // Before the first claim each pass draws another id: what would come of it is nothing to speak of.
    if !founding.anew {
        targets::compare(observed, &targets, now, plan);
    }
    rollout::show_flights(observed, &founding, now, plan);
    if spec.paused {
        return;
    }
    ground::ensure_finalizer(observed, plan);
    take_back(observed, plan);
    hold(observed, plan);
    release::strip_forced(observed, plan);
    founding::keep_ledger(observed, &founding, plan);
    let secrets = ground::secrets(observed, &ground, plan);
    bringup::plan_claims(observed, &secrets, &founding, &targets, now, plan);
    if secrets.usable {
        rollout::plan_changes(observed, &founding, &targets, now, settings, plan);
    }
    if founding.restart.is_none() {
        kubeconfig::plan_kubeconfig(observed, &founding, now, plan);
    }
}

/// Takes back what lost its owner or its labels by hand (SPEC 2.3, 3.2): a quiet write.
fn take_back(observed: &Observed, plan: &mut Plan) {
    for member in observed.members() {
        if !member.is_deleting()
            && observed.contested_by(&member.name).is_none()
            && let Some(metadata) = desired::lost_metadata(&observed.cluster, &member)
        {
            plan.actions.push(member.mark(Mark::TakenBack(metadata)));
        }
    }
}

/// Puts NICO's finalizer back where somebody took it off: a quiet write (SPEC 3.1).
fn hold(observed: &Observed, plan: &mut Plan) {
    let children = observed.unheld.iter();
    plan.actions.extend(
        children.map(|(child, version)| Action::Child(ChildWrite::Hold(*child, version.clone()))),
    );
}

/// Keeps NIO's proof where it is seen, and gives it up where NIO proves another attempt: quiet writes, which go on when paused
/// (SPEC 3.5, 4.1).
fn confirm(observed: &Observed, plan: &mut Plan) {
    for member in observed.members() {
        let ours_alone = member.controlled && observed.contested_by(&member.name).is_none();
        let Some(marker) = member.marker().filter(|_| ours_alone) else {
            continue;
        };
        match (member.is_confirmed(), member.proof()) {
            (true, Some(Proof::OfAnother)) => plan.actions.push(member.mark(Mark::Withdrawn)),
            (false, Some(Proof::OfHeld)) => {
                plan.actions.push(member.mark(Mark::Confirmed(marker)));
            }
            _ => {}
        }
    }
}
