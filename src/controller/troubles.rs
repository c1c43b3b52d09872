//! Warning events for conditions that need the user's attention. They are delayed until the condition has lasted: what passes by itself is
//! normal operation.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::events::Happening;
use super::schedule::{MISTAKE_TOLD_AFTER, TROUBLE_TOLD_AFTER};
use crate::api::conditions::{Attention, ConditionType};
use crate::api::status::{ClusterCondition, ClusterStatus};

/// The current reasons that need the user's attention. They are kept as long as the process runs. What the first seen status already
/// contains counts as reported.
#[derive(Default)]
pub struct Troubles(Option<BTreeMap<String, Trouble>>);

struct Trouble {
    since: Instant,
    reported: bool,
}

impl Troubles {
    /// The events for what has lasted long enough and was not reported yet, and how long until the next one is due.
    pub fn due(
        &mut self,
        seen: &ClusterStatus,
        wanted: &ClusterStatus,
        now: Instant,
    ) -> (Vec<Happening>, Option<Duration>) {
        let known = self.0.get_or_insert_with(|| {
            let reported = |(reason, _)| {
                let trouble = Trouble {
                    since: now,
                    reported: true,
                };
                (reason, trouble)
            };
            needing_attention(seen).map(reported).collect()
        });
        let all: BTreeMap<String, &ClusterCondition> = needing_attention(wanted).collect();
        known.retain(|reason, _| all.contains_key(reason));
        // `Ready` has tolerated it for a minute already.
        let rolls = wanted.holds(ConditionType::RollingOut);
        let tolerated = wanted
            .condition(ConditionType::Ready)
            .filter(|ready| seen.holds(ConditionType::Ready) && !ready.is_true() && !rolls);
        let stalls = wanted
            .condition(ConditionType::Stalled)
            .filter(|stalled| stalled.is_true());
        let (mut due, mut next) = (Vec::new(), None);
        for (reason, condition) in all {
            let patience = match Attention::of(&reason) {
                _ if tolerated.is_some_and(|ready| ready.reason == reason) => Duration::ZERO,
                Attention::Yes => MISTAKE_TOLD_AFTER,
                Attention::IfItLasts | Attention::No => TROUBLE_TOLD_AFTER,
            };
            let message = condition.message.clone();
            let trouble = known.entry(reason.clone()).or_insert(Trouble {
                since: now,
                reported: false,
            });
            // A stalled cluster is reported at once, as such.
            trouble.reported |= stalls.is_some_and(|stalled| stalled.reason == reason);
            let rest = patience.saturating_sub(now.duration_since(trouble.since));
            if trouble.reported {
                continue;
            }
            if rest.is_zero() {
                trouble.reported = true;
                due.push(Happening::Trouble(reason, message));
            } else {
                next = Some(next.map_or(rest, |next: Duration| next.min(rest)));
            }
        }
        (due, next)
    }
}

