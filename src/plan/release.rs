//! The deletion of a cluster: every machine is given back before anything that NIO needs for it goes (SPEC 5).

use crate::api::conditions::{ConditionType, Reason};
use crate::api::names::CLUSTER_FINALIZER;
use crate::api::status::Role;

use super::action::{Action, Child, Plan};
use super::observed::{Observed, precondition};
use super::selection::{Pick, Selection, pool};

/// Plans the next step of a deletion. Needs no valid spec: configurations are found by their owner.
pub fn delete_cluster(observed: &Observed, plan: &mut Plan) {
    let cluster = &observed.cluster;
    plan.selection = all_leaving(observed);
    if !cluster
        .finalizers
        .iter()
        .any(|finalizer| finalizer == CLUSTER_FINALIZER)
    {
        return;
    }
    if observed.spec.as_ref().is_ok_and(|spec| spec.paused) {
        plan.wait(
            ConditionType::Reconciling,
            Reason::PausedBySpec,
            "the deletion waits: spec.paused is true",
        );
        return;
    }
    if observed.nio.is_none() {
        plan.wait(
            ConditionType::Reconciling,
            Reason::NIOMissing,
            format!("the API server does not serve NIO's resources, so nobody can say which machines are still held: install NIO again; where it is gone for good, take the finalizer {CLUSTER_FINALIZER} off by hand"),
        );
        return;
    }
    let mut waiting_for = Vec::new();
    for (name, configuration) in observed.owned() {
        waiting_for.push(name.clone());
        if configuration.metadata.deletion_timestamp.is_none() {
            plan.actions
                .push(Action::GiveBack(name.clone(), precondition(configuration)));
        }
    }
    if !waiting_for.is_empty() {
        plan.wait(
            ConditionType::Reconciling,
            Reason::Deleting,
            format!(
                "waiting until NIO has let go of: {}",
                waiting_for.join(", ")
            ),
        );
        return;
    }
    plan.actions.extend(Child::ALL.map(Action::DeleteChild));
    let others = cluster
        .finalizers
        .iter()
        .filter(|finalizer| *finalizer != CLUSTER_FINALIZER)
        .cloned()
        .collect();
    plan.actions
        .push(Action::RemoveFinalizer(cluster.precondition(), others));
}

/// Every member leaves.
fn all_leaving(observed: &Observed) -> Selection {
    let pick = |role| Pick {
        total: observed
            .spec
            .as_ref()
            .map_or(0, |spec| pool(spec, role).total()),
        leaving: observed
            .members_of(role)
            .map(|(machine, _)| machine)
            .collect(),
        ..Pick::default()
    };
    Selection {
        control_plane: pick(Role::ControlPlane),
        workers: pick(Role::Worker),
    }
}
