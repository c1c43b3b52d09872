use std::convert::Infallible;
use std::future::pending;

use kube::client::Body;
use tower::service_fn;

use super::*;
use crate::remote::offload::namespace;

/// Else a process that ends in between leaves a status that says so and no event.
#[tokio::test]
async fn an_event_that_goes_first_has_arrived() {
    let cluster = ClusterView {
        namespace: "tenant".to_owned(),
        ..ClusterView::default()
    };
    let arrived = Arc::new(AtomicUsize::default());
    let count = Arc::clone(&arrived);
    let slow = service_fn(move |request: hyper::Request<Body>| {
        let count = Arc::clone(&count);
        async move {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            assert_eq!(&*namespace(), "tenant", "whose share it uses");
            count.fetch_add(1, Ordering::Relaxed);
            let event = request.into_body().collect_bytes().await.unwrap();
            Ok::<_, Infallible>(hyper::Response::new(Body::from(event)))
        }
    });
    let events = Events::new(kube::Client::new(slow, "default"));
    events
        .emit_first(&cluster, &Happening::StatusContested)
        .await;
    assert_eq!(arrived.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn an_api_server_that_takes_no_events_holds_a_bounded_number_of_them() {
    let service = service_fn(|_: hyper::Request<Body>| {
        pending::<Result<hyper::Response<Body>, Infallible>>()
    });
    let events = Events::new(kube::Client::new(service, "default"));
    let cluster = ClusterView::default();
    let at_first = tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks();
    for _ in 0..EVENTS_UNDER_WAY / 2 + 7 {
        events.emit(&cluster, &Happening::StatusContested);
    }
    let tasks = || {
        let metrics = tokio::runtime::Handle::current().metrics();
        metrics.num_alive_tasks()
    };
    assert!(tasks() <= at_first + EVENTS_UNDER_WAY / 2);
    assert_eq!(events.dropped.load(Ordering::Relaxed), 7);
    // Those of one namespace leave room for others.
    let before = tasks();
    let other = ClusterView {
        namespace: "other".to_owned(),
        ..ClusterView::default()
    };
    events.emit(&other, &Happening::StatusContested);
    assert_eq!(tasks(), before + 1);
}
