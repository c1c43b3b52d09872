//! The state of the world in few bytes: what can be searched a million times. Nothing here knows NICO; `planner.rs` turns it into
//! the real objects and back.
//!
//! resourceVersions are not counted. What matters of a version that somebody holds is one bit: whether the object still stands as
//! it was read (versions never return), and that bit falls at every write of the object. Generations are numbered again in every state:
//! what matters of an attempt is which others it equals.

/// The most machines of a search.
pub const MOST: usize = 5;

/// One attempt on a machine: what a configuration says, but for its marker (`texts.rs`), and the number in its marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt {
    pub text: u16,
    pub number: u8,
}

/// The annotation `confirmed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kept {
    Never,
    Is(Attempt),
    Withdrawn,
}

/// What NIO says on a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Proof {
    /// Nothing, or it was wiped.
    Nothing,
    /// `Applied=False`: the machine was out of reach for a while.
    Faded,
    /// This attempt was applied.
    Success(Attempt),
    /// NIO v1: its Jobs.
    Jobs(Jobs),
}

/// The Jobs of a configuration beside NIO v1. An attempt is known by its number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Jobs {
    /// What the next Job applies.
    pub template: Option<u8>,
    /// Those that run. The order means nothing.
    pub running: [Option<u8>; 2],
    /// The last two to have ended, the last one first, and whether they succeeded.
    pub ended: [Option<(u8, bool)>; 2],
}

/// A configuration as the API server stores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Child {
    /// Its role: that of the control plane, or a worker's.
    pub leads: bool,
    pub held: Attempt,
    pub kept: Kept,
    pub proof: Proof,
    /// Whether it bears the annotation `rewritten`.
    pub rewritten: bool,
    /// Whether it is being deleted.
    pub terminating: bool,
}

impl Child {
    pub fn is_confirmed(&self) -> bool {
        self.kept == Kept::Is(self.held) && !self.terminating
    }
}

/// How long a Node has been marked as being drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Age {
    /// Its pods have time left.
    Fresh,
    /// Their time has run out.
    Over,
    /// So long ago that it is of another drain.
    Old,
}

/// What a drain changes on a Node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Marks {
    pub unschedulable: bool,
    /// NICO's annotation: it made it so.
    pub cordoned: bool,
    /// NICO's annotation: it is being drained.
    pub draining: Option<Age>,
    /// Pods run there that a drain has to evict.
    pub pods: bool,
}

impl Marks {
    /// Whether any of them is NICO's.
    pub fn is_marked(self) -> bool {
        self.draining.is_some() || self.cordoned
    }
}

/// A machine, and what its configuration has come to.
// Each is a fact of its own.
#[allow(clippy::struct_excessive_bools)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Machine {
    pub child: Option<Child>,
    /// An attempt of before the last write that NIO may still be running.
    pub older: Option<Attempt>,
    /// Whether an hour has passed since `rewritten`.
    pub aged: bool,
    /// Its API server does not answer, and its Node is not Ready.
    pub down: bool,
    /// NIO cannot reach it.
    pub hidden: bool,
    /// Its Node exists.
    pub node: bool,
    /// Its Node is, or was last, one of the control plane.
    pub leads: bool,
    /// What is on its Node.
    pub marks: Marks,
    /// A person made its Node unschedulable.
    pub by_hand: bool,
    /// It was written disruptively, and NIO has not proved since that exactly this is on it.
    pub flying: bool,
}

/// State of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    pub machine: u8,
    /// Its role is that of the control plane.
    pub leads: bool,
    pub releasing: bool,
}

/// The slot, as it is in the ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    pub entries: [Option<Entry>; 2],
    pub fencing: bool,
    /// The ledger says that the cluster is not founded yet.
    pub founding: bool,
}

impl Slot {
    pub fn is_empty(self) -> bool {
        self.entries.iter().all(Option::is_none)
    }

