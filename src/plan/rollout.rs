//! A living cluster is changed (SPEC 4.3 to 4.5): who is next, and what it waits for. At most one step a plan; whether it is
//! taken is decided again under the entry, from reads made after it was taken (SPEC 4.2).

mod blocker;
mod preflight;
mod shown;

pub use shown::{deadlines, in_flight};

use std::collections::BTreeSet;

use crate::api::ledger::Ledger;
use crate::api::names::MachineName;
use crate::api::status::Role;

use super::action::{Action, ConfigurationWrite, NodeWork, SlotWrite};
use super::bringup::Claims;
use super::entered::EnteredWrite;
use super::known::Known;
use super::observed::LedgerView;
use super::output::Output;
use super::patience::{ASKED_AGAIN_AFTER, ASKED_AGAIN_AT_STANDSTILL_AFTER};
use super::quorum;
use super::slot;
use super::targets::key_is_unknown;
use super::writes::Precondition;
use blocker::Blocker;
use preflight::{Preflight, Step, Verdict};

/// What is changed, as far as others need it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The plan rests on what the cluster says of itself.
    pub asks_cluster: bool,
    /// The machine whose entry is taken.
    pub next: Option<MachineName>,
}

/// The next change of a living cluster, and of configurations that were never confirmed. `ledger_first`: the ledger is written
/// before.
pub fn changes(known: &Known<'_>, claims: &Claims, ledger_first: bool) -> (Changes, Output) {
    let founding = known.founding;
    let LedgerView::Ours(version, ledger) = &known.observed.ledger else {
        return Default::default();
    };
    // The ledger says first whether the cluster was founded, so that everyone plans by the same rules.
    let agreed = ledger.founded == founding.founded;
    if founding.anew || founding.restart.is_some() || claims.lost || !agreed {
        return Default::default();
    }
    let pending = is_pending(known, ledger);
    let asks_cluster = pending && known.asks();
    let (next, step) = if ledger.slot.fencing {
        // Workers join meanwhile: what is fenced are writes to what lives.
        (None, slot::fence(known))
    } else if pending {
        next_step(known, version, ledger, claims.any || ledger_first)
    } else {
        Default::default()
    };
    let moves = !known.flights.is_empty() || next.is_some();
    let asked = ask(known, asks_cluster, moves);
    let first = rewrite_first_ones(known, &claims.given_back);
    let changes = Changes { asks_cluster, next };
    (changes, Output::concat([first, asked, step]))
}

/// Whether there is anything to change.
fn is_pending(known: &Known<'_>, ledger: &Ledger) -> bool {
    let come_and_go = Role::ALL.iter().any(|role| {
        let pick = known.selection.of(*role);
        !pick.joining.is_empty() || !pick.leaving.is_empty()
    });
    let nodes = known.observed.word.nodes().into_iter();
    let mut nodes = nodes.flat_map(|nodes| nodes.iter());
    !known.outdated.is_empty()
        || come_and_go
        || !ledger.slot.entries.is_empty()
        || nodes.any(|node| node.draining_since.is_some())
}

/// Asks the cluster where a change waits for its word; now and then also while nothing does, since the mark of a drain can land
/// after the entry that it was decided under has ended, and nothing else would show it.
fn ask(known: &Known<'_>, asks_cluster: bool, moves: bool) -> Output {
    let observed = known.observed;
    let mut output = Output::default();
    let looks_again = known.asks() && observed.kubeconfig.try_again;
    if (asks_cluster || looks_again) && observed.word_is_old {
        output.act(Action::AskCluster);
    }
    if asks_cluster {
        output.look_again_in(if moves {
            ASKED_AGAIN_AFTER
        } else {
            ASKED_AGAIN_AT_STANDSTILL_AFTER
        });
    }
    output
}

/// The one step that is taken now, and the machine whose entry is taken.
fn next_step(
    known: &Known<'_>,
    version: &Precondition,
    ledger: &Ledger,
    others_first: bool,
) -> (Option<MachineName>, Output) {
    let (preflight, patience) = Preflight::new(known);
    if let Some(entered) = &known.observed.entered {
        let write = match preflight.decide(entered.machine()) {
            Verdict::Go(step) => entered_write(&preflight, step, entered.machine()),
            Verdict::Hold(_) | Verdict::Stop(_) | Verdict::Nothing => None,
        };
        let write = write.map(|write| Action::Disrupt(Box::new(entered.write(write))));
        let write = write.into_iter().collect();
        return (None, Output::concat([patience, write]));
    }
    if others_first {
        return (None, patience);
    }
    let evicted = evict(&preflight);
    let undrained = undrain(&preflight);
    if !undrained.is_empty() {
        let undrained = undrained.into_iter().collect();
        return (None, Output::concat([patience, evicted, undrained]));
    }
    let Ended {
        ends,
        mut blocked,
        output: ended,
    } = end_entries(&preflight);
    let next = if ends {
        None
    } else {
        choose(&preflight, &mut blocked)
    };
    let take = next.as_ref().map(|machine| {
        let role = preflight.role(machine);
        let n = preflight.numbers.n;
        let risky = role == Role::ControlPlane && known.founding.founded && !quorum::can_be_kept(n);
        Action::Slot(SlotWrite::Take {
            machine: machine.clone(),
            ledger: version.clone(),
            taken: slot::take(ledger, machine, role),
            without_quorum: risky.then_some(n),
        })
    });
    let told = blocker::told(blocked, &known.observed.word);
    let take = take.into_iter().collect();
    (next, Output::concat([patience, evicted, ended, told, take]))
}

