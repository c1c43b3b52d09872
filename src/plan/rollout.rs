//! Changes of a founded cluster: which machine is next, and what it waits for. A plan contains at most one step, of one control plane
//! machine or of several workers. After the entries were taken, the step is decided again from new reads.

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
use super::observed::{LedgerView, Member, Observed};
use super::output::Output;
use super::patience::{ASKED_AGAIN_AFTER, ASKED_AGAIN_AT_STANDSTILL_AFTER};
use super::quorum;
use super::slot;
use super::targets::key_is_unknown;
use super::writes::Precondition;
use blocker::Blocker;
use preflight::{Preflight, Step, Verdict};

/// The changes of this plan that later steps need to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Whether the plan depends on a probe of the cluster.
    pub needs_probe: bool,
    /// The machines whose entries are taken.
    pub next: Vec<MachineName>,
}

/// The next change of a founded cluster, and of configurations that were never confirmed. `ledger_first`: the ledger is written before.
pub fn changes(known: &Known<'_>, claims: &Claims, ledger_first: bool) -> (Changes, Output) {
    let founding = known.founding;
    let LedgerView::Ours(version, ledger) = &known.observed.ledger else {
        return Default::default();
    };
    // The ledger must say first whether the cluster is founded, so that all operators plan by the same rules.
    let agreed = ledger.founded == founding.founded;
    if founding.needs_id || founding.restart.is_some() || claims.lost || !agreed {
        return Default::default();
    }
    let pending = is_pending(known, ledger);
    let needs_probe = pending && known.asks();
    let (next, step) = if ledger.slot.fencing {
        // Workers join meanwhile: only writes to existing machines are fenced.
        (Vec::new(), slot::fence(known))
    } else if pending {
        next_step(known, version, ledger, claims.any || ledger_first)
    } else {
        Default::default()
    };
    let moves = !known.flights.is_empty() || !next.is_empty();
    let asked = ask(known, needs_probe, moves);
    let first = rewrite_first_ones(known, &claims.given_back);
    let changes = Changes { needs_probe, next };
    (changes, Output::concat([first, asked, step]))
}

/// Whether anything has to be changed.
fn is_pending(known: &Known<'_>, ledger: &Ledger) -> bool {
    let come_and_go = Role::ALL.iter().any(|role| {
        let pick = known.selection.for_role(*role);
        !pick.joining.is_empty() || !pick.leaving.is_empty()
    });
    !known.outdated.is_empty()
        || come_and_go
        || !ledger.slot.entries.is_empty()
        || drains_any(known.observed)
}

fn drains_any(observed: &Observed) -> bool {
    let nodes = observed.workload.nodes().into_iter();
    let mut nodes = nodes.flat_map(|nodes| nodes.iter());
    nodes.any(|node| node.draining_since.is_some())
}

/// Probes the cluster if a change depends on it.
fn ask(known: &Known<'_>, needs_probe: bool, moves: bool) -> Output {
    let mut output = Output::default();
    if !needs_probe {
        return output;
    }
    if known.observed.workload_is_old {
        output.act(Action::ProbeWorkload);
    }
    output.look_again_in(if moves {
        ASKED_AGAIN_AFTER
    } else {
        ASKED_AGAIN_AT_STANDSTILL_AFTER
    });
    output
}

/// The step of this plan, and the machines whose entries are taken.
fn next_step(
    known: &Known<'_>,
    version: &Precondition,
    ledger: &Ledger,
    others_first: bool,
) -> (Vec<MachineName>, Output) {
    let (mut preflight, patience) = Preflight::new(known);
    if !known.observed.entered.is_empty() {
        let entered = known.observed.entered.iter();
        let writes = entered.filter_map(|entered| match preflight.decide(entered.machine()) {
            // A control plane machine is not written under a worker entry: such an entry ends without a wait for late requests.
            Verdict::Go(step) if preflight.entry_suffices(entered.machine()) => {
                let write = entered_write(&preflight, step, entered.machine())?;
                Some(Action::Disrupt(Box::new(entered.write(write))))
            }
            _ => None,
        });
        let writes = writes.collect();
        return (Vec::new(), Output::concat([patience, writes]));
    }
    if others_first {
        return (Vec::new(), patience);
    }
    let evicted = evict(&preflight);
    let undrained = undrain(&preflight);
    if !undrained.is_empty() {
        let undrained = undrained.into_iter().collect();
        return (Vec::new(), Output::concat([patience, evicted, undrained]));
    }
    let Ended {
        ends,
        mut blocked,
        output: ended,
    } = end_entries(&preflight);
    let next = if ends {
        Vec::new()
    } else {
        choose(&mut preflight, &mut blocked)
    };
    let take = (!next.is_empty()).then(|| {
        let n = preflight.numbers.n;
        let roles = next.iter().map(|it| (it, preflight.entry_role(it)));
        let risky = known.founding.founded
            && !quorum::can_be_kept(n)
            && roles.clone().any(|it| it.1 == Role::ControlPlane);
        Action::Slot(SlotWrite::Take {
            machines: next.clone(),
            ledger: version.clone(),
            taken: slot::take(ledger, roles),
            without_quorum: risky.then_some(n),
        })
    });
    let waits = blocker::waits(blocked, &preflight.probe());
    let take = take.into_iter().collect();
    (
        next,
        Output::concat([patience, evicted, ended, waits, take]),
    )
}