    pub fn without(self, machine: u8) -> Self {
        self.without_all(1 << machine)
    }

    /// Without the entries of these machines, a bit each.
    pub fn without_all(self, machines: u8) -> Self {
        let mut rest = self
            .entries
            .iter()
            .flatten()
            .filter(|entry| machines & (1 << entry.machine) == 0);
        Self {
            entries: [rest.next().copied(), rest.next().copied()],
            ..self
        }
    }
}

/// How far the cluster object is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Life {
    #[default]
    Lives,
    /// It bears a deletionTimestamp.
    Deleting,
    Gone,
}

/// The cluster object, and its children but for configurations and ledger: a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Estate {
    pub life: Life,
    /// It bears NICO's finalizer.
    pub finalizer: bool,
    pub children: u8,
    /// Something that was decided before the deletion arrived after the last look at what was there.
    pub late: bool,
}

impl Estate {
    /// The token Secrets.
    pub const TOKENS: u8 = 0b0011;
    pub const KUBECONFIG: u8 = 0b0100;
    pub const ALL: u8 = 0b1111;
    /// The ledger has a bit of its own elsewhere: it is not one of `children`.
    pub const LEDGER: u8 = 4;

    /// Of a cluster that lives.
    pub const fn whole() -> Self {
        Self {
            life: Life::Lives,
            finalizer: true,
            children: Self::ALL,
            late: false,
        }
    }
}

/// What a cluster says of itself when it is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Word {
    #[default]
    NotAsked,
    /// None of its API servers can be reached.
    Silence,
    /// Each is a bit: machines that do not answer and whose Node is not Ready, those that have no Node, and those whose Node is of the
    /// control plane. The others are well.
    Heard {
        down: u8,
        absent: u8,
        leads: u8,
        marks: [Marks; MOST],
    },
}

/// Which versions that somebody holds still stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Valid {
    pub cluster: bool,
    pub ledger: bool,
    /// A bit for each configuration.
    pub children: u8,
}

impl Valid {
    pub fn child(self, machine: u8) -> bool {
        self.children & (1 << machine) != 0
    }
}

/// What an operator has read in this pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reads {
    /// How many of the groups of reads are done.
    pub done: u8,
    /// Which spec the cluster object had.
    pub edit: u8,
    /// The cluster object, and what stood beside it.
    pub estate: Estate,
    pub children: [Option<Child>; MOST],
    /// Machines that NIO cannot reach, a bit each.
    pub hidden: u8,
    pub ledger: Option<Slot>,
    /// Whether that ledger was the one of one's own take.
    pub stood: bool,
    pub word: Word,
    pub valid: Valid,
}

/// The rules that a write can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Broken {
    /// A configuration for another machine than its own.
    I1,
    /// Two control plane machines in flight.
    I3Flight,
    /// The numbers of the control plane forbid it.
    I3Numbers,
    /// Out of order, both kinds at once, or too many workers.
    I4,
    /// A machine is told to found the cluster.
    I14,
    /// A marker that is not new.
    I15,
    /// The plan is another one with the status wiped.
    Status,
    /// The finalizer goes while a configuration exists.
    I9,
    /// Something is made though the cluster is being deleted.
    I10,
    /// A configuration is there and a token that it refers to is not.
    Tokens,
    /// The ledger goes, and others of its kind are still there.
    LedgerLast,
    /// A control plane machine leaves before the Node of the one before it is gone.
    TwoLeave,
    /// A healthy machine leaves with its pods.
    Undrained,
    /// What a person made unschedulable is made schedulable.
    Uncordoned,
}

impl Machine {
    /// Whether it is of the control plane: as its configuration says, or its Node. A worker whose Node bears the label may be a member
    /// of etcd.
    pub fn is_control_plane(&self) -> bool {
        match self.child {
            Some(child) => child.leads || self.node && self.leads,
            None => self.leads,
        }
    }
}
