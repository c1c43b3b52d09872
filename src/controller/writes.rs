//! The writes that are on their way. A process that stops finishes them, and only then lets another one take over. One that has lost the
//! Lease begins none, whichever API server they would go to.

use tokio::sync::watch;

use super::leader::term::Term;

/// Counts the writes that were sent and have not ended. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Writes {
    state: watch::Sender<State>,
    /// When writes may begin; `None`: always.
    term: Option<Term>,
}

#[derive(Debug, Default)]
struct State {
    on_their_way: usize,
    closed: bool,
}

/// A write that is on its way. It has ended when this is dropped.
#[derive(Debug)]
pub struct Write(Writes);

impl Writes {
    /// The writes of a process that may write in this term, or always.
    #[must_use]
    pub fn within(term: Option<Term>) -> Self {
        let state = watch::Sender::default();
        Self { state, term }
    }

    /// Notes that a write begins. `None`: the process is stopping or does not lead, and the write must not be sent.
    #[must_use]
    pub fn begin(&self) -> Option<Write> {
        if self.term.as_ref().is_some_and(|term| !term.may_write()) {
            return None;
        }
        let begins = self.state.send_if_modified(|state| {
            state.on_their_way += usize::from(!state.closed);
            !state.closed
        });
        begins.then(|| Write(self.clone()))
    }

    /// From now on no write begins. Waits for those that have begun.
    pub async fn close(&self) {
        self.state.send_modify(|state| state.closed = true);
        let mut watched = self.state.subscribe();
        // `self` is a sender, so this waits.
        let _ = watched.wait_for(|state| state.on_their_way == 0).await;
    }
}

impl Drop for Write {
    fn drop(&mut self) {
        self.0.state.send_modify(|state| state.on_their_way -= 1);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn what_has_begun_is_waited_for_and_nothing_else_begins() {
        let writes = Writes::default();
        let (first, second) = (writes.begin().unwrap(), writes.begin().unwrap());
        let other = writes.clone();
        let mut closed = Box::pin(other.close());
        assert!(closed.as_mut().now_or_never().is_none());
        assert!(writes.begin().is_none());
        drop(first);
        assert!(closed.as_mut().now_or_never().is_none());
        drop(second);
        assert!(closed.now_or_never().is_some());
        assert!(writes.begin().is_none());
    }
}
