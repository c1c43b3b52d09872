//! Mirrors of SSH keys: where classic NIO could not hand out a machine's key alone, the key is given to it by a Secret
//! `nico-ssh-<machine>` with that one value, kept in step with the Machine's own (SPEC 3.1).
//!
//! The ledger names a mirror before it is made and until it is gone, so that none is left behind. One that no configuration
//! refers to is deleted, at the version that was seen; it is written once more just before a configuration begins to refer to it,
//! so that a deletion that was decided earlier fails.

use std::collections::BTreeSet;

use crate::api::ledger::Ledger;
use crate::api::names::{MachineName, ssh_mirror_name};
use crate::api::nio::NixosConfiguration;

use super::action::{Action, Plan};
use super::desired::key_secret;
use super::founding::Founding;
use super::observed::{MirrorView, Observed, SshKeyView};
use super::selection::Selection;

/// Whether a machine is, or would be, given its key by a mirror.
fn is_mirrored(observed: &Observed, machine: &MachineName) -> bool {
    let given = observed.spec.as_ref().is_ok_and(|spec| spec.inject_ssh_key);
    given
        && matches!(
            observed.ssh_keys.get(machine),
            Some(SshKeyView::Usable { secret, .. }) if *secret == ssh_mirror_name(machine)
        )
}

/// Whether a configuration refers to the mirror of its machine.
fn refers(machine: &MachineName, configuration: &NixosConfiguration) -> bool {
    key_secret(configuration) == Some(&ssh_mirror_name(machine))
}

/// Machines whose mirror has to be there: it is given to them, or their configuration still refers to it. One that could be
/// claimed is left to others until it can be.
fn needed(
    observed: &Observed,
    founding: &Founding,
    selection: &Selection,
) -> BTreeSet<MachineName> {
    let claims = founding.founded || selection.control_plane.missing() == 0;
    let given = selection
        .present()
        .map(|(machine, _)| machine.clone())
        .filter(|machine| claims || !selection.joins(machine))
        .filter(|machine| is_mirrored(observed, machine));
    let referred = observed
        .owned()
        .filter_map(|(name, held)| Some((MachineName::parse(name)?, held)))
        .filter(|(machine, held)| refers(machine, held))
        .map(|(machine, _)| machine);
    given.chain(referred).collect()
}

/// The mirrors that the ledger has to name: those that have to be there, and those that still are.
#[must_use]
pub fn names(observed: &Observed, founding: &Founding, selection: &Selection) -> BTreeSet<String> {
    let still_there = observed
        .mirrors
        .iter()
        .filter(|(_, mirror)| **mirror != MirrorView::Absent)
        .map(|(machine, _)| machine.clone());
    let needed = needed(observed, founding, selection);
    let all = needed.into_iter().chain(still_there);
    all.map(|machine| ssh_mirror_name(&machine)).collect()
}

/// Whether the key that a machine is to be given by a mirror is not in it yet.
#[must_use]
pub fn is_behind(observed: &Observed, machine: &MachineName) -> bool {
    is_mirrored(observed, machine)
        && !matches!(observed.mirrors.get(machine), Some(MirrorView::InStep(_)))
}

/// Plans the writes that keep the mirrors in step, and lets those go that nothing refers to. It comes last in a plan: where one
/// cannot be written, nothing else waits for it.
pub fn keep(observed: &Observed, founding: &Founding, plan: &mut Plan) {
    let needed = needed(observed, founding, &plan.selection);
    for (machine, mirror) in &observed.mirrors {
        let goes = matches!(mirror, MirrorView::Leftover(_)) || !needed.contains(machine);
        let action = match mirror.version() {
            Some(version) if goes => Action::DropMirror(machine.clone(), version.clone()),
            _ if !goes && is_behind(observed, machine) => write(observed, machine),
            _ => continue,
        };
        if ledger(observed, plan)
            .is_some_and(|ledger| ledger.mirrors.contains(&ssh_mirror_name(machine)))
        {
            plan.actions.push(action);
        }
    }
}

/// The write of a machine's mirror that comes just before a configuration begins to refer to it.
pub fn touch(observed: &Observed, machine: &MachineName, plan: &mut Plan) {
    let held = observed.configurations.get(machine.as_str());
    if is_mirrored(observed, machine) && !held.is_some_and(|held| refers(machine, held)) {
        plan.actions.push(write(observed, machine));
    }
}

fn write(observed: &Observed, machine: &MachineName) -> Action {
    let version = observed.mirrors.get(machine).and_then(MirrorView::version);
    Action::WriteMirror(machine.clone(), version.cloned())
}

/// The ledger as this plan leaves it.
fn ledger<'a>(observed: &'a Observed, plan: &'a Plan) -> Option<&'a Ledger> {
    let written = plan.actions.iter().find_map(|action| match action {
        Action::CreateLedger(ledger) | Action::UpdateLedger(_, ledger) => Some(ledger),
        _ => None,
    });
    written.or_else(|| observed.ledger.ours())
}
