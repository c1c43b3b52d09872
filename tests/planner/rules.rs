//! What holds for every plan and every status, whatever was observed (INVARIANTS, I1 to I15). Each world checks each of its plans by it.

use std::collections::BTreeSet;

use jiff::Timestamp;
use nico::api::conditions::Reason;
use nico::api::ledger::EntryState;
use nico::api::names::{CLUSTER_FINALIZER, CONFIRMED_ANNOTATION, MARKER_DIR};
use nico::api::nio::Generation;
use nico::api::status::Role;
use nico::plan::Settings;
use nico::plan::action::{Action, Claim, Plan, Rewrite};
use nico::plan::confirmed::{held_marker, is_confirmed, once_confirmed, proved};
use nico::plan::founding::held_values;
use nico::plan::observed::{
    Holder, LedgerView, Observed, SecretView, Works, precondition, role_of,
};
use nico::plan::slot::{Deed, Entered};
use nico::plan::status::status;

use crate::given::{claims, kind, nix_of};

/// Panics with the rule that a plan breaks.
#[track_caller]
pub fn hold(observed: &Observed, plan: &Plan, now: Timestamp, settings: &Settings) {
    if let Err(rule) = check(observed, plan, now, settings) {
        panic!("{rule}\n{plan:#?}\n{observed:#?}");
    }
}

fn must(holds: bool, rule: &str) -> Result<(), String> {
    holds.then_some(()).ok_or_else(|| rule.to_owned())
}

/// The first rule that a plan, or the status made from it, breaks.
pub fn check(
    observed: &Observed,
    plan: &Plan,
    now: Timestamp,
    settings: &Settings,
) -> Result<(), String> {
    must(
        *plan == nico::plan::plan(observed, now, settings),
        "I13: the same arguments give the same plan",
    )?;
    kinds(observed, plan)?;
    for action in &plan.actions {
        preconditions(observed, action)?;
    }
    let mut claimed = BTreeSet::new();
    for claim in claims(plan) {
        must(
            claimed.insert(claim.machine.clone()),
            "I1: at most one claim a machine",
        )?;
        check_claim(observed, plan, claim, now)?;
    }
    whole(observed, plan)?;
    check_status(observed, plan, now)
}

/// Which kinds of actions a plan may hold, and in which order.
fn kinds(observed: &Observed, plan: &Plan) -> Result<(), String> {
    let kinds: Vec<&str> = plan.actions.iter().map(kind).collect();
    let only = |allowed: &[&str]| kinds.iter().all(|kind| allowed.contains(kind));
    let paused = observed.spec.as_ref().is_ok_and(|spec| spec.paused);
    if observed.cluster.deleting {
        must(
            only(&[
                "GiveBack",
                "Strip",
                "LetGo",
                "TellLeftBehind",
                "DeleteChild",
                "RemoveFinalizer",
            ]),
            "I10: a cluster that is being deleted makes nothing",
        )?;
        must(!paused || kinds.is_empty(), "a paused deletion waits")?;
    } else {
        must(
            !kinds.contains(&"RemoveFinalizer"),
            "the finalizer stays on a living cluster",
        )?;
        must(
            !paused || only(&["Confirm", "Withdraw", "VerifyKubeconfig"]),
            "SPEC 4.1: when paused nothing is written but `confirmed` and `withdrawn`",
        )?;
    }
    let position = |kind: &str| kinds.iter().position(|found| *found == kind);
    let last = |kind: &str| kinds.iter().rposition(|found| *found == kind);
    let order = [
        "AddFinalizer",
        "UpdateLedger",
        "CreateLedger",
        "CreateToken",
        "Claim",
    ];
    for (index, earlier) in order.iter().enumerate() {
        for later in &order[index + 1..] {
            if let (Some(earlier), Some(later)) = (last(earlier), position(later)) {
                must(
                    earlier < later,
                    "SPEC 3.6: finalizer, ledger, Secrets, configurations, in this order",
                )?;
            }
        }
    }
    let creates = order[1..].iter().any(|kind| kinds.contains(kind));
    must(
        !creates
            || kinds.contains(&"AddFinalizer")
            || observed
                .cluster
                .finalizers
                .iter()
                .any(|it| it == CLUSTER_FINALIZER),
        "the finalizer comes before anything that is made",
    )
}

