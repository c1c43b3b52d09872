//! How long this process may still write: the part of leader election that each write checks.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::controller::clock::TakenUp;
use crate::controller::schedule::LEASE_RENEW_DEADLINE;
use crate::remote::lock::lock;

/// How long a leader may still write. It expires unless the Lease is renewed. Clones share the same state.
#[derive(Clone, Debug, Default)]
pub struct Term(Arc<Mutex<Option<TakenUp>>>);

impl Term {
    /// Notes that the Lease was acquired or renewed by a request that was sent at `sent`. Others count from its arrival, which is later.
    pub(super) fn renew(&self, sent: TakenUp) {
        *lock(&self.0) = Some(sent);
    }

    /// Ends the term at once.
    pub(super) fn end(&self) {
        *lock(&self.0) = None;
    }

    /// The time left; zero if this process does not lead.
    #[must_use]
    pub fn left(&self) -> Duration {
        let sent = *lock(&self.0);
        sent.map_or(Duration::ZERO, |sent| {
            LEASE_RENEW_DEADLINE.saturating_sub(sent.age())
        })
    }

    /// Whether this process may write.
    #[must_use]
    pub fn may_write(&self) -> bool {
        !self.left().is_zero()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_runs_out_by_itself_and_ends_at_once() {
        let term = Term::default();
        assert!(!term.may_write(), "nobody leads before the Lease is taken");
        term.renew(TakenUp::now());
        assert!(term.may_write());
        assert!(term.left() <= LEASE_RENEW_DEADLINE);
        // The machine or the process was suspended.
        term.renew(TakenUp::long_ago(LEASE_RENEW_DEADLINE));
        assert!(!term.may_write());
        term.renew(TakenUp::now());
        term.end();
        assert!(!term.may_write());
    }
}
