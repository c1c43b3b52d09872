//! The host keys of the control plane. Once a machine is confirmed, NICO meets it: it reads the host key with a key exchange and without a
//! log-in. The key is pinned before anything else is read from the machine. If a key has changed, no machine is trusted on first use until
//! the user has decided.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use futures::future::join_all;

use super::Notes;
use super::fetch::{Pins, pins_of, read_pins};
use super::logins::Logins;
use super::pace::{Ended, Paces, Purpose};
use super::task::Task;
use crate::api::conditions::{Cause, Reason};
use crate::api::digest::sha256;
use crate::api::names::MachineName;
use crate::controller::schedule::{KEY_MEMORY, UNPINNED_PAUSE};
use crate::plan::observed::{ControlPlaneHosts, HostKeys};
use crate::remote::deadlines::Deadlines;
use crate::remote::gate::Class;
use crate::remote::known_hosts::{HeldKeys, HostPins, KnownHosts, Policy, without_former};
use crate::remote::lock::lock;
use crate::remote::ssh::{self, Login, SshError};

/// Which machines to meet.
pub struct MeetSpec {
    /// The cluster's pins.
    pub pins: Pins,
    /// These machines, and all whose pins must stay.
    pub hosts: ControlPlaneHosts,
    /// Port of the machines' SSH servers.
    pub ssh_port: u16,
}

/// The state of the host keys of one cluster.
#[derive(Default)]
pub(super) struct Hosts {
    pub(super) meeting: Task,
    /// The machines of the current round.
    asked: ControlPlaneHosts,
    /// Whether a round over these machines has ended.
    looked: bool,
    /// Whether a kubeconfig was stored since the machines were met. They are met again for the next search, since their keys may have
    /// changed.
    stale: bool,
    /// Machines whose key is pinned.
    met: BTreeSet<MachineName>,
    /// Machines whose key is not the pinned one.
    changed: BTreeMap<MachineName, Changed>,
    /// Machines that could not be met for another reason, with the error.
    failed: BTreeMap<MachineName, Cause>,
    /// The lines to pin, by machine.
    new: BTreeMap<MachineName, String>,
    /// Whether lines of machines that left have to be removed.
    former: bool,
    /// When machines were last met again since their lines had been removed.
    unpinned_at: Option<Instant>,
}

/// A key that is not the pinned one.
pub(super) struct Changed {
    /// The error.
    pub(super) cause: Cause,
    /// The keys that were pinned instead. Once none of them is, the user has decided, even if the machine does not answer.
    pub(super) refused_by: HeldKeys,
}

/// Outcome of meeting a machine.
pub(super) enum Met {
    /// Its key is pinned, or NICO may not pin any.
    Known,
    /// Its key has to be pinned with this line.
    New(String),
    /// With the keys that are pinned for it; `None` if the pins could not be read.
    Failed(SshError, Option<HeldKeys>),
}

impl Hosts {
    /// The state for these machines.
    pub(super) fn state(&mut self, asked: &ControlPlaneHosts) -> HostKeys {
        if self.asked != *asked {
            let same = |machine: &MachineName| {
                let (before, now) = (&self.asked.confirmed, &asked.confirmed);
                now.contains_key(machine) && before.get(machine) == now.get(machine)
            };
            self.met.retain(same);
            self.changed.retain(|machine, _| same(machine));
            self.failed.clear();
            self.new.clear();
            (self.meeting, self.looked, self.former) = (Task::default(), false, false);
            self.asked = asked.clone();
        }
        let all_met = asked
            .confirmed
            .keys()
            .all(|machine| self.met.contains(machine));
        let rests = self.to_write() || self.looked && all_met;
        HostKeys {
            meet: !rests && !self.meeting.is_running(),
            pending: !self.looked || self.to_write(),
            to_decide: self.to_decide(),
        }
    }

    /// Whether lines have to be pinned or removed.
    pub(super) fn to_write(&self) -> bool {
        self.former || !self.lines().is_empty()
    }

    /// What the user has to decide.
    fn to_decide(&self) -> BTreeMap<MachineName, Cause> {
        let changed = self.changed.iter();
        let mut to_decide: BTreeMap<_, _> = changed
            .map(|(machine, changed)| (machine.clone(), changed.cause.clone()))
            .collect();
        if !to_decide.is_empty() {
            let untrusted = self.new.keys().map(|machine| {
                let message = format!(
                    "machine {machine} is not trusted on first use while the SSH host key of another control plane machine has changed"
                );
                (machine.clone(), Cause::new(Reason::HostKeyChanged, message))
            });
            to_decide.extend(untrusted);
        }
        to_decide
    }

