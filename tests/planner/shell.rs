//! What the shell does, in memory: observe as `controller/observe.rs`, act as `controller/act.rs`, pass after pass. Each plan is held to the
//! rules of `rules.rs`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use kube::core::SelectorExt as _;
use nico::api::names::{
    CONFIRMED_ANNOTATION, ClusterId, MachineName, TOUCHED_ANNOTATION, WITHDRAWN,
};
use nico::api::nio::NixosConfiguration;
use nico::api::spec::Pool;
use nico::api::status::{ClusterStatus, Role};
use nico::api::validate::validate;
use nico::plan::action::{Action, Plan};
use nico::plan::entered::{Deed, Entered};
use nico::plan::observed::{
    Answer, Fetch, KnownHostsView, LedgerView, Member, Observed, Rival, SecretView, Word, Workload,
    Works, controller,
};
use nico::plan::writes::{Child, Precondition, Token};
use nico::plan::{selection, status};
use serde_json::{Value, json};

use crate::given::member;
use crate::world::{Refused, World, as_stored};

impl World {
    /// What the shell would hand to the planner (`controller/observe.rs`).
    pub fn observe(&mut self, name: &str) -> Option<Observed> {
        let id = ClusterId::from_bits(self.count());
        let cluster = self.clusters.get(name)?;
        let spec = validate(name, &cluster.spec)
            .map(Arc::new)
            .map_err(|errors| errors.iter().map(ToString::to_string).collect());
        let mut observed = Observed {
            cluster: cluster.view.clone(),
            spec,
            nio: self.nio,
            ledger: match &cluster.ledger {
                None => LedgerView::Absent,
                Some((version, ledger)) => LedgerView::Ours(
                    Precondition {
                        uid: format!("{name}-ledger"),
                        resource_version: version.to_string(),
                    },
                    ledger.clone(),
                ),
            },
            join_token: cluster.join_token,
            worker_token: cluster.worker_token,
            unheld: BTreeMap::new(),
            credentials: cluster.credentials,
            configurations: BTreeMap::new(),
            machines: BTreeMap::new(),
            ssh_keys: BTreeMap::new(),
            rivals: BTreeMap::new(),
            kubeconfig: cluster.kubeconfig.clone(),
            known_hosts: cluster.known_hosts,
            word: Word::NotAsked,
            word_is_old: false,
            entered: None,
            since: cluster.since.clone(),
            fresh_id: id,
        };
        for (name, configuration) in &self.configurations {
            if observed.belongs(configuration) {
                let configuration = Arc::new(configuration.clone());
                observed.configurations.insert(name.clone(), configuration);
            }
        }
        observed.word = self.word(&observed);
        let Ok(spec) = observed.spec.clone() else {
            return Some(observed);
        };
        let held: Vec<MachineName> = observed.members().map(|it| it.name).collect();
        let listed = spec
            .control_plane
            .listed()
            .chain(spec.data_plane.listed())
            .cloned();
        let left: Vec<MachineName> = observed
            .entries()
            .iter()
            .map(|entry| entry.machine.clone())
            .chain(cluster.view.forced())
            .collect();
        for machine in held.into_iter().chain(listed).chain(left) {
            self.show(&mut observed, &machine);
        }
        for role in selection::short_roles(&observed, &spec) {
            if let Pool::Selected { selector, .. } = selection::pool(&spec, role) {
                for (machine, object) in &self.machines {
                    if selector.matches(object.metadata.labels.as_ref().unwrap_or(&BTreeMap::new()))
                    {
                        self.show(&mut observed, machine);
                    }
                }
            }
        }
        let rivals: Vec<(String, String)> = observed
            .configurations
            .values()
            .filter_map(|configuration| controller(&configuration.metadata))
            .filter(|owner| owner.kind == "KubernetesCluster" && owner.uid != observed.cluster.uid)
            .map(|owner| (owner.uid.clone(), owner.name.clone()))
            .collect();
        for (uid, name) in rivals {
            let rival = self.clusters.get(&name).filter(|it| it.view.uid == uid);
            let created = rival.and_then(|rival| rival.view.created);
            observed.rivals.insert(uid, Rival { name, created });
        }
        Some(observed)
    }

