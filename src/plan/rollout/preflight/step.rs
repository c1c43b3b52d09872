//! The next step for a machine, whether or not it is allowed now.

use super::{Preflight, Step, Verdict};
use crate::api::conditions::{Cause, Reason};
use crate::api::names::MachineName;
use crate::api::status::Role;
use crate::api::workload::{Stuck, StuckPod};
use crate::plan::health::Health;
use crate::plan::observed::{NodeView, SshKeyView, elapsed};
use crate::plan::patience::{DRAIN_MARK_OLD_AFTER, POD_TERMINATES_WITHIN};
use crate::plan::remarks::stuck_deletion;
use crate::plan::rollout::blocker::Blocker;
use crate::plan::targets::key_is_unknown;

impl Preflight<'_> {
    /// The next step for a machine, whether or not it is allowed now.
    pub(super) fn step(&self, machine: &MachineName) -> Verdict {
        let joins = self.known.selection.joins(machine);
        let held = self.observed().controlled(machine);
        let entered = self.observed().entry(machine).is_some();
        if joins || (held.is_none() && entered) {
            return self.first_step(machine, self.joins(machine));
        }
        let Some(held) = held.filter(|held| !held.is_deleting()) else {
            return Verdict::Nothing;
        };
        if let Some(theirs) = self.observed().contested_by(machine) {
            // Another configuration refers to the machine too. So nothing is written to it, and an entry stays (I2).
            let by = theirs.to_owned();
            return Verdict::Hold(Blocker::Contested { by });
        }
        if self.known.selection.leaves(machine) {
            return self.last_step(machine, entered);
        }
        let Some(differences) = self.known.outdated.get(machine) else {
            return Verdict::Nothing;
        };
        if key_is_unknown(self.observed(), &held) {
            let why = match self.observed().ssh_keys.get(machine) {
                Some(SshKeyView::Unusable(cause)) => cause.clone(),
                _ => Cause::new(
                    Reason::SSHKeyMissing,
                    "its SSH key cannot be read: see spec.sshKeySecretRef of the Machine",
                ),
            };
            return Verdict::Stop(Blocker::SshKey(why));
        }
        let gathers = differences.iter().all(|it| it.comes_by_itself());
        if gathers && !held.is_confirmed() && !self.known.overdue.contains(machine) {
            return Verdict::Nothing;
        }
        let direct = self.role(machine) == Role::Worker || !self.known.founding.founded;
        if direct && !held.was_confirmed() && !entered {
            // The machine does not run anything yet, so it is written without the slot.
            return Verdict::Nothing;
        }
        Verdict::Go(Step::Rewrite)
    }

    /// The next step for a machine that leaves. If it is healthy, its pods are evicted first.
    fn last_step(&self, machine: &MachineName, entered: bool) -> Verdict {
        let patience = self.drain_patience;
        let node = self.observed().node(machine).filter(|_| self.asks);
        let healthy = self.health(machine) == Health::Healthy;
        let missing = self.known.selection.control_plane.missing();
        if self.known.founding.founded
            && healthy
            && self.role(machine) == Role::ControlPlane
            && missing > 0
        {
            // A healthy member stays until its replacement is available.
            return Verdict::Stop(Blocker::Incomplete { missing });
        }
        let Some(node) = node.filter(|_| healthy && !patience.is_zero()) else {
            // Before the founding there is nothing to drain, and sick machines are not drained.
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
        let drained_for = elapsed(since, self.known.now);
        if drained_for > patience.saturating_add(DRAIN_MARK_OLD_AFTER) {
            // The mark is left over from an earlier drain, so the current pods get the full time again.
            return drain;
        }
        let is_empty = node.pods_left == Some(0) && node.volumes.is_empty();
        if is_empty || drained_for >= patience {
            return Verdict::Go(Step::Release);
        }
        Verdict::Hold(Blocker::Draining {
            node: node.name.clone(),
            left: node.pods_left,
            volumes: node.volumes.clone(),
            stuck: self.stuck(node),
            until: since.saturating_add(patience).unwrap_or(since),
        })
    }

    /// The pods of a Node that do not go. One that terminates is not among them while its kubelet may still end it.
    fn stuck(&self, node: &NodeView) -> Vec<StuckPod> {
        let stays = |pod: &&StuckPod| match &pod.why {
            Stuck::Budgets(_) | Stuck::Refused(_) => true,
            Stuck::Terminates { since, .. } => {
                elapsed(*since, self.known.now) >= POD_TERMINATES_WITHIN
            }
        };
        node.stuck.iter().filter(stays).cloned().collect()
    }

    /// The first step of a machine that joins, or the last step of one that is gone and whose Node is left over.
    pub(super) fn first_step(&self, machine: &MachineName, joins: bool) -> Verdict {
        if !self.known.founding.founded {
            // Before the founding, machines are claimed all at once, without this step.
            return Verdict::Nothing;
        }
        let is_worker = self.role(machine) == Role::Worker;
        if self.asks {
            let Some(_) = self.observed().workload.nodes() else {
                if is_worker && !joins {
                    // The end of a worker's release does not wait for the cluster's API.
                    return Verdict::Nothing;
                }
                return if self.not_asked() {
                    Verdict::Hold(Blocker::NotAsked)
                } else {
                    Verdict::Stop(Blocker::Unreachable)
                };
            };
            if let Some(node) = self.observed().node(machine) {
                if node.deleting {
                    let held = stuck_deletion(node, self.known.now);
                    let nobody_waits = held.is_some() && self.rules_of(machine) == Role::Worker;
                    let node = node.name.clone();
                    let going = Blocker::NodeGoing { node, held };
                    return if nobody_waits {
                        Verdict::Stop(going)
                    } else {
                        Verdict::Hold(going)
                    };
                }
                return Verdict::Go(Step::DeleteNode {
                    name: node.name.clone(),
                    uid: node.uid.clone(),
                });
            }
        }
        let entered = self.observed().entry(machine).is_some();
        if !joins || (is_worker && !entered) {
            return Verdict::Nothing;
        }
        let mut members = self.observed().control_plane();
        let leads = members.any(|it| it.was_confirmed() && !it.is_deleting());
        if !leads {
            // A server without a member to join would create a new cluster.
            return Verdict::Stop(Blocker::NobodyToJoin);
        }
        Verdict::Go(Step::Join)
    }
}