    /// The class of the next round. Machines that did not answer may be slow again.
    pub(super) fn class(&self) -> Class {
        if self.failed.is_empty() {
            Class::First
        } else {
            Class::Other
        }
    }

    /// Why a machine could not be met, to report if no kubeconfig can be fetched.
    pub(super) fn failure(&self) -> Option<Cause> {
        self.failed.values().next().cloned()
    }

    /// The machines that need not be met again.
    pub(super) fn met(&self) -> BTreeSet<MachineName> {
        self.met.clone()
    }

    /// The lines to pin; none while a key has changed.
    pub(super) fn lines(&self) -> Vec<String> {
        let trusts = self.changed.is_empty();
        self.new.values().filter(|_| trusts).cloned().collect()
    }

    /// Notes that the lines are pinned, and those of machines that left removed.
    pub(super) fn note_pinned(&mut self) {
        if self.changed.is_empty() {
            self.met.extend(std::mem::take(&mut self.new).into_keys());
        }
        self.former = false;
        self.meeting = Task::default();
    }

    /// Notes that a kubeconfig was stored.
    pub(super) fn note_stored(&mut self) {
        self.stale = true;
    }

    /// Notes that a search for a kubeconfig begins.
    pub(super) fn note_search(&mut self) {
        if self.stale && !self.meeting.is_running() {
            self.met.clear();
            self.stale = false;
        }
    }

    /// Notes the machines that presented another key than the pinned one at log-in. Keys of others may have changed too, so all are met
    /// again, also by a meeting that runs.
    pub(super) fn note_changed(&mut self, changed: BTreeMap<MachineName, Changed>) {
        for (machine, changed) in changed {
            if !self.asked.confirmed.contains_key(&machine) {
                continue;
            }
            match self.changed.entry(machine) {
                Entry::Occupied(mut known) => known.get_mut().refused_by.extend(changed.refused_by),
                Entry::Vacant(new) => {
                    new.insert(changed);
                    self.met.clear();
                    self.meeting = Task::default();
                }
            }
        }
    }

    /// Notes the machines whose keys were not pinned when a search needed them. One that was met had its key pinned, so its line was removed
    /// since. Keys of others may have changed too, so all are met again, also by a meeting that runs. Returns whether they are.
    pub(super) fn note_unpinned(&mut self, unpinned: &BTreeSet<MachineName>, now: Instant) -> bool {
        let rests = |at: Instant| now.saturating_duration_since(at) < UNPINNED_PAUSE;
        let again = !self.met.is_disjoint(unpinned) && !self.unpinned_at.is_some_and(rests);
        if again {
            self.unpinned_at = Some(now);
            self.met.clear();
            self.meeting = Task::default();
        }
        again
    }

    /// Forgets everything except failures and changed keys.
    pub(super) fn discard(&mut self) {
        self.met.clear();
        self.new.clear();
        (self.meeting, self.looked, self.former) = (Task::default(), false, false);
    }

    /// Notes the outcome of a round, and whether lines of machines that left have to be removed. Returns whether that is new.
    pub(super) fn note_round(&mut self, round: BTreeMap<MachineName, Met>, former: bool) -> bool {
        let before = (self.to_decide(), self.failed.clone());
        // The first fetch waits for the end of the first round, even if nobody was due.
        let ends_a_wait = !std::mem::replace(&mut self.looked, true) && round.is_empty();
        for (machine, met) in round {
            self.failed.remove(&machine);
            self.new.remove(&machine);
            match met {
                Met::Known => {
                    self.changed.remove(&machine);
                    self.met.insert(machine);
                }
                Met::New(line) => {
                    self.changed.remove(&machine);
                    self.new.insert(machine, line);
                }
                Met::Failed(error, held) => {
                    self.met.remove(&machine);
                    let cause = Cause::new(error.reason(), error.to_string());
                    if cause.reason == Reason::HostKeyChanged {
                        let mut refused_by = held.unwrap_or_default();
                        if let Some(known) = self.changed.remove(&machine) {
                            // A search may have been refused under other pins.
                            refused_by.extend(known.refused_by);
                        }
                        self.changed.insert(machine, Changed { cause, refused_by });
                    } else {
                        let known = self.changed.get(&machine);
                        if let (Some(held), Some(known)) = (held, known)
                            && held.is_disjoint(&known.refused_by)
                        {
                            self.changed.remove(&machine);
                        }
                        self.failed.insert(machine, cause);
                    }
                }
            }
        }
        self.former |= former;
        ends_a_wait || self.to_write() || before != (self.to_decide(), self.failed.clone())
    }