/// Every write insists on what was seen, and is on an object of the cluster's own.
fn preconditions(observed: &Observed, action: &Action) -> Result<(), String> {
    match action {
        Action::AddFinalizer(at, _) => must(
            *at == observed.cluster.precondition(),
            "a write to the cluster insists on its version",
        ),
        Action::RemoveFinalizer(at, _) => must(
            *at == observed.cluster.precondition()
                && (observed.owned().next().is_none() || observed.cluster.is_orphaning()),
            "I9: the finalizer goes only when no owned configuration is in view",
        ),
        Action::CreateLedger(_) => must(
            matches!(observed.ledger, LedgerView::Absent),
            "a ledger is made where there is none",
        ),
        Action::UpdateLedger(at, _) => must(
            matches!(&observed.ledger, LedgerView::Ours(version, _) if version == at),
            "a ledger is changed by compare-and-swap",
        ),
        Action::CreateToken(_) => must(
            observed.owned().next().is_none(),
            "I5: no token is made while a configuration refers to one",
        ),
        Action::StoreKubeconfig => must(
            observed.kubeconfig.secret == SecretView::Absent,
            "I6: a kubeconfig Secret is never overwritten",
        ),
        Action::Strip(name, at, _) => {
            let held = observed.configurations.get(name);
            let held = held.ok_or("only what is there is stripped")?;
            must(observed.owns(held), "I2: only our own is stripped")?;
            must(precondition(held) == *at, "a mark insists on a version")?;
            must(
                held.metadata.deletion_timestamp.is_some() && observed.cluster.forces(name),
                "SPEC 5: NIO's finalizer goes only where a person asked for it",
            )
        }
        Action::GiveBack(name, at) => {
            let held = observed.configurations.get(name);
            let held = held.ok_or("only what is there is given back")?;
            must(observed.is_ours(held), "I2: only our own is given back")?;
            must(
                held.metadata.deletion_timestamp.is_none(),
                "what is being deleted is not deleted again",
            )?;
            must(precondition(held) == *at, "a deletion insists on a version")?;
            must(
                observed.cluster.deleting || !once_confirmed(held) || !known_founded(observed),
                "a once confirmed machine of a founded cluster leaves through the slot alone",
            )
        }
        Action::Confirm(machine, at, marker) => {
            let held = observed.configurations.get(machine.as_str());
            let held = held.ok_or("only what is there is confirmed")?;
            must(observed.is_ours(held), "I2: only our own is confirmed")?;
            must(precondition(held) == *at, "a mark insists on a version")?;
            let on = observed.machines.get(machine).map(|machine| &**machine);
            must(
                held_marker(held).as_ref() == Some(marker)
                    && observed.nio.is_some_and(|nio| proved(nio, held, on)),
                "SPEC 3.5: only what NIO proves is confirmed",
            )
        }
        Action::TakeBack(name, at, _) => {
            let held = observed.configurations.get(name);
            let held = held.ok_or("only what is there is taken back")?;
            must(observed.is_ours(held), "I2: only our own is taken back")?;
            must(
                precondition(held) == *at,
                "a quiet write insists on a version",
            )
        }
        Action::DeleteChild(_) => must(
            observed.owned().next().is_none(),
            "SPEC 5: nothing that NIO needs goes before the last configuration",
        ),
        Action::Withdraw(machine, at) => {
            let held = observed.configurations.get(machine.as_str());
            let held = held.ok_or("only what is there is withdrawn")?;
            must(
                observed.owns(held) && precondition(held) == *at && is_confirmed(held),
                "SPEC 3.5: only our own confirmed mark is withdrawn",
            )
        }
        Action::Touch(machine, at) => {
            let held = observed.configurations.get(machine.as_str());
            let held = held.ok_or("only what is there is touched")?;
            must(
                observed.owns(held) && precondition(held) == *at,
                "SPEC 4.2: only our own is touched",
            )
        }
        Action::Rewrite(rewrite) => {
            check_rewrite(observed, rewrite)?;
            let held = &observed.configurations[rewrite.machine.as_str()];
            must(
                !once_confirmed(held)
                    && (role_of(held) == Role::Worker || !known_founded(observed)),
                "SPEC 4.1: only what was never confirmed is written without the slot",
            )
        }
        Action::Take { ledger, taken, .. } => {
            must(
                matches!(&observed.ledger, LedgerView::Ours(version, old)
                    if version == ledger && old.id == taken.id && !old.slot.fencing),
                "SPEC 4.2: an entry is taken by compare-and-swap, and not while fencing",
            )?;
            let roles: BTreeSet<_> = taken.slot.entries.iter().map(|it| it.role).collect();
            let most = observed.spec.as_ref().map_or(0, |spec| {
                let workers = nico::plan::selection::pool(spec, Role::Worker).total();
                spec.rollout.max_unavailable.of(workers)
            });
            let entries = taken.slot.entries.len();
            let before = observed.ledger.ours().map_or(0, |it| it.slot.entries.len());
            must(
                roles.len() <= 1
                    && (!roles.contains(&Role::ControlPlane) || entries <= 1)
                    && (entries <= most
                        || entries <= before
                        || roles.contains(&Role::ControlPlane)),
                "SPEC 4.2: one control plane machine, or maxUnavailable workers, never both",
            )
        }
        Action::Disrupt(disruptive) => {
            must(
                observed.entered.as_ref().map(Entered::machine) == Some(disruptive.machine()),
                "SPEC 4.2: nothing is disrupted but under its entry",
            )?;
            match disruptive.deed() {
                Deed::Rewrite(rewrite) => check_rewrite(observed, rewrite),
                Deed::Join(_) | Deed::Drain { .. } | Deed::Release(_) | Deed::DeleteNode { .. } => {
                    Ok(())
                }
            }
        }
        Action::EndEntry {
            machine,
            child,
            ledger,
            after,
        } => {
            let held = observed.configurations.get(machine.as_str());
            let held = held.ok_or("only a child that is there is touched")?;
            must(
                precondition(held) == *child
                    && is_confirmed(held)
                    && matches!(&observed.ledger, LedgerView::Ours(version, old)
                        if version == ledger && old.slot.entry(machine).is_some_and(|it| it.state == EntryState::Releasing))
                    && after.slot.entry(machine).is_none(),
                "SPEC 4.2: an entry ends from `releasing`, once its machine is confirmed",
            )
        }
        Action::AskCluster
        | Action::Evict(_)
        | Action::LetGo(_)
        | Action::TellLeftBehind(_)
        | Action::Undrain { .. }
        | Action::Claim(_)
        | Action::FetchKubeconfig(_)
        | Action::VerifyKubeconfig
        | Action::PinHostKey => Ok(()),
    }
}

