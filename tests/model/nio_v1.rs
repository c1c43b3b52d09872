//! What NIO v1 does: it applies by Jobs, which may overlap, and of which an older one may end last. Its status says all along that it is
//! ready, as it does before anything was applied.

use crate::compact::{Attempt, Child, Jobs, Kept, Proof};
use crate::nio::runs;
use crate::state::State;

/// The Jobs of a machine that has been applied long ago.
pub fn applied(held: Attempt) -> Jobs {
    Jobs {
        template: Some(held.number),
        ended: [Some((held.number, true)), None],
        ..Jobs::default()
    }
}

fn jobs(child: &mut Child) -> Option<&mut Jobs> {
    match &mut child.proof {
        Proof::Jobs(jobs) => Some(jobs),
        _ => None,
    }
}

/// The configuration of a machine that NIO reaches.
fn reached(state: &mut State, machine: u8) -> Option<&mut Child> {
    let now = &mut state.machines[usize::from(machine)];
    let child = now.child.as_mut()?;
    (!now.hidden && !child.terminating).then_some(child)
}

/// A Job of the template starts; none where two run. More at once would show nothing new.
fn start(jobs: &mut Jobs) -> Option<()> {
    let free = jobs.running.iter_mut().find(|job| job.is_none())?;
    *free = jobs.template;
    Some(())
}

/// NIO sees what the configuration holds. Its commit is new: a Job starts at once, whatever else runs.
pub fn reconciles(state: &mut State, machine: u8) -> Option<()> {
    let child = reached(state, machine)?;
    let held = child.held.number;
    let jobs = jobs(child).filter(|jobs| jobs.template != Some(held))?;
    jobs.template = Some(held);
    start(jobs)
}

/// The schedule starts a Job. It may still be one of an older template.
pub fn begins(state: &mut State, machine: u8) -> Option<()> {
    let jobs = jobs(reached(state, machine)?)?;
    let next = jobs.template?;
    // A machine that has it is applied again without a change.
    let has_it = jobs.ended[0] == Some((next, true)) && jobs.running == [None; 2];
    if has_it || jobs.running.contains(&Some(next)) {
        return None;
    }
    start(jobs)
}

/// A Job ends. What it applied is on the machine, or half of it.
pub fn ends(state: &mut State, machine: u8, job: u8, succeeds: bool) -> Option<()> {
    let now = &mut state.machines[usize::from(machine)];
    let child = now.child.as_mut()?;
    let (held, disrupts) = (child.held.number, child.leads || child.kept != Kept::Never);
    let jobs = jobs(child)?;
    let number = jobs.running[usize::from(job)].take()?;
    jobs.ended = [Some((number, succeeds)), jobs.ended[0]];
    let is_alone = jobs.running.iter().flatten().all(|other| *other == held);
    if number != held {
        now.flying |= disrupts;
    } else if succeeds && is_alone {
        now.flying = false;
    }
    if succeeds {
        let leads = child.leads;
        runs(state, machine, leads);
    }
    Some(())
}
