//! Who founds the cluster, under which id, and whether it was founded already.

use std::collections::BTreeSet;

use crate::api::conditions::{Cause, Reason};
use crate::api::ledger::Ledger;
use crate::api::names::{ClusterId, MachineName};
use crate::api::status::Role;

use super::action::{Action, ChildWrite, LedgerWrite};
use super::cluster_nix::Values;
use super::observed::{LedgerView, Member, Observed, SecretView};
use super::output::Output;
use super::selection::Selection;
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
    pub needs_id: bool,
    /// Why bring-up must start again; all configurations are released first.
    pub restart: Option<Restart>,
}

/// Why bring-up must start again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Only workers' configurations exist.
    ControlPlaneGone,
    /// The control plane's configurations name several founders, or another id than the ledger.
    FoundersDisagree,
    /// The founder leaves, or is gone.
    FounderGone(MachineName),
    /// None of the control plane's configurations names a founder.
    NoFounder,
}

/// What is known of the founding, or what a person has to say first.
pub fn founding(observed: &Observed, selection: &Selection) -> Result<Founding, Output> {
    let held: Vec<Held<'_>> = observed.members().map(|it| Held::of(&it)).collect();
    let (id, ledger_founded) = match observed.ledger.ours() {
        Some(ledger) => (
            alive_under(&held, ledger).unwrap_or_else(|| ledger.id.clone()),
            ledger.founded,
        ),
        None => remembered(observed, &held)?,
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
    other_founding(&held, &id, founded)?;
    let at_rest = Founding {
        founded,
        id,
        bootstrap: None,
        needs_id: false,
        restart: None,
    };
    if founded {
        return Ok(at_rest);
    }
    let pick = &selection.control_plane;
    let control_plane: Vec<&Held<'_>> = held
        .iter()
        .filter(|held| held.role == Role::ControlPlane)
        .collect();
    if control_plane.is_empty() {
        return Ok(Founding {
            id: observed.fresh_id.clone(),
            bootstrap: pick.joining.first().cloned(),
            needs_id: true,
            restart: (!held.is_empty()).then_some(Restart::ControlPlaneGone),
            ..at_rest
        });
    }
    let named: BTreeSet<String> = control_plane
        .iter()
        .filter_map(|held| held.values?.bootstrap.clone())
        .collect();
    let bootstrap = named.first().and_then(|name| MachineName::parse(name));
    let other_id = control_plane
        .iter()
        .any(|held| held.says(|values| values.id != at_rest.id));
    let restart = match &bootstrap {
        _ if other_id || named.len() > 1 => Some(Restart::FoundersDisagree),
        Some(machine) if pick.staying.contains(machine) => None,
        Some(machine) => Some(Restart::FounderGone(machine.clone())),
        None => Some(Restart::NoFounder),
    };
    Ok(Founding {
        bootstrap,
        restart,
        ..at_rest
    })
}

/// One of our configurations, with what its cluster.nix says.
struct Held<'a> {
    machine: MachineName,
    role: Role,
    once_confirmed: bool,
    values: Option<&'a Values>,
}

impl<'a> Held<'a> {
    fn of(member: &Member<'a>) -> Self {
        Self {
            machine: member.name.clone(),
            role: member.role(),
            once_confirmed: member.was_confirmed(),
            values: member.values(),
        }
    }

    fn says(&self, what: impl Fn(&Values) -> bool) -> bool {
        self.values.is_some_and(what)
    }
}

