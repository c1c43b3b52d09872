//! What the shell does, in memory: observe as `controller/observe.rs`, act by `act.rs`, pass after pass. Each plan is held to the rules of
//! `rules.rs`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use kube::core::SelectorExt as _;
use nico::api::conditions::ConditionType;
use nico::api::names::{
    CLUSTER_LABEL, ClusterId, MachineName, join_token_name, kubeconfig_name, ledger_name,
    worker_token_name,
};
use nico::api::nio::NixosConfiguration;
use nico::api::status::{ClusterStatus, Role};
use nico::api::validate::validate;
use nico::plan::action::{Action, Plan};
use nico::plan::desired::TOKEN_KEY;
use nico::plan::facts::{ClusterFacts, Facts, KubeconfigAnswer, Needs, ObjectFacts};
use nico::plan::observed::{
    Answer, GitAnswer, KubeconfigView, LedgerView, Member, Observed, SecretView, Stored, Workload,
    WorkloadHealth, controller,
};
use nico::plan::status;
use nico::plan::writes::Child;

use crate::facts;
use crate::world::{Cluster, Refused, World};

impl Cluster {
    /// A child that was left has no owner, and bears the labels of its cluster.
    fn leave(&self, child: Child, object: &mut ObjectFacts) {
        if self.left.contains(&child) && object.controller.as_ref() == Some(&self.view.uid) {
            object.controller = None;
            object.left_by = Some(self.view.name.clone());
        }
    }
}

impl World {
    /// What the shell would hand to the planner (`controller/observe.rs`).
    pub fn observe(&mut self, name: &str) -> Option<Observed> {
        let mut facts = self.facts(name)?;
        Some(self.assemble(&mut facts))
    }

    pub fn facts(&mut self, name: &str) -> Option<Facts> {
        let id = ClusterId::from_bits(self.count());
        let cluster = self.clusters.get(name)?;
        let spec = validate(name, &cluster.spec)
            .map(Arc::new)
            .map_err(|errors| errors.iter().map(ToString::to_string).collect());
        let mut facts = Facts::new(cluster.view.clone(), spec, id);
        facts.nio = self.nio;
        facts.live = true;
        facts.workload_is_old = false;
        facts.since.clone_from(&cluster.since);
        let uid = &cluster.view.uid;
        facts.add_configurations(self.configurations(|it| {
            let label = it.metadata.labels.as_ref();
            let label = label.and_then(|labels| labels.get(CLUSTER_LABEL));
            let owner = controller(&it.metadata);
            label.is_some_and(|label| label == name) || owner.is_some_and(|it| it.uid == *uid)
        }));
        facts.workload = self.workload(name, &facts);
        facts.resolved.clone_from(&cluster.resolved);
        facts.jobs = Arc::new(self.v1.jobs.clone());
        Some(facts)
    }

    pub fn assemble(&self, facts: &mut Facts) -> Observed {
        facts::complete(facts, |needs, facts| self.answer(needs, facts))
    }

    fn configurations(
        &self,
        of: impl Fn(&NixosConfiguration) -> bool,
    ) -> impl Iterator<Item = Arc<NixosConfiguration>> {
        let all = self.configurations.values();
        all.filter(move |it| of(it)).map(|it| Arc::new(it.clone()))
    }

