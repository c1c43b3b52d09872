//! A living cluster is changed (SPEC 4.3 to 4.5): who is next, and what it waits for. At most one step a plan; whether it is
//! taken is decided again under the entry, from reads made after it was taken (SPEC 4.2).

mod scene;
mod shown;

pub use shown::{keep_deadlines, show_flights};

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use crate::api::conditions::{ConditionType, Reason};
use crate::api::names::MachineName;
use crate::api::status::Role;

use super::Settings;
use super::action::{Action, ConfigurationWrite, LedgerWrite, NodeWork, Plan, SlotWrite, Wait};
use super::desired::Target;
use super::entered::Deed;
use super::founding::Founding;
use super::observed::{LedgerView, Observed, SecretView, Word};
use super::patience::Clock;
use super::quorum;
use super::slot;
use scene::{Scene, Step, Verdict};

/// How long a kubeconfig may be sought in a founded cluster that has none, before that is called so (SPEC 2.5).
const NEVER_REACHABLE: Duration = Duration::from_secs(600);

/// Plans the next change of a living cluster, and of configurations that were never confirmed.
pub fn plan_changes(
    observed: &Observed,
    founding: &Founding,
    targets: &BTreeMap<MachineName, Target>,
    now: Timestamp,
    settings: &Settings,
    plan: &mut Plan,
) {
    if founding.anew || founding.restart.is_some() {
        return;
    }
    never_reachable(observed, founding, now, plan);
    let LedgerView::Ours(version, ledger) = &observed.ledger else {
        return;
    };
    if ledger.founded != founding.founded {
        // It is said in the ledger first, so that everyone plans by the same rules.
        return;
    }
    let is_lost = |wait: &Wait| wait.cause.reason == Reason::ControlPlaneLost;
    if plan.waits.iter().any(is_lost) {
        return;
    }
    rewrite_first_ones(observed, founding, targets, now, plan);
    let come_and_go = Role::ALL.iter().any(|role| {
        let pick = plan.selection.of(*role);
        !pick.joining.is_empty() || !pick.leaving.is_empty()
    });
    let mut nodes = observed.word.nodes().into_iter().flatten();
    let pending = !plan.outdated.is_empty()
        || come_and_go
        || !ledger.slot.entries.is_empty()
        || nodes.any(|node| node.draining_since.is_some());
    let asks = observed.asks(founding.founded);
    plan.wants_word |= pending && asks;
    // The mark of a drain can land after the entry that it was decided under has ended: nothing else would show it.
    let looks_again = asks && observed.kubeconfig.try_again;
    if (plan.wants_word || looks_again) && observed.word_is_old {
        plan.actions.push(Action::AskCluster);
    }
    if ledger.slot.fencing {
        // Workers join meanwhile: what is fenced are writes to what lives.
        slot::fence(observed, settings.late_requests(), now, plan);
        return;
    }
    if !pending {
        return;
    }
    let scene = Scene::new(observed, founding.founded, now, plan);
    if let Some(entered) = &observed.entered {
        if let Verdict::Go(step) = scene.decide(entered.machine())
            && let Some(deed) = deed(&scene, step, entered.machine(), targets)
        {
            plan.actions
                .push(Action::Disrupt(Box::new(entered.write(deed))));
        }
        return;
    }
    let writes_first = |action: &Action| {
        matches!(
            action,
            Action::Configuration(ConfigurationWrite::Claim(_))
                | Action::Ledger(LedgerWrite::Update(..))
        )
    };
    if plan.actions.iter().any(writes_first) {
        return;
    }
    evict(&scene, plan);
    if undrain(&scene, plan) || end_entries(&scene, settings.late_requests(), plan) {
        return;
    }
    for machine in scene.candidates() {
        match scene.decide(&machine) {
            Verdict::Go(_) => {
                let role = scene.role(&machine);
                let risky = role == Role::ControlPlane
                    && founding.founded
                    && !quorum::can_be_kept(scene.numbers.n);
                plan.actions.push(Action::Slot(SlotWrite::Take {
                    ledger: version.clone(),
                    taken: slot::take(ledger, &machine, role),
                    without_quorum: risky.then_some(scene.numbers.n),
                    machine,
                }));
                return;
            }
            Verdict::Hold(reason, message) | Verdict::Stop(reason, message) => {
                if !plan.waits.iter().any(|wait| wait.cause.reason == reason) {
                    plan.wait_for(&machine, ConditionType::RollingOut, reason, message);
                }
            }
            Verdict::Nothing => {}
        }
    }
}

