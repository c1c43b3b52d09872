//! `/healthz` and `/readyz` for the kubelet, and `/metrics`. Anyone in the pod network can connect, so every connection is limited in size
//! and time.

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode, body::Bytes, header, server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    task::AbortHandle,
    time::{sleep, timeout},
};
use tracing::warn;

use crate::{
    controller::{
        metrics::{self, Metrics},
        readiness::Readiness,
    },
    remote::offload::{METRICS, of_namespace},
};

/// Limits on open connections: of all peers together, and of one peer. A new connection closes the oldest, so idle ones cannot lock out the
/// kubelet.
const MOST_CONNECTIONS: usize = 64;
const MOST_CONNECTIONS_OF_A_PEER: usize = 8;
/// Most bytes of a request's head. hyper accepts no smaller buffer.
const HEAD_BYTES: usize = 8 * 1024;
/// Most headers of a request.
const HEADERS: usize = 64;
/// Time for the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(2);
/// Time for a whole connection.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after a failed accept. The usual cause is that no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub(super) enum BindError {
    /// Another process listens on it.
    #[error("{0} is in use by another process; choose another address")]
    InUse(SocketAddr),
    /// Any other cause.
    #[error("cannot listen on {0}: {1}; choose another address")]
    Other(SocketAddr, #[source] io::Error),
}

/// A server that listens but does not serve yet.
#[derive(Debug)]
pub(super) struct HttpServer {
    listener: TcpListener,
    address: SocketAddr,
}

