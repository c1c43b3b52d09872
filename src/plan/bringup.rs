//! First configurations: the control plane all at once when it can be completed, workers as they come, and what is given
//! back before the founding (SPEC 2.4, 2.5).

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::api::conditions::{ConditionType, Reason};
use crate::api::names::MachineName;
use crate::api::status::Role;

use super::action::{Action, ConfigurationWrite, Plan};
use super::desired::Target;
use super::founding::{self, Founding};
use super::ground::Secrets;
use super::observed::Observed;
use super::patience::Clock;
use super::selection::Selection;
use super::writes::Precondition;

/// How long an older cluster holds claims that it cannot complete. A younger one gives way at once; a holder that is
/// complete never does, and others shall not wait for ever.
const HOLD_INCOMPLETE: Duration = Duration::from_secs(60);

/// Plans the claims, and what is given back so that two clusters never starve each other.
pub fn plan_claims(
    observed: &Observed,
    secrets: &Secrets,
    founding: &Founding,
    targets: &BTreeMap<MachineName, Target>,
    now: Timestamp,
    plan: &mut Plan,
) {
    if let Some(why) = &founding.restart {
        give_back_all(
            observed,
            plan,
            &format!("the cluster was not founded and {why}: bring-up starts anew"),
        );
        return;
    }
    let control_plane = &plan.selection.control_plane;
    let joining: Vec<&Target> = if founding.founded {
        let joinable = observed.control_plane().any(|it| !it.is_deleting());
        if !joinable {
            plan.wait(
                ConditionType::Stalled,
                Reason::ControlPlaneLost,
                CONTROL_PLANE_LOST,
            );
            return;
        }
        // Those whose old Node has to go first, and the control plane's, go through the slot.
        let free = observed.free_to_join(true, &plan.selection.workers.joining);
        free.iter()
            .filter_map(|machine| targets.get(machine))
            .collect()
    } else {
        let complete = control_plane.missing() == 0;
        give_back_unwanted(observed, plan);
        if !complete {
            if !founding.anew {
                yield_claims(observed, now, plan);
            }
            return;
        }
        if disagree(observed, targets, plan) {
            give_back_all(
                observed,
                plan,
                "the cluster was not founded and its configurations name other control plane machines than it is to have: bring-up starts anew",
            );
            return;
        }
        let Selection {
            control_plane,
            workers,
        } = &plan.selection;
        let joining = control_plane.joining.iter().chain(&workers.joining);
        joining.filter_map(|machine| targets.get(machine)).collect()
    };
    if joining.is_empty() || !secrets.usable {
        return;
    }
    if founding.anew {
        founding::new_ledger(observed, founding, plan);
    }
    plan.actions.extend(secrets.first.iter().cloned());
    for target in joining {
        let claim = target.claim(&observed.cluster, now);
        plan.actions
            .push(Action::Configuration(ConfigurationWrite::Claim(Box::new(
                claim,
            ))));
    }
}

/// Gives every configuration back; none of them is of a living cluster.
fn give_back_all(observed: &Observed, plan: &mut Plan, why: &str) {
    for (name, held) in observed.belongings() {
        // What lost its owner by hand is taken back first.
        if held.metadata.deletion_timestamp.is_none() && observed.controls(held) {
            let version = Precondition::of(&held.metadata);
            plan.actions
                .push(Action::Configuration(ConfigurationWrite::GiveBack(
                    name.clone(),
                    version,
                )));
        }
    }
    plan.wait(ConditionType::MachinesAvailable, Reason::GivingBack, why);
}

/// Before the founding, machines that the spec no longer asks for and that were never confirmed are simply given back.
fn give_back_unwanted(observed: &Observed, plan: &mut Plan) {
    let leaving: Vec<MachineName> = Role::ALL
        .into_iter()
        .flat_map(|role| plan.selection.of(role).leaving.iter().cloned())
        .collect();
    for machine in leaving {
        if let Some(member) = observed.controlled(&machine)
            && !member.is_deleting()
            && !member.was_confirmed()
        {
            plan.actions
                .push(Action::Configuration(ConfigurationWrite::GiveBack(
                    machine.to_string(),
                    member.version(),
                )));
        }
    }
}

/// Whether the control plane that the first configurations name is not the one to be: a race was lost to a selector's other
/// choice, or the spec changed meanwhile. Where none was confirmed, claiming anew is all that it takes (SPEC 2.4).
fn disagree(observed: &Observed, targets: &BTreeMap<MachineName, Target>, plan: &Plan) -> bool {
    let none_confirmed = !observed.members().any(|it| it.was_confirmed());
    let staying = &plan.selection.control_plane.staying;
    none_confirmed
        && staying.iter().any(|machine| {
            let held = observed.member(machine).and_then(|it| it.values());
            targets
                .get(machine)
                .zip(held)
                .is_some_and(|(target, held)| {
                    target.nix.values().control_plane != held.control_plane
                })
        })
}

/// After a lost race the younger cluster gives its claims back while none of them was confirmed (SPEC 2.4).
fn yield_claims(observed: &Observed, now: Timestamp, plan: &mut Plan) {
    if observed.members().any(|it| it.was_confirmed()) {
        return;
    }
    let own = (observed.cluster.created, observed.cluster.uid.as_str());
    let rivals = plan.selection.control_plane.rivals.clone();
    if rivals.is_empty() {
        return;
    }
    let younger = rivals.iter().any(|uid| {
        observed
            .rivals
            .get(uid)
            .is_some_and(|rival| (rival.created, uid.as_str()) < own)
    });
    plan.clocks.insert(Clock::IncompleteClaims);
    if younger || observed.elapsed(&Clock::IncompleteClaims, now) >= HOLD_INCOMPLETE {
        give_back_all(
            observed,
            plan,
            "another cluster holds a machine that the control plane needs: its own claims are given back",
        );
    } else {
        let elapsed = observed.elapsed(&Clock::IncompleteClaims, now);
        plan.look_again_in(HOLD_INCOMPLETE.saturating_sub(elapsed));
    }
}

const CONTROL_PLANE_LOST: &str = "the cluster was founded and none of its control plane machines is left to join through: its data are gone; delete the cluster and apply it again";
