//! What NIO v1 alone asks of a roll: its schedule is no bound, its Jobs are deleted or hang, and it may take
//! the place of classic under a living cluster.

use std::time::Duration;

use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams};
use rig::crds::{self, Generation};
use rig::environment::Environment;
use rig::judge::rollout::{Rules, broken_rolls};
use rig::nio::KOPF_FINALIZER;
use rig::wait::wait_describing;
use serde_json::{Value, json};

use crate::common::case::Case;
use crate::common::shown::at_rest;
use crate::common::traffic::RESYNC;
use crate::common::{DEADLINE, listed, nico};
use crate::rolling::{NEW, THREE, bring_up, repository};

const HOUR: Duration = Duration::from_secs(3600);
const DEFAULT_SCHEDULE: &str = "*/30 * * * *";

/// These machines, Ready, under a v1 whose default schedule is not due before the test's end.
async fn ready(control_plane: &[&str], workers: &[&str]) -> Case {
    let case = Case::alone_of(Generation::V1, &nico().args(&RESYNC), |options| {
        options.half_hour = HOUR;
    })
    .await;
    bring_up(case, control_plane, workers, json!({})).await.0
}

/// Waits until every configuration has v1's own schedule again.
async fn schedules_are_given_up(case: &Case) {
    let given_up = || async {
        let found = case
            .world
            .configurations()
            .list(&ListParams::default())
            .await;
        let all = found.ok()?.items.into_iter();
        let mut schedules = all.map(|it| it.data["spec"]["dayTwoSchedule"].clone());
        schedules
            .all(|schedule| schedule == DEFAULT_SCHEDULE)
            .then_some(())
    };
    let what = "every configuration has the default schedule";
    wait_describing(what, DEADLINE, given_up, || async {
        case.proxy.write_lines()
    })
    .await;
}

/// Each is applied at the next minute, and has the default schedule afterwards; a deleted Job loses nothing.
#[tokio::test(flavor = "multi_thread")]
async fn ten_machines_wait_for_no_half_hour_and_pruned_jobs_are_not_missed() {
    let workers = ["w-01", "w-02", "w-03", "w-04", "w-05", "w-06", "w-07"];
    let case = ready(&THREE, &workers).await;
    schedules_are_given_up(&case).await;
    let before = case.roll(repository(NEW)).await;
    let all = [&workers[..], &THREE[..]].concat();
    case.ends_with(before, &all).await;
    schedules_are_given_up(&case).await;
    let settled = case.world.nio().now();
    case.world.nio().prune_jobs().await;
    case.nothing_but(settled, &[]).await;
    let status = case.rolled_out("prod").await;
    assert_eq!(status["controlPlane"]["updated"], 3, "{status}");
    let again = case.roll(repository(crate::rolling::OLD)).await;
    case.ends_with(again, &all).await;
    let rules = Rules::of(vec![before, again]);
    case.finish_rolled(&rules).await;
}

/// It blocks all later runs, and is told of by name.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_hangs_is_named_and_holds_up_the_roll() {
    let case = ready(&THREE, &["w-01"]).await;
    let hangs = |hangs: bool| case.world.nio().set("w-01", |knobs| knobs.hangs = hangs);
    hangs(true);
    let before = case.roll(crate::rolling::hurried(NEW)).await;
    let told = |status: &Value| {
        let conditions = status["conditions"].as_array().into_iter().flatten();
        let mut of_it = conditions.filter(|it| it["reason"] == "BlockedByJob");
        of_it.any(|it| {
            it["message"]
                .as_str()
                .is_some_and(|text| text.contains("w-01-day2-"))
        })
    };
    case.world
        .wait_status("prod", "the Job is named", DEADLINE, told)
        .await;
    case.nothing_but(before, &["w-01"]).await;
    hangs(false);
    case.ends_with(before, &["w-01", "cp-01", "cp-02", "cp-03"])
        .await;
    let rules = Rules::of(vec![before]);
    case.finish_rolled(&rules).await;
}

/// Pause, stop classic, convert the Machines, start v1, unpause: every machine is written once, in order, by the rules of a roll.
/// What classic leaves on its objects is told when they are to go.
#[tokio::test(flavor = "multi_thread")]
async fn v1_takes_the_place_of_classic_under_a_living_cluster() {
    let environment: &'static Environment =
        Box::leak(Box::new(Environment::start(Generation::Classic).await));
    // No resync comes before the test's end: NICO notices the new definitions by itself.
    let mut case = Case::on(environment, &nico().args(&["--resync", "1h"])).await;
    let names = ["cp-01", "cp-02", "cp-03", "w-01"];
    let hosts = case.world.machines_named(&names).await;
    case.cluster("prod", listed(&THREE, &["w-01"])).await;
    case.ready("prod").await;
    case.edit("prod", json!({"paused": true})).await;
    case.told("prod", "Paused", "True", "PausedBySpec").await;
    case.world.nio().stop();
    crds::install_crds(case.world.client(), Generation::V1).await;
    crds::install_children(case.world.client()).await;
    environment.control_plane.restart_controllers().unwrap();
    for (name, host) in names.iter().zip(&hosts) {
        let spec = json!({"host": host.ip().to_string(), "hostname": null, "ipAddress": null,
            "sshKeySecretRef": {"namespace": null}});
        let patch = Patch::Merge(json!({ "spec": spec }));
        let machines = case.world.machines();
        machines
            .patch(name, &PatchParams::default(), &patch)
            .await
            .unwrap();
    }
    let before = case.world.nio().now();
    case.world.replace_nio(Generation::V1);
    let goes_on = json!({"paused": false, "refPolicy": "Follow"});
    case.edit("prod", goes_on).await;
    case.ends_with(before, &["w-01", "cp-01", "cp-02", "cp-03"])
        .await;
    let generation = case.generation("prod").await;
    assert!(at_rest(&case.world.status("prod").await, generation));
    schedules_are_given_up(&case).await;
    let broken = broken_rolls(&case.evidence(), &Rules::of(vec![before]));
    assert_eq!(broken, Vec::<String>::new(), "{}", case.proxy.write_lines());

    case.delete("prod").await;
    let told = |status: &Value| status["conditions"].to_string().contains("OldFinalizer");
    case.world
        .wait_status("prod", "classic's finalizer is told of", DEADLINE, told)
        .await;
    let held = case.configuration("cp-01").await;
    assert_eq!(held.finalizers(), [KOPF_FINALIZER]);
    let force = json!({"metadata": {"annotations": {"nico.homystack.com/force-release": "all"}}});
    case.merge("prod", force).await;
    case.wait_gone("prod").await;
    case.finish().await;
}
