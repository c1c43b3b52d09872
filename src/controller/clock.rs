//! The current time, and how much time has passed. The wall clock can be set, and the monotonic clock stops while a machine is suspended.
//! So a wait uses the clock by which less time has passed, and the age of a decision the one by which more has passed.

use std::time::{Duration, Instant, SystemTime};

use jiff::{SignedDuration, Timestamp};

use crate::plan::observed::in_seconds;

/// The current time in whole seconds, the resolution of Kubernetes timestamps.
#[must_use]
pub fn now() -> Timestamp {
    in_seconds(Timestamp::now())
}

/// The current time in milliseconds, which tells apart two writes of one second.
#[must_use]
pub fn precise() -> Timestamp {
    Timestamp::from_millisecond(Timestamp::now().as_millisecond()).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// When a wait began, by both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Began {
    wall: Timestamp,
    steady: Instant,
}

impl Began {
    /// Now.
    #[must_use]
    pub fn at(now: Timestamp) -> Self {
        Self {
            wall: now,
            steady: Instant::now(),
        }
    }

    /// When the wait began, seen from `now`. If the wall clock was set ahead, it is later than noted, so that the wait does not become
    /// shorter.
    #[must_use]
    pub fn as_seen(&self, now: Timestamp) -> Timestamp {
        // Both timestamps are in whole seconds.
        let longest = self.steady.elapsed().saturating_add(Duration::from_secs(1));
        let longest = SignedDuration::try_from(longest).unwrap_or(SignedDuration::MAX);
        let earliest = now.checked_sub(longest).unwrap_or(Timestamp::MIN);
        self.wall.max(earliest)
    }
}

/// When a decision was made, by both clocks.
#[derive(Clone, Copy, Debug)]
pub struct TakenUp {
    wall: SystemTime,
    steady: Instant,
}

impl TakenUp {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        Self {
            wall: SystemTime::now(),
            steady: Instant::now(),
        }
    }

    /// This long ago by the wall clock only, as after the machine was suspended.
    #[cfg(test)]
    pub(super) fn long_ago(age: Duration) -> Self {
        Self {
            wall: SystemTime::now() - age,
            ..Self::now()
        }
    }

    /// The age of the decision, including time in which the machine was suspended.
    #[must_use]
    pub fn age(&self) -> Duration {
        let wall = self.wall.elapsed().unwrap_or_default();
        wall.max(self.steady.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_wall_clock_that_is_set_shortens_no_wait() {
        let set = now();
        let ahead = Began {
            wall: set - HOUR,
            ..Began::at(set)
        };
        assert!(ahead.as_seen(set) > set - Duration::from_secs(60));
        let back = Began::at(set + HOUR);
        assert_eq!(back.as_seen(set), set + HOUR);
        assert_eq!(Began::at(set).as_seen(set), set);
    }

    #[test]
    fn a_decision_ages_while_its_machine_is_suspended_and_when_the_wall_clock_is_set_back() {
        assert!(TakenUp::long_ago(HOUR).age() >= HOUR);
        let Some(steady) = Instant::now().checked_sub(Duration::from_secs(1)) else {
            return;
        };
        let back = TakenUp {
            wall: SystemTime::now() + HOUR,
            steady,
        };
        assert!(back.age() >= Duration::from_secs(1));
    }
}
