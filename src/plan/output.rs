//! What one step plans. Steps return it; `plan` alone puts the outputs of all steps together, in the order of execution.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use crate::api::conditions::{Cause, ConditionType, Reason};
use crate::api::names::MachineName;

use super::action::{Action, Plan, Wait};
use super::observed::Observed;
use super::patience::{Clock, MISSING_LOOKED_FOR_AFTER};

/// What one step plans.
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use = "what a step plans belongs into the plan"]
pub struct Output {
    /// What is to be done, in this order.
    pub actions: Vec<Action>,
    /// What is missing.
    pub waits: Vec<Wait>,
    /// Clocks of patience that run.
    pub clocks: BTreeSet<Clock>,
    /// When to look again though nothing happened.
    pub look_again: Option<Duration>,
}

impl Output {
    /// All outputs in one, in this order.
    pub fn concat(outputs: impl IntoIterator<Item = Self>) -> Self {
        let mut all = Self::default();
        for output in outputs {
            all.actions.extend(output.actions);
            all.waits.extend(output.waits);
            all.clocks.extend(output.clocks);
            all.look_again_at(output.look_again);
        }
        all
    }

    /// Nothing but a wait for a person.
    pub fn stalled(cause: Cause) -> Self {
        let mut output = Self::default();
        output.wait_because(ConditionType::Stalled, cause);
        output
    }

    /// The plan of a pass that did this and knows no more.
    #[must_use]
    pub fn into_plan(self) -> Plan {
        Plan {
            actions: self.actions,
            waits: self.waits,
            clocks: self.clocks,
            look_again: self.look_again,
            ..Plan::default()
        }
    }

    /// Does something, after what is done already.
    pub fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    /// Waits for something.
    pub fn wait(&mut self, condition: ConditionType, reason: Reason, message: impl Into<String>) {
        self.wait_because(condition, Cause::new(reason, message));
    }

    /// Waits for something.
    pub fn wait_because(&mut self, condition: ConditionType, cause: Cause) {
        self.waits.push(Wait {
            condition,
            cause,
            machine: None,
        });
    }

    /// Waits for something for the sake of one machine.
    pub fn wait_for(&mut self, machine: MachineName, condition: ConditionType, cause: Cause) {
        self.waits.push(Wait {
            condition,
            cause,
            machine: Some(machine),
        });
    }

    /// Looks again within `delay`, or sooner where something else asks for it.
    pub fn look_again_in(&mut self, delay: Duration) {
        self.look_again_at(Some(delay));
    }

    /// Looks again soon: what is missing comes without an event.
    pub fn look_for_missing(&mut self) {
        self.look_again_in(MISSING_LOOKED_FOR_AFTER);
    }

    fn look_again_at(&mut self, delay: Option<Duration>) {
        self.look_again = [self.look_again, delay].into_iter().flatten().min();
    }

    /// Keeps a clock running; how long it has run.
    pub fn keep(&mut self, observed: &Observed, clock: Clock, now: Timestamp) -> Duration {
        let run = observed.elapsed(&clock, now);
        self.clocks.insert(clock);
        run
    }

    /// Keeps a clock running; whether it has run for so long. Where it has not, looks again when it will have.
    pub fn has_run(
        &mut self,
        observed: &Observed,
        clock: Clock,
        now: Timestamp,
        patience: Duration,
    ) -> bool {
        let rest = patience.saturating_sub(self.keep(observed, clock, now));
        if !rest.is_zero() {
            self.look_again_in(rest);
        }
        rest.is_zero()
    }
}

impl FromIterator<Action> for Output {
    fn from_iter<T: IntoIterator<Item = Action>>(actions: T) -> Self {
        Self {
            actions: actions.into_iter().collect(),
            ..Self::default()
        }
    }
}
