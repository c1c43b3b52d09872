//! What each member and each joining machine should hold, and who holds something else (SPEC 3.3, 3.4).

use std::collections::BTreeMap;

use crate::api::names::MachineName;
use crate::api::status::Role;

use super::action::Plan;
use super::cluster_nix::{ClusterNix, NixNode};
use super::confirmed::{is_confirmed, once_confirmed};
use super::desired::Target;
use super::founding::{Founding, held_values};
use super::ground::Ground;
use super::observed::{Observed, SshKeyView};
use super::selection::Selection;

/// The target of every machine that has a configuration or is to get one.
#[must_use]
pub fn targets(
    observed: &Observed,
    ground: &Ground,
    founding: &Founding,
    selection: &Selection,
) -> BTreeMap<MachineName, Target> {
    let mut nodes: BTreeMap<Role, Vec<NixNode>> = BTreeMap::new();
    for (machine, role) in selection.present() {
        nodes.entry(role).or_default().push(NixNode {
            name: machine.to_string(),
            ip: address(observed, machine),
        });
    }
    let control_plane = nodes.remove(&Role::ControlPlane).unwrap_or_default();
    let workers = nodes.remove(&Role::Worker).unwrap_or_default();
    let bootstrap = founding.bootstrap.as_ref().map(ToString::to_string);
    selection
        .present()
        .map(|(machine, role)| {
            let nix = ClusterNix {
                namespace: observed.cluster.namespace.clone(),
                name: observed.cluster.name.clone(),
                id: founding.id.clone(),
                join: join(observed, &control_plane, bootstrap.as_deref(), machine),
                bootstrap: bootstrap.clone(),
                endpoint: ground.spec.endpoint.clone(),
                control_plane: control_plane.clone(),
                workers: workers.clone(),
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

/// Notes in the plan which revision each machine should have, and which members hold something else. A machine whose SSH key
/// cannot be read now is not called outdated for it.
pub fn compare(observed: &Observed, targets: &BTreeMap<MachineName, Target>, plan: &mut Plan) {
    for (machine, target) in targets {
        plan.targets.insert(machine.clone(), target.revision());
        let pick = plan.selection.of(target.role);
        let key_unknown = matches!(
            observed.ssh_keys.get(machine),
            None | Some(SshKeyView::Unusable(..))
        );
        let Some(configuration) = observed.configurations.get(machine.as_str()) else {
            continue;
        };
        if !pick.staying.contains(machine)
            || (target.ssh_key.is_none() && key_unknown && holds_key(configuration))
        {
            continue;
        }
        let mut differences = target.differences(configuration);
        if stranded(target, configuration) {
            differences.push("join".to_owned());
        }
        if !differences.is_empty() {
            plan.outdated.insert(machine.clone(), differences);
        }
    }
}

/// Whether a machine that is not confirmed was told to join nobody, or one that is no member any more, though there is another:
/// the one change of `join` that counts (SPEC 2.5).
fn stranded(target: &Target, configuration: &crate::api::nio::NixosConfiguration) -> bool {
    let Some(held) = held_values(configuration) else {
        return false;
    };
    let is_member = |name: &str| {
        let mut nodes = target.nix.control_plane.iter();
        nodes.any(|node| node.name == name)
    };
    !is_confirmed(configuration)
        && target.nix.join.is_some()
        && held.join.is_none_or(|join| !is_member(&join.name))
}

fn holds_key(configuration: &crate::api::nio::NixosConfiguration) -> bool {
    configuration.spec.file("machine-ssh-key").is_some()
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
        let configuration = observed.configurations.get(&node.name)?;
        let name = MachineName::parse(&node.name)?;
        let usable = name != *machine
            && configuration.metadata.deletion_timestamp.is_none()
            && once_confirmed(configuration);
        let healthy = is_confirmed(configuration) && observed.discoverable(&name);
        usable.then_some((!healthy, node))
    });
    others.min().map(|(_, node)| node.clone())
}

/// A machine's address; where its Machine object is gone, the one that its configuration was written with.
fn address(observed: &Observed, machine: &MachineName) -> String {
    if let Some(address) = observed
        .machines
        .get(machine)
        .and_then(|machine| machine.address())
    {
        return address.to_owned();
    }
    observed
        .configurations
        .get(machine.as_str())
        .and_then(|configuration| held_values(configuration))
        .and_then(|values| {
            let mut nodes = values.control_plane.into_iter().chain(values.workers);
            nodes.find(|node| node.name == machine.as_str())
        })
        .map(|node| node.ip)
        .unwrap_or_default()
}
