//! Who may begin a pass: first looks before other work, fair shares by namespace, and first come, first served within one.
//!
//! The Controller itself starts what its queue happens to show first. So it starts every pass, and each waits here for its turn.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::schedule::{CONCURRENT_PASSES, PASSES_KEPT_FOR_FIRST_LOOKS};

/// What a pass is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nobody has looked at this generation of the cluster: its status says so at once.
    FirstLook = 0,
    /// Anything else.
    Work = 1,
}

/// The gate that every pass goes through.
#[derive(Default)]
pub struct Gate(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    closed: bool,
    /// Running passes by kind.
    running: [usize; 2],
    /// Running passes by namespace.
    of_namespace: BTreeMap<String, usize>,
    /// Those who wait, by kind.
    waiting: [Queue; 2],
}

/// Those who wait: namespaces take turns, and each is first come, first served.
#[derive(Default)]
struct Queue {
    turns: VecDeque<String>,
    waiting: BTreeMap<String, VecDeque<oneshot::Sender<Turn>>>,
}

/// The turn of one pass. It makes room when it is dropped.
pub struct Turn {
    gate: Arc<Mutex<State>>,
    namespace: String,
    kind: Kind,
}

impl Gate {
    /// Waits for the turn of a cluster of this namespace. `None`: the gate is closed.
    pub async fn enter(&self, namespace: &str, kind: Kind) -> Option<Turn> {
        let (admit, admitted) = oneshot::channel();
        {
            let mut state = lock(&self.0);
            if state.closed {
                return None;
            }
            state.waiting[kind as usize].push(namespace, admit);
        }
        admit_all(&self.0);
        admitted.await.ok()
    }

    /// Admits nobody any more, so that the program can end.
    pub fn close(&self) {
        let mut state = lock(&self.0);
        state.closed = true;
        state.waiting = Default::default();
    }
}

impl Queue {
    fn push(&mut self, namespace: &str, admit: oneshot::Sender<Turn>) {
        let waiting = self.waiting.entry(namespace.to_owned()).or_default();
        if waiting.is_empty() {
            self.turns.push_back(namespace.to_owned());
        }
        waiting.push_back(admit);
    }

    /// Takes the first one whose namespace may have another pass.
    fn pop(
        &mut self,
        may_have_another: impl Fn(&str) -> bool,
    ) -> Option<(String, oneshot::Sender<Turn>)> {
        let position = self.turns.iter().position(|it| may_have_another(it))?;
        let namespace = self.turns.remove(position)?;
        let waiting = self.waiting.get_mut(&namespace)?;
        let admit = waiting.pop_front()?;
        if waiting.is_empty() {
            self.waiting.remove(&namespace);
        } else {
            self.turns.push_back(namespace.clone());
        }
        Some((namespace, admit))
    }
}

impl State {
    /// The next one that may begin. A namespace gets at most as many passes as it leaves to others, so that a few never take all.
    fn next(&mut self) -> Option<(String, Kind, oneshot::Sender<Turn>)> {
        let free = CONCURRENT_PASSES.saturating_sub(self.running.iter().sum());
        for (kind, most) in [
            (Kind::FirstLook, CONCURRENT_PASSES),
            (Kind::Work, CONCURRENT_PASSES - PASSES_KEPT_FOR_FIRST_LOOKS),
        ] {
            if self.running[kind as usize] >= most {
                continue;
            }
            let running = &self.of_namespace;
            let may_have_another =
                |namespace: &str| running.get(namespace).copied().unwrap_or_default() < free;
            if let Some((namespace, admit)) = self.waiting[kind as usize].pop(may_have_another) {
                self.running[kind as usize] += 1;
                *self.of_namespace.entry(namespace.clone()).or_default() += 1;
                return Some((namespace, kind, admit));
            }
        }
        None
    }

