//! The client of the API server. Every call has a timeout, from its first byte to the last byte of the response. The API server gets the
//! same timeout, so that a write does not land long after NICO stopped waiting. Responses are limited in depth and length, and only a few
//! long ones are held at the same time. With leader election, only the leader's writes are sent. A process that stops sends none.

pub mod depth;
mod long;

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http_body_util::{BodyExt as _, Full};
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request, Response, Uri};
use kube::client::{Body, ClientBuilder, DynBody};
use kube::{Client, Config};
use tokio::time::timeout;
use tower::{BoxError, Service, layer::layer_fn};

use super::leader::term::Term;
use super::metrics::Metrics;
use super::writes::Writes;
use depth::Depth;
use long::LongAnswers;
pub use long::{LONGEST_ANSWER, TooLong};

/// The response did not arrive in time.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {} s", .0.as_secs())]
pub struct NoAnswer(Duration);

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
    let long_answers = LongAnswers::default();
    let layer = layer_fn(move |inner| BoundedCalls {
        inner,
        longest,
        long_answers: long_answers.clone(),
        term: term.clone(),
        writes: writes.clone(),
        metrics: Arc::clone(&metrics),
    });
    Ok(ClientBuilder::try_from(config)?.with_layer(&layer).build())
}

struct BoundedCalls<S> {
    inner: S,
    longest: Duration,
    long_answers: LongAnswers,
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
        let long_answers = self.long_answers.clone();
        let whole = async move {
            let (head, body) = answer.await?.into_parts();
            let body: Box<DynBody> = if watches {
                let mut depth = Depth::default();
                Box::new(body.map_frame(move |frame| frame.map_data(|bytes| depth.cut(bytes))))
            } else {
                let bytes = long_answers.collect(body).await?;
                Box::new(Full::new(bytes).map_err(BoxError::from))
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

    use futures::FutureExt as _;
    use http_body_util::StreamBody;
    use hyper::body::{Bytes, Frame};
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
            long_answers: LongAnswers::default(),
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
                long_answers: LongAnswers::default(),
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
                long_answers: LongAnswers::default(),
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
            long_answers: LongAnswers::default(),
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
}
