//! What holds for every single write: it insists on what was seen, and is on an object of the cluster's own.

use std::collections::BTreeSet;

use nico::api::ledger::EntryState;
use nico::api::names::{ClusterId, MachineName};
use nico::api::nio::{Generation, NixosConfiguration};
use nico::api::status::Role;
use nico::plan::action::{
    Action, ChildWrite, ConfigurationWrite, FinalizerWrite, KubeconfigWork, LedgerWrite, Mark,
    Plan, SlotWrite,
};
use nico::plan::confirmed::Proof;
use nico::plan::entered::EnteredWrite;
use nico::plan::observed::{LedgerView, Member, Observed, SecretView, SshKeyView};
use nico::plan::writes::{Child, Precondition, Rewrite};
use serde_json::Value;

use super::{known_founded, must};
use crate::given::member;

/// Every write insists on what was seen, and is on an object of the cluster's own.
pub(super) fn preconditions(observed: &Observed, action: &Action) -> Result<(), String> {
    match action {
        Action::Finalizer(FinalizerWrite::Add(at, _)) => must(
            *at == observed.cluster.precondition(),
            "a write to the cluster insists on its version",
        ),
        Action::Finalizer(FinalizerWrite::Remove(at, _)) => must(
            *at == observed.cluster.precondition()
                && (observed.belongings().next().is_none() || observed.cluster.is_orphaning()),
            "I9: the finalizer goes only when no owned configuration is in view",
        ),
        Action::Ledger(LedgerWrite::Create(_)) => must(
            matches!(observed.ledger, LedgerView::Absent),
            "a ledger is made where there is none",
        ),
        Action::Ledger(LedgerWrite::Update(at, _)) => must(
            matches!(&observed.ledger, LedgerView::Ours(version, _) if version == at),
            "a ledger is changed by compare-and-swap",
        ),
        Action::Child(ChildWrite::CreateToken(_)) => must(
            observed.belongings().next().is_none(),
            "I5: no token is made while a configuration refers to one",
        ),
        Action::Configuration(ConfigurationWrite::Claim(claim)) => {
            check_key(observed, &claim.machine, &claim.body.render())
        }
        Action::Kubeconfig(KubeconfigWork::Store(None)) => must(
            observed.kubeconfig.secret == SecretView::Absent,
            "I6: a kubeconfig Secret is made where there is none",
        ),
        Action::Kubeconfig(KubeconfigWork::Store(Some(at))) => {
            let stored = observed.kubeconfig.stored.as_ref();
            must(
                matches!(
                    observed.kubeconfig.secret,
                    SecretView::Ours | SecretView::Unusable
                ) && stored.is_some_and(|stored| stored.version == *at),
                "I6: only our own kubeconfig is replaced, at the version seen",
            )
        }
        Action::Configuration(ConfigurationWrite::Mark(name, at, Mark::Forced(_))) => {
            let held = observed.configurations.get(name);
            let held = held.ok_or("only what is there is stripped")?;
            must(observed.controls(held), "I2: only our own is stripped")?;
            must(
                Precondition::of(&held.metadata) == *at,
                "a mark insists on a version",
            )?;
            must(
                held.metadata.deletion_timestamp.is_some() && observed.cluster.forces(name),
                "NIO's finalizer goes only where a person asked for it",
            )
        }
        Action::Configuration(ConfigurationWrite::GiveBack(name, at)) => {
            let held = observed.configurations.get(name);
            let held = held.ok_or("only what is there is given back")?;
            must(observed.belongs(held), "I2: only our own is given back")?;
            must(
                held.metadata.deletion_timestamp.is_none(),
                "what is being deleted is not deleted again",
            )?;
            must(
                Precondition::of(&held.metadata) == *at,
                "a deletion insists on a version",
            )?;
            must(
                observed.cluster.deleting
                    || !Member::of(held).is_some_and(|it| it.was_confirmed())
                    || !known_founded(observed),
                "a once confirmed machine of a founded cluster leaves through the slot alone",
            )
        }
        Action::Configuration(ConfigurationWrite::Mark(machine, at, Mark::Confirmed(marker))) => {
            let held = observed.configurations.get(machine.as_str());
            let held = held.ok_or("only what is there is confirmed")?;
            must(observed.belongs(held), "I2: only our own is confirmed")?;
            must(
                Precondition::of(&held.metadata) == *at,
                "a mark insists on a version",
            )?;
            must(
                member(held).marker().as_ref() == Some(marker)
                    && observed.as_member(held).and_then(|it| it.proof()) == Some(Proof::OfHeld),
                "only what NIO proves is confirmed",
            )
        }
        Action::Configuration(ConfigurationWrite::Mark(name, at, Mark::TakenBack(_))) => {
            let held = observed.configurations.get(name);
            let held = held.ok_or("only what is there is taken back")?;
            must(observed.belongs(held), "I2: only our own is taken back")?;
            must(
                Precondition::of(&held.metadata) == *at,
                "a quiet write insists on a version",
            )
        }
        Action::Configuration(ConfigurationWrite::Mark(name, at, Mark::Restored(metadata))) => {
            let held = observed.configurations.get(name);
            let held = held.ok_or("only what is there is taken back")?;
            must(
                Precondition::of(&held.metadata) == *at
                    && held.metadata.deletion_timestamp.is_none(),
                "what is taken back is as it was seen, and stays",
            )?;
            let owners = metadata["ownerReferences"].as_array();
            must(
                metadata.as_object().is_some_and(|it| it.len() == 1)
                    && owners
                        .is_some_and(|it| it.len() == 1 && it[0]["uid"] == observed.cluster.uid),
                "what is taken back gets its owner, and nothing else",
            )?;
            must(
                observed.is_paused() && is_orphan(observed, held),
                "I2: only a paused cluster takes back what bears its labels and has no living owner",
            )?;
            must(
                member(held).values().map(|it| &it.id) == founding(observed),
                "a configuration of another founding is left alone",
            )
        }
        Action::Child(ChildWrite::TakeBack(child, at)) => must(
            observed.is_paused()
                && observed.left.children.get(child) == Some(at)
                && founding(observed).is_some(),
            "I6: only a paused cluster with a ledger takes back what was left",
        ),
        // A ledger that is being deleted waits for NICO alone, and NIO does not need it.
        Action::Child(ChildWrite::Delete(Child::Ledger))
            if !observed.cluster.deleting && matches!(observed.ledger, LedgerView::Leftover) =>
        {
            Ok(())
        }
        Action::Child(ChildWrite::Delete(_)) => must(
            observed.belongings().next().is_none(),
            "nothing that NIO needs goes before the last configuration",
        ),
        Action::Configuration(ConfigurationWrite::Mark(machine, at, Mark::Withdrawn)) => {
            let held = observed.configurations.get(machine.as_str());
            let held = held.ok_or("only what is there is withdrawn")?;
            must(
                observed.controls(held)
                    && Precondition::of(&held.metadata) == *at
                    && member(held).is_confirmed(),
                "only our own confirmed mark is withdrawn",
            )
        }
        Action::Configuration(ConfigurationWrite::Mark(machine, at, Mark::Settled(fields))) => {
            let held = observed.configurations.get(machine.as_str());
            let held = held.ok_or("only what is there is settled")?;
            let quiet = ["fullInstall", "dayTwoSchedule"];
            must(
                observed.controls(held)
                    && Precondition::of(&held.metadata) == *at
                    && fields.keys().all(|field| quiet.contains(&field.as_str()))
                    && fields.get("fullInstall").is_none_or(|it| *it == false),
                "only what NIO does not apply is written quietly, and only to our own",
            )
        }
        Action::Configuration(ConfigurationWrite::Mark(machine, at, Mark::Touched)) => {
            let held = observed.configurations.get(machine.as_str());
            let held = held.ok_or("only what is there is touched")?;
            must(
                observed.controls(held) && Precondition::of(&held.metadata) == *at,
                "only our own is touched",
            )
        }
        Action::Configuration(ConfigurationWrite::Rewrite(rewrite)) => {
            check_rewrite(observed, rewrite)?;
            let held = &observed.configurations[rewrite.machine.as_str()];
            must(
                !member(held).was_confirmed()
                    && (member(held).role() == Role::Worker || !known_founded(observed)),
                "only what was never confirmed is written without the slot",
            )
        }
        Action::Slot(SlotWrite::Take { ledger, taken, .. }) => {
            must(
                matches!(&observed.ledger, LedgerView::Ours(version, old)
                    if version == ledger && old.id == taken.id && !old.slot.fencing),
                "an entry is taken by compare-and-swap, and not while fencing",
            )?;
            let roles: BTreeSet<_> = taken.slot.entries.iter().map(|it| it.role).collect();
            let most = observed.spec.as_ref().map_or(0, |spec| {
                let workers = nico::plan::selection::pool(spec, Role::Worker).total();
                spec.rollout.max_unavailable.scaled(workers)
            });
            let entries = taken.slot.entries.len();
            let before = observed.ledger.ours().map_or(0, |it| it.slot.entries.len());
            must(
                roles.len() <= 1
                    && (!roles.contains(&Role::ControlPlane) || entries <= 1)
                    && (entries <= most
                        || entries <= before
                        || roles.contains(&Role::ControlPlane)),
                "one control plane machine, or maxUnavailable workers, never both",
            )
        }
        Action::Disrupt(disruptive) => {
            must(
                observed
                    .entered
                    .iter()
                    .any(|it| it.machine() == disruptive.machine()),
                "nothing is disrupted but under its entry",
            )?;
            match disruptive.write() {
                EnteredWrite::Rewrite(rewrite) => check_rewrite(observed, rewrite),
                EnteredWrite::Join(claim) => {
                    check_key(observed, &claim.machine, &claim.body.render())
                }
                EnteredWrite::Drain { .. }
                | EnteredWrite::Release(_)
                | EnteredWrite::DeleteNode { .. } => Ok(()),
            }
        }
        Action::Slot(SlotWrite::End {
            children,
            ledger,
            before,
        }) => {
            must(
                matches!(&observed.ledger, LedgerView::Ours(version, old)
                    if version == ledger && old == before),
                "what is removed is removed from the ledger that was read",
            )?;
            for (machine, child) in children {
                let held = observed.configurations.get(machine.as_str());
                let held = held.ok_or("only a child that is there is touched")?;
                let entry = before.slot.entry(machine);
                must(
                    Precondition::of(&held.metadata) == *child
                        && member(held).is_confirmed()
                        && entry.is_some_and(|it| it.state == EntryState::Releasing),
                    "an entry ends from `releasing`, once its machine is confirmed",
                )?;
            }
            Ok(())
        }
        Action::Child(ChildWrite::AddFinalizer(child, at)) => must(
            observed.without_finalizer.get(child) == Some(at),
            "what is held again is written at the version that was seen",
        ),
        Action::ProbeWorkload
        | Action::Node(_)
        | Action::Child(ChildWrite::LetGo(_))
        | Action::Kubeconfig(_)
        | Action::Notify(_) => Ok(()),
    }
}

