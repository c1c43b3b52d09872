//! What a pass over the largest cluster that the schema takes costs the planner, 99 + 1000 machines, in each state of its life: bytes
//! and allocations, as counts. Times are printed, and nothing is asserted of them. Allocations of all threads count, so this is one test.
//!
//! `cargo test --release --test largest -- --nocapture` shows the times that matter.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "a test"
)]

mod keyless;
mod life;

use std::alloc::System;
use std::hint::black_box;
use std::time::{Duration, Instant};

use nico::plan::Settings;
use nico::plan::assemble::assemble;
use nico::plan::plan;
use nico::plan::status::status;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use life::Life;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What one step takes.
#[derive(Clone, Copy)]
struct Cost {
    time: Duration,
    /// Bytes that were allocated in all.
    bytes: usize,
    allocations: usize,
    /// Bytes that its result holds.
    kept: isize,
}

/// The cost of a step: its shortest time of three, and what the last of them allocated.
fn cost<T>(step: impl Fn() -> T) -> (T, Cost) {
    let mut best = Duration::MAX;
    for _ in 0..2 {
        let began = Instant::now();
        drop(black_box(step()));
        best = best.min(began.elapsed());
    }
    let region = Region::new(ALLOCATOR);
    let began = Instant::now();
    let result = black_box(step());
    let time = best.min(began.elapsed());
    let change = region.change();
    let kept = change.bytes_allocated.cast_signed() - change.bytes_deallocated.cast_signed();
    let cost = Cost {
        time,
        bytes: change.bytes_allocated,
        allocations: change.allocations,
        kept,
    };
    (result, cost)
}

fn show(state: &str, step: &str, cost: Cost) {
    let kib = |bytes: isize| bytes / 1024;
    println!(
        "{state:<34} {step:<10} {:>9.2} ms {:>9} KiB allocated {:>8} times {:>8} KiB kept",
        cost.time.as_secs_f64() * 1000.0,
        kib(cost.bytes.cast_signed()),
        cost.allocations,
        kib(cost.kept),
    );
}

/// Most bytes, and allocations, of one step for each machine.
const MOST_BYTES: usize = 24 * 1024;
const MOST_ALLOCATIONS: usize = 250;
/// Most bytes that are kept of one configuration.
const MOST_KEPT: usize = 12 * 1024;

#[test]
fn a_pass_over_the_largest_cluster() {
    let mut life = Life::new(99, 1000);
    let settings = Settings::default();
    let machines = life.machines();
    let mut too_much = Vec::new();
    for (state, happens) in life::STATES {
        let region = Region::new(ALLOCATOR);
        happens(&mut life);
        let change = region.change();
        if *state == life::HELD {
            let kept = change
                .bytes_allocated
                .saturating_sub(change.bytes_deallocated);
            println!("{} bytes are kept of each configuration", kept / machines);
            if kept > MOST_KEPT * machines {
                too_much.push(format!("{state}: {kept} bytes are kept"));
            }
        }
        let facts = life.facts();
        let (observed, assembling) = cost(|| assemble(&facts).unwrap());
        let (planned, planning) = cost(|| plan(&observed, life.now, &settings));
        let (_, reporting) = cost(|| status(&observed, &planned, None, life.now));
        let steps = [
            ("assemble", assembling),
            ("plan", planning),
            ("status", reporting),
        ];
        for (step, cost) in steps {
            show(state, step, cost);
            if cost.bytes > MOST_BYTES * machines || cost.allocations > MOST_ALLOCATIONS * machines
            {
                let Cost {
                    bytes, allocations, ..
                } = cost;
                too_much.push(format!(
                    "{state}: {step} allocates {bytes} bytes in {allocations} pieces"
                ));
            }
        }
        life.saw(planned, &observed);
    }
    let [(some, of_some), (many, of_many)] = [500, 1000].map(|candidates| {
        let facts = keyless::facts(candidates);
        let (_, assembling) = cost(|| assemble(&facts).unwrap());
        show("candidates without an SSH key", "assemble", assembling);
        (candidates, assembling.allocations)
    });
    if of_many / many > of_some / some * 3 / 2 {
        too_much.push(format!(
            "candidates without an SSH key: {of_some} allocations for {some}, {of_many} for {many}"
        ));
    }
    assert!(too_much.is_empty(), "{too_much:#?}");
}
