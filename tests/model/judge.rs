//! What must never happen (INVARIANTS), judged from the world itself and by arithmetic of its own, at every write.

use crate::compact::{Broken, Kept, Known, Reads, State, Word, Write};
use crate::model::Search;

/// What a decision knew, from what was read for it.
pub fn known(search: &Search, reads: &Reads) -> Known {
    let control_plane = 0..search.planner.control_plane;
    let bits = |is: &dyn Fn(u8) -> bool| -> u8 {
        let those = control_plane.clone().filter(|index| is(*index));
        those.map(|index| 1 << index).sum()
    };
    let answers = match reads.word {
        Word::NotAsked | Word::Silence => 0,
        Word::Heard { down, absent } => bits(&|index| (down | absent) & (1 << index) == 0),
    };
    let exist = bits(&|index| reads.children[usize::from(index)].is_some());
    let strays = match reads.word {
        // Nodes are listed through whoever answers.
        Word::Heard { absent, .. } if answers != 0 => bits(&|index| absent & (1 << index) == 0),
        _ => 0,
    };
    let confirmed = confirmed(reads) & exist;
    Known {
        members: exist | strays,
        healthy: confirmed & answers,
        unknown: if answers == 0 { confirmed } else { 0 },
        hidden: reads.hidden,
        ..Known::default()
    }
}

fn confirmed(reads: &Reads) -> u8 {
    let bits = reads.children.iter().enumerate().map(|(index, child)| {
        let is_confirmed = child.is_some_and(|child| child.is_confirmed());
        u8::from(is_confirmed) << index
    });
    bits.sum()
}

/// What is wrong with a write, as it arrives.
pub fn before(search: &Search, state: &State, write: Write, known: Known) -> Option<Broken> {
    let control_plane = search.is_control_plane(write.machine);
    if control_plane && !write.entered {
        return Some(Broken::I3Numbers);
    }
    let too_old = known.healthy & known.never_well != 0;
    if control_plane && (too_old || !numbers_allow(write, known)) {
        return Some(Broken::I3Numbers);
    }
    let bit = 1 << write.machine;
    let first = known.healthy & bit != 0 && !state.machines[usize::from(write.machine)].flying;
    if control_plane && first && !write.joins && !workers_are_done(search, state, write, known) {
        return Some(Broken::I4);
    }
    None
}

/// What is wrong with the end of a Node that a machine left behind: it may be the end of a member of etcd.
pub fn node_goes(search: &Search, state: &State, machine: u8, known: Known) -> Option<Broken> {
    if !search.is_control_plane(machine) {
        return None;
    }
    let others = (0..search.planner.control_plane).filter(|other| *other != machine);
    let (n, healthy) = (known.members.count_ones(), known.healthy.count_ones());
    if others
        .into_iter()
        .any(|other| state.machines[usize::from(other)].flying)
    {
        Some(Broken::I3Flight)
    } else if known.healthy & known.never_well != 0 || n <= 2 || healthy < n / 2 + 1 {
        Some(Broken::I3Numbers)
    } else {
        None
    }
}

/// SPEC 4.3, "Numbers" and "The way out stays open", from what was read after the slot was taken.
fn numbers_allow(write: Write, known: Known) -> bool {
    let count = |mask: u8| mask.count_ones();
    let (n, healthy, unknown) = (
        count(known.members),
        count(known.healthy),
        count(known.unknown),
    );
    if n <= 2 {
        return true;
    }
    let majority = |n: u32| n / 2 + 1;
    let bit = 1 << write.machine;
    if write.joins {
        healthy >= majority(n + 1)
    } else if known.healthy & bit != 0 {
        healthy > majority(n)
    } else if known.unknown & bit != 0 {
        false
    } else {
        healthy >= majority(n) || known.patient && healthy + unknown < majority(n)
    }
}

/// Workers come first: none of those that NIO can reach holds another repository than the one that is rolled out.
fn workers_are_done(search: &Search, state: &State, write: Write, known: Known) -> bool {
    let wanted = search.planner.repository(write.text);
    (search.planner.control_plane..search.machines()).all(|worker| {
        let machine = &state.machines[usize::from(worker)];
        let passed_over = machine.hidden || known.hidden & (1 << worker) != 0;
        passed_over
            || machine
                .child
                .is_none_or(|child| search.planner.repository(child.held.text) == wanted)
    })
}

/// What is wrong with the world, now that a write arrived.
pub fn after(search: &Search, state: &State, write: Write) -> Option<Broken> {
    let flying = |machine: &u8| state.machines[usize::from(*machine)].flying;
    let control_plane = (0..search.planner.control_plane).filter(flying).count();
    let workers = (search.planner.control_plane..search.machines())
        .filter(flying)
        .count();
    let disrupts = search.is_control_plane(write.machine)
        || state.machines[usize::from(write.machine)]
            .child
            .is_some_and(|child| child.kept != Kept::Never);
    if control_plane > 1 {
        Some(Broken::I3Flight)
    } else if disrupts && (workers > 1 || workers > 0 && control_plane > 0) {
        Some(Broken::I4)
    } else {
        None
    }
}

/// Control plane machines that are well now: confirmed, and an operator that asked would hear so.
pub fn well(search: &Search, state: &State) -> u8 {
    let is_well = |index: &u8| {
        let machine = &state.machines[usize::from(*index)];
        let confirmed = machine.child.is_some_and(|child| child.is_confirmed());
        !state.silent && confirmed && machine.node && !machine.down
    };
    let well = (0..search.planner.control_plane).filter(is_well);
    well.map(|machine| 1 << machine).sum()
}
