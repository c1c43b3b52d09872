//! Waiting for a condition with a deadline: the only way in which tests wait.

#![allow(
    clippy::panic,
    reason = "a test that waited in vain fails with what it waited for"
)]

use std::future::Future;
use std::time::{Duration, Instant};

/// How long between two looks.
const POLL: Duration = Duration::from_millis(25);
/// The longest pause between two questions.
const SLOW_POLL: Duration = Duration::from_millis(300);

/// Asks until there is an answer.
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

/// As [`wait_for`], with what is seen at the end (`describe`) in the failure.
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

/// Asks until there is an answer or the deadline has passed. The question itself is cut off at the deadline, too.
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
        // Who waits for minutes need not ask so often.
        let pause = (begun.elapsed() / 100).clamp(POLL, SLOW_POLL);
        tokio::time::sleep(pause).await;
    }
}
