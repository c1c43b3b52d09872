//! Limits how many pieces of work run at the same time, and decides which is next. Namespaces get fair shares; within a namespace it is
//! first come, first served. Work that is quick or urgent goes first, and some places are reserved for it.
//!
//! Passes go through one gate: the order of the Controller's own queue is not fair, so it starts every pass at once, and each waits for its
//! turn here. Requests to clusters, log-ins to machines, and work that keeps a thread busy go through other gates.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;

use super::lock::lock;

/// Priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Goes first, and may use every place.
    First = 0,
    /// Goes after the first class, and does not use the places reserved for it.
    Other = 1,
}

/// A gate to a limited number of places. Clones share it.
#[derive(Clone)]
pub struct Gate(Arc<Mutex<State>>);

struct State {
    /// Number of places.
    places: usize,
    /// How many of them are reserved for the first class.
    kept: usize,
    closed: bool,
    /// Places that are taken, by class.
    taken: [usize; 2],
    /// Places that are taken, by class and namespace.
    of_namespace: [BTreeMap<String, usize>; 2],
    /// The queues, by class.
    waiting: [Queue; 2],
}

/// A queue in which namespaces take turns, and each is first come, first served.
#[derive(Default)]
struct Queue {
    turns: VecDeque<String>,
    waiting: BTreeMap<String, VecDeque<Waiter>>,
}

/// A waiting piece of work for a cluster.
struct Waiter {
    cluster: String,
    admit: oneshot::Sender<Turn>,
}

/// A place. Dropping this frees it.
pub struct Turn {
    gate: Option<Arc<Mutex<State>>>,
    namespace: String,
    class: Class,
}

impl Gate {
    /// A gate with this many places, of which `kept` are reserved for the first class.
    #[must_use]
    pub fn new(places: usize, kept: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            places,
            kept,
            closed: false,
            taken: Default::default(),
            of_namespace: Default::default(),
            waiting: Default::default(),
        })))
    }

    /// Waits for the turn of a cluster. `None`: the gate is closed.
    pub async fn enter(&self, namespace: &str, cluster: &str, class: Class) -> Option<Turn> {
        let (admit, admitted) = oneshot::channel();
        {
            let mut state = lock(&self.0);
            if state.closed {
                return None;
            }
            let cluster = cluster.to_owned();
            state.waiting[class as usize].push(namespace, Waiter { cluster, admit });
        }
        admit_all(&self.0);
        admitted.await.ok()
    }

    /// Moves a waiting cluster to the first class.
    pub fn promote(&self, namespace: &str, cluster: &str) {
        {
            let mut state = lock(&self.0);
            let [first, others] = &mut state.waiting;
            let Some(waiter) = others.take(namespace, cluster) else {
                return;
            };
            first.push(namespace, waiter);
        }
        admit_all(&self.0);
    }

    /// How many wait for a place, and how many have one.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let state = lock(&self.0);
        let queues = state
            .waiting
            .iter()
            .flat_map(|queue| queue.waiting.values());
        let waiting = queues.flatten().filter(|waiter| !waiter.admit.is_closed());
        (waiting.count(), state.taken.iter().sum())
    }

    /// Admits no more work, so that the program can end.
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

    /// Removes the first waiter whose namespace may have another place.
    fn pop(&mut self, may_have_another: impl Fn(&str) -> bool) -> Option<(String, Waiter)> {
        let position = self
            .turns
            .iter()
            .position(|namespace| may_have_another(namespace))?;
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

    /// Removes the waiter of a cluster.
    fn take(&mut self, namespace: &str, cluster: &str) -> Option<Waiter> {
        let waiting = self.waiting.get_mut(namespace)?;
        let position = waiting
            .iter()
            .position(|waiter| waiter.cluster == cluster)?;
        let waiter = waiting.remove(position)?;
        if waiting.is_empty() {
            self.waiting.remove(namespace);
            self.turns.retain(|turn| turn != namespace);
        }
        Some(waiter)
    }
}

impl State {
    /// The next waiter to admit. In each class, a namespace gets at most as many places as it leaves free, so that a few namespaces never
    /// take all.
    fn next(&mut self) -> Option<(String, Class, Waiter)> {
        let free = self.places - self.taken.iter().sum::<usize>().min(self.places);
        let others = self.places - self.kept;
        let free_for_others = others.saturating_sub(self.taken[Class::Other as usize]);
        for (class, free) in [
            (Class::First, free),
            (Class::Other, free.min(free_for_others)),
        ] {
            let taken = &self.of_namespace[class as usize];
            let may_have_another =
                |namespace: &str| taken.get(namespace).copied().unwrap_or_default() < free;
            if let Some((namespace, waiter)) = self.waiting[class as usize].pop(may_have_another) {
                self.taken[class as usize] += 1;
                let taken = &mut self.of_namespace[class as usize];
                *taken.entry(namespace.clone()).or_default() += 1;
                return Some((namespace, class, waiter));
            }
        }
        None
    }

