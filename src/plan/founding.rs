//! Who founds the cluster, under which id, and whether it was founded already (SPEC 2.5, 3.6).

use std::collections::BTreeSet;

use crate::api::conditions::{ConditionType, Reason};
use crate::api::ledger::Ledger;
use crate::api::names::{ClusterId, MachineName};
use crate::api::status::Role;

use super::action::{Action, ChildWrite, LedgerWrite, Plan};
use super::cluster_nix::Values;
use super::observed::{LedgerView, Member, Observed, SecretView};
use super::writes::Child;

/// How far the founding is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founding {
    /// Whether the cluster was founded; from then on no machine is told to found it.
    pub founded: bool,
    /// Id of this founding.
    pub id: ClusterId,
    /// The machine that founds it; `None` once it is founded.
    pub bootstrap: Option<MachineName>,
    /// No control plane configuration exists and nothing was founded: the first claim needs an id that nobody has used,
    /// written to the ledger just before it.
    pub anew: bool,
    /// Why bring-up must start anew; all configurations are given back first.
    pub restart: Option<String>,
}

/// What is known of the founding; `None` where a person has to say (with the wait that tells it).
pub fn founding(observed: &Observed, plan: &mut Plan) -> Option<Founding> {
    let held: Vec<Held> = observed.members().map(|it| Held::of(&it)).collect();
    let (id, ledger_founded) = match observed.ledger.ours() {
        Some(ledger) => (
            alive_under(&held, ledger).unwrap_or_else(|| ledger.id.clone()),
            ledger.founded,
        ),
        None => remembered(observed, &held, plan)?,
    };
    let stored = matches!(
        observed.kubeconfig.secret,
        SecretView::Ours | SecretView::Unusable
    );
    // A configuration without `bootstrap` was written after the founding, whatever a restored ledger says.
    let told = held
        .iter()
        .any(|held| held.says(|values| values.bootstrap.is_none()));
    let founded = ledger_founded || told || stored || first_all_confirmed(&held);
    other_founding(&held, &id, founded, plan)?;
    let at_rest = Founding {
        founded,
        id,
        bootstrap: None,
        anew: false,
        restart: None,
    };
    if founded {
        return Some(at_rest);
    }
    let control_plane: Vec<&Held> = held
        .iter()
        .filter(|held| held.role == Role::ControlPlane)
        .collect();
    if control_plane.is_empty() {
        return Some(Founding {
            id: observed.fresh_id.clone(),
            bootstrap: plan.selection.control_plane.joining.first().cloned(),
            anew: true,
            restart: observed
                .members()
                .next()
                .map(|_| "its control plane configurations are gone".to_owned()),
            ..at_rest
        });
    }
    let named: BTreeSet<String> = control_plane
        .iter()
        .filter_map(|held| held.values.as_ref()?.bootstrap.clone())
        .collect();
    let bootstrap = named.first().and_then(|name| MachineName::parse(name));
    let other_id = control_plane
        .iter()
        .any(|held| held.says(|values| values.id != at_rest.id));
    let restart = if other_id || named.len() > 1 {
        Some("its configurations do not agree on who founds it".to_owned())
    } else {
        match &bootstrap {
            Some(machine) if plan.selection.control_plane.staying.contains(machine) => None,
            Some(machine) => Some(format!("its founder {machine} is no longer a member")),
            None => Some("none of its configurations says who founds it".to_owned()),
        }
    };
    Some(Founding {
        bootstrap,
        restart,
        ..at_rest
    })
}

/// One of our configurations, with what its cluster.nix says.
struct Held {
    machine: MachineName,
    role: Role,
    once_confirmed: bool,
    values: Option<Values>,
}

impl Held {
    fn of(member: &Member<'_>) -> Self {
        Self {
            machine: member.name.clone(),
            role: member.role(),
            once_confirmed: member.was_confirmed(),
            values: member.values(),
        }
    }

    fn says(&self, what: impl Fn(&Values) -> bool) -> bool {
        self.values.as_ref().is_some_and(what)
    }
}

/// Whether all first control plane machines were confirmed: those that the founder's own configuration lists, whatever the
/// spec has come to ask for since (SPEC 2.5).
fn first_all_confirmed(held: &[Held]) -> bool {
    let founder = held.iter().find(|held| {
        held.says(|values| values.bootstrap.as_deref() == Some(held.machine.as_str()))
    });
    founder
        .and_then(|founder| founder.values.as_ref())
        .is_some_and(|values| {
            !values.control_plane.is_empty()
                && values.control_plane.iter().all(|node| {
                    held.iter().any(|held| {
                        held.machine.as_str() == node.name
                            && held.role == Role::ControlPlane
                            && held.once_confirmed
                    })
                })
        })
}

