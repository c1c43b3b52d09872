//! Which machine founds the cluster, with which id, and whether it is founded already.

use std::collections::BTreeSet;

use crate::api::conditions::{Cause, Reason};
use crate::api::ledger::Ledger;
use crate::api::names::{ClusterId, MachineName, ledger_name};
use crate::api::status::Role;

use super::action::{Action, ChildWrite, LedgerWrite};
use super::cluster_nix::Values;
use super::observed::{LedgerView, Member, Observed, SecretView};
use super::output::Output;
use super::selection::Selection;
use super::writes::Child;

/// The state of the founding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founding {
    /// Whether the cluster is founded. From then on no machine is configured to found it.
    pub founded: bool,
    /// Id of this founding.
    pub id: ClusterId,
    /// The machine that founds it; `None` once it is founded.
    pub bootstrap: Option<MachineName>,
    /// No control plane configuration exists, and the cluster is not founded: the first claim needs an unused id, which is written to the
    /// ledger just before.
    pub needs_id: bool,
    /// Why bring-up must start again; all configurations are released first.
    pub restart: Option<Restart>,
}

/// Why bring-up must start again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Only workers' configurations exist.
    ControlPlaneGone,
    /// The control plane's configurations name several founders, or an id other than the ledger's.
    FoundersDisagree,
    /// The founder leaves, or is gone.
    FounderGone(MachineName),
    /// None of the control plane's configurations names a founder.
    NoFounder,
}

/// Returns the state of the founding. `Err` if the user has to decide something first.
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
    // A configuration without `bootstrap` was written after the founding, even if a restored ledger does not say so.
    let without_bootstrap = held
        .iter()
        .any(|held| held.says(|values| values.bootstrap.is_none()));
    let founded = ledger_founded || without_bootstrap || stored || first_all_confirmed(&held);
    other_founding(observed, &held, &id, founded)?;
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

/// A configuration of this cluster, with the values of its cluster.nix.
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

/// Whether all first control plane machines were confirmed: those in the list of the founder's own configuration, whatever the spec asks
/// for now.
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

/// The common id of all configurations, if one of them was confirmed and none has the ledger's id. Then the ledger belongs to an attempt
/// that another operator began between this one's ledger and claims, and that is abandoned.
fn alive_under(held: &[Held<'_>], ledger: &Ledger) -> Option<ClusterId> {
    let first = &held.first()?.values?.id;
    let agreed = held
        .iter()
        .all(|held| held.says(|values| values.id == *first));
    let confirmed = held.iter().any(|held| held.once_confirmed);
    (!ledger.founded && agreed && confirmed && *first != ledger.id).then(|| first.clone())
}

/// Stops if configurations that may belong to a running cluster are of another founding than the ledger. The user has to decide which is
/// right: a confirmed configuration is never released because of the ledger.
fn other_founding(
    observed: &Observed,
    held: &[Held<'_>],
    id: &ClusterId,
    founded: bool,
) -> Result<(), Output> {
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
    let ledger = ledger_name(&observed.cluster.name);
    Err(unreadable(format!(
        "the NixosConfigurations {} have another cluster id than ConfigMap {ledger}, {id}: where that is from a backup, delete it and NICO makes it again from the NixosConfigurations; else delete those NixosConfigurations",
        strangers.join(", ")
    )))
}

/// The output if the user has to restore what the ledger does not say.
fn unreadable(message: impl Into<String>) -> Output {
    let mut output = Output::stalled(Cause::new(Reason::LedgerUnreadable, message));
    output.look_for_missing();
    output
}

/// The write that brings the ledger up to date with the founding; `None` if it is, or if the first claim comes first.
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
            // A ledger of another founding is treated like a lost one.
            ledger.slot.fencing |= founding.founded && founding.id != ledger.id;
            ledger.id = founding.id.clone();
            ledger.founded = founding.founded;
            Some(LedgerWrite::Update(version.clone(), ledger))
        }
        LedgerView::Absent => {
            let mut ledger = Ledger::new(founding.id.clone(), founding.founded);
            // Another operator may still act on the lost ledger, so no entry is taken before every configuration was touched.
            ledger.slot.fencing = founding.founded;
            Some(LedgerWrite::Create(ledger))
        }
        _ => None,
    }
}

/// The ledger with an unused id, written just before the first claim.
#[must_use]
pub fn first_ledger(observed: &Observed, founding: &Founding) -> LedgerWrite {
    let ledger = Ledger::new(founding.id.clone(), false);
    match &observed.ledger {
        LedgerView::Ours(version, _) => LedgerWrite::Update(version.clone(), ledger),
        _ => LedgerWrite::Create(ledger),
    }
}

/// Removes NICO's finalizer from the ledger of a former cluster, or from one that a user deletes. The next pass creates a new one.
pub fn drop_leftover(observed: &Observed) -> Output {
    let leftover = matches!(observed.ledger, LedgerView::Leftover);
    let drop = || Action::Child(ChildWrite::Delete(Child::Ledger));
    leftover.then(drop).into_iter().collect()
}

/// Restores id and founding of a lost ledger from the configurations. Those that were ever confirmed come first.
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
        unreadable(format!(
            "ConfigMap {} is gone and no NixosConfiguration holds a cluster.nix of NICO's to take the cluster's id from: restore one of them",
            ledger_name(&observed.cluster.name)
        ))
    };
    Ok((id.ok_or_else(lost)?, founded))
}
