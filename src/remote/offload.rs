//! Work that would hold an async thread for long: parsing what others wrote, and arithmetic with their numbers.

use std::future::pending;
use std::panic::resume_unwind;

use tokio::sync::Semaphore;
use tokio::task::{JoinError, spawn_blocking};

/// Work of one kind. What waits is taken in the order in which it came.
pub struct Room(Semaphore);

/// Arithmetic with private keys. Those of one tenant hold up no answer of another's cluster.
pub static KEYS: Room = Room(Semaphore::const_new(AT_A_TIME));
/// What machines and API servers send.
pub static ANSWERS: Room = Room(Semaphore::const_new(AT_A_TIME));

/// Pieces of work of one kind at the same time, over all clusters.
const AT_A_TIME: usize = 2;

impl Room {
    /// Does the work on a thread of its own. Work that has begun goes on where nobody waits for it any more, and counts until it ends.
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
            // The runtime ends, and this task with it.
            Err(Err(_)) => pending().await,
        }
    }
}
