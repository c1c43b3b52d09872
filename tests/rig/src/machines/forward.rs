//! A machine's API port: a plain forwarder to the workload API server.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::knobs::State;

/// Forwards every connection, but while the port is switched off, when it is closed and open connections are cut.
pub(super) async fn serve(
    state: Arc<watch::Sender<State>>,
    listener: TcpListener,
    target: SocketAddr,
) {
    let Ok(address) = listener.local_addr() else {
        return;
    };
    let mut listener = Some(listener);
    let mut watcher = state.subscribe();
    loop {
        let open = match listener.take() {
            Some(open) => open,
            None => match TcpListener::bind(address).await {
                Ok(open) => open,
                Err(_) => return,
            },
        };
        loop {
            tokio::select! {
                accepted = open.accept() => {
                    let Ok((stream, _)) = accepted else { continue };
                    tokio::spawn(forward(stream, target, state.subscribe()));
                }
                _ = watcher.wait_for(|state| state.api_off) => break,
            }
        }
        drop(open);
        if watcher.wait_for(|state| !state.api_off).await.is_err() {
            return;
        }
    }
}

async fn forward(mut stream: TcpStream, target: SocketAddr, mut watcher: watch::Receiver<State>) {
    let Ok(mut upstream) = TcpStream::connect(target).await else {
        return;
    };
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut stream, &mut upstream) => {}
        _ = watcher.wait_for(|state| state.api_off || state.gone) => {}
    }
}
