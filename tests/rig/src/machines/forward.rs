//! A machine's API port: a TCP forwarder to the workload API server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::knobs::State;

/// Pause before binding a port again that is in use.
const RETRY: Duration = Duration::from_millis(25);

/// Forwards every connection while the machine runs a control plane and the port is not switched off. Otherwise the port is closed, and
/// open connections are cut. New ones are held while the API hangs.
pub(super) async fn serve(
    state: Arc<watch::Sender<State>>,
    listener: TcpListener,
    target: SocketAddr,
) {
    let Ok(address) = listener.local_addr() else {
        return;
    };
    // The listener has shown that the port is free. It is closed until a control plane runs.
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
                    state.send_modify(|state| state.api_held += u64::from(state.api_hangs));
                    tokio::spawn(forward(stream, target, state.subscribe()));
                }
                _ = watcher.wait_for(|state| !state.serves_api()) => break,
            }
        }
    }
}

async fn forward(mut stream: TcpStream, target: SocketAddr, mut watcher: watch::Receiver<State>) {
    let answers = |state: &State| !state.api_hangs || !state.serves_api();
    if watcher.wait_for(answers).await.is_err() {
        return;
    }
    let Ok(mut upstream) = TcpStream::connect(target).await else {
        return;
    };
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut stream, &mut upstream) => {}
        _ = watcher.wait_for(|state| !state.serves_api()) => {}
    }
}
