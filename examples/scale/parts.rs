//! The parts of the measurement, and what they share.

pub(crate) mod bring_up;
pub(crate) mod free_machines;
pub(crate) mod large;
pub(crate) mod namespaces;

use std::time::Duration;

use serde_json::{Value, json};

/// How long a bring-up or a deletion may take: so much, and so much for each machine.
pub(crate) fn deadline(machines: usize) -> Duration {
    Duration::from_secs(120)
        + Duration::from_millis(500) * u32::try_from(machines).unwrap_or(u32::MAX)
}

/// The clusters of a measurement, as (namespace, name): in a namespace each, or all in one.
pub(crate) fn names(clusters: usize, one_namespace: bool) -> Vec<(String, String)> {
    let namespace = |n| {
        if one_namespace {
            "all".to_owned()
        } else {
            format!("ns-{n:04}")
        }
    };
    (0..clusters)
        .map(|n| (namespace(n), format!("cluster-{n:04}")))
        .collect()
}

/// The machines of a cluster of 3+2, as (namespace, name).
pub(crate) fn five(namespace: &str, cluster: &str) -> Vec<(String, String)> {
    let (control_plane, workers) = machines_of(cluster, 3, 2);
    control_plane
        .into_iter()
        .chain(workers)
        .map(|name| (namespace.to_owned(), name))
        .collect()
}

/// A spec that lists the machines of a cluster of 3+2.
pub(crate) fn three_and_two(cluster: &str) -> Value {
    listed(cluster, 3, 2)
}

/// A spec that lists so many machines for each role.
pub(crate) fn listed(cluster: &str, control_plane: usize, workers: usize) -> Value {
    let (control_plane, workers) = machines_of(cluster, control_plane, workers);
    json!({"gitRepo": "https://git.example.com/flakes.git", "controlPlane": {"machines": control_plane},
        "dataPlane": {"machines": workers}})
}

/// The names of a cluster's machines: control plane and workers.
pub(crate) fn machines_of(
    cluster: &str,
    control_plane: usize,
    workers: usize,
) -> (Vec<String>, Vec<String>) {
    let names = |role: &str, count: usize| {
        (0..count)
            .map(|n| format!("{cluster}-{role}-{n:04}"))
            .collect()
    };
    (names("cp", control_plane), names("w", workers))
}

/// A number for the table.
#[allow(clippy::cast_precision_loss, reason = "no count is near 2^52")]
pub(crate) fn number(count: usize) -> f64 {
    count as f64
}
