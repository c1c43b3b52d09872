//! What must never be, each with its name. `judge.rs` finds it.

use stateright::Property;

use crate::compact::Broken;
use crate::search::Search;
use crate::state::State;

pub fn properties() -> Vec<Property<Search>> {
    vec![
        Property::always(
            "I1: each machine has one configuration, its own",
            |_, it: &State| it.broken != Some(Broken::I1),
        ),
        Property::always(
            "I3: one control plane machine in flight",
            |_, it: &State| it.broken != Some(Broken::I3Flight),
        ),
        Property::always("I3: the numbers of the control plane", |_, it: &State| {
            it.broken != Some(Broken::I3Numbers)
        }),
        Property::always("I4: the order", |_, it: &State| {
            it.broken != Some(Broken::I4)
        }),
        Property::always("I14: nobody is told to found again", |_, it: &State| {
            it.broken != Some(Broken::I14)
        }),
        Property::always("I15: each attempt has its own marker", |_, it: &State| {
            it.broken != Some(Broken::I15)
        }),
        Property::always("the status decides nothing", |_, it: &State| {
            it.broken != Some(Broken::Status)
        }),
        Property::always(
            "I9: the finalizer goes after the last configuration",
            |_, it: &State| it.broken != Some(Broken::I9),
        ),
        Property::always("I10: nothing is made while deleting", |_, it: &State| {
            it.broken != Some(Broken::I10)
        }),
        Property::always(
            "the tokens outlive the last configuration",
            |_, it: &State| it.broken != Some(Broken::Tokens),
        ),
        Property::always("the ledger goes last", |_, it: &State| {
            it.broken != Some(Broken::LedgerLast)
        }),
        Property::always(
            "the next one leaves when the Node of the last is gone",
            |_, it: &State| it.broken != Some(Broken::TwoLeave),
        ),
        Property::always("a healthy machine leaves drained", |_, it: &State| {
            it.broken != Some(Broken::Undrained)
        }),
        Property::always(
            "what a person made unschedulable stays so",
            |_, it: &State| it.broken != Some(Broken::Uncordoned),
        ),
    ]
}
