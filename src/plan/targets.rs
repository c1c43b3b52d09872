//! The target of each member and each joining machine, and which members differ from it.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use crate::api::form::Form as _;
use crate::api::host::{Address, canonical};
use crate::api::names::{MachineName, Revision};
use crate::api::status::Role;

use super::cluster_nix::{ClusterNix, Lists, NixNode, Values, held_values};
use super::desired::{Compared, Difference, Target};
use super::entered::Entered;
use super::founding::Founding;
use super::observed::{Member, Observed, SshKeyView};
use super::output::Output;
use super::patience::{Clock, WIPED_AFTER};
use super::prerequisites::Prerequisites;
use super::selection::Selection;

/// The target of every machine that has a configuration or gets one in this pass.
#[must_use]
pub fn targets(
    observed: &Observed,
    prerequisites: &Prerequisites,
    founding: &Founding,
    selection: &Selection,
) -> BTreeMap<MachineName, Target> {
    // Includes members and the machines claimed in this pass. A machine that joins through the slot is claimed in its own pass.
    let claimed = if founding.founded {
        observed.free_to_join(true, &selection.workers.joining)
    } else {
        let joining = Role::ALL
            .iter()
            .flat_map(|role| &selection.for_role(*role).joining);
        joining.cloned().collect()
    };
    let addresses = Addresses::of(observed);
    let node = |machine: &MachineName| NixNode {
        name: machine.to_string(),
        ip: addresses.get(machine),
    };
    let [control_plane, workers] = Role::ALL.map(|role| {
        let pick = selection.for_role(role);
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
    let entered: BTreeSet<_> = observed.entered.iter().map(Entered::machine).collect();
    let listed = |role: Role, machine: &MachineName| {
        let by_name = |node: &NixNode| node.name.as_str().cmp(machine.as_str());
        if shared.for_role(role).binary_search_by(by_name).is_ok() {
            return Some(Arc::clone(&shared));
        }
        let with_it = |of: Role| {
            let own = (of == role).then(|| node(machine));
            shared
                .for_role(of)
                .iter()
                .cloned()
                .chain(own)
                .collect::<Vec<_>>()
        };
        entered.contains(machine).then(|| {
            let [control_plane, workers] = Role::ALL.map(with_it);
            Arc::new(Lists::new(&control_plane, &workers))
        })
    };
    let bootstrap = founding.bootstrap.as_ref().map(ToString::to_string);
    let leaders = leaders(observed, shared.for_role(Role::ControlPlane), founding);
    // Most files are the same.
    let mut files: BTreeMap<_, Arc<ClusterNix>> = BTreeMap::new();
    let mut file = |machine: &MachineName, lists: Arc<Lists>| {
        let join = leaders
            .iter()
            .find(|it| bootstrap.is_some() || it.name != machine.as_str());
        let file = files.entry((Arc::as_ptr(&lists), join));
        let file = file.or_insert_with(|| {
            Arc::new(ClusterNix {
                namespace: observed.cluster.namespace.clone(),
                name: observed.cluster.name.clone(),
                id: founding.id.clone(),
                join: join.cloned(),
                bootstrap: bootstrap.clone(),
                endpoint: prerequisites.spec.endpoint.clone(),
                lists,
            })
        });
        Arc::clone(file)
    };
    selection
        .present()
        .filter_map(|(machine, role)| {
            let nix = file(machine, listed(role, machine)?);
            let ssh_key = match observed.ssh_keys.get(machine) {
                Some(SshKeyView::Usable {
                    secret,
                    fingerprint,
                }) if prerequisites.spec.inject_ssh_key => {
                    Some((secret.clone(), fingerprint.clone()))
                }
                _ => None,
            };
            let target = Target {
                machine: machine.clone(),
                role,
                common: Arc::clone(&prerequisites.common),
                nix,
                ssh_key,
            };
            Some((machine.clone(), target))
        })
        .collect()
}

/// The members that differ from their targets, with the differences. While machines join or leave, different lists alone do not make a
/// member outdated: one rollout covers all of them afterwards.
pub fn compare(
    observed: &Observed,
    (targets, revisions): (
        &BTreeMap<MachineName, Target>,
        &BTreeMap<MachineName, Revision>,
    ),
    selection: &Selection,
    overdue: &BTreeSet<MachineName>,
    now: Timestamp,
) -> (BTreeMap<MachineName, Vec<Difference>>, Output) {
    let gathering = members_change(observed, selection, overdue);
    let mut outdated = BTreeMap::new();
    let mut output = Output::default();
    let mut compared = Compared::default();
    for (machine, target) in targets {
        let Some(member) = observed.member(machine) else {
            continue;
        };
        if !selection.for_role(target.role).staying.contains(machine) {
            continue;
        }
        let revision = revisions.get(machine);
        let mut differences = target.differences(&member, revision, &mut compared);
        if key_is_unknown(observed, &member) {
            // The target's key is unknown now, so a different key does not make the member outdated.
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

/// Whether the machine gets an SSH key that cannot be read now.
pub(super) fn key_is_unknown(observed: &Observed, member: &Member<'_>) -> bool {
    let known = matches!(
        observed.ssh_keys.get(&member.name),
        Some(SshKeyView::Usable { .. })
    );
    let given = observed.spec.as_ref().is_ok_and(|spec| spec.inject_ssh_key);
    given && !known && member.key_secret().is_some()
}

/// Whether machines join or leave: those without a configuration, those never confirmed whose deadline has not passed, and those that have
/// to leave.
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
        let pick = selection.for_role(role);
        !pick.joining.is_empty() || !pick.leaving.is_empty() || pick.staying.iter().any(joins)
    })
}

/// Whether NIO reports a confirmed machine as unconfigured. If that lasts, its Machine object was created again.
fn is_unconfigured(member: &Member<'_>) -> bool {
    let name = Some(member.name.as_str());
    let unconfigured = member.machine.is_some_and(|machine| {
        machine.status.as_ref().is_none_or(|status| {
            !status.has_configuration && status.applied_configuration.as_deref() != name
        })
    });
    unconfigured && member.is_confirmed()
}

/// Whether an unconfirmed machine has to join another member: its `join` is null, or names a machine that is no longer a member. Other
/// changes of `join` do not make a machine outdated.
fn stranded(target: &Target, member: &Member<'_>) -> bool {
    let is_member = |name: &str| {
        let mut nodes = target.nix.lists.for_role(Role::ControlPlane).iter();
        nodes.any(|node| node.name == name)
    };
    !member.is_confirmed()
        && target.nix.join.is_some()
        && member
            .values()
            .is_some_and(|held| held.join.as_ref().is_none_or(|join| !is_member(&join.name)))
}

/// The members that machines may join: during the founding the bootstrap machine, for itself too. After it another control plane member,
/// healthy ones first, else any that was ever confirmed.
fn leaders(observed: &Observed, control_plane: &[NixNode], founding: &Founding) -> Vec<NixNode> {
    if let Some(bootstrap) = &founding.bootstrap {
        let is_bootstrap = |node: &&NixNode| node.name == bootstrap.as_str();
        return control_plane.iter().filter(is_bootstrap).cloned().collect();
    }
    let usable = control_plane.iter().filter_map(|node| {
        let member = observed.member(&MachineName::parse(&node.name)?)?;
        let healthy = member.is_confirmed() && member.is_discoverable();
        let usable = !member.is_deleting() && member.was_confirmed();
        usable.then_some((!healthy, node))
    });
    let usable: BTreeSet<(bool, &NixNode)> = usable.collect();
    usable.into_iter().map(|(_, node)| node.clone()).collect()
}

/// The addresses of machines.
struct Addresses<'a> {
    observed: &'a Observed,
    /// The addresses of each machine in the members' files.
    recorded: OnceCell<BTreeMap<&'a str, BTreeSet<&'a str>>>,
}

impl<'a> Addresses<'a> {
    fn of(observed: &'a Observed) -> Self {
        let recorded = OnceCell::new();
        Self { observed, recorded }
    }

    /// A machine's address. If its Machine object is gone or has none, it is the address in its own configuration, or in those of the
    /// others. An invalid address that all of them contain is kept, so that an upgrade of NICO with stricter rules starts no rollout.
    fn get(&self, machine: &MachineName) -> String {
        let is_address = |address: &&str| Address::parse(address).is_some();
        if let Some(address) = self.observed.machine(machine).and_then(|it| it.address()) {
            // Another spelling of the same address is not a change, unless the one that the machine has is unusable.
            let own = self.own(machine).filter(is_address);
            let same = |own: &&str| *own == address || canonical(own) == canonical(address);
            let own = own.filter(same);
            return own.unwrap_or(address).to_owned();
        }
        if let Some(own) = self.own(machine).filter(is_address) {
            return own.to_owned();
        }
        let recorded = self.recorded.get_or_init(|| recorded(self.observed));
        let Some(all) = recorded.get(machine.as_str()) else {
            return String::new();
        };
        let usable = all.iter().copied().find(is_address);
        let agreed = all.first().copied().filter(|_| all.len() == 1);
        usable.or(agreed).unwrap_or_default().to_owned()
    }

    /// The address in its own configuration.
    fn own(&self, machine: &MachineName) -> Option<&str> {
        let held = self.observed.configurations.get(machine.as_str())?;
        let held = self.observed.belongs(held).then(|| held_values(held))??;
        let name = machine.as_str();
        // NICO sorts its lists.
        let sorted = [&held.control_plane, &held.workers]
            .into_iter()
            .find_map(|list| {
                let at = list.binary_search_by(|node| node.name.as_str().cmp(name));
                list.get(at.ok()?)
            });
        let node = sorted.or_else(|| nodes(held).find(|node| node.name == name))?;
        Some(node.ip.as_str())
    }
}

/// All addresses of each machine in the members' files.
fn recorded(observed: &Observed) -> BTreeMap<&str, BTreeSet<&str>> {
    let held = observed.belongings().filter_map(|(name, held)| {
        MachineName::parse(name)?;
        held_values(held)
    });
    let mut recorded: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    // Many members share the same file, so each is read once.
    for values in held.filter(|values| seen.insert(std::ptr::from_ref(*values))) {
        let mut named = BTreeSet::new();
        for node in nodes(values) {
            // If a name occurs twice, the first counts. Of a file that is not kept whole, some addresses are not known.
            let is_known = values.digests.is_none() || !node.ip.is_empty();
            if is_known && named.insert(node.name.as_str()) {
                recorded.entry(&node.name).or_default().insert(&node.ip);
            }
        }
    }
    recorded
}

fn nodes(values: &Values) -> impl Iterator<Item = &NixNode> {
    values.control_plane.iter().chain(&values.workers)
}
