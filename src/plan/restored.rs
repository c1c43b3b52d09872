//! What a paused cluster takes back of an earlier one of its name: a backup that was restored, or what a deletion with
//! `--cascade=orphan` left. Owner references and NICO's finalizers are all that is written.
//!
//! The ledger comes last, and only once nothing else is left: until then the cluster writes to no machine, also where
//! `spec.paused` becomes false or a process dies between two of these writes.

use crate::api::conditions::{Cause, ConditionType, Reason};
use crate::api::names::{ClusterId, ledger_name};
use crate::api::nio::NixosConfiguration;

use super::action::{Action, ChildWrite, Mark};
use super::desired;
use super::observed::{Member, Observed, SecretView, bears_labels, left_by};
use super::output::Output;
use super::release::never_released;
use super::writes::{Child, Precondition};

/// What was left, as far as it is found.
#[derive(Default)]
struct Found<'a> {
    /// The configurations of the ledger's founding.
    configurations: Vec<Member<'a>>,
    /// The other children, the ledger last.
    children: Vec<(Child, &'a Precondition)>,
    /// What is not taken back, and why.
    refused: Vec<String>,
    /// Whether one of these keeps all but configurations from being taken back.
    is_blocked: bool,
}

/// Takes back what bears the cluster's labels and the ledger's id, and has no living owner.
pub fn take_back(observed: &Observed) -> Output {
    let mut output = Output::default();
    if !observed.is_paused() || observed.cluster.deleting {
        return output;
    }
    let found = found(observed);
    if !found.refused.is_empty() || !observed.left.children.is_empty() || is_incomplete(observed) {
        // Secrets and ConfigMaps are not watched.
        output.look_for_missing();
    }
    let metadata = desired::restored_metadata(&observed.cluster);
    for member in found.configurations {
        output.act(member.mark(Mark::Restored(metadata.clone())));
    }
    for (child, version) in found.children {
        let write = ChildWrite::TakeBack(child, version.clone());
        output.act(Action::Child(write));
    }
    output
}

/// Whether there are configurations without the ledger or a token that belongs to them: these may be restored later.
fn is_incomplete(observed: &Observed) -> bool {
    let tokens = [observed.join_token, observed.worker_token];
    let is_missing = observed.ledger.ours().is_none() || tokens.contains(&SecretView::Absent);
    is_missing && observed.belongings().next().is_some()
}

/// Why a ledger that is not ours stops the cluster, and which condition says so.
#[must_use]
pub fn foreign_ledger(observed: &Observed) -> (ConditionType, Cause) {
    let name = ledger_name(&observed.cluster.name);
    let stalls = |message: String| {
        let cause = Cause::new(Reason::SecretConflict, message);
        (ConditionType::Stalled, cause)
    };
    if let Some(message) = unreadable_ledger(observed) {
        return stalls(message);
    }
    if !observed.left.children.contains_key(&Child::Ledger) {
        return stalls(format!(
            "ConfigMap {name} exists and is not NICO's: rename or delete it"
        ));
    }
    if !observed.is_paused() {
        return stalls(format!(
            "ConfigMap {name} was left by an earlier KubernetesCluster of this name (a restored backup, or kubectl delete --cascade=orphan): set spec.paused to true, and NICO takes it back with its Secrets and NixosConfigurations; for a new cluster instead, delete all of them, which releases the machines"
        ));
    }
    let found = found(observed);
    if found.is_blocked {
        return stalls(format!(
            "ConfigMap {name} is not taken back: {}",
            found.refused.join("; ")
        ));
    }
    if found.children.is_empty() {
        let left = observed.left.children.keys();
        let names: Vec<String> = left
            .map(|child| child.named(&observed.cluster.name))
            .collect();
        return stalls(format!(
            "ConfigMap {name} is not taken back: no NixosConfiguration bears its id: restore these too, or, for a new cluster, delete {}",
            names.join(", ")
        ));
    }
    let message = "taking back what an earlier KubernetesCluster of this name left";
    (
        ConditionType::MachinesAvailable,
        Cause::new(Reason::Progressing, message),
    )
}

