//! Actions carried out in memory, as `controller/act.rs` carries them out; disruptions are judged as they happen.

mod merge;

use nico::api::ledger::Ledger;
use nico::api::names::MachineName;
use nico::api::status::Role;
use nico::api::validate::validate;
use nico::plan::action::{
    Action, ChildWrite, ConfigurationWrite, FinalizerWrite, KubeconfigWork, LedgerWrite, Mark,
    NodeWork, SlotWrite,
};
use nico::plan::entered::{Disruptive, EnteredWrite};
use nico::plan::observed::{Fetch, KnownHostsView, Member, SecretView, Stored, Works};
use nico::plan::writes::{Child, Precondition, Token};

use crate::given::member;
use crate::world::{Refused, World};

fn refused_unless(is: bool) -> Result<(), Refused> {
    is.then_some(()).ok_or(Refused)
}

impl World {
    /// Touches the child of an entry, and looks whether the answer shows it settled.
    fn touch(
        &mut self,
        name: &str,
        uid: &str,
        machine: &MachineName,
        child: &Precondition,
    ) -> Result<(), Refused> {
        self.mark(machine.as_str(), child, uid, &Mark::Touched)?;
        let observed = self.observe(name).ok_or(Refused)?;
        let answer = self.configurations.get(machine.as_str()).ok_or(Refused)?;
        let answer = observed.as_member(answer);
        refused_unless(answer.is_some_and(|it| it.is_settled(self.now)))
    }

    /// Carries one action out.
    pub fn apply(&mut self, name: &str, action: &Action) -> Result<(), Refused> {
        let uid = self.clusters.get(name).ok_or(Refused)?.view.uid.clone();
        match action {
            Action::Finalizer(write) => self.write_finalizers(name, write)?,
            Action::Ledger(LedgerWrite::Create(ledger)) => self.write_ledger(name, None, ledger)?,
            Action::Ledger(LedgerWrite::Update(at, ledger)) => {
                self.write_ledger(name, Some(at), ledger)?;
            }
            Action::Slot(SlotWrite::Take {
                machines,
                ledger,
                taken,
                ..
            }) => {
                self.write_ledger(name, Some(ledger), taken)?;
                self.written.push((name.to_owned(), action.clone()));
                return self.enter(name, machines);
            }
            Action::Slot(SlotWrite::End {
                children,
                ledger,
                before,
            }) => {
                let mut after = before.clone();
                for (machine, child) in children {
                    if self.touch(name, &uid, machine, child).is_ok() {
                        after.slot = after.slot.without(machine);
                    }
                }
                refused_unless(after != *before)?;
                self.write_ledger(name, Some(ledger), &after)?;
            }
            Action::Configuration(write) => match write {
                ConfigurationWrite::Claim(claim) => self.post(&claim.body.render())?,
                ConfigurationWrite::Rewrite(rewrite) => {
                    let machine = rewrite.machine.as_str();
                    self.merge(machine, &rewrite.version, &uid, &rewrite.body.render())?;
                }
                ConfigurationWrite::GiveBack(machine, at) => {
                    self.at(machine, at, &uid)?;
                    self.delete_configuration(machine);
                }
                ConfigurationWrite::Mark(machine, at, mark) => {
                    self.mark(machine, at, &uid, mark)?;
                }
            },
            Action::Disrupt(disruptive) => self.disrupt(name, &uid, disruptive)?,
            Action::Child(write) => match write {
                ChildWrite::CreateToken(token) => self.create_token(name, *token)?,
                ChildWrite::Delete(child) => self.delete_child(name, *child),
                ChildWrite::TakeBack(child, _) => {
                    let was_left = self.cluster(name).left.remove(child);
                    refused_unless(was_left)?;
                }
                ChildWrite::LetGo(_) | ChildWrite::AddFinalizer(..) => return Ok(()),
            },
            Action::Node(work) => self.work_on_node(work)?,
            Action::Kubeconfig(work) => self.work_on_kubeconfig(name, work)?,
            Action::ProbeWorkload | Action::Notify(_) => return Ok(()),
        }
        self.written.push((name.to_owned(), action.clone()));
        Ok(())
    }

    fn write_finalizers(&mut self, name: &str, write: &FinalizerWrite) -> Result<(), Refused> {
        let (FinalizerWrite::Add(at, finalizers) | FinalizerWrite::Remove(at, finalizers)) = write;
        let version = self.count();
        let view = &mut self.cluster(name).view;
        refused_unless(*at == view.precondition())?;
        view.finalizers.clone_from(finalizers);
        view.resource_version = version.to_string();
        if view.deleting && finalizers.is_empty() {
            self.clusters.remove(name);
        }
        Ok(())
    }

