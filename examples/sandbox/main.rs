//! NICO to play with, all of it on this machine: a management API server, a stand-in for NIO, machines with SSH servers, NICO
//! itself as a process under the shipped rights, and an API server for the cluster that the machines make up.
//!
//! This file is the command line and the course of a session; what is made, and how it is taken away again, is in the modules.

mod commands;
mod definitions;
mod existing;
mod home;
mod machines;
mod management;
mod session;
mod story;

use std::error::Error;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use futures::FutureExt;
use nico::cli::run::{self, RunArgs};
use tokio::signal::unix::{SignalKind, signal};

use crate::session::Session;
use crate::story::Clock;

/// Whatever stops a session: a sentence for the person who started it.
type Failure = Box<dyn Error + Send + Sync>;

/// A management cluster with NICO, a stand-in for NIO and machines to play with. Ctrl-C ends it and leaves nothing behind.
#[derive(Parser)]
#[command(
    name = "sandbox",
    override_usage = "cargo run --example sandbox [-- OPTIONS]",
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true
)]
struct Arguments {
    /// Use the cluster of this context of your kubeconfig instead of an API server of the sandbox's own. It gets the definitions of
    /// NIO and NICO and the namespace nico-sandbox, and loses them at the end; one that has NIO or NICO already is left alone
    #[arg(long, value_name = "NAME")]
    context: Option<String>,

    /// Remove from the cluster of --context what a killed sandbox left there
    #[arg(long, requires = "context")]
    clean: bool,

    /// Check the new cluster, print figures and end as soon as it is Ready
    #[arg(long)]
    once: bool,

    /// What NICO logs, as its own --log says it
    #[arg(long, value_name = "FILTER", default_value = "info,nico=debug")]
    log: String,

    #[command(subcommand)]
    nico: Option<Nico>,
}

#[derive(Subcommand)]
enum Nico {
    /// Be NICO: cargo builds no `nico` for an example, so this program starts itself as `sandbox run`.
    #[command(hide = true)]
    Run(Box<RunArgs>),
}

fn main() -> ExitCode {
    let mut arguments = Arguments::parse();
    if let Some(Nico::Run(flags)) = arguments.nico.take() {
        return run::main(*flags);
    }
    match rig::runtime().block_on(sandbox(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn sandbox(arguments: &Arguments) -> Result<(), Failure> {
    let clock = Clock::default();
    if let (Some(context), true) = (&arguments.context, arguments.clean) {
        return existing::clean(&clock, context).await;
    }
    let mut session = Session::new(clock);
    let played = tokio::select! {
        played = AssertUnwindSafe(session.play(arguments)).catch_unwind() => {
            // What was wrong has been printed by the panic.
            played.unwrap_or_else(|_| Err("the sandbox cannot go on".into()))
        }
        told = told_to_stop() => told,
    };
    let ended = tokio::select! {
        ended = session.end() => ended,
        told = told_to_stop() => told,
    };
    played.and(ended)
}

/// Waits for Ctrl-C or SIGTERM.
async fn told_to_stop() -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => pressed?,
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    Ok(())
}
