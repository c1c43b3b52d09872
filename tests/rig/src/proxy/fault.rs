//! Faults: which calls they befall, and what happens to those.

use std::fmt;
use std::sync::Arc;

use tokio::sync::Notify;

use super::call::Call;
use crate::process::KillSwitch;

/// When a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The API server never sees the call.
    Before,
    /// The call took effect, and the answer is what goes wrong.
    After,
}

/// What a fault does.
#[derive(Clone)]
pub enum Effect {
    /// Another answer: a `Status` object with this code (429 with `Retry-After: 1`).
    Status(u16),
    /// The connection is cut without an answer.
    Reset,
    /// No answer ever comes.
    Hang,
    /// 200 with the first half of the answer's JSON (`{"kind":` where there is none).
    Truncated,
    /// 200 with a page of HTML, as of a captive portal.
    Html,
    /// A `Status` object with this code whose message quotes the answer, as a careless admission webhook's does.
    Echo(u16),
    /// The program is killed, and the connection cut.
    Kill(KillSwitch),
    /// The call is held at the gate until that is opened, and then cut.
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

/// Where a call is held until the test lets it go. Clones are the same one.
#[derive(Clone, Default)]
pub struct Gate {
    reached: Arc<Notify>,
    open: Arc<Notify>,
}

impl Gate {
    /// Waits until a call is there.
    pub async fn reached(&self) {
        self.reached.notified().await;
    }

    /// Lets the call go.
    pub fn open(&self) {
        self.open.notify_one();
    }

    pub(super) async fn hold(&self) {
        self.reached.notify_one();
        self.open.notified().await;
    }
}

/// Which calls are meant.
pub type Matches = Arc<dyn Fn(&Call) -> bool + Send + Sync>;

/// A fault that lies in wait for calls.
#[derive(Clone)]
pub struct Fault {
    pub(super) matches: Matches,
    pub(super) moment: Moment,
    pub(super) effect: Effect,
    /// How many calls it still befalls; `None`: all.
    pub(super) left: Option<u32>,
}

impl Fault {
    /// Befalls every call that `matches`.
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

    /// Befalls the n-th write (from 1), once.
    #[must_use]
    pub fn on_write(n: usize, moment: Moment, effect: Effect) -> Self {
        Self::on(move |call| call.n == n, moment, effect).times(1)
    }

    /// Befalls calls of one verb on one resource (`nixosconfigurations/status` with its subresource).
    #[must_use]
    pub fn on_verb(verb: &str, resource: &str, moment: Moment, effect: Effect) -> Self {
        let (verb, resource) = (verb.to_owned(), resource.to_owned());
        Self::on(
            move |call| call.verb == verb && call.rule_resource() == resource,
            moment,
            effect,
        )
    }

    /// Befalls this many calls and no more.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.left = Some(times);
        self
    }
}
