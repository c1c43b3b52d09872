//! Which machines stay, join and leave in each role, and why there are too few.

mod obstacle;
mod pick;

pub use obstacle::{Obstacle, ObstacleKind, malformed_address, undiscoverable};
pub use pick::{Pick, Selection};

use std::collections::{BTreeMap, BTreeSet};

use crate::api::conditions::{Cause, Reason};
use crate::api::metadata::labels;
use crate::api::names::MachineName;
use crate::api::nio::Machine;
use crate::api::spec::{Pool, ValidSpec};
use crate::api::status::Role;
use crate::api::text::{counted, shown_in};

use kube::core::SelectorExt as _;

use super::observed::Observed;
use obstacle::{
    configured, configured_obstacle, is_released, key_obstacle, misnamed_obstacle, obstacle,
    released,
};

/// The most bytes of a selector that a message shows.
const LONGEST_SELECTOR: usize = 200;

/// The roles whose selector asks for more machines than there are members and known candidates. For these the shell looks up candidates.
#[must_use]
pub fn short_roles(observed: &Observed, spec: &ValidSpec) -> Vec<Role> {
    let selection = select(observed, spec);
    let roles = Role::ALL.into_iter();
    roles
        .filter(|role| is_short(observed, spec, &selection, *role))
        .collect()
}

/// Whether the selector of a role asks for more machines than it has members.
#[must_use]
pub fn is_short(observed: &Observed, spec: &ValidSpec, selection: &Selection, role: Role) -> bool {
    let pick = selection.for_role(role);
    matches!(pool(spec, role), Pool::Selected { .. })
        && pick.staying.len() < pick.total + to_be_replaced(observed, pick)
}

/// The part of the spec for a role.
#[must_use]
pub fn pool(spec: &ValidSpec, role: Role) -> &Pool {
    match role {
        Role::ControlPlane => &spec.control_plane,
        Role::Worker => &spec.data_plane,
    }
}

/// Selects machines, and leaves out those without a usable SSH key.
#[must_use]
pub fn choose(observed: &Observed, spec: &ValidSpec) -> Selection {
    let mut selection = select(observed, spec);
    if spec.inject_ssh_key {
        leave_out_keyless(observed, &mut selection);
    }
    selection
}

/// Selects machines: members stay, then come explicit lists, then the control plane's selector, then the workers' selector.
#[must_use]
pub fn select(observed: &Observed, spec: &ValidSpec) -> Selection {
    select_ahead(observed, spec, 0)
}

/// The same, with this many more machines for each selector: those that would be chosen next.
#[must_use]
pub fn select_ahead(observed: &Observed, spec: &ValidSpec, ahead: usize) -> Selection {
    let mut members: BTreeMap<Role, BTreeSet<MachineName>> = BTreeMap::new();
    let mut terminating = BTreeSet::new();
    for role in Role::ALL {
        members.insert(role, BTreeSet::new());
        for member in observed.members_of(role) {
            if member.is_deleting() {
                terminating.insert(member.name.clone());
            }
            members.entry(role).or_default().insert(member.name);
        }
    }
    let listed: BTreeSet<&MachineName> = Role::ALL
        .iter()
        .flat_map(|role| pool(spec, *role).listed())
        .collect();
    let mut taken: BTreeSet<MachineName> = members.values().flatten().cloned().collect();
    let mut selection = Selection::default();
    for role in Role::ALL {
        let mut pick = keep(observed, spec, role, &members[&role], &terminating);
        if let Pool::Listed(machines) = pool(spec, role) {
            for machine in machines
                .iter()
                .filter(|machine| !pick.staying.contains(*machine))
            {
                match obstacle(observed, machine) {
                    None => {
                        taken.insert(machine.clone());
                        pick.joining.insert(machine.clone());
                    }
                    Some(obstacle) => {
                        pick.rivals.extend(obstacle.rival().cloned());
                        pick.obstacles.push(obstacle);
                    }
                }
            }
        }
        match role {
            Role::ControlPlane => selection.control_plane = pick,
            Role::Worker => selection.workers = pick,
        }
    }
    for role in Role::ALL {
        let pick = match role {
            Role::ControlPlane => &mut selection.control_plane,
            Role::Worker => &mut selection.workers,
        };
        fill(observed, spec, role, ahead, &listed, &mut taken, pick);
    }
    selection
}

