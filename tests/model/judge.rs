//! What must never happen, judged from the world itself and by arithmetic of its own, at every write.

use crate::compact::{Age, Broken, Entry, Estate, Kept, Life, Reads, Slot, Word};
use crate::search::Search;
use crate::state::{Known, State, Write};

/// What a decision knew, from what was read for it.
pub fn known(search: &Search, reads: &Reads) -> Known {
    let bits = |is: &dyn Fn(u8) -> bool| -> u8 {
        let those = (0..search.machines()).filter(|index| is(*index));
        those.map(|index| 1 << index).sum()
    };
    let child = |index: u8| reads.children[usize::from(index)];
    let exist = bits(&|index| child(index).is_some_and(|child| child.leads));
    let answers = match reads.word {
        Word::NotAsked | Word::Silence => 0,
        Word::Heard { down, absent, .. } => exist & !(down | absent),
    };
    let strays = match reads.word {
        // Nodes are listed through whoever answers.
        Word::Heard { absent, leads, .. } if answers != 0 => bits(&|index| {
            let is_member = child(index).is_some_and(|child| child.leads);
            !is_member && leads & !absent & (1 << index) != 0
        }),
        _ => 0,
    };
    let all_confirmed = confirmed(reads);
    let confirmed = all_confirmed & exist;
    Known {
        confirmed: all_confirmed,
        members: exist | strays,
        labelled: strays & held(reads),
        healthy: confirmed & answers,
        unknown: if answers == 0 { confirmed } else { 0 },
        hidden: reads.hidden,
        held: held(reads),
        deleting: reads.estate.life == Life::Deleting,
        drained: drained(reads),
        ..Known::default()
    }
}

/// Machines whose Node is not well, or is drained.
fn drained(reads: &Reads) -> u8 {
    let Word::Heard {
        down,
        absent,
        marks,
        ..
    } = reads.word
    else {
        return u8::MAX;
    };
    let bits = marks.iter().enumerate().map(|(index, marks)| {
        let had_time = match marks.draining {
            None | Some(Age::Old) => false,
            Some(Age::Fresh) => !marks.pods,
            Some(Age::Over) => true,
        };
        u8::from(had_time) << index
    });
    bits.sum::<u8>() | down | absent
}

fn held(reads: &Reads) -> u8 {
    let bits = reads.children.iter().enumerate();
    bits.map(|(index, child)| u8::from(child.is_some()) << index)
        .sum()
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
    let bit = 1 << write.machine;
    let control_plane = write.leads || known.labelled & bit != 0;
    if control_plane && !write.entered {
        return Some(Broken::I3Numbers);
    }
    let too_old = known.healthy & known.never_well != 0;
    if control_plane && (too_old || !numbers_allow(write, known)) {
        return Some(Broken::I3Numbers);
    }
    let first = known.healthy & bit != 0 && !state.machines[usize::from(write.machine)].flying;
    if control_plane && first && !write.joins && !workers_are_done(search, state, write, known) {
        return Some(Broken::I4);
    }
    None
}

