//! Work on a large cluster, which would hold an async thread for long.

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;

/// Machines of a cluster above which planning may take a millisecond and more.
const LARGE: usize = 200;

/// Does work that grows with the machines of a cluster. For many, the other tasks of this thread go on elsewhere meanwhile.
pub fn aside<T>(machines: usize, work: impl FnOnce() -> T) -> T {
    let can_move = || Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread;
    if machines > LARGE && can_move() {
        block_in_place(work)
    } else {
        work()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    /// The one thread of the runtime does the work, and the task that it waits for runs all the same.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn other_tasks_go_on_beside_the_work_on_a_large_cluster() {
        let work = async {
            let (done, waits) = channel();
            aside(LARGE + 1, || {
                tokio::spawn(async move { done.send(()) });
                waits.recv_timeout(Duration::from_secs(60))
            })
        };
        tokio::spawn(work).await.unwrap().unwrap();
    }
}