    /// What the cluster says of itself, where its kubeconfig is stored.
    fn word(&self, observed: &Observed) -> Word {
        if observed.kubeconfig.secret != SecretView::Ours {
            return Word::Silent("no kubeconfig is stored yet".to_owned());
        }
        let mut answers = BTreeMap::new();
        for machine in observed.control_plane().map(|it| it.name) {
            let up = self.nodes.contains_key(machine.as_str()) && !self.mute.contains(&machine);
            let answer = if up && self.refusing {
                Answer::Refuses
            } else if up {
                Answer::Ready
            } else {
                Answer::Unreachable
            };
            answers.insert(machine, answer);
        }
        let anyone = answers.values().any(|answer| *answer == Answer::Ready);
        Word::Heard(Workload {
            nodes: anyone.then(|| self.nodes.values().cloned().collect()),
            answers,
            api_minor: anyone.then_some(37),
        })
    }

    /// The write under an entry, as `controller/reconcile/entered.rs`: everything read anew, then planned and written.
    fn enter(&mut self, name: &str, machine: &MachineName) -> Result<(), Refused> {
        let mut observed = self.observe(name).ok_or(Refused)?;
        let LedgerView::Ours(taken, _) = &observed.ledger else {
            return Err(Refused);
        };
        observed.entered = Entered::new(machine, taken, &observed.ledger);
        let plan = nico::plan::plan(&observed, self.now, &self.settings);
        crate::rules::hold(&observed, &plan, self.now, &self.settings);
        for action in plan.actions {
            if matches!(action, Action::Disrupt(_)) {
                self.apply(name, &action)?;
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
                && node.is_some_and(|node| node.ready)
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

    /// I3, I4: one control plane machine of a founded cluster in flight, or `maxUnavailable` workers, never both.
    fn takes_off(&mut self, name: &str, machine: &MachineName, role: Role) {
        self.flying.insert(machine.clone(), role);
        let cluster = self.cluster(name);
        let founded = cluster.ledger.as_ref().is_some_and(|(_, it)| it.founded);
        let spec = validate(name, &cluster.spec).expect("an invalid spec rolls nothing");
        let workers = self.flying.values().filter(|it| **it == Role::Worker);
        let (workers, all) = (workers.count(), self.flying.len());
        let most = spec.rollout.max_unavailable.of(spec.data_plane.total());
        assert!(
            !founded || (workers == 0 && all == 1) || (workers == all && workers <= most),
            "I3, I4: {:?} in flight at once: {}",
            self.flying,
            self.story()
        );
    }

    /// A merge patch on a configuration of the cluster's own; a change of the spec is a new generation.
    fn merge(
        &mut self,
        name: &str,
        at: &Precondition,
        owner: &str,
        body: &Value,
    ) -> Result<(), Refused> {
        let version = self.count();
        let configuration = self.at(name, at, owner)?;
        let mut object = serde_json::to_value(&*configuration).unwrap();
        json_merge(&mut object, body);
        let mut merged: NixosConfiguration = serde_json::from_value(object).unwrap();
        as_stored(&mut merged.spec.0);
        let meta = &mut merged.metadata;
        meta.resource_version = Some(version.to_string());
        if merged.spec != configuration.spec {
            meta.generation = meta.generation.map(|generation| generation + 1);
        }
        *configuration = merged;
        Ok(())
    }

    fn show(&self, observed: &mut Observed, machine: &MachineName) {
        if let Some(object) = self.machines.get(machine) {
            let object = Arc::new(object.clone());
            observed.machines.insert(machine.clone(), object);
        }
        if let Some(key) = self.ssh_keys.get(machine)
            && self.machines.contains_key(machine)
        {
            observed.ssh_keys.insert(machine.clone(), key.clone());
        }
        for (name, configuration) in &self.configurations {
            if name == machine.as_str() || configuration.spec.machine() == Some(machine.as_str()) {
                let configuration = Arc::new(configuration.clone());
                observed.configurations.insert(name.clone(), configuration);
            }
        }
    }

    /// Carries one action out, as `controller/act.rs` does.
    pub fn apply(&mut self, name: &str, action: &Action) -> Result<(), Refused> {
        let version = self.count();
        let uid = self.clusters.get(name).ok_or(Refused)?.view.uid.clone();
        let cluster = self.clusters.get_mut(name).ok_or(Refused)?;
        let refused_unless = |is: bool| is.then_some(()).ok_or(Refused);
        match action {
            Action::AddFinalizer(at, finalizers) | Action::RemoveFinalizer(at, finalizers) => {
                refused_unless(*at == cluster.view.precondition())?;
                cluster.view.finalizers.clone_from(finalizers);
                cluster.view.resource_version = version.to_string();
                if cluster.view.deleting && finalizers.is_empty() {
                    self.clusters.remove(name);
                }
            }
            Action::CreateLedger(ledger) => {
                refused_unless(cluster.ledger.is_none())?;
                cluster.ledger = Some((version, ledger.clone()));
            }
            Action::UpdateLedger(at, ledger) => {
                let held = cluster.ledger.as_ref().map(|(version, _)| *version);
                refused_unless(held.is_some_and(|held| held.to_string() == at.resource_version))?;
                cluster.ledger = Some((version, ledger.clone()));
            }
            Action::CreateToken(token) => {
                let secret = match token {
                    Token::Join => &mut cluster.join_token,
                    Token::Worker => &mut cluster.worker_token,
                };
                refused_unless(*secret == SecretView::Absent)?;
                *secret = SecretView::Ours;
            }
            Action::Claim(claim) => self.post(&claim.body)?,
            Action::GiveBack(machine, at) => {
                self.at(machine, at, &uid)?;
                self.delete_configuration(machine);
            }
            Action::Confirm(machine, at, marker) => {
                let configuration = self.at(machine.as_str(), at, &uid)?;
                configuration.metadata.resource_version = Some(version.to_string());
                configuration
                    .metadata
                    .annotations
                    .get_or_insert_default()
                    .insert(CONFIRMED_ANNOTATION.to_owned(), marker.to_string());
            }
            Action::TakeBack(name, at, metadata) => {
                let held = self.configurations.get_mut(name).ok_or(Refused)?;
                refused_unless(Precondition::of(&held.metadata) == *at)?;
                held.metadata.resource_version = Some(version.to_string());
                held.metadata.owner_references =
                    serde_json::from_value(metadata["ownerReferences"].clone()).ok();
                let labels: BTreeMap<String, String> =
                    serde_json::from_value(metadata["labels"].clone()).unwrap();
                held.metadata.labels.get_or_insert_default().extend(labels);
            }
            Action::Withdraw(machine, at) => {
                let body = json!({"metadata": {"annotations": {CONFIRMED_ANNOTATION: WITHDRAWN}}});
                self.merge(machine.as_str(), at, &uid, &body)?;
            }
            Action::Touch(machine, at) => {
                let body =
                    json!({"metadata": {"annotations": {TOUCHED_ANNOTATION: version.to_string()}}});
                self.merge(machine.as_str(), at, &uid, &body)?;
            }
            Action::Rewrite(rewrite) => {
                self.merge(
                    rewrite.machine.as_str(),
                    &rewrite.version,
                    &uid,
                    &rewrite.body,
                )?;
            }
            Action::Take {
                machine,
                ledger: at,
                taken,
                ..
            } => {
                let held = cluster.ledger.as_ref().map(|(version, _)| *version);
                refused_unless(held.is_some_and(|held| held.to_string() == at.resource_version))?;
                cluster.ledger = Some((version, taken.clone()));
                self.written.push((name.to_owned(), action.clone()));
                return self.enter(name, machine);
            }
            Action::Disrupt(disruptive) => match disruptive.deed() {
                Deed::Rewrite(rewrite) => {
                    let machine = &rewrite.machine;
                    let role = member(&self.configurations[machine.as_str()]).role();
                    self.judge_disruption(name, machine);
                    self.merge(machine.as_str(), &rewrite.version, &uid, &rewrite.body)?;
                    self.takes_off(name, machine, role);
                }
                Deed::Join(claim) => {
                    self.post(&claim.body)?;
                    self.takes_off(name, &claim.machine, claim.role);
                }
                Deed::Drain {
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
                Deed::Release(at) => {
                    let machine = disruptive.machine();
                    let role = member(self.at(machine.as_str(), at, &uid)?).role();
                    self.judge_disruption(name, machine);
                    self.takes_off(name, machine, role);
                    self.delete_configuration(machine.as_str());
                }
                Deed::DeleteNode { name, uid } => {
                    refused_unless(self.nodes.get(name).is_some_and(|node| node.uid == *uid))?;
                    self.nodes.remove(name);
                }
            },
            Action::EndEntry {
                machine,
                child,
                ledger: at,
                after,
            } => {
                let body =
                    json!({"metadata": {"annotations": {TOUCHED_ANNOTATION: version.to_string()}}});
                self.merge(machine.as_str(), child, &uid, &body)?;
                let observed = self.observe(name).ok_or(Refused)?;
                let answer = self.configurations.get(machine.as_str()).ok_or(Refused)?;
                let answer = observed.as_member(answer);
                refused_unless(answer.is_some_and(|it| it.is_settled(self.now)))?;
                let version = self.count();
                let cluster = self.cluster(name);
                let held = cluster.ledger.as_ref().map(|(version, _)| *version);
                refused_unless(held.is_some_and(|held| held.to_string() == at.resource_version))?;
                cluster.ledger = Some((version, after.clone()));
            }
            Action::AskCluster
            | Action::LetGo(_)
            | Action::Hold(..)
            | Action::TellLeftBehind(_)
            | Action::TellNodeStays(_) => return Ok(()),
            Action::Strip(machine, at, finalizers) => {
                let configuration = self.at(machine, at, &uid)?;
                configuration.metadata.finalizers = Some(finalizers.clone());
                if finalizers.is_empty() {
                    self.let_go(machine);
                }
            }
            Action::Evict(node) => {
                let left = self.held_back.get(node).copied().unwrap_or_default();
                self.pods.insert(node.clone(), left);
                let node = self.nodes.get_mut(node).ok_or(Refused)?;
                node.pods_left = Some(left);
            }
            Action::Undrain {
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
            Action::FetchKubeconfig(..) => {
                let fetch = &mut cluster.kubeconfig.fetch;
                (fetch.running, fetch.began) = (true, Some(self.now));
            }
            Action::VerifyKubeconfig => {
                cluster.kubeconfig.works = Works::Yes;
                cluster.kubeconfig.try_again = false;
            }
            Action::PinHostKey => {
                cluster.known_hosts = KnownHostsView::Ours;
                cluster.kubeconfig.fetch.new_host_key = false;
            }
            Action::StoreKubeconfig(at) => {
                let kubeconfig = &mut cluster.kubeconfig;
                let found = kubeconfig.stored.as_ref().map(|stored| &stored.version);
                let absent = kubeconfig.secret == SecretView::Absent;
                refused_unless(if at.is_none() {
                    absent
                } else {
                    found == at.as_ref()
                })?;
                kubeconfig.secret = SecretView::Ours;
                kubeconfig.failures = 0;
                let fetch = &mut kubeconfig.fetch;
                (fetch.running, fetch.failure) = (false, None);
                let at_hand = fetch.at_hand.take().ok_or(Refused)?;
                kubeconfig.works = at_hand.verified.map_or_else(Works::No, |()| Works::Yes);
            }
            Action::DropFetched => cluster.kubeconfig.fetch = Fetch::default(),
            Action::DeleteChild(child) => match child {
                Child::JoinToken => cluster.join_token = left(cluster.join_token),
                Child::WorkerToken => cluster.worker_token = left(cluster.worker_token),
                Child::Kubeconfig => cluster.kubeconfig.secret = left(cluster.kubeconfig.secret),
                Child::KnownHosts => cluster.known_hosts = KnownHostsView::Absent,
                Child::Ledger => cluster.ledger = None,
            },
        }
        self.written.push((name.to_owned(), action.clone()));
        Ok(())
    }

    fn at(
        &mut self,
        name: &str,
        at: &Precondition,
        owner: &str,
    ) -> Result<&mut NixosConfiguration, Refused> {
        let configuration = self.configurations.get_mut(name).ok_or(Refused)?;
        assert!(
            controller(&configuration.metadata).is_some_and(|controller| controller.uid == owner),
            "an object that the cluster does not own is never written"
        );
        (Precondition::of(&configuration.metadata) == *at)
            .then_some(configuration)
            .ok_or(Refused)
    }

    /// Plans for a cluster, and writes the status that comes of it.
    pub fn plan(&mut self, name: &str) -> Option<(Observed, Plan)> {
        let observed = self.observe(name)?;
        let plan = nico::plan::plan(&observed, self.now, &self.settings);
        crate::rules::hold(&observed, &plan, self.now, &self.settings);
        let status = status::status(&observed, &plan, None, self.now);
        let now = self.now;
        let cluster = self.cluster(name);
        cluster.since.retain(|clock, _| plan.clocks.contains(clock));
        for clock in &plan.clocks {
            cluster.since.entry(clock.clone()).or_insert(now);
        }
        cluster.view.status = status;
        Some((observed, plan))
    }

    /// One pass. Whether anything but background work was done.
    pub fn pass(&mut self, name: &str) -> bool {
        let Some((_, plan)) = self.plan(name) else {
            return false;
        };
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
            let (founder, id) = values.map_or((None, None), |it| (it.bootstrap, Some(it.id)));
            let _ = write!(
                story,
                "\n  {name} of {owner}: founder {founder:?} of {id:?}, confirmed {:?}, deleted {}",
                member(held).is_confirmed(),
                member(held).is_deleting()
            );
        }
        for (name, action) in self.written.iter().rev().take(16).rev() {
            let of = match action {
                Action::Claim(claim) => claim.machine.to_string(),
                Action::GiveBack(machine, _) => machine.clone(),
                Action::Confirm(machine, ..) => machine.to_string(),
                _ => String::new(),
            };
            let _ = write!(story, "\n  {name} {} {of}", crate::given::kind(action));
        }
        story
    }

    pub fn ready(&self, name: &str) -> bool {
        self.clusters.get(name).is_some_and(|cluster| {
            let conditions = &cluster.view.status.conditions;
            conditions
                .iter()
                .any(|condition| condition.kind == "Ready" && condition.status == "True")
        })
    }
}

/// JSON merge patch (RFC 7386).
fn json_merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        target.clone_from(patch);
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let Some(object) = target.as_object_mut() else {
        return;
    };
    for (field, value) in fields {
        if value.is_null() {
            object.remove(field);
        } else {
            json_merge(object.entry(field).or_insert(Value::Null), value);
        }
    }
}

/// NICO takes away only what is its own.
fn left(secret: SecretView) -> SecretView {
    match secret {
        SecretView::Adopted | SecretView::Foreign => secret,
        _ => SecretView::Absent,
    }
}
