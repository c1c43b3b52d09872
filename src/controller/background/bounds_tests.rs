//! What many clusters may ask for at the same time.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use kube::client::Body;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tower::service_fn;

use super::Background;
use super::fetch::Keys;
use super::places::Places;
use crate::controller::schedule::CONCURRENT_PROBES;
use crate::plan::observed::ClusterView;

/// A client, and how many requests it sent. `present` is there, nothing else.
fn client() -> (kube::Client, Arc<AtomicUsize>) {
    let requests = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&requests);
    let service = service_fn(move |request: hyper::Request<Body>| {
        count.fetch_add(1, SeqCst);
        let (status, body) = if request.uri().path().ends_with("/present") {
            let data = json!({"ssh-privatekey": "a2V5"});
            (200, json!({"metadata": {"name": "present"}, "data": data}))
        } else {
            let status =
                json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404});
            (404, status)
        };
        let response = hyper::Response::builder()
            .status(status)
            .body(Body::from(body.to_string().into_bytes()));
        async move { Ok::<_, Infallible>(response.unwrap()) }
    });
    (kube::Client::new(service, "default"), requests)
}

/// A search makes two attempts a second.
#[tokio::test]
async fn a_search_reads_each_secret_once_for_many_attempts() {
    let (client, requests) = client();
    let mut keys = Keys::default();
    for _ in 0..20 {
        let present = keys.get(&client, "default", "present").await.unwrap();
        assert_eq!(present.unwrap().expose(), "key");
        let absent = keys.get(&client, "default", "absent").await.unwrap();
        assert!(absent.is_none());
    }
    assert_eq!(requests.load(SeqCst), 2);
}

#[tokio::test]
async fn few_clusters_are_probed_at_the_same_time_and_each_has_its_turn() {
    let (wake, _woken) = mpsc::unbounded_channel();
    let background = Background::new(client().0, Duration::from_secs(300), wake);
    let began = Arc::new(AtomicUsize::new(0));
    let all = 2 * CONCURRENT_PROBES;
    let mut ends = Vec::new();
    for number in 0..all {
        let cluster = ClusterView {
            namespace: (number % 8).to_string(),
            uid: number.to_string(),
            ..ClusterView::default()
        };
        // A second probe of the same cluster takes no place.
        for _ in 0..2 {
            let began = Arc::clone(&began);
            let (end, ended) = oneshot::channel::<()>();
            background.start_probe(&cluster, async move {
                began.fetch_add(1, SeqCst);
                let _ = ended.await;
                None
            });
            ends.push(end);
        }
    }
    let settled = async || {
        for _ in 0..10 * all {
            tokio::task::yield_now().await;
        }
        began.load(SeqCst)
    };
    assert_eq!(settled().await, CONCURRENT_PROBES);
    drop(ends);
    assert_eq!(settled().await, all);
}

/// One tenant with any number of clusters that hang leaves places to others.
#[tokio::test]
async fn a_namespace_holds_a_share_of_the_places() {
    let places = Places::new(8);
    let mut held = Vec::new();
    let mut taking = std::pin::pin!(async {
        loop {
            held.push(places.take("hostile").await);
        }
    });
    let soon = Duration::from_millis(50);
    let endless: Result<(), _> = tokio::time::timeout(soon, &mut taking).await;
    assert!(endless.is_err());
    for _ in 0..6 {
        let good = tokio::time::timeout(soon, places.take("good")).await;
        assert!(good.is_ok(), "it is given back each time");
    }
    let others =
        futures::future::join_all(["a", "b", "c", "d", "e", "f"].map(|it| places.take(it)));
    assert_eq!(tokio::time::timeout(soon, others).await.unwrap().len(), 6);
}