/// What is written for a step.
fn deed(
    scene: &Scene<'_>,
    step: Step,
    machine: &MachineName,
    targets: &BTreeMap<MachineName, Target>,
) -> Option<Deed> {
    match step {
        Step::DeleteNode { name, uid } => Some(Deed::DeleteNode { name, uid }),
        Step::Drain { name, uid, cordon } => Some(Deed::Drain {
            name,
            uid,
            since: scene.now,
            cordon,
        }),
        Step::Release => {
            let held = scene.observed.controlled(machine)?;
            Some(Deed::Release(held.version()))
        }
        Step::Join => {
            let target = targets.get(machine)?;
            Some(Deed::Join(target.claim(&scene.observed.cluster, scene.now)))
        }
        Step::Rewrite => {
            let held = scene.observed.controlled(machine)?;
            let of_three = scene.founded
                && held.role() == Role::ControlPlane
                && quorum::can_be_kept(scene.numbers.n);
            let unfinished = !held.is_confirmed() || held.older_attempt(scene.now).is_some();
            let target = targets.get(machine)?;
            Some(Deed::Rewrite(target.rewrite(
                &held,
                of_three && unfinished,
                scene.now,
            )))
        }
    }
}

/// Goes on with the evictions from the Nodes that are being drained, whatever else is done.
fn evict(scene: &Scene<'_>, plan: &mut Plan) {
    for entry in scene.observed.entries() {
        if let Verdict::Hold(Reason::Draining, _) = scene.decide(&entry.machine)
            && let Some(node) = scene.observed.node(&entry.machine)
        {
            plan.actions
                .push(Action::Node(NodeWork::Evict(node.name.clone())));
        }
    }
}

/// Undoes the drain of machines that stay after all (SPEC 4.6); whether there is one.
fn undrain(scene: &Scene<'_>, plan: &mut Plan) -> bool {
    let observed = scene.observed;
    let stay = observed
        .members()
        .filter(|it| !plan.selection.leaves(&it.name));
    let undrains: Vec<Action> = stay
        .filter_map(|member| {
            let node = observed.node(&member.name)?;
            (node.draining_since.is_some() && !node.deleting).then(|| {
                Action::Node(NodeWork::Undrain {
                    machine: member.name,
                    name: node.name.clone(),
                    uid: node.uid.clone(),
                    cordoned: node.cordoned,
                })
            })
        })
        .collect();
    let any = !undrains.is_empty() && scene.asks;
    if any {
        plan.actions.extend(undrains);
    }
    any
}

/// Ends the first entry that is done with; whether one is being ended. An entry under which something can be written now, or
/// whose machine is in flight, stays.
fn end_entries(scene: &Scene<'_>, late_requests: Duration, plan: &mut Plan) -> bool {
    let observed = scene.observed;
    for entry in observed.entries() {
        match scene.decide(&entry.machine) {
            Verdict::Go(_) | Verdict::Hold(..) => continue,
            Verdict::Stop(..) | Verdict::Nothing => {}
        }
        let held = observed.controlled(&entry.machine);
        let done = held.as_ref().is_none_or(|held| held.is_settled(scene.now));
        // Whether its Node bears marks of a drain cannot be told.
        let marks_unknown = scene.asks
            && observed.word.nodes().is_none()
            && held.is_some()
            && quorum::can_be_kept(scene.numbers.n);
        if !done {
            continue;
        }
        if marks_unknown {
            let message = silence(&observed.word);
            plan.wait_for(
                &entry.machine,
                ConditionType::RollingOut,
                Reason::ClusterUnreachable,
                message,
            );
            continue;
        }
        if held.is_none() && !observed.node_is_gone(entry, scene.asks) {
            let waits = format!(
                "Machine {} is gone, and its Node has to go, too, before another control plane machine is changed",
                entry.machine
            );
            let (reason, message) = match observed.word.nodes() {
                Some(_) => (Reason::NodeLeftOver, waits),
                None => (
                    Reason::MemberNotRemoved,
                    format!("{waits}: {}", silence(&observed.word)),
                ),
            };
            plan.wait_for(&entry.machine, ConditionType::RollingOut, reason, message);
            continue;
        }
        let before = plan.actions.len();
        slot::end(observed, entry, scene.asks, late_requests, scene.now, plan);
        // One that only waits holds up nothing that may go on beside it.
        if plan.actions.len() > before {
            return true;
        }
    }
    false
}

