//! When classic NIO processes a configuration: kopf's handlers and timers.

use std::sync::Arc;

use kube::ResourceExt;
use kube::api::DynamicObject;

use super::{KOPF_ANNOTATION, KOPF_FINALIZER, Key, Shared, apply, key_of};

impl Shared {
    /// Runs kopf's timers, beside the handlers.
    pub(super) fn timer(self: &Arc<Self>, object: &DynamicObject) {
        if object.metadata.deletion_timestamp.is_none() && has_finalizer(object) {
            self.spawn_look(&key_of(object));
        }
    }

    /// Whether the watched objects show nothing to do.
    pub(super) fn classic_is_idle(&self, object: &DynamicObject) -> bool {
        apply::handled(object) && self.seems_current(object)
    }

    /// Runs kopf's handlers: first for the finalizer, then for creation, change or deletion, one at a time for each object.
    pub(super) fn handle(self: &Arc<Self>, key: &Key) {
        let object = {
            let mut state = self.state();
            if state.paused {
                return;
            }
            let Some(object) = state.configurations.get(key).cloned() else {
                return;
            };
            let deleted = object.metadata.deletion_timestamp.is_some();
            let idle = if deleted {
                !has_finalizer(&object)
            } else {
                has_finalizer(&object) && apply::handled(&object)
            };
            if idle || !state.handling.insert(key.clone()) {
                return;
            }
            object
        };
        let (shared, key) = (Arc::clone(self), key.clone());
        tokio::spawn(async move {
            if object.metadata.deletion_timestamp.is_some() {
                shared.remove(&key).await;
            } else if has_finalizer(&object) {
                if !object.annotations().contains_key(KOPF_ANNOTATION) {
                    // Each creation starts two applies at once: the handler and the timer's first run.
                    shared.spawn_look(&key);
                }
                if shared.look(&key).await {
                    shared.mark_handled(&key, &object).await;
                }
            } else {
                shared
                    .change_finalizers(&key, |finalizers| {
                        // The cached object may be older than its last read.
                        if !finalizers
                            .iter()
                            .any(|finalizer| finalizer == KOPF_FINALIZER)
                        {
                            finalizers.push(KOPF_FINALIZER.to_owned());
                        }
                    })
                    .await;
            }
            shared.state().handling.remove(&key);
            // Events that arrived while this ran are past, so the newest state is checked again.
            if shared.changed_since(&key, &object) {
                shared.handle(&key);
            }
        });
    }
}

pub(super) fn has_finalizer(object: &DynamicObject) -> bool {
    object
        .finalizers()
        .iter()
        .any(|finalizer| finalizer == KOPF_FINALIZER)
}
