//! The slot's protocol with one of its steps left out. The search must find what each is for.

/// What is done otherwise than the protocol of the slot says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mutation {
    /// Nothing.
    #[default]
    Faithful,
    /// The ledger is read before the child, not after it.
    LedgerBeforeChild,
    /// The ledger is not read again at all.
    NoLastLedgerRead,
    /// An entry is removed without touching its child.
    NoTouch,
    /// An entry goes without having been `releasing`.
    NoReleasing,
    /// A write does not insist on the child's version.
    NoVersionOnWrite,
    /// Where there is no child, nobody waits for older POSTs.
    NoWaitWithoutChild,
    /// An entry of the control plane becomes a worker's where the spec makes its machine one.
    RoleBySpec,
    /// The removal insists on no version of the ledger from before the touch.
    RemovalByAnyLedger,
    /// The ledger counts as unchanged where its content is the same.
    EqualContent,
    /// The slot is kept where a person can wipe it.
    SlotInStatus,
    /// A ledger made again opens at once.
    NoFencing,
    /// An entry ends by what a cache shows of its child.
    ConfirmedInCache,
    /// What a write rests on was read before the entry was taken.
    ReadsBeforeTake,
    /// What was made for a cluster that is gone by then stays.
    NoUnlessGone,
    /// NIO v1 is believed where it says that it is ready.
    ReadyIsProof,
    /// A complete Job is a proof also beside one that has not ended.
    UnfinishedJobsAside,
    /// A complete Job is a proof also where another one ended after it.
    AnyCompleteJob,
    /// Two minutes pass in a deletion before anything but configurations goes: what no rule asks for.
    DeletionWaits,
    /// What was made while the cluster was being deleted stays: only one that is gone already is heeded.
    UnlessGoneAlone,
}
