//! NIO v1's stand-in, against what was measured of the real program.

use std::time::Duration;

use k8s_openapi::api::batch::v1::{CronJob, Job};
use kube::ResourceExt;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use rig::crds::Generation;
use rig::nio::{Outcome, V1_FINALIZER};
use rig::wait::{wait_describing, wait_for};
use rig::world::{World, condition};
use serde_json::{Value, json};

use crate::{SOON, remove};

/// Its default schedule is due after the test's end.
async fn world() -> World {
    World::of(Generation::V1, |options| {
        options.half_hour = Duration::from_secs(3600);
    })
    .await
}

fn configuration(name: &str, machine: &str, marker: &str) -> DynamicObject {
    let value = json!({
        "apiVersion": "nio.homystack.com/v1alpha1", "kind": "NixosConfiguration", "metadata": {"name": name},
        "spec": {"gitRepo": "https://example.org/flakes.git", "flake": "#any", "onRemoveFlake": "#minimal",
            "machineRef": {"name": machine}, "additionalFiles": files(machine, marker)}
    });
    serde_json::from_value(value).expect("it is an object")
}

fn files(machine: &str, marker: &str) -> Value {
    json!([
        {"path": "sub/text", "valueType": "Inline", "inline": format!("text of {marker}")},
        {"path": "sub/key", "valueType": "SecretRef", "secretRef": {"name": format!("ssh-{machine}"), "key": "ssh-privatekey"}},
        {"path": format!("sub/.nico/{marker}"), "valueType": "Inline", "inline": ""},
    ])
}

async fn create(world: &World, object: &DynamicObject) {
    let created = world
        .configurations()
        .create(&PostParams::default(), object)
        .await;
    created.expect("the configuration is made");
}

async fn edit(world: &World, name: &str, spec: Value) -> i64 {
    let patch = Patch::Merge(json!({ "spec": spec }));
    let patched = world
        .configurations()
        .patch(name, &PatchParams::default(), &patch)
        .await;
    let patched = patched.expect("the configuration can be changed");
    patched.metadata.generation.expect("it has a generation")
}

async fn wait_status(
    world: &World,
    name: &str,
    what: &str,
    pleases: impl Fn(&Value) -> bool,
) -> Value {
    let look = || async {
        let found = world.configurations().get(name).await.ok()?;
        let status = found.data["status"].clone();
        pleases(&status).then_some(status)
    };
    wait_describing(what, SOON, look, || world.describe()).await
}

fn ready(status: &Value) -> bool {
    status["phase"] == "Ready" && condition(status, "Ready")["status"] == "True"
}

async fn jobs(world: &World) -> Vec<Job> {
    let api: Api<Job> = Api::namespaced(world.client().clone(), world.namespace());
    api.list(&ListParams::default())
        .await
        .expect("Jobs can be listed")
        .items
}

fn markers(world: &World, machine: &str) -> Vec<String> {
    let applies = world.nio().applies(machine).into_iter();
    applies
        .filter_map(|attempt| attempt.applied.marker)
        .collect()
}

fn script(job: &Job) -> String {
    let spec = job
        .spec
        .as_ref()
        .and_then(|spec| spec.template.spec.as_ref());
    let containers = spec
        .and_then(|spec| spec.init_containers.as_ref())
        .expect("it has init containers");
    let inject = containers
        .iter()
        .find(|it| it.name == "inject-files")
        .expect("it injects files");
    inject
        .command
        .as_ref()
        .and_then(|command| command.last())
        .cloned()
        .expect("it has a script")
}

