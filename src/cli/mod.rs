//! The command line: flags, output and exit codes.

use std::{
    error::Error,
    io::{self, Write},
    process::ExitCode,
};

mod api_server;
pub mod crd;
mod duration;
mod handover;
mod http;
mod kubeconfig;
mod logging;
mod panics;
pub mod run;
mod signals;

/// Prints a text to standard output, or the error to standard error.
#[must_use]
pub fn show<E: Error + 'static>(text: Result<String, E>) -> ExitCode {
    let shown = text.map_err(Box::<dyn Error>::from).and_then(|text| {
        io::stdout()
            .write_all(text.as_bytes())
            .map_err(|error| format!("cannot write to standard output: {error}").into())
    });
    finish(shown)
}

/// The exit code. An error is printed to standard error in one sentence; then the code is 1.
fn finish(result: Result<(), Box<dyn Error>>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
