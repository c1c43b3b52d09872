//! Quiet writes: they note NIO's proof, and restore metadata that was removed by hand. They disrupt nothing.

use std::collections::BTreeSet;

use crate::api::names::MachineName;

use super::action::{Action, ChildWrite, ConfigurationWrite, Mark, SlotWrite};
use super::confirmed::Proof;
use super::desired::{self, Common};
use super::known::Known;
use super::nio;
use super::observed::Observed;
use super::output::Output;

/// Notes NIO's proof, and withdraws it if NIO proves another attempt. Configurations that this plan releases are left out: the note would
/// change the version that their deletion has as its precondition.
pub fn confirm(observed: &Observed, given_back: &BTreeSet<String>) -> Output {
    let ours_alone = observed.members().filter(|member| {
        member.controlled
            && observed.contested_by(&member.name).is_none()
            && !given_back.contains(member.name.as_str())
    });
    ours_alone
        .filter_map(|member| match (member.is_confirmed(), member.proof()) {
            (true, Some(Proof::OfAnother)) => Some(member.mark(Mark::Withdrawn)),
            (false, Some(Proof::OfHeld)) => Some(member.mark(Mark::Confirmed(member.marker()?))),
            _ => None,
        })
        .collect()
}

/// Updates spec fields that NIO does not apply to machines, in configurations that this plan does not write otherwise.
pub fn settle(known: &Known<'_>, common: &Common, paused: bool, others: &[&Output]) -> Output {
    let mut output = Output::default();
    let observed = known.observed;
    let actions = others.iter().flat_map(|other| &other.actions);
    let written: BTreeSet<&str> = actions.flat_map(written_by).collect();
    let ours_alone = observed.members().filter(|member| {
        member.controlled
            && !member.is_deleting()
            && observed.contested_by(&member.name).is_none()
            && !written.contains(member.name.as_str())
    });
    for member in ours_alone {
        let wanted = common.wanted(paused);
        let (fields, later) =
            nio::for_generation(common.nio).quiet_fields(&member, &wanted, known.now);
        if let Some(later) = later {
            output.look_again_in(later);
        }
        if !fields.is_empty() {
            output.act(member.mark(Mark::Settled(fields)));
        }
    }
    output
}

/// The configurations whose versions an action has as preconditions.
fn written_by(action: &Action) -> Vec<&str> {
    match action {
        Action::Configuration(
            ConfigurationWrite::Mark(name, ..) | ConfigurationWrite::GiveBack(name, _),
        ) => vec![name],
        Action::Configuration(ConfigurationWrite::Rewrite(rewrite)) => {
            vec![rewrite.machine.as_str()]
        }
        Action::Disrupt(disruptive) => vec![disruptive.machine().as_str()],
        Action::Slot(SlotWrite::End { children, .. }) => {
            children.keys().map(MachineName::as_str).collect()
        }
        _ => Vec::new(),
    }
}

/// Restores owner and labels of configurations from which they were removed by hand.
pub fn take_back(observed: &Observed) -> Output {
    let ours_alone = observed
        .members()
        .filter(|member| !member.is_deleting() && observed.contested_by(&member.name).is_none());
    ours_alone
        .filter_map(|member| {
            let metadata = desired::lost_metadata(&observed.cluster, &member)?;
            Some(member.mark(Mark::TakenBack(metadata)))
        })
        .collect()
}

/// Restores NICO's finalizer on children from which it was removed.
pub fn restore_finalizers(observed: &Observed) -> Output {
    let children = observed.without_finalizer.iter();
    children
        .map(|(child, version)| Action::Child(ChildWrite::AddFinalizer(*child, version.clone())))
        .collect()
}
