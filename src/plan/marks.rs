//! Quiet writes that keep what was seen and put back what was taken off by hand: they disrupt nothing.

use std::collections::BTreeSet;

use super::action::{Action, ChildWrite, Mark};
use super::confirmed::Proof;
use super::desired;
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