/// A rewrite insists on what was seen, and carries a marker that the configuration does not hold (I15).
fn check_rewrite(observed: &Observed, rewrite: &Rewrite) -> Result<(), String> {
    let held = observed.configurations.get(rewrite.machine.as_str());
    let held = held.ok_or("only what is there is written anew")?;
    let bootstrap = &rewrite.body["spec"]["additionalFiles"][0]["inline"];
    let values = bootstrap.as_str().and_then(nico::plan::cluster_nix::parse);
    must(
        observed.owns(held) && precondition(held) == rewrite.version,
        "I2: only our own is written, at the version seen",
    )?;
    must(
        held_marker(held).as_ref() != Some(&rewrite.marker),
        "I15: every attempt has a marker of its own",
    )?;
    must(
        !known_founded(observed) || values.is_some_and(|values| values.bootstrap.is_none()),
        "I14: a founded cluster's machine is told to found nothing",
    )
}

/// What anyone can see that says "founded", without asking the planner.
fn known_founded(observed: &Observed) -> bool {
    let told = observed
        .members_of(Role::ControlPlane)
        .filter_map(|(_, configuration)| held_values(configuration))
        .any(|values| values.bootstrap.is_none());
    observed.ledger.ours().is_some_and(|ledger| ledger.founded)
        || told
        || observed.kubeconfig.secret == SecretView::Ours
}

