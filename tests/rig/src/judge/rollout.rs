//! Checks rollouts: finds out from NICO's writes and the simulated NIO's actions which machines were in flight when, and which rules this
//! violated. It knows only the objects' wire format.

pub(super) mod reading;
mod rules;

pub use rules::{Order, Rules};

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use self::reading::{Effect, Ledger, effect};
use crate::nio::{Attempt, Nio, Outcome};
use crate::proxy::{Call, Proxy};

/// The input of the check. All times use the clock of the simulated NIO.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// The writes of all NICO processes that worked in the namespace, in order.
    pub writes: Vec<Call>,
    /// NIO's attempts.
    pub attempts: Vec<Attempt>,
    /// When deleted configurations were gone, by machine.
    pub gone: Vec<(Duration, String)>,
}

impl Evidence {
    /// The evidence so far. `proxies` must contain every proxy through which NICO has written.
    #[must_use]
    pub fn of(nio: &Nio, proxies: &[&Proxy]) -> Self {
        let mut writes = Vec::new();
        for proxy in proxies {
            for mut call in proxy.writes() {
                call.at = (proxy.started() + call.at).saturating_duration_since(nio.started());
                writes.push(call);
            }
        }
        // The sort is stable: the writes of one proxy keep their order.
        writes.sort_by_key(|call| call.at);
        Self {
            writes,
            attempts: nio.history(),
            gone: nio.let_go(),
        }
    }
}

/// The time in which a machine was in flight because of NICO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flight {
    /// The machine, which is also its configuration's name.
    pub machine: String,
    /// The cluster.
    pub cluster: String,
    /// Whether it belongs to the control plane.
    pub control_plane: bool,
    /// The marker for which it waits; `None`: it waits until its configuration is gone.
    pub marker: Option<String>,
    /// Begins with the first disruptive write.
    pub from: Duration,
    /// Ends when NICO confirmed the last written marker, or the configuration was gone; `None`: it is still in flight.
    pub until: Option<Duration>,
}

/// The times in which machines were in flight, sorted by their beginning.
#[must_use]
pub fn flights(evidence: &Evidence) -> Vec<Flight> {
    judged(evidence, &Rules::default()).flights
}

/// The violated rules about numbers, order and ways of writing, as sentences.
#[must_use]
pub fn broken_rolls(evidence: &Evidence, rules: &Rules) -> Vec<String> {
    judged(evidence, rules).broken
}

/// The machines whose configurations NICO wrote with a new marker, or deleted, since then, in that order. The same machine twice in a row
/// is listed once.
#[must_use]
pub fn order(evidence: &Evidence, since: Duration) -> Vec<String> {
    let writes = evidence.writes.iter().filter(|call| call.at > since);
    let mut order: Vec<String> = writes
        .filter_map(|call| match effect(call)? {
            Effect::Written { machine, .. } | Effect::Deleted { machine } => Some(machine),
            _ => None,
        })
        .collect();
    order.dedup();
    order
}

fn judged(evidence: &Evidence, rules: &Rules) -> Judge {
    let mut judge = Judge::new(evidence, rules.clone());
    let mut gone = evidence.gone.clone();
    gone.sort();
    let mut gone = gone.into_iter().peekable();
    for call in &evidence.writes {
        while let Some((at, machine)) = gone.next_if(|(at, _)| *at <= call.at) {
            judge.went(&machine, at);
        }
        judge.look(call);
    }
    for (at, machine) in gone {
        judge.went(&machine, at);
    }
    judge
}

/// A configuration, as it is known from NICO's writes.
#[derive(Clone, Debug)]
struct Known {
    cluster: String,
    control_plane: bool,
    marker: String,
    once_confirmed: bool,
}

struct Judge {
    rules: Rules,
    broken: Vec<String>,
    flights: Vec<Flight>,
    configurations: BTreeMap<String, Known>,
    ledgers: BTreeMap<String, Ledger>,
    deleting: BTreeSet<String>,
    /// When NIO first succeeded with a marker on a machine.
    applied: BTreeMap<(String, String), Duration>,
    roll: usize,
    /// The first machine in this rollout of the role that comes last.
    late_kind: Option<String>,
    /// Machines that were in flight when this rollout was requested: they come first, whatever their role.
    exempt: BTreeSet<String>,
}