    /// The ledger of this version becomes that one; none: it must not exist.
    fn write_ledger(
        &mut self,
        name: &str,
        at: Option<&Precondition>,
        ledger: &Ledger,
    ) -> Result<(), Refused> {
        let version = self.count();
        let cluster = self.cluster(name);
        assert!(
            !cluster.left.contains(&Child::Ledger),
            "a ledger that is not the cluster's own is never written"
        );
        let held = &mut cluster.ledger;
        let found = held.as_ref().map(|(version, _)| version.to_string());
        refused_unless(found.as_ref() == at.map(|at| &at.resource_version))?;
        *held = Some((version, ledger.clone()));
        Ok(())
    }

    fn mark(
        &mut self,
        name: &str,
        at: &Precondition,
        uid: &str,
        mark: &Mark,
    ) -> Result<(), Refused> {
        let body = mark.body(&self.count().to_string());
        match mark {
            Mark::TakenBack(_) | Mark::Restored(_) => {
                let held = self.configurations.get(name).ok_or(Refused)?;
                refused_unless(Precondition::of(&held.metadata) == *at)?;
                self.merge_into(name, &body);
            }
            _ => self.merge(name, at, uid, &body)?,
        }
        if *mark == Mark::Forced(Vec::new()) {
            self.let_go(name);
        }
        Ok(())
    }

    fn disrupt(&mut self, name: &str, uid: &str, disruptive: &Disruptive) -> Result<(), Refused> {
        let machine = disruptive.machine();
        match disruptive.write() {
            EnteredWrite::Rewrite(rewrite) => {
                let role = member(&self.configurations[machine.as_str()]).role();
                self.judge_disruption(name, machine);
                self.merge(
                    machine.as_str(),
                    &rewrite.version,
                    uid,
                    &rewrite.body.render(),
                )?;
                self.takes_off(name, machine, role);
            }
            EnteredWrite::Join(claim) => {
                self.post(&claim.body.render())?;
                self.takes_off(name, &claim.machine, claim.role);
            }
            EnteredWrite::Drain {
                name,
                uid,
                since,
                cordon,
            } => {
                let pods = self.pods.get(name).copied().unwrap_or_default();
                let node = self.nodes.get_mut(name).ok_or(Refused)?;
                refused_unless(node.uid == *uid)?;
                node.draining_since = Some(*since);
                node.cordoned = *cordon;
                node.unschedulable = true;
                node.pods_left = Some(pods);
            }
            EnteredWrite::Release(at) => {
                let role = member(self.at(machine.as_str(), at, uid)?).role();
                self.judge_disruption(name, machine);
                self.takes_off(name, machine, role);
                self.delete_configuration(machine.as_str());
            }
            EnteredWrite::DeleteNode { name, uid } => {
                refused_unless(self.nodes.get(name).is_some_and(|node| node.uid == *uid))?;
                match self.finalizers.get(name) {
                    None => drop(self.nodes.remove(name)),
                    Some(finalizers) => {
                        let node = self.nodes.get_mut(name).ok_or(Refused)?;
                        (node.deleting, node.ready) = (true, false);
                        node.deleting_since = Some(self.now);
                        node.finalizers.clone_from(finalizers);
                    }
                }
            }
        }
        Ok(())
    }

