//! Watches that never end, and begin again now and then: a watch can lose an event or fall silent, and the list at its beginning
//! shows what it did not.

use std::time::Duration;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _};
use kube::Api;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Config, Event, watcher};
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use super::calls::Object;
use super::schedule::WATCH_LIFE_IN_RESYNCS;
use crate::api::text::shown;

/// Objects on one page of a list. A page is decoded in one piece, and a configuration of the largest cluster is of 100 kB.
const LISTED_AT_A_TIME: u32 = 100;

/// One watch, until it begins again.
struct Watch<K: 'static> {
    events: BoxStream<'static, Event<K>>,
    /// When it begins again; `None` while its list goes on, which is not cut short, however long it takes.
    ends: Option<Instant>,
}

impl<K: Object + Send + Sync> Watch<K> {
    fn begin(api: &Api<K>) -> Self {
        let config = Config::default().page_size(LISTED_AT_A_TIME);
        let events = watcher(api.clone(), config).default_backoff();
        let logged = events.filter_map(|event| {
            let failed = |error: &watcher::Error| {
                let error = shown(&error.to_string());
                warn!(kind = %K::kind(&()), error, "a watch failed, retrying");
            };
            std::future::ready(event.inspect_err(failed).ok())
        });
        Self {
            events: logged.boxed(),
            ends: None,
        }
    }
}

/// The events of a kind. Failures are logged, and tried again with backoff.
pub fn watch<K>(api: Api<K>, resync: Duration) -> impl Stream<Item = Event<K>> + Send
where
    K: Object + Send + Sync + 'static,
{
    let first = Watch::begin(&api);
    futures::stream::unfold((first, api), move |(mut watch, api)| async move {
        loop {
            let end = watch.ends.unwrap_or_else(Instant::now);
            tokio::select! {
                Some(event) = watch.events.next() => {
                    if matches!(event, Event::InitDone) {
                        watch.ends = Some(Instant::now() + resync.mul_f64(rand::random_range(WATCH_LIFE_IN_RESYNCS)));
                    }
                    return Some((event, (watch, api)));
                }
                () = sleep_until(end), if watch.ends.is_some() => watch = Watch::begin(&api),
            }
        }
    })
}