fn check_claim(
    observed: &Observed,
    plan: &Plan,
    claim: &Claim,
    now: Timestamp,
) -> Result<(), String> {
    let machine = &claim.machine;
    must(
        observed.nio == Some(Generation::Classic),
        "nothing is claimed beside an NIO that is not supported",
    )?;
    must(
        observed.holder(machine) == Holder::Nobody
            && !observed.configurations.contains_key(machine.as_str()),
        "I1: no machine is claimed that anyone holds",
    )?;
    must(
        observed.machines.contains_key(machine) && observed.discoverable(machine),
        "SPEC 2.1: only a machine that exists and is discoverable is claimed",
    )?;
    let other = match claim.role {
        Role::ControlPlane => Role::Worker,
        Role::Worker => Role::ControlPlane,
    };
    let elsewhere = plan.selection.of(other);
    must(
        !elsewhere.joining.contains(machine) && !elsewhere.staying.contains(machine),
        "a machine has one role",
    )?;
    let marker = claim.marker.as_str();
    must(
        marker.ends_with(&format!("-t{}", now.as_second()))
            && observed
                .configurations
                .values()
                .all(|held| held_marker(held).as_ref() != Some(&claim.marker)),
        "I15: the marker of a claim is new",
    )?;
    let meta = &claim.body["metadata"];
    must(
        meta["annotations"]["nico.homystack.com/written"] == now.to_string()
            && meta["annotations"].get(CONFIRMED_ANNOTATION).is_none(),
        "SPEC 3.4: a claim says when it was written, and confirms nothing",
    )?;
    let files = claim.body["spec"]["additionalFiles"].as_array();
    must(
        files
            .and_then(|files| files.last())
            .is_some_and(|last| last["path"] == format!("{MARKER_DIR}{marker}")),
        "SPEC 3.2: the marker file is the last",
    )?;
    let nix = nix_of(claim);
    must(
        !known_founded(observed) || nix.bootstrap.is_none(),
        "I14: no machine is told to found a second cluster",
    )?;
    must(
        nix.bootstrap.is_some()
            || nix
                .join
                .as_ref()
                .is_none_or(|it| it.name != machine.as_str()),
        "SPEC 2.5: in a founded cluster a machine joins another",
    )
}

/// What holds for all claims together.
fn whole(observed: &Observed, plan: &Plan) -> Result<(), String> {
    let claims = claims(plan);
    if claims.is_empty() {
        return Ok(());
    }
    must(
        plan.waits
            .iter()
            .filter(|wait| wait.condition == nico::api::conditions::ConditionType::Stalled)
            // One machine that is late, or a kubeconfig that is, is no reason to keep others from joining.
            .all(|wait| {
                matches!(
                    wait.reason,
                    Reason::ProgressDeadlineExceeded | Reason::NeverReachable
                )
            }),
        "nothing is claimed while a person must mend something",
    )?;
    let nix: Vec<_> = claims.iter().map(|claim| nix_of(claim)).collect();
    must(
        nix.iter()
            .all(|it| it.id == nix[0].id && it.bootstrap == nix[0].bootstrap),
        "one id and one founder",
    )?;
    let ledger = plan.actions.iter().find_map(|action| match action {
        Action::CreateLedger(ledger) | Action::UpdateLedger(_, ledger) => Some(ledger),
        _ => None,
    });
    let ledger = ledger.or(observed.ledger.ours());
    must(
        ledger.is_some_and(|ledger| ledger.id == nix[0].id),
        "SPEC 2.5: the id is in the ledger before the first claim",
    )?;
    let unfounded = nix[0].bootstrap.is_some();
    if unfounded {
        let pick = &plan.selection.control_plane;
        let present: BTreeSet<_> = claims
            .iter()
            .filter(|claim| claim.role == Role::ControlPlane)
            .map(|claim| claim.machine.clone())
            .chain(pick.staying.iter().cloned())
            .collect();
        must(
            present.len() == pick.total,
            "SPEC 2.4: a control plane is claimed only when it can be completed",
        )?;
        must(
            present
                .iter()
                .any(|it| Some(it.to_string()) == nix[0].bootstrap),
            "SPEC 2.5: the founder is a control plane machine",
        )?;
        let held: Vec<_> = observed.members_of(Role::ControlPlane).collect();
        must(
            held.iter()
                .filter_map(|(_, held)| held_values(held))
                .all(|held| held.id == nix[0].id && held.bootstrap == nix[0].bootstrap),
            "SPEC 2.5: a claim agrees with the configurations that exist",
        )?;
        must(
            !held.is_empty() || nix[0].id == observed.fresh_id,
            "SPEC 2.5: bring-up from nothing has a new id",
        )
    } else {
        must(
            claims.iter().all(|claim| claim.role == Role::Worker),
            "a founded cluster's first configurations go to workers only, for now",
        )
    }
}

