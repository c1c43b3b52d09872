//! Everything that an API server and its watches can do to a bring-up, once each: it is Ready in the end, and no rule was broken.

use std::sync::Arc;
use std::time::Duration;

use crate::common::traffic::{Counter, RESYNC, judge, resyncs, settle};
use crate::common::{DEADLINE, five, nico, over_both, three_and_two};
use futures::StreamExt;
use kube::api::{DeleteParams, ListParams};
use rig::crds::Generation;
use rig::proxy::{Call, Effect, Fault, Moment, Proxy};
use rig::wait::{wait_describing, wait_for};
use rig::world::{NicoSetup, RunningNico, World};

over_both![
    on demand:
    every_kind_of_call_meets_bad_answers,
    a_claim_that_hangs_is_given_up,
    caches_that_stand_still_lead_to_nothing_wrong,
    watches_that_expire_are_begun_anew,
    deletions_that_no_watch_shows_are_seen_by_lists,
    nothing_is_written_before_the_first_lists_end,
    it_stops_within_seconds_and_the_next_one_goes_on
];

/// Worlds side by side.
const AT_ONCE: usize = 4;
/// How soon a program that was told to stop has stopped.
const SOON: Duration = Duration::from_secs(10);

const CONFIGURATIONS: &str = "nixosconfigurations";
const WATCHED: [&str; 3] = ["kubernetesclusters", "machines", CONFIGURATIONS];
/// What is watched with NIO v1 besides.
const OF_JOBS: [&str; 4] = ["jobs", "cronjobs", "nixcronjobs", "nixjobs"];

/// Every kind of call of a bring-up: verb, resource, and how the object's name ends.
const KINDS: [(&str, &str, &str); 22] = [
    ("list", "kubernetesclusters", ""),
    ("watch", "kubernetesclusters", ""),
    ("list", "machines", ""),
    ("watch", "machines", ""),
    ("list", CONFIGURATIONS, ""),
    ("watch", CONFIGURATIONS, ""),
    ("get", "kubernetesclusters", ""),
    ("get", "secrets", "-token"),
    ("get", "secrets", "-kubeconfig"),
    ("get", "secrets", "ssh-cp-01"),
    ("get", "configmaps", "-nico"),
    ("get", "configmaps", "-known-hosts"),
    ("patch", "kubernetesclusters", ""),
    ("patch", "kubernetesclusters/status", ""),
    ("create", "configmaps", "-nico"),
    ("create", "configmaps", "-known-hosts"),
    ("patch", "configmaps", "-nico"),
    ("create", "secrets", "-join-token"),
    ("create", "secrets", "-worker-token"),
    ("create", "secrets", "-kubeconfig"),
    ("create", CONFIGURATIONS, ""),
    ("patch", CONFIGURATIONS, ""),
];

/// All kinds of call with this NIO.
fn kinds(generation: Generation) -> Vec<(&'static str, &'static str, &'static str)> {
    let of_jobs = OF_JOBS
        .into_iter()
        .flat_map(|of| [("list", of, ""), ("watch", of, "")]);
    let of_jobs = of_jobs.filter(|_| generation == Generation::V1);
    KINDS.into_iter().chain(of_jobs).collect()
}

fn is(call: &Call, (verb, resource, end): (&str, &str, &str)) -> bool {
    call.verb == verb && call.rule_resource() == resource && call.object_name().ends_with(end)
}

fn setup() -> NicoSetup {
    nico().args(&RESYNC).log("nico=trace,warn")
}

/// A world of five machines, and NICO on its way behind a proxy to which `lay` does something first.
async fn world(
    generation: Generation,
    lay: impl FnOnce(&Proxy),
) -> (World, Proxy, Counter, RunningNico) {
    let world = World::of(generation, |_| ()).await;
    five(&world).await;
    let proxy = world.proxy().await;
    let resyncs = resyncs(&proxy, "prod");
    lay(&proxy);
    let nico = world.nico_unready(&setup(), &proxy).await;
    (world, proxy, resyncs, nico)
}

/// Waits for `Ready`, then for silence, and judges all that was written.
async fn ends_well(world: &World, proxy: &Proxy, resyncs: &Counter, case: &str) {
    println!("{case}");
    let ready = || async {
        let ready = world.condition("prod", "Ready").await;
        (ready["status"] == "True").then_some(())
    };
    let told = || async {
        format!(
            "{case}\n{}\n{}",
            proxy.write_lines(),
            world.describe().await
        )
    };
    wait_describing("Ready", DEADLINE, ready, told).await;
    settle(proxy, resyncs).await;
    judge(world, proxy, case);
}

