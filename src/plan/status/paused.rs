//! What would change in a cluster that is paused.

use crate::api::names::MachineName;
use crate::api::status::Role;
use crate::plan::action::Plan;
use crate::plan::observed::Observed;

use super::rolling::they;

/// That the cluster is paused, and what it keeps from being done.
pub(super) fn would_change(observed: &Observed, plan: &Plan) -> String {
    let picks = || Role::ALL.into_iter().map(|role| plan.selection.of(role));
    let joins = observed.is_founded() || plan.selection.control_plane.missing() == 0;
    let joining = picks().filter(|_| joins).flat_map(|pick| &pick.joining);
    let leaving = picks().flat_map(|pick| &pick.leaving);
    let parts = [
        (joining.collect(), "would join"),
        (plan.outdated.keys().collect(), "would be updated"),
        (leaving.collect::<Vec<&MachineName>>(), "would leave"),
    ];
    let parts = parts
        .into_iter()
        .filter(|(machines, _)| !machines.is_empty());
    let parts: Vec<String> = parts
        .map(|(machines, would)| they(&machines, would, would))
        .collect();
    let what = if parts.is_empty() {
        "nothing would change".to_owned()
    } else {
        parts.join(", ")
    };
    format!("spec.paused is true, so no machine is changed: {what}")
}