#[tokio::test]
async fn v1_claims_to_be_ready_before_it_applies_and_runs_at_its_schedule() {
    let world = world().await;
    world.machine("cp-a").await;
    create(&world, &configuration("cp-a", "cp-a", "m1")).await;
    // The first commit starts a Job at once; what the Machine says waits for one of the CronJob's.
    wait_for("the first apply", SOON, || async {
        (!markers(&world, "cp-a").is_empty()).then_some(())
    })
    .await;
    let status = wait_status(&world, "cp-a", "it converges", |it| {
        it["phase"] == "Converging"
    })
    .await;
    assert_eq!(condition(&status, "Applied")["status"], "False");
    let machine = world.machines().get("cp-a").await.expect("it is there");
    assert_eq!(machine.data["status"], json!({"discoverable": true}));
    let object = world
        .configurations()
        .get("cp-a")
        .await
        .expect("it is there");
    assert_eq!(object.finalizers(), [V1_FINALIZER]);
    assert_eq!(object.data["spec"]["dayTwoSchedule"], "*/30 * * * *");

    edit(&world, "cp-a", json!({"dayTwoSchedule": "* * * * *"})).await;
    wait_status(&world, "cp-a", "it is ready", ready).await;
    wait_for("the Machine tells", SOON, || async {
        let machine = world.machines().get("cp-a").await.ok()?;
        (machine.data["status"]["appliedConfiguration"] == "cp-a").then_some(())
    })
    .await;
    let object = edit(&world, "cp-a", json!({"dayTwoSchedule": null})).await;
    wait_status(&world, "cp-a", "the default is back", |it| {
        it["observedGeneration"] == object
    })
    .await;

    // Ready=True of the new generation, and nothing is applied.
    let before = markers(&world, "cp-a").len();
    let edited = edit(
        &world,
        "cp-a",
        json!({"additionalFiles": files("cp-a", "m2")}),
    )
    .await;
    let status = wait_status(&world, "cp-a", "the edit is observed", |it| {
        it["observedGeneration"] == edited
    })
    .await;
    assert!(ready(&status), "{status}");
    assert_eq!(condition(&status, "Ready")["observedGeneration"], edited);
    let settled = wait_for("no run is left", SOON, || async {
        let ended = |job: &Job| {
            job.status
                .as_ref()
                .is_some_and(|it| it.active.unwrap_or(0) == 0)
        };
        jobs(&world)
            .await
            .iter()
            .all(ended)
            .then(|| markers(&world, "cp-a"))
    })
    .await;
    assert!(
        settled.len() <= before + 1 && settled.iter().all(|it| it == "sub/.nico/m1"),
        "{settled:?}"
    );

    edit(&world, "cp-a", json!({"dayTwoSchedule": "* * * * *"})).await;
    wait_for("the edit is applied", SOON, || async {
        markers(&world, "cp-a")
            .contains(&"sub/.nico/m2".to_owned())
            .then_some(())
    })
    .await;
    let last = world
        .nio()
        .applies("cp-a")
        .pop()
        .expect("it was applied")
        .applied;
    assert_eq!(last.files["sub/text"], b"text of m2");
    assert_eq!(
        last.files["sub/key"],
        world.key().private_pem().into_bytes()
    );

    // A new commit shows before its run has begun, and starts one by itself.
    edit(&world, "cp-a", json!({"dayTwoSchedule": null})).await;
    world.nio().set("cp-a", |knobs| knobs.hangs = true);
    let commit = "a".repeat(40);
    edit(
        &world,
        "cp-a",
        json!({"ref": commit, "additionalFiles": files("cp-a", "m3")}),
    )
    .await;
    wait_status(&world, "cp-a", "the commit shows", |it| {
        it["resolvedRevision"] == *commit
    })
    .await;
    assert!(!markers(&world, "cp-a").contains(&"sub/.nico/m3".to_owned()));
    world.nio().set("cp-a", |knobs| knobs.hangs = false);
    let names = wait_for("the commit's Job", SOON, || async {
        let found = jobs(&world).await;
        let of_it = |job: &&Job| script(job).contains("\"sub/.nico/m3\"");
        found.iter().find(of_it).map(ResourceExt::name_any)
    })
    .await;
    assert!(names.ends_with("-manual"), "{names}");
    owners_are_known_by_uid(&world, "cp-a").await;
}

/// Every Job leads to the configuration.
async fn owners_are_known_by_uid(world: &World, name: &str) {
    let configuration = world.configurations().get(name).await.expect("it is there");
    let crons = rig::crds::cron_resource();
    let crons: Api<DynamicObject> =
        Api::namespaced_with(world.client().clone(), world.namespace(), &crons);
    let nix = crons
        .get(&format!("{name}-day2"))
        .await
        .expect("there is a NixCronJob");
    let cron_jobs: Api<CronJob> = Api::namespaced(world.client().clone(), world.namespace());
    let cron = cron_jobs
        .get(&format!("{name}-day2"))
        .await
        .expect("there is a CronJob");
    assert_eq!(
        Some(&nix.owner_references()[0].uid),
        configuration.uid().as_ref()
    );
    assert_eq!(Some(&cron.owner_references()[0].uid), nix.uid().as_ref());
    for job in jobs(world).await {
        let owner = &job.owner_references()[0];
        let expected = if owner.kind == "CronJob" {
            cron.uid()
        } else {
            nix.uid()
        };
        assert_eq!(Some(&owner.uid), expected.as_ref(), "{}", job.name_any());
    }
}

