//! The Nodes of machines that are drained: NICO's marks on them, their pods, and a person's hand.

use crate::compact::{Age, Broken, Marks};
use crate::state::{Pc, State, Step};

/// Marks of a drain arrive, or are taken off. They insist on the Node's uid alone: `nio.rs` drops them where another Node comes.
pub fn mark_node(state: &mut State, step: Step) -> bool {
    let (machine, cordons, drains) = match step {
        Step::Drain(machine, cordons) => (machine, cordons, true),
        Step::Undrain(machine, cordoned) => (machine, cordoned, false),
        _ => return false,
    };
    let now = &mut state.machines[usize::from(machine)];
    if !now.node {
        return false;
    }
    now.marks.draining = drains.then_some(Age::Fresh);
    if drains {
        now.marks.cordoned |= cordons;
        now.marks.unschedulable |= cordons;
        return true;
    }
    now.marks.cordoned = false;
    if cordons {
        now.marks.unschedulable = false;
        now.marks.pods = true;
        if now.by_hand {
            state.broken = state.broken.or(Some(Broken::Uncordoned));
        }
    }
    true
}

/// The last pod of a Node that is drained goes.
pub fn pods_go(state: &mut State, machine: u8) -> Option<()> {
    let marks = &mut state.machines[usize::from(machine)].marks;
    let goes = marks.draining.is_some() && std::mem::take(&mut marks.pods);
    goes.then_some(())
}

/// The time of a drain runs out, and then so much more that its mark is an old one. What was decided before has landed or never will.
pub fn drain_ages(state: &mut State, machine: u8) -> Option<()> {
    let marks = &mut state.machines[usize::from(machine)].marks;
    marks.draining = Some(match marks.draining? {
        Age::Fresh => Age::Over,
        Age::Over => Age::Old,
        Age::Old => return None,
    });
    state.late.clear();
    for operator in &mut state.operators {
        if matches!(
            &operator.pc,
            Pc::Act { .. } | Pc::Under { .. } | Pc::Look(_)
        ) {
            operator.pc = Pc::Idle;
        }
    }
    Some(())
}

/// A person makes a Node unschedulable; no more than a word where it is so already. `meanwhile`: also
/// between NICO's look at a Node and its write, which insists on no version of the Node.
pub fn cordoned_by_hand(state: &mut State, machine: u8, meanwhile: bool) -> Option<()> {
    let is_of_it = |step: &Step| match step {
        Step::Drain(of, _) | Step::Undrain(of, _) => *of == machine,
        _ => false,
    };
    let decided = state.operators.iter().any(|operator| match &operator.pc {
        Pc::Act { steps, .. } => steps.iter().any(is_of_it),
        Pc::Under { .. } | Pc::Look(_) => true,
        Pc::Idle => false,
    });
    let late = state.late.iter().any(|late| is_of_it(&late.step));
    let now = &mut state.machines[usize::from(machine)];
    if (decided || late) && !meanwhile || !now.node || now.marks.unschedulable {
        return None;
    }
    now.marks.unschedulable = true;
    now.by_hand = true;
    Some(())
}

/// A Node that is gone has no marks.
pub fn forget_node(state: &mut State, machine: u8) -> bool {
    let now = &mut state.machines[usize::from(machine)];
    now.marks = Marks::default();
    now.by_hand = false;
    std::mem::take(&mut now.node)
}
