//! What holds for every plan and every status, whatever was observed (I1 to I15). Each world checks each of its plans by it.

mod messages;
mod writes;

use std::collections::BTreeSet;

use jiff::Timestamp;
use nico::api::conditions::Reason;
use nico::api::names::{CLUSTER_FINALIZER, CONFIRMED_ANNOTATION, MARKER_DIR};
use nico::api::status::Role;
use nico::plan::Settings;
use nico::plan::action::{Action, LedgerWrite, Plan};
use nico::plan::observed::{Holder, Member, Observed, SecretView, Works};
use nico::plan::status::status;
use nico::plan::writes::Claim;

use crate::given::{claims, kind, member, nix_of};
use crate::kstatus::{kstatus, shown};
use writes::{place, preconditions};

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
                "NotifyLeftBehind",
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
            !paused
                || only(&[
                    "AddFinalizer",
                    "Restore",
                    "TakeBackChild",
                    "Confirm",
                    "Withdraw",
                    "Settle",
                    "VerifyKubeconfig",
                    "ProbeWorkload",
                ]),
            "when paused nothing is written but marks, and the owners of what was left",
        )?;
        let restores = |kind: &&str| ["Restore", "TakeBackChild"].contains(kind);
        must(
            !paused || !kinds.contains(&"AddFinalizer") || kinds.iter().any(restores),
            "when paused the finalizer is for what is taken back",
        )?;
        writes::restored_in_order(observed, plan)?;
    }
    let position = |kind: &str| kinds.iter().position(|found| *found == kind);
    let last = |kind: &str| kinds.iter().rposition(|found| *found == kind);
    let order = [
        "AddFinalizer",
        "Restore",
        "TakeBackChild",
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
                    "finalizer, ledger, Secrets, configurations, in this order",
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

/// What anyone can see that says "founded", without asking the planner.
fn known_founded(observed: &Observed) -> bool {
    let told = observed
        .control_plane()
        .filter_map(|member| member.values())
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
        observed.nio.is_some(),
        "nothing is claimed where no NIO is served",
    )?;
    must(
        observed.holder(machine) == Holder::Nobody
            && !observed.configurations.contains_key(machine.as_str()),
        "I1: no machine is claimed that anyone holds",
    )?;
    must(
        observed.machines.contains_key(machine) && observed.discoverable(machine),
        "only a machine that exists and is discoverable is claimed",
    )?;
    let other = match claim.role {
        Role::ControlPlane => Role::Worker,
        Role::Worker => Role::ControlPlane,
    };
    let elsewhere = plan.selection.for_role(other);
    must(
        !elsewhere.joining.contains(machine) && !elsewhere.staying.contains(machine),
        "a machine has one role",
    )?;
    let marker = claim.marker.as_str();
    must(
        marker.ends_with(&format!("-t{}", now.as_second()))
            && observed.configurations.values().all(|held| {
                let marker = Member::of(held).and_then(|held| held.marker());
                marker.as_ref() != Some(&claim.marker)
            }),
        "I15: the marker of a claim is new",
    )?;
    let meta = &claim.body.render()["metadata"];
    must(
        meta["annotations"]["nico.homystack.com/written"] == now.to_string()
            && meta["annotations"].get(CONFIRMED_ANNOTATION).is_none(),
        "a claim says when it was written, and confirms nothing",
    )?;
    let body = claim.body.render();
    let files = body["spec"]["additionalFiles"].as_array();
    must(
        files
            .and_then(|files| files.last())
            .is_some_and(|last| last["path"] == place(observed, &format!("{MARKER_DIR}{marker}"))),
        "the marker file is the last",
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
        "in a founded cluster a machine joins another",
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
                    wait.cause.reason,
                    Reason::ProgressDeadlineExceeded
                        | Reason::BlockedByJob
                        | Reason::NeverReachable
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
        Action::Ledger(LedgerWrite::Create(ledger) | LedgerWrite::Update(_, ledger)) => {
            Some(ledger)
        }
        _ => None,
    });
    let ledger = ledger.or(observed.ledger.ours());
    must(
        ledger.is_some_and(|ledger| ledger.id == nix[0].id),
        "the id is in the ledger before the first claim",
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
            present.len() >= pick.total,
            "a control plane is claimed only when it can be completed",
        )?;
        must(
            present
                .iter()
                .any(|it| Some(it.to_string()) == nix[0].bootstrap),
            "the founder is a control plane machine",
        )?;
        let held: Vec<_> = observed.control_plane().collect();
        must(
            held.iter()
                .filter_map(Member::values)
                .all(|held| held.id == nix[0].id && held.bootstrap == nix[0].bootstrap),
            "a claim agrees with the configurations that exist",
        )?;
        must(
            !held.is_empty() || nix[0].id == observed.fresh_id,
            "bring-up from nothing has a new id",
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
    messages::name_a_way_out(&made)?;
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
    let seen = shown(
        observed.cluster.generation,
        observed.cluster.deleting,
        &made,
    );
    must(
        (kstatus(&seen) == "Current") == is_true("Ready"),
        "kstatus: what is Ready is current, and nothing else is",
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
        let pick = plan.selection.for_role(role);
        must(
            pick.staying.len() == nico::plan::selection::pool(spec, role).total()
                && pick.leaving.is_empty(),
            "I8: Ready needs every machine that the spec asks for",
        )?;
        for machine in &pick.staying {
            let held = &observed.configurations[machine.as_str()];
            must(
                member(held).is_confirmed(),
                "I8: Ready needs every machine confirmed",
            )?;
            must(
                member(held).marker().map(|marker| marker.revision())
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
        observed.live
            || observed.cluster.status.observed_generation == Some(observed.cluster.generation),
        "the first word on a new generation is Ready only by live reads",
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