/// The machines that may be changed now: the first allowed one, and all workers that are allowed together with it. Each is evaluated as if
/// those before it had their entries already, so that the result is the same after the take. Notes what blocks the machines before the
/// first.
fn choose(
    preflight: &mut Preflight<'_>,
    blocked: &mut Vec<(MachineName, Blocker)>,
) -> Vec<MachineName> {
    let mut chosen = Vec::new();
    for machine in preflight.candidates() {
        match preflight.decide(&machine) {
            Verdict::Go(_) => {
                preflight.enter(&machine);
                chosen.push(machine);
            }
            // A machine with an entry whose turn it is not waits for the end of its entry.
            Verdict::Stop(Blocker::NotItsTurn { .. }) if preflight.has_entry(&machine) => {}
            Verdict::Hold(blocker) | Verdict::Stop(blocker) if chosen.is_empty() => {
                blocked.push((machine, blocker));
            }
            Verdict::Hold(_) | Verdict::Stop(_) | Verdict::Nothing => {}
        }
    }
    chosen
}

/// The write for a step.
fn entered_write(
    preflight: &Preflight<'_>,
    step: Step,
    machine: &MachineName,
) -> Option<EnteredWrite> {
    let Known {
        observed,
        now,
        precise,
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
            targets.get(machine)?.claim(&observed.cluster, precise),
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
                precise,
            )))
        }
    }
}

/// Continues the evictions from Nodes that are being drained, whatever else is planned.
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

/// Undoes the drains of machines that stay after all.
fn undrain(preflight: &Preflight<'_>) -> Vec<Action> {
    let Known {
        observed,
        selection,
        ..
    } = *preflight.known;
    // To find the Nodes of each member takes long, and mostly none is drained.
    let undoes = preflight.asks && drains_any(observed);
    let stay = observed
        .members()
        .filter(|it| undoes && !selection.leaves(&it.name));
    let nodes_of = |member: Member<'_>| {
        let nodes = observed.nodes_of(&member.name).into_iter();
        let drained = nodes.filter(|node| node.draining_since.is_some() && !node.deleting);
        let undrain = drained.map(move |node| {
            Action::Node(NodeWork::Undrain {
                machine: member.name.clone(),
                name: node.name.clone(),
                uid: node.uid.clone(),
                cordoned: node.cordoned,
            })
        });
        undrain.collect::<Vec<_>>()
    };
    stay.flat_map(nodes_of).collect()
}

/// The entries whose work is finished.
struct Ended {
    /// Whether some are ended by this plan.
    ends: bool,
    /// The machines that keep an entry, and why.
    blocked: Vec<(MachineName, Blocker)>,
    output: Output,
}

/// Ends the entries whose work is finished. An entry stays if something can be written under it now, or if its machine is in flight.
fn end_entries(preflight: &Preflight<'_>) -> Ended {
    let known = preflight.known;
    let observed = known.observed;
    let mut blocked = Vec::new();
    let mut done = Vec::new();
    let mut pauses = Vec::new();
    for entry in observed.entries() {
        match preflight.decide(&entry.machine) {
            Verdict::Go(_) | Verdict::Hold(_) => continue,
            Verdict::Stop(_) | Verdict::Nothing => {}
        }
        let held = observed.controlled(&entry.machine);
        if held.as_ref().is_some_and(|it| !it.is_settled(known.now)) {
            continue;
        }
        // It is unknown whether its Node has marks of a drain.
        let marks_unknown = preflight.asks
            && observed.workload.nodes().is_none()
            && held.is_some()
            && quorum::can_be_kept(preflight.numbers.n);
        let blocker = if marks_unknown {
            Some(Blocker::Unreachable)
        } else if held.is_none() && !observed.node_is_gone(entry, preflight.asks) {
            Some(Blocker::NodeStays)
        } else {
            None
        };
        match blocker {
            Some(blocker) => {
                pauses.push(slot::keep_pause(known, entry));
                blocked.push((entry.machine.clone(), blocker));
            }
            None => done.push(entry),
        }
    }
    // An entry that only waits does not block other steps.
    let (ends, output) = slot::end(known, &done);
    pauses.push(output);
    Ended {
        ends,
        blocked,
        output: Output::concat(pauses),
    }
}

/// Updates configurations that were never confirmed, of workers or of a cluster that is not founded, without the slot: this disrupts
/// nothing that runs.
fn rewrite_first_ones(known: &Known<'_>, given_back: &BTreeSet<String>) -> Output {
    let observed = known.observed;
    let rewrites = known.outdated.iter().filter_map(|(machine, differences)| {
        let held = observed.controlled(machine)?;
        let target = known.targets.get(machine)?;
        let lives = known.founding.founded && target.role == Role::ControlPlane;
        let gathers =
            differences.iter().all(|it| it.comes_by_itself()) && !known.overdue.contains(machine);
        let stays = lives
            || gathers
            || observed.entry(machine).is_some()
            || observed.contested_by(machine).is_some()
            || held.was_confirmed()
            || held.is_deleting()
            || given_back.contains(machine.as_str())
            || key_is_unknown(observed, &held);
        (!stays).then(|| {
            let rewrite = Box::new(target.rewrite(&held, false, known.precise));
            Action::Configuration(ConfigurationWrite::Rewrite(rewrite))
        })
    });
    rewrites.collect()
}
