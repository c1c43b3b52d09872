//! What is to be done to a machine, whether or not it may be done now.

use std::time::Duration;

use super::{Scene, Step, Verdict};
use crate::api::conditions::{Cause, Reason};
use crate::api::names::MachineName;
use crate::api::status::Role;
use crate::plan::health::Health;
use crate::plan::observed::{SshKeyView, elapsed};
use crate::plan::rollout::silence;
use crate::plan::targets::key_is_unknown;

/// So long after its time a mark on a Node counts as left over of an earlier drain.
const OLD_MARK: Duration = Duration::from_secs(900);

impl Scene<'_> {
    /// What is to be done to a machine, whether or not it may be done now.
    pub(super) fn step(&self, machine: &MachineName) -> Verdict {
        let joins = self.selection.joins(machine);
        let held = self.observed.controlled(machine);
        let entered = self.observed.entry(machine).is_some();
        if joins || (held.is_none() && entered) {
            return self.first_step(machine, joins);
        }
        let Some(held) = held.filter(|held| !held.is_deleting()) else {
            return Verdict::Nothing;
        };
        if let Some(theirs) = self.observed.contested_by(machine) {
            // What we hold of it is not ours alone: nothing of it is written, and its entry, if any, stays (INVARIANTS I2).
            return Verdict::Hold(
                Reason::MachineInUse,
                format!(
                    "Machine {machine} is also named by NixosConfiguration {theirs}, which is not of this cluster: nothing is written to it until that is gone"
                ),
            );
        }
        if self.selection.leaves(machine) {
            return self.last_step(machine, entered);
        }
        let Some(differences) = self.outdated.get(machine) else {
            return Verdict::Nothing;
        };
        if key_is_unknown(self.observed, &held) {
            let why = match self.observed.ssh_keys.get(machine) {
                Some(SshKeyView::Unusable(cause)) => cause.clone(),
                _ => Cause::new(
                    Reason::SSHKeyMissing,
                    "its SSH key cannot be read: see spec.sshKeySecretRef of the Machine",
                ),
            };
            return Verdict::Stop(
                why.reason,
                format!(
                    "Machine {machine} is out of date and cannot be written: {}",
                    why.message
                ),
            );
        }
        let gathers = differences.iter().all(|it| it.is_of_the_lists());
        if gathers && !held.is_confirmed() && !self.overdue.contains(machine) {
            return Verdict::Nothing;
        }
        let direct = self.role(machine) == Role::Worker || !self.founded;
        if direct && !held.was_confirmed() && !entered {
            // Nothing that lives is disrupted: it is written without the slot.
            return Verdict::Nothing;
        }
        Verdict::Go(Step::Rewrite)
    }

    /// What is done to a machine that leaves: its pods go first, where it is well (SPEC 4.6).
    fn last_step(&self, machine: &MachineName, entered: bool) -> Verdict {
        let patience = self.drain_patience;
        let node = self.observed.node(machine).filter(|_| self.asks);
        let healthy = self.health(machine) == Health::Healthy;
        let missing = self.selection.control_plane.missing();
        if self.founded && healthy && self.role(machine) == Role::ControlPlane && missing > 0 {
            // What works is not given up for what cannot be had.
            return Verdict::Stop(
                Reason::TooFewMachines,
                format!(
                    "Machine {machine} stays until each machine is there that the control plane is to have ({missing} missing)"
                ),
            );
        }
        let Some(node) = node.filter(|_| healthy && !patience.is_zero()) else {
            // Before the founding nothing lives that could be drained; what is sick is not.
            return Verdict::Go(Step::Release);
        };
        let drain = Verdict::Go(Step::Drain {
            name: node.name.clone(),
            uid: node.uid.clone(),
            cordon: !node.unschedulable || node.cordoned,
        });
        let Some(since) = node.draining_since.filter(|_| entered) else {
            return drain;
        };
        let drained_for = elapsed(since, self.now);
        if drained_for > patience.saturating_add(OLD_MARK) {
            // A mark of an earlier day gave these pods no time.
            return drain;
        }
        if node.pods_left == Some(0) || drained_for >= patience {
            return Verdict::Go(Step::Release);
        }
        let left = node
            .pods_left
            .map_or_else(String::new, |left| format!(" ({left} left)"));
        let until = since.saturating_add(patience).unwrap_or(since);
        Verdict::Hold(
            Reason::Draining,
            format!(
                "Machine {machine} leaves once its pods are gone{left}, at {until} at the latest"
            ),
        )
    }

    /// The first step of a machine that joins; or the last of one that is gone and whose Node is left.
    pub(super) fn first_step(&self, machine: &MachineName, joins: bool) -> Verdict {
        if !self.founded {
            // First configurations are claimed all at once (SPEC 3.6).
            return Verdict::Nothing;
        }
        let is_worker = self.role(machine) == Role::Worker;
        if self.asks {
            let Some(_) = self.observed.word.nodes() else {
                if is_worker && !joins {
                    // A worker's release does not wait for the control plane (SPEC 4.6).
                    return Verdict::Nothing;
                }
                return if self.not_asked() {
                    Verdict::Hold(Reason::Progressing, silence(&self.observed.word))
                } else {
                    Verdict::Stop(Reason::ClusterUnreachable, silence(&self.observed.word))
                };
            };
            if let Some(node) = self.observed.node(machine) {
                if node.deleting {
                    return Verdict::Hold(
                        Reason::NodeLeftOver,
                        format!(
                            "Node {}, left over of Machine {machine}, is being deleted",
                            node.name
                        ),
                    );
                }
                return Verdict::Go(Step::DeleteNode {
                    name: node.name.clone(),
                    uid: node.uid.clone(),
                });
            }
        }
        let entered = self.observed.entry(machine).is_some();
        if !joins || (is_worker && !entered) {
            return Verdict::Nothing;
        }
        let mut members = self.observed.control_plane();
        let leads = members.any(|it| it.was_confirmed() && !it.is_deleting());
        if !leads {
            // A server that is told to join nobody would make a cluster of its own (SPEC 2.5).
            return Verdict::Stop(
                Reason::WaitingForControlPlane,
                format!(
                    "Machine {machine} joins once a control plane machine that was applied is there to join"
                ),
            );
        }
        Verdict::Go(Step::Join)
    }
}
