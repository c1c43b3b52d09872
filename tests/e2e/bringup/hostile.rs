//! Objects that no decoder likes, in another tenant's namespace: they blind nobody.

use rig::crds::Generation;
use rig::environment::Environment;
use serde_json::json;

use crate::common::case::Case;
use crate::common::deep::deep_objects;
use crate::common::traffic::RESYNC;
use crate::common::{DEADLINE, listed, nico};

#[tokio::test(flavor = "multi_thread")]
async fn deep_objects_of_one_tenant_blind_nico_for_nobody() {
    let environment: &'static Environment =
        Box::leak(Box::new(Environment::start(Generation::Classic).await));
    let setup = nico().args(&RESYNC).everywhere();
    let case = Case::on(environment, &setup).await;
    let client = case.world.client().clone();
    case.world.machines_named(&["cp-01", "w-01"]).await;
    // While the watches run.
    deep_objects(&client, "default", "first").await;
    let spec = listed(&["cp-01"], &[]);
    case.cluster("prod", spec).await;
    case.ready("prod").await;
    // And while there are none.
    let Case { world, proxy, nico } = case;
    nico.kill();
    nico.wait_exit(std::time::Duration::from_secs(15)).await;
    deep_objects(&client, "default", "second").await;
    let nico = world.nico(&setup, &proxy).await;
    let case = Case { world, proxy, nico };
    let spec = json!({ "dataPlane": { "machines": ["w-01"] } });
    case.edit("prod", spec).await;
    case.world
        .wait_status("prod", "a worker more", DEADLINE, |status| {
            status["dataPlane"]["ready"] == 1
        })
        .await;
    case.ready("prod").await;
    case.delete("prod").await;
    case.wait_gone("prod").await;
    case.finish().await;
}