/// What to do about a ledger that was left and cannot be read.
fn unreadable_ledger(observed: &Observed) -> Option<String> {
    let error = observed.left.unreadable.as_ref()?;
    let name = ledger_name(&observed.cluster.name);
    Some(format!(
        "ConfigMap {name} was left by an earlier KubernetesCluster of this name and cannot be read ({error}): restore it from another backup, or delete it and set spec.paused to false, and NICO makes it again from the NixosConfigurations"
    ))
}

/// What a person should know before `spec.paused` becomes false: what is not taken back, and what is missing.
#[must_use]
pub fn amiss(observed: &Observed) -> Vec<String> {
    found(observed).refused
}

fn found(observed: &Observed) -> Found<'_> {
    let mut found = Found::default();
    let left = &observed.left;
    let ledger = observed.ledger.ours();
    let mut labelled = observed.configurations.iter().filter(|(_, held)| {
        bears_labels(&held.metadata, &observed.cluster.name) && !observed.controls(held)
    });
    let Some(id) = ledger.map(|ledger| &ledger.id).or(left.id.as_ref()) else {
        if let Some(why) = unreadable_ledger(observed) {
            found.refused.push(why);
        } else if !left.children.is_empty() || labelled.next().is_some() {
            let ledger = ledger_name(&observed.cluster.name);
            let why = format!("nothing is taken back without ConfigMap {ledger}: restore it");
            found.refused.push(why);
        }
        return found;
    };
    for (name, held) in labelled {
        match judge(observed, id, held) {
            Ok(member) => found.configurations.push(member),
            Err((blocks, why)) => {
                let why = format!("NixosConfiguration {name} {why}");
                found.refused.push(why);
                found.is_blocked |= blocks;
            }
        }
    }
    let is_of_the_founding = |held: Member<'_>| held.values().is_some_and(|it| it.id == *id);
    let mut own = observed.members().filter(|member| member.controlled);
    let any = !found.configurations.is_empty() || own.any(is_of_the_founding);
    if any && !found.is_blocked {
        // Known hosts without an owner are the user's own, but beside a ledger that was left.
        let are_left = left.children.contains_key(&Child::Ledger);
        let children = left.children.iter().map(|(child, at)| (*child, at));
        found.children = children
            .filter(|(child, _)| are_left || *child != Child::KnownHosts)
            .collect();
    }
    found
}

/// Whether a configuration with the cluster's labels is taken back; else why not, and whether the ledger has to wait for it. A ledger
/// that not every configuration agrees with may be that of another backup.
fn judge<'a>(
    observed: &Observed,
    id: &ClusterId,
    held: &'a NixosConfiguration,
) -> Result<Member<'a>, (bool, String)> {
    let cluster = observed.cluster.name.as_str();
    let blocks = |why: String| Err((true, why));
    if left_by(&held.metadata) != Some(cluster) {
        return Err((false, "has another owner: it is left alone".to_owned()));
    }
    let member = Member::of(held).filter(|it| held.spec.machine() == Some(it.name.as_str()));
    let Some(member) = member else {
        return blocks("does not bear the name of its machine: delete one of them".to_owned());
    };
    if member.is_deleting() {
        let stuck = never_released(observed, member.name.as_str(), held);
        return blocks(stuck.map_or_else(
            || "is being deleted: wait until it is gone, and restore it again".to_owned(),
            |(_, why)| {
                format!(
                    "is being deleted and never goes by itself ({why}); where the machine is off, or runs nothing of the cluster, run kubectl patch nixosconfigurations.nio.homystack.com {} --type=merge --patch='{{\"metadata\":{{\"finalizers\":null}}}}'. Once it is gone, restore it again",
                    member.name
                )
            },
        ));
    }
    let Some(values) = member.values() else {
        return blocks("holds no cluster.nix of NICO's: restore it again".to_owned());
    };
    if values.name != cluster {
        return blocks(format!(
            "is of the cluster {}: correct its labels",
            values.name
        ));
    }
    if values.id != *id {
        return blocks(format!(
            "has another cluster id, {}, than ConfigMap {}, {id}: restore both from one backup, or delete the one that is wrong",
            values.id,
            ledger_name(cluster)
        ));
    }
    Ok(member)
}
