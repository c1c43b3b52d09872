//! The proxy: numbered writes, faults, watches held, lost and ended, and the shipped rights.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::api::{Api, ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Config, ResourceExt};
use rig::proxy::{Effect, Fault, Moment, Proxy};
use rig::wait::wait_for;
use rig::world::World;
use serde_json::json;

use crate::SOON;

async fn through(proxy: &Proxy, world: &World) -> Client {
    // A token passes a proxy that speaks plain HTTP, a certificate could not. (The built-in ClusterRole `admin` is empty: its
    // aggregation is the work of a controller that does not run here.)
    let meta = json!({"name": "caller"});
    let rbac = "rbac.authorization.k8s.io";
    let objects = [
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta}),
        json!({"apiVersion": format!("{rbac}/v1"), "kind": "Role", "metadata": meta,
            "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]}]}),
        json!({"apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding", "metadata": meta,
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "caller"},
            "subjects": [{"kind": "ServiceAccount", "name": "caller", "namespace": world.namespace()}]}),
    ];
    for object in objects {
        let made = rig::deploy::apply_value(world.client(), world.namespace(), object).await;
        made.expect("rights are given");
    }
    let control_plane = &world.environment().control_plane;
    let token = control_plane
        .service_account_token(world.namespace(), "caller")
        .await
        .expect("a token");
    let text = control_plane
        .token_kubeconfig(Some(proxy.url()), &token)
        .expect("a kubeconfig");
    let config = Kubeconfig::from_yaml(&text).expect("it is a kubeconfig");
    let mut config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default())
        .await
        .expect("it is complete");
    config.default_retry = false;
    Client::try_from(config).expect("a client can be made")
}

fn map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}})).expect("it is a ConfigMap")
}

#[tokio::test]
async fn the_proxy_numbers_writes_and_strikes() {
    let world = World::new().await;
    let proxy = world.proxy().await;
    let maps: Api<ConfigMap> = Api::namespaced(through(&proxy, &world).await, world.namespace());
    let post = PostParams::default();
    wait_for("the rights are seen", SOON, || async {
        maps.create(&post, &map("one")).await.ok()
    })
    .await;
    let n = proxy.writes().len();
    let killed = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&killed);
    let kill = Effect::Call(Arc::new(move || flag.store(true, Ordering::SeqCst)));
    proxy.fault(Fault::on_write(n + 1, Moment::Before, Effect::Status(409)));
    proxy.fault(Fault::on_write(n + 2, Moment::Before, Effect::Reset));
    proxy.fault(Fault::on_write(n + 3, Moment::After, kill));
    proxy.fault(Fault::on_write(n + 4, Moment::After, Effect::Truncated));
    let conflict = maps.create(&post, &map("two")).await;
    assert!(matches!(conflict, Err(kube::Error::Api(status)) if status.code == 409));
    assert!(maps.create(&post, &map("two")).await.is_err());
    assert!(maps.get_opt("two").await.expect("a read passes").is_none());
    assert!(maps.create(&post, &map("three")).await.is_err());
    assert!(killed.load(Ordering::SeqCst));
    assert!(
        maps.get_opt("three")
            .await
            .expect("a read passes")
            .is_some()
    );
    assert!(maps.create(&post, &map("four")).await.is_err());
    let writes = proxy.writes();
    let codes: Vec<_> = writes[n..]
        .iter()
        .map(|call| (call.object_name().to_owned(), call.code))
        .collect();
    let wanted = [
        ("two", None),
        ("two", None),
        ("three", Some(201)),
        ("four", Some(201)),
    ];
    assert_eq!(codes, wanted.map(|(name, code)| (name.to_owned(), code)));
    let nodes: Api<Node> = Api::all(through(&proxy, &world).await);
    assert!(nodes.list(&ListParams::default()).await.is_err());
    assert_eq!(
        proxy
            .forbidden()
            .last()
            .map(|call| call.resource.clone())
            .as_deref(),
        Some("nodes")
    );
}

#[tokio::test]
async fn the_proxy_holds_loses_and_ends_watches() {
    use futures::StreamExt;
    let world = World::new().await;
    let proxy = world.proxy().await;
    let maps: Api<ConfigMap> = Api::namespaced(through(&proxy, &world).await, world.namespace());
    wait_for("the rights are seen", SOON, || async {
        maps.list(&ListParams::default()).await.ok()
    })
    .await;
    let (sender, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let watched = maps.clone();
    tokio::spawn(async move {
        let mut events = Box::pin(watcher(watched, watcher::Config::default()).default_backoff());
        while let Some(event) = events.next().await {
            let _ = sender.send(match event {
                Ok(watcher::Event::Apply(map)) => map.name_any(),
                Ok(watcher::Event::InitDone) => "(listed)".to_owned(),
                Ok(_) => continue,
                Err(_) => "(error)".to_owned(),
            });
        }
    });
    let post = PostParams::default();
    let mut next = async || {
        tokio::time::timeout(SOON, seen.recv())
            .await
            .expect("an event in time")
            .expect("it goes on")
    };
    while next().await != "(listed)" {}
    maps.create(&post, &map("one")).await.expect("it is made");
    assert_eq!(next().await, "one");
    proxy.hold("configmaps", true);
    maps.create(&post, &map("two"))
        .await
        .expect("writes go through");
    let early = tokio::time::timeout(Duration::from_millis(300), next()).await;
    assert!(early.is_err(), "an event came through: {early:?}");
    proxy.hold("configmaps", false);
    assert_eq!(next().await, "two");
    proxy.lose("configmaps", |event| {
        event["object"]["metadata"]["name"] == "three"
    });
    maps.create(&post, &map("three")).await.expect("it is made");
    maps.create(&post, &map("four")).await.expect("it is made");
    assert_eq!(next().await, "four");
    let began = Instant::now();
    proxy.expire("configmaps");
    while next().await != "(listed)" {}
    assert!(began.elapsed() < SOON);
}

#[tokio::test]
async fn nico_gets_the_shipped_rights_of_one_namespace() {
    let world = World::new().await;
    let proxy = world.proxy().await;
    let environment = world.environment();
    let text = environment
        .namespace_kubeconfig(world.client(), world.namespace(), proxy.url())
        .await;
    let config = Kubeconfig::from_yaml(&text).expect("it is a kubeconfig");
    let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await;
    let client = Client::try_from(config.expect("it is complete")).expect("a client can be made");
    let all = ListParams::default();
    wait_for("the rights are seen", SOON, || async {
        rig::crds::machines(&client, world.namespace())
            .list(&all)
            .await
            .ok()
    })
    .await;
    let elsewhere = rig::crds::machines(&client, "default").list(&all).await;
    assert!(elsewhere.is_err());
    let secrets: Api<k8s_openapi::api::core::v1::Secret> =
        Api::namespaced(client, world.namespace());
    assert!(secrets.list(&all).await.is_err());
    assert_eq!(secrets.get_opt("none").await.expect("by name"), None);
}
