use kube::client::Body;
use kube::runtime::reflector;
use serde_json::json;
use tower::{BoxError, service_fn};

use super::*;
use crate::remote::offload::namespace;

/// The first lists of Jobs are among those that NICO waits for, where NIO is v1.
#[tokio::test]
async fn nico_is_ready_once_it_knows_the_jobs_of_v1() {
    let published = Arc::new(Mutex::new("host"));
    let field = Arc::clone(&published);
    let service = service_fn(move |_: hyper::Request<Body>| {
        let machine = json!({
            "x-kubernetes-group-version-kind": [{"group": "nio.homystack.com", "kind": "Machine"}],
            "properties": {"spec": {"properties": {*lock(&field): {}}}},
        });
        let document = json!({"components": {"schemas": {"machine": machine}}});
        let body = Body::from(document.to_string().into_bytes());
        async move {
            assert_eq!(&*namespace(), "", "whose share it uses");
            Ok::<_, BoxError>(hyper::Response::new(body))
        }
    });
    let health = Arc::new(Readiness::default());
    let context = Context::new(
        Client::new(service, "default"),
        OperatorSettings::of_a_test(Duration::from_secs(300)),
        Arc::clone(&health),
        Metrics::new(None),
        Writes::default(),
        reflector::store().0,
        tokio::sync::mpsc::unbounded_channel().0,
    );
    let waits = || health.missing().contains(&mark::JOBS);
    let of_a_pass = of_namespace("tenant", context.nio_within(Duration::ZERO));
    assert!(of_a_pass.await.is_ok() && waits());
    context.on_work(|work| &work.jobs, Some(Event::InitDone));
    context.on_work(|work| &work.cron_jobs, Some(Event::InitDone));
    context.on_work(|work| &work.nix_cron_jobs, Some(Event::InitDone));
    assert!(waits());
    context.on_work(|work| &work.nix_jobs, Some(Event::InitDone));
    assert!(!waits());
    context.on_work(|work| &work.jobs, None);
    assert!(waits(), "its watch has ended");
    *lock(&published) = "hostname";
    assert!(context.nio_within(Duration::ZERO).await.is_ok() && !waits());
}

#[test]
fn a_cluster_that_many_machines_concern_is_named_once() {
    let clusters: Vec<ObjectRef<RawCluster>> = (0..10)
        .map(|number| ObjectRef::new(&format!("c-{number}")).within("default"))
        .collect();
    let concerned = std::iter::repeat_with(|| clusters.clone()).take(1000);
    assert_eq!(each_once(concerned).len(), clusters.len());
}
