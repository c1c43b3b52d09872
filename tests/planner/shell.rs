//! What the shell does, in memory: observe as `controller/observe.rs`, act by `act.rs`, pass after pass. Each plan is held to the rules of
//! `rules.rs`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use kube::core::SelectorExt as _;
use nico::api::conditions::ConditionType;
use nico::api::names::{ClusterId, MachineName};
use nico::api::spec::Pool;
use nico::api::status::ClusterStatus;
use nico::api::validate::validate;
use nico::plan::action::{Action, Plan};
use nico::plan::entered::Entered;
use nico::plan::observed::{
    Answer, LedgerView, Member, Observed, Rival, SecretView, Word, Workload, controller,
};
use nico::plan::writes::Precondition;
use nico::plan::{selection, status};

use crate::world::{Refused, World};

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
    pub fn enter(&mut self, name: &str, machine: &MachineName) -> Result<(), Refused> {
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
