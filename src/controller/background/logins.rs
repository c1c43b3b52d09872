//! Log-ins to machines: when each has its turn, and how many fail.

use std::sync::Arc;

use crate::controller::gate::{Class, Gate, Turn};
use crate::controller::metrics::Metrics;
use crate::remote::ssh::SshError;

/// The log-ins for all clusters.
pub(super) struct Logins {
    gate: Gate,
    metrics: Arc<Metrics>,
}

impl Logins {
    /// Log-ins that go through this gate, and are counted there.
    pub(super) fn new(gate: Gate, metrics: Arc<Metrics>) -> Self {
        Self { gate, metrics }
    }

    /// Waits for the turn of a cluster. A key exchange alone counts as a log-in.
    pub(super) async fn enter(&self, namespace: &str, cluster: &str, class: Class) -> Option<Turn> {
        self.gate.enter(namespace, cluster, class).await
    }

    /// One failed.
    pub(super) fn failed(&self, error: &SshError) {
        self.metrics.ssh_failed(error.kind());
    }
}
