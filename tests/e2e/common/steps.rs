//! Recognises the steps of a rollout and of a release in NICO's writes by their bodies, and injects faults into them.

use std::sync::{Mutex, PoisonError};

use rig::proxy::{Call, Effect, Fault, Moment};
use serde_json::Value;

/// The writes for one machine in a rollout, in this order. A release has `Left` instead of `Written`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Its entry is created or renewed.
    Taken,
    /// Its configuration is updated.
    Written,
    /// Its configuration is deleted.
    Left,
    /// Its marker is noted as confirmed.
    Confirmed,
    /// Its entry is being released.
    Releasing,
    /// Its configuration is touched.
    Touched,
    /// Its entry is removed.
    Removed,
    /// With v1, its schedule is reset, at any time after it was confirmed.
    Settled,
}

impl Step {
    /// All steps of a rollout with every NIO.
    pub(crate) const ALL: [Self; 6] = [
        Self::Taken,
        Self::Written,
        Self::Confirmed,
        Self::Releasing,
        Self::Touched,
        Self::Removed,
    ];
}

/// Reads steps from calls in order, with one entry at a time.
#[derive(Default)]
pub(crate) struct Steps {
    entered: Option<String>,
    last: Option<(String, Step)>,
}

impl Steps {
    /// The step that a call performs.
    pub(crate) fn read(&mut self, call: &Call) -> Option<(String, Step)> {
        if call.verb == "delete" && call.resource == "nixosconfigurations" {
            return Some((call.object_name().to_owned(), Step::Left));
        }
        if call.verb != "patch" || !call.subresource.is_empty() {
            return None;
        }
        let body = call.body.as_ref()?;
        let step = match call.resource.as_str() {
            "configmaps" => self.of_the_ledger(body)?,
            "nixosconfigurations" => (call.object_name().to_owned(), of_a_child(body)?),
            _ => return None,
        };
        self.last = Some(step.clone());
        Some(step)
    }

    fn of_the_ledger(&mut self, body: &Value) -> Option<(String, Step)> {
        let slot: Value = serde_json::from_str(body["data"]["slot"].as_str()?).ok()?;
        let Some(entry) = slot["entries"].as_array()?.first() else {
            return Some((self.entered.clone()?, Step::Removed));
        };
        let machine = entry["machine"].as_str()?.to_owned();
        self.entered = Some(machine.clone());
        let step = if entry["state"] == "active" {
            Step::Taken
        } else {
            Step::Releasing
        };
        Some((machine, step))
    }
}

fn of_a_child(body: &Value) -> Option<Step> {
    let annotations = &body["metadata"]["annotations"];
    if body["spec"]["additionalFiles"].is_array() {
        Some(Step::Written)
    } else if annotations["nico.homystack.com/confirmed"].is_string() {
        Some(Step::Confirmed)
    } else if body["spec"].get("dayTwoSchedule").is_some() {
        Some(Step::Settled)
    } else {
        annotations["nico.homystack.com/touched"]
            .is_string()
            .then_some(Step::Touched)
    }
}

/// The steps that took effect, in order.
pub(crate) fn steps(calls: &[Call]) -> Vec<(String, Step)> {
    let mut steps = Steps::default();
    let done = |call: &&Call| call.code.is_some_and(|code| code < 300);
    let read = calls.iter().filter(done);
    read.filter_map(|call| steps.read(call)).collect()
}

/// A fault for a step of a machine, once.
pub(crate) fn at(machine: &str, step: Step, moment: Moment, effect: Effect) -> Fault {
    at_nth(machine, step, 1, moment, effect)
}

/// A fault for a step of a machine when it occurs for the n-th time (from 1). Occurrences to which an earlier fault applies are not
/// counted.
pub(crate) fn at_nth(
    machine: &str,
    step: Step,
    nth: usize,
    moment: Moment,
    effect: Effect,
) -> Fault {
    let (wanted, steps) = (
        (machine.to_owned(), step),
        Mutex::new((Steps::default(), 0)),
    );
    let it = move |call: &Call| {
        let mut steps = steps.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = steps.0.read(call).as_ref() == Some(&wanted);
        steps.1 += usize::from(is_it);
        is_it && steps.1 == nth
    };
    Fault::on(it, moment, effect).times(1)
}

/// A fault for the first status write after a step of a machine, if it comes before the next step; once.
pub(crate) fn at_status_after(machine: &str, step: Step, moment: Moment, effect: Effect) -> Fault {
    let (wanted, steps) = ((machine.to_owned(), step), Mutex::new(Steps::default()));
    let it = move |call: &Call| {
        let mut steps = steps.lock().unwrap_or_else(PoisonError::into_inner);
        steps.read(call);
        call.is_write() && call.subresource == "status" && steps.last.as_ref() == Some(&wanted)
    };
    Fault::on(it, moment, effect).times(1)
}
