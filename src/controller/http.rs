//! `/healthz` and `/readyz` for the kubelet (SPEC 7). Anyone in the pod network can ask, so every connection is bounded in size and time.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
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
    sync::Semaphore,
    time::{sleep, timeout},
};
use tracing::warn;

/// What `/readyz` waits for.
pub mod mark {
    /// The API server answered.
    pub const API_SERVER: &str = "api-server";
    /// The CustomResourceDefinitions of NICO and NIO are served.
    pub const CRDS: &str = "crds";
    /// The first list of KubernetesClusters is in its store.
    pub const CLUSTERS: &str = "kubernetesclusters";
    /// The first list of Machines is in its store.
    pub const MACHINES: &str = "machines";
    /// The first list of NixosConfigurations is in its store.
    pub const CONFIGURATIONS: &str = "nixosconfigurations";

    /// All of them.
    pub const ALL: [&str; 5] = [API_SERVER, CRDS, CLUSTERS, MACHINES, CONFIGURATIONS];
}

/// Connections served at a time; more wait in the listener's queue.
const CONNECTIONS: usize = 32;
/// Bytes of a request's head, and hyper's smallest buffer.
const HEAD_BYTES: usize = 8 * 1024;
/// Headers of a request.
const HEADERS: usize = 64;
/// Time for the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for a whole connection.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a failed accept, which mostly means no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How far the program is: a set of named marks, ready once each of them is set.
#[derive(Debug)]
pub struct Health {
    marks: Mutex<BTreeMap<&'static str, bool>>,
}

impl Default for Health {
    /// Every mark of [`mark::ALL`] is missing.
    fn default() -> Self {
        Self {
            marks: Mutex::new(mark::ALL.map(|name| (name, false)).into()),
        }
    }
}

impl Health {
    /// Sets a mark, or takes it away. One that is not of [`mark::ALL`] counts from then on.
    pub fn set(&self, name: &'static str, ready: bool) {
        self.marks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name, ready);
    }

    /// The marks that are still missing, by name; none: ready.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        let marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = marks.iter().filter(|(_, ready)| !**ready);
        missing.map(|(name, _)| *name).collect()
    }
}

/// The address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process has it.
    #[error("{0} is in use by another process; choose another address")]
    InUse(SocketAddr),
    /// Any other cause.
    #[error("cannot listen on {0}: {1}; choose another address")]
    Other(SocketAddr, #[source] io::Error),
}

/// A server that listens and does not serve yet.
#[derive(Debug)]
pub struct HttpServer {
    listener: TcpListener,
    address: SocketAddr,
}

impl HttpServer {
    /// Listens on `address`; port 0 takes a free one.
    pub async fn bind(address: SocketAddr) -> Result<Self, BindError> {
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

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until the task is dropped.
    pub async fn serve(self, health: Arc<Health>) {
        let free = Arc::new(Semaphore::new(CONNECTIONS));
        // The semaphore is never closed.
        while let Ok(permit) = free.clone().acquire_owned().await {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let health = health.clone();
                    tokio::spawn(async move {
                        // A peer that hangs or breaks off is its own loss.
                        let _ = timeout(CONNECTION_TIMEOUT, serve_one(stream, health)).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    warn!(%error, "cannot accept a connection on --http-addr");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn serve_one(stream: TcpStream, health: Arc<Health>) {
    let service = service_fn(|request| {
        let response = answer(&request, &health);
        async { Ok::<_, Infallible>(response) }
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

fn answer<B>(request: &Request<B>, health: &Health) -> Response<Full<Bytes>> {
    let known = matches!(request.uri().path(), "/healthz" | "/readyz");
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
        _ => text(
            StatusCode::NOT_FOUND,
            "try /healthz or /readyz\n".to_owned(),
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

    async fn served(health: &Arc<Health>) -> SocketAddr {
        let server = HttpServer::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = server.address();
        tokio::spawn(server.serve(health.clone()));
        address
    }

    async fn exchange(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A reset after the answer is as good as its end.
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
        let health = Arc::new(Health::default());
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
        let address = served(&Arc::new(Health::default())).await;
        assert!(get(address, "/").await.starts_with("HTTP/1.1 404 "));
        assert!(get(address, "/healthz/").await.starts_with("HTTP/1.1 404 "));
        let post = "POST /healthz HTTP/1.1\r\nHost: nico\r\nContent-Length: 0\r\n\r\n";
        assert!(exchange(address, post).await.starts_with("HTTP/1.1 405 "));
        let long = get(address, &"/".repeat(2 * HEAD_BYTES)).await;
        assert!(long.starts_with("HTTP/1.1 4"), "{long}");
        assert!(!exchange(address, "\0\0\r\n\r\n").await.contains("200"));
        assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200 "));
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
