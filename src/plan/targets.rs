//! What each member and each joining machine should hold, and who holds something else (SPEC 3.3, 3.4).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use crate::api::form::Form as _;
use crate::api::host::Address;
use crate::api::names::MachineName;
use crate::api::status::Role;

use super::cluster_nix::{ClusterNix, Lists, NixNode};
use super::desired::{Difference, Target};
use super::founding::Founding;
use super::ground::Ground;
use super::observed::{Member, Observed, SshKeyView};
use super::output::Output;
use super::patience::{Clock, WIPED_AFTER};
use super::selection::Selection;

/// The target of every machine that has a configuration or is to get one.
#[must_use]
pub fn targets(
    observed: &Observed,
    ground: &Ground,
    founding: &Founding,
    selection: &Selection,
) -> BTreeMap<MachineName, Target> {
    // Members, and those claimed in this pass; one that joins through the slot is claimed in a pass of its own (SPEC 3.3).
    let claimed = if founding.founded {
        observed.free_to_join(true, &selection.workers.joining)
    } else {
        let joining = Role::ALL
            .iter()
            .flat_map(|role| &selection.of(*role).joining);
        joining.cloned().collect()
    };
    let node = |machine: &MachineName| NixNode {
        name: machine.to_string(),
        ip: address(observed, machine),
    };
    let [control_plane, workers] = Role::ALL.map(|role| {
        let pick = selection.of(role);
        let claimed = pick.joining.iter().filter(|it| claimed.contains(*it));
        let members: BTreeSet<&MachineName> = pick
            .staying
            .iter()
            .chain(&pick.leaving)
            .chain(claimed)
            .collect();
        members.into_iter().map(node).collect::<Vec<NixNode>>()
    });
    let shared = Arc::new(Lists::new(&control_plane, &workers));
    let listed = |role: Role, machine: &MachineName| {
        let by_name = |node: &NixNode| node.name.as_str().cmp(machine.as_str());
        if shared.of(role).binary_search_by(by_name).is_ok() {
            return Arc::clone(&shared);
        }
        let with_it = |of: Role| {
            let own = (of == role).then(|| node(machine));
            shared.of(of).iter().cloned().chain(own).collect::<Vec<_>>()
        };
        let [control_plane, workers] = Role::ALL.map(with_it);
        Arc::new(Lists::new(&control_plane, &workers))
    };
    let bootstrap = founding.bootstrap.as_ref().map(ToString::to_string);
    selection
        .present()
        .map(|(machine, role)| {
            let lists = listed(role, machine);
            let control_plane = lists.of(Role::ControlPlane);
            let nix = ClusterNix {
                namespace: observed.cluster.namespace.clone(),
                name: observed.cluster.name.clone(),
                id: founding.id.clone(),
                join: join(observed, control_plane, bootstrap.as_deref(), machine),
                bootstrap: bootstrap.clone(),
                endpoint: ground.spec.endpoint.clone(),
                lists,
            };
            let ssh_key = match observed.ssh_keys.get(machine) {
                Some(SshKeyView::Usable {
                    secret,
                    fingerprint,
                }) if ground.spec.inject_ssh_key => Some((secret.clone(), fingerprint.clone())),
                _ => None,
            };
            let target = Target {
                machine: machine.clone(),
                role,
                common: ground.common.clone(),
                nix,
                ssh_key,
            };
            (machine.clone(), target)
        })
        .collect()
}

/// The members that hold something else than their targets, with what differs. While anyone joins or leaves, the lists alone make
/// nobody outdated: one roll carries all of it afterwards (SPEC 4.3).
pub fn compare(
    observed: &Observed,
    targets: &BTreeMap<MachineName, Target>,
    selection: &Selection,
    overdue: &BTreeSet<MachineName>,
    now: Timestamp,
) -> (BTreeMap<MachineName, Vec<Difference>>, Output) {
    let gathering = members_change(observed, selection, overdue);
    let mut outdated = BTreeMap::new();
    let mut output = Output::default();
    for (machine, target) in targets {
        let Some(member) = observed.member(machine) else {
            continue;
        };
        if !selection.of(target.role).staying.contains(machine) {
            continue;
        }
        let mut differences = target.differences(&member);
        if key_is_unknown(observed, &member) {
            // What the machine would be written with cannot be told; it is not called outdated for its key.
            differences.retain(|difference| {
                !matches!(
                    difference,
                    Difference::AdditionalFiles | Difference::SshKey | Difference::Revision
                )
            });
        }
        if stranded(target, &member) {
            differences.push(Difference::Join);
        }
        let clock = Clock::Unconfigured(machine.clone());
        if is_unconfigured(&member) && output.has_run(observed, clock, now, WIPED_AFTER) {
            differences.push(Difference::Reapply);
        }
        let of_the_lists = differences.iter().all(|it| it.is_of_the_lists());
        if !(differences.is_empty() || gathering && of_the_lists) {
            outdated.insert(machine.clone(), differences);
        }
    }
    (outdated, output)
}

