//! Warning events for conditions that need the user's attention, each once. They are delayed until the condition has lasted, since what
//! passes by itself is normal operation. A stall is not delayed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::events::Happening;
use super::schedule::{MISTAKE_TOLD_AFTER, TROUBLE_TOLD_AFTER};
use crate::api::conditions::{Attention, ConditionType};
use crate::api::status::{ClusterCondition, ClusterStatus};
use crate::plan::observed::elapsed;

/// The current reasons that need the user's attention. They are kept as long as the process runs.
#[derive(Default)]
pub struct Troubles(Option<BTreeMap<String, Trouble>>);

struct Trouble {
    since: Instant,
    reported: Reported,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reported {
    /// Not yet.
    No,
    /// By an earlier process, if that ran long enough: it is in the first seen status.
    Earlier,
    /// By an event.
    Yes,
}

impl Troubles {
    /// The events for what has lasted long enough and was not reported yet, and how long until the next one is due. A stall is reported
    /// at once, unless it was reported before, as a stall or as trouble.
    pub fn due(
        &mut self,
        seen: &ClusterStatus,
        wanted: &ClusterStatus,
        now: Instant,
        time: Timestamp,
    ) -> (Vec<Happening>, Option<Duration>) {
        let known = self.0.get_or_insert_with(|| first_seen(seen, now, time));
        let mut all: BTreeMap<String, &ClusterCondition> = needing_attention(wanted).collect();
        let stall = stall(wanted);
        all.extend(stall.map(|stalled| (stalled.reason.clone(), stalled)));
        known.retain(|reason, _| all.contains_key(reason));
        // `Ready` has tolerated it for a minute already.
        let rolls = wanted.holds(ConditionType::RollingOut);
        let tolerated = wanted
            .condition(ConditionType::Ready)
            .filter(|ready| seen.holds(ConditionType::Ready) && !ready.is_true() && !rolls);
        let (mut due, mut next) = (Vec::new(), None);
        for (reason, condition) in all {
            let stalls = stall.is_some_and(|stalled| stalled.reason == reason);
            let at_once = stalls || tolerated.is_some_and(|ready| ready.reason == reason);
            let patience = if at_once {
                Duration::ZERO
            } else {
                patience(&reason)
            };
            let message = condition.message.clone();
            let trouble = known.entry(reason.clone()).or_insert(Trouble {
                since: now,
                reported: Reported::No,
            });
            let reported = match trouble.reported {
                Reported::No => false,
                Reported::Earlier => !stalls,
                Reported::Yes => true,
            };
            if reported {
                continue;
            }
            let rest = patience.saturating_sub(now.saturating_duration_since(trouble.since));
            if rest.is_zero() {
                trouble.reported = Reported::Yes;
                due.push(Happening::Trouble(reason, message));
            } else {
                next = Some(next.map_or(rest, |next: Duration| next.min(rest)));
            }
        }
        (due, next)
    }
}

/// How long a condition with this reason lasts before it is reported.
fn patience(reason: &str) -> Duration {
    match Attention::of(reason) {
        Attention::Yes => MISTAKE_TOLD_AFTER,
        Attention::IfItLasts | Attention::No => TROUBLE_TOLD_AFTER,
    }
}

/// What the first seen status contains. What is younger than its patience was not reported by an earlier process, and a stall was.
fn first_seen(seen: &ClusterStatus, now: Instant, time: Timestamp) -> BTreeMap<String, Trouble> {
    let mut known: BTreeMap<String, Trouble> = BTreeMap::new();
    for (reason, condition) in needing_attention(seen) {
        let lasted = condition.last_transition_time;
        let lasted = lasted.map_or(Duration::MAX, |since| elapsed(since, time));
        let since = now.checked_sub(lasted).unwrap_or(now);
        let reported = if lasted < patience(&reason) {
            Reported::No
        } else {
            Reported::Earlier
        };
        // Of several conditions with this reason, the youngest tells since when it holds.
        let told = known.entry(reason).or_insert(Trouble { since, reported });
        if reported == Reported::No && (told.reported != Reported::No || told.since < since) {
            *told = Trouble { since, reported };
        }
    }
    if let Some(stalled) = stall(seen) {
        let reported = Reported::Yes;
        known.insert(
            stalled.reason.clone(),
            Trouble {
                since: now,
                reported,
            },
        );
    }
    known
}

fn stall(status: &ClusterStatus) -> Option<&ClusterCondition> {
    let stalled = status.condition(ConditionType::Stalled);
    stalled.filter(|stalled| stalled.is_true())
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

    const NOON: Timestamp = Timestamp::constant(1_800_000_000, 0);

    /// Troubles, beside a wall clock that stands still.
    #[derive(Default)]
    struct AtNoon(Troubles);

    impl AtNoon {
        fn due(
            &mut self,
            seen: &ClusterStatus,
            wanted: &ClusterStatus,
            now: Instant,
        ) -> (Vec<Happening>, Option<Duration>) {
            self.0.due(seen, wanted, now, NOON)
        }
    }

    fn at_noon() -> AtNoon {
        AtNoon::default()
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
            let mut troubles = at_noon();
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
        let mut troubles = at_noon();
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
        let due = at_noon().due(&well, &amiss, Instant::now());
        assert_eq!(due, (reported(Reason::MachineUndiscoverable), None));
    }

    /// L2: nothing is reported again by the next process.
    #[test]
    fn a_restart_tells_nothing_again() {
        let amiss = status(&[(ConditionType::Ready, "False", Reason::MachineMissing)]);
        let mut troubles = at_noon();
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
        let mut troubles = at_noon();
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
            let due = at_noon().due(&status(&NEW), &busy, Instant::now());
            assert_eq!(due, (vec![], None), "{reason}");
        }
    }

