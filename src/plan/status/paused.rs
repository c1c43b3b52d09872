//! The changes that a paused cluster waits to make.

use crate::api::conditions::ConditionType;
use crate::api::names::MachineName;
use crate::api::status::Role;
use crate::api::text::counted;
use crate::plan::action::{Action, ChildWrite, ConfigurationWrite, Mark, Plan};
use crate::plan::observed::{Observed, SecretView};
use crate::plan::restored;
use crate::plan::writes::Child;

use super::rolling::they;

/// The message that the cluster is paused, with the changes that wait.
pub(super) fn would_change(observed: &Observed, plan: &Plan) -> String {
    let picks = || {
        Role::ALL
            .into_iter()
            .map(|role| plan.selection.for_role(role))
    };
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
    let what = if !is_compared(observed, plan) {
        "what would change is not known yet".to_owned()
    } else if parts.is_empty() {
        "nothing would change".to_owned()
    } else {
        parts.join(", ")
    };
    let what = format!("spec.paused is true, so no machine is changed: {what}");
    if observed.cluster.deleting {
        // Nothing else was read.
        return what;
    }
    let said = [what].into_iter().chain(restored::amiss(observed));
    let said = said
        .chain(lost_tokens(observed))
        .chain(taken_back(observed, plan));
    said.collect::<Vec<_>>().join("; ")
}

/// Whether the configurations were compared with their targets. They were not if something that this needs is missing, or is not restored
/// yet.
fn is_compared(observed: &Observed, plan: &Plan) -> bool {
    let holds_any = observed.belongings().next().is_some();
    observed.cluster.deleting
        || !plan.targets.is_empty()
        || !holds_any && observed.left.children.is_empty()
}

const TAKES_BACK: &str = "takes back ";

/// What is restored in this pass, or was in the last one that restored anything.
fn taken_back(observed: &Observed, plan: &Plan) -> Option<String> {
    let (mut configurations, mut objects) = (0, Vec::new());
    for action in &plan.actions {
        match action {
            Action::Configuration(ConfigurationWrite::Mark(_, _, Mark::Restored(_))) => {
                configurations += 1;
            }
            Action::Child(ChildWrite::TakeBack(child, _)) => {
                objects.push(child.named(&observed.cluster.name));
            }
            _ => {}
        }
    }
    if configurations > 0 {
        objects.insert(
            0,
            format!(
                "NixosConfigurations of {}",
                counted(configurations, "machine")
            ),
        );
    }
    if !objects.is_empty() {
        return Some(format!("{TAKES_BACK}{}", objects.join(", ")));
    }
    let before = observed.cluster.status.condition(ConditionType::Paused)?;
    let mut parts = before.message.split("; ");
    let said = parts.find(|part| part.starts_with(TAKES_BACK));
    said.map(str::to_owned)
}

/// The tokens that configurations refer to and that can neither be used nor restored.
fn lost_tokens(observed: &Observed) -> impl Iterator<Item = String> {
    let cluster = &observed.cluster.name;
    let is_used = observed.belongings().next().is_some();
    let tokens = [
        (Child::JoinToken, observed.join_token),
        (Child::WorkerToken, observed.worker_token),
    ];
    let lost = tokens.into_iter().filter(move |(child, view)| {
        is_used && !view.usable() && !observed.left.children.contains_key(child)
    });
    lost.map(|(child, view)| {
        let why = match view {
            SecretView::Absent => "is missing: restore it first",
            SecretView::Terminating | SecretView::Leftover => {
                "is being deleted: restore it once it is gone"
            }
            _ => "is not what NICO would write there: restore it with its labels and no other key than token",
        };
        format!("{} {why}", child.named(cluster))
    })
}
