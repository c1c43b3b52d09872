//! The command line, one line a subcommand.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use nico::cli;

/// Turns NixOS machines managed by NIO into Kubernetes clusters.
#[derive(Parser)]
#[command(name = "nico", version, propagate_version = true)]
struct Nico {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the operator until SIGTERM or SIGINT.
    Run(cli::run::RunArgs),
    /// Print the CustomResourceDefinition of KubernetesCluster as YAML.
    Crd,
}

fn main() -> ExitCode {
    let line = Nico::try_parse().unwrap_or_else(|error| cli::refuse(&error));
    match line.command {
        Command::Run(args) => cli::run::main(args),
        Command::Crd => cli::show(cli::crd::print()),
    }
}
