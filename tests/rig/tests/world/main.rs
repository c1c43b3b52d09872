//! The rig judged by itself: NIO's stand-in, machines, the workload and the proxy together on a real API server, with the test in
//! the place of NICO.

#![allow(clippy::expect_used, clippy::panic, missing_docs)]

mod machines;
mod nio;
mod proxy;
mod v1;

use std::time::Duration;

use kube::api::DeleteParams;
use rig::wait::wait_describing;
use rig::world::World;

/// Longer than anything takes that goes well.
const SOON: Duration = Duration::from_secs(10);

/// Deletes a configuration, and waits until it is gone.
async fn remove(world: &World, name: &str) {
    let configurations = world.configurations();
    let deleted = configurations.delete(name, &DeleteParams::default()).await;
    deleted.expect("it can be deleted");
    let gone = || async {
        let found = configurations.get_opt(name).await.ok()?;
        found.is_none().then_some(())
    };
    wait_describing("the configuration is gone", SOON, gone, || world.describe()).await;
}