    #[test]
    fn what_stalls_is_told_once_and_at_once() {
        let ready = status(&[(ConditionType::Ready, "True", Reason::AsExpected)]);
        let mut troubles = at_noon();
        let began = Instant::now();
        let lost = stalls(Reason::JoinTokenLost);
        let due = troubles.due(&ready, &lost, began);
        assert_eq!(due, (reported(Reason::JoinTokenLost), None));
        let later = began + TROUBLE_TOLD_AFTER;
        assert_eq!(troubles.due(&lost, &lost, later), (vec![], None));
        let new = stalls(Reason::GitRepoMissing);
        let due = at_noon().due(&status(&NEW), &new, began);
        assert_eq!(due, (reported(Reason::GitRepoMissing), None));
    }

    /// The stall follows before the trouble is told, after it, or in the next process.
    #[test]
    fn trouble_that_becomes_a_stall_is_told_once() {
        let reason = Reason::MachineMissing;
        let amiss = status(&[(ConditionType::Ready, "False", reason)]);
        let began = Instant::now();
        for wait in [Duration::from_secs(1), MISTAKE_TOLD_AFTER] {
            let mut troubles = at_noon();
            let mut told = troubles.due(&status(&NEW), &amiss, began).0;
            told.extend(troubles.due(&amiss, &amiss, began + wait).0);
            told.extend(troubles.due(&amiss, &stalls(reason), began + wait).0);
            told.extend(troubles.due(&stalls(reason), &amiss, began + wait).0);
            assert_eq!(told, reported(reason), "{wait:?}");
        }
        let mut next = at_noon();
        assert_eq!(next.due(&amiss, &amiss, began).0, []);
        assert_eq!(next.due(&amiss, &stalls(reason), began).0, reported(reason));
        let mut next = at_noon();
        assert_eq!(next.due(&stalls(reason), &stalls(reason), began).0, []);
    }

    #[test]
    fn what_an_earlier_process_had_no_time_to_tell_is_told() {
        let reason = Reason::MachineMissing;
        let mut amiss = status(&[(ConditionType::Ready, "False", reason)]);
        let a_second_ago = Timestamp::constant(1_799_999_999, 0);
        amiss.conditions[0].last_transition_time = Some(a_second_ago);
        let mut troubles = at_noon();
        let began = Instant::now();
        let rest = MISTAKE_TOLD_AFTER.saturating_sub(Duration::from_secs(1));
        assert_eq!(troubles.due(&amiss, &amiss, began), (vec![], Some(rest)));
        let due = troubles.due(&amiss, &amiss, began + rest);
        assert_eq!(due, (reported(reason), None));
    }

    fn stalls(reason: Reason) -> ClusterStatus {
        status(&[
            (ConditionType::Ready, "False", reason),
            (ConditionType::Stalled, "True", reason),
        ])
    }
}
