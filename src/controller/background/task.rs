//! A background task.

use tokio::task::JoinHandle;
use tracing::Instrument as _;

/// At most one piece of work at a time; dropping it ends the work.
#[derive(Default)]
pub(super) struct Task(Option<JoinHandle<()>>);

impl Task {
    /// Whether the work is running.
    pub(super) fn is_running(&self) -> bool {
        self.0.as_ref().is_some_and(|work| !work.is_finished())
    }

    /// Starts the work, unless it is running; returns whether it was started.
    pub(super) fn start(&mut self, work: impl Future<Output = ()> + Send + 'static) -> bool {
        let starts = !self.is_running();
        if starts {
            self.0 = Some(tokio::spawn(work.in_current_span()));
        }
        starts
    }

    /// Whether the caller is the current work. It may have been stopped a moment ago, and other work started.
    pub(super) fn is_current(&self) -> bool {
        let ours = self.0.as_ref().map(JoinHandle::id);
        ours.is_some() && ours == tokio::task::try_id()
    }

    /// The work calls this as its last step. From then on, new work may be started. Returns `false` if the work was stopped.
    pub(super) fn finish(&mut self) -> bool {
        let current = self.is_current();
        if current {
            self.0 = None;
        }
        current
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(work) = &self.0 {
            work.abort();
        }
    }
}
