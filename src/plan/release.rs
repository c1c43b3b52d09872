//! The deletion of a cluster: every machine is released before anything is deleted that NIO needs for that. And the release of machines
//! that the user declares to be off (`force-release`).

use std::time::Duration;

use jiff::Timestamp;

use crate::api::conditions::{Cause, ConditionType, Reason};
use crate::api::names::{CLUSTER_FINALIZER, FORCE_RELEASE_ANNOTATION, MachineName, NIO_FINALIZERS};
use crate::api::nio::NixosConfiguration;
use crate::api::status::Role;

use super::action::{Action, ChildWrite, ConfigurationWrite, FinalizerWrite, Mark, Notice};
use super::nio;
use super::observed::{Holder, Observed, elapsed};
use super::output::Output;
use super::patience::NIO_LATE_AFTER;
use super::selection::{Pick, Selection, pool};
use super::writes::{Child, Precondition};

/// The next step of a deletion, and the machines that leave. The spec may be invalid: configurations are found by their owner.
pub fn deletion(observed: &Observed, now: Timestamp) -> (Selection, Output) {
    (all_leaving(observed), next_step(observed, now))
}

fn next_step(observed: &Observed, now: Timestamp) -> Output {
    let cluster = &observed.cluster;
    let mut output = Output::default();
    let holds = |finalizer: &String| finalizer == CLUSTER_FINALIZER;
    if !cluster.finalizers.iter().any(holds) {
        return output;
    }
    if observed.is_paused() {
        let why = "the deletion waits, since spec.paused is true: set it to false to release the machines";
        output.wait(ConditionType::Ready, Reason::PausedBySpec, why);
        return output;
    }
    if cluster.is_orphaning() {
        // All objects stay. Only NICO's own finalizers are removed.
        let children = Child::ALL.map(|child| Action::Child(ChildWrite::LetGo(child)));
        return children
            .into_iter()
            .chain([without_finalizer(observed)])
            .collect();
    }
    if observed.nio.is_none() {
        let why = format!(
            "the API server does not serve NIO's resources, so NICO cannot tell which machines are still in use: install NIO again; if it is gone for good, remove the finalizer {CLUSTER_FINALIZER} by hand"
        );
        let mut output = waits(Reason::NIOMissing, Reason::NIOMissing, &why);
        output.look_for_missing();
        output.wait(ConditionType::Stalled, Reason::NIOMissing, why);
        return output;
    }
    let mut waiting_for = Vec::new();
    let mut delays = Vec::new();
    for (name, held) in observed.belongings() {
        delays.push(delay(observed, name, held, now).map(|it| it.0));
        waiting_for.push(waited_for(observed, name, held, now));
        let rest = NIO_LATE_AFTER.saturating_sub(deleting_for(held, now));
        if !rest.is_zero() {
            output.look_again_in(rest);
        }
        if held.metadata.deletion_timestamp.is_none() {
            let version = Precondition::of(&held.metadata);
            output.act(Action::Configuration(ConfigurationWrite::GiveBack(
                name.clone(),
                version,
            )));
        }
    }
    if waiting_for.is_empty() {
        let children = Child::ALL.map(|child| Action::Child(ChildWrite::Delete(child)));
        let all = left_behind(observed).chain(children);
        return all.chain([without_finalizer(observed)]).collect();
    }
    let why = format!("waiting until NIO has released: {}", waiting_for.join(", "));
    let first = delays.iter().flatten().next().copied();
    let waiting = waits(Reason::Deleting, first.unwrap_or(Reason::Deleting), &why);
    // NICO waits for a machine that may still be released without user action.
    let stalled = first.filter(|_| delays.iter().all(|it| it.is_some_and(needs_a_person)));
    if let Some(reason) = stalled {
        output.wait(ConditionType::Stalled, reason, why);
    }
    Output::concat([output, waiting, strip_forced(observed)])
}

/// Reports what a deletion waits for, in `Reconciling` and in `Ready`.
fn waits(reconciling: Reason, ready: Reason, why: &str) -> Output {
    let mut output = Output::default();
    output.wait(ConditionType::Reconciling, reconciling, why);
    output.wait(ConditionType::Ready, ready, why);
    output
}

/// Whether a release that is delayed for this reason requires user action.
fn needs_a_person(reason: Reason) -> bool {
    matches!(reason, Reason::MachineMissing | Reason::OldFinalizer)
}

/// Releases that require user action.
pub fn stuck(observed: &Observed, now: Timestamp) -> Output {
    let mut output = Output::default();
    for (name, held) in observed.belongings() {
        let why = delay(observed, name, held, now);
        if let (Some((reason, _)), Some(machine)) = (why, MachineName::parse(name))
            && needs_a_person(reason)
            && !observed.cluster.forces(name)
        {
            let message = format!(
                "NIO does not release {}",
                waited_for(observed, name, held, now)
            );
            let cause = Cause::new(reason, message);
            output.wait_for(machine, ConditionType::RollingOut, cause);
        }
    }
    output
}

fn without_finalizer(observed: &Observed) -> Action {
    let cluster = &observed.cluster;
    let others = cluster
        .finalizers
        .iter()
        .filter(|finalizer| *finalizer != CLUSTER_FINALIZER)
        .cloned()
        .collect();
    Action::Finalizer(FinalizerWrite::Remove(cluster.precondition(), others))
}