    pub fn answer(&self, needs: Needs, facts: &mut Facts) {
        let view = facts.cluster.clone();
        let name = view.name.as_str();
        let cluster = &self.clusters[name];
        for map in needs.maps.into_keys() {
            let found = if map == ledger_name(name) {
                let ledger = cluster.ledger.as_ref();
                ledger.map(|(version, ledger)| {
                    let version = facts::version(&format!("{name}-ledger"), &version.to_string());
                    let mut map = facts::ledger(ledger, &view, version);
                    cluster.leave(Child::Ledger, &mut map.object);
                    map
                })
            } else {
                let mut map = facts::known_hosts(cluster.known_hosts, &view);
                if let Some(map) = &mut map {
                    cluster.leave(Child::KnownHosts, &mut map.object);
                }
                map
            };
            facts.maps.insert(map, facts::live(found));
        }
        for secret in needs.secrets.into_keys() {
            let child = [
                (join_token_name(name), Child::JoinToken),
                (worker_token_name(name), Child::WorkerToken),
                (kubeconfig_name(name), Child::Kubeconfig),
            ];
            let child = child.into_iter().find(|(name, _)| *name == secret);
            let mut found = if secret == join_token_name(name) {
                facts::secret(cluster.join_token, &view, TOKEN_KEY)
            } else if secret == worker_token_name(name) {
                facts::secret(cluster.worker_token, &view, TOKEN_KEY)
            } else if secret == kubeconfig_name(name) {
                facts::kubeconfig(cluster.kubeconfig.secret, &view, &self.stored(name))
            } else if let Some(machine) = secret.strip_prefix("ssh-") {
                let key = MachineName::parse(machine).and_then(|it| self.ssh_keys.get(&it));
                key.and_then(|key| facts::ssh_key(key, &view))
            } else {
                let credentials = cluster.credentials.unwrap_or(SecretView::Adopted);
                facts::secret(credentials, &view, "password")
            };
            if let (Some((_, child)), Some(found)) = (child, &mut found) {
                cluster.leave(child, &mut found.object);
            }
            facts.secrets.insert(secret, facts::live(found));
        }
        for machine in needs.machines {
            self.show(facts, &machine);
        }
        for (role, selector) in needs.candidates {
            let none = BTreeMap::new();
            for (machine, object) in &self.machines {
                if selector.matches(object.metadata.labels.as_ref().unwrap_or(&none)) {
                    self.show(facts, machine);
                }
            }
            for (machine, object) in &self.misnamed {
                if selector.matches(object.metadata.labels.as_ref().unwrap_or(&none)) {
                    facts.misnamed.insert(machine.clone(), Arc::clone(object));
                }
            }
            facts.candidates.insert(role);
        }
        for name in needs.clusters {
            let found = self.clusters.get(&name).map(|found| ClusterFacts {
                uid: found.view.uid.clone(),
                created: found.view.created,
            });
            facts.clusters.insert(name, found);
        }
        for uid in needs.controllers {
            let of = |it: &NixosConfiguration| {
                controller(&it.metadata).is_some_and(|owner| owner.uid == uid)
            };
            let controls_any = self.configurations(of).next().is_some();
            facts.controllers.insert(uid, controls_any);
        }
        if let Some(question) = needs.kubeconfig {
            let KubeconfigView {
                works,
                failures,
                try_again,
                fetch,
                ..
            } = cluster.kubeconfig.clone();
            let answer = KubeconfigAnswer {
                works,
                failures,
                try_again,
                fetch,
            };
            facts.kubeconfig = Some((question, answer));
        }
    }

    /// What is in the kubeconfig's Secret.
    pub fn stored(&self, name: &str) -> Stored {
        let stored = self.clusters[name].kubeconfig.stored.clone();
        stored.unwrap_or_else(|| self.made(name))
    }

    /// One that is made for the spec as it is.
    pub fn made(&self, name: &str) -> Stored {
        let spec = validate(name, &self.clusters[name].spec).ok();
        let endpoint = spec.and_then(|spec| Some(spec.endpoint.as_ref()?.to_string()));
        Stored {
            version: facts::version("kubeconfig", "1"),
            host: Some("10.0.0.1".to_owned()),
            endpoint: endpoint.unwrap_or_default(),
            port: None,
            client_certificate: None,
            stored: None,
        }
    }

    /// What the cluster says of itself, where its kubeconfig is stored.
    fn workload(&self, name: &str, facts: &Facts) -> WorkloadHealth {
        if self.clusters[name].kubeconfig.secret != SecretView::Ours {
            return WorkloadHealth::NoKubeconfig;
        }
        let mut answers = BTreeMap::new();
        let members = facts.configurations.values();
        let members = members.filter_map(|held| Member::of(held));
        let control_plane = members.filter(|it| it.role() == Role::ControlPlane);
        for member in control_plane {
            let machine = member.name;
            let runs = self.without_kubelets && member.held.status.is_some();
            let runs = runs || self.nodes.contains_key(machine.as_str());
            let up = runs && !self.mute.contains(&machine);
            let answer = if up && self.refusing {
                Answer::Refuses
            } else if up && self.ill.contains(&machine) {
                Answer::NotReady
            } else if up {
                Answer::Ready
            } else {
                Answer::Unreachable
            };
            answers.insert(machine, answer);
        }
        let silent = answers.iter().filter(|(_, it)| **it == Answer::Unreachable);
        let untrusted = silent.filter(|_| !self.untrusted.is_empty());
        let untrusted = untrusted.map(|(machine, _)| (machine.clone(), self.untrusted.to_owned()));
        let untrusted = untrusted.collect();
        let anyone = answers.values().any(|answer| *answer == Answer::Ready);
        let nodes: Vec<_> = self.nodes.values().cloned().collect();
        WorkloadHealth::Answered(Arc::new(Workload {
            nodes: anyone.then(|| nodes.into()),
            answers,
            api_minor: anyone.then_some(37),
            untrusted,
        }))
    }

