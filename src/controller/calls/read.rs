//! Reads as kube makes them, but that long responses are decoded aside: users make objects as long as etcd stores, and a page has many.

use hyper::{Request, StatusCode};
use kube::api::{GetParams, ListParams};
use kube::client::Body;
use kube::core::{ObjectList, Status};
use kube::{Api, Client};
use serde::de::DeserializeOwned;

use super::Object;
use crate::api::nio::OnlyMetadata;
use crate::controller::aside::aside_of_bytes;

/// GET; `None` if the object does not exist.
pub(super) async fn get_opt<K: Object>(api: &Api<K>, name: &str) -> kube::Result<Option<K>> {
    let request = of(api).get(name, &GetParams::default());
    match send(api, request).await {
        Ok(object) => Ok(Some(object)),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// LIST of one page.
pub(super) async fn page<K: Object>(
    api: &Api<K>,
    which: &ListParams,
) -> kube::Result<ObjectList<K>> {
    send(api, of(api).list(which)).await
}

/// LIST of one page of metadata.
pub(super) async fn metadata_page<K: Object>(
    api: &Api<K>,
    which: &ListParams,
) -> kube::Result<ObjectList<OnlyMetadata>> {
    send(api, of(api).list_metadata(which)).await
}

fn of<K: Object>(api: &Api<K>) -> kube::core::Request {
    kube::core::Request::new(api.resource_url())
}

async fn send<K: Object, T: DeserializeOwned>(
    api: &Api<K>,
    request: Result<Request<Vec<u8>>, kube::core::request::Error>,
) -> kube::Result<T> {
    let request = request.map_err(kube::Error::BuildRequest)?;
    decoded(&api.clone().into_client(), request).await
}

async fn decoded<T: DeserializeOwned>(
    client: &Client,
    request: Request<Vec<u8>>,
) -> kube::Result<T> {
    let response = client.send(request.map(Body::from)).await?;
    let code = response.status();
    // Until these are dropped, a long response has its place.
    let bytes = response.into_body().collect_bytes().await?;
    aside_of_bytes(bytes.len(), || {
        if code.is_client_error() || code.is_server_error() {
            return Err(refused(code, &bytes));
        }
        serde_json::from_slice(&bytes).map_err(kube::Error::SerdeError)
    })
}

/// The error that a response tells of. Proxies may send any text.
fn refused(code: StatusCode, bytes: &[u8]) -> kube::Error {
    let status = serde_json::from_slice::<Status>(bytes);
    let other = |_| Status::failure("", "Failed to parse error data").with_code(code.as_u16());
    kube::Error::Api(status.unwrap_or_else(other).boxed())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use std::convert::Infallible;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use hyper::Response;
    use serde::de::{Error, IgnoredAny};
    use serde::{Deserialize, Deserializer};
    use tower::service_fn;

    use super::*;

    /// Something that is decoded only once another task has run.
    struct Slow;

    impl<'de> Deserialize<'de> for Slow {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            IgnoredAny::deserialize(deserializer)?;
            let (done, waits) = channel();
            tokio::spawn(async move { done.send(()) });
            let ran = waits.recv_timeout(Duration::from_secs(30));
            ran.map(|()| Self).map_err(D::Error::custom)
        }
    }

    /// The runtime has one thread, on which the response is decoded.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn other_tasks_go_on_while_a_long_answer_is_decoded() {
        let service = service_fn(|_: Request<Body>| async {
            let text = format!("\"{}\"", "x".repeat(1024 * 1024));
            Ok::<_, Infallible>(Response::new(Body::from(text.into_bytes())))
        });
        let client = Client::new(service, "default");
        let request = Request::get("/").body(Vec::new()).unwrap();
        let read = tokio::spawn(async move { decoded::<Slow>(&client, request).await.map(drop) });
        read.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_refusal_has_the_code_of_its_status_or_else_of_the_response() {
        for (text, code) in [(r#"{"code": 409}"#, 409), ("<html>", 502), ("", 502)] {
            let service = service_fn(move |_: Request<Body>| async move {
                let response = Response::builder().status(502);
                response.body(Body::from(text.as_bytes().to_vec()))
            });
            let client = Client::new(service, "default");
            let request = Request::get("/").body(Vec::new()).unwrap();
            let answer = decoded::<IgnoredAny>(&client, request).await;
            let error = answer.unwrap_err();
            assert!(
                matches!(&error, kube::Error::Api(status) if status.code == code),
                "{text}: {error}"
            );
        }
    }
}
