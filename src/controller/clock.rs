//! The time, as Kubernetes writes it.

use jiff::Timestamp;

/// Now, cut to whole seconds.
#[must_use]
pub fn now() -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second()).unwrap_or(Timestamp::UNIX_EPOCH)
}
