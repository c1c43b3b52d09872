//! NICO killed before and after every single write of a bring-up: the next one takes it up.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::shown::at_rest;
use crate::common::traffic::{RESYNC, Write, judge, kinds, named, resyncs, settle, significant};
use crate::common::{DEADLINE, five, nico, over_both, three_and_two};
use futures::StreamExt;
use kube::api::{Patch, PatchParams};
use rig::crds::Generation;
use rig::judge::rollout::{Evidence, Rules, broken_rolls};
use rig::process::KillSwitch;
use rig::proxy::{Call, Effect, Fault, Moment, Proxy};
use rig::wait::wait_describing;
use rig::world::{NicoSetup, RunningNico, World};
use serde_json::json;

/// Worlds side by side.
const AT_ONCE: usize = 6;

fn setup() -> NicoSetup {
    nico().args(&RESYNC)
}

/// One life is ended at `write`; the next one goes on.
struct Case {
    write: Write,
    moment: Moment,
}

impl Case {
    fn all(writes: &[Write]) -> Vec<Self> {
        let both = [Moment::Before, Moment::After];
        let cases = writes.iter().flat_map(|write| {
            both.map(|moment| Self {
                write: write.clone(),
                moment,
            })
        });
        cases.collect()
    }

    fn name(&self) -> String {
        let Write {
            verb,
            resource,
            name,
            nth,
        } = &self.write;
        format!("{:?} {verb} {resource} {name} #{nth}", self.moment)
    }

    /// How often the status is written, and whether host keys are added to the map, depends on what comes together; every other
    /// write must have been met.
    fn may_be_missed(&self) -> bool {
        adds_host_key(&self.write) || self.write.resource.ends_with("/status") && self.write.nth > 1
    }
}

/// The first host key makes the map. Those of machines that are confirmed later are added to it.
fn adds_host_key(write: &Write) -> bool {
    write.verb == "patch" && write.name.ends_with("-known-hosts")
}

/// Waits for the end of `nico` by the switch, or for `reached`; then starts another. True: it was killed.
async fn next_life<T>(
    world: &World,
    proxy: &Proxy,
    switch: &KillSwitch,
    first: RunningNico,
    reached: impl AsyncFn() -> Option<T>,
) -> (bool, RunningNico) {
    let ended = || async {
        let over = first.exit_status().is_some();
        if over {
            return Some(true);
        }
        // The goal may be reached by the very write at which the kill is under way.
        let reached = reached().await.is_some();
        let met = proxy.writes().iter().any(|call| call.faulted);
        (reached && !met && !switch.pressed()).then_some(false)
    };
    let told = || async { format!("{}\n{}", proxy.write_lines(), world.describe().await) };
    if wait_describing("the kill or the goal", DEADLINE, ended, told).await {
        drop(first);
        (true, world.nico(&setup(), proxy).await)
    } else {
        (false, first)
    }
}

async fn ready(world: &World) -> Option<()> {
    let ready = world.condition("prod", "Ready").await;
    (ready["status"] == "True").then_some(())
}

/// A bring-up, with one life ended on the way or none. Returns its writes, and whether the kill was met.
async fn bring_up(generation: Generation, case: Option<&Case>) -> (Vec<Call>, bool) {
    let name = case.map_or_else(|| "a clean run".to_owned(), Case::name);
    // No default schedule of v1 comes before NICO asks for runs.
    let world = World::of(generation, |options| options.half_hour = DEADLINE).await;
    five(&world).await;
    let proxy = world.proxy().await;
    let resyncs = resyncs(&proxy, "prod");
    let switch = KillSwitch::default();
    if let Some(case) = case {
        proxy.fault(case.write.fault(case.moment, Effect::Kill(switch.clone())));
    }
    let first = world.nico(&setup(), &proxy).await;
    switch.arm(&first);
    world.cluster("prod", three_and_two()).await.unwrap();
    // Some writes come after it is Ready: only when all is quiet is it certain that the kill is not met any more.
    let quiet = Mutex::new((0, 0));
    let at_rest = async || {
        ready(&world).await?;
        let (writes, looks) = (proxy.writes().len(), resyncs.get());
        let mut quiet = quiet.lock().unwrap();
        if quiet.0 != writes {
            *quiet = (writes, looks);
        }
        (looks >= quiet.1 + 3).then_some(())
    };
    let (killed, nico) = next_life(&world, &proxy, &switch, first, at_rest).await;
    world.wait_ready("prod", DEADLINE).await;
    settle(&proxy, &resyncs).await;
    judge(&world, &proxy, &name);
    assert!(
        proxy.forbidden().is_empty(),
        "{name}: {:?}",
        proxy.forbidden()
    );
    assert_eq!(nico.exit_status(), None, "{name}");
    let missed = case.is_some_and(|case| !killed && !case.may_be_missed());
    assert!(!missed, "{name} was never met\n{}", proxy.write_lines());
    (proxy.writes(), killed)
}

