use std::sync::OnceLock;
use std::sync::mpsc::channel;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;

use super::*;

static STORE: OnceLock<Store<ConfigMap>> = OnceLock::new();

/// The index key of an object; it waits until another thread has read the store.
fn key_of_many(_: &ConfigMap) -> Vec<String> {
    let (done, read) = channel();
    std::thread::spawn(move || done.send(STORE.get().map(|store| store.count("default"))));
    let read = read.recv_timeout(Duration::from_secs(10));
    vec![format!("{read:?}")]
}

/// With ten thousand objects this takes a tenth of a second, which each pass would wait on its async thread.
#[test]
fn what_was_listed_is_indexed_while_others_read() {
    let store = STORE.get_or_init(|| Store::new(key_of_many));
    let mut object = ConfigMap::default();
    object.metadata.name = Some("a".to_owned());
    object.metadata.namespace = Some("default".to_owned());
    store.apply(Event::Init);
    store.apply(Event::InitApply(object));
    assert_eq!(store.apply(Event::InitDone).len(), 1);
    assert_eq!(store.find("default", "Ok(Some(0))").len(), 1);
}