/// The id that the ledger says, ours or left.
fn founding(observed: &Observed) -> Option<&ClusterId> {
    let ours = observed.ledger.ours().map(|ledger| &ledger.id);
    ours.or(observed.left.id.as_ref())
}

/// Whether a configuration bears the cluster's labels, and no other object owns it than earlier clusters of its name.
fn is_orphan(observed: &Observed, held: &NixosConfiguration) -> bool {
    let cluster = observed.cluster.name.as_str();
    let label = |key: &str| held.metadata.labels.as_ref()?.get(key).map(String::as_str);
    let mut owners = held.metadata.owner_references.iter().flatten();
    label("nico.homystack.com/cluster") == Some(cluster)
        && label("app.kubernetes.io/managed-by") == Some("nico")
        && owners.all(|owner| {
            owner.api_version.starts_with("nico.homystack.com/")
                && owner.kind == "KubernetesCluster"
                && owner.name == cluster
        })
        && !observed.controls(held)
}

/// The ledger is the last that is taken back, once every configuration that was left is.
pub(super) fn restored_in_order(observed: &Observed, plan: &Plan) -> Result<(), String> {
    let takes = |child: Child| move |action: &Action| matches!(action, Action::Child(ChildWrite::TakeBack(it, _)) if *it == child);
    let Some(ledger) = plan.actions.iter().position(takes(Child::Ledger)) else {
        return Ok(());
    };
    let restored = |name: &str| {
        plan.actions[..ledger].iter().any(|action| {
            matches!(action, Action::Configuration(ConfigurationWrite::Mark(it, _, Mark::Restored(_))) if it == name)
        })
    };
    let children = observed.left.children.keys();
    let mut children = children.filter(|child| **child != Child::Ledger);
    must(
        children.all(|child| plan.actions[..ledger].iter().any(takes(*child)))
            && observed
                .configurations
                .iter()
                .all(|(name, held)| !is_orphan(observed, held) || restored(name)),
        "the ledger comes last",
    )
}

