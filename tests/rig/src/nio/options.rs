//! Options of the simulated NIO.

use std::time::Duration;

use crate::crds::Generation;

/// Options of the simulator.
#[derive(Clone, Debug)]
pub struct NioOptions {
    /// The simulated generation of NIO.
    pub generation: Generation,
    /// The namespace in which it works; `None`: all.
    pub namespace: Option<String>,
    /// The time between two checks without an event (120 s in the original).
    pub tick: Duration,
    /// How long an apply takes, unless a machine's knob sets it.
    pub delay: Duration,
    /// v1: the time from one run of `* * * * *` to the next.
    pub minute: Duration,
    /// v1: the time from one run of `*/30 * * * *`, its default, to the next.
    pub half_hour: Duration,
}

impl NioOptions {
    /// Classic, one namespace, ticks of half a second, applies of a tenth. v1's minute is half a second as well.
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
