//! `fullInstall` with NIO v1: the disks of a machine are wiped with its first configuration, and never again.

use kube::api::{DynamicObject, ListParams};
use rig::crds::Generation;
use rig::judge::rollout::Rules;
use rig::wait::wait_describing;
use serde_json::json;

use crate::common::case::Case;
use crate::common::traffic::RESYNC;
use crate::common::{DEADLINE, nico};
use crate::rolling::{NEW, bring_up, repository};

/// The writes of a configuration that set `fullInstall`, in order: the value, and whether it is a quiet one of a confirmed machine.
fn set_by(case: &Case, machine: &str) -> Vec<(bool, bool)> {
    let calls = case.proxy.writes().into_iter();
    let of_it = calls
        .filter(|call| call.resource == "nixosconfigurations" && call.object_name() == machine);
    let done = of_it.filter(|call| call.code.is_some_and(|code| code < 300));
    let set = done.filter_map(|call| {
        let spec = &call.body.as_ref()?["spec"];
        let quiet = call.confirmed.is_some() && spec["additionalFiles"].is_null();
        Some((spec["fullInstall"].as_bool()?, quiet))
    });
    set.collect()
}

fn wipes(case: &Case, machine: &str) -> usize {
    let applies = case.world.nio().applies(machine);
    applies.iter().filter(|it| it.applied.wipes).count()
}

/// Waits until `fullInstall` is false in every configuration.
async fn all_are_reset(case: &Case) {
    let asks = |held: &DynamicObject| held.data["spec"]["fullInstall"] == true;
    let reset = || async {
        let configurations = case.world.configurations();
        let all = configurations.list(&ListParams::default()).await.ok()?;
        (!all.items.iter().any(asks)).then_some(())
    };
    let told = || async { case.proxy.write_lines() };
    wait_describing("fullInstall is reset", DEADLINE, reset, told).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_disks_of_a_machine_are_wiped_once() {
    let case = Case::alone_of(Generation::V1, &nico().args(&RESYNC), |_| ()).await;
    let spec = json!({"fullInstall": true});
    let (case, _hosts) = bring_up(case, &["cp-01"], &["w-01"], spec).await;
    all_are_reset(&case).await;
    let before = case.roll(repository(NEW)).await;
    case.ends_with(before, &["w-01", "cp-01"]).await;
    let _host = case.world.machine("w-02").await;
    let joins = case
        .roll(json!({"dataPlane": {"machines": ["w-01", "w-02"]}}))
        .await;
    case.rolled_out("prod").await;
    all_are_reset(&case).await;
    for machine in ["cp-01", "w-01", "w-02"] {
        assert_eq!(wipes(&case, machine), 1, "{machine}");
        let set = set_by(&case, machine);
        let told = case.proxy.write_lines();
        assert_eq!(
            set[..2],
            [(true, false), (false, true)],
            "{machine}\n{told}"
        );
        assert!(set[1..].iter().all(|(wipes, _)| !wipes), "{set:?}\n{told}");
    }
    let rules = Rules::of(vec![before, joins]);
    case.finish_rolled(&rules).await;
}
