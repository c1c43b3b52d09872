//! The pure core: what should be done next for one cluster, from what was observed (STYLE, "Shape").
//!
//! No client, no clock, no randomness, no I/O and no secret byte in here: the same function serves the controller, the
//! property tests and the model checker.

use jiff::Timestamp;

pub mod action;
pub mod bringup;
pub mod cluster_nix;
pub mod confirmed;
pub mod desired;
pub mod files_hash;
pub mod founding;
pub mod ground;
pub mod kubeconfig;
pub mod observed;
pub mod release;
pub mod selection;
pub mod status;
pub mod targets;

use action::{Action, Plan};
use observed::Observed;

/// What the operator was told at its start and the planner needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// `gitRepo` of clusters that name none.
    pub default_git_repo: Option<String>,
}

/// The next steps for a cluster. Total and deterministic: the same arguments give the same plan, whatever they hold (INVARIANTS I13).
#[must_use]
pub fn plan(observed: &Observed, now: Timestamp, settings: &Settings) -> Plan {
    let mut plan = Plan::default();
    if observed.cluster.deleting {
        release::delete_cluster(observed, &mut plan);
        return plan;
    }
    confirm(observed, &mut plan);
    let Some(spec) = ground::spec(observed, &mut plan) else {
        return plan;
    };
    plan.selection = selection::select(observed, &spec);
    if spec.inject_ssh_key {
        selection::leave_out_keyless(observed, &mut plan.selection);
    }
    status::keep_soft_clocks(observed, now, &mut plan);
    kubeconfig::try_stored(observed, &mut plan);
    let ground = ground::check(observed, &spec, settings, &mut plan);
    let Some(founding) = founding::founding(observed, &mut plan) else {
        return plan;
    };
    let Some(ground) = ground else {
        return plan;
    };
    let targets = targets::targets(observed, &ground, &founding, &plan.selection);
    // Before the first claim each pass draws another id: what would come of it is nothing to speak of.
    if !founding.anew {
        targets::compare(observed, &targets, &mut plan);
    }
    if spec.paused {
        return plan;
    }
    ground::ensure_finalizer(observed, &mut plan);
    take_back(observed, &mut plan);
    founding::keep_ledger(observed, &founding, &mut plan);
    bringup::plan_claims(observed, &ground, &founding, &targets, now, &mut plan);
    if founding.restart.is_none() {
        kubeconfig::plan_kubeconfig(observed, &founding, now, &mut plan);
    }
    plan
}

/// Takes back what lost its owner or its labels by hand (SPEC 2.3, 3.2): a quiet write.
fn take_back(observed: &Observed, plan: &mut Plan) {
    for (machine, configuration) in observed.members() {
        if configuration.metadata.deletion_timestamp.is_none()
            && let Some(metadata) = desired::lost_metadata(&observed.cluster, configuration)
        {
            plan.actions.push(Action::TakeBack(
                machine.to_string(),
                observed::precondition(configuration),
                metadata,
            ));
        }
    }
}

/// Keeps NIO's proof where it is seen: a quiet write, which goes on when paused (SPEC 3.5, 4.1).
fn confirm(observed: &Observed, plan: &mut Plan) {
    let Some(nio) = observed.nio else { return };
    for (machine, configuration) in observed.members() {
        let on = observed.machines.get(&machine).map(|machine| &**machine);
        if observed.owns(configuration)
            && let Some(marker) = confirmed::held_marker(configuration)
            && !confirmed::is_confirmed(configuration)
            && confirmed::proved(nio, configuration, on)
        {
            plan.actions.push(Action::Confirm(
                machine,
                observed::precondition(configuration),
                marker,
            ));
        }
    }
}