/// Beside NIO v1 each bring-up waits for runs of a schedule: the first write of each kind, and with `NICO_KILLS=all` every one.
async fn a_bring_up_survives_a_kill_at_every_write(generation: Generation) {
    let (clean, _) = bring_up(generation, None).await;
    let writes = named(&clean);
    let status = writes
        .iter()
        .filter(|write| write.resource.ends_with("/status"))
        .count();
    let pins = writes.iter().filter(|write| adds_host_key(write)).count();
    assert!(pins <= 2, "{:#?}", kinds(&clean));
    // With v1 a machine's schedule is set and reset besides.
    let marks = match generation {
        Generation::Classic => 5,
        Generation::V1 => 15,
    };
    assert_eq!(
        writes.len() - status - pins,
        1 + 2 + 2 + 5 + marks + 1 + 1,
        "{:#?}",
        kinds(&clean)
    );
    let significant = significant(&clean);
    assert!(
        (2..=5).contains(&significant),
        "{significant} status writes of weight, {status} in all"
    );
    let mut cases = Case::all(&writes);
    assert_eq!(cases.len(), 2 * writes.len());
    let all = std::env::var("NICO_KILLS").is_ok_and(|kills| kills == "all");
    if generation == Generation::V1 && !all {
        let mut seen = BTreeSet::new();
        cases.retain(|it| {
            let Write { verb, resource, .. } = &it.write;
            let moment = format!("{:?}", it.moment);
            seen.insert((verb.clone(), resource.clone(), moment))
        });
    }
    let killed = futures::stream::iter(&cases)
        .map(async |case| bring_up(generation, Some(case)).await.1)
        .buffer_unordered(AT_ONCE)
        .filter(|killed| std::future::ready(*killed))
        .count()
        .await;
    println!(
        "{} writes of a bring-up of 3+2, {} of {} kills met, each time Ready in the end",
        writes.len(),
        killed,
        cases.len()
    );
}

over_both![
    a_bring_up_survives_a_kill_at_every_write,
    a_bring_up_goes_on_with_two_writes_a_life_and_a_roll_with_four,
];

/// Each life commits so many writes and is killed before it learns of the last. (With one it could not claim anything: the rules
/// have a new id written before the first claim, and a life that finds an id and no configuration cannot know that nobody used it.
/// In a roll, a life takes an entry, writes under it, and reports.)
async fn a_bring_up_goes_on_with_two_writes_a_life_and_a_roll_with_four(generation: Generation) {
    let world = World::of(generation, |_| ()).await;
    five(&world).await;
    let proxy = world.proxy().await;
    world.cluster("prod", three_and_two()).await.unwrap();
    let lives = lives_of(&world, &proxy, 2, async || ready(&world).await).await;
    judge(&world, &proxy, "two writes a life");
    println!("two writes a life: Ready after {lives} lives");
    let roll = world.nio().now();
    let edit = Patch::Merge(json!({"spec": {"gitRepo": "https://git.example.com/new.git"}}));
    let edited = world
        .clusters()
        .patch("prod", &PatchParams::default(), &edit)
        .await
        .unwrap();
    let generation = edited.metadata.generation;
    let rolled = async || at_rest(&world.status("prod").await, generation).then_some(());
    let lives = lives_of(&world, &proxy, 4, rolled).await;
    judge(&world, &proxy, "four writes a life");
    let rules = Rules::of(vec![roll]);
    let broken = broken_rolls(&Evidence::of(world.nio(), &[&proxy]), &rules);
    assert_eq!(broken, Vec::<String>::new(), "{}", proxy.write_lines());
    println!("four writes a life: rolled out after {lives} lives");
}

/// Starts NICO again and again, each time for so many writes, until one life sees what is wanted `reached`, and then peace. Returns
/// how many there were.
async fn lives_of(
    world: &World,
    proxy: &Proxy,
    writes: usize,
    reached: impl AsyncFn() -> Option<()>,
) -> usize {
    let mut lives = 0;
    loop {
        let switch = KillSwitch::default();
        let kill = Effect::Kill(switch.clone());
        proxy.clear_faults();
        let written = AtomicUsize::new(0);
        let last = move |call: &Call| {
            call.is_write() && written.fetch_add(1, Ordering::SeqCst) + 1 == writes
        };
        proxy.fault(Fault::on(last, Moment::After, kill));
        let nico = world.nico_unready(&setup(), proxy).await;
        switch.arm(&nico);
        lives += 1;
        if resyncs_in_peace(world, proxy, &nico, &reached).await {
            return lives;
        }
        assert!(lives < 60, "no end is seen\n{}", proxy.write_lines());
    }
}

/// Waits until this life has been killed (false), or this is reached and three resyncs asked for no write (true).
async fn resyncs_in_peace(
    world: &World,
    proxy: &Proxy,
    nico: &RunningNico,
    reached: &impl AsyncFn() -> Option<()>,
) -> bool {
    let counter = resyncs(proxy, "prod");
    let over = || async {
        if nico.exit_status().is_some() {
            return Some(false);
        }
        (reached().await.is_some() && counter.get() > 3).then_some(true)
    };
    let told = || async { format!("{}\n{}", proxy.write_lines(), world.describe().await) };
    wait_describing("a kill, or peace", DEADLINE, over, told).await
}