/// Each kind of call meets one effect, once.
async fn meets(generation: Generation, moment: Moment, effect: Effect) {
    let case = format!("{effect:?} {moment:?}");
    let mut met = Vec::new();
    let lay = |proxy: &Proxy| {
        for kind in kinds(generation) {
            let counter = Counter::on(proxy, move |call| is(call, kind));
            met.push((kind, counter));
        }
        for kind in kinds(generation) {
            // After its answer a watch would be silent for its whole life.
            let moment = if kind.0 == "watch" {
                Moment::Before
            } else {
                moment
            };
            let fault = Fault::on(move |call| is(call, kind), moment, effect.clone());
            proxy.fault(fault.times(1));
        }
    };
    let (world, proxy, resyncs, nico) = world(generation, lay).await;
    world.cluster("prod", three_and_two()).await.unwrap();
    ends_well(&world, &proxy, &resyncs, &case).await;
    assert_eq!(nico.exit_status(), None, "{case}");
    for (kind, counter) in met {
        assert!(counter.get() > 0, "{case}: {kind:?} never came");
    }
}

/// Four bad answers to each kind of call; all sixteen, which takes many minutes, with `NICO_FAULTS=all`.
async fn every_kind_of_call_meets_bad_answers(generation: Generation) {
    use Moment::{After, Before};
    let mut cases = vec![
        (Before, Effect::Status(503)),
        (Before, Effect::Status(409)),
        (After, Effect::Reset),
        (After, Effect::Truncated),
    ];
    if std::env::var_os("NICO_FAULTS").is_some_and(|which| which == "all") {
        let refused = [422, 403, 401, 404, 429, 500, 504];
        cases.extend(refused.map(|code| (Before, Effect::Status(code))));
        cases.extend([
            (After, Effect::Status(500)),
            (After, Effect::Status(504)),
            (Before, Effect::Reset),
            (After, Effect::Html),
            (Before, Effect::Html),
        ]);
    }
    let all = cases.len() * kinds(generation).len();
    futures::stream::iter(cases)
        .map(|(moment, effect)| meets(generation, moment, effect))
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<()>>()
        .await;
    println!("{all} bad answers, each to one call");
}

/// A claim that is never answered holds the pass for as long as a call may take, and no longer.
async fn a_claim_that_hangs_is_given_up(generation: Generation) {
    let lay = |proxy: &Proxy| {
        let hang = Fault::on_verb("create", CONFIGURATIONS, Moment::After, Effect::Hang);
        proxy.fault(hang.times(1));
    };
    let (world, proxy, resyncs, _nico) = world(generation, lay).await;
    world.cluster("prod", three_and_two()).await.unwrap();
    ends_well(&world, &proxy, &resyncs, "a claim that hangs").await;
}

async fn configurations(world: &World) -> usize {
    let list = world.configurations().list(&ListParams::default()).await;
    list.map_or(0, |list| list.items.len())
}

async fn until_there_are(world: &World, proxy: &Proxy, count: usize) {
    let there = || async { (configurations(world).await == count).then_some(()) };
    let told = || async { format!("{}\n{}", proxy.write_lines(), world.describe().await) };
    let what = format!("{count} configurations are there");
    wait_describing(&what, DEADLINE, there, told).await;
}

/// What the watches show stands still while writes go through.
async fn caches_that_stand_still_lead_to_nothing_wrong(generation: Generation) {
    let cases = [&WATCHED[..2], &WATCHED[2..], &WATCHED[..]].map(async |held: &[&str]| {
        let (world, proxy, resyncs, nico) = world(generation, |_| ()).await;
        nico.wait_ready().await;
        world.cluster("prod", three_and_two()).await.unwrap();
        wait_for("the first write", DEADLINE, || async {
            (!proxy.writes().is_empty()).then_some(())
        })
        .await;
        for resource in held {
            proxy.hold(resource, true);
        }
        until_there_are(&world, &proxy, 5).await;
        resyncs
            .more("three resyncs with frozen caches", 3, DEADLINE)
            .await;
        for resource in held {
            proxy.hold(resource, false);
        }
        ends_well(&world, &proxy, &resyncs, &format!("held: {held:?}")).await;
    });
    futures::future::join_all(cases).await;
}

