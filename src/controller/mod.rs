//! The shell: all I/O, no decisions. This file contains the streams and the Controller.

use std::sync::Arc;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _};
use kube::runtime::controller::{Config, Controller};
use kube::runtime::reflector;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher::Event;
use kube::{Api, Client};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tracing::warn;

use crate::api::cluster::RawCluster;
use crate::api::nio::{CronJob, Job, Machine, NixCronJob, NixJob, NixosConfiguration};

pub mod act;
pub mod aside;
pub mod background;
pub mod calls;
pub mod client;
pub mod clock;
pub mod context;
pub mod detect;
pub mod events;
pub mod interest;
pub mod leader;
pub mod live;
pub mod memory;
pub mod metrics;
pub mod named;
pub mod observe;
pub mod pass;
pub mod readiness;
pub mod reconcile;
pub mod schedule;
pub mod settings;
pub mod stores;
pub mod troubles;
pub mod watch;
pub mod writes;

use context::Context;
use metrics::Metrics;
use readiness::Readiness;
use schedule::{DEBOUNCE, MACHINES_PAGE, PAGE, STARTED_PASSES};
use settings::OperatorSettings;
use stores::{JobStores, Store};
use watch::watch;
use writes::Writes;

/// Why the controller could not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Its stream of work ended by itself.
    #[error("the controller's stream of work ended")]
    Ended,
}

/// Runs until `shutdown` resolves. Passes that are running then are finished first.
pub async fn run(
    client: Client,
    settings: OperatorSettings,
    health: Arc<Readiness>,
    metrics: Arc<Metrics>,
    writes: Writes,
    shutdown: impl Future<Output = ()> + Send + Sync + 'static,
) -> Result<(), RunError> {
    let (wake, woken) = unbounded_channel();
    let resync = settings.resync;
    let clusters = api::<RawCluster>(&client, &settings);
    let clusters = watch(clusters, resync, PAGE, tokio::sync::watch::channel(0).1);
    let (reader, writer) = reflector::store();
    let context = Context::new(
        client,
        settings,
        health,
        metrics,
        writes,
        reader.clone(),
        wake,
    );
    let context = Arc::new(context);
    let machines = of_nio::<Machine>(&context, MACHINES_PAGE);
    let configurations = of_nio::<NixosConfiguration>(&context, PAGE);
    let of_clusters = Arc::clone(&context);
    let clusters = clusters.map(move |event| {
        of_clusters.on_cluster(&event);
        Ok(event)
    });
    let (of_machines, of_configurations) = (Arc::clone(&context), Arc::clone(&context));
    let machines =
        machines.flat_map(move |event| futures::stream::iter(of_machines.on_machine(event)));
    let configurations = configurations
        .flat_map(move |event| futures::stream::iter(of_configurations.on_configuration(event)));
    let work = [
        work::<Job>(&context, |work| &work.jobs),
        work::<CronJob>(&context, |work| &work.cron_jobs),
        work::<NixCronJob>(&context, |work| &work.nix_cron_jobs),
        work::<NixJob>(&context, |work| &work.nix_jobs),
    ];
    let (readiness, closing) = (Arc::clone(&context), Arc::clone(&context));
    let shown = reader.clone();
    let changed = reflector(writer, clusters).filter_map(move |event| {
        let changed = event.map(|event| watch::changed(event, &shown));
        std::future::ready(changed.transpose())
    });
    let work = Controller::for_stream(changed, reader)
        .with_config(queue())
        .reconcile_on(machines)
        .reconcile_on(configurations)
        .reconcile_on(futures::stream::select_all(work))
        .reconcile_on(received(woken))
        .graceful_shutdown_on(async move {
            shutdown.await;
            closing.gate.close();
        })
        .run(reconcile::reconcile, |_, error, _| match *error {}, context)
        .for_each(|outcome| async move {
            if let Err(kube::runtime::controller::Error::QueueError(error)) = outcome {
                warn!(%error, "the watch of KubernetesClusters failed; it is tried again");
            }
        });
    tokio::select! {
        () = work => Ok(()),
        () = readiness.watch_readiness() => Err(RunError::Ended),
    }
}