    /// The writes under entries, as `controller/reconcile/entered.rs`: everything read again, then planned and written.
    pub fn enter(&mut self, name: &str, machines: &[MachineName]) -> Result<(), Refused> {
        self.lists += 1;
        let mut facts = self.facts(name).ok_or(Refused)?;
        let observed = self.assemble(&mut facts);
        let LedgerView::Ours(taken, _) = &observed.ledger else {
            return Err(Refused);
        };
        let ledger = facts.maps[&ledger_name(name)].found.clone();
        facts.enter(machines, taken, ledger);
        let observed = self.assemble(&mut facts);
        let plan = nico::plan::plan(&observed, self.now, &self.settings);
        crate::rules::hold(&observed, &plan, self.now, &self.settings);
        for action in plan.actions {
            if matches!(action, Action::Disrupt(_)) {
                self.apply(name, &action)?;
            }
        }
        Ok(())
    }

    fn show(&self, facts: &mut Facts, machine: &MachineName) {
        let object = self.machines.get(machine).cloned().map(Arc::new);
        facts.machines.insert(machine.clone(), object);
        let name = machine.as_str();
        facts.add_configurations(self.configurations(|it| {
            it.metadata.name.as_deref() == Some(name) || it.spec.machine() == Some(name)
        }));
    }

    /// Plans for a cluster, and writes the status that comes of it.
    pub fn plan(&mut self, name: &str) -> Option<(Observed, Plan)> {
        let observed = self.observe(name)?;
        let plan = nico::plan::plan(&observed, self.now, &self.settings);
        crate::rules::hold(&observed, &plan, self.now, &self.settings);
        let status = status::status(&observed, &plan, None, self.now);
        let (now, answer) = (self.now, self.v1.answer());
        let cluster = self.cluster(name);
        cluster.since.retain(|clock, _| plan.clocks.contains(clock));
        for clock in &plan.clocks {
            cluster.since.entry(clock.clone()).or_insert(now);
        }
        cluster.view.status = status;
        if let Some(question) = &plan.question {
            cluster.resolved = Some(GitAnswer {
                question: question.clone(),
                answer,
            });
        }
        Some((observed, plan))
    }

    /// One pass. Whether anything but background work was done.
    pub fn pass(&mut self, name: &str) -> bool {
        let Some((_, plan)) = self.plan(name) else {
            return false;
        };
        self.lists += usize::from(plan.needs_live_reads());
        for action in &plan.actions {
            if self.apply(name, action).is_err() {
                return true;
            }
        }
        !plan.actions.is_empty()
    }

    /// Passes, NIO's work and time go on until nothing changes any more. Returns how many rounds it took.
    pub fn settle(&mut self) -> usize {
        let mut quiet = 0;
        for round in 0..600 {
            let names: Vec<String> = self.clusters.keys().cloned().collect();
            let before: Vec<ClusterStatus> = names
                .iter()
                .map(|name| self.cluster(name).view.status.clone())
                .collect();
            let mut changed = false;
            for name in &names {
                changed |= self.pass(name);
            }
            changed |= self.work();
            changed |= names.iter().zip(&before).any(|(name, before)| {
                self.clusters
                    .get(name)
                    .is_none_or(|cluster| cluster.view.status != *before)
            });
            self.wait(30);
            quiet = if changed { 0 } else { quiet + 1 };
            // Five and a half minutes of nothing: longer than any clock of patience that a plan waits for here.
            if quiet == 12 {
                return round;
            }
        }
        panic!("the world never comes to rest: {}", self.story());
    }

    /// What the clusters say of themselves, and the last writes, in few lines.
    pub fn story(&self) -> String {
        let mut story = String::new();
        for (name, cluster) in &self.clusters {
            let _ = write!(story, "\n{name}: {}", cluster.spec);
            for condition in &cluster.view.status.conditions {
                let nico::api::status::ClusterCondition {
                    kind,
                    status,
                    reason,
                    message,
                    ..
                } = condition;
                let _ = write!(story, "\n  {kind}={status} {reason}: {message}");
            }
        }
        for (name, held) in &self.configurations {
            let owner = controller(&held.metadata).map_or("nobody", |owner| owner.uid.as_str());
            let values = nico::plan::cluster_nix::held_values(held);
            let (founder, id) =
                values.map_or((None, None), |it| (it.bootstrap.as_ref(), Some(&it.id)));
            let _ = write!(
                story,
                "\n  {name} of {owner}: founder {founder:?} of {id:?}, confirmed {:?}, deleted {}",
                Member::of(held).is_some_and(|it| it.is_confirmed()),
                held.metadata.deletion_timestamp.is_some()
            );
        }
        for (name, action) in self.written.iter().rev().take(16).rev() {
            let of = match action {
                Action::Configuration(write) => crate::given::written(write),
                _ => "",
            };
            let _ = write!(story, "\n  {name} {} {of}", crate::given::kind(action));
        }
        story
    }

    pub fn ready(&self, name: &str) -> bool {
        let cluster = self.clusters.get(name);
        cluster.is_some_and(|cluster| cluster.view.status.holds(ConditionType::Ready))
    }
}
