//! The time, as Kubernetes writes it, and how much of it has passed. The wall clock can be set, and the monotonic one stands still
//! while a machine is suspended: each wait goes by the clock by which less has passed, the age of a decision by the other.

use std::time::{Duration, Instant, SystemTime};

use jiff::{SignedDuration, Timestamp};

/// Now, cut to whole seconds.
#[must_use]
pub fn now() -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second()).unwrap_or(Timestamp::UNIX_EPOCH)
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

    /// When it began, as a wait that ends `now` has to take it: never so early that a wall clock which was set ahead shortens it.
    #[must_use]
    pub fn as_seen(&self, now: Timestamp) -> Timestamp {
        // Both are cut to whole seconds.
        let longest = self.steady.elapsed().saturating_add(Duration::from_secs(1));
        let longest = SignedDuration::try_from(longest).unwrap_or(SignedDuration::MAX);
        let earliest = now.checked_sub(longest).unwrap_or(Timestamp::MIN);
        self.wall.max(earliest)
    }
}

/// When a decision was taken up, by both clocks.
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

    /// So long ago by the wall clock, as it is after the machine was suspended.
    #[cfg(test)]
    pub(super) fn long_ago(age: Duration) -> Self {
        Self {
            wall: SystemTime::now() - age,
            ..Self::now()
        }
    }

    /// How old the decision is at the most: time in which the machine was suspended counts.
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