    fn end(&mut self, namespace: &str, class: Class) {
        self.taken[class as usize] -= 1;
        let of_namespace = &mut self.of_namespace[class as usize];
        if let Some(taken) = of_namespace.get_mut(namespace) {
            *taken -= 1;
            if *taken == 0 {
                of_namespace.remove(namespace);
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(gate) = self.gate.take() {
            lock(&gate).end(&self.namespace, self.class);
            admit_all(&gate);
        }
    }
}

/// Admits all waiters that may begin. The place of one that no longer waits goes to the next.
fn admit_all(gate: &Arc<Mutex<State>>) {
    loop {
        let Some((namespace, class, waiter)) = lock(gate).next() else {
            return;
        };
        let turn = Turn {
            gate: Some(Arc::clone(gate)),
            namespace,
            class,
        };
        if let Err(mut unused) = waiter.admit.send(turn) {
            // The place is freed here, since dropping the turn would start this loop again recursively.
            unused.gate = None;
            lock(gate).end(&unused.namespace, unused.class);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn gate() -> Gate {
        Gate::new(32, 8)
    }

    /// A turn for this namespace, if it begins at once.
    fn try_enter(gate: &Gate, namespace: &str, class: Class) -> Option<Turn> {
        gate.enter(namespace, "it", class).now_or_never().flatten()
    }

    fn fill(gate: &Gate, namespace: &str, class: Class) -> Vec<Turn> {
        std::iter::from_fn(|| try_enter(gate, namespace, class)).collect()
    }

    /// As many turns as many namespaces get together.
    fn fill_all(gate: &Gate, class: Class) -> Vec<Turn> {
        let namespaces = (0..100).map(|i| i.to_string());
        let enter = |namespace: String| try_enter(gate, &namespace, class);
        namespaces.filter_map(enter).collect()
    }

    #[test]
    fn no_namespace_takes_all() {
        let gate = gate();
        let greedy = fill(&gate, "a", Class::Other);
        assert_eq!(greedy.len(), 12);
        let also = fill(&gate, "b", Class::Other);
        assert_eq!(also.len(), 6);
        assert!(try_enter(&gate, "c", Class::Other).is_some());
        drop(greedy);
        assert!(fill(&gate, "c", Class::Other).len() > 6);
    }

    #[test]
    fn a_first_look_finds_room_beside_any_work() {
        let one = gate();
        let _work = fill(&one, "a", Class::Other);
        assert!(
            try_enter(&one, "a", Class::First).is_some(),
            "in one namespace"
        );
        let many = gate();
        let work = fill_all(&many, Class::Other);
        assert_eq!(work.len(), 24);
        assert_eq!(fill_all(&many, Class::First).len(), 8);
    }

    #[test]
    fn a_first_look_goes_before_work_that_waits_longer() {
        let gate = gate();
        let mut work = fill_all(&gate, Class::Other);
        let _looks = fill_all(&gate, Class::First);
        let mut more_work = Box::pin(gate.enter("a", "works", Class::Other));
        let mut edited = Box::pin(gate.enter("a", "edited", Class::Other));
        let mut look = Box::pin(gate.enter("b", "new", Class::First));
        for waits in [&mut more_work, &mut edited, &mut look] {
            assert!(waits.as_mut().now_or_never().is_none());
        }
        // The spec of a cluster that waits in the other class was changed.
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
        let gate = gate();
        let running = fill(&gate, "a", Class::Other);
        for _ in 0..10_000 {
            let mut gone = Box::pin(gate.enter("a", "gone", Class::Other));
            assert!(gone.as_mut().now_or_never().is_none());
        }
        let mut waits = Box::pin(gate.enter("a", "waits", Class::Other));
        assert!(waits.as_mut().now_or_never().is_none());
        assert_eq!(gate.counts(), (1, running.len()));
        drop(running);
        assert!(waits.await.is_some());
        assert_eq!(gate.counts(), (0, 0));
        assert_eq!(lock(&gate.0).taken, [0, 0]);
        let running = fill(&gate, "a", Class::Other);
        let waits = gate.enter("a", "waits", Class::Other);
        let (waited, ()) = tokio::join!(waits, async { gate.close() });
        assert!(waited.is_none());
        drop(running);
        assert!(try_enter(&gate, "a", Class::Other).is_none());
    }
}