/// What is wrong with the end of a Node that a machine left behind: it may be the end of a member of etcd.
pub fn node_goes(search: &Search, state: &State, machine: u8, known: Known) -> Option<Broken> {
    let now = &state.machines[usize::from(machine)];
    if !now.node || !now.leads {
        return None;
    }
    let others =
        (0..search.machines()).filter(|other| *other != machine && state.is_control_plane(*other));
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

/// What is wrong with the entries of a slot: those of workers stand alone, and so does one of the control plane.
pub fn slot(slot: Slot) -> Option<Broken> {
    let leads = |entry: &Option<Entry>| entry.is_some_and(|entry| entry.leads);
    let several = slot.entries.iter().all(Option::is_some);
    (several && slot.entries.iter().any(leads)).then_some(Broken::I4)
}

/// The numbers of a control plane, and the way out where its quorum is lost, from what was read after the slot was taken.
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

/// Workers come first: none of those that stay and that NIO can reach holds another repository than the one that is rolled out.
fn workers_are_done(search: &Search, state: &State, write: Write, known: Known) -> bool {
    let wanted = search.planner.repository(write.text);
    let asked_for = search.workers[usize::from(search.edits[usize::from(state.edit)])];
    (0..search.machines()).all(|worker| {
        let machine = &state.machines[usize::from(worker)];
        let passed_over = machine.hidden || known.hidden & (1 << worker) != 0;
        passed_over
            || asked_for & (1 << worker) == 0
            || machine
                .child
                .is_none_or(|child| search.planner.repository(child.held.text) == wanted)
    })
}

/// What is wrong with a machine that is let go, as that arrives: a healthy one is drained before.
pub fn goes(search: &Search, state: &State, machine: u8, known: Known) -> Option<Broken> {
    let bit = 1 << machine;
    let with_its_pods = search.drains && known.confirmed & !known.drained & bit != 0;
    leaves(search, state, machine, known).or(with_its_pods.then_some(Broken::Undrained))
}

/// What is wrong with the departure of a machine, which begins with its drain. Nobody says in these searches that one of two may go.
pub fn leaves(search: &Search, state: &State, machine: u8, known: Known) -> Option<Broken> {
    let bit = 1 << machine;
    let is_control_plane = state.is_control_plane(machine);
    let left = |other: u8| {
        let now = &state.machines[usize::from(other)];
        other != machine && now.leads && now.node && now.child.is_none()
    };
    if is_control_plane && (0..search.machines()).any(left) {
        return Some(Broken::TwoLeave);
    }
    let (n, healthy) = (known.members.count_ones(), known.healthy.count_ones());
    let majority = n / 2 + 1;
    let allowed = if known.healthy & bit != 0 {
        healthy > majority
    } else {
        known.unknown & bit == 0 && healthy >= majority
    };
    let too_old = known.healthy & known.never_well != 0;
    (is_control_plane && (too_old || n <= 2 || !allowed)).then_some(Broken::I3Numbers)
}

/// What is wrong with a configuration that arrives. One that was decided before the deletion, and lands after the last LIST of
/// it, is what no rule of the planner keeps from coming (`deletions.rs`); the others are given back.
pub fn refers_to_what_is_gone(search: &Search, state: &mut State) -> Option<Broken> {
    if state.estate.children & Estate::TOKENS == Estate::TOKENS {
        return None;
    }
    state.estate.late |= state.estate.life != Life::Lives;
    (search.punctual || state.estate.life == Life::Lives).then_some(Broken::Tokens)
}

/// What is wrong with the end of a child of the cluster: a LIST showed configurations, or others are to go before it.
pub fn child_goes(state: &State, child: u8, known: Known) -> Option<Broken> {
    if child == Estate::LEDGER {
        let others = state.estate.children != 0 && !state.estate.late;
        others.then_some(Broken::LedgerLast)
    } else {
        (known.held != 0 && Estate::TOKENS & (1 << child) != 0).then_some(Broken::Tokens)
    }
}

/// What is wrong with the end of the cluster.
pub fn cluster_goes(search: &Search, state: &State, known: Known) -> Option<Broken> {
    let held = state.machines.iter().any(|machine| machine.child.is_some());
    (known.held != 0 || search.punctual && held).then_some(Broken::I9)
}

/// What is wrong with the world, now that a write arrived.
pub fn after(search: &Search, state: &State, write: Write) -> Option<Broken> {
    let disrupts = state.is_control_plane(write.machine)
        || state.machines[usize::from(write.machine)]
            .child
            .is_some_and(|child| child.kept != Kept::Never);
    let found = together(search, state);
    found.filter(|found| disrupts || *found == Broken::I3Flight)
}

/// Who is in flight at the same time, and must not be.
pub fn together(search: &Search, state: &State) -> Option<Broken> {
    let flying = |leads: bool| {
        let flying = state.machines.iter().filter(|machine| machine.flying);
        flying.filter(|it| it.is_control_plane() == leads).count()
    };
    let (control_plane, workers) = (flying(true), flying(false));
    if control_plane > 1 {
        Some(Broken::I3Flight)
    } else if workers > search.most_workers || workers > 0 && control_plane > 0 {
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
        let leads = machine.is_control_plane();
        leads && !state.silent && confirmed && machine.node && !machine.down
    };
    let well = (0..search.machines()).filter(is_well);
    well.map(|machine| 1 << machine).sum()
}
