//! Work that would block an async thread for long: parsing untrusted input, and arithmetic with its numbers.

use std::future::pending;
use std::panic::resume_unwind;

use tokio::sync::Semaphore;
use tokio::task::{JoinError, spawn_blocking};

/// Limits how much work of one kind runs at the same time. Waiting work starts in the order in which it arrived.
pub struct Room(Semaphore);

/// Arithmetic with private keys. It has its own limit, so that one tenant's keys do not delay responses of another tenant's cluster.
pub static KEYS: Room = Room(Semaphore::const_new(AT_A_TIME));
/// Decoding what machines and API servers send.
pub static ANSWERS: Room = Room(Semaphore::const_new(AT_A_TIME));

/// How many pieces of work of one kind run at the same time, over all clusters.
const AT_A_TIME: usize = 2;

impl Room {
    /// Runs the work on a blocking thread. Work that has begun runs to its end even if its caller is dropped, and counts against the limit
    /// until then.
    pub async fn offload<T: Send + 'static>(
        &'static self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let permit = self.0.acquire().await;
        let done = spawn_blocking(move || {
            let _permit = permit;
            work()
        });
        match done.await.map_err(JoinError::try_into_panic) {
            Ok(result) => result,
            Err(Ok(panic)) => resume_unwind(panic),
            // The runtime is shutting down, and this task with it.
            Err(Err(_)) => pending().await,
        }
    }
}