/// Configurations that were never confirmed, of workers or of a cluster that was not founded, are written anew without the
/// slot: nothing that lives is disrupted (SPEC 4.1).
fn rewrite_first_ones(
    observed: &Observed,
    founding: &Founding,
    targets: &BTreeMap<MachineName, Target>,
    now: Timestamp,
    plan: &mut Plan,
) {
    let given_back: BTreeSet<&String> = plan
        .actions
        .iter()
        .filter_map(|action| match action {
            Action::Configuration(ConfigurationWrite::GiveBack(name, _)) => Some(name),
            _ => None,
        })
        .collect();
    let mut rewrites = Vec::new();
    for (machine, differences) in &plan.outdated {
        let (Some(held), Some(target)) = (observed.controlled(machine), targets.get(machine))
        else {
            continue;
        };
        let lives = founding.founded && target.role == Role::ControlPlane;
        let waits =
            differences.iter().all(|it| it.is_of_the_lists()) && !plan.overdue.contains(machine);
        let entered = observed.entry(machine).is_some();
        if lives
            || waits
            || entered
            || observed.contested_by(machine).is_some()
            || held.was_confirmed()
            || held.is_deleting()
            || given_back.contains(&machine.to_string())
            || super::targets::key_is_unknown(observed, &held)
        {
            continue;
        }
        let rewrite = target.rewrite(&held, false, now);
        rewrites.push(Action::Configuration(ConfigurationWrite::Rewrite(
            Box::new(rewrite),
        )));
    }
    plan.actions.extend(rewrites);
}

/// Founded by confirmation alone, and no kubeconfig to be had (SPEC 2.5).
fn never_reachable(observed: &Observed, founding: &Founding, now: Timestamp, plan: &mut Plan) {
    let fetch = &observed.kubeconfig.fetch;
    if !founding.founded
        || observed.kubeconfig.secret != SecretView::Absent
        || fetch.at_hand.is_some()
    {
        return;
    }
    let waited = observed.elapsed(&Clock::NeverReachable, now);
    plan.clocks.insert(Clock::NeverReachable);
    if waited < NEVER_REACHABLE {
        plan.look_again_in(NEVER_REACHABLE.saturating_sub(waited));
        return;
    }
    let why = fetch
        .failure
        .as_ref()
        .map_or("no control plane machine answers", |why| &why.message);
    plan.wait(
        ConditionType::Stalled,
        Reason::NeverReachable,
        format!(
            "every control plane machine was confirmed and no kubeconfig could be read ({why}): set spec.kubeconfig.path, or, where no API server ever came up, mend the flake, delete the cluster and apply it again"
        ),
    );
}

/// Why nothing can be learned of the cluster, for a person.
fn silence(word: &Word) -> String {
    match word {
        Word::NotAsked => "the cluster is being asked how its machines are".to_owned(),
        Word::Silent(why) => format!(
            "nothing can be learned through the cluster's own API ({why}); nothing is touched; where that is known to be harmless, set spec.rollout.nodeChecks: false"
        ),
        Word::Heard(workload) if workload.nodes.is_some() => "their Nodes cannot be told by name or InternalIP, or their API servers do not say how they are; nothing is touched; where Nodes are named otherwise, set spec.rollout.nodeChecks: false".to_owned(),
        Word::Heard(_) => "no control plane machine lists the cluster's Nodes; nothing is touched; where that is known to be harmless, set spec.rollout.nodeChecks: false".to_owned(),
    }
}
