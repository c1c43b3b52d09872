//! Limits the length of responses, and how many long ones are held at the same time. Namespaces get fair shares, and NICO's own requests have
//! one of their own: the lists of its watches, and the published schemas.
//!
//! A response that waits is not read further. It delays no other, since it has its connection to itself: kube's client speaks HTTP/1.1.

use http_body_util::BodyExt as _;
use hyper::body::Bytes;
use kube::client::DynBody;
use tower::BoxError;

use super::depth::Depth;
use crate::remote::gate::{Class, Gate, Turn};
use crate::remote::offload;

/// Most bytes of a response that is not a watch. etcd stores objects of up to 1.5 MB, and a byte takes at most six in JSON.
pub const LONGEST_ANSWER: usize = 10 * 1024 * 1024;
/// Most bytes of a short response, which does not wait for others. Objects of NICO and NIO are shorter, a page of them is often longer.
const SHORT_ANSWER: usize = 256 * 1024;
/// How many longer responses are held at the same time: those to reads of a pass until they are decoded, others until kube has copied them.
/// Their total length is at most this many times [`LONGEST_ANSWER`], but for what a cut adds.
const LONG_ANSWERS: usize = 5;
/// How many of these are reserved for NICO's own requests.
const KEPT_FOR_OWN: usize = 1;

/// The response is longer than [`LONGEST_ANSWER`].
#[derive(Debug, thiserror::Error)]
#[error("the answer is longer than {LONGEST_ANSWER} bytes")]
pub struct TooLong;

/// Places for long responses. Clones share them.
#[derive(Clone)]
pub(super) struct LongAnswers(Gate);

impl Default for LongAnswers {
    fn default() -> Self {
        Self(Gate::new(LONG_ANSWERS, KEPT_FOR_OWN))
    }
}

/// The bytes of a long response. Whoever holds a part of them holds its place.
struct Held {
    bytes: Vec<u8>,
    _place: Turn,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl LongAnswers {
    /// The bytes of a response, without what lies too deep. Those of a long one keep its place until they are dropped.
    pub(super) async fn collect(&self, mut body: Box<DynBody>) -> Result<Bytes, BoxError> {
        let (mut length, mut bytes) = (0_usize, Vec::new());
        let (mut depth, mut place) = (Depth::default(), None);
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else {
                continue;
            };
            length = length.saturating_add(data.len());
            if length > LONGEST_ANSWER {
                return Err(TooLong.into());
            }
            if length > SHORT_ANSWER && place.is_none() {
                place = self.enter().await;
            }
            bytes.extend_from_slice(&depth.cut(data));
        }
        Ok(match place {
            Some(place) => Bytes::from_owner(Held {
                bytes,
                _place: place,
            }),
            None => bytes.into(),
        })
    }

    /// Waits for a place in the share of the current task.
    async fn enter(&self) -> Option<Turn> {
        let namespace = offload::namespace();
        let class = if namespace.is_empty() {
            Class::First
        } else {
            Class::Other
        };
        self.0.enter(&namespace, "", class).await
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::sync::{Arc, LazyLock};
    use std::time::Duration;

    use futures::future::join_all;
    use futures::{FutureExt as _, StreamExt as _};
    use http_body_util::{Full, StreamBody};
    use hyper::body::Frame;
    use hyper::{Request, Response};
    use k8s_openapi::api::core::v1::ConfigMap;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
    use kube::client::Body;
    use kube::{Api, Client};
    use serde::{Deserialize, Deserializer};
    use tokio::time::timeout;
    use tower::{Service as _, service_fn};

    use super::*;
    use crate::controller::calls::get_opt;
    use crate::controller::client::{BoundedCalls, NoAnswer};
    use crate::controller::metrics::Metrics;
    use crate::controller::writes::Writes;
    use crate::remote::offload::of_namespace;

    /// A response of this many frames of 64 KiB, and a count of those that were read.
    fn long(frames: usize) -> (Box<DynBody>, Arc<AtomicUsize>) {
        let taken = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&taken);
        let frames = futures::stream::iter(0..frames).map(move |_| {
            count.fetch_add(1, SeqCst);
            Ok::<_, Infallible>(Frame::data(Bytes::from(vec![b' '; 64 * 1024])))
        });
        let body = StreamBody::new(frames).map_err(BoxError::from);
        (Box::new(body), taken)
    }

