//! Writes under entries that were taken together. After the take, everything on which the decisions are based is read again, the
//! configurations last, then the ledger once more. Then a new plan is made. No other code makes disruptive writes.

use std::sync::Arc;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use crate::api::names::MachineName;
use crate::api::nio::NixosConfiguration;
use crate::controller::act::{ActError, Executor};
use crate::controller::aside::aside;
use crate::controller::calls;
use crate::controller::clock::precise;
use crate::controller::live::READS_AT_A_TIME;
use crate::controller::observe::{at_hand, observe, read_ledger, read_live};
use crate::controller::pass::Pass;
use crate::plan::action::{Action, Plan, Scope};
use crate::plan::assemble::assemble;
use crate::plan::observed::Observed;
use crate::plan::writes::Precondition;
use crate::plan::{Settings, plan};

/// Writes to the machines of these entries, if a new plan still says so. A failed read ends it, and the entries stay. If one machine cannot
/// be written, its entry stays, and the others are written.
pub(super) async fn write_under_entries(
    pass: &Pass<'_>,
    first: (&Observed, &Plan),
    settings: &Settings,
    machines: &[MachineName],
    taken: &Precondition,
) -> Result<(), ActError> {
    let context = pass.context;
    // All configurations are needed to see whether another one refers to a machine that joins.
    let joins = machines
        .iter()
        .any(|machine| first.1.selection.joins(machine));
    let scope = if joins {
        Scope::Namespace
    } else {
        Scope::NoOthers
    };
    let Some((live, mut sources)) = read_live(pass, first.0.nio, scope).await? else {
        return Err(ActError::Lost("the cluster is gone"));
    };
    if live.metadata.generation != Some(first.0.cluster.generation) {
        // The status must report the new spec first, so that an old `Ready` is never seen with it.
        return Err(ActError::Lost("the spec changed meanwhile"));
    }
    let mut facts = at_hand(pass, &live, &sources, first.0.nio);
    facts.live = true;
    facts.writes = machines.iter().cloned().collect();
    observe(pass, &mut sources, &mut facts, first.1.needs_probe).await?;
    let configurations = pass.api::<NixosConfiguration>();
    let reads = stream::iter(machines.to_vec())
        .map(async |machine| calls::get_opt(&configurations, machine.as_str()).await);
    let children: Vec<_> = reads.buffered(READS_AT_A_TIME).try_collect().await?;
    for (machine, child) in machines.iter().zip(children) {
        match child {
            Some(child) => facts.add_configurations([Arc::new(child)]),
            None => facts.drop_configuration(machine.as_str()),
        }
    }
    facts.enter(machines, taken, read_ledger(context, &facts.cluster).await?);
    let Ok(observed) = aside(facts.machines.len(), || assemble(&facts)) else {
        return Err(ActError::Lost("a configuration changed meanwhile"));
    };
    if observed.entered.is_empty() {
        return Err(ActError::Lost(
            "the ConfigMap with NICO's lock changed since it was taken",
        ));
    }
    let executor = Executor::new(pass, &observed);
    let plan = aside(observed.machines.len(), || {
        plan(&observed, precise(), settings)
    });
    if !sources.shows(plan.scope(observed.cluster.deleting)) {
        return Err(ActError::Lost("a configuration is gone"));
    }
    let mut written = 0;
    let mut failed = None;
    for action in &plan.actions {
        if let Action::Disrupt(disruptive) = action {
            match executor.disrupt(disruptive).await {
                Ok(()) => written += 1,
                Err(error) => failed = failed.or(Some(error)),
            }
        }
    }
    match failed {
        Some(error) => Err(error),
        None if written < machines.len() => {
            Err(ActError::Lost("a machine may not be written any more"))
        }
        None => Ok(()),
    }
}
