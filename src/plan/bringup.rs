//! First configurations: the control plane's all at once when it can be completed, workers' as they become available; and the releases
//! before the founding.

use std::collections::BTreeSet;

use crate::api::conditions::{ConditionType, Reason};
use crate::api::names::MachineName;
use crate::api::status::Role;

use super::action::{Action, ConfigurationWrite};
use super::desired::Target;
use super::founding::{self, Restart};
use super::known::Known;
use super::observed::Member;
use super::output::Output;
use super::patience::{Clock, INCOMPLETE_CLAIMS_HELD_FOR};
use super::prerequisites::Secrets;
use super::writes::Precondition;

/// The claims and releases of this plan that later steps need to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// Names of the configurations that are released.
    pub given_back: BTreeSet<String>,
    /// Whether any machine is claimed.
    pub any: bool,
    /// The cluster is founded, and no control plane machine is left to join.
    pub lost: bool,
}

/// Why everything is released before the founding.
enum GivesBack<'a> {
    /// Bring-up starts again.
    Restart(&'a Restart),
    /// The configurations list another control plane than the selected one.
    Disagreement,
    /// Another cluster uses a machine that the control plane needs.
    Rival,
}

impl GivesBack<'_> {
    fn message(&self) -> String {
        let restarts =
            |why: &str| format!("the cluster does not exist yet and {why}: bring-up starts again");
        match self {
            Self::Restart(Restart::ControlPlaneGone) => {
                restarts("its control plane configurations are gone")
            }
            Self::Restart(Restart::FoundersDisagree) => {
                restarts("its configurations do not agree on which machine creates it")
            }
            Self::Restart(Restart::FounderGone(machine)) => {
                restarts(&format!("the machine that creates it, {machine}, is no longer a member"))
            }
            Self::Restart(Restart::NoFounder) => {
                restarts("none of its configurations says which machine creates it")
            }
            Self::Disagreement => restarts(
                "its configurations name other control plane machines than it is to have",
            ),
            Self::Rival => "another cluster holds a machine that the control plane needs: this cluster releases its own claims".to_owned(),
        }
    }
}

/// Claims machines, and releases claims so that two clusters never block each other forever.
pub fn claims(known: &Known<'_>, secrets: &Secrets) -> (Claims, Output) {
    let observed = known.observed;
    if known.founding.founded {
        let mut output = Output::default();
        if observed.control_plane().all(|it| it.is_deleting()) {
            output.wait(
                ConditionType::Stalled,
                Reason::ControlPlaneLost,
                CONTROL_PLANE_LOST,
            );
            let lost = Claims {
                lost: true,
                ..Claims::default()
            };
            return (lost, output);
        }
        // Workers whose old Node must be deleted first, and control plane machines, join through the slot.
        let free = observed.free_to_join(true, &known.selection.workers.joining);
        let (any, output) = claim(known, secrets, &free);
        let claims = Claims {
            any,
            ..Claims::default()
        };
        return (claims, output);
    }
    let (why, patience) = gives_all_back(known);
    let (given_back, returned) = give_back(known, why.as_ref());
    let complete = known.selection.control_plane.missing() == 0;
    let (any, claimed) = if complete && why.is_none() {
        let joining = Role::ALL.map(|role| known.selection.for_role(role).joining.iter());
        claim(known, secrets, joining.into_iter().flatten())
    } else {
        Default::default()
    };
    let claims = Claims {
        given_back,
        any,
        lost: false,
    };
    (claims, Output::concat([patience, returned, claimed]))
}

/// Claims machines after creating what they need; returns whether there are any.
fn claim<'a>(
    known: &Known<'_>,
    secrets: &Secrets,
    machines: impl IntoIterator<Item = &'a MachineName>,
) -> (bool, Output) {
    let machines = machines.into_iter();
    let joining: Vec<&Target> = machines.filter_map(|it| known.targets.get(it)).collect();
    let mut output = Output::default();
    if joining.is_empty() || !secrets.usable {
        return (false, output);
    }
    if known.founding.needs_id {
        let ledger = founding::first_ledger(known.observed, known.founding);
        let ledger = known.pin.noted(known.observed, Some(ledger));
        output.actions.extend(ledger.map(Action::Ledger));
    }
    output.actions.extend(secrets.first.iter().cloned());
    output.actions.extend(joining.iter().map(|target| {
        let claim = Box::new(target.claim(&known.observed.cluster, known.precise));
        Action::Configuration(ConfigurationWrite::Claim(claim))
    }));
    (true, output)
}

