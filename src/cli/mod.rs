//! What a person or a Deployment says to the program, and what it answers.

use std::{
    error::Error,
    io::{self, Write},
    process::ExitCode,
};

pub mod crd;
mod duration;
mod http;
mod kubeconfig;
mod logging;
mod panics;
pub mod run;
mod signals;

/// Prints a text to standard output, or says on standard error why there is none.
#[must_use]
pub fn show<E: Error + 'static>(text: Result<String, E>) -> ExitCode {
    let shown = text.map_err(Box::<dyn Error>::from).and_then(|text| {
        io::stdout()
            .write_all(text.as_bytes())
            .map_err(|error| format!("cannot write to standard output: {error}").into())
    });
    finish(shown)
}

/// The exit code: 1 after one sentence on standard error where something went wrong.
fn finish(result: Result<(), Box<dyn Error>>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
