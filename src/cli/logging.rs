//! Logging to stderr: the format, and what is never logged.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing::Metadata;
use tracing_subscriber::{EnvFilter, Layer, filter::filter_fn, fmt, layer::SubscriberExt};

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
    let writer = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let lines = match format {
        LogFormat::Text => writer.boxed(),
        LogFormat::Json => writer.json().boxed(),
    };
    let subscriber = tracing_subscriber::registry()
        .with(lines)
        .with(EnvFilter::new(filter))
        .with(filter_fn(shows_no_body))
        .with(filter_fn(is_no_span_of_the_runtime));
    // Fails only if a subscriber is set already. Then that one receives the lines.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// kube's client logs the whole body of a response that it cannot decode, even as a warning. The body could be a Secret.
fn shows_no_body(line: &Metadata<'_>) -> bool {
    line.is_span() || line.target() != "kube_client::client"
}

/// kube's own span of a pass repeats the cluster and namespace of NICO's span.
fn is_no_span_of_the_runtime(line: &Metadata<'_>) -> bool {
    !line.is_span() || line.target() != "kube_runtime::controller"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_checked() {
        for good in ["info", "debug,kube=warn", "nico[reconcile]=trace", "off"] {
            assert_eq!(parse_filter(good), Ok(good.to_owned()));
        }
        assert!(parse_filter("nico=loud").is_err());
    }
}
