//! Metrics from the clusters' statuses, counted at each scrape.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt as _;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::{Labels, Seconds};
use crate::api::cluster::RawCluster;
use crate::api::conditions::{ConditionType, Reason};
use crate::api::status::{ClusterStatus, MachineState, Phase, Role};

const PHASES: [Phase; 4] = [
    Phase::Provisioning,
    Phase::Ready,
    Phase::Failed,
    Phase::Deleting,
];
const STATES: [MachineState; 7] = [
    MachineState::Unavailable,
    MachineState::Pending,
    MachineState::Applying,
    MachineState::Confirmed,
    MachineState::Outdated,
    MachineState::Failed,
    MachineState::Leaving,
];

/// The gauges.
pub(super) struct Shown {
    clusters: Family<Labels<1>, Gauge>,
    conditions: Family<Labels<3>, Gauge>,
    machines: Family<Labels<2>, Gauge>,
    in_flight: Gauge,
    oldest: Seconds,
    oldest_condition: Family<Labels<3>, Seconds>,
    kubeconfig_ends: Family<Labels<2>, Gauge>,
    /// The reasons that have series of their own. Others than NICO can write any into a status.
    reasons: BTreeSet<String>,
}

impl Shown {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let shown = Self {
            clusters: Family::default(),
            conditions: Family::default(),
            machines: Family::default(),
            in_flight: Gauge::default(),
            oldest: Seconds::default(),
            oldest_condition: Family::default(),
            kubeconfig_ends: Family::default(),
            reasons: Reason::ALL.iter().map(ToString::to_string).collect(),
        };
        registry.register(
            "clusters",
            "KubernetesClusters, by phase",
            shown.clusters.clone(),
        );
        registry.register(
            "cluster_conditions",
            "KubernetesClusters, by condition, its status and its reason",
            shown.conditions.clone(),
        );
        registry.register(
            "machines",
            "Machines of all clusters, by role and state",
            shown.machines.clone(),
        );
        registry.register(
            "machines_in_flight",
            "Machines that are being changed now",
            shown.in_flight.clone(),
        );
        registry.register_with_unit(
            "oldest_in_flight",
            "The longest time that any machine has been in flight; 0 where none is",
            Unit::Seconds,
            shown.oldest.clone(),
        );
        registry.register_with_unit(
            "oldest_condition",
            "The longest time that any cluster has had this condition with this status; the reason is the current one",
            Unit::Seconds,
            shown.oldest_condition.clone(),
        );
        registry.register_with_unit(
            "kubeconfig_expiry_timestamp",
            "When the client certificate of a cluster's stored kubeconfig ends, in seconds since 1970",
            Unit::Seconds,
            shown.kubeconfig_ends.clone(),
        );
        shown
    }

    /// Counts these clusters. `ends` returns when the stored kubeconfig of the cluster with that uid expires, if it does.
    pub(super) fn show(
        &self,
        clusters: &[Arc<RawCluster>],
        ends: impl Fn(&str) -> Option<Timestamp>,
        now: Timestamp,
    ) {
        self.conditions.clear();
        self.oldest_condition.clear();
        self.kubeconfig_ends.clear();
        for cluster in clusters {
            if let Some(ends) = cluster.uid().and_then(|uid| ends(&uid)) {
                let labels = [
                    ("namespace", cluster.namespace().unwrap_or_default()),
                    ("cluster", cluster.name_any()),
                ];
                self.kubeconfig_ends
                    .get_or_create(&labels)
                    .set(ends.as_second());
            }
        }
        for phase in PHASES {
            self.of_phase(phase).set(0);
        }
        for (role, state) in Role::ALL
            .iter()
            .flat_map(|role| STATES.map(|state| (*role, state)))
        {
            self.of_state(role, state).set(0);
        }
        let (mut in_flight, mut oldest) = (0, 0.0_f64);
        for status in clusters
            .iter()
            .filter_map(|cluster| cluster.status.as_ref())
        {
            if let Some(phase) = status.phase {
                self.of_phase(phase).inc();
            }
            self.count_conditions(status, now);
            for row in &status.machines {
                self.of_state(row.role, row.state).inc();
            }
            for row in status.rollout.iter().flat_map(|rollout| &rollout.in_flight) {
                in_flight += 1;
                let age = row
                    .since
                    .map(|since| now.duration_since(since).as_secs_f64());
                oldest = oldest.max(age.unwrap_or_default());
            }
        }
        self.in_flight.set(in_flight);
        self.oldest.set(oldest);
    }

    fn count_conditions(&self, status: &ClusterStatus, now: Timestamp) {
        for condition in &status.conditions {
            let kind = ConditionType::ALL.map(|kind| kind.to_string()).into_iter();
            let mut kind = kind.filter(|kind| *kind == condition.kind);
            let known = ["True", "False", "Unknown"].contains(&condition.status.as_str());
            let Some(kind) = kind.next().filter(|_| known) else {
                continue;
            };
            let labels = [
                ("condition", kind),
                ("status", condition.status.clone()),
                ("reason", self.bounded(&condition.reason)),
            ];
            self.conditions.get_or_create(&labels).inc();
            let since = condition.last_transition_time.unwrap_or(now);
            let oldest = self.oldest_condition.get_or_create_owned(&labels);
            oldest.set(oldest.get().max(now.duration_since(since).as_secs_f64()));
        }
    }

    /// The reason, or `other` if it is none of NICO's.
    fn bounded(&self, reason: &str) -> String {
        let known = self.reasons.get(reason);
        known.map_or("other", String::as_str).to_owned()
    }

    fn of_phase(&self, phase: Phase) -> Gauge {
        self.clusters
            .get_or_create_owned(&[("phase", format!("{phase:?}"))])
    }

    fn of_state(&self, role: Role, state: MachineState) -> Gauge {
        let labels = [
            ("role", role.as_str().to_owned()),
            ("state", format!("{state:?}")),
        ];
        self.machines.get_or_create_owned(&labels)
    }
}
