//! Quiet writes that keep what was seen and put back what was taken off by hand: they disrupt nothing.

use std::collections::BTreeSet;

use crate::api::names::MachineName;

use super::action::{Action, ChildWrite, ConfigurationWrite, Mark, SlotWrite};
use super::confirmed::Proof;
use super::desired::{self, Common};
use super::known::Known;
use super::nio;
use super::observed::Observed;
use super::output::Output;

/// Keeps NIO's proof where it is seen, and gives it up where NIO proves another attempt. What is given back in this plan
/// is not marked: the mark would change the version that giving back insists on.
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

/// Changes what NIO does not apply in the specs of members that nothing else of this plan writes.
pub fn settle(known: &Known<'_>, common: &Common, paused: bool, others: &[&Output]) -> Output {
    let mut output = Output::default();
    let observed = known.observed;
    let actions = others.iter().flat_map(|other| &other.actions);
    let written: BTreeSet<&str> = actions.flat_map(written_by).collect();
    let ours_alone = observed.members().filter(|it| {
        it.controlled
            && !it.is_deleting()
            && observed.contested_by(&it.name).is_none()
            && !written.contains(it.name.as_str())
    });
    for member in ours_alone {
        let wanted = common.wanted(paused);
        let (fields, later) = nio::of(common.nio).quiet_fields(&member, &wanted, known.now);
        if let Some(later) = later {
            output.look_again_in(later);
        }
        if !fields.is_empty() {
            output.act(member.mark(Mark::Settled(fields)));
        }
    }
    output
}

/// The configurations whose versions an action rests on.
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

/// Takes back what lost its owner or its labels by hand.
pub fn take_back(observed: &Observed) -> Output {
    let ours_alone = observed
        .members()
        .filter(|it| !it.is_deleting() && observed.contested_by(&it.name).is_none());
    ours_alone
        .filter_map(|member| {
            let metadata = desired::lost_metadata(&observed.cluster, &member)?;
            Some(member.mark(Mark::TakenBack(metadata)))
        })
        .collect()
}

/// Puts NICO's finalizer back on children from which somebody took it.
pub fn hold(observed: &Observed) -> Output {
    let children = observed.unheld.iter();
    children
        .map(|(child, version)| Action::Child(ChildWrite::Hold(*child, version.clone())))
        .collect()
}