/// Whether a machine is given an SSH key and that key cannot be read now.
pub(super) fn key_is_unknown(observed: &Observed, member: &Member<'_>) -> bool {
    let known = matches!(
        observed.ssh_keys.get(&member.name),
        Some(SshKeyView::Usable { .. })
    );
    let given = observed.spec.as_ref().is_ok_and(|spec| spec.inject_ssh_key);
    given && !known && member.key_secret().is_some()
}

/// Whether anyone joins or leaves: has no configuration yet, was never confirmed and is still in time, or is to go.
fn members_change(
    observed: &Observed,
    selection: &Selection,
    overdue: &BTreeSet<MachineName>,
) -> bool {
    let joins = |machine: &MachineName| {
        let member = observed.member(machine);
        !overdue.contains(machine) && member.is_some_and(|it| !it.was_confirmed())
    };
    Role::ALL.into_iter().any(|role| {
        let pick = selection.of(role);
        !pick.joining.is_empty() || !pick.leaving.is_empty() || pick.staying.iter().any(joins)
    })
}

/// Whether NIO shows a confirmed machine as unconfigured: after a while it was made anew (SPEC 3.6).
fn is_unconfigured(member: &Member<'_>) -> bool {
    let name = Some(member.name.as_str());
    let unconfigured = member.machine.is_some_and(|machine| {
        machine.status.as_ref().is_none_or(|status| {
            !status.has_configuration && status.applied_configuration.as_deref() != name
        })
    });
    unconfigured && member.is_confirmed()
}

/// Whether a machine that is not confirmed was told to join nobody, or one that is no member any more, though there is another:
/// the one change of `join` that counts (SPEC 2.5).
fn stranded(target: &Target, member: &Member<'_>) -> bool {
    let is_member = |name: &str| {
        let mut nodes = target.nix.lists.of(Role::ControlPlane).iter();
        nodes.any(|node| node.name == name)
    };
    !member.is_confirmed()
        && target.nix.join.is_some()
        && member
            .values()
            .is_some_and(|held| held.join.is_none_or(|join| !is_member(&join.name)))
}

/// Whom a machine joins: while founding the bootstrap machine (for itself too), then another control plane member, a healthy
/// one first, else any once confirmed (SPEC 2.5).
fn join(
    observed: &Observed,
    control_plane: &[NixNode],
    bootstrap: Option<&str>,
    machine: &MachineName,
) -> Option<NixNode> {
    if let Some(bootstrap) = bootstrap {
        return control_plane
            .iter()
            .find(|node| node.name == bootstrap)
            .cloned();
    }
    let others = control_plane.iter().filter_map(|node| {
        let other = observed.member(&MachineName::parse(&node.name)?)?;
        let usable = other.name != *machine && !other.is_deleting() && other.was_confirmed();
        let healthy = other.is_confirmed() && other.is_discoverable();
        usable.then_some((!healthy, node))
    });
    others.min().map(|(_, node)| node.clone())
}

/// A machine's address. Where its Machine object is gone or names none, the one that its configuration was written with, or that of
/// the others. One that is none, and that all of them hold, stays: an operator upgrade, which may be stricter, rolls nothing.
fn address(observed: &Observed, machine: &MachineName) -> String {
    if let Some(address) = observed.machine(machine).and_then(|it| it.address()) {
        return address.to_owned();
    }
    let held = |member: &Member<'_>| {
        let values = member.values()?;
        let mut nodes = values.control_plane.into_iter().chain(values.workers);
        let node = nodes.find(|node| node.name == machine.as_str())?;
        Some(node.ip)
    };
    let is_address = |address: &String| Address::parse(address).is_some();
    let own = observed.member(machine).and_then(|member| held(&member));
    if let Some(own) = own.filter(is_address) {
        return own;
    }
    let mut all: BTreeSet<String> = observed.members().filter_map(|it| held(&it)).collect();
    let usable = all.iter().find(|address| is_address(address)).cloned();
    let agreed = || all.pop_first().filter(|_| all.is_empty());
    usable.or_else(agreed).unwrap_or_default()
}
