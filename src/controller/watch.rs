//! Watches that restart from time to time. A watch can lose an event or stall; the list at its start shows what was missed. They restart
//! as well when the definitions of their objects change: no event shows that the API server now decodes an unchanged object otherwise.

use std::time::Duration;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _};
use kube::Api;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::{self, Config, Event, watcher};
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use super::calls::{Object, fewer, is_too_long};
use super::schedule::WATCH_LIFE_IN_RESYNCS;
use crate::api::text::shown;
use crate::plan::writes::Precondition;

/// One run of a watch, until it restarts.
struct Watch<K: 'static> {
    events: BoxStream<'static, watcher::Result<Event<K>>>,
    /// Objects on a page of its list.
    page: u32,
    /// When it restarts; `None` while its list is in progress. The list is not cut short, however long it takes.
    ends: Option<Instant>,
}

impl<K: Object + Send + Sync> Watch<K> {
    fn begin(api: &Api<K>, page: u32) -> Self {
        let config = Config::default().page_size(page);
        Self {
            events: watcher(api.clone(), config).default_backoff().boxed(),
            page,
            ends: None,
        }
    }
}

/// The new page size after a list failed since a page was too long; `None` for other errors.
fn shorter_page(page: u32, error: &watcher::Error) -> Option<u32> {
    match error {
        watcher::Error::InitialListFailed(error) if is_too_long(error) => fewer(page),
        _ => None,
    }
}

/// The object of an event, if it changed. A restarted watch lists all objects. Those that are unchanged in `shown` are left out, so that
/// they are not all reconciled at the same time.
pub fn changed<K>(event: Event<K>, shown: &Store<K>) -> Option<K>
where
    K: kube::Resource<DynamicType = ()> + Clone + 'static,
{
    match event {
        Event::Apply(object) => Some(object),
        Event::InitApply(object) => {
            let known = shown.get(&ObjectRef::from_obj(&object));
            let version = |object: &K| Precondition::of(object.meta());
            let is_known = known.is_some_and(|known| version(&known) == version(&object));
            (!is_known).then_some(object)
        }
        Event::Init | Event::InitDone | Event::Delete(_) => None,
    }
}

/// The events of a kind. It is listed in pages of `page` objects, and smaller ones if those are too long. Failures are logged and retried
/// with backoff. It restarts whenever `restarts` changes.
pub fn watch<K>(
    api: Api<K>,
    resync: Duration,
    page: u32,
    mut restarts: Receiver<u64>,
) -> impl Stream<Item = Event<K>> + Send
where
    K: Object + Send + Sync + 'static,
{
    restarts.mark_unchanged();
    let first = Watch::begin(&api, page);
    futures::stream::unfold(
        (first, api, restarts),
        move |(mut watch, api, mut restarts)| async move {
            loop {
                let end = watch.ends.unwrap_or_else(Instant::now);
                tokio::select! {
                    Some(event) = watch.events.next() => match event {
                        Ok(event) => {
                            if matches!(event, Event::InitDone) {
                                watch.ends = Some(Instant::now() + resync.mul_f64(rand::random_range(WATCH_LIFE_IN_RESYNCS)));
                            }
                            return Some((event, (watch, api, restarts)));
                        }
                        Err(error) => {
                            let page = shorter_page(watch.page, &error);
                            let error = shown(&error.to_string());
                            warn!(kind = %K::kind(&()), error, "a watch failed, retrying");
                            if let Some(page) = page {
                                watch = Watch::begin(&api, page);
                            }
                        }
                    },
                    () = sleep_until(end), if watch.ends.is_some() => watch = Watch::begin(&api, page),
                    Ok(()) = restarts.changed() => watch = Watch::begin(&api, page),
                }
            }
        },
    )
}

