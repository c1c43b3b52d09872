//! A machine sees few connections, however they end.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::{Ended, Paces, Purpose};
use crate::api::conditions::{Cause, Reason};
use crate::api::names::MachineName;

fn machine() -> MachineName {
    MachineName::parse("cp-01")
        .into_iter()
        .next()
        .unwrap_or_else(|| unreachable!("it is a name"))
}

fn brought(ended: Ended) -> Result<(), Cause> {
    match ended {
        Ended::Waiting => Ok(()),
        _ => Err(Cause::new(Reason::KubeconfigUnreadable, "why")),
    }
}

/// After how many seconds each of these connections was made, if each is made as soon as it is due.
fn made(paces: &mut Paces, ends: impl IntoIterator<Item = Ended>) -> Vec<f64> {
    let (machine, start) = (machine(), Instant::now());
    let mut now = start;
    let mut made = Vec::new();
    for ended in ends {
        now = paces.next([&machine].into_iter()).unwrap_or(start).max(now);
        assert!(paces.is_due(&machine, (Purpose::Fetch, "same"), now));
        made.push((now - start).as_secs_f64());
        paces.begin(&machine, now);
        paces.end(&machine, now, ended, Some(brought(ended)));
        assert!(!paces.is_due(&machine, (Purpose::Fetch, "same"), now));
    }
    made
}

fn in_two_minutes(made: &[f64]) -> usize {
    made.iter().filter(|at| **at < 120.0).count()
}

#[test]
fn refusals_pause_from_five_seconds_to_five_minutes() {
    let made = made(&mut Paces::default(), [Ended::Refused; 10]);
    let pauses: Vec<f64> = made.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let expected = [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0, 300.0];
    assert_eq!(pauses, expected);
}

#[test]
fn what_may_come_soon_is_looked_for_soon() {
    let closed = made(&mut Paces::default(), [Ended::Closed; 300]);
    assert!(
        in_two_minutes(&closed) > 200,
        "nobody sees them: {closed:?}"
    );
    assert!(closed[299] - closed[298] >= 10.0);
    let waiting = made(&mut Paces::default(), [Ended::Waiting; 40]);
    assert!(waiting[5] < 10.0, "{waiting:?}");
    assert!(in_two_minutes(&waiting) > 12, "{waiting:?}");
    assert!(waiting[39] - waiting[38] <= 10.0, "{waiting:?}");
}

#[test]
fn a_log_in_ends_the_refusals() {
    let ends = [
        Ended::Refused,
        Ended::Refused,
        Ended::Amiss,
        Ended::Refused,
        Ended::Amiss,
    ];
    let made = made(&mut Paces::default(), ends);
    assert_eq!(made, [0.0, 5.0, 15.0, 25.0, 30.0]);
}

#[test]
fn what_could_help_is_tried_at_once_and_once() {
    let mut paces = Paces::default();
    made(&mut paces, [Ended::Refused; 8]);
    let (machine, now) = (machine(), Instant::now());
    assert!(!paces.is_due(&machine, (Purpose::Fetch, "same"), now));
    assert!(paces.last(&machine).is_some_and(Result::is_err));
    assert!(paces.is_due(&machine, (Purpose::Fetch, "another key"), now));
    assert_eq!(paces.last(&machine), None);
    paces.begin(&machine, now);
    assert!(
        !paces.is_due(&machine, (Purpose::Fetch, "another key"), now),
        "one at a time"
    );
    paces.end(&machine, now, Ended::Refused, Some(brought(Ended::Refused)));
    let soon = now + Duration::from_secs(10);
    assert!(paces.is_due(&machine, (Purpose::Fetch, "another key"), soon));
}

/// The host key is read in a connection of its own, before the log-in.
#[test]
fn connections_of_both_purposes_count_together() {
    let (machine, now) = (machine(), Instant::now());
    let mut paces = Paces::default();
    let is_due = |paces: &mut Paces, purpose, at| paces.is_due(&machine, (purpose, "same"), at);
    assert!(is_due(&mut paces, Purpose::Meet, now));
    paces.begin(&machine, now);
    paces.end(&machine, now, Ended::Refused, None);
    let soon = now + Duration::from_secs(1);
    assert!(
        !is_due(&mut paces, Purpose::Fetch, soon),
        "the machine refuses NICO's address"
    );
    let later = now + Duration::from_secs(5);
    assert!(is_due(&mut paces, Purpose::Meet, later));
    paces.begin(&machine, later);
    paces.end(&machine, later, Ended::Met, None);
    assert!(is_due(&mut paces, Purpose::Fetch, later), "at once");
    assert_eq!(paces.last(&machine), None);
    // Both as often as they are due, from then on.
    let mut made = 2;
    for tenths in 50..1200 {
        let at = now + Duration::from_millis(100 * tenths);
        for purpose in [Purpose::Meet, Purpose::Fetch] {
            if is_due(&mut paces, purpose, at) {
                paces.begin(&machine, at);
                paces.end(&machine, at, Ended::Waiting, Some(Ok(())));
                made += 1;
            }
        }
    }
    assert!(made <= 20, "{made}");
}

proptest! {
    #[test]
    fn a_server_sees_at_most_twenty_connections_in_two_minutes(
        ends in prop::collection::vec(
            prop_oneof![Just(Ended::Closed), Just(Ended::Waiting), Just(Ended::Amiss), Just(Ended::Refused)],
            300,
        )
    ) {
        let made = made(&mut Paces::default(), ends.iter().copied());
        let seen = made.iter().zip(&ends).filter(|(at, ended)| **at < 120.0 && **ended != Ended::Closed);
        prop_assert!(seen.count() <= 20);
    }
}
