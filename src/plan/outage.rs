//! Whether the control plane has lost its quorum, also where nothing is to be changed. This is only reported: what may be changed meanwhile is
//! decided by `rollout/preflight`.

use crate::api::conditions::{ConditionType, Reason};

use super::action::Action;
use super::known::Known;
use super::observed::{Answer, Member, Observed};
use super::output::Output;
use super::patience::{ASKED_AGAIN_AT_STANDSTILL_AFTER, Clock, QUORUM_LOST_AFTER};
use super::quorum;

/// Probes the cluster from time to time, and as long as its quorum seems lost. Reports once that has lasted. A single probe never suffices.
///
/// A Node that is not Ready does not count here: a cluster whose network add-on is still to come has a quorum.
pub fn outage(known: &Known<'_>, needs_probe: bool) -> Output {
    let mut output = Output::default();
    let observed = known.observed;
    if !known.asks() {
        return output;
    }
    let lost = seems_lost(observed);
    // Also where none is lost: the mark of a drain can land after its entry has ended, and only a probe shows it.
    let looks_again = observed.kubeconfig.try_again || lost.is_some();
    if looks_again && !needs_probe && observed.workload_is_old {
        output.act(Action::ProbeWorkload);
    }
    let Some(message) = lost else {
        return output;
    };
    output.look_again_in(ASKED_AGAIN_AT_STANDSTILL_AFTER);
    let clock = Clock::ControlPlaneDown;
    if output.has_run(observed, clock, known.now, QUORUM_LOST_AFTER) {
        output.wait(
            ConditionType::ControlPlaneReady,
            Reason::QuorumLost,
            message,
        );
    }
    output
}

/// The message that fewer than a quorum of the API servers can be ready, if it is so by the last probe.
fn seems_lost(observed: &Observed) -> Option<String> {
    let members = observed.control_plane();
    let members: Vec<Member<'_>> = members
        .filter(|it| it.was_confirmed() && !observed.cluster.forces(it.name.as_str()))
        .collect();
    let n = members.len();
    let answer = |member: &Member<'_>| observed.workload.answer(&member.name);
    let anyone = members
        .iter()
        .any(|it| answer(it).is_some_and(|answer| *answer != Answer::Unreachable));
    let is_down = |member: &&Member<'_>| match answer(member) {
        Some(Answer::NotReady) => observed.why_unknown(&member.name).is_none(),
        // If nobody answers, the network may be why.
        Some(Answer::Unreachable) => anyone && observed.why_unknown(&member.name).is_none(),
        Some(Answer::Ready | Answer::Refuses) | None => false,
    };
    let down: Vec<&str> = members
        .iter()
        .filter(is_down)
        .map(|it| it.name.as_str())
        .collect();
    let quorum = quorum::quorum(n);
    (quorum::can_be_kept(n) && n - down.len() < quorum).then(|| {
        format!(
            "the control plane of {n} has lost its quorum of {quorum}: the API servers of {} do not answer or are not ready: bring them back",
            down.join(", ")
        )
    })
}
