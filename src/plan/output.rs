//! The output of one planning step. Only `plan` puts the outputs of all steps together, in the order of execution.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use crate::api::conditions::{Cause, ConditionType, Reason};
use crate::api::names::MachineName;

use super::action::{Action, Plan, Wait};
use super::observed::Observed;
use super::patience::{Clock, MISSING_LOOKED_FOR_AFTER};

/// The output of one planning step.
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use = "what a step plans belongs into the plan"]
pub struct Output {
    /// The actions, in this order.
    pub actions: Vec<Action>,
    /// What the cluster waits for.
    pub waits: Vec<Wait>,
    /// Patience clocks that run.
    pub clocks: BTreeSet<Clock>,
    /// When to plan again if no event triggers a pass.
    pub look_again: Option<Duration>,
}

impl Output {
    /// Concatenates outputs in this order.
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

    /// An output that only waits for the user.
    pub fn stalled(cause: Cause) -> Self {
        let mut output = Self::default();
        output.wait_because(ConditionType::Stalled, cause);
        output
    }

    /// A plan with only this output.
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

    /// Adds an action after the others.
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

    /// Plans again within `delay`, or sooner if requested otherwise.
    pub fn look_again_in(&mut self, delay: Duration) {
        self.look_again_at(Some(delay));
    }

    /// Plans again soon: missing objects arrive without an event.
    pub fn look_for_missing(&mut self) {
        self.look_again_in(MISSING_LOOKED_FOR_AFTER);
    }

    fn look_again_at(&mut self, delay: Option<Duration>) {
        self.look_again = [self.look_again, delay].into_iter().flatten().min();
    }

    /// Keeps a clock running; returns how long it has run.
    pub fn keep(&mut self, observed: &Observed, clock: Clock, now: Timestamp) -> Duration {
        let run = observed.elapsed(&clock, now);
        self.clocks.insert(clock);
        run
    }

    /// Keeps a clock running; returns whether it has run for this long. If not, plans again at that time.
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
