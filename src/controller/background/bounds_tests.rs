//! Limits on the background work of many clusters.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use kube::client::Body;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tower::service_fn;

use super::Background;
use super::fetch::Memory;
use crate::api::names::MachineName;
use crate::api::workload::{Answer, Nodes, Workload};
use crate::controller::metrics::Metrics;
use crate::controller::schedule::CONCURRENT_PROBES;
use crate::plan::observed::{ClusterView, WorkloadHealth};

/// A client, and a count of its requests. Only the object `present` exists.
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

/// A search makes two attempts per second.
#[tokio::test]
async fn a_search_reads_each_secret_once_for_many_attempts() {
    let (client, requests) = client();
    let mut memory = Memory::default();
    for _ in 0..20 {
        let present = memory.key(&client, "default", "present").await.unwrap();
        assert_eq!(present.unwrap().expose(), "key");
        let absent = memory.key(&client, "default", "absent").await.unwrap();
        assert!(absent.is_none());
    }
    assert_eq!(requests.load(SeqCst), 2);
}

#[tokio::test]
async fn few_clusters_are_probed_at_the_same_time_and_each_has_its_turn() {
    let (wake, _woken) = mpsc::unbounded_channel();
    let background = Background::new(
        client().0,
        Duration::from_secs(300),
        wake,
        &Metrics::new(None),
    );
    let began = Arc::new(AtomicUsize::new(0));
    let all = 2 * CONCURRENT_PROBES;
    let mut ends = Vec::new();
    for number in 0..all {
        let cluster = ClusterView {
            namespace: number.to_string(),
            uid: number.to_string(),
            ..ClusterView::default()
        };
        // A second probe of the same cluster needs no place.
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

/// L6: a cluster whose members do not answer takes the whole time of a probe, every time. However many of them a namespace has, a cluster
/// whose members answer is probed at once.
#[tokio::test]
async fn clusters_that_do_not_answer_hold_up_none_that_does() {
    let (wake, _woken) = mpsc::unbounded_channel();
    let background = Background::new(
        client().0,
        Duration::from_secs(300),
        wake,
        &Metrics::new(None),
    );
    let reported = |answer: Answer, nodes: Option<Nodes>| {
        let answers = BTreeMap::from([(MachineName::parse("cp-01").unwrap(), answer)]);
        WorkloadHealth::Answered(Arc::new(Workload {
            nodes,
            answers,
            ..Workload::default()
        }))
    };
    let cluster = |uid: &str| ClusterView {
        namespace: "shared".to_owned(),
        name: uid.to_owned(),
        uid: uid.to_owned(),
        ..ClusterView::default()
    };
    let ask = async |uid: &str, health: WorkloadHealth| {
        background
            .ask(&cluster(uid), async { Ok(health) })
            .await
            .unwrap()
    };
    ask("good", reported(Answer::Ready, Some(Nodes::default()))).await;
    let silent: Vec<String> = (0..100).map(|number| format!("silent-{number}")).collect();
    for (number, name) in silent.iter().enumerate() {
        // Half of them answer, but not with the list of Nodes.
        let health = if number % 2 == 0 {
            reported(Answer::Unreachable, Some(Nodes::default()))
        } else {
            reported(Answer::Ready, None)
        };
        ask(name, health).await;
    }
    let asked = Arc::new(AtomicUsize::new(0));
    for name in &silent {
        let asked = Arc::clone(&asked);
        background.start_probe(&cluster(name), async move {
            asked.fetch_add(1, SeqCst);
            std::future::pending().await
        });
    }
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    let held = asked.load(SeqCst);
    assert!((1..CONCURRENT_PROBES).contains(&held), "{held}");
    let good = ask("good", reported(Answer::Ready, Some(Nodes::default())));
    let soon = tokio::time::timeout(Duration::from_secs(30), good).await;
    assert!(soon.is_ok(), "it waits for those that do not answer");
}

#[tokio::test]
async fn many_nodes_are_drained_in_turns_and_each_once() {
    let (wake, _woken) = mpsc::unbounded_channel();
    let background = Background::new(
        client().0,
        Duration::from_secs(300),
        wake,
        &Metrics::new(None),
    );
    let cluster = ClusterView::default();
    let began = Arc::new(AtomicUsize::new(0));
    let evicts = |number: usize| background.evicts(&cluster.uid, &number.to_string());
    let drain_all = async || {
        for number in 0..1000 {
            let began = Arc::clone(&began);
            background.start_evict(&cluster, &number.to_string(), async move {
                began.fetch_add(1, SeqCst);
                std::future::pending::<()>().await;
            });
            assert!(evicts(number));
        }
        for _ in 0..10_000 {
            tokio::task::yield_now().await;
        }
        began.load(SeqCst)
    };
    assert!(!(0..1000).any(evicts));
    let at_once = drain_all().await;
    assert!((1..CONCURRENT_PROBES / 2).contains(&at_once), "{at_once}");
    assert_eq!(drain_all().await, at_once, "what goes on begins again");
    background.evict_only(&cluster.uid, &["7"].into());
    let go_on: Vec<usize> = (0..1000).filter(|it| evicts(*it)).collect();
    assert_eq!(go_on, [7]);
}