/// Which members of a role stay.
fn keep(
    observed: &Observed,
    spec: &ValidSpec,
    role: Role,
    members: &BTreeSet<MachineName>,
    terminating: &BTreeSet<MachineName>,
) -> Pick {
    let pool = pool(spec, role);
    let other = Role::ALL.into_iter().find(|other| *other != role);
    let listed_elsewhere =
        |machine: &MachineName| other.is_some_and(|other| self::pool(spec, other).lists(machine));
    let mut candidates: Vec<MachineName> = members
        .iter()
        .filter(|machine| !terminating.contains(*machine) && !listed_elsewhere(machine))
        .cloned()
        .collect();
    let staying = match pool {
        Pool::None => BTreeSet::new(),
        Pool::Listed(machines) => candidates
            .into_iter()
            .filter(|machine| machines.contains(machine))
            .collect(),
        Pool::Selected { count, .. } => {
            let unfounded = observed.ledger.ours().is_some_and(|ledger| !ledger.founded);
            // Machines annotated `release` leave first, then unhealthy ones, then the last by name.
            let confirmed = |machine: &MachineName| {
                let member = observed.member(machine);
                member.is_some_and(|member| member.is_confirmed())
            };
            // A machine that is being changed does not count as unhealthy for that.
            let well = |machine: &MachineName| {
                let member = observed.member(machine);
                member.is_some_and(|it| it.is_discoverable() && it.was_confirmed())
            };
            // A machine that has to be replaced and is off leaves before its replacement joins: a control plane of three with a dead member
            // cannot take another one.
            let is_off = |machine: &MachineName| observed.cluster.forces(machine.as_str());
            candidates.retain(|machine| !(released(observed, machine) && is_off(machine)));
            // A machine that already leaves continues to leave, even if another one becomes unhealthy.
            let drains = |machine: &MachineName| {
                let nodes = observed.nodes_of(machine);
                nodes.iter().any(|node| node.draining_since.is_some())
            };
            candidates.sort_by_cached_key(|machine| {
                // Before the founding, all machines are released together with the founder, so it leaves last.
                (
                    !(unfounded && founds(observed, machine)),
                    released(observed, machine),
                    drains(machine),
                    !well(machine),
                    machine.clone(),
                )
            });
            let others = candidates.split_off(candidates.len().min(*count));
            // A machine that has to be replaced stays until the others are confirmed.
            let replaced = candidates.iter().all(confirmed);
            let waits = |machine: &MachineName| !replaced && released(observed, machine);
            candidates.extend(others.into_iter().filter(waits));
            candidates.into_iter().collect()
        }
    };
    let leaving = members.difference(&staying).cloned().collect();
    Pick {
        total: pool.total(),
        staying,
        leaving,
        ..Pick::default()
    }
}