fn check_status(observed: &Observed, plan: &Plan, now: Timestamp) -> Result<(), String> {
    let made = status(observed, plan, None, now);
    must(
        made == status(observed, plan, None, now),
        "I13: the same arguments give the same status",
    )?;
    let mut names = BTreeSet::new();
    must(
        made.machines.iter().all(|row| names.insert(&row.name)),
        "status has one row a machine",
    )?;
    let mut types = BTreeSet::new();
    for condition in &made.conditions {
        must(types.insert(&condition.kind), "one condition a type")?;
        must(
            condition.last_transition_time.is_some()
                && condition.observed_generation == Some(observed.cluster.generation)
                && !condition.reason.is_empty()
                && condition.message.chars().count() <= 1024,
            "a condition is whole",
        )?;
    }
    must(types.len() == 9, "every condition is always there")?;
    let is_true = |kind: &str| {
        made.conditions
            .iter()
            .any(|condition| condition.kind == kind && condition.status == "True")
    };
    must(
        !(is_true("Ready")
            && (is_true("Stalled") || is_true("Reconciling") || is_true("RollingOut"))),
        "kstatus: what is Ready neither stalls nor is at work",
    )?;
    if !is_true("Ready") {
        return Ok(());
    }
    let Ok(spec) = &observed.spec else {
        return Err("I8: Ready needs a valid spec".to_owned());
    };
    must(
        !observed.cluster.deleting,
        "I8: what is deleted is not Ready",
    )?;
    for role in Role::ALL {
        let pick = plan.selection.of(role);
        must(
            pick.staying.len() == nico::plan::selection::pool(spec, role).total()
                && pick.leaving.is_empty(),
            "I8: Ready needs every machine that the spec asks for",
        )?;
        for machine in &pick.staying {
            let held = &observed.configurations[machine.as_str()];
            must(
                is_confirmed(held),
                "I8: Ready needs every machine confirmed",
            )?;
            must(
                held_marker(held).map(|marker| marker.revision())
                    == plan.targets.get(machine).cloned()
                    || !matches!(
                        observed.ssh_keys.get(machine),
                        Some(nico::plan::observed::SshKeyView::Usable { .. })
                    ),
                "I8: Ready needs the target revision",
            )?;
        }
    }
    must(
        observed.cluster.status.observed_generation == Some(observed.cluster.generation),
        "SPEC 1.2: the first word on a new generation is not Ready",
    )?;
    let stored = matches!(
        observed.kubeconfig.secret,
        SecretView::Ours | SecretView::Adopted
    );
    let worked = observed.kubeconfig.works == Works::Yes
        || observed
            .cluster
            .status
            .conditions
            .iter()
            .any(|old| old.kind == "KubeconfigReady" && old.status == "True");
    must(stored && worked, "I8: Ready needs a kubeconfig that worked")
}