/// Every watch ends with 410 at every step.
async fn watches_that_expire_are_begun_anew(generation: Generation) {
    let (world, proxy, resyncs, nico) = world(generation, |_| ()).await;
    nico.wait_ready().await;
    world.cluster("prod", three_and_two()).await.unwrap();
    let mut ended = 0;
    let ready = || async {
        let ready = world.condition("prod", "Ready").await;
        (ready["status"] == "True").then_some(())
    };
    while ready().await.is_none() && ended < 20 {
        let lists = Counter::on(&proxy, |call| {
            call.verb == "watch" && call.resource == CONFIGURATIONS
        });
        // A watch that is only just being opened misses its end: it is ended again, until another one is opened.
        let expired = || async {
            if lists.get() == 0 {
                for resource in WATCHED {
                    proxy.expire(resource);
                }
            }
            (lists.get() > 0).then_some(())
        };
        wait_for("a new watch", DEADLINE, expired).await;
        ended += 1;
    }
    ends_well(
        &world,
        &proxy,
        &resyncs,
        &format!("{ended} times all watches expired"),
    )
    .await;
}

/// No deletion is ever seen.
async fn deletions_that_no_watch_shows_are_seen_by_lists(generation: Generation) {
    let (world, proxy, resyncs, nico) = world(generation, |_| ()).await;
    nico.wait_ready().await;
    proxy.lose(CONFIGURATIONS, |event| event["type"] == "DELETED");
    world.cluster("prod", three_and_two()).await.unwrap();
    ends_well(&world, &proxy, &resyncs, "no deletion is seen").await;
    world
        .clusters()
        .delete("prod", &DeleteParams::default())
        .await
        .unwrap();
    let gone = || async {
        world
            .clusters()
            .get_opt("prod")
            .await
            .ok()?
            .is_none()
            .then_some(())
    };
    let told = || async { format!("{}\n{}", proxy.write_lines(), world.describe().await) };
    wait_describing("the cluster is gone", DEADLINE, gone, told).await;
    assert_eq!(configurations(&world).await, 0);
}

/// With the lists of machines or configurations still to come, there is nothing to act on.
async fn nothing_is_written_before_the_first_lists_end(generation: Generation) {
    let of_jobs = if generation == Generation::V1 {
        &OF_JOBS[..]
    } else {
        &[]
    };
    let watched = WATCHED[1..].iter().chain(of_jobs);
    let cases = watched.map(async |unlisted| {
        let lay = |proxy: &Proxy| {
            let hang = Fault::on_verb("list", unlisted, Moment::After, Effect::Hang);
            proxy.fault(hang);
        };
        let (world, proxy, resyncs, nico) = world(generation, lay).await;
        world.cluster("prod", three_and_two()).await.unwrap();
        let waits = || async {
            let passes = nico.output().matches("have not ended").count();
            (passes > 5).then_some(())
        };
        let told = || async { nico.output() };
        wait_describing("passes that find no lists", DEADLINE, waits, told).await;
        assert_eq!(
            proxy.writes().len(),
            0,
            "{unlisted}: {}",
            proxy.write_lines()
        );
        assert_ne!(nico.get("/readyz").await.unwrap().0, 200);
        drop(nico);
        proxy.clear_faults();
        drop(resyncs);
        let resyncs = crate::common::traffic::resyncs(&proxy, "prod");
        let _nico = world.nico(&setup(), &proxy).await;
        ends_well(
            &world,
            &proxy,
            &resyncs,
            &format!("{unlisted} unlisted at first"),
        )
        .await;
    });
    futures::future::join_all(cases).await;
}

/// Told to stop in the middle of a pass, at a write.
async fn it_stops_within_seconds_and_the_next_one_goes_on(generation: Generation) {
    let writes = [
        ("create", "secrets"),
        ("create", CONFIGURATIONS),
        ("patch", "configmaps"),
    ];
    let cases = writes.map(async |(verb, resource)| {
        let (world, proxy, resyncs, nico) = world(generation, |_| ()).await;
        nico.wait_ready().await;
        let told = Arc::new(tokio::sync::Notify::new());
        let tell = Arc::clone(&told);
        let call = Effect::Call(Arc::new(move || tell.notify_one()));
        proxy.fault(Fault::on_verb(verb, resource, Moment::After, call).times(1));
        world.cluster("prod", three_and_two()).await.unwrap();
        tokio::time::timeout(DEADLINE, told.notified())
            .await
            .expect("the write comes");
        nico.terminate().await;
        let status = nico.wait_exit(SOON).await;
        assert_eq!(
            status.and_then(|status| status.code()),
            Some(0),
            "{verb} {resource}"
        );
        let _next = world.nico(&setup(), &proxy).await;
        ends_well(
            &world,
            &proxy,
            &resyncs,
            &format!("stopped at {verb} {resource}"),
        )
        .await;
    });
    futures::future::join_all(cases).await;
}