impl HttpServer {
    /// Listens on `address`; port 0 chooses a free port.
    pub(super) async fn bind(address: SocketAddr) -> Result<Self, BindError> {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|error| match error.kind() {
                io::ErrorKind::AddrInUse => BindError::InUse(address),
                _ => BindError::Other(address, error),
            })?;
        let address = listener
            .local_addr()
            .map_err(|error| BindError::Other(address, error))?;
        Ok(Self { listener, address })
    }

    /// The address on which it listens.
    #[must_use]
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the future is dropped.
    pub(super) async fn serve(self, health: Arc<Readiness>, metrics: Arc<Metrics>) {
        let mut open = Connections::default();
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    let served = serve_one(stream, Arc::clone(&health), Arc::clone(&metrics));
                    let served = of_namespace(&peer.ip().to_string(), served);
                    // Errors of a connection concern only its peer.
                    let bounded = async { drop(timeout(CONNECTION_TIMEOUT, served).await) };
                    open.add(peer.ip(), tokio::spawn(bounded).abort_handle());
                }
                Err(error) => {
                    warn!(%error, "cannot accept a connection on --http-addr");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// The open connections, oldest first.
#[derive(Default)]
struct Connections(Vec<(IpAddr, AbortHandle)>);

impl Connections {
    fn add(&mut self, peer: IpAddr, connection: AbortHandle) {
        self.0.retain(|(_, open)| !open.is_finished());
        let of_peer = || self.0.iter().enumerate().filter(|(_, it)| it.0 == peer);
        let oldest_of_peer = of_peer().next().map(|(oldest, _)| oldest);
        let over = match oldest_of_peer {
            Some(oldest) if of_peer().count() >= MOST_CONNECTIONS_OF_A_PEER => Some(oldest),
            _ => (self.0.len() >= MOST_CONNECTIONS).then_some(0),
        };
        if let Some(over) = over {
            self.0.remove(over).1.abort();
        }
        self.0.push((peer, connection));
    }
}

async fn serve_one(stream: TcpStream, health: Arc<Readiness>, metrics: Arc<Metrics>) {
    let service = service_fn(|request| {
        let (health, metrics) = (Arc::clone(&health), Arc::clone(&metrics));
        async move { Ok::<_, Infallible>(answer(&request, &health, metrics).await) }
    });
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer<B>(
    request: &Request<B>,
    health: &Readiness,
    metrics: Arc<Metrics>,
) -> Response<Full<Bytes>> {
    let known = matches!(request.uri().path(), "/healthz" | "/readyz" | "/metrics");
    if known && !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "use GET\n".to_owned());
    }
    match request.uri().path() {
        "/healthz" => text(StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => {
            let missing = health.missing();
            if missing.is_empty() {
                text(StatusCode::OK, "ok\n".to_owned())
            } else {
                let message = format!("waiting for: {}\n", missing.join(", "));
                text(StatusCode::SERVICE_UNAVAILABLE, message)
            }
        }
        "/metrics" => {
            let rendered = METRICS.offload(move || metrics.render()).await;
            let mut response = text(StatusCode::OK, rendered);
            let open_metrics = header::HeaderValue::from_static(metrics::CONTENT_TYPE);
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, open_metrics);
            response
        }
        _ => text(
            StatusCode::NOT_FOUND,
            "try /healthz, /readyz or /metrics\n".to_owned(),
        ),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::controller::readiness::mark;

    async fn served(health: &Arc<Readiness>) -> SocketAddr {
        let server = HttpServer::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = server.address();
        tokio::spawn(server.serve(health.clone(), Metrics::new(None)));
        address
    }

    async fn exchange(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // The server may reset the connection after the response.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }

    async fn get(address: SocketAddr, path: &str) -> String {
        exchange(
            address,
            &format!("GET {path} HTTP/1.1\r\nHost: nico\r\n\r\n"),
        )
        .await
    }

    #[tokio::test]
    async fn ready_once_every_mark_is_set_and_alive_all_along() {
        let health = Arc::new(Readiness::default());
        let address = served(&health).await;
        assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200 "));
        for name in mark::ALL {
            let answer = get(address, "/readyz").await;
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
            assert!(answer.contains(name), "{answer}");
            health.set(name, true);
        }
        assert!(
            get(address, "/readyz?verbose")
                .await
                .starts_with("HTTP/1.1 200 ")
        );
        health.set(mark::MACHINES, false);
        let answer = get(address, "/readyz").await;
        assert!(answer.ends_with("waiting for: machines\n"), "{answer}");
        assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200 "));
    }

    #[tokio::test]
    async fn all_else_is_refused() {
        let address = served(&Arc::new(Readiness::default())).await;
        assert!(get(address, "/").await.starts_with("HTTP/1.1 404 "));
        assert!(get(address, "/healthz/").await.starts_with("HTTP/1.1 404 "));
        let post = "POST /healthz HTTP/1.1\r\nHost: nico\r\nContent-Length: 0\r\n\r\n";
        assert!(exchange(address, post).await.starts_with("HTTP/1.1 405 "));
        let long = get(address, &"/".repeat(2 * HEAD_BYTES)).await;
        assert!(long.starts_with("HTTP/1.1 4"), "{long}");
        assert!(!exchange(address, "\0\0\r\n\r\n").await.contains("200"));
        assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200 "));
    }

    /// Rendering takes the longer the more clusters there are.
    #[tokio::test]
    async fn metrics_are_rendered_once_at_a_time_beside_all_else() {
        let address = served(&Arc::new(Readiness::default())).await;
        let (begin, begun) = tokio::sync::oneshot::channel();
        let (hold, wait) = std::sync::mpsc::channel::<()>();
        let rendering = tokio::spawn(METRICS.offload(move || {
            begin.send(()).unwrap();
            wait.recv().unwrap();
        }));
        begun.await.unwrap();
        let asked = tokio::spawn(async move { get(address, "/metrics").await });
        for _ in 0..10 {
            assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200 "));
        }
        assert!(!asked.is_finished());
        hold.send(()).unwrap();
        rendering.await.unwrap();
        assert!(asked.await.unwrap().starts_with("HTTP/1.1 200 "));
    }

    #[tokio::test]
    async fn metrics_are_served_as_openmetrics() {
        let address = served(&Arc::new(Readiness::default())).await;
        let answer = get(address, "/metrics").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.contains(metrics::CONTENT_TYPE), "{answer}");
        assert!(answer.ends_with("# EOF\n"), "{answer}");
    }

    #[tokio::test]
    async fn idle_connections_keep_nobody_out() {
        let address = served(&Arc::new(Readiness::default())).await;
        let mut idle = Vec::new();
        for _ in 0..3 * MOST_CONNECTIONS {
            idle.push(TcpStream::connect(address).await.unwrap());
        }
        assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200 "));
        // The oldest connection was closed.
        let mut byte = [0];
        assert!(matches!(idle[0].read(&mut byte).await, Ok(0) | Err(_)));
    }

    /// The limits hold for all peers together and for each peer.
    #[tokio::test]
    async fn connections_are_bounded_in_all_and_a_peer() {
        let idle = || tokio::spawn(std::future::pending::<()>()).abort_handle();
        let mut open = Connections::default();
        let peer = |i: usize| IpAddr::from([10, 0, u8::try_from(i).unwrap(), 1]);
        for _ in 0..3 * MOST_CONNECTIONS_OF_A_PEER {
            open.add(peer(0), idle());
        }
        assert_eq!(open.0.len(), MOST_CONNECTIONS_OF_A_PEER);
        for i in 1..=2 * MOST_CONNECTIONS {
            open.add(peer(i), idle());
        }
        assert_eq!(open.0.len(), MOST_CONNECTIONS);
        assert_eq!(open.0[0].0, peer(MOST_CONNECTIONS + 1));
    }

    #[tokio::test]
    async fn an_address_in_use_is_named() {
        let first = HttpServer::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let error = HttpServer::bind(first.address()).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "{} is in use by another process; choose another address",
                first.address()
            )
        );
    }
}
