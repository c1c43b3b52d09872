//! The API server goes away and comes back in the middle of a bring-up. A test binary of its own, since all tests
//! of a binary share the API server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "e2e/common/mod.rs"]
mod common;

use common::traffic::{RESYNC, judge, resyncs, settle};
use common::{DEADLINE, five, nico, three_and_two};
use rig::wait::wait_for;
use rig::world::World;

/// After how many writes it goes away: in the claims, and while NIO applies.
const AT: [usize; 2] = [7, 13];

#[tokio::test(flavor = "multi_thread")]
async fn a_bring_up_outlives_restarts_of_the_api_server() {
    let world = World::new().await;
    five(&world).await;
    let proxy = world.proxy().await;
    let resyncs = resyncs(&proxy, "prod");
    let nico = world.nico(&nico().args(&RESYNC), &proxy).await;
    world.cluster("prod", three_and_two()).await.unwrap();
    let server = &world.environment().control_plane;
    for writes in AT {
        let enough = || async { (proxy.writes().len() >= writes).then_some(()) };
        wait_for("the writes before it goes away", DEADLINE, enough).await;
        proxy.server_starts(true);
        server.stop_api_server();
        server
            .start_api_server()
            .await
            .expect("the API server starts again");
        proxy.server_starts(false);
    }
    world.wait_ready("prod", DEADLINE).await;
    settle(&proxy, &resyncs).await;
    judge(&world, &proxy, "an API server that was restarted twice");
    assert_eq!(nico.exit_status(), None);
    println!("Ready after two restarts of the API server");
}