/// The events of a kind of NIO's. Its definitions were looked at before the first list: a later change of them restarts the watch.
fn of_nio<K>(context: &Context, page: u32) -> impl Stream<Item = Event<K>> + Send + use<K>
where
    K: calls::Object + Send + Sync + 'static,
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
{
    let Context {
        client, settings, ..
    } = context;
    let (api, resync) = (api::<K>(client, settings), settings.resync);
    let mut restarts = context.restarts();
    let found = async move {
        // The sender lives as long as the controller.
        let _ = restarts.wait_for(|restarts| *restarts > 0).await;
        restarts
    };
    let found = futures::stream::once(found);
    found.flat_map(move |restarts| watch(api.clone(), resync, page, restarts))
}

/// The clusters that changes of Jobs, or of their owners, affect. These are watched while the generation of NIO is one that applies by Jobs.
fn work<K>(
    context: &Arc<Context>,
    store: fn(&JobStores) -> &Store<K>,
) -> BoxStream<'static, ObjectRef<RawCluster>>
where
    K: calls::Object + PartialEq + Send + Sync + 'static,
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
{
    let Context {
        client, settings, ..
    } = &**context;
    let (api, resync) = (api::<K>(client, settings), settings.resync);
    let restarts = context.restarts();
    let begin = move || watch(api.clone(), resync, PAGE, restarts.clone());
    let events = watch::while_wanted(context.by_jobs(), begin);
    let context = Arc::clone(context);
    let concerned = move |event| futures::stream::iter(context.on_work(store, event));
    events.flat_map(concerned).boxed()
}

/// The configuration of the Controller's queue. Passes start at once, and wait for their turn at the gate.
fn queue() -> Config {
    Config::default()
        .concurrency(STARTED_PASSES)
        .debounce(DEBOUNCE)
}

fn api<K>(client: &Client, settings: &OperatorSettings) -> Api<K>
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
{
    match &settings.watch_namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

fn received<T>(receiver: UnboundedReceiver<T>) -> impl Stream<Item = T> {
    futures::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|item| (item, receiver))
    })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::time::Duration;

    use kube::runtime::controller::Action;
    use kube::runtime::watcher;
    use serde_json::json;

    use super::*;

    /// Passes of one namespace that wait, for the gate or for their cluster, do not block others.
    #[tokio::test]
    async fn all_passes_of_many_clusters_begin() {
        const CLUSTERS: usize = 2000;
        let clusters = (0..CLUSTERS).filter_map(|number| {
            let metadata = json!({"name": number.to_string(), "namespace": "greedy"});
            serde_json::from_value::<RawCluster>(json!({"metadata": metadata, "spec": {}})).ok()
        });
        let listed = std::iter::once(Event::Init)
            .chain(clusters.map(Event::InitApply))
            .chain([Event::InitDone]);
        let (reader, writer) = reflector::store();
        let shown = reflector(writer, futures::stream::iter(listed.map(Ok)));
        let shown = shown.filter_map(|event: Result<_, watcher::Error>| {
            std::future::ready(match event {
                Ok(Event::InitApply(cluster)) => Some(Ok(cluster)),
                _ => None,
            })
        });
        let begun = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&begun);
        let waits = move |_, _| {
            count.fetch_add(1, SeqCst);
            std::future::pending::<Result<Action, Infallible>>()
        };
        let work = Controller::for_stream(shown.chain(futures::stream::pending()), reader)
            .with_config(queue())
            .run(waits, |_, error, _| match *error {}, Arc::new(()))
            .for_each(|_| std::future::ready(()));
        let all = async {
            while begun.load(SeqCst) < CLUSTERS {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(60), all);
        let in_time = futures::future::select(Box::pin(work), Box::pin(in_time)).await;
        drop(in_time);
        assert_eq!(begun.load(SeqCst), CLUSTERS);
    }
}