    /// I3: a machine that works is changed only where the others alone are a quorum.
    fn judge_disruption(&mut self, name: &str, machine: &MachineName) {
        let observed = self.observe(name).expect("the cluster is there");
        let founded = observed.ledger.ours().is_some_and(|ledger| ledger.founded);
        let control_plane: Vec<_> = observed.control_plane().collect();
        let n = control_plane.len();
        let works = |it: &Member<'_>| {
            let node = self.nodes.get(it.name.as_str());
            it.is_confirmed()
                && !it.is_deleting()
                && !self.mute.contains(&it.name)
                && !self.ill.contains(&it.name)
                && (self.without_kubelets || node.is_some_and(|node| node.ready))
        };
        let checks = observed
            .spec
            .as_ref()
            .is_ok_and(|spec| spec.rollout.node_checks);
        let own = control_plane.iter().find(|it| it.name == *machine);
        if n < 3 || !founded || !checks || !own.is_some_and(works) {
            return;
        }
        let others = control_plane
            .iter()
            .filter(|it| it.name != *machine && works(it));
        assert!(
            others.count() > n / 2,
            "I3: {machine} is changed though the others are no quorum: {}",
            self.story()
        );
    }

    /// I3, I4: one control plane machine of a founded cluster in flight, or `maxUnavailable` workers, never both. Where more were in
    /// flight before it was lowered, no other joins them.
    fn takes_off(&mut self, name: &str, machine: &MachineName, role: Role) {
        let flew = self.flying.insert(machine.clone(), role).is_some();
        let cluster = self.cluster(name);
        let founded = cluster.ledger.as_ref().is_some_and(|(_, it)| it.founded);
        let spec = validate(name, &cluster.spec).expect("an invalid spec rolls nothing");
        let workers = self.flying.values().filter(|it| **it == Role::Worker);
        let (workers, all) = (workers.count(), self.flying.len());
        let most = spec.rollout.max_unavailable.scaled(spec.data_plane.total());
        assert!(
            !founded || (workers == 0 && all == 1) || (workers == all && (workers <= most || flew)),
            "I3, I4: {:?} in flight at once: {}",
            self.flying,
            self.story()
        );
    }

    fn create_token(&mut self, name: &str, token: Token) -> Result<(), Refused> {
        let cluster = self.cluster(name);
        let secret = match token {
            Token::Join => &mut cluster.join_token,
            Token::Worker => &mut cluster.worker_token,
        };
        refused_unless(*secret == SecretView::Absent)?;
        *secret = SecretView::Ours;
        Ok(())
    }

    fn delete_child(&mut self, name: &str, child: Child) {
        let cluster = self.cluster(name);
        if cluster.left.contains(&child) {
            return;
        }
        match child {
            Child::JoinToken => cluster.join_token = left(cluster.join_token),
            Child::WorkerToken => cluster.worker_token = left(cluster.worker_token),
            Child::Kubeconfig => cluster.kubeconfig.secret = left(cluster.kubeconfig.secret),
            Child::KnownHosts => cluster.known_hosts = KnownHostsView::Absent,
            Child::Ledger => cluster.ledger = None,
        }
    }

    fn work_on_node(&mut self, work: &NodeWork) -> Result<(), Refused> {
        match work {
            NodeWork::Evict(node) => {
                let left = self.held_back.get(node).copied().unwrap_or_default();
                self.pods.insert(node.clone(), left);
                let node = self.nodes.get_mut(node).ok_or(Refused)?;
                node.pods_left = Some(left);
            }
            NodeWork::Undrain {
                name,
                uid,
                cordoned,
                ..
            } => {
                let node = self.nodes.get_mut(name).ok_or(Refused)?;
                refused_unless(node.uid == *uid)?;
                node.draining_since = None;
                node.unschedulable &= !cordoned;
                node.cordoned = false;
                node.pods_left = None;
            }
        }
        Ok(())
    }

    fn work_on_kubeconfig(&mut self, name: &str, work: &KubeconfigWork) -> Result<(), Refused> {
        let (now, version) = (self.now, self.count());
        let (stored, made) = (self.stored(name), self.made(name));
        let cluster = self.cluster(name);
        let kubeconfig = &mut cluster.kubeconfig;
        match work {
            KubeconfigWork::Fetch(..) => {
                (kubeconfig.fetch.running, kubeconfig.fetch.began) = (true, Some(now));
            }
            KubeconfigWork::Verify => {
                kubeconfig.works = Works::Yes;
                kubeconfig.try_again = false;
            }
            KubeconfigWork::Meet => kubeconfig.fetch.hosts.meet = false,
            KubeconfigWork::PinHostKey => {
                cluster.known_hosts = KnownHostsView::Ours;
                kubeconfig.fetch.new_host_key = false;
            }
            KubeconfigWork::Store(at) => {
                let absent = kubeconfig.secret == SecretView::Absent;
                refused_unless(if at.is_none() {
                    absent
                } else {
                    at.as_ref() == Some(&stored.version)
                })?;
                kubeconfig.secret = SecretView::Ours;
                kubeconfig.failures = 0;
                let fetch = &mut kubeconfig.fetch;
                (fetch.running, fetch.failure) = (false, None);
                let at_hand = fetch.at_hand.take().ok_or(Refused)?;
                kubeconfig.stored = Some(Stored {
                    version: crate::facts::version("kubeconfig", &version.to_string()),
                    client_certificate: at_hand.ends.map(|ends| (now, ends)),
                    stored: Some(now),
                    ..made
                });
                kubeconfig.works = at_hand.verified.map_or_else(Works::No, |()| Works::Yes);
            }
            KubeconfigWork::Drop => kubeconfig.fetch = Fetch::default(),
        }
        Ok(())
    }
}

/// NICO takes away only what is its own.
fn left(secret: SecretView) -> SecretView {
    match secret {
        SecretView::Adopted | SecretView::Foreign => secret,
        _ => SecretView::Absent,
    }
}
