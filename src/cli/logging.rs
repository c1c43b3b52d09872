//! Logging to stderr: the format, and what is never logged.

use std::{ffi::OsString, io::IsTerminal};

use clap::ValueEnum;
use tracing::{Level, Metadata, Subscriber, error};
use tracing_subscriber::{
    EnvFilter, Layer, filter::filter_fn, fmt, layer::SubscriberExt, registry::LookupSpan,
};

/// Format of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// One line of text.
    Text,
    /// One line of JSON.
    Json,
}

/// Checks a filter and returns its text: clap needs values that can be cloned, and a parsed filter cannot.
pub(super) fn parse_filter(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text)
        .map(|_| text.to_owned())
        .map_err(|error| format!("not a tracing filter such as info or nico=debug: {error}"))
}

/// Starts logging to stderr. `filter` was checked by [`parse_filter`].
///
/// Records of the `log` crate (SSH, TLS) are not collected: at trace level they contain what is sent.
pub(super) fn start(filter: &str, format: LogFormat) {
    let subscriber = tracing_subscriber::registry()
        .with(lines(format))
        .with(EnvFilter::new(filter))
        .with(filter_fn(shows_no_body))
        .with(filter_fn(is_told_once))
        .with(filter_fn(is_no_span_of_the_runtime));
    // Fails only if a subscriber is set already. Then that one receives the lines.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Writes log lines to stderr.
fn lines<S>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let writer = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => writer.boxed(),
        LogFormat::Json => writer.json().boxed(),
    }
}

/// Writes why the program ends to stderr, whatever the filter is: a sentence, or a log line of JSON.
pub(super) fn last_error(message: &str, format: LogFormat) {
    match format {
        LogFormat::Text => eprintln!("error: {message}"),
        LogFormat::Json => {
            let unfiltered = tracing_subscriber::registry().with(lines(format));
            tracing::subscriber::with_default(unfiltered, || error!("{message}"));
        }
    }
}

/// The format that the arguments of a command line ask for that cannot be parsed, or the environment.
pub(super) fn format_asked(
    arguments: impl Iterator<Item = OsString>,
    variable: Option<OsString>,
) -> LogFormat {
    let arguments: Vec<OsString> = arguments.collect();
    let flag = arguments.iter().zip(arguments.iter().skip(1));
    let flag = flag.filter(|(flag, _)| *flag == "--log-format");
    let value = |argument: &OsString| {
        let value = argument.to_str()?.strip_prefix("--log-format=")?;
        Some(OsString::from(value))
    };
    let asked = flag.map(|(_, value)| value.clone()).next();
    let asked = asked.or_else(|| arguments.iter().find_map(value));
    if asked.or(variable).is_some_and(|format| format == "json") {
        LogFormat::Json
    } else {
        LogFormat::Text
    }
}

/// kube's client logs the whole body of a response that it cannot decode, even as a warning. The body could be a Secret.
fn shows_no_body(line: &Metadata<'_>) -> bool {
    line.is_span() || line.target() != "kube_client::client"
}

/// Lines of kube about what NICO tells itself, with the server or the object, and with a pause between two of them: for each request that
/// fails, kube's client logs an error that does not say to which server, and a watch logs each 403. A member of a cluster that is off, or a
/// right that is missing, would cause one every few seconds.
fn is_told_by_nico(target: &str, level: Level) -> bool {
    target == "kube_client::client::builder" && level == Level::ERROR
        || target == "kube_runtime::watcher" && level == Level::WARN
}

fn is_told_once(line: &Metadata<'_>) -> bool {
    line.is_span() || !is_told_by_nico(line.target(), *line.level())
}

/// kube's own span of a pass repeats the cluster and namespace of NICO's span.
fn is_no_span_of_the_runtime(line: &Metadata<'_>) -> bool {
    !line.is_span() || line.target() != "kube_runtime::controller"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_known_of_a_command_line_that_is_wrong() {
        let asked = |line: &str, variable: Option<&str>| {
            let words = line.split(' ').map(OsString::from);
            format_asked(words, variable.map(OsString::from))
        };
        for (line, variable, format) in [
            ("run --log-format json --resync=x", None, LogFormat::Json),
            ("run --wrong --log-format=json", None, LogFormat::Json),
            ("run --wrong", Some("json"), LogFormat::Json),
            (
                "run --log-format=text --wrong",
                Some("json"),
                LogFormat::Text,
            ),
            ("run --log-format=xml", None, LogFormat::Text),
            ("run json --log-format", None, LogFormat::Text),
        ] {
            assert_eq!(asked(line, variable), format, "{line}");
        }
    }

    #[test]
    fn what_nico_tells_itself_is_told_once() {
        for (target, level, told) in [
            ("kube_client::client::builder", Level::ERROR, true),
            ("kube_client::client::builder", Level::DEBUG, false),
            ("kube_runtime::watcher", Level::WARN, true),
            // A defect of kube.
            ("kube_runtime::watcher", Level::ERROR, false),
            ("nico::controller::watch", Level::WARN, false),
        ] {
            assert_eq!(is_told_by_nico(target, level), told, "{target} {level}");
        }
    }

    #[test]
    fn filters_are_checked() {
        for good in ["info", "debug,kube=warn", "nico[reconcile]=trace", "off"] {
            assert_eq!(parse_filter(good), Ok(good.to_owned()));
        }
        assert!(parse_filter("nico=loud").is_err());
    }
}
