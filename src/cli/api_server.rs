//! The first contact with the API server, and what went wrong with it.

use std::{error::Error, ops::RangeInclusive, time::Duration};

use kube::{Client, client::AuthError};
use tokio::time::sleep;
use tracing::{info, warn};

use crate::controller::readiness::{Readiness, mark};

/// First and longest pause between two attempts to reach the API server at start.
const PROBE_PAUSES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30);

/// Retries until the API server answers. It may start at the same time as NICO, or be away for a while; that is no reason to exit.
pub(super) async fn wait_for_api_server(client: &Client, server: &str, health: &Readiness) {
    let mut pause = *PROBE_PAUSES.start();
    loop {
        let why = match client.apiserver_version().await {
            Ok(version) => {
                info!(server, version = version.git_version, "API server reached");
                health.set(mark::API_SERVER, true);
                return;
            }
            Err(error) => causes(&error),
        };
        warn!(
            "cannot reach the API server {server}: {why}; is it up, and is it the one that KUBECONFIG should name? Next try in {} s",
            pause.as_secs()
        );
        sleep(pause).await;
        pause = (pause * 2).min(*PROBE_PAUSES.end());
    }
}

/// An error with all its causes. The output of a credential plugin is left out: it may contain a token.
pub(super) fn causes(error: &(dyn Error + 'static)) -> String {
    let mut messages: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<AuthError>() {
            return "the user of the kubeconfig cannot log in: its token file or credential plugin failed"
                .to_owned();
        }
        let text = error.to_string();
        // Some messages already end with the message of their cause.
        if !messages.last().is_some_and(|last| last.ends_with(&text)) {
            messages.push(text);
        }
        next = error.source();
    }
    messages.join(": ")
}

/// Host and port only: other parts of a URL may be secret.
pub(super) fn host_and_port(url: &hyper::Uri) -> String {
    let host = url.host().unwrap_or_default();
    url.port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}
