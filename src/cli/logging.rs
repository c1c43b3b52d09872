//! Where log lines go (stderr), in which form, and what never becomes one.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing::Metadata;
use tracing_subscriber::{EnvFilter, Layer, filter::filter_fn, fmt, layer::SubscriberExt};

/// Form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// One line of text.
    Text,
    /// One line of JSON.
    Json,
}

/// Checks a filter, and keeps its text: a parsed one cannot be cloned as clap asks.
pub(super) fn parse_filter(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text)
        .map(|_| text.to_owned())
        .map_err(|error| format!("not a tracing filter such as info or nico=debug: {error}"))
}

/// Starts logging to stderr. `filter` was checked by [`parse_filter`].
///
/// Records of the `log` crate (SSH, TLS) are not taken in: at their finest they show what is on the wire.
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
    // Fails only where a subscriber is set already, and then that one gets the lines.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// kube's client logs the whole text of an answer that it cannot read, also as a warning; a Secret's would be in it.
fn shows_no_body(line: &Metadata<'_>) -> bool {
    line.is_span() || line.target() != "kube_client::client"
}

/// kube's own span of a pass says what NICO's says: a line bears cluster and namespace once.
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
