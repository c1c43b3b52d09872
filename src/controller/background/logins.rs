//! Limits log-ins to machines, and counts their failures.

use std::sync::Arc;

use crate::controller::metrics::Metrics;
use crate::remote::gate::{Class, Gate, Turn};
use crate::remote::ssh::SshError;

/// The limit for all clusters.
pub(super) struct Logins {
    gate: Gate,
    metrics: Arc<Metrics>,
}

impl Logins {
    /// Log-ins that go through `gate`, with failures counted in `metrics`.
    pub(super) fn new(gate: Gate, metrics: Arc<Metrics>) -> Self {
        Self { gate, metrics }
    }

    /// Waits for the turn of a cluster. A key exchange without a log-in needs a turn too.
    pub(super) async fn enter(&self, namespace: &str, cluster: &str, class: Class) -> Option<Turn> {
        self.gate.enter(namespace, cluster, class).await
    }

    /// Counts a failure.
    pub(super) fn failed(&self, error: &SshError) {
        self.metrics.ssh_failed(error.kind());
    }
}