impl Judge {
    fn new(evidence: &Evidence, mut rules: Rules) -> Self {
        rules.rolls.sort();
        rules.deletions.sort();
        rules.deletions.reverse();
        let mut applied = BTreeMap::new();
        for attempt in &evidence.attempts {
            let one = &attempt.applied;
            if attempt.outcome == Outcome::Success && !one.removal {
                let marker = one.marker.as_deref().and_then(reading::marker);
                applied
                    .entry((one.machine.clone(), marker.unwrap_or_default().to_owned()))
                    .or_insert(attempt.ended);
            }
        }
        Self {
            rules,
            broken: vec![],
            flights: vec![],
            configurations: BTreeMap::new(),
            ledgers: BTreeMap::new(),
            deleting: BTreeSet::new(),
            applied,
            roll: 0,
            late_kind: None,
            exempt: BTreeSet::new(),
        }
    }

    fn say(&mut self, rule: &str, call: &Call, why: &str) {
        let at = call.at.as_secs_f64();
        self.broken
            .push(format!("{rule}: {why}: at {at:.3} s {}", call.line()));
    }

    fn open(&self) -> impl Iterator<Item = &Flight> {
        self.flights.iter().filter(|flight| flight.until.is_none())
    }

    /// Notes the end of a machine's deletion.
    fn went(&mut self, machine: &str, at: Duration) {
        for flight in &mut self.flights {
            if flight.machine == machine && flight.until.is_none() && flight.marker.is_none() {
                flight.until = Some(at);
            }
        }
    }

    /// Notes the end of a cluster: a new one with the same name starts from scratch.
    fn ended(&mut self, cluster: &str, at: Duration) {
        self.ledgers.remove(cluster);
        self.deleting.remove(cluster);
        for flight in self
            .flights
            .iter_mut()
            .filter(|flight| flight.cluster == cluster)
        {
            flight.until.get_or_insert(at);
        }
    }

    fn look(&mut self, call: &Call) {
        while let Some(deletion) = self.rules.deletions.pop_if(|deletion| deletion.0 < call.at) {
            self.deleting.insert(deletion.1);
        }
        while self
            .rules
            .rolls
            .get(self.roll)
            .is_some_and(|at| *at < call.at)
        {
            self.roll += 1;
            self.late_kind = None;
            self.exempt = self.open().map(|flight| flight.machine.clone()).collect();
        }
        match effect(call) {
            Some(Effect::Ledger { cluster, data }) => {
                let ledger = self.ledgers.entry(cluster).or_default();
                ledger.founded |= data["founded"] == "true";
                ledger.active = reading::active(&data);
            }
            Some(Effect::LedgerGone { cluster }) => self.ended(&cluster, call.at),
            Some(Effect::Deleting { cluster }) => drop(self.deleting.insert(cluster)),
            Some(Effect::Written {
                machine,
                cluster,
                control_plane,
                marker,
                made,
            }) => self.written(call, &machine, cluster, control_plane, marker, made),
            Some(Effect::Confirmed { machine, marker }) => self.confirmed(call, &machine, &marker),
            Some(Effect::Deleted { machine }) => {
                if let Some(known) = self.configurations.get(&machine).cloned() {
                    self.disrupt(call, &machine, &known, None);
                }
            }
            Some(Effect::Released { machine }) => self.went(&machine, call.at),
            None => {}
        }
        self.shown(call);
    }

    /// Notes a confirmation that the response to a later write shows, since its own response was lost.
    fn shown(&mut self, call: &Call) {
        let Some(marker) = &call.confirmed else {
            return;
        };
        let machine = call.object_name();
        let held = self.configurations.get(machine);
        if held.is_some_and(|held| held.marker == *marker) {
            self.confirmed(call, machine, marker);
        }
    }

