//! Work on a large cluster, or on a long response, which would block an async thread for long.

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;

/// Number of machines above which planning may take a millisecond or more.
const LARGE: usize = 200;
/// The same for the bytes of a response that is decoded.
const LONG: usize = 256 * 1024;

/// Runs work whose cost grows with the machines of a cluster. If there are many, the other tasks of this thread move to other threads
/// meanwhile.
pub fn aside<T>(machines: usize, work: impl FnOnce() -> T) -> T {
    aside_if(machines > LARGE, work)
}

/// The same for work whose cost grows with the bytes of a response.
pub fn aside_of_bytes<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    aside_if(bytes > LONG, work)
}

fn aside_if<T>(takes_long: bool, work: impl FnOnce() -> T) -> T {
    let can_move = || Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread;
    if takes_long && can_move() {
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

    /// The runtime has one thread, which runs the work. The task for which the work waits must run all the same.
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
