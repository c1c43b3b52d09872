//! Who may begin a pass: first looks before other work, fair shares by namespace, and first come, first served within one.
//!
//! The Controller itself starts what its queue happens to show first. So it starts every pass, and each waits here for its turn.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;

use crate::api::cluster::RawCluster;

use super::lock::lock;
use super::schedule::{CONCURRENT_PASSES, PASSES_KEPT_FOR_FIRST_LOOKS};

/// What a pass is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nobody has looked at this generation of the cluster: its status says so at once.
    FirstLook = 0,
    /// Anything else.
    Work = 1,
}

impl Kind {
    /// What a pass for this cluster is for: where its status is of another generation than its spec, a first look.
    #[must_use]
    pub fn of(cluster: &RawCluster) -> Self {
        let status = cluster.status.as_ref();
        let observed = status.and_then(|status| status.observed_generation);
        if observed == cluster.metadata.generation {
            Self::Work
        } else {
            Self::FirstLook
        }
    }
}

/// The gate that every pass goes through.
#[derive(Default)]
pub struct Gate(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    closed: bool,
    /// Running passes by kind.
    running: [usize; 2],
    /// Running passes by kind and namespace.
    of_namespace: [BTreeMap<String, usize>; 2],
    /// Those who wait, by kind.
    waiting: [Queue; 2],
}

/// Those who wait: namespaces take turns, and each is first come, first served.
#[derive(Default)]
struct Queue {
    turns: VecDeque<String>,
    waiting: BTreeMap<String, VecDeque<Waiter>>,
}

/// A cluster that waits.
struct Waiter {
    cluster: String,
    admit: oneshot::Sender<Turn>,
}

/// The turn of one pass. It makes room when it is dropped.
pub struct Turn {
    gate: Option<Arc<Mutex<State>>>,
    namespace: String,
    kind: Kind,
}

impl Gate {
    /// Waits for the turn of a cluster. `None`: the gate is closed.
    pub async fn enter(&self, namespace: &str, cluster: &str, kind: Kind) -> Option<Turn> {
        let (admit, admitted) = oneshot::channel();
        {
            let mut state = lock(&self.0);
            if state.closed {
                return None;
            }
            let cluster = cluster.to_owned();
            state.waiting[kind as usize].push(namespace, Waiter { cluster, admit });
        }
        admit_all(&self.0);
        admitted.await.ok()
    }

    /// A cluster that may wait with work has a generation that nobody has looked at: it waits with the first looks.
    pub fn promote(&self, namespace: &str, cluster: &str) {
        {
            let mut state = lock(&self.0);
            let [first_looks, work] = &mut state.waiting;
            let Some(waiter) = work.take(namespace, cluster) else {
                return;
            };
            first_looks.push(namespace, waiter);
        }
        admit_all(&self.0);
    }

    /// Admits nobody any more, so that the program can end.
    pub fn close(&self) {
        let mut state = lock(&self.0);
        state.closed = true;
        state.waiting = Default::default();
    }
}

impl Queue {
    fn push(&mut self, namespace: &str, waiter: Waiter) {
        let waiting = self.waiting.entry(namespace.to_owned()).or_default();
        if waiting.is_empty() {
            self.turns.push_back(namespace.to_owned());
        }
        waiting.push_back(waiter);
    }

    /// Takes the first one whose namespace may have another pass.
    fn pop(&mut self, may_have_another: impl Fn(&str) -> bool) -> Option<(String, Waiter)> {
        let position = self.turns.iter().position(|it| may_have_another(it))?;
        let namespace = self.turns.remove(position)?;
        let waiting = self.waiting.get_mut(&namespace)?;
        let first = waiting.pop_front()?;
        if waiting.is_empty() {
            self.waiting.remove(&namespace);
        } else {
            self.turns.push_back(namespace.clone());
        }
        Some((namespace, first))
    }

    /// Takes a cluster out of its turn.
    fn take(&mut self, namespace: &str, cluster: &str) -> Option<Waiter> {
        let waiting = self.waiting.get_mut(namespace)?;
        let position = waiting.iter().position(|it| it.cluster == cluster)?;
        let waiter = waiting.remove(position)?;
        if waiting.is_empty() {
            self.waiting.remove(namespace);
            self.turns.retain(|it| it != namespace);
        }
        Some(waiter)
    }
}

impl State {
    /// The next one that may begin. Of each kind, a namespace gets at most as many passes as it leaves to others, so that a few never
    /// take all.
    fn next(&mut self) -> Option<(String, Kind, Waiter)> {
        let all: usize = self.running.iter().sum();
        let free = CONCURRENT_PASSES.saturating_sub(all);
        let for_work = CONCURRENT_PASSES - PASSES_KEPT_FOR_FIRST_LOOKS;
        for (kind, free) in [
            (Kind::FirstLook, free),
            (
                Kind::Work,
                free.min(for_work.saturating_sub(self.running[Kind::Work as usize])),
            ),
        ] {
            let running = &self.of_namespace[kind as usize];
            let may_have_another =
                |namespace: &str| running.get(namespace).copied().unwrap_or_default() < free;
            if let Some((namespace, waiter)) = self.waiting[kind as usize].pop(may_have_another) {
                self.running[kind as usize] += 1;
                let running = &mut self.of_namespace[kind as usize];
                *running.entry(namespace.clone()).or_default() += 1;
                return Some((namespace, kind, waiter));
            }
        }
        None
    }