    fn written(
        &mut self,
        call: &Call,
        machine: &str,
        cluster: String,
        control_plane: bool,
        marker: String,
        made: bool,
    ) {
        if made {
            // The previous configuration with this name was gone before.
            self.went(machine, call.at);
            self.configurations.remove(machine);
        }
        let old = self.configurations.get(machine);
        if old.is_some_and(|old| old.marker == marker) {
            return;
        }
        let known = Known {
            cluster,
            control_plane,
            marker: marker.clone(),
            once_confirmed: old.is_some_and(|old| old.once_confirmed),
        };
        self.configurations
            .insert(machine.to_owned(), known.clone());
        if self.disrupt(call, machine, &known, Some(marker)) && !made {
            self.in_order(call, machine, control_plane);
        }
    }

    fn confirmed(&mut self, call: &Call, machine: &str, marker: &str) {
        let Some(known) = self.configurations.get_mut(machine) else {
            return;
        };
        known.once_confirmed = true;
        if marker == "withdrawn" {
            return;
        }
        if known.marker != marker {
            self.say(
                "I3",
                call,
                "a marker is confirmed that the configuration does not hold",
            );
            return;
        }
        let applied = self.applied.get(&(machine.to_owned(), marker.to_owned()));
        if applied.is_none_or(|ended| *ended > call.at) {
            self.say("I3", call, "NIO has not applied what is confirmed");
        }
        for flight in &mut self.flights {
            let it = flight.machine == machine && flight.marker.as_deref() == Some(marker);
            if it && flight.until.is_none() {
                flight.until = Some(call.at);
            }
        }
    }

    /// Notes a disruptive write; returns whether it was one.
    fn disrupt(
        &mut self,
        call: &Call,
        machine: &str,
        known: &Known,
        marker: Option<String>,
    ) -> bool {
        let ledger = self.ledgers.get(&known.cluster);
        let founded = ledger.is_some_and(|ledger| ledger.founded);
        // A release before the founding does not disrupt a running cluster.
        let disrupts = founded
            && (known.control_plane || known.once_confirmed)
            && !self.deleting.contains(&known.cluster);
        if !disrupts {
            return false;
        }
        if !ledger.is_some_and(|ledger| ledger.active.contains(machine)) {
            self.say(
                "the slot",
                call,
                "the last ledger write before it did not take an entry",
            );
        }
        let mine = |flight: &&mut Flight| flight.machine == machine && flight.until.is_none();
        if let Some(flight) = self.flights.iter_mut().find(mine) {
            flight.marker = marker;
            return true;
        }
        self.numbers(call, machine, known);
        self.flights.push(Flight {
            machine: machine.to_owned(),
            cluster: known.cluster.clone(),
            control_plane: known.control_plane,
            marker,
            from: call.at,
            until: None,
        });
        true
    }

    fn numbers(&mut self, call: &Call, machine: &str, known: &Known) {
        let names = |control_plane: bool| -> Vec<String> {
            let open = self.open().filter(|flight| {
                flight.cluster == known.cluster && flight.control_plane == control_plane
            });
            open.map(|flight| flight.machine.clone()).collect()
        };
        let (control_plane, workers) = (names(true), names(false));
        let (same, other, may) = if known.control_plane {
            (control_plane, workers, 1)
        } else {
            (workers, control_plane, self.rules.max_unavailable)
        };
        let rule = if known.control_plane { "I3" } else { "I4" };
        if same.len() + 1 > may {
            let why = format!(
                "{machine} is written while {} is in flight",
                same.join(", ")
            );
            self.say(rule, call, &why);
        }
        if !other.is_empty() {
            let why = format!(
                "{machine} is written while {} of the other kind is in flight",
                other.join(", ")
            );
            self.say("I4", call, &why);
        }
    }

    /// Checks the order of updates only. Machines that join or leave have their own order.
    fn in_order(&mut self, call: &Call, machine: &str, control_plane: bool) {
        let exempt = self.exempt.contains(machine) || self.rules.passed_over.contains(machine);
        if self.roll == 0 || exempt {
            return;
        }
        let comes_last = control_plane == (self.rules.order == Order::WorkersFirst);
        if comes_last {
            self.late_kind.get_or_insert_with(|| machine.to_owned());
        } else if let Some(late) = self.late_kind.clone() {
            let why = format!("{machine} is updated after {late}, against the order asked for");
            self.say("I4", call, &why);
        }
    }
}

#[cfg(test)]
mod tests;