    #[tokio::test]
    async fn what_is_longer_than_any_object_is_not_read_to_its_end() {
        let most = LONGEST_ANSWER / (64 * 1024);
        let answers = LongAnswers::default();
        let bytes = answers.collect(long(most).0).await.unwrap();
        assert_eq!(bytes.len(), LONGEST_ANSWER);
        let (body, taken) = long(100 * most);
        let error = answers.collect(body).await.map(drop).unwrap_err();
        assert!(error.is::<TooLong>(), "{error}");
        assert_eq!(taken.load(SeqCst), most + 1);
    }

    /// One namespace may cause 192 Secrets of 1.5 MB each to be read at the same time.
    #[tokio::test]
    async fn few_long_answers_are_held_until_they_are_decoded() {
        let mut service = BoundedCalls {
            inner: service_fn(|request: Request<Body>| async move {
                let is_long = request.uri().path() == "/long";
                Ok::<_, BoxError>(Response::new(long(if is_long { 16 } else { 4 }).0))
            }),
            longest: Duration::from_millis(50),
            long_answers: LongAnswers::default(),
            term: None,
            writes: Writes::default(),
            metrics: Metrics::new(None),
        };
        let mut ask = |path: &str, namespace: &str| {
            let request = Request::get(path).body(Body::empty()).unwrap();
            of_namespace(namespace, service.call(request))
        };
        let mut held = Vec::new();
        for namespace in ["a", "a", "b", "c", ""] {
            held.push(ask("/long", namespace).await.unwrap());
        }
        for namespace in ["a", "b", "c", "d", ""] {
            let late = ask("/long", namespace).await.map(drop).unwrap_err();
            assert!(late.is::<NoAnswer>(), "{namespace}: {late}");
            assert!(ask("/short", namespace).await.is_ok());
        }
        let body = held.remove(2).into_body();
        let bytes = body.collect().await.unwrap().to_bytes();
        assert_eq!(bytes.len(), 1024 * 1024);
        assert!(ask("/long", "d").await.is_err());
        drop(bytes);
        assert!(ask("/long", "d").await.is_ok());
    }

    /// Decoding takes more memory than the response has bytes, and each long one is decoded on a thread of its own.
    #[tokio::test]
    async fn a_long_answer_has_its_place_while_it_is_decoded() {
        let service = BoundedCalls {
            inner: service_fn(|_: Request<Body>| async {
                let name = "a".repeat(1024 * 1024);
                let object = format!("{{\"metadata\":{{\"name\":\"{name}\"}}}}");
                let body = Full::new(Bytes::from(object)).map_err(BoxError::from);
                Ok::<_, BoxError>(Response::new(Box::new(body) as Box<DynBody>))
            }),
            longest: Duration::from_secs(30),
            long_answers: PLACES.clone(),
            term: None,
            writes: Writes::default(),
            metrics: Metrics::new(None),
        };
        let api = Api::<Seen>::default_namespaced(Client::new(service, "default"));
        let read = get_opt(&api, "a").await.unwrap().unwrap();
        assert_eq!(read.metadata.name.map(|name| name.len()), Some(1024 * 1024));
        assert_eq!(PLACES.0.counts(), (0, 0));
    }

    static PLACES: LazyLock<LongAnswers> = LazyLock::new(LongAnswers::default);

    #[derive(kube::Resource, Clone, Debug, Deserialize)]
    #[resource(inherit = ConfigMap)]
    struct Seen {
        #[serde(deserialize_with = "seen")]
        metadata: ObjectMeta,
    }

    fn seen<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
        assert_eq!(PLACES.0.counts(), (0, 1));
        ObjectMeta::deserialize(deserializer)
    }

    /// One that takes all places, and queues for more, would make the reads of others run into their timeout.
    #[tokio::test]
    async fn a_namespace_takes_no_place_of_others_and_none_of_nicos_own() {
        let answers = LongAnswers::default();
        // As in use: kube's client sends requests from a task of its own.
        let asked = answers.clone();
        let service = service_fn(move |_: Request<Body>| {
            let asked = asked.clone();
            async move {
                std::mem::forget(asked.collect(long(16).0).await?);
                Ok::<_, BoxError>(Response::new(Body::empty()))
            }
        });
        let client = Client::new(service, "default");
        let ask = || client.send(Request::get("/").body(Body::empty()).unwrap());
        let greedy = (0..100).map(|_| of_namespace("greedy", ask()));
        let mut greedy = Box::pin(join_all(greedy));
        while answers.0.counts() != (98, 2) {
            assert!(greedy.as_mut().now_or_never().is_none());
            tokio::task::yield_now().await;
        }
        for namespace in ["good", "also good", ""] {
            let answer = of_namespace(namespace, ask());
            let answer = timeout(Duration::from_secs(30), answer).await;
            assert!(matches!(answer, Ok(Ok(_))), "{namespace}");
        }
    }
}