    fn end(&mut self, namespace: &str, kind: Kind) {
        self.running[kind as usize] -= 1;
        if let Some(running) = self.of_namespace.get_mut(namespace) {
            *running -= 1;
            if *running == 0 {
                self.of_namespace.remove(namespace);
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        lock(&self.gate).end(&self.namespace, self.kind);
        admit_all(&self.gate);
    }
}

/// Admits whoever may begin. One that does not wait any more gives its place to the next.
fn admit_all(gate: &Arc<Mutex<State>>) {
    loop {
        // Not under the lock: a place that nobody takes is given back in its drop.
        let Some((namespace, kind, admit)) = lock(gate).next() else {
            return;
        };
        let _ = admit.send(Turn {
            gate: Arc::clone(gate),
            namespace,
            kind,
        });
    }
}

fn lock(gate: &Mutex<State>) -> MutexGuard<'_, State> {
    gate.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    /// Whether a pass of this namespace begins at once.
    fn try_enter(gate: &Gate, namespace: &str, kind: Kind) -> Option<Turn> {
        gate.enter(namespace, kind).now_or_never().flatten()
    }

    fn fill(gate: &Gate, namespace: &str, kind: Kind) -> Vec<Turn> {
        std::iter::from_fn(|| try_enter(gate, namespace, kind)).collect()
    }

    #[test]
    fn no_namespace_takes_all() {
        let gate = Gate::default();
        let greedy = fill(&gate, "a", Kind::Work);
        assert_eq!(greedy.len(), CONCURRENT_PASSES / 2);
        let also = fill(&gate, "b", Kind::Work);
        assert!(!also.is_empty() && also.len() <= greedy.len() / 2);
        assert!(try_enter(&gate, "c", Kind::FirstLook).is_some());
        drop(greedy);
        assert!(try_enter(&gate, "c", Kind::Work).is_some());
    }

    #[test]
    fn a_first_look_finds_room_beside_any_work_and_goes_before_it() {
        let gate = Gate::default();
        let namespaces = (0..100).map(|i| i.to_string());
        let mut work: Vec<Turn> = namespaces
            .filter_map(|namespace| try_enter(&gate, &namespace, Kind::Work))
            .collect();
        assert_eq!(work.len(), CONCURRENT_PASSES - PASSES_KEPT_FOR_FIRST_LOOKS);
        let _first = fill(&gate, "new", Kind::FirstLook);
        let _others = fill(&gate, "newer", Kind::FirstLook);
        let mut more_work = Box::pin(gate.enter("a", Kind::Work));
        let mut look = Box::pin(gate.enter("b", Kind::FirstLook));
        // Whatever is left is taken, then both wait.
        let _rest = ["x", "y", "z"].map(|it| fill(&gate, it, Kind::FirstLook));
        assert!(more_work.as_mut().now_or_never().is_none());
        assert!(look.as_mut().now_or_never().is_none());
        work.pop();
        let looks = look.as_mut().now_or_never().flatten();
        assert!(looks.is_some());
        assert!(more_work.as_mut().now_or_never().is_none());
        work.pop();
        assert!(more_work.as_mut().now_or_never().is_some());
    }

    #[test]
    fn namespaces_take_turns_and_each_is_first_come_first_served() {
        let mut queue = Queue::default();
        let mut receivers: Vec<_> = ["a", "a", "a", "b", "c", "b"]
            .into_iter()
            .map(|namespace| {
                let (admit, admitted) = oneshot::channel::<Turn>();
                queue.push(namespace, admit);
                Some(admitted)
            })
            .collect();
        let mut turns = Vec::new();
        while let Some((namespace, admit)) = queue.pop(|_| true) {
            // Which of those who wait it is: the one whose receiver hears of the end.
            drop(admit);
            let ended = receivers.iter_mut().position(|receiver| {
                receiver.as_mut().is_some_and(|it| {
                    matches!(it.try_recv(), Err(oneshot::error::TryRecvError::Closed))
                })
            });
            receivers[ended.unwrap()] = None;
            turns.push((namespace, ended.unwrap()));
        }
        let turns: Vec<(&str, usize)> = turns.iter().map(|(it, i)| (it.as_str(), *i)).collect();
        assert_eq!(
            turns,
            [("a", 0), ("b", 3), ("c", 4), ("a", 1), ("b", 5), ("a", 2)]
        );
    }

    #[tokio::test]
    async fn who_waits_no_longer_takes_no_place_and_a_closed_gate_admits_nobody() {
        let gate = Gate::default();
        let running = fill(&gate, "a", Kind::Work);
        let mut gone = Box::pin(gate.enter("a", Kind::Work));
        assert!(gone.as_mut().now_or_never().is_none());
        let mut waits = Box::pin(gate.enter("a", Kind::Work));
        assert!(waits.as_mut().now_or_never().is_none());
        drop(gone);
        drop(running);
        assert!(waits.await.is_some());
        assert_eq!(lock(&gate.0).running, [0, 0]);
        let running = fill(&gate, "a", Kind::Work);
        let waits = gate.enter("a", Kind::Work);
        let (waited, ()) = tokio::join!(waits, async { gate.close() });
        assert!(waited.is_none());
        drop(running);
        assert!(try_enter(&gate, "a", Kind::Work).is_none());
    }
}