    /// Whether all machines are met, or there are lines to write.
    pub(super) fn is_done(&self) -> bool {
        let mut asked = self.asked.confirmed.keys();
        self.to_write()
            || asked.all(|machine| self.met.contains(machine) || self.new.contains_key(machine))
    }
}

/// Meets the machines that are not met yet, all at the same time, until there are lines to write or no machine is left.
pub(super) async fn meet(
    client: kube::Client,
    spec: MeetSpec,
    mut met: BTreeSet<MachineName>,
    paces: Arc<Mutex<Paces>>,
    notes: Notes,
    (logins, class): (Arc<Logins>, Class),
) {
    loop {
        let Ok((known, text)) = read_pins(&client, &spec.pins).await else {
            tokio::time::sleep(KEY_MEMORY).await;
            continue;
        };
        let left = spec.hosts.confirmed.iter();
        let left = left.filter(|(machine, _)| !met.contains(*machine));
        let round = left.map(|(machine, host)| {
            let meeting = meet_one(&spec, (machine, host), &known, &paces, (&logins, class));
            async move { Some((machine.clone(), meeting.await?)) }
        });
        let round = join_all(round).await.into_iter().flatten();
        let round: BTreeMap<MachineName, Met> = round.collect();
        let done = round
            .iter()
            .filter(|(_, met)| !matches!(met, Met::Failed(..)));
        met.extend(done.map(|(machine, _)| machine.clone()));
        let is_former = |hosts| without_former(&text, hosts, spec.ssh_port) != text;
        let former = known.policy() == Policy::TrustOnFirstUse
            && spec.hosts.all.as_ref().is_some_and(is_former);
        let mut ends = false;
        notes.note(|work| {
            let hosts = &mut work.kubeconfig.hosts;
            // If it was stopped meanwhile, the set of machines has changed.
            ends = !hosts.meeting.is_current();
            !ends && {
                let news = hosts.note_round(round, former);
                ends = hosts.is_done();
                news | (ends && hosts.meeting.finish())
            }
        });
        if ends {
            return;
        }
        let left = spec
            .hosts
            .confirmed
            .keys()
            .filter(|machine| !met.contains(*machine));
        let pause = lock(&paces).pause(left, Instant::now());
        tokio::time::sleep(pause).await;
    }
}

/// Exchanges keys with a machine, if a connection is due.
async fn meet_one(
    spec: &MeetSpec,
    (machine, host): (&MachineName, &str),
    known: &Arc<KnownHosts>,
    paces: &Mutex<Paces>,
    (logins, class): (&Logins, Class),
) -> Option<Met> {
    let pins = pins_of(known, host, spec.ssh_port).await;
    let is_pinned = pins.as_ref().is_none_or(HostPins::is_pinned);
    if known.policy() == Policy::PinnedOnly && !is_pinned {
        return Some(Met::Known);
    }
    let under = sha256(format!("{host} {pins:?}").as_bytes());
    if !lock(paces).is_due(machine, (Purpose::Meet, &under), Instant::now()) {
        return None;
    }
    let _place = logins
        .enter(&spec.pins.namespace, &spec.pins.cluster, class)
        .await;
    lock(paces).begin(machine, Instant::now());
    let login = Login {
        machine: machine.as_str(),
        host,
        looked_up: None,
        port: spec.ssh_port,
        user: "",
    };
    let (ended, met) = match ssh::meet(&login, known, &Deadlines::DEFAULT).await {
        Ok(None) => (Ended::Met, Met::Known),
        Ok(Some(line)) => (Ended::Met, Met::New(line)),
        Err(error) => {
            logins.failed(&error);
            let held = pins.map(|pins| pins.keys());
            (Ended::of(&error), Met::Failed(error, held))
        }
    };
    lock(paces).end(machine, Instant::now(), ended, None);
    Some(met)
}
