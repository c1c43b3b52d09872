//! The write under an entry (SPEC 4.2): everything that the decision rests on is read after the entry was taken, the child last,
//! then the ledger once more; and then it is planned anew. Nothing else writes disruptively.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::api::names::MachineName;
use crate::api::nio::NixosConfiguration;
use crate::controller::act::{ActError, Hand};
use crate::controller::aside::aside;
use crate::controller::calls;
use crate::controller::clock::now;
use crate::controller::observe::{at_hand, observe, read_ledger, read_live};
use crate::controller::pass::Pass;
use crate::plan::action::{Action, Plan};
use crate::plan::assemble::assemble;
use crate::plan::observed::Observed;
use crate::plan::writes::Precondition;
use crate::plan::{Settings, plan};

/// Writes what is to be written to the machine of an entry, where everything still says so. A failed read ends it; the entry stays.
pub(super) async fn write_under_entry(
    pass: &Pass<'_>,
    first: (&Observed, &Plan),
    settings: &Settings,
    machine: &MachineName,
    taken: &Precondition,
) -> Result<(), ActError> {
    let context = pass.context;
    // Whether nobody holds a machine that joins, all configurations say.
    let joins = first.1.selection.joins(machine);
    let Some((live, mut sources)) = read_live(pass, first.0.nio, joins).await? else {
        return Err(ActError::Lost("the cluster is gone"));
    };
    if live.metadata.generation != Some(first.0.cluster.generation) {
        // The status says so first: no old green beside a new spec (SPEC 1.2).
        return Err(ActError::Lost("the spec changed meanwhile"));
    }
    let mut facts = at_hand(pass, &live, &sources, first.0.nio);
    facts.live = true;
    facts.writes = BTreeSet::from([machine.clone()]);
    observe(pass, &mut sources, &mut facts, first.1.asks_cluster).await?;
    match calls::get_opt(&pass.api::<NixosConfiguration>(), machine.as_str()).await? {
        Some(child) => facts.add_configurations([Arc::new(child)]),
        None => facts.drop_configuration(machine.as_str()),
    }
    facts.enter(machine, taken, read_ledger(context, &facts.cluster).await?);
    let Ok(observed) = aside(facts.machines.len(), || assemble(&facts)) else {
        return Err(ActError::Lost("its configuration changed meanwhile"));
    };
    if observed.entered.is_none() {
        return Err(ActError::Lost(
            "the ledger changed since the entry was taken",
        ));
    }
    let hand = Hand::new(pass, &observed);
    let plan = aside(observed.machines.len(), || plan(&observed, now(), settings));
    let written = plan.actions.iter().find_map(|action| match action {
        Action::Disrupt(disruptive) => Some(disruptive),
        _ => None,
    });
    let Some(disruptive) = written else {
        return Err(ActError::Lost("it may not be written any more"));
    };
    if plan.rests_on_all_configurations() && !sources.has_all_configurations() {
        return Err(ActError::Lost("its configuration is gone"));
    }
    hand.disrupt(disruptive).await
}