/// Releases all configurations if there is a reason, else those that were never confirmed and for which the spec no longer asks. None of
/// them belongs to a running cluster.
fn give_back(known: &Known<'_>, why: Option<&GivesBack<'_>>) -> (BTreeSet<String>, Output) {
    let observed = known.observed;
    let unwanted =
        |member: &Member<'_>| known.selection.leaves(&member.name) && !member.was_confirmed();
    let mut given_back = BTreeSet::new();
    let mut output = Output::default();
    for (name, held) in observed.belongings() {
        let member = MachineName::parse(name).and_then(|it| observed.member(&it));
        let goes = why.is_some() || member.as_ref().is_some_and(unwanted);
        // If another configuration refers to the same machine, this one stays until that is gone (I2).
        let contested = member
            .as_ref()
            .is_some_and(|it| observed.contested_by(&it.name).is_some());
        // If the owner reference was removed by hand, it is restored first.
        if goes
            && !contested
            && held.metadata.deletion_timestamp.is_none()
            && observed.controls(held)
        {
            let version = Precondition::of(&held.metadata);
            given_back.insert(name.clone());
            output.act(Action::Configuration(ConfigurationWrite::GiveBack(
                name.clone(),
                version,
            )));
        }
    }
    if let Some(why) = why {
        output.wait(
            ConditionType::MachinesAvailable,
            Reason::GivingBack,
            why.message(),
        );
    }
    (given_back, output)
}

/// Why everything is released, if it is. Except for a restart, nothing is released once a machine was confirmed.
fn gives_all_back<'a>(known: &Known<'a>) -> (Option<GivesBack<'a>>, Output) {
    let mut output = Output::default();
    let why = if let Some(restart) = &known.founding.restart {
        Some(GivesBack::Restart(restart))
    } else if known.observed.members().any(|it| it.was_confirmed()) {
        None
    } else if known.selection.control_plane.missing() == 0 {
        disagrees(known).then_some(GivesBack::Disagreement)
    } else if known.founding.needs_id {
        None
    } else {
        let (yields, patience) = yields(known);
        output = patience;
        yields.then_some(GivesBack::Rival)
    };
    (why, output)
}

/// Whether the first configurations list another control plane than the selected one: a race changed a selector's choice, or the spec
/// changed meanwhile. Then all machines are released and claimed again.
fn disagrees(known: &Known<'_>) -> bool {
    let mut staying = known.selection.control_plane.staying.iter();
    staying.any(|machine| {
        let held = known.observed.member(machine).and_then(|it| it.values());
        let target = known.targets.get(machine);
        target
            .zip(held)
            .is_some_and(|(target, held)| !target.nix.lists_the_same(Role::ControlPlane, held))
    })
}

/// Whether claims yield to another cluster after a lost race. Those of the younger cluster yield at once, those of the older one if it
/// cannot complete its control plane for long.
fn yields(known: &Known<'_>) -> (bool, Output) {
    let observed = known.observed;
    let rivals = &known.selection.control_plane.rivals;
    let own = (observed.cluster.created, observed.cluster.uid.as_str());
    let is_older = |uid: &String| {
        let rival = observed.rivals.get(uid);
        rival.is_some_and(|rival| (rival.created, uid.as_str()) < own)
    };
    let mut output = Output::default();
    let yields = !rivals.is_empty()
        && (rivals.iter().any(is_older)
            || output.has_run(
                observed,
                Clock::IncompleteClaims,
                known.now,
                INCOMPLETE_CLAIMS_HELD_FOR,
            ));
    (yields, output)
}

const CONTROL_PLANE_LOST: &str = "the cluster exists and none of its control plane machines is left to join through: its data are gone; delete the cluster and apply it again";
