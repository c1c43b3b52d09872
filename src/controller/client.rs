//! The client of the API server. Every call has a timeout, from its first byte to the last byte of the response. The API server gets the
//! same timeout, so that a write does not land long after NICO stopped waiting. Responses are limited in depth and length, and only a few
//! long ones are held at the same time. With leader election, only the leader's writes are sent. A process that stops sends none.

pub mod depth;

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request, Response, Uri};
use kube::client::{Body, ClientBuilder, DynBody};
use kube::{Client, Config};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tower::{BoxError, Service, layer::layer_fn};

use super::leader::term::Term;
use super::metrics::Metrics;
use super::writes::Writes;
use depth::Depth;

/// The response did not arrive in time.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {} s", .0.as_secs())]
pub struct NoAnswer(Duration);

/// Most bytes of a response that is not a watch. etcd stores objects of up to 1.5 MB, and a byte takes at most six in JSON.
pub const LONGEST_ANSWER: usize = 10 * 1024 * 1024;
/// Most bytes of a short response, which does not wait for others. Objects of NICO and NIO are shorter, a page of them is often longer.
const SHORT_ANSWER: usize = 256 * 1024;
/// How many longer responses are held at the same time until they are decoded. Their total length is at most this many times
/// [`LONGEST_ANSWER`].
const LONG_ANSWERS: usize = 4;

/// The response is longer than [`LONGEST_ANSWER`].
#[derive(Debug, thiserror::Error)]
#[error("the answer is longer than {LONGEST_ANSWER} bytes")]
pub struct TooLong;

/// A write was not sent, since this process does not lead, or is no longer sure that it does.
#[derive(Debug, thiserror::Error)]
#[error("not sent: this process does not lead")]
pub struct NotLeading;

/// A write was not sent, since this process is stopping.
#[derive(Debug, thiserror::Error)]
#[error("not sent: this process is stopping")]
pub struct Stopping;

/// A client whose calls take at most `longest` each. A watch has to begin in that time, and may last longer. With a `term`, nothing is
/// written outside of it. Each write is noted in `writes` until it has ended.
pub fn bounded(
    config: Config,
    longest: Duration,
    term: Option<Term>,
    writes: Writes,
    metrics: Arc<Metrics>,
) -> kube::Result<Client> {
    let long_answers = Arc::new(Semaphore::new(LONG_ANSWERS));
    let layer = layer_fn(move |inner| BoundedCalls {
        inner,
        longest,
        long_answers: Arc::clone(&long_answers),
        term: term.clone(),
        writes: writes.clone(),
        metrics: Arc::clone(&metrics),
    });
    Ok(ClientBuilder::try_from(config)?.with_layer(&layer).build())
}

struct BoundedCalls<S> {
    inner: S,
    longest: Duration,
    /// Permits for long responses.
    long_answers: Arc<Semaphore>,
    /// When writes may be sent; `None`: always.
    term: Option<Term>,
    writes: Writes,
    metrics: Arc<Metrics>,
}

impl<S> Service<Request<Body>> for BoundedCalls<S>
where
    S: Service<Request<Body>, Response = Response<Box<DynBody>>, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<S::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        let metrics = Arc::clone(&self.metrics);
        let method = request.method().clone();
        if !reads && self.term.as_ref().is_some_and(|term| !term.may_write()) {
            metrics.requested(&method, None);
            return Box::pin(std::future::ready(Err(NotLeading.into())));
        }
        let write = if reads { None } else { self.writes.begin() };
        if !reads && write.is_none() {
            metrics.requested(&method, None);
            return Box::pin(std::future::ready(Err(Stopping.into())));
        }
        let query = request.uri().query().unwrap_or_default();
        let watches = query.split('&').any(|part| part == "watch=true");
        let request = if watches {
            request
        } else {
            within(request, self.longest)
        };
        let answer = self.inner.call(request);
        let long_answers = Arc::clone(&self.long_answers);
        let whole = async move {
            let (head, body) = answer.await?.into_parts();
            let mut depth = Depth::default();
            let body: Box<DynBody> = if watches {
                Box::new(body.map_frame(move |frame| frame.map_data(|bytes| depth.cut(bytes))))
            } else {
                let (bytes, room) = collect(body, long_answers).await?;
                let held = Full::new(depth.cut(bytes)).map_frame(move |frame| {
                    let _until_decoded = &room;
                    frame
                });
                Box::new(held.map_err(BoxError::from))
            };
            Ok(Response::from_parts(head, body))
        };
        let longest = self.longest;
        Box::pin(async move {
            let late = |_| Err(NoAnswer(longest).into());
            let answer = timeout(longest, whole).await.unwrap_or_else(late);
            drop(write);
            metrics.requested(&method, answer.as_ref().ok().map(Response::status));
            answer
        })
    }
}

