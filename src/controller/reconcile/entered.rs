//! The write under an entry (SPEC 4.2): everything that the decision rests on is read after the entry was taken, the child last,
//! then the ledger once more; and then it is planned anew. Nothing else writes disruptively.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kube::{Api, ResourceExt as _};

use crate::api::cluster::RawCluster;
use crate::api::names::MachineName;
use crate::api::nio::NixosConfiguration;
use crate::controller::act::{ActError, Hand};
use crate::controller::calls;
use crate::controller::clock::now;
use crate::controller::context::Context;
use crate::controller::observe::{Look, observe, read_live};
use crate::controller::views::Views;
use crate::plan::action::{Action, Plan};
use crate::plan::entered::Entered;
use crate::plan::observed::Observed;
use crate::plan::writes::Precondition;
use crate::plan::{Settings, plan};

/// Writes what is to be written to the machine of an entry, where everything still says so. A failed read ends it; the entry stays.
pub(super) async fn write_under_entry(
    context: &Context,
    cluster: &Arc<RawCluster>,
    first: (&Observed, &Plan),
    settings: &Settings,
    machine: &MachineName,
    taken: &Precondition,
) -> Result<(), ActError> {
    let Some((live, stores)) = read_live(context, cluster).await? else {
        return Err(ActError::Lost("the cluster is gone"));
    };
    if live.metadata.generation != Some(first.0.cluster.generation) {
        // The status says so first: no old green beside a new spec (SPEC 1.2).
        return Err(ActError::Lost("the spec changed meanwhile"));
    }
    let mut observed = observe(&Look {
        context,
        cluster: &live,
        stores: &stores,
        live: true,
        ledger: None,
        writes: &BTreeSet::from([machine.clone()]),
        nio: first.0.nio,
        ask: first.1.wants_word,
    })
    .await?;
    let api: Api<NixosConfiguration> =
        Api::namespaced(context.client.clone(), &observed.cluster.namespace);
    match calls::get_opt(&api, machine.as_str()).await? {
        Some(child) => {
            let name = child.name_any();
            observed.configurations.insert(name, Arc::new(child));
        }
        None => drop(observed.configurations.remove(machine.as_str())),
    }
    let views = Views {
        context,
        stores: &stores,
        cluster: &observed.cluster.clone(),
    };
    let (ledger, _) = views.ledger(Duration::ZERO).await?;
    observed.entered = Entered::new(machine, taken, &ledger);
    observed.ledger = ledger;
    if observed.entered.is_none() {
        return Err(ActError::Lost(
            "the ledger changed since the entry was taken",
        ));
    }
    let hand = Hand::new(context, &observed);
    let plan = plan(&observed, now(), settings);
    let written = plan.actions.iter().find_map(|action| match action {
        Action::Disrupt(disruptive) => Some(disruptive),
        _ => None,
    });
    let Some(disruptive) = written else {
        return Err(ActError::Lost("it may not be written any more"));
    };
    hand.disrupt(disruptive).await
}
