//! A machine's API port: a plain forwarder to the workload API server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::knobs::State;

/// How long until a port that somebody else uses is tried again.
const RETRY: Duration = Duration::from_millis(25);

/// Forwards every connection while a control plane runs here and the port is not switched off; else the port is closed, and open
/// connections are cut.
pub(super) async fn serve(
    state: Arc<watch::Sender<State>>,
    listener: TcpListener,
    target: SocketAddr,
) {
    let Ok(address) = listener.local_addr() else {
        return;
    };
    // It has shown that the port can be had here; until a control plane runs, it is shut.
    drop(listener);
    let mut watcher = state.subscribe();
    loop {
        if watcher.wait_for(State::serves_api).await.is_err() {
            return;
        }
        let Ok(open) = TcpListener::bind(address).await else {
            tokio::time::sleep(RETRY).await;
            continue;
        };
        loop {
            tokio::select! {
                accepted = open.accept() => {
                    let Ok((stream, _)) = accepted else { continue };
                    tokio::spawn(forward(stream, target, state.subscribe()));
                }
                _ = watcher.wait_for(|state| !state.serves_api()) => break,
            }
        }
    }
}

async fn forward(mut stream: TcpStream, target: SocketAddr, mut watcher: watch::Receiver<State>) {
    let Ok(mut upstream) = TcpStream::connect(target).await else {
        return;
    };
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut stream, &mut upstream) => {}
        _ = watcher.wait_for(|state| !state.serves_api()) => {}
    }
}