/// The first machine that may be changed now; notes what keeps those before it from that.
fn choose(
    preflight: &Preflight<'_>,
    blocked: &mut Vec<(MachineName, Blocker)>,
) -> Option<MachineName> {
    preflight
        .candidates()
        .into_iter()
        .find(|machine| match preflight.decide(machine) {
            Verdict::Go(_) => true,
            Verdict::Hold(blocker) | Verdict::Stop(blocker) => {
                blocked.push((machine.clone(), blocker));
                false
            }
            Verdict::Nothing => false,
        })
}

/// What is written for a step.
fn entered_write(
    preflight: &Preflight<'_>,
    step: Step,
    machine: &MachineName,
) -> Option<EnteredWrite> {
    let Known {
        observed,
        now,
        targets,
        founding,
        ..
    } = *preflight.known;
    match step {
        Step::DeleteNode { name, uid } => Some(EnteredWrite::DeleteNode { name, uid }),
        Step::Drain { name, uid, cordon } => Some(EnteredWrite::Drain {
            name,
            uid,
            since: now,
            cordon,
        }),
        Step::Release => Some(EnteredWrite::Release(
            observed.controlled(machine)?.version(),
        )),
        Step::Join => Some(EnteredWrite::Join(
            targets.get(machine)?.claim(&observed.cluster, now),
        )),
        Step::Rewrite => {
            let held = observed.controlled(machine)?;
            let of_three = founding.founded
                && held.role() == Role::ControlPlane
                && quorum::can_be_kept(preflight.numbers.n);
            let unfinished = !held.is_confirmed() || held.older_attempt(now).is_some();
            let target = targets.get(machine)?;
            Some(EnteredWrite::Rewrite(target.rewrite(
                &held,
                of_three && unfinished,
                now,
            )))
        }
    }
}

/// Goes on with the evictions from the Nodes that are being drained, whatever else is done.
fn evict(preflight: &Preflight<'_>) -> Output {
    let entries = preflight.known.observed.entries().iter();
    entries
        .filter_map(|entry| match preflight.decide(&entry.machine) {
            Verdict::Hold(Blocker::Draining { node, .. }) => {
                Some(Action::Node(NodeWork::Evict(node)))
            }
            _ => None,
        })
        .collect()
}

/// Undoes the drain of machines that stay after all (SPEC 4.6).
fn undrain(preflight: &Preflight<'_>) -> Vec<Action> {
    let Known {
        observed,
        selection,
        ..
    } = *preflight.known;
    let stay = observed
        .members()
        .filter(|it| preflight.asks && !selection.leaves(&it.name));
    stay.filter_map(|member| {
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
    .collect()
}

/// How far the entries are that are done with.
#[derive(Default)]
struct Ended {
    /// One is being ended.
    ends: bool,
    /// Who keeps an entry, and why.
    blocked: Vec<(MachineName, Blocker)>,
    output: Output,
}

/// Ends the first entry that is done with. An entry under which something can be written now, or whose machine is in flight,
/// stays.
fn end_entries(preflight: &Preflight<'_>) -> Ended {
    let known = preflight.known;
    let observed = known.observed;
    let mut ended = Ended::default();
    for entry in observed.entries() {
        match preflight.decide(&entry.machine) {
            Verdict::Go(_) | Verdict::Hold(_) => continue,
            Verdict::Stop(_) | Verdict::Nothing => {}
        }
        let held = observed.controlled(&entry.machine);
        if held.as_ref().is_some_and(|it| !it.is_settled(known.now)) {
            continue;
        }
        // Whether its Node bears marks of a drain cannot be told.
        let marks_unknown = preflight.asks
            && observed.word.nodes().is_none()
            && held.is_some()
            && quorum::can_be_kept(preflight.numbers.n);
        let blocker = if marks_unknown {
            Some(Blocker::Unreachable)
        } else if held.is_none() && !observed.node_is_gone(entry, preflight.asks) {
            Some(Blocker::NodeStays)
        } else {
            None
        };
        if let Some(blocker) = blocker {
            ended.blocked.push((entry.machine.clone(), blocker));
            continue;
        }
        // One that only waits holds up nothing that may go on beside it.
        let (ends, step) = slot::end(known, entry);
        ended.output = Output::concat([ended.output, step]);
        ended.ends = ends;
        if ends {
            break;
        }
    }
    ended
}

/// Configurations that were never confirmed, of workers or of a cluster that was not founded, are written anew without the
/// slot: nothing that lives is disrupted (SPEC 4.1).
fn rewrite_first_ones(known: &Known<'_>, given_back: &BTreeSet<String>) -> Output {
    let observed = known.observed;
    let rewrites = known.outdated.iter().filter_map(|(machine, differences)| {
        let held = observed.controlled(machine)?;
        let target = known.targets.get(machine)?;
        let lives = known.founding.founded && target.role == Role::ControlPlane;
        let gathers =
            differences.iter().all(|it| it.is_of_the_lists()) && !known.overdue.contains(machine);
        let stays = lives
            || gathers
            || observed.entry(machine).is_some()
            || observed.contested_by(machine).is_some()
            || held.was_confirmed()
            || held.is_deleting()
            || given_back.contains(machine.as_str())
            || key_is_unknown(observed, &held);
        (!stays).then(|| {
            let rewrite = Box::new(target.rewrite(&held, false, known.now));
            Action::Configuration(ConfigurationWrite::Rewrite(rewrite))
        })
    });
    rewrites.collect()
}
