//! Waits for a condition with a deadline. Tests wait only in this way.

#![allow(
    clippy::panic,
    reason = "a test that waited in vain fails with what it waited for"
)]

use std::future::Future;
use std::time::{Duration, Instant};

/// The shortest pause between two checks.
const POLL: Duration = Duration::from_millis(25);
/// The longest pause between two checks.
const SLOW_POLL: Duration = Duration::from_millis(300);

/// Checks until there is a value.
///
/// # Panics
/// With `what`, once `deadline` has passed.
pub async fn wait_for<T, F, R>(what: &str, deadline: Duration, ask: F) -> T
where
    F: FnMut() -> R,
    R: Future<Output = Option<T>>,
{
    match try_wait_for(deadline, ask).await {
        Some(answer) => answer,
        None => panic!("waited {deadline:?} in vain for: {what}"),
    }
}

/// Like [`wait_for`], with a description of the final state (`describe`) in the failure.
///
/// # Panics
/// Once `deadline` has passed.
pub async fn wait_describing<T, F, R, D, S>(
    what: &str,
    deadline: Duration,
    ask: F,
    describe: D,
) -> T
where
    F: FnMut() -> R,
    R: Future<Output = Option<T>>,
    D: FnOnce() -> S,
    S: Future<Output = String>,
{
    match try_wait_for(deadline, ask).await {
        Some(answer) => answer,
        None => panic!(
            "waited {deadline:?} in vain for: {what}\n{}",
            describe().await
        ),
    }
}

/// Checks until there is a value or the deadline has passed. A check that runs at the deadline is cancelled.
pub async fn try_wait_for<T, F, R>(deadline: Duration, mut ask: F) -> Option<T>
where
    F: FnMut() -> R,
    R: Future<Output = Option<T>>,
{
    let begun = Instant::now();
    let end = begun + deadline;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        if let Ok(Some(answer)) = tokio::time::timeout(left, ask()).await {
            return Some(answer);
        }
        // Long waits check less often.
        let pause = (begun.elapsed() / 30).clamp(POLL, SLOW_POLL);
        tokio::time::sleep(pause).await;
    }
}
