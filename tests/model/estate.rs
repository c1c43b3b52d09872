//! The cluster object and its children, but for the configurations, at the API server; and what the garbage collector makes of what
//! is left of a cluster that is gone (Kubernetes, "Garbage collection").

use crate::compact::{Broken, Estate, Life};
use crate::judge;
use crate::mutation::Mutation;
use crate::search::Search;
use crate::server::{change, each_version, forget_ledger};
use crate::state::{Known, State, Step};

impl Search {
    /// A write to the cluster object or to one of its children arrives. Whether it went through.
    pub fn land_on_estate(
        &self,
        state: &mut State,
        step: Step,
        stands: bool,
        known: Known,
    ) -> bool {
        match step {
            Step::AddFinalizer => {
                stands && {
                    state.estate.finalizer = true;
                    forget_cluster(state);
                    true
                }
            }
            Step::CreateToken(child) => {
                let is_new = state.estate.children & (1 << child) == 0;
                state.estate.children |= 1 << child;
                state.estate.late |= state.estate.life != Life::Lives;
                is_new
            }
            Step::UnlessGone(child) => {
                let is_gone = match self.mutation {
                    Mutation::UnlessGoneAlone => state.estate.life == Life::Gone,
                    _ => state.estate.life != Life::Lives,
                };
                if is_gone {
                    delete_child(state, child);
                }
                !is_gone
            }
            Step::DeleteChild(child) => {
                // Each is read by name, and deleted as it stands then.
                state.broken = state
                    .broken
                    .or_else(|| judge::child_goes(state, child, known));
                delete_child(state, child);
                true
            }
            Step::RemoveFinalizer => {
                stands && {
                    state.broken = state
                        .broken
                        .or_else(|| judge::cluster_goes(self, state, known));
                    state.estate.life = Life::Gone;
                    state.estate.finalizer = false;
                    // The collector takes what no finalizer of NICO's holds.
                    state.estate.children &= Estate::TOKENS;
                    forget_cluster(state);
                    true
                }
            }
            _ => unreachable!("no write to the cluster object or a child of it"),
        }
    }

    /// Whether the rules of a living cluster hold.
    pub fn lives(&self, state: &State) -> bool {
        let founding = self.brings_up && state.ledger.is_none_or(|ledger| ledger.founding);
        state.estate.life == Life::Lives && !founding
    }
}

/// A person deletes the cluster.
pub fn delete_cluster(state: &mut State) -> Option<()> {
    if state.estate.life != Life::Lives {
        return None;
    }
    state.estate.life = if state.estate.finalizer {
        Life::Deleting
    } else {
        Life::Gone
    };
    // What was written to a machine is no rollout any more.
    for machine in &mut state.machines {
        machine.flying = false;
        machine.older = None;
    }
    forget_cluster(state);
    Some(())
}

/// A kubeconfig is read and stored.
pub fn stores_kubeconfig(state: &mut State) -> Option<()> {
    let founded = state.ledger.is_some_and(|ledger| !ledger.founding);
    let stored = state.estate.children & Estate::KUBECONFIG != 0;
    if state.estate.life != Life::Lives || !founded || stored {
        return None;
    }
    // And the host keys were pinned before.
    state.estate.children = Estate::ALL;
    Some(())
}

/// The garbage collector deletes a configuration whose cluster is gone; NIO's finalizer holds it until NIO let go.
pub fn collects(state: &mut State, machine: u8) -> Option<()> {
    let held = state.machines[usize::from(machine)].child?;
    if state.estate.life != Life::Gone || held.terminating {
        return None;
    }
    change(state, machine, |child| child.terminating = true);
    Some(())
}

impl Search {
    /// Nothing is left of the cluster; but for what came too late and NICO's own finalizer holds (`deletions.rs`).
    pub fn is_all_gone(&self, state: &State) -> bool {
        let held = state.machines.iter().any(|machine| machine.child.is_some());
        let left = state.estate.children != 0 || state.ledger.is_some();
        let strict = self.punctual || self.leaves_nothing;
        state.estate.life == Life::Gone && !held && (!left || state.estate.late && !strict)
    }
}

/// Whether a step is one that makes something, or begins it.
pub fn begins(step: Step) -> bool {
    match step {
        Step::Write(write) => write.joins,
        Step::CreateLedger(_)
        | Step::CreateToken(_)
        | Step::AddFinalizer
        | Step::Take(..)
        | Step::Drain(..) => true,
        _ => false,
    }
}

/// What is wrong with a step that begins something (I10).
pub fn begins_too_late(step: Step, known: Known) -> Option<Broken> {
    (known.deleting && begins(step)).then_some(Broken::I10)
}

fn delete_child(state: &mut State, child: u8) {
    if child == Estate::LEDGER {
        state.ledger = None;
        forget_ledger(state);
    } else {
        state.estate.children &= !(1 << child);
    }
}

/// Every version of the cluster object that somebody holds is an old one.
pub fn forget_cluster(state: &mut State) {
    each_version(state, |valid| valid.cluster = false);
}