/// Whether all first control plane machines were confirmed: those that the founder's own configuration lists, whatever the
/// spec has come to ask for since.
fn first_all_confirmed(held: &[Held<'_>]) -> bool {
    let founder = held.iter().find(|held| {
        held.says(|values| values.bootstrap.as_deref() == Some(held.machine.as_str()))
    });
    founder
        .and_then(|founder| founder.values)
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
/// no configuration bears its id. Another operator wrote that between our ledger and our claims; it is given up.
fn alive_under(held: &[Held<'_>], ledger: &Ledger) -> Option<ClusterId> {
    let first = &held.first()?.values?.id;
    let agreed = held
        .iter()
        .all(|held| held.says(|values| values.id == *first));
    let confirmed = held.iter().any(|held| held.once_confirmed);
    (!ledger.founded && agreed && confirmed && *first != ledger.id).then(|| first.clone())
}

/// Stops where configurations that may carry a living cluster are of another founding than the ledger: a person has to say
/// which of them is right. Nothing that was confirmed is ever given back for a ledger's sake.
fn other_founding(held: &[Held<'_>], id: &ClusterId, founded: bool) -> Result<(), Output> {
    let ids: BTreeSet<&ClusterId> = held
        .iter()
        .filter_map(|held| Some(&held.values?.id))
        .collect();
    let alive = founded || (ids.len() == 1 && held.iter().any(|held| held.once_confirmed));
    let strangers: Vec<&str> = held
        .iter()
        .filter(|held| held.says(|values| values.id != *id))
        .map(|held| held.machine.as_str())
        .collect();
    if !alive || strangers.is_empty() {
        return Ok(());
    }
    Err(unreadable(format!(
        "the configurations of {} are of another founding of this cluster than the ledger's, {id}: where the ledger is from a backup, delete it and NICO makes it again from the configurations; else delete those configurations",
        strangers.join(", ")
    )))
}

/// A person has to say what the ledger does not.
fn unreadable(message: impl Into<String>) -> Output {
    let mut output = Output::stalled(Cause::new(Reason::LedgerUnreadable, message));
    output.look_for_missing();
    output
}

/// What makes the ledger say what is known of the founding; `None` where it does, or where the first claim is to come before.
#[must_use]
pub fn ledger_write(observed: &Observed, founding: &Founding) -> Option<LedgerWrite> {
    if founding.needs_id {
        return None;
    }
    match &observed.ledger {
        LedgerView::Ours(version, ledger)
            if founding.founded && !ledger.founded || founding.id != ledger.id =>
        {
            let mut ledger = ledger.clone();
            // One of another founding is as good as lost.
            ledger.slot.fencing |= founding.founded && founding.id != ledger.id;
            ledger.id = founding.id.clone();
            ledger.founded = founding.founded;
            Some(LedgerWrite::Update(version.clone(), ledger))
        }
        LedgerView::Absent => {
            let mut ledger = Ledger::new(founding.id.clone(), founding.founded);
            // Someone may still act on the lost one: no slot is taken before every child was touched.
            ledger.slot.fencing = founding.founded;
            Some(LedgerWrite::Create(ledger))
        }
        _ => None,
    }
}

/// The id that nobody has used, written just before the first claim.
#[must_use]
pub fn first_ledger(observed: &Observed, founding: &Founding) -> LedgerWrite {
    let ledger = Ledger::new(founding.id.clone(), false);
    match &observed.ledger {
        LedgerView::Ours(version, _) => LedgerWrite::Update(version.clone(), ledger),
        _ => LedgerWrite::Create(ledger),
    }
}

/// A former cluster's ledger, or one deleted by a person, is let go; it is made again in the next pass.
pub fn drop_leftover(observed: &Observed) -> Output {
    let leftover = matches!(observed.ledger, LedgerView::Leftover);
    let drop = || Action::Child(ChildWrite::Delete(Child::Ledger));
    leftover.then(drop).into_iter().collect()
}

/// What a lost ledger said, from the configurations that exist: once confirmed ones first.
fn remembered(observed: &Observed, held: &[Held<'_>]) -> Result<(ClusterId, bool), Output> {
    if held.is_empty() {
        return Ok((observed.fresh_id.clone(), false));
    }
    let founded = held.iter().any(|held| held.once_confirmed);
    let id = held
        .iter()
        .filter_map(|held| Some((!held.once_confirmed, &held.values?.id)))
        .min_by_key(|(never, _)| *never)
        .map(|(_, id)| id.clone());
    let lost = || {
        unreadable(
            "the ledger is gone and no configuration holds a cluster.nix of NICO's to take the id from: restore one of them",
        )
    };
    Ok((id.ok_or_else(lost)?, founded))
}
