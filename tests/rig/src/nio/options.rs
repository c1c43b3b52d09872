//! How a stand-in for NIO runs.

use std::time::Duration;

use crate::crds::Generation;

/// How the stand-in runs.
#[derive(Clone, Debug)]
pub struct NioOptions {
    /// Which NIO it stands in for.
    pub generation: Generation,
    /// The namespace it looks at; `None`: all of them.
    pub namespace: Option<String>,
    /// The time between two looks without an event (120 s in the original).
    pub tick: Duration,
    /// How long an apply takes, but where a machine's knob says otherwise.
    pub delay: Duration,
    /// v1: the time from one run of `* * * * *` to the next.
    pub minute: Duration,
    /// v1: the time from one run of `*/30 * * * *`, its default, to the next.
    pub half_hour: Duration,
}

impl NioOptions {
    /// Classic, one namespace, a tick of half a second, applies of a tenth; v1's minute is half a second, too.
    #[must_use]
    pub fn namespace(namespace: &str) -> Self {
        Self {
            generation: Generation::Classic,
            namespace: Some(namespace.to_owned()),
            tick: Duration::from_millis(500),
            delay: Duration::from_millis(100),
            minute: Duration::from_millis(500),
            half_hour: Duration::from_secs(15),
        }
    }
}
