//! What NIO does from time to time, without an event.

use std::sync::Arc;

use kube::api::DynamicObject;

use super::{Key, Shared, key_of};
use crate::crds::Generation;

/// One tick of so many reads everything, also what no watch shows, such as a Secret that is gone. Each tick would keep the API server of a
/// test run busy with reads.
const THOROUGH: u64 = 6;

impl Shared {
    /// A tick: checks everything again, and retries what failed.
    pub(super) fn tick(self: &Arc<Self>) {
        let (configurations, machines, thorough): (Vec<DynamicObject>, Vec<Key>, bool) = {
            let mut state = self.state();
            state.ticks += 1;
            (
                state.configurations.values().cloned().collect(),
                state.machines.keys().cloned().collect(),
                state.ticks.is_multiple_of(THOROUGH),
            )
        };
        for key in machines {
            self.probe(&key);
        }
        for object in configurations {
            if !thorough && self.is_idle(&object) {
                continue;
            }
            self.react(&key_of(&object));
            if self.options.generation == Generation::Classic {
                self.timer(&object);
            }
        }
    }

    /// Whether the watched objects show nothing to do for a configuration.
    fn is_idle(&self, configuration: &DynamicObject) -> bool {
        configuration.metadata.deletion_timestamp.is_none()
            && match self.options.generation {
                Generation::Classic => self.classic_is_idle(configuration),
                Generation::V1 => self.v1_is_idle(configuration),
            }
    }
}
