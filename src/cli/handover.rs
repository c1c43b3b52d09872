//! The end of the work after a signal, so that another process can take over at once.

use tokio::time::sleep;

use crate::controller::{schedule::HANDOVER_PATIENCE, writes::Writes};

/// Runs the work until it ends. Once it is to stop, it has a moment for that. Then what only waits is dropped, as if the process had been
/// killed, but after the last write has ended: nothing of this process may still be on its way when another one takes over.
pub(super) async fn until_handed_over<E>(
    work: impl Future<Output = Result<(), E>>,
    stopping: impl Future<Output = ()>,
    writes: &Writes,
) -> Result<(), E> {
    let patience = async {
        stopping.await;
        sleep(HANDOVER_PATIENCE).await;
        // Meanwhile the work goes on: its writes need that.
        writes.close().await;
    };
    let ended = tokio::select! {
        ended = work => ended,
        () = patience => Ok(()),
    };
    // Events are sent beside the passes.
    writes.close().await;
    ended
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::future::{pending, ready};
    use std::time::Instant;

    use tokio::sync::{mpsc, oneshot};

    use super::*;

    #[tokio::test]
    async fn what_only_waits_is_dropped_soon_after_the_signal() {
        let writes = Writes::default();
        let (signal, signalled) = oneshot::channel();
        let stopping = async { drop(signalled.await) };
        let work = async {
            signal.send(Instant::now()).unwrap();
            // For a machine, or for an API that hangs.
            pending::<Result<(), ()>>().await
        };
        assert_eq!(until_handed_over(work, stopping, &writes).await, Ok(()));
        assert!(writes.begin().is_none(), "it could land after the handover");
    }

    #[tokio::test]
    async fn a_write_in_hand_ends_before_the_handover_and_is_the_last() {
        let writes = Writes::default();
        let (ended, mut order) = mpsc::unbounded_channel();
        // One beside the passes, as events are sent, and one of a pass, which the work itself drives.
        let (event, of_event) = (writes.begin().unwrap(), ended.clone());
        let (next, begins) = oneshot::channel();
        tokio::spawn(async move {
            begins.await.unwrap();
            of_event.send("event").unwrap();
            drop(event);
        });
        let (others, of_pass) = (writes.clone(), ended.clone());
        let work = async move {
            let write = others.begin().unwrap();
            // Only its next write tells a pass that the process stops.
            let mut begun = 0;
            while others.begin().is_some() {
                begun += 1;
                assert!(begun < 1000, "writes begin for ever");
                sleep(HANDOVER_PATIENCE / 50).await;
            }
            of_pass.send("pass").unwrap();
            drop(write);
            next.send(()).unwrap();
            pending::<Result<(), ()>>().await
        };
        let handed_over = until_handed_over(work, ready(()), &writes).await;
        assert_eq!(handed_over, Ok(()));
        ended.send("handed over").unwrap();
        let order = [order.recv().await, order.recv().await, order.recv().await];
        assert_eq!(order, ["pass", "event", "handed over"].map(Some));
    }

    #[tokio::test]
    async fn work_that_ends_by_itself_leaves_no_write_behind() {
        let writes = Writes::default();
        let event = writes.begin().unwrap();
        let (ended, mut order) = mpsc::unbounded_channel();
        let of_event = ended.clone();
        tokio::spawn(async move {
            of_event.send("event").unwrap();
            drop(event);
        });
        let handed_over = until_handed_over(ready(Err(3)), pending(), &writes).await;
        assert_eq!(handed_over, Err(3));
        ended.send("handed over").unwrap();
        let order = [order.recv().await, order.recv().await];
        assert_eq!(order, ["event", "handed over"].map(Some));
    }
}
