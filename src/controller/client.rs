//! The client of the API server: every call is bounded as a whole, from its first byte to the last of its answer, and the API
//! server is told to give it up by then, too: a write that NICO no longer waits for must not land long after. Answers are bounded in
//! depth.

pub mod depth;

use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http_body_util::{BodyExt as _, Full};
use hyper::http::uri::PathAndQuery;
use hyper::{Request, Response, Uri};
use kube::client::{Body, ClientBuilder, DynBody};
use kube::{Client, Config};
use tokio::time::timeout;
use tower::{BoxError, Service, layer::layer_fn};

use depth::Depth;

/// An answer that did not come in time.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {} s", .0.as_secs())]
pub struct NoAnswer(Duration);

/// A client whose calls take at most `longest` each. A watch has to begin in that time; it may last.
pub fn bounded(config: Config, longest: Duration) -> kube::Result<Client> {
    let layer = layer_fn(|inner| BoundedCalls { inner, longest });
    Ok(ClientBuilder::try_from(config)?.with_layer(&layer).build())
}

struct BoundedCalls<S> {
    inner: S,
    longest: Duration,
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
        let query = request.uri().query().unwrap_or_default();
        let watches = query.split('&').any(|part| part == "watch=true");
        let request = if watches {
            request
        } else {
            within(request, self.longest)
        };
        let answer = self.inner.call(request);
        let whole = async move {
            let (head, body) = answer.await?.into_parts();
            let mut depth = Depth::default();
            let body: Box<DynBody> = if watches {
                Box::new(body.map_frame(move |frame| frame.map_data(|bytes| depth.cut(bytes))))
            } else {
                let whole = depth.cut(body.collect().await?.to_bytes());
                Box::new(Full::new(whole).map_err(BoxError::from))
            };
            Ok(Response::from_parts(head, body))
        };
        let longest = self.longest;
        Box::pin(async move {
            let late = |_| Err(NoAnswer(longest).into());
            timeout(longest, whole).await.unwrap_or_else(late)
        })
    }
}

/// The same request with the API server's own parameter `timeout`.
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

    use http_body_util::StreamBody;
    use hyper::body::{Bytes, Frame};
    use tower::{ServiceExt as _, service_fn};

    use super::*;

    /// What becomes of a call that begins to answer after `head`, and whose answer never ends.
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
        for (uri, told) in [
            ("/api/v1/pods", "/api/v1/pods?timeout=1500ms"),
            (
                "/api/v1/pods?&limit=5",
                "/api/v1/pods?&limit=5&timeout=1500ms",
            ),
            ("/api/v1/pods?watch=true", "/api/v1/pods?watch=true"),
        ] {
            let service = BoundedCalls {
                inner: service_fn(move |request: Request<Body>| async move {
                    assert_eq!(request.uri(), told);
                    let empty = Full::new(Bytes::new());
                    let body: Box<DynBody> = Box::new(empty.map_err(BoxError::from));
                    Ok::<_, BoxError>(Response::new(body))
                }),
                longest: Duration::from_millis(1500),
            };
            let request = Request::get(uri).body(Body::empty()).unwrap();
            assert!(service.oneshot(request).await.is_ok());
        }
    }
}