/// The bytes of a response, and its permit if it is long. A response that waits for a permit is not read further.
async fn collect(
    mut body: Box<DynBody>,
    long_answers: Arc<Semaphore>,
) -> Result<(Bytes, Option<OwnedSemaphorePermit>), BoxError> {
    let (mut bytes, mut room) = (Vec::new(), None);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        let length = bytes.len().saturating_add(data.len());
        if length > LONGEST_ANSWER {
            return Err(TooLong.into());
        }
        if length > SHORT_ANSWER && room.is_none() {
            room = Some(Arc::clone(&long_answers).acquire_owned().await?);
        }
        bytes.extend_from_slice(&data);
    }
    Ok((bytes.into(), room))
}

/// Adds the API server's own parameter `timeout` to a request.
fn within(mut request: Request<Body>, longest: Duration) -> Request<Body> {
    let mut parts = request.uri().clone().into_parts();
    if let Some(whole) = &parts.path_and_query {
        let sign = if whole.query().is_some() { '&' } else { '?' };
        let whole = format!("{whole}{sign}timeout={}ms", longest.as_millis());
        parts.path_and_query = PathAndQuery::try_from(whole).ok();
    }
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    request
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::convert::Infallible;

    use futures::{FutureExt as _, StreamExt as _};
    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use tower::{ServiceExt as _, service_fn};

    use super::*;

    /// The outcome of a call whose response begins after `head` and never ends.
    async fn call(uri: &str, head: Duration) -> Result<(), BoxError> {
        let answer = move |_| async move {
            tokio::time::sleep(head).await;
            let first = Ok::<_, Infallible>(Frame::data(Bytes::from("{")));
            let frames = futures::StreamExt::chain(
                futures::stream::iter([first]),
                futures::stream::pending(),
            );
            let body: Box<DynBody> = Box::new(StreamBody::new(frames).map_err(BoxError::from));
            Ok::<_, BoxError>(Response::new(body))
        };
        let service = BoundedCalls {
            inner: service_fn(answer),
            longest: Duration::from_millis(50),
            long_answers: Arc::new(Semaphore::new(1)),
            term: None,
            writes: Writes::default(),
            metrics: Metrics::new(None),
        };
        let request = Request::get(uri).body(Body::empty()).unwrap();
        service.oneshot(request).await.map(drop)
    }

    #[tokio::test]
    async fn a_call_ends_in_time_and_a_watch_that_has_begun_lasts() {
        let (soon, late) = (Duration::ZERO, Duration::from_secs(60));
        assert!(call("/api?watch=true", soon).await.is_ok());
        for (uri, head) in [
            ("/api?watch=true", late),
            ("/api", late),
            ("/api", soon),
            ("/api?name=watch", soon),
        ] {
            let error = call(uri, head).await.unwrap_err();
            assert!(error.is::<NoAnswer>(), "{uri}: {error}");
        }
    }

    #[tokio::test]
    async fn the_api_server_is_told_how_long_to_try_but_for_watches() {
        for (uri, expected) in [
            ("/api/v1/pods", "/api/v1/pods?timeout=1500ms"),
            (
                "/api/v1/pods?&limit=5",
                "/api/v1/pods?&limit=5&timeout=1500ms",
            ),
            ("/api/v1/pods?watch=true", "/api/v1/pods?watch=true"),
        ] {
            let service = BoundedCalls {
                inner: service_fn(move |request: Request<Body>| async move {
                    assert_eq!(request.uri(), expected);
                    let empty = Full::new(Bytes::new());
                    let body: Box<DynBody> = Box::new(empty.map_err(BoxError::from));
                    Ok::<_, BoxError>(Response::new(body))
                }),
                longest: Duration::from_millis(1500),
                long_answers: Arc::new(Semaphore::new(1)),
                term: None,
                writes: Writes::default(),
                metrics: Metrics::new(None),
            };
            let request = Request::get(uri).body(Body::empty()).unwrap();
            assert!(service.oneshot(request).await.is_ok());
        }
    }

    #[tokio::test]
    async fn outside_of_its_term_a_process_reads_and_does_not_write() {
        for (method, is_sent) in [
            (Method::GET, true),
            (Method::POST, false),
            (Method::PUT, false),
            (Method::PATCH, false),
            (Method::DELETE, false),
        ] {
            let service = BoundedCalls {
                inner: service_fn(|_| async {
                    let empty: Box<DynBody> =
                        Box::new(Full::new(Bytes::new()).map_err(BoxError::from));
                    Ok::<_, BoxError>(Response::new(empty))
                }),
                longest: Duration::from_secs(60),
                long_answers: Arc::new(Semaphore::new(1)),
                term: Some(Term::default()),
                writes: Writes::default(),
                metrics: Metrics::new(None),
            };
            let request = Request::builder().method(&method).uri("/api");
            let answer = service.oneshot(request.body(Body::empty()).unwrap()).await;
            assert_eq!(answer.is_ok(), is_sent, "{method}");
        }
    }

    #[tokio::test]
    async fn a_process_that_stops_ends_what_it_writes_and_sends_no_other_write() {
        let writes = Writes::default();
        let (answer, answered) = tokio::sync::oneshot::channel::<()>();
        let mut answered = Some(answered);
        let inner = service_fn(move |_| {
            let answered = answered.take();
            async move {
                if let Some(answered) = answered {
                    answered.await?;
                }
                let empty: Box<DynBody> = Box::new(Full::new(Bytes::new()).map_err(BoxError::from));
                Ok::<_, BoxError>(Response::new(empty))
            }
        });
        let mut service = BoundedCalls {
            inner,
            longest: Duration::from_secs(60),
            long_answers: Arc::new(Semaphore::new(1)),
            term: None,
            writes: writes.clone(),
            metrics: Metrics::new(None),
        };
        let mut call = |method: Method| {
            let request = Request::builder().method(method).uri("/api");
            service.call(request.body(Body::empty()).unwrap())
        };
        let mut write = call(Method::POST);
        assert!(write.as_mut().now_or_never().is_none());
        let mut closed = Box::pin(writes.close());
        assert!(closed.as_mut().now_or_never().is_none());
        let late = call(Method::PATCH).await.map(drop).unwrap_err();
        assert!(late.is::<Stopping>(), "{late}");
        assert!(call(Method::GET).await.is_ok());
        answer.send(()).unwrap();
        assert!(write.await.is_ok());
        assert!(closed.now_or_never().is_some());
    }

    /// A response of this many frames of 64 KiB, and a count of those that were read.
    fn long(frames: usize) -> (Box<DynBody>, Arc<std::sync::atomic::AtomicUsize>) {
        let taken = Arc::<std::sync::atomic::AtomicUsize>::default();
        let count = Arc::clone(&taken);
        let frames = futures::stream::iter(0..frames).map(move |_| {
            count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            Ok::<_, Infallible>(Frame::data(Bytes::from(vec![b' '; 64 * 1024])))
        });
        (
            Box::new(StreamBody::new(frames).map_err(BoxError::from)),
            taken,
        )
    }

    #[tokio::test]
    async fn what_is_longer_than_any_object_is_not_read_to_its_end() {
        let room = || Arc::new(Semaphore::new(1));
        let most = LONGEST_ANSWER / (64 * 1024);
        let (bytes, _) = collect(long(most).0, room()).await.unwrap();
        assert_eq!(bytes.len(), LONGEST_ANSWER);
        let (body, taken) = long(100 * most);
        let error = collect(body, room()).await.unwrap_err();
        assert!(error.is::<TooLong>(), "{error}");
        let taken = taken.load(std::sync::atomic::Ordering::SeqCst);
        assert_eq!(taken, most + 1);
    }

    /// One namespace may cause 192 Secrets of 1.5 MB each to be read at the same time.
    #[tokio::test]
    async fn few_long_answers_are_held_until_they_are_decoded() {
        let service = || BoundedCalls {
            inner: service_fn(|request: Request<Body>| async move {
                let is_long = request.uri().path() == "/long";
                Ok::<_, BoxError>(Response::new(long(if is_long { 16 } else { 4 }).0))
            }),
            longest: Duration::from_millis(50),
            long_answers: Arc::new(Semaphore::new(LONG_ANSWERS)),
            term: None,
            writes: Writes::default(),
            metrics: Metrics::new(None),
        };
        let mut service = service();
        let mut ask = |path| service.call(Request::get(path).body(Body::empty()).unwrap());
        let mut held = Vec::new();
        for _ in 0..LONG_ANSWERS {
            held.push(ask("/long").await.unwrap());
        }
        let late = ask("/long").await.map(drop).unwrap_err();
        assert!(late.is::<NoAnswer>(), "{late}");
        assert!(ask("/short").await.is_ok());
        let decoded = held.pop().unwrap().into_body().collect().await.unwrap();
        assert_eq!(decoded.to_bytes().len(), 1024 * 1024);
        assert!(ask("/long").await.is_ok());
    }
}
