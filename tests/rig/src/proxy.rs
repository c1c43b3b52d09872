//! A proxy that injects faults between a client and an API server: plain HTTP on loopback on one side, TLS on the other, with the client's
//! own token passed on. It numbers writes, keeps a log for checks, and applies the faults that a test sets to calls and watches.

#![allow(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "the rig stops with a sentence where it cannot go on"
)]

mod call;
mod fault;
mod stream;
mod strike;

pub use call::Call;
pub use fault::{Effect, Fault, Gate, Matches, Moment};

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use futures::FutureExt;
use futures::future::BoxFuture;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Incoming};
use hyper::header::HOST;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kube::client::ConfigExt;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::stream::Rules;
use self::strike::strike;
use crate::runtime;

type Body = BoxBody<Bytes, Infallible>;
type Forward = Arc<
    dyn Fn(Request<Full<Bytes>>) -> BoxFuture<'static, io::Result<Response<Incoming>>>
        + Send
        + Sync,
>;

/// A running proxy, which ends when this is dropped.
pub struct Proxy {
    shared: Arc<Shared>,
    url: String,
    task: JoinHandle<()>,
}

struct Shared {
    forward: Forward,
    upstream: String,
    started: Instant,
    state: Mutex<State>,
    rules: watch::Sender<Rules>,
    stop: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    requests: u64,
    /// Bytes of responses, without those to watches.
    bytes: usize,
    writes: usize,
    log: Vec<Call>,
    forbidden: Vec<Call>,
    missed: Vec<Call>,
    used: BTreeSet<[String; 4]>,
    faults: Vec<Fault>,
    starting: bool,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.send_replace(true);
        self.task.abort();
    }
}

impl Proxy {
    /// Starts a proxy in front of the API server of `config`. The credentials of `config` are not used: clients send their own.
    pub async fn start(config: &kube::Config) -> Self {
        let mut anonymous = kube::Config::new(config.cluster_url.clone());
        anonymous.root_cert.clone_from(&config.root_cert);
        let started = runtime().spawn(async move {
            let connector = anonymous
                .rustls_https_connector()
                .expect("the authority is a certificate");
            let client = Client::builder(TokioExecutor::new()).build(connector);
            let forward: Forward = Arc::new(move |request| {
                client
                    .request(request)
                    .map(|answer| answer.map_err(io::Error::other))
                    .boxed()
            });
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
                .await
                .expect("a port is free");
            let url = format!(
                "http://{}",
                listener
                    .local_addr()
                    .expect("a bound socket has an address")
            );
            let shared = Arc::new(Shared {
                forward,
                upstream: anonymous
                    .cluster_url
                    .to_string()
                    .trim_end_matches('/')
                    .to_owned(),
                started: Instant::now(),
                state: Mutex::default(),
                rules: watch::Sender::new(Rules::default()),
                stop: watch::Sender::new(false),
            });
            let task = tokio::spawn(serve(Arc::clone(&shared), listener));
            Self { shared, url, task }
        });
        started.await.expect("the proxy's start does not panic")
    }

    /// Its URL, `http://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// When it was started, from which the times of its calls count.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.shared.started
    }

    /// How many requests arrived, of all kinds.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.shared.state().requests
    }

    /// How many bytes of responses were sent, without watches.
    #[must_use]
    pub fn answered_bytes(&self) -> usize {
        self.shared.state().bytes
    }

    /// The writes in the order in which they arrived, including those that a fault kept from the API server.
    #[must_use]
    pub fn writes(&self) -> Vec<Call> {
        self.shared.state().log.clone()
    }

    /// The writes as lines, for a failure's message.
    #[must_use]
    pub fn write_lines(&self) -> String {
        self.writes()
            .iter()
            .map(|call| call.line() + "\n")
            .collect()
    }

    /// Calls that the API server answered with 403.
    #[must_use]
    pub fn forbidden(&self) -> Vec<Call> {
        self.shared.state().forbidden.clone()
    }

    /// Calls that the API server answered with 404.
    #[must_use]
    pub fn missed(&self) -> Vec<Call> {
        self.shared.state().missed.clone()
    }

    /// What was requested, as verb, group, resource and the name in the path, to find superfluous rules.
    #[must_use]
    pub fn used(&self) -> BTreeSet<[String; 4]> {
        self.shared.state().used.clone()
    }

    /// Adds a fault. The first one that matches a call applies.
    pub fn fault(&self, fault: Fault) {
        self.shared.state().faults.push(fault);
    }

    /// Sets whether the API server is away or starting. While starting it refuses everyone for a moment, which does not count as a request
    /// beyond the rights (I12).
    pub fn server_starts(&self, starting: bool) {
        self.shared.state().starting = starting;
    }

    /// Removes all faults. Calls that hang continue to hang.
    pub fn clear_faults(&self) {
        self.shared.state().faults.clear();
    }

    /// Sets whether the events of all watches of a resource are held back, so that caches become stale while writes go through.
    pub fn hold(&self, resource: &str, hold: bool) {
        self.shared.rules.send_modify(|rules| {
            rules.held.retain(|held| held != resource);
            if hold {
                rules.held.push(resource.to_owned());
            }
        });
    }

    /// Ends every watch of a resource with 410.
    pub fn expire(&self, resource: &str) {
        self.shared
            .rules
            .send_modify(|rules| *rules.ended.entry(resource.to_owned()).or_default() += 1);
    }

    /// Drops every event of a resource's watches for which `lost` returns true, until [`Proxy::lose_nothing`].
    pub fn lose(&self, resource: &str, lost: impl Fn(&Value) -> bool + Send + Sync + 'static) {
        let rule = (resource.to_owned(), Arc::new(lost) as stream::Drops);
        self.shared
            .rules
            .send_modify(|rules| rules.drops.push(rule));
    }

    /// Drops no more events.
    pub fn lose_nothing(&self) {
        self.shared.rules.send_modify(|rules| rules.drops.clear());
    }
}

