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

use logging::LogFormat;

/// Ends the program: prints the help or the version that was asked for, or what is wrong with the command line.
pub fn refuse(error: &clap::Error) -> ! {
    let variable = std::env::var_os("NICO_LOG_FORMAT");
    let format = logging::format_asked(std::env::args_os(), variable);
    if error.use_stderr() && format == LogFormat::Json {
        let message = error.render().to_string();
        let message = message.strip_prefix("error: ").unwrap_or(&message);
        logging::last_error(message.trim_end(), format);
        std::process::exit(error.exit_code());
    }
    error.exit()
}

/// Prints a text to standard output, or the error to standard error.
#[must_use]
pub fn show<E: Error + 'static>(text: Result<String, E>) -> ExitCode {
    let shown = text.map_err(Box::<dyn Error>::from).and_then(|text| {
        io::stdout()
            .write_all(text.as_bytes())
            .map_err(|error| format!("cannot write to standard output: {error}").into())
    });
    finish(shown, LogFormat::Text)
}

/// The exit code. An error is printed to standard error in one sentence; then the code is 1.
fn finish(result: Result<(), Box<dyn Error>>, format: LogFormat) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            logging::last_error(&error.to_string(), format);
            ExitCode::FAILURE
        }
    }
}