    fn end(&mut self, namespace: &str, kind: Kind) {
        self.running[kind as usize] -= 1;
        let running = &mut self.of_namespace[kind as usize];
        if let Some(passes) = running.get_mut(namespace) {
            *passes -= 1;
            if *passes == 0 {
                running.remove(namespace);
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(gate) = self.gate.take() {
            lock(&gate).end(&self.namespace, self.kind);
            admit_all(&gate);
        }
    }
}

/// Admits whoever may begin. One that does not wait any more gives its place to the next.
fn admit_all(gate: &Arc<Mutex<State>>) {
    loop {
        let Some((namespace, kind, waiter)) = lock(gate).next() else {
            return;
        };
        let turn = Turn {
            gate: Some(Arc::clone(gate)),
            namespace,
            kind,
        };
        if let Err(mut unused) = waiter.admit.send(turn) {
            // It ends here and not in its drop, which would begin this loop again inside itself.
            unused.gate = None;
            lock(gate).end(&unused.namespace, unused.kind);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    /// A pass of this namespace, where it begins at once.
    fn try_enter(gate: &Gate, namespace: &str, kind: Kind) -> Option<Turn> {
        gate.enter(namespace, "it", kind).now_or_never().flatten()
    }

    fn fill(gate: &Gate, namespace: &str, kind: Kind) -> Vec<Turn> {
        std::iter::from_fn(|| try_enter(gate, namespace, kind)).collect()
    }

    /// As many passes as many namespaces get together.
    fn fill_all(gate: &Gate, kind: Kind) -> Vec<Turn> {
        let namespaces = (0..100).map(|i| i.to_string());
        let enter = |namespace: String| try_enter(gate, &namespace, kind);
        namespaces.filter_map(enter).collect()
    }

    #[test]
    fn no_namespace_takes_all() {
        let gate = Gate::default();
        let greedy = fill(&gate, "a", Kind::Work);
        assert_eq!(greedy.len(), 12);
        let also = fill(&gate, "b", Kind::Work);
        assert_eq!(also.len(), 6);
        assert!(try_enter(&gate, "c", Kind::Work).is_some());
        drop(greedy);
        assert!(fill(&gate, "c", Kind::Work).len() > 6);
    }

    #[test]
    fn a_first_look_finds_room_beside_any_work() {
        let one = Gate::default();
        let _work = fill(&one, "a", Kind::Work);
        assert!(
            try_enter(&one, "a", Kind::FirstLook).is_some(),
            "in one namespace"
        );
        let many = Gate::default();
        let work = fill_all(&many, Kind::Work);
        assert_eq!(work.len(), 24);
        assert_eq!(fill_all(&many, Kind::FirstLook).len(), 8);
    }

    #[test]
    fn a_first_look_goes_before_work_that_waits_longer() {
        let gate = Gate::default();
        let mut work = fill_all(&gate, Kind::Work);
        let _looks = fill_all(&gate, Kind::FirstLook);
        let mut more_work = Box::pin(gate.enter("a", "works", Kind::Work));
        let mut edited = Box::pin(gate.enter("a", "edited", Kind::Work));
        let mut look = Box::pin(gate.enter("b", "new", Kind::FirstLook));
        for waits in [&mut more_work, &mut edited, &mut look] {
            assert!(waits.as_mut().now_or_never().is_none());
        }
        // The spec of one that waits with work was changed.
        gate.promote("a", "edited");
        work.pop();
        let new = look.as_mut().now_or_never().flatten();
        assert!(new.is_some());
        assert!(edited.as_mut().now_or_never().is_none());
        work.pop();
        let second = edited.as_mut().now_or_never().flatten();
        assert!(second.is_some());
        assert!(more_work.as_mut().now_or_never().is_none());
        work.pop();
        assert!(more_work.as_mut().now_or_never().flatten().is_some());
    }

    #[test]
    fn namespaces_take_turns_and_each_is_first_come_first_served() {
        let mut queue = Queue::default();
        for (namespace, cluster) in [
            ("a", "1"),
            ("a", "2"),
            ("a", "3"),
            ("b", "4"),
            ("c", "5"),
            ("b", "6"),
        ] {
            let (admit, _) = oneshot::channel();
            let cluster = cluster.to_owned();
            queue.push(namespace, Waiter { cluster, admit });
        }
        let order: Vec<String> =
            std::iter::from_fn(|| Some(queue.pop(|_| true)?.1.cluster)).collect();
        assert_eq!(order, ["1", "4", "5", "2", "6", "3"]);
    }

    #[tokio::test]
    async fn who_waits_no_longer_takes_no_place_and_a_closed_gate_admits_nobody() {
        let gate = Gate::default();
        let running = fill(&gate, "a", Kind::Work);
        for _ in 0..10_000 {
            let mut gone = Box::pin(gate.enter("a", "gone", Kind::Work));
            assert!(gone.as_mut().now_or_never().is_none());
        }
        let mut waits = Box::pin(gate.enter("a", "waits", Kind::Work));
        assert!(waits.as_mut().now_or_never().is_none());
        drop(running);
        assert!(waits.await.is_some());
        assert_eq!(lock(&gate.0).running, [0, 0]);
        let running = fill(&gate, "a", Kind::Work);
        let waits = gate.enter("a", "waits", Kind::Work);
        let (waited, ()) = tokio::join!(waits, async { gate.close() });
        assert!(waited.is_none());
        drop(running);
        assert!(try_enter(&gate, "a", Kind::Work).is_none());
    }
}