/// The items of a stream that begins whenever it is wanted, and is dropped when it no longer is. `None`: it was dropped, and what it has
/// shown is no longer kept up to date.
pub fn while_wanted<S: Stream + Send>(
    wanted: Receiver<bool>,
    mut begin: impl FnMut() -> S,
) -> impl Stream<Item = Option<S::Item>> {
    let times = futures::stream::unfold(wanted, async |mut wanted| {
        wanted.wait_for(|wanted| *wanted).await.ok()?;
        Some((wanted.clone(), wanted))
    });
    times.flat_map(move |mut wanted| {
        let over = async move { drop(wanted.wait_for(|wanted| !wanted).await) };
        let ended = futures::stream::once(std::future::ready(None));
        begin().take_until(over).map(Some).chain(ended)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};

    use futures::FutureExt as _;
    use k8s_openapi::api::core::v1::ConfigMap;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
    use kube::client::Body;
    use kube::runtime::reflector;
    use serde_json::json;
    use tokio::sync::watch::channel;
    use tower::{BoxError, service_fn};

    use super::*;
    use crate::api::nio::{Job, Machine};
    use crate::controller::client::TooLong;
    use crate::controller::stores::Stores;
    use crate::remote::lock::lock;

    fn object(name: &str, version: &str) -> ConfigMap {
        ConfigMap {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some("default".to_owned()),
                uid: Some(name.to_owned()),
                resource_version: Some(version.to_owned()),
                ..ObjectMeta::default()
            },
            ..ConfigMap::default()
        }
    }

    /// When the watch restarts, unchanged clusters are not reconciled.
    #[test]
    fn a_watch_that_begins_again_shows_what_changed_meanwhile() {
        let (shown, mut writer) = reflector::store();
        let mut see = |event: Event<ConfigMap>| {
            writer.apply_watcher_event(&event);
            changed(event, &shown).map(|it| it.metadata.name.unwrap_or_default())
        };
        for list in 0..2 {
            see(Event::Init);
            let first = (0..400).filter_map(|n| see(Event::InitApply(object(&n.to_string(), "1"))));
            assert_eq!(first.count(), if list == 0 { 400 } else { 0 });
            see(Event::InitDone);
        }
        see(Event::Init);
        let mut relisted = ["1", "3", "new"].map(|name| object(name, "1"));
        relisted[1].metadata.resource_version = Some("2".to_owned());
        let news = relisted.map(|object| see(Event::InitApply(object)));
        assert_eq!(news, [None, Some("3".to_owned()), Some("new".to_owned())]);
        see(Event::InitDone);
        assert_eq!(see(Event::Apply(object("1", "4"))).as_deref(), Some("1"));
    }

    /// Definitions that are gone would fail each list, with a line in the log.
    #[tokio::test]
    async fn what_is_not_wanted_any_more_is_not_watched() {
        let (wanted, receiver) = channel(false);
        let mut begun = 0;
        let begin = || {
            begun += 1;
            futures::stream::once(std::future::ready(begun)).chain(futures::stream::pending())
        };
        let mut items = std::pin::pin!(while_wanted(receiver, begin));
        let mut next = || items.next().now_or_never().flatten();
        assert_eq!(next(), None);
        wanted.send_replace(true);
        assert_eq!((next(), next()), (Some(Some(1)), None));
        wanted.send_replace(true);
        assert_eq!(next(), None, "the same goes on");
        wanted.send_replace(false);
        assert_eq!((next(), next()), (Some(None), None));
        wanted.send_replace(true);
        assert_eq!((next(), next()), (Some(Some(2)), None));
    }

    /// From NIO v1 to classic and back: Jobs that were deleted meanwhile must prove nothing, and those that were created must not be
    /// missed.
    #[tokio::test]
    async fn what_was_watched_before_counts_no_more_when_it_is_watched_again() {
        let job = || {
            let metadata = json!({"name": "a", "namespace": "b", "uid": "c"});
            serde_json::from_value::<Job>(json!({ "metadata": metadata })).ok()
        };
        let (wanted, receiver) = channel(true);
        let (list, lists) = tokio::sync::mpsc::unbounded_channel();
        let lists = Arc::new(Mutex::new(lists));
        let begin = || {
            let lists = Arc::clone(&lists);
            futures::stream::poll_fn(move |context| lock(&lists).poll_recv(context))
        };
        let mut events = std::pin::pin!(while_wanted(receiver, begin));
        let stores = Stores::default().work;
        let mut see = || {
            while let Some(Some(event)) = events.next().now_or_never() {
                stores.jobs.follow(event);
            }
            (stores.jobs.is_ready(), stores.jobs.count("b"))
        };
        let listed = |jobs: Option<Job>| {
            let jobs = jobs.into_iter().map(Event::InitApply);
            let all = [Event::Init].into_iter().chain(jobs);
            all.chain([Event::InitDone])
                .for_each(|event| drop(list.send(event)));
        };
        assert_eq!(see(), (false, 0));
        listed(job());
        assert_eq!(see(), (true, 1));
        wanted.send_replace(false);
        assert_eq!(see(), (false, 0));
        wanted.send_replace(true);
        assert_eq!(see(), (false, 0), "the new list has not come yet");
        listed(None);
        assert_eq!(see(), (true, 0));
    }

    /// One tenant's long objects must not keep NICO from seeing those of others.
    #[tokio::test]
    async fn a_list_whose_pages_are_too_long_goes_on_by_shorter_ones() {
        let asked = Arc::<AtomicUsize>::default();
        let service = service_fn(move |request: hyper::Request<Body>| {
            let count = asked.fetch_add(1, Ordering::SeqCst);
            async move {
                let query = request.uri().query().unwrap_or_default();
                let items = match query.split('&').any(|part| part == "limit=5") {
                    true => vec![object("a", "1")],
                    // The second list ends, so that the test does.
                    false if count > 1 => Vec::new(),
                    false => return Err(BoxError::from(TooLong)),
                };
                let list = json!({"metadata": {"resourceVersion": "1"}, "items": items});
                let body = Body::from(list.to_string().into_bytes());
                Ok(hyper::Response::new(body))
            }
        });
        let api = Api::<ConfigMap>::all(kube::Client::new(service, "default"));
        let mut events = std::pin::pin!(watch(api, Duration::from_secs(300), 50, channel(0).1));
        let mut shown = Vec::new();
        while let Some(event) = events.next().await {
            match event {
                Event::Init => shown.clear(),
                Event::InitApply(object) => shown.extend(object.metadata.name),
                Event::InitDone => break,
                Event::Apply(_) | Event::Delete(_) => {}
            }
        }
        assert_eq!(shown, ["a"]);
    }

    /// The API server does not change an object, nor its version, when it decodes it by other definitions.
    #[tokio::test]
    async fn objects_of_new_definitions_are_seen_at_once() {
        let (definitions, restarts) = channel(7);
        let asked = restarts.clone();
        let service = service_fn(move |request: hyper::Request<Body>| {
            let address = match *asked.borrow() {
                7 => "hostname",
                _ => "host",
            };
            let watches = request
                .uri()
                .query()
                .is_some_and(|it| it.contains("watch="));
            async move {
                if watches {
                    std::future::pending::<()>().await;
                }
                let metadata =
                    json!({"name": "a", "namespace": "b", "uid": "c", "resourceVersion": "1"});
                let machine = json!({"metadata": metadata, "spec": {address: "10.0.0.1"}});
                let list = json!({"metadata": {"resourceVersion": "1"}, "items": [machine]});
                let body = Body::from(list.to_string().into_bytes());
                Ok::<_, BoxError>(hyper::Response::new(body))
            }
        });
        let api = Api::<Machine>::all(kube::Client::new(service, "default"));
        let mut events = std::pin::pin!(watch(api, Duration::from_secs(300), 50, restarts));
        let store = Stores::default().machines;
        let mut listed = async || {
            while let Some(event) = events.next().await {
                let is_done = matches!(event, Event::InitDone);
                let touched = store.apply(event);
                if is_done {
                    return (touched.len(), store.get("b", "a").map(|it| it.spec.clone()));
                }
            }
            (0, None)
        };
        let (touched, of_classic) = listed().await;
        assert_eq!(touched, 1);
        definitions.send_modify(|it| *it += 1);
        let (touched, of_v1) = listed().await;
        assert_eq!(touched, 1);
        assert_ne!(of_classic, of_v1);
        definitions.send_modify(|it| *it += 1);
        assert_eq!(listed().await, (0, of_v1), "unchanged");
    }
}
