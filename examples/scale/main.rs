//! What NICO costs as clusters, machines and namespaces grow in number: a real control plane, a stand-in for NIO, NICO as a process
//! under the shipped rights, and beside it a bare client that makes the same writes. Counts and ratios, and which goals were met.
//!
//! Run it with `cargo run --release --example scale -- --help`.

mod bare;
mod clusters;
mod nio;
mod parts;
mod report;
mod site;
mod usage;

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use nico::cli::run::{self, RunArgs};

use crate::parts::{bring_up, free_machines, large, namespaces};
use crate::report::Report;
use crate::site::Scene;

/// Whatever stops a measurement: a sentence for the person who started it.
type Failure = Box<dyn Error + Send + Sync>;

/// Measures NICO beside a bare client that makes the same writes. Without a part it measures all of them.
#[derive(Parser)]
#[command(
    name = "scale",
    override_usage = "cargo run --release --example scale [-- [--small] [PART]]",
    disable_help_subcommand = true
)]
struct Arguments {
    /// Few clusters and machines, for a quick look
    #[arg(long)]
    small: bool,

    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Subcommand)]
enum Part {
    /// Be NICO: cargo builds no `nico` for an example, so this program starts itself as `scale run`
    #[command(hide = true)]
    Run(Box<RunArgs>),
    /// So many clusters of 3+2 at once, in a namespace each: their bring-up beside the bare client, a restart, at rest, their deletion
    BringUp {
        /// Numbers of clusters [default: 10 100 400]
        clusters: Vec<usize>,
    },
    /// One cluster in a namespace with so many free machines
    FreeMachines {
        /// Numbers of free machines [default: 10 10000]
        machines: Vec<usize>,
    },
    /// One cluster of so many machines
    Large {
        /// Control plane machines and workers [default: 99 1000]
        machines: Vec<usize>,
    },
    /// So many clusters in one namespace, and in a namespace each
    Namespaces {
        /// The number of clusters [default: 100]
        clusters: Option<usize>,
    },
}

fn main() -> ExitCode {
    let mut arguments = Arguments::parse();
    if let Some(Part::Run(flags)) = arguments.part.take_if(|part| matches!(part, Part::Run(_))) {
        return run::main(*flags);
    }
    match rig::runtime().block_on(measure(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(arguments: &Arguments) -> Result<(), Failure> {
    let small = arguments.small;
    let or = |given: &[usize], few: &[usize], full: &[usize]| match (given, small) {
        ([], true) => few.to_vec(),
        ([], false) => full.to_vec(),
        (given, _) => given.to_vec(),
    };
    let all = arguments.part.is_none();
    let scene = Scene::start().await?;
    let mut report = Report::default();
    let part = arguments.part.as_ref();
    if let Some(clusters) = match part {
        Some(Part::BringUp { clusters }) => Some(clusters.as_slice()),
        _ => all.then_some(&[][..]),
    } {
        let numbers = or(clusters, &[4, 20], &[10, 100, 400]);
        bring_up::measure(&scene, &numbers, &mut report).await?;
    }
    if let Some(machines) = match part {
        Some(Part::FreeMachines { machines }) => Some(machines.as_slice()),
        _ => all.then_some(&[][..]),
    } {
        let numbers = or(machines, &[10, 500], &[10, 10_000]);
        free_machines::measure(&scene, &numbers, &mut report).await?;
    }
    if let Some(machines) = match part {
        Some(Part::Large { machines }) => Some(machines.as_slice()),
        _ => all.then_some(&[][..]),
    } {
        let numbers = or(machines, &[9, 60], &[99, 1000]);
        let workers = numbers.get(1).copied().unwrap_or_default();
        large::measure(&scene, numbers[0], workers, &mut report).await?;
    }
    if let Some(clusters) = match part {
        Some(Part::Namespaces { clusters }) => Some(*clusters),
        _ => all.then_some(None),
    } {
        let clusters = clusters.unwrap_or(if small { 10 } else { 100 });
        namespaces::measure(&scene, clusters, &mut report).await?;
    }
    report.conclude();
    Ok(())
}