/// How long the deletion of a configuration has lasted.
fn deleting_for(configuration: &NixosConfiguration, now: Timestamp) -> Duration {
    let since = configuration.metadata.deletion_timestamp.as_ref();
    since.map_or(Duration::ZERO, |since| elapsed(since.0, now))
}

/// Whether only the finalizer of another generation of NIO blocks a deletion. While the finalizer of this generation is there too, NIO is
/// still working.
fn has_old_finalizer(observed: &Observed, held: &NixosConfiguration) -> bool {
    let finalizers = held.metadata.finalizers.as_deref().unwrap_or_default();
    let has = |finalizer: &str| finalizers.iter().any(|it| it == finalizer);
    observed.nio.is_some_and(|nio| {
        let its_own = nio::for_generation(nio).finalizer();
        !has(its_own) && NIO_FINALIZERS.into_iter().any(has)
    })
}

/// The name of a configuration that the deletion waits for, with the reason of the delay if it is known.
pub(super) fn waited_for(
    observed: &Observed,
    name: &str,
    configuration: &NixosConfiguration,
    now: Timestamp,
) -> String {
    match delay(observed, name, configuration, now) {
        Some((reason, why)) => {
            let mend = match reason {
                Reason::OldFinalizer => "where the machine is off, or runs nothing of the cluster",
                _ => "where the machine is permanently off",
            };
            format!(
                "{name} ({why}; {mend}, annotate the cluster {FORCE_RELEASE_ANNOTATION}: {name})"
            )
        }
        None => name.to_owned(),
    }
}

/// Why NIO never releases the machine of a configuration that is being deleted; `None` if it may.
pub(super) fn never_released(
    observed: &Observed,
    name: &str,
    configuration: &NixosConfiguration,
) -> Option<(Reason, &'static str)> {
    configuration.metadata.deletion_timestamp.as_ref()?;
    if has_old_finalizer(observed, configuration) {
        return Some((
            Reason::OldFinalizer,
            "only the finalizer of another generation of NIO is left, and no program removes it",
        ));
    }
    let why = nio::for_generation(observed.nio?).keeps_without_machine()?;
    let machine = MachineName::parse(name);
    let is_there = machine.is_some_and(|it| observed.machine(&it).is_some());
    (!is_there).then_some((Reason::MachineMissing, why))
}

/// Why NIO has not released a machine yet, if that is known.
fn delay(
    observed: &Observed,
    name: &str,
    configuration: &NixosConfiguration,
    now: Timestamp,
) -> Option<(Reason, &'static str)> {
    configuration.metadata.deletion_timestamp.as_ref()?;
    if let Some(never) = never_released(observed, name, configuration) {
        return Some(never);
    }
    let machine = MachineName::parse(name);
    let machine = machine.filter(|it| observed.machine(it).is_some());
    if machine.is_some_and(|it| !observed.discoverable(&it)) {
        return Some((
            Reason::MachineUndiscoverable,
            "NIO cannot reach the machine",
        ));
    }
    (deleting_for(configuration, now) >= NIO_LATE_AFTER).then_some((
        Reason::NIOComplains,
        "NIO has not reacted: is it running, and are the Secrets there that the machine was given?",
    ))
}

/// Machines that NIO released and whose status still says that they are configured: `onRemoveFlake` may not have run.
fn left_behind(observed: &Observed) -> impl Iterator<Item = Action> {
    let machines = observed.machines.keys();
    machines
        .filter(|machine| is_left_behind(observed, machine))
        .map(|machine| Action::Notify(Notice::LeftBehind(machine.clone())))
}

/// Whether NIO released a machine whose status still says that it is configured, and that is not in use since.
pub(super) fn is_left_behind(observed: &Observed, machine: &MachineName) -> bool {
    let object = observed.machine(machine);
    let status = object.and_then(|object| object.status.as_ref());
    observed.holder(machine) == Holder::Nobody
        && status.is_some_and(|status| {
            status.has_configuration
                && status.applied_configuration.as_deref() == Some(machine.as_str())
        })
}

/// Removes NIO's finalizers from configurations that are being deleted and whose machines are force-released.
pub fn strip_forced(observed: &Observed) -> Output {
    let strip = |(name, held): (&String, &NixosConfiguration)| {
        let finalizers = held.metadata.finalizers.iter().flatten();
        let (nio, others): (Vec<&String>, Vec<&String>) =
            finalizers.partition(|finalizer| NIO_FINALIZERS.contains(&finalizer.as_str()));
        let forced = held.metadata.deletion_timestamp.is_some()
            && observed.controls(held)
            && observed.cluster.forces(name)
            && !nio.is_empty();
        forced.then(|| {
            let version = Precondition::of(&held.metadata);
            let mark = Mark::Forced(others.into_iter().cloned().collect());
            Action::Configuration(ConfigurationWrite::Mark(name.clone(), version, mark))
        })
    };
    observed.belongings().filter_map(strip).collect()
}

/// Every member leaves.
fn all_leaving(observed: &Observed) -> Selection {
    let pick = |role| Pick {
        total: observed
            .spec
            .as_ref()
            .map_or(0, |spec| pool(spec, role).total()),
        leaving: observed.members_of(role).map(|it| it.name).collect(),
        ..Pick::default()
    };
    Selection {
        control_plane: pick(Role::ControlPlane),
        workers: pick(Role::Worker),
    }
}