/// Where a file is put that is to lie beside the flake: v1 counts from the root of the repository.
pub(super) fn place(observed: &Observed, file: &str) -> String {
    let spec = observed.spec.as_ref().ok();
    let subdir = spec.and_then(|spec| spec.configuration_subdir.as_ref());
    match subdir.filter(|_| observed.nio == Some(Generation::V1)) {
        Some(subdir) => format!("{subdir}/{file}"),
        None => file.to_owned(),
    }
}

/// Disks are wiped where the spec asks for it, by a NIO that does so once, and on no machine that was ever confirmed.
fn check_install(observed: &Observed, machine: &MachineName, spec: &Value) -> Result<(), String> {
    let asked = observed.spec.as_ref().is_ok_and(|it| it.full_install);
    let once = observed.nio == Some(Generation::V1);
    let held = observed.configurations.get(machine.as_str());
    let confirmed = held.is_some_and(|held| member(held).was_confirmed());
    must(
        spec["fullInstall"] != true || asked && once && !confirmed,
        "no disk is wiped of a machine that was confirmed",
    )
}

/// Nothing is written for a machine whose SSH key cannot be given to it.
fn check_key(observed: &Observed, machine: &MachineName, body: &Value) -> Result<(), String> {
    check_install(observed, machine, &body["spec"])?;
    let given = observed.spec.as_ref().is_ok_and(|spec| spec.inject_ssh_key);
    let files = body["spec"]["additionalFiles"].as_array();
    let mut files = files.into_iter().flatten();
    let written = files.find(|file| file["path"] == place(observed, "machine-ssh-key"));
    let written = written.and_then(|file| file["secretRef"]["name"].as_str());
    let usable = match observed.ssh_keys.get(machine) {
        Some(SshKeyView::Usable { secret, .. }) => Some(secret.as_str()),
        _ => None,
    };
    must(
        !given || usable.is_some() && written == usable,
        "a machine is written with its own SSH key, or not at all",
    )
}

/// A rewrite insists on what was seen, and carries a marker that the configuration does not hold (I15).
fn check_rewrite(observed: &Observed, rewrite: &Rewrite) -> Result<(), String> {
    let held = observed.configurations.get(rewrite.machine.as_str());
    let held = held.ok_or("only what is there is written again")?;
    check_install(observed, &rewrite.machine, &rewrite.body.render()["spec"])?;
    let bootstrap = &rewrite.body.render()["spec"]["additionalFiles"][0]["inline"];
    let values = bootstrap.as_str().and_then(nico::plan::cluster_nix::parse);
    must(
        observed.controls(held) && Precondition::of(&held.metadata) == rewrite.version,
        "I2: only our own is written, at the version seen",
    )?;
    must(
        member(held).marker().as_ref() != Some(&rewrite.marker),
        "I15: every attempt has a marker of its own",
    )?;
    must(
        !known_founded(observed) || values.is_some_and(|values| values.bootstrap.is_none()),
        "I14: a founded cluster's machine is told to found nothing",
    )
}