async fn serve(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        tokio::spawn(connection(Arc::clone(&shared), stream));
    }
}

async fn connection(shared: Arc<Shared>, stream: TcpStream) {
    let mut stop = shared.stop.subscribe();
    let service = service_fn(move |request| Arc::clone(&shared).handle(request));
    let serving =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        _ = serving => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn handle(self: Arc<Self>, request: Request<Incoming>) -> io::Result<Response<Body>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let path = head.uri.path();
        let mut call = Call::parse(
            head.method.as_str(),
            path,
            head.uri.query().unwrap_or_default(),
        );
        call.at = self.started.elapsed();
        call.body = serde_json::from_slice(&body).ok();
        let fault = self.enter(&mut call);
        if let Some(fault) = fault
            .as_ref()
            .filter(|fault| fault.moment == Moment::Before)
        {
            return strike(&fault.effect, None).await;
        }
        let rest = head.uri.path_and_query().map_or("/", |rest| rest.as_str());
        let mut request = Request::builder()
            .method(head.method.clone())
            .uri(format!("{}{rest}", self.upstream));
        for (name, value) in &head.headers {
            if name != HOST {
                request = request.header(name, value);
            }
        }
        let request = request.body(Full::new(body)).map_err(io::Error::other)?;
        let answer = (self.forward)(request).await?;
        self.answered(&call, answer.status());
        let (head, body) = answer.into_parts();
        if call.is_watch() && head.status.is_success() && fault.is_none() {
            let events = stream::events(body, call.resource, self.rules.subscribe());
            return Ok(Response::from_parts(
                head,
                BodyExt::boxed(StreamBody::new(events)),
            ));
        }
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        self.state().bytes += body.len();
        self.note_confirmed(&call, &body);
        if let Some(fault) = fault {
            return strike(&fault.effect, Some(&body)).await;
        }
        Ok(Response::from_parts(head, BodyExt::boxed(Full::new(body))))
    }

    /// Counts and logs a call; returns the fault that applies to it.
    fn enter(&self, call: &mut Call) -> Option<Fault> {
        let mut state = self.state();
        state.requests += 1;
        if call.is_write() {
            state.writes += 1;
            call.n = state.writes;
        }
        let fault = state
            .faults
            .iter_mut()
            .find(|fault| fault.left != Some(0) && (fault.matches)(call))
            .map(|fault| {
                fault.left = fault.left.map(|left| left - 1);
                fault.clone()
            });
        call.faulted = fault.is_some() || state.starting;
        if !call.resource.is_empty() {
            let (verb, group, name) = (&call.verb, &call.group, &call.name);
            let (verb, group, name) = (verb.clone(), group.clone(), name.clone());
            state.used.insert([verb, group, call.rule_resource(), name]);
        }
        if call.n > 0 {
            state.log.push(call.clone());
        }
        fault
    }

    /// Notes what the response to a write shows of a configuration.
    fn note_confirmed(&self, call: &Call, body: &Bytes) {
        if call.n == 0 || call.resource != "nixosconfigurations" {
            return;
        }
        let answer: Value = serde_json::from_slice(body).unwrap_or_default();
        let confirmed = answer["metadata"]["annotations"]["nico.homystack.com/confirmed"].as_str();
        let mut state = self.state();
        if let Some(logged) = state.log.iter_mut().find(|logged| logged.n == call.n) {
            logged.confirmed = confirmed.map(str::to_owned);
        }
    }

    fn answered(&self, call: &Call, status: StatusCode) {
        let mut state = self.state();
        let code = Some(status.as_u16());
        let kept = match status {
            StatusCode::FORBIDDEN => Some(&mut state.forbidden),
            StatusCode::NOT_FOUND => Some(&mut state.missed),
            _ => None,
        };
        if let Some(kept) = kept {
            let mut call = call.clone();
            call.code = code;
            kept.push(call);
        }
        let mut log = state.log.iter_mut();
        if let Some(logged) = log.find(|logged| call.n > 0 && logged.n == call.n) {
            logged.code = code;
        }
    }
}
