#![doc = include_str!("README.md")]

use std::collections::BTreeSet;

use jiff::Timestamp;

pub mod action;
pub mod assemble;
pub mod bringup;
pub mod cluster_nix;
pub mod confirmed;
pub mod desired;
pub mod entered;
pub mod facts;
pub mod flight;
pub mod founding;
pub mod health;
pub mod known;
pub mod kubeconfig;
pub mod marks;
pub mod nio;
pub mod observed;
pub mod outage;
pub mod output;
pub mod parting;
pub mod patience;
pub mod pin;
pub mod prerequisites;
pub mod quorum;
pub mod release;
pub mod remarks;
pub mod restored;
pub mod rollout;
pub mod selection;
pub mod settings;
pub mod slot;
pub mod ssh_key;
pub mod status;
pub mod targets;
pub mod writes;

pub use settings::Settings;

use action::{Action, Plan};
use bringup::Claims;
use known::Known;
use observed::Observed;
use output::Output;
use prerequisites::Prerequisites;
use rollout::Changes;

/// The next steps for a cluster. Total and deterministic: the same arguments give the same plan, whatever they hold (I13). Of `now`, only
/// the annotation `written` keeps more than whole seconds: of two machines written in one second, it shows which was the last.
#[must_use]
pub fn plan(observed: &Observed, now: Timestamp, settings: &Settings) -> Plan {
    let mut plan = steps(observed, now, settings);
    plan.marks_by_jobs =
        nio::works_by_jobs(observed.nio) && plan.actions.iter().any(Action::marks_a_proof);
    plan
}

fn steps(observed: &Observed, precise: Timestamp, settings: &Settings) -> Plan {
    let now = observed::in_seconds(precise);
    if observed.cluster.deleting {
        let (selection, output) = release::deletion(observed, now);
        return Plan {
            selection,
            ..output.into_plan()
        };
    }
    let nothing = BTreeSet::new();
    let spec = match prerequisites::spec(observed) {
        Ok(spec) => spec,
        Err(cause) => {
            let confirmed = marks::confirm(observed, &nothing);
            return Output::concat([confirmed, Output::stalled(cause)]).into_plan();
        }
    };
    let selection = selection::choose(observed, spec);
    let keys = prerequisites::look_for_keys(&selection);
    let borne = status::keep_soft_clocks(observed, &selection, now);
    let tried = kubeconfig::try_stored(observed);
    let restored = take_back_restored(observed);
    let pin = pin::pin(observed, spec, settings, precise);
    let prerequisites = prerequisites::check(observed, spec, settings, &pin);
    let founding = founding::founding(observed, &selection);
    let (prerequisites, founding) = match (prerequisites, founding) {
        (Ok(prerequisites), Ok(founding)) => (prerequisites, founding),
        (prerequisites, founding) => {
            let confirmed = marks::confirm(observed, &nothing);
            let amiss = Output::concat([prerequisites.err(), founding.err()].into_iter().flatten());
            let broken = kubeconfig::not_working(observed);
            let output = Output::concat([restored, confirmed, keys, borne, tried, amiss, broken]);
            return Plan {
                selection,
                question: pin.question,
                ..output.into_plan()
            };
        }
    };
    let common = prerequisites.common.clone();
    let targets = targets::targets(observed, &prerequisites, &founding, &selection);
    let (overdue, late) = rollout::deadlines(observed, spec, &selection, now);
    // Before the first claim each pass draws another id: what would come of it is nothing to speak of.
    let (revisions, (outdated, compared)) = if founding.needs_id {
        Default::default()
    } else {
        let revisions = desired::revisions(&targets);
        let wanted = (&targets, &revisions);
        let compared = targets::compare(observed, wanted, &selection, &overdue, now);
        (revisions, compared)
    };
    let flights = observed.flights(founding.founded, now);
    let known = Known {
        observed,
        now,
        precise,
        late_requests: settings.late_requests(),
        founding: &founding,
        pin: &pin,
        selection: &selection,
        targets: &targets,
        outdated: &outdated,
        overdue: &overdue,
        flights: &flights,
    };
    let in_flight = rollout::in_flight(&known);
    let (claims, changes, written) = if spec.paused {
        let broken = kubeconfig::not_working(observed);
        (Claims::default(), Changes::default(), broken)
    } else {
        write(&known, &prerequisites)
    };
    let confirmed = marks::confirm(observed, &claims.given_back);
    let (pinned, remarked) = (pin.report(), remarks::remarks(&known));
    let outage = outage::outage(&known, changes.needs_probe);
    let stuck = release::stuck(observed, now);
    let common = &common;
    let settled = marks::settle(&known, common, spec.paused, &[&confirmed, &written]);
    let output = Output::concat([
        restored, confirmed, settled, keys, borne, tried, late, compared, pinned, stuck, written,
        remarked, outage,
    ]);
    let mistakes = status::keep_mistake_clocks(observed, &selection, &output.waits, now);
    let output = Output::concat([output, mistakes]);
    Plan {
        selection,
        outdated,
        overdue,
        in_flight,
        needs_probe: changes.needs_probe,
        next: changes.next,
        commit: pin.target.map(|target| target.commit),
        question: pin.question,
        targets: revisions,
        ..output.into_plan()
    }
}

/// The finalizer comes before anything that the garbage collector would take with the cluster.
fn take_back_restored(observed: &Observed) -> Output {
    let restored = restored::take_back(observed);
    let finalizer = if restored.actions.is_empty() {
        Output::default()
    } else {
        prerequisites::add_finalizer(observed)
    };
    Output::concat([finalizer, restored])
}

/// The writes of a cluster that nothing blocks, in this order.
fn write(known: &Known<'_>, prerequisites: &Prerequisites) -> (Claims, Changes, Output) {
    let observed = known.observed;
    let ledger = founding::ledger_write(observed, known.founding);
    let ledger = if known.founding.needs_id {
        ledger
    } else {
        known.pin.noted(observed, ledger)
    };
    let (secrets, missing) = prerequisites::secrets(observed, prerequisites);
    let (claims, claimed) = bringup::claims(known, &secrets);
    let (unreachable, (changes, changed)) = if secrets.usable {
        let changes = rollout::changes(known, &claims, ledger.is_some());
        (kubeconfig::never_reachable(known), changes)
    } else {
        Default::default()
    };
    let output = Output::concat([
        prerequisites::add_finalizer(observed),
        marks::take_back(observed),
        marks::restore_finalizers(observed),
        release::strip_forced(observed),
        founding::drop_leftover(observed),
        ledger.map(Action::Ledger).into_iter().collect(),
        missing,
        claimed,
        unreachable,
        changed,
        kubeconfig::kubeconfig(known),
    ]);
    (claims, changes, output)
}