/// The id that every configuration bears, some of them confirmed, where the ledger is of another founding that came to nothing:
/// no configuration bears its id. Another operator wrote that between our ledger and our claims; it is given up (SPEC 3.6).
fn alive_under(held: &[Held], ledger: &Ledger) -> Option<ClusterId> {
    let first = &held.first()?.values.as_ref()?.id;
    let agreed = held
        .iter()
        .all(|held| held.says(|values| values.id == *first));
    let confirmed = held.iter().any(|held| held.once_confirmed);
    (!ledger.founded && agreed && confirmed && *first != ledger.id).then(|| first.clone())
}

/// Stops where configurations that may carry a living cluster are of another founding than the ledger: a person has to say
/// which of them is right. Nothing that was confirmed is ever given back for a ledger's sake.
fn other_founding(held: &[Held], id: &ClusterId, founded: bool, plan: &mut Plan) -> Option<()> {
    let ids: BTreeSet<&ClusterId> = held
        .iter()
        .filter_map(|held| Some(&held.values.as_ref()?.id))
        .collect();
    let alive = founded || (ids.len() == 1 && held.iter().any(|held| held.once_confirmed));
    let strangers: Vec<&str> = held
        .iter()
        .filter(|held| held.says(|values| values.id != *id))
        .map(|held| held.machine.as_str())
        .collect();
    if !alive || strangers.is_empty() {
        return Some(());
    }
    plan.wait(
        ConditionType::Stalled,
        Reason::LedgerUnreadable,
        format!(
            "the configurations of {} are of another founding of this cluster than the ledger's, {id}: where the ledger is from a backup, delete it and NICO makes it anew from the configurations; else delete those configurations",
            strangers.join(", ")
        ),
    );
    None
}

/// The ledger as it should be, where that is known before any claim.
pub fn keep_ledger(observed: &Observed, founding: &Founding, plan: &mut Plan) {
    match &observed.ledger {
        LedgerView::Ours(version, ledger)
            if !founding.anew
                && (founding.founded && !ledger.founded || founding.id != ledger.id) =>
        {
            let mut ledger = ledger.clone();
            // One of another founding is as good as lost.
            ledger.slot.fencing |= founding.founded && founding.id != ledger.id;
            ledger.id = founding.id.clone();
            ledger.founded = founding.founded;
            plan.actions
                .push(Action::Ledger(LedgerWrite::Update(version.clone(), ledger)));
        }
        LedgerView::Absent if !founding.anew => {
            let mut ledger = Ledger::new(founding.id.clone(), founding.founded);
            // Someone may still act on the lost one: no slot is taken before every child was touched (SPEC 4.2).
            ledger.slot.fencing = founding.founded;
            plan.actions
                .push(Action::Ledger(LedgerWrite::Create(ledger)));
        }
        // A former cluster's, or deleted by a person: it is let go, and made anew in the next pass.
        LedgerView::Leftover => plan
            .actions
            .push(Action::Child(ChildWrite::Delete(Child::Ledger))),
        _ => {}
    }
}

/// The id that nobody has used, written just before the first claim.
pub fn new_ledger(observed: &Observed, founding: &Founding, plan: &mut Plan) {
    let ledger = Ledger::new(founding.id.clone(), false);
    plan.actions.push(match &observed.ledger {
        LedgerView::Ours(version, _) => {
            Action::Ledger(LedgerWrite::Update(version.clone(), ledger))
        }
        LedgerView::Absent
        | LedgerView::Foreign
        | LedgerView::Leftover
        | LedgerView::Unreadable(_) => Action::Ledger(LedgerWrite::Create(ledger)),
    });
}

/// What a lost ledger said, from the configurations that exist: once confirmed ones first (SPEC 3.6).
fn remembered(observed: &Observed, held: &[Held], plan: &mut Plan) -> Option<(ClusterId, bool)> {
    if held.is_empty() {
        return Some((observed.fresh_id.clone(), false));
    }
    let founded = held.iter().any(|held| held.once_confirmed);
    let id = held
        .iter()
        .filter_map(|held| Some((!held.once_confirmed, &held.values.as_ref()?.id)))
        .min_by_key(|(never, _)| *never)
        .map(|(_, id)| id.clone());
    if id.is_none() {
        plan.wait(
            ConditionType::Stalled,
            Reason::LedgerUnreadable,
            "the ledger is gone and no configuration holds a cluster.nix of NICO's to take the id from: restore one of them",
        );
    }
    Some((id?, founded))
}
