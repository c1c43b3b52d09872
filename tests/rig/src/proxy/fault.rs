//! Faults: to which calls they apply, and their effects.

use std::fmt;
use std::sync::Arc;

use tokio::sync::Notify;

use super::call::Call;
use crate::process::KillSwitch;

/// When a fault applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Before the API server gets the call.
    Before,
    /// After the call took effect: only the response is affected.
    After,
}

/// The effect of a fault.
#[derive(Clone)]
pub enum Effect {
    /// The response is replaced by a `Status` object with this code (429 with `Retry-After: 1`).
    Status(u16),
    /// The connection is cut without a response.
    Reset,
    /// There is never a response.
    Hang,
    /// 200 with the first half of the response's JSON (`{"kind":` if there is none).
    Truncated,
    /// 200 with an HTML page, as from a captive portal.
    Html,
    /// A `Status` object with this code whose message quotes the response, as a careless admission webhook may do.
    Echo(u16),
    /// The program is killed, and the connection cut.
    Kill(KillSwitch),
    /// The call waits at the gate until that is opened. Then the connection is cut.
    Gate(Gate),
    /// The callback is called, and the connection is cut.
    Call(Arc<dyn Fn() + Send + Sync>),
}

impl fmt::Debug for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(code) => write!(f, "Status({code})"),
            Self::Reset => f.write_str("Reset"),
            Self::Hang => f.write_str("Hang"),
            Self::Truncated => f.write_str("Truncated"),
            Self::Html => f.write_str("Html"),
            Self::Echo(code) => write!(f, "Echo({code})"),
            Self::Kill(_) => f.write_str("Kill"),
            Self::Gate(_) => f.write_str("Gate"),
            Self::Call(_) => f.write_str("Call"),
        }
    }
}

/// A gate at which a call waits until the test opens it. Clones share it.
#[derive(Clone, Default)]
pub struct Gate {
    reached: Arc<Notify>,
    open: Arc<Notify>,
}

impl Gate {
    /// Waits until a call has reached the gate.
    pub async fn reached(&self) {
        self.reached.notified().await;
    }

    /// Opens the gate.
    pub fn open(&self) {
        self.open.notify_one();
    }

    pub(super) async fn hold(&self) {
        self.reached.notify_one();
        self.open.notified().await;
    }
}

/// To which calls a fault applies.
pub type Matches = Arc<dyn Fn(&Call) -> bool + Send + Sync>;

/// A fault that applies to future calls.
#[derive(Clone)]
pub struct Fault {
    pub(super) matches: Matches,
    pub(super) moment: Moment,
    pub(super) effect: Effect,
    /// To how many more calls it applies; `None`: all.
    pub(super) left: Option<u32>,
}

impl Fault {
    /// Applies to every call for which `matches` returns true.
    pub fn on(
        matches: impl Fn(&Call) -> bool + Send + Sync + 'static,
        moment: Moment,
        effect: Effect,
    ) -> Self {
        Self {
            matches: Arc::new(matches),
            moment,
            effect,
            left: None,
        }
    }

    /// Applies to the n-th write (from 1), once.
    #[must_use]
    pub fn on_write(n: usize, moment: Moment, effect: Effect) -> Self {
        Self::on(move |call| call.n == n, moment, effect).times(1)
    }

    /// Applies to calls of one verb on one resource (with its subresource: `nixosconfigurations/status`).
    #[must_use]
    pub fn on_verb(verb: &str, resource: &str, moment: Moment, effect: Effect) -> Self {
        let (verb, resource) = (verb.to_owned(), resource.to_owned());
        Self::on(
            move |call| call.verb == verb && call.rule_resource() == resource,
            moment,
            effect,
        )
    }

    /// Limits it to this many calls.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.left = Some(times);
        self
    }
}