/// The conditions of a status that need the user's attention, by reason. `Ready` comes last, so that its message is kept where several have
/// the same reason.
fn needing_attention(status: &ClusterStatus) -> impl Iterator<Item = (String, &ClusterCondition)> {
    let amiss = [
        (ConditionType::Reconciling, true),
        // The one that is stored may work, and a host key has changed, or it cannot be renewed.
        (ConditionType::KubeconfigReady, true),
        (ConditionType::KubeconfigReady, false),
        (ConditionType::ControlPlaneReady, false),
        (ConditionType::RollingOut, true),
        (ConditionType::MachinesAvailable, false),
        (ConditionType::Ready, false),
    ];
    amiss.into_iter().filter_map(|(kind, when)| {
        let condition = status.condition(kind)?;
        let is_amiss = condition.is_true() == when;
        let calls = Attention::of(&condition.reason) != Attention::No;
        (is_amiss && calls).then(|| (condition.reason.clone(), condition))
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::api::conditions::Reason;

    /// A status with these conditions, whose messages equal their reasons.
    pub(in crate::controller) fn status(
        conditions: &[(ConditionType, &str, Reason)],
    ) -> ClusterStatus {
        let condition = |(kind, status, reason): &(ConditionType, &str, Reason)| ClusterCondition {
            kind: kind.to_string(),
            status: (*status).to_owned(),
            observed_generation: None,
            last_transition_time: None,
            reason: reason.to_string(),
            message: reason.to_string(),
        };
        ClusterStatus {
            conditions: conditions.iter().map(condition).collect(),
            ..ClusterStatus::default()
        }
    }

    fn reported(reason: Reason) -> Vec<Happening> {
        vec![Happening::Trouble(reason.to_string(), reason.to_string())]
    }

    const NEW: [(ConditionType, &str, Reason); 0] = [];

    #[test]
    fn a_mistake_in_a_first_apply_is_told_once_and_soon() {
        for reason in [
            Reason::MachineMissing,
            Reason::MachineInUse,
            Reason::TooFewMachines,
            Reason::SSHKeyMissing,
        ] {
            let mut troubles = Troubles::default();
            let began = Instant::now();
            let amiss = status(&[(ConditionType::Ready, "False", reason)]);
            let (due, next) = troubles.due(&status(&NEW), &amiss, began);
            assert_eq!((due, next), (vec![], Some(MISTAKE_TOLD_AFTER)));
            let later = began + MISTAKE_TOLD_AFTER;
            assert_eq!(
                troubles.due(&amiss, &amiss, later),
                (reported(reason), None),
                "{reason}"
            );
            assert_eq!(troubles.due(&amiss, &amiss, later), (vec![], None));
        }
    }

    #[test]
    fn what_may_pass_is_told_only_when_it_has_lasted() {
        let mut troubles = Troubles::default();
        let began = Instant::now();
        let updating = status(&[
            (ConditionType::Ready, "False", Reason::WaitingForMachines),
            (ConditionType::RollingOut, "True", Reason::NodeNotReady),
        ]);
        let well = status(&[(ConditionType::Ready, "True", Reason::AsExpected)]);
        assert_eq!(
            troubles.due(&well, &updating, began),
            (vec![], Some(TROUBLE_TOLD_AFTER))
        );
        // It passes, returns, and lasts.
        let soon = began + TROUBLE_TOLD_AFTER / 2;
        assert_eq!(troubles.due(&updating, &well, soon), (vec![], None));
        assert_eq!(
            troubles.due(&well, &updating, soon).1,
            Some(TROUBLE_TOLD_AFTER)
        );
        let due = troubles.due(&updating, &updating, soon + TROUBLE_TOLD_AFTER);
        assert_eq!(due, (reported(Reason::NodeNotReady), None));
    }

    #[test]
    fn what_ready_has_borne_for_a_minute_is_told_at_once() {
        let well = status(&[(ConditionType::Ready, "True", Reason::AsExpected)]);
        let amiss = status(&[(ConditionType::Ready, "False", Reason::MachineUndiscoverable)]);
        let due = Troubles::default().due(&well, &amiss, Instant::now());
        assert_eq!(due, (reported(Reason::MachineUndiscoverable), None));
    }

    /// L2: nothing is reported again by the next process.
    #[test]
    fn a_restart_tells_nothing_again() {
        let amiss = status(&[(ConditionType::Ready, "False", Reason::MachineMissing)]);
        let mut troubles = Troubles::default();
        let began = Instant::now();
        assert_eq!(troubles.due(&amiss, &amiss, began), (vec![], None));
        let later = began + TROUBLE_TOLD_AFTER;
        assert_eq!(troubles.due(&amiss, &amiss, later), (vec![], None));
    }

    #[test]
    fn a_host_key_that_changed_is_told_also_while_the_kubeconfig_works() {
        let well = status(&[(ConditionType::Ready, "True", Reason::AsExpected)]);
        let amiss = status(&[
            (ConditionType::Ready, "True", Reason::AsExpected),
            (
                ConditionType::KubeconfigReady,
                "True",
                Reason::HostKeyChanged,
            ),
        ]);
        let mut troubles = Troubles::default();
        let began = Instant::now();
        let (due, next) = troubles.due(&well, &amiss, began);
        assert_eq!((due, next), (vec![], Some(MISTAKE_TOLD_AFTER)));
        let due = troubles.due(&amiss, &amiss, began + MISTAKE_TOLD_AFTER);
        assert_eq!(due, (reported(Reason::HostKeyChanged), None));
    }

    #[test]
    fn work_that_goes_on_is_never_told_as_trouble() {
        for reason in [
            Reason::Progressing,
            Reason::WaitingForMachines,
            Reason::OutOfDate,
            Reason::InFlight,
            Reason::Draining,
            Reason::Deleting,
            Reason::PausedBySpec,
        ] {
            let busy = status(&[
                (ConditionType::Ready, "False", reason),
                (ConditionType::RollingOut, "True", reason),
            ]);
            let due = Troubles::default().due(&status(&NEW), &busy, Instant::now());
            assert_eq!(due, (vec![], None), "{reason}");
        }
    }
}
