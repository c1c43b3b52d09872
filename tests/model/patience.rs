//! A plan, at once or once the clocks of patience have run out; and what such a wait does to the requests of others.

use crate::compact::{Broken, Life, Reads, Slot};
use crate::mutation::Mutation;
use crate::planner::View;
use crate::search::Search;
use crate::state::{Pc, State, Step};

impl Search {
    /// Plans from what was read; with patience only where that makes a difference.
    pub fn plan(
        &self,
        state: &mut State,
        who: usize,
        reads: &Reads,
        entered: Option<(u8, bool)>,
        patient: bool,
    ) -> Option<Vec<Step>> {
        let view = self.view(state, reads, entered);
        let now = self.planner.plan(&view);
        if now.heeds_status {
            state.broken = state.broken.or(Some(Broken::Status));
        }
        if !patient {
            let waits = self.deletion_waits(&now.steps);
            return (!waits).then(|| now.steps.clone());
        }
        if self.deletion_waits(&now.steps) {
            self.time_passes(state, who, reads);
            return Some(now.steps.clone());
        }
        let later = self.planner.plan(&View {
            patient: true,
            ..view
        });
        if later.steps == now.steps {
            return None;
        }
        self.time_passes(state, who, reads);
        Some(later.steps.clone())
    }

    /// Whether nothing of a plan is done before two minutes are over (a mutation).
    fn deletion_waits(&self, steps: &[Step]) -> bool {
        let takes_down = |step: &Step| matches!(step, Step::DeleteChild(_));
        self.mutation == Mutation::DeletionWaits && steps.iter().any(takes_down)
    }

    /// Two minutes go by in which nobody takes an entry: what others decided before has landed or never will.
    fn time_passes(&self, state: &mut State, who: usize, reads: &Reads) {
        // Nobody waits for the sake of a worker's.
        let without_child = |slot: &Slot| {
            let mut entries = slot.entries.iter().flatten();
            entries.any(|entry| entry.leads && reads.children[usize::from(entry.machine)].is_none())
        };
        let fences = reads.ledger.is_some_and(|slot| slot.fencing);
        let gives_up = reads.estate.life == Life::Deleting;
        let waits = reads.ledger.as_ref().is_some_and(without_child)
            && self.mutation != Mutation::NoWaitWithoutChild;
        if !fences && !waits && !gives_up {
            return;
        }
        state.late.clear();
        for (index, other) in state.operators.iter_mut().enumerate() {
            let decided = matches!(&other.pc, Pc::Act { steps, .. } if is_deed(steps.first()));
            if index != who && decided {
                other.pc = Pc::Idle;
            }
        }
    }
}

/// Whether this is what an entry is taken for.
fn is_deed(step: Option<&Step>) -> bool {
    matches!(
        step,
        Some(
            Step::Write(_)
                | Step::LedgerStands
                | Step::Release(_)
                | Step::DeleteNode(_)
                | Step::Drain(..)
                | Step::Undrain(..)
        )
    )
}