/// Chooses free machines that a selector matches, by name, up to the count.
fn fill(
    observed: &Observed,
    spec: &ValidSpec,
    role: Role,
    ahead: usize,
    listed: &BTreeSet<&MachineName>,
    taken: &mut BTreeSet<MachineName>,
    pick: &mut Pick,
) {
    let Pool::Selected { selector, count } = pool(spec, role) else {
        return;
    };
    let wanted = count + to_be_replaced(observed, pick) + ahead;
    let mut keyless: Vec<Obstacle> = Vec::new();
    let mut malformed: Vec<Obstacle> = Vec::new();
    let (mut unreachable, mut kept_out) = (0_usize, 0_usize);
    let mut in_use: BTreeMap<MachineName, Obstacle> = BTreeMap::new();
    for (name, machine) in &observed.machines {
        if pick.staying.len() + pick.joining.len() >= wanted {
            break;
        }
        if listed.contains(name) || taken.contains(name) || !selects(spec, role, machine) {
            continue;
        }
        if released(observed, name) {
            kept_out += 1;
            continue;
        }
        match obstacle(observed, name) {
            Some(obstacle) if matches!(obstacle.kind, ObstacleKind::InUse(_)) => {
                in_use.insert(name.clone(), obstacle);
            }
            Some(obstacle) if obstacle.kind == ObstacleKind::Unusable => {
                malformed.push(obstacle);
            }
            Some(_) => unreachable += 1,
            // `hasConfiguration` is only a hint, but other machines are preferred.
            None if configured(machine) => {
                in_use.insert(name.clone(), configured_obstacle(name));
            }
            None => match key_obstacle(observed, name).filter(|_| spec.inject_ssh_key) {
                // A machine whose key was not read yet is chosen, so that it is read.
                Some(obstacle) if obstacle.kind == ObstacleKind::UnusableKey => {
                    keyless.push(obstacle);
                }
                _ => {
                    taken.insert(name.clone());
                    pick.joining.insert(name.clone());
                }
            },
        }
    }
    let missing = pick.missing();
    if missing > 0 {
        let held = in_use.len();
        let misnamed = observed.misnamed.iter();
        let misnamed = misnamed.filter(|(_, it)| selects(spec, role, it) && !is_released(it));
        let misnamed: Vec<Obstacle> = misnamed
            .map(|(it, _)| misnamed_obstacle(it, selector))
            .collect();
        let others = [
            (kept_out, "annotated release"),
            (misnamed.len(), "with a name that cannot be used"),
        ];
        let others = others.into_iter().filter(|(count, _)| *count > 0);
        let others: Vec<String> = others
            .map(|(count, what)| format!(", {count} {what}"))
            .collect();
        let others = others.concat();
        let (unreachable, keyless_count) = (unreachable + malformed.len(), keyless.len());
        let any = held + unreachable + keyless_count + kept_out + misnamed.len() > 0;
        let namespace = &observed.cluster.namespace;
        let has_some = !pick.staying.is_empty() || !pick.joining.is_empty();
        let no_free = match (has_some, any) {
            (true, _) => "no other free Machine",
            (false, true) => "no free Machine",
            (false, false) => "no Machine",
        };
        let (none, mend) = if selector.selects_all() {
            (
                format!("{no_free} is in namespace {namespace}"),
                "create Machines, or lower the count",
            )
        } else {
            let selector = shown_in(&selector.to_string(), LONGEST_SELECTOR);
            let mend = if any {
                "free Machines or label others so, or lower the count"
            } else {
                "label Machines so, or correct the selector"
            };
            (
                format!("{no_free} in namespace {namespace} matches the selector {selector}"),
                mend,
            )
        };
        let why = if any {
            format!(
                " ({held} in use, {unreachable} not discoverable, {keyless_count} without a usable SSH key{others})"
            )
        } else {
            String::new()
        };
        pick.obstacles.push(Obstacle {
            machine: None,
            cause: Cause::new(
                Reason::TooFewMachines,
                format!(
                    "{missing} of {} missing: {none}{why}: {mend}",
                    counted(
                        *count,
                        &format!("{} machine", role.as_str().replace('-', " "))
                    ),
                ),
            ),
            kind: ObstacleKind::Other,
        });
        let rivals = in_use.values().filter_map(Obstacle::rival);
        pick.rivals.extend(rivals.cloned());
        // A few examples are enough. Those that the user can fix come first.
        let mendable = keyless
            .into_iter()
            .take(5)
            .chain(malformed.into_iter().take(5))
            .chain(misnamed.into_iter().take(5));
        pick.obstacles.splice(0..0, mendable);
        pick.obstacles.extend(in_use.into_values().take(5));
    }
}

/// How many members of a founded cluster are annotated `release`. Each stays until another machine has replaced it.
fn to_be_replaced(observed: &Observed, pick: &Pick) -> usize {
    let founded = observed.is_founded();
    let staying = pick.staying.iter();
    let released = staying.filter(|machine| founded && released(observed, machine));
    released
        .count()
        .saturating_sub(pick.staying.len().saturating_sub(pick.total))
}

/// Whether a machine's configuration makes it the founder.
fn founds(observed: &Observed, machine: &MachineName) -> bool {
    let values = observed.member(machine).and_then(|member| member.values());
    values.is_some_and(|values| values.bootstrap.as_deref() == Some(machine.as_str()))
}

/// Leaves out joining machines without a usable SSH key.
fn leave_out_keyless(observed: &Observed, selection: &mut Selection) {
    for pick in [&mut selection.control_plane, &mut selection.workers] {
        let keyless: Vec<(MachineName, Obstacle)> = pick
            .joining
            .iter()
            .filter_map(|machine| Some((machine.clone(), key_obstacle(observed, machine)?)))
            .collect();
        for (machine, obstacle) in keyless {
            pick.joining.remove(&machine);
            // This obstacle of a machine that is otherwise free comes first.
            pick.obstacles.insert(0, obstacle);
        }
    }
}

/// Whether a member no longer matches the selector of its role: it stays, and is reported.
#[must_use]
pub fn mismatched(observed: &Observed, role: Role, machine: &MachineName) -> bool {
    let (Ok(spec), Some(object)) = (&observed.spec, observed.machines.get(machine)) else {
        return false;
    };
    matches!(pool(spec, role), Pool::Selected { .. }) && !selects(spec, role, object)
}

/// Whether the selector of a role matches a machine. It never matches a machine with more labels than NICO keeps.
#[must_use]
pub fn selects(spec: &ValidSpec, role: Role, machine: &Machine) -> bool {
    let Some(labels) = labels(&machine.metadata) else {
        return false;
    };
    matches!(pool(spec, role), Pool::Selected { selector, .. } if selector.matches(labels))
}
