//! Replicas whose clocks differ by an hour.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use jiff::{SignedDuration, Timestamp};
use rig::judge::rollout::Rules;
use rig::scratch::Scratch;
use rig::tools;
use rig::world::World;
use serde_json::json;

use super::changes::kill_after;
use super::{Replica, edit, judge, leases, next_holder, settled};
use crate::common::{five, three_and_two};

/// A library that puts the clock of a program an hour ahead, as NICO reads it.
const AHEAD: &str = "
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
int clock_gettime(clockid_t clock, struct timespec *time) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, \"clock_gettime\");
  int result = real(clock, time);
  if (!result && clock == CLOCK_REALTIME) time->tv_sec += 3600;
  return result;
}
";

/// A program that is NICO with its clock an hour ahead; `None` where no compiler is installed.
fn nico_ahead(scratch: &Scratch) -> Option<std::path::PathBuf> {
    let compiler = tools::on_path("clocks that differ", "cc")?;
    let [source, library, program] =
        ["ahead.c", "ahead.so", "nico"].map(|name| scratch.path().join(name));
    fs::write(&source, AHEAD).unwrap();
    let mut compile = Command::new(compiler);
    compile
        .args(["-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(&source);
    assert!(compile.arg("-ldl").status().unwrap().success());
    let nico = env!("CARGO_BIN_EXE_nico");
    let line = format!(
        "#!/bin/sh\nLD_PRELOAD={} exec {nico} \"$@\"\n",
        library.display()
    );
    fs::write(&program, line).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    Some(program)
}

/// How far the clock of the Lease's holder is ahead.
async fn ahead(world: &World) -> SignedDuration {
    let lease = leases(world).get("nico-leader").await.unwrap();
    let renewed = lease.spec.unwrap().renew_time.unwrap().0;
    renewed.duration_since(Timestamp::now())
}

/// The one ahead founds the cluster and begins a roll, in which it is killed; one that is right ends it and begins another, and so on.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_whose_clocks_differ_by_an_hour_follow_each_other_in_mid_rollout() {
    let scratch = Scratch::new("clock");
    let Some(program) = nico_ahead(&scratch) else {
        return;
    };
    let world = World::new().await;
    five(&world).await;
    let start_ahead = || Replica::start_as(&world, &program);
    let mut replicas = vec![start_ahead().await];
    let (mut leader, _) = next_holder(&world, None).await;
    let half_an_hour = SignedDuration::from_mins(30);
    assert!(ahead(&world).await > half_an_hour);
    let created = world.cluster("prod", three_and_two()).await.unwrap();
    settled(&world, created.metadata.generation).await;

    let mut rolls = Vec::new();
    for is_ahead in [false, true, false] {
        replicas.push(if is_ahead {
            start_ahead().await
        } else {
            Replica::start(&world).await
        });
        let [.., leading, _] = &replicas[..] else {
            panic!("two replicas run");
        };
        kill_after(leading, |call| {
            let body = call.body.as_ref();
            call.verb == "patch" && body.is_some_and(|it| it["spec"]["additionalFiles"].is_array())
        });
        rolls.push(world.nio().now());
        let repository = format!("https://git.example.com/{}.git", rolls.len());
        let generation = edit(&world, json!({ "gitRepo": repository })).await;
        assert_eq!(leading.ends().await, None, "it is killed");
        let (next, took) = next_holder(&world, Some(&leader)).await;
        println!("taken over after {took:?}");
        leader = next;
        assert_eq!(ahead(&world).await > half_an_hour, is_ahead);
        settled(&world, generation).await;
    }
    judge(&world, &replicas, Some(Rules::of(rolls)));
}
