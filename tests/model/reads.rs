//! What an operator reads, in which order, and what the planner is shown of it.

use crate::compact::{Estate, MOST, Reads, Word};
use crate::mutation::Mutation;
use crate::planner::View;
use crate::search::Search;
use crate::state::State;

/// One thing that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    Cluster,
    /// All configurations and machines.
    List,
    Ledger,
    /// The cluster's own word.
    Word,
    /// The configurations of the machines of the entries.
    Children,
    /// The first of them, and the other.
    FirstChild,
    OtherChild,
}
use Read::{Children, Cluster, FirstChild, Ledger, List, OtherChild, Word as AskWord};

impl Search {
    /// What is read for a plan; each group at one moment.
    pub fn looks(&self) -> &'static [&'static [Read]] {
        if self.fine {
            &[&[Cluster], &[List], &[Ledger], &[AskWord]]
        } else {
            &[&[Cluster, List, Ledger, AskWord]]
        }
    }

    /// What is read under the entries of these machines, a bit each. A child and the ledger after it are one moment where the write
    /// insists on both: had the child changed in between, the write would be refused.
    pub fn reads_under(&self, machines: u8) -> &'static [&'static [Read]] {
        match (self.mutation, self.fine) {
            (Mutation::ReadsBeforeTake, _) => &[&[Ledger]],
            (Mutation::LedgerBeforeChild, false) => {
                &[&[Cluster], &[List, AskWord], &[Ledger], &[Children]]
            }
            (_, false) => &[&[Cluster], &[List, AskWord], &[Children, Ledger]],
            (Mutation::LedgerBeforeChild, true) => {
                &[&[Cluster], &[List], &[AskWord], &[Ledger], &[Children]]
            }
            (_, true) if machines.count_ones() > 1 => &[
                &[Cluster],
                &[List],
                &[AskWord],
                &[FirstChild],
                &[OtherChild],
                &[Ledger],
            ],
            (_, true) => &[&[Cluster], &[List], &[AskWord], &[Children], &[Ledger]],
        }
    }

    /// Reads something; `of`: the machines of the entries, a bit each.
    pub fn read(&self, state: &State, read: Read, of: u8, reads: &mut Reads) {
        match read {
            Cluster => {
                reads.edit = state.edit;
                let Estate {
                    life, finalizer, ..
                } = state.estate;
                (reads.estate.life, reads.estate.finalizer) = (life, finalizer);
                reads.valid.cluster = self.deletes || self.brings_up;
            }
            List => {
                reads.hidden = self.hidden(state);
                for index in 0..MOST {
                    reads.children[index] = state.machines[index].child;
                }
                reads.valid.children = u8::MAX;
            }
            Ledger => {
                reads.ledger = state.ledger;
                reads.estate.children = state.estate.children;
                reads.valid.ledger = true;
            }
            AskWord => reads.word = self.word(state),
            Children => read_children(state, of, reads),
            FirstChild => read_children(state, of & of.wrapping_neg(), reads),
            OtherChild => read_children(state, of & (of - 1), reads),
        }
    }

    /// Everything, at one moment.
    pub fn read_all(&self, state: &State, reads: &mut Reads) {
        for read in [Cluster, List, Ledger, AskWord] {
            self.read(state, read, 0, reads);
        }
    }

    fn word(&self, state: &State) -> Word {
        if state.silent || state.estate.children & Estate::KUBECONFIG == 0 {
            return Word::Silence;
        }
        let mut word = (0, 0, 0);
        for machine in 0..self.machines() {
            let now = &state.machines[usize::from(machine)];
            word.0 |= u8::from(now.down) << machine;
            word.1 |= u8::from(!now.node) << machine;
            word.2 |= u8::from(now.leads) << machine;
        }
        Word::Heard {
            down: word.0,
            absent: word.1,
            leads: word.2,
            marks: state.machines.map(|machine| machine.marks),
        }
    }

    pub fn view(&self, state: &State, reads: &Reads, entered: Option<(u8, bool)>) -> View {
        let aged = (0..self.machines()).filter(|it| state.machines[usize::from(*it)].aged);
        let rewritten = |machine: &u8| {
            reads.children[usize::from(*machine)].is_some_and(|child| child.rewritten)
        };
        let spec = self.edits[usize::from(reads.edit)];
        let mut ledger = reads.ledger;
        if self.mutation == Mutation::RoleBySpec {
            let entries = ledger.iter_mut().flat_map(|slot| &mut slot.entries);
            for entry in entries.flatten() {
                entry.leads &= self.workers[usize::from(spec)] & (1 << entry.machine) == 0;
            }
        }
        let view = View {
            spec,
            estate: reads.estate,
            ledger,
            children: reads.children,
            hidden: reads.hidden,
            aged: aged.filter(rewritten).map(|machine| 1 << machine).sum(),
            word: reads.word,
            entered,
            patient: false,
            overdue: false,
        };
        // What nobody asks the cluster for is not seen.
        let unasked = View {
            word: Word::NotAsked,
            ..view
        };
        if self.drains && entered.is_none() && !self.planner.plan(&unasked).wants_word {
            unasked
        } else {
            view
        }
    }
}

fn read_children(state: &State, of: u8, reads: &mut Reads) {
    for index in 0..MOST {
        if of & (1 << index) != 0 {
            reads.children[index] = state.machines[index].child;
        }
    }
    reads.valid.children |= of;
}