#[tokio::test]
async fn v1_tells_of_failures_and_of_what_blocks_it() {
    let world = world().await;
    world.machine("cp-b").await;
    let mut object = configuration("cp-b", "cp-b", "m1");
    object.data["spec"]["dayTwoSchedule"] = json!("* * * * *");
    create(&world, &object).await;
    wait_status(&world, "cp-b", "it is ready", ready).await;
    world.nio().set("cp-b", |knobs| knobs.fails = true);
    let status = wait_status(&world, "cp-b", "it is degraded", |it| {
        it["phase"] == "Degraded"
    })
    .await;
    assert_eq!(condition(&status, "Stalled")["status"], "True");
    assert_eq!(condition(&status, "Applied")["status"], "True");
    world.nio().set("cp-b", |knobs| knobs.fails = false);
    let status = wait_status(&world, "cp-b", "it is ready again", ready).await;
    assert_eq!(condition(&status, "Stalled"), &Value::Null);

    // A Job that hangs blocks all later runs.
    world.nio().set("cp-b", |knobs| knobs.hangs = true);
    edit(
        &world,
        "cp-b",
        json!({"additionalFiles": files("cp-b", "m2")}),
    )
    .await;
    let running = |job: &Job| job.status.as_ref().is_some_and(|it| it.active == Some(1));
    wait_for("a Job hangs", SOON, || async {
        jobs(&world).await.iter().any(running).then_some(())
    })
    .await;
    let since = world.nio().now();
    wait_for("four of its minutes", SOON, || async {
        (world.nio().now() > since + Duration::from_secs(2)).then_some(())
    })
    .await;
    assert_eq!(
        jobs(&world).await.iter().filter(|job| running(job)).count(),
        1
    );
    world.nio().set("cp-b", |knobs| knobs.hangs = false);
    wait_for("the edit is applied", SOON, || async {
        markers(&world, "cp-b")
            .contains(&"sub/.nico/m2".to_owned())
            .then_some(())
    })
    .await;

    // What has ended can be deleted, and nobody makes it again.
    edit(&world, "cp-b", json!({"dayTwoSchedule": null})).await;
    wait_for("all Jobs are pruned", SOON, || async {
        world.nio().prune_jobs().await;
        jobs(&world).await.is_empty().then_some(())
    })
    .await;
    wait_status(&world, "cp-b", "it is ready", ready).await;

    world.nio().set("cp-b", |knobs| knobs.unreachable = true);
    let status = wait_status(&world, "cp-b", "it is blocked", |it| {
        it["phase"] == "Blocked"
    })
    .await;
    assert_eq!(condition(&status, "Ready")["status"], "False");
    let machine = world.machines().get("cp-b").await.expect("it is there");
    assert_eq!(machine.data["status"].get("discoverable"), None);
}

#[tokio::test]
async fn v1_gives_a_machine_to_the_oldest_configuration_and_tries_a_removal_three_times() {
    let world = world().await;
    world.machine("cp-c").await;
    let mut first = configuration("first", "cp-c", "m1");
    first.data["spec"]["dayTwoSchedule"] = json!("* * * * *");
    create(&world, &first).await;
    wait_status(&world, "first", "it is ready", ready).await;
    // Creation times are whole seconds.
    let since = world.nio().now();
    wait_for("the next second", SOON, || async {
        (world.nio().now() > since + Duration::from_secs(1)).then_some(())
    })
    .await;
    create(&world, &configuration("a-second", "cp-c", "m1")).await;
    let status = wait_status(&world, "a-second", "it is blocked", |it| {
        it["phase"] == "Blocked"
    })
    .await;
    assert_eq!(condition(&status, "Stalled")["reason"], "MachineInUse");
    // Its removal leaves the Machine to the other.
    remove(&world, "a-second").await;
    let machine = world.machines().get("cp-c").await.expect("it is there");
    assert_eq!(machine.data["status"]["appliedConfiguration"], "first");
    world.nio().set("cp-c", |knobs| knobs.unreachable = true);
    let before = world.nio().history().len();
    remove(&world, "first").await;
    let history = world.nio().history();
    let failed = history[before..]
        .iter()
        .filter(|it| it.applied.removal && it.outcome == Outcome::Failure);
    assert_eq!(failed.count(), 3);
    let machine = world.machines().get("cp-c").await.expect("it is there");
    assert_eq!(machine.data["status"].get("hasConfiguration"), None);
}

#[tokio::test]
async fn v1_installs_once() {
    let world = world().await;
    world.machine("cp-d").await;
    let mut object = configuration("cp-d", "cp-d", "m1");
    object.data["spec"]["dayTwoSchedule"] = json!("* * * * *");
    object.data["spec"]["fullInstall"] = json!(true);
    create(&world, &object).await;
    let status = wait_status(&world, "cp-d", "it is ready", ready).await;
    assert_eq!(status["fullDiskInstallCompleted"], true);
    let crons = rig::crds::job_resource();
    let nix: Api<DynamicObject> =
        Api::namespaced_with(world.client().clone(), world.namespace(), &crons);
    assert_eq!(
        nix.list(&ListParams::default())
            .await
            .expect("they can be listed")
            .items
            .len(),
        0
    );
    edit(
        &world,
        "cp-d",
        json!({"additionalFiles": files("cp-d", "m2")}),
    )
    .await;
    wait_for("the edit is applied", SOON, || async {
        markers(&world, "cp-d")
            .contains(&"sub/.nico/m2".to_owned())
            .then_some(())
    })
    .await;
    let spec = nix
        .list(&ListParams::default())
        .await
        .expect("they can be listed");
    assert_eq!(spec.items.len(), 0, "no second install");
}
