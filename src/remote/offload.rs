//! Work that would block an async thread for long: parsing untrusted input, and arithmetic with its numbers.

use std::future::pending;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, OnceLock};

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::futures::TaskLocalFuture;
use tokio::task_local;

use super::gate::{Class, Gate};

task_local! {
    static NAMESPACE: Arc<str>;
}

/// Limits how much work of one kind runs at the same time. Namespaces get fair shares.
pub struct Room {
    gate: OnceLock<Gate>,
    places: usize,
}

/// Arithmetic with private keys. It has its own limit, so that keys do not delay the responses of clusters.
pub static KEYS: Room = Room::new(AT_A_TIME);
/// Decoding what machines and API servers send.
pub static ANSWERS: Room = Room::new(AT_A_TIME);
/// Rendering the metrics, which takes longer the more clusters there are. It is done once at a time, and each peer that asks counts as a
/// namespace of its own.
pub static METRICS: Room = Room::new(1);
/// Lookups of names. Their servers are chosen by whoever writes the names, and may not answer.
static LOOKUPS: Room = Room::new(LOOKUPS_AT_A_TIME);

/// How many pieces of work of one kind run at the same time, over all clusters: two of one namespace, and one of another.
const AT_A_TIME: usize = 3;
/// The same for lookups of names, which only wait.
const LOOKUPS_AT_A_TIME: usize = 64;

/// Longest input whose work is done on the async thread: to hand a short one to another thread takes longer. Of known hosts it is some
/// dozens of keys.
pub const SHORT: usize = 4 * 1024;

/// Work on behalf of a namespace. What it offloads, and what it reads from the API server, counts against that namespace's share. The empty
/// name stands for NICO itself.
pub fn of_namespace<F: Future>(namespace: &str, work: F) -> TaskLocalFuture<Arc<str>, F> {
    NAMESPACE.scope(namespace.into(), work)
}

/// The namespace on whose behalf the current task works; empty: NICO itself.
#[must_use]
pub fn namespace() -> Arc<str> {
    NAMESPACE.try_with(Arc::clone).unwrap_or_default()
}

/// The addresses of a host.
pub(super) async fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let host = host.to_owned();
    LOOKUPS
        .offload(move || Ok((host.as_str(), port).to_socket_addrs()?.collect()))
        .await
}

impl Room {
    const fn new(places: usize) -> Self {
        Self {
            gate: OnceLock::new(),
            places,
        }
    }

    /// Runs work on an input of this length: at once if that is short, else as [`Self::offload`] does.
    pub async fn run<T: Send + 'static>(
        &'static self,
        length: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        if length <= SHORT {
            work()
        } else {
            self.offload(work).await
        }
    }

    /// Runs the work on a thread of its own. The runtime's own threads for such work would all be taken while lookups of names hang. Work
    /// that has begun runs to its end even if its caller is dropped, and counts against the limit until then.
    pub async fn offload<T: Send + 'static>(
        &'static self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let namespace = namespace();
        let gate = self.gate.get_or_init(|| Gate::new(self.places, 0));
        let turn = gate.enter(&namespace, "", Class::Other).await;
        let (done, result) = oneshot::channel();
        let runtime = Handle::current();
        std::thread::spawn(move || {
            // Clients that it makes start tasks.
            let _entered = runtime.enter();
            let outcome = catch_unwind(AssertUnwindSafe(work));
            drop(turn);
            // Nobody may wait for it any more.
            let _ = done.send(outcome);
        });
        match result.await {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => resume_unwind(panic),
            // The thread sends an outcome, whatever the work does.
            Err(_) => pending().await,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    use futures::FutureExt as _;
    use futures::future::join_all;
    use tokio::time::timeout;

    use super::*;

    /// Enough for any machine.
    const LONG: Duration = Duration::from_secs(30);

    fn until_dropped(wait: Receiver<()>) -> impl FnOnce() + Send {
        move || {
            let _ = wait.recv();
        }
    }

    #[tokio::test]
    async fn work_of_one_namespace_holds_up_no_other() {
        static ROOM: Room = Room::new(AT_A_TIME);
        let (mut go_on, mut hostile) = (Vec::new(), Vec::new());
        for _ in 0..100 {
            let (hold, wait) = channel();
            go_on.push(hold);
            hostile.push(of_namespace("hostile", ROOM.offload(until_dropped(wait))));
        }
        let mut hostile = Box::pin(join_all(hostile));
        assert!(hostile.as_mut().now_or_never().is_none());
        for _ in 0..10 {
            let good = of_namespace("good", ROOM.offload(|| 1));
            assert_eq!(timeout(LONG, good).await, Ok(1));
        }
        drop(go_on);
        assert!(timeout(LONG, hostile).await.is_ok());
    }

    /// The runtime looks up names on threads of which it has a limited number, for as long as a name server takes.
    #[test]
    fn lookups_of_names_hold_up_no_work() {
        static ROOM: Room = Room::new(AT_A_TIME);
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime
            .enable_all()
            .max_blocking_threads(1)
            .build()
            .unwrap();
        let (hold, wait) = channel();
        runtime.spawn_blocking(until_dropped(wait));
        let work = async {
            let work = timeout(LONG, ROOM.offload(|| 1)).await;
            (work, timeout(LONG, look_up("localhost", 1)).await.is_ok())
        };
        assert_eq!(runtime.block_on(work), (Ok(1), true));
        drop(hold);
    }

    #[tokio::test]
    async fn work_on_a_short_input_takes_no_thread() {
        static ROOM: Room = Room::new(AT_A_TIME);
        let thread_for = |length| ROOM.run(length, || std::thread::current().id());
        let here = std::thread::current().id();
        assert_eq!(thread_for(SHORT).await, here);
        assert_ne!(thread_for(SHORT + 1).await, here);
    }

    #[tokio::test]
    async fn a_panic_reaches_the_caller_and_frees_the_place() {
        static ROOM: Room = Room::new(AT_A_TIME);
        for _ in 0..2 * AT_A_TIME {
            let work = AssertUnwindSafe(ROOM.offload(|| resume_unwind(Box::new(7))));
            let panic = timeout(LONG, work.catch_unwind()).await.unwrap();
            assert_eq!(panic.unwrap_err().downcast_ref(), Some(&7));
        }
    }
}
