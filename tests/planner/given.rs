//! The language of the tests: `given(cluster().control_plane(["cp-01"])).with(machine("cp-01")).when(…).then(…)`.

mod builders;

use nico::api::conditions::{ConditionType, Reason};
use nico::api::ledger::Ledger;
use nico::api::names::MachineName;
use nico::api::nio::NixosConfiguration;
use nico::api::status::{ClusterCondition, ClusterStatus, MachineState};
use nico::plan::action::{
    Action, ChildWrite, ConfigurationWrite, FinalizerWrite, KubeconfigWork, LedgerWrite, Mark,
    NodeWork, Notice, Plan, SlotWrite,
};
use nico::plan::cluster_nix::{self, Values, held_values};
use nico::plan::observed::{Member, NotWorking, Observed};
use nico::plan::status;
use nico::plan::writes::Claim;
use serde_json::{Value, json};

pub use self::builders::{ClusterBuilder, MachineBuilder, cluster, machine, selected};
use crate::world::{World, unusable_key, usable_key};

/// The cluster under test.
pub const PROD: &str = "prod";

/// The initial world of a test.
pub struct Given(pub World);

pub fn given(cluster: ClusterBuilder) -> Given {
    let mut world = World::new();
    world.create_cluster(PROD, cluster.0);
    Given(world)
}

impl Given {
    pub fn with(mut self, machine: MachineBuilder) -> Self {
        let key = if machine.key {
            usable_key(&machine.name)
        } else {
            unusable_key(&machine.name)
        };
        self.0.ssh_keys.insert(machine.name.clone(), key);
        self.0.machines.insert(machine.name, machine.object);
        self
    }

    /// Adds free, healthy machines with these names.
    pub fn machines<const N: usize>(self, names: [&str; N]) -> Self {
        names
            .into_iter()
            .fold(self, |given, name| given.with(machine(name)))
    }

    /// Adds machines with these names and the label of the control plane's selector.
    pub fn cp_machines<const N: usize>(self, names: [&str; N]) -> Self {
        names
            .into_iter()
            .fold(self, |given, name| given.with(machine(name).cp()))
    }

    pub fn and(mut self, change: impl FnOnce(&mut World)) -> Self {
        change(&mut self.0);
        self
    }

    /// Changes the world, then plans.
    pub fn when(mut self, happens: impl FnOnce(&mut World)) -> Seen {
        happens(&mut self.0);
        Seen::of(self.0)
    }
}

/// Changes nothing before the planning.
pub fn planned(_: &mut World) {}

/// Runs everything until nothing changes any more.
pub fn settled(world: &mut World) {
    world.settle();
}

/// A world with the plan for it.
pub struct Seen {
    pub world: World,
    pub observed: Observed,
    pub plan: Plan,
    pub status: ClusterStatus,
}

impl Seen {
    fn of(mut world: World) -> Self {
        let observed = world.observe(PROD).expect("the cluster is there");
        let plan = nico::plan::plan(&observed, world.now, &world.settings);
        crate::rules::hold(&observed, &plan, world.now, &world.settings);
        let status = status::status(&observed, &plan, None, world.now);
        Self {
            world,
            observed,
            plan,
            status,
        }
    }

    pub fn then(self, check: impl FnOnce(&Self)) -> Self {
        check(&self);
        self
    }

    /// Changes the world again, then plans again.
    pub fn when(mut self, happens: impl FnOnce(&mut World)) -> Self {
        happens(&mut self.world);
        Self::of(self.world)
    }

    pub fn claims(&self) -> Vec<&Claim> {
        claims(&self.plan)
    }

    pub fn claimed(&self) -> Vec<&str> {
        let claims = self.claims().into_iter();
        claims.map(|claim| claim.machine.as_str()).collect()
    }

    /// The ledger that the plan writes.
    pub fn ledger_written(&self) -> Option<Ledger> {
        self.plan.actions.iter().find_map(|action| match action {
            Action::Ledger(LedgerWrite::Create(ledger) | LedgerWrite::Update(_, ledger)) => {
                Some(ledger.clone())
            }
            _ => None,
        })
    }

    pub fn given_back(&self) -> Vec<&str> {
        let actions = self.plan.actions.iter();
        actions
            .filter_map(|action| match action {
                Action::Configuration(ConfigurationWrite::GiveBack(name, _)) => Some(name.as_str()),
                _ => None,
            })
            .collect()
    }

    /// The kinds of the planned actions, in order.
    pub fn kinds(&self) -> Vec<&'static str> {
        self.plan.actions.iter().map(kind).collect()
    }

    pub fn condition(&self, kind: ConditionType) -> &ClusterCondition {
        let name = kind.to_string();
        let mut conditions = self.status.conditions.iter();
        conditions
            .find(|condition| condition.kind == name)
            .expect("every condition is always there")
    }

    /// Asserts that the condition has this status and reason, and that its message contains these words.
    #[track_caller]
    pub fn says(&self, kind: ConditionType, status: &str, reason: Reason, words: &str) -> &Self {
        let found = self.condition(kind);
        assert_eq!(
            (found.status.as_str(), found.reason.as_str()),
            (status, reason.to_string().as_str()),
            "{found:?}"
        );
        assert!(found.message.contains(words), "{found:?}");
        self
    }

    pub fn state(&self, machine: &str) -> MachineState {
        let mut rows = self.status.machines.iter();
        rows.find(|row| row.name == machine)
            .expect("it has a row")
            .state
    }

    /// The message in the row of a machine.
    pub fn row(&self, machine: &str) -> &str {
        let mut rows = self.status.machines.iter();
        let row = rows.find(|row| row.name == machine);
        &row.expect("it has a row").message
    }

    /// The values of cluster.nix in a configuration.
    pub fn held(&self, machine: &str) -> Values {
        let held = held_values(&self.observed.configurations[machine]);
        held.cloned().expect("NICO wrote it")
    }

    pub fn differences(&self, machine: &str) -> Vec<String> {
        let machine = MachineName::parse(machine).unwrap();
        let differences = self.plan.outdated.get(&machine);
        let words = differences.into_iter().flatten().map(ToString::to_string);
        words.collect()
    }

    /// The machine whose entry the plan takes.
    pub fn taken(&self) -> Option<&str> {
        taken(&self.plan)
    }
}

pub fn claims(plan: &Plan) -> Vec<&Claim> {
    plan.actions
        .iter()
        .filter_map(|action| match action {
            Action::Configuration(ConfigurationWrite::Claim(claim)) => Some(&**claim),
            _ => None,
        })
        .collect()
}

/// The only machine whose entry a plan takes.
pub fn taken(plan: &Plan) -> Option<&str> {
    let taken = all_taken(plan);
    assert!(taken.len() <= 1, "{taken:?}");
    taken.first().copied()
}

/// The machines whose entries a plan takes.
pub fn all_taken(plan: &Plan) -> Vec<&str> {
    let taken = plan.actions.iter().filter_map(|action| match action {
        Action::Slot(SlotWrite::Take { machines, .. }) => Some(machines),
        _ => None,
    });
    taken.flatten().map(MachineName::as_str).collect()
}

/// The cluster.nix of a claim.
pub fn nix_of(claim: &Claim) -> Values {
    let body = claim.body.render();
    let text = body["spec"]["additionalFiles"][0]["inline"].as_str();
    cluster_nix::parse(text.unwrap()).expect("NICO reads what it writes")
}

/// The name of the configuration that is written.
pub fn written(write: &ConfigurationWrite) -> &str {
    match write {
        ConfigurationWrite::Claim(claim) => claim.machine.as_str(),
        ConfigurationWrite::Rewrite(rewrite) => rewrite.machine.as_str(),
        ConfigurationWrite::GiveBack(name, _) | ConfigurationWrite::Mark(name, ..) => name,
    }
}

pub fn kind(action: &Action) -> &'static str {
    match action {
        Action::Finalizer(FinalizerWrite::Add(..)) => "AddFinalizer",
        Action::Ledger(LedgerWrite::Create(_)) => "CreateLedger",
        Action::Ledger(LedgerWrite::Update(..)) => "UpdateLedger",
        Action::Child(ChildWrite::CreateToken(_)) => "CreateToken",
        Action::Configuration(ConfigurationWrite::Claim(_)) => "Claim",
        Action::Configuration(ConfigurationWrite::GiveBack(..)) => "GiveBack",
        Action::Configuration(ConfigurationWrite::Mark(_, _, Mark::TakenBack(_))) => "TakeBack",
        Action::Configuration(ConfigurationWrite::Mark(_, _, Mark::Restored(_))) => "Restore",
        Action::Configuration(ConfigurationWrite::Mark(_, _, Mark::Confirmed(_))) => "Confirm",
        Action::Configuration(ConfigurationWrite::Mark(_, _, Mark::Withdrawn)) => "Withdraw",
        Action::Configuration(ConfigurationWrite::Mark(_, _, Mark::Touched)) => "Touch",
        Action::Configuration(ConfigurationWrite::Mark(_, _, Mark::Settled(_))) => "Settle",
        Action::Configuration(ConfigurationWrite::Rewrite(_)) => "Rewrite",
        Action::Slot(SlotWrite::Take { .. }) => "Take",
        Action::Disrupt(_) => "Disrupt",
        Action::Slot(SlotWrite::End { .. }) => "EndEntry",
        Action::ProbeWorkload => "ProbeWorkload",
        Action::Node(NodeWork::Evict(_)) => "Evict",
        Action::Node(NodeWork::Undrain { .. }) => "Undrain",
        Action::Kubeconfig(KubeconfigWork::Fetch(..)) => "FetchKubeconfig",
        Action::Kubeconfig(KubeconfigWork::Verify) => "VerifyKubeconfig",
        Action::Kubeconfig(KubeconfigWork::Meet) => "Meet",
        Action::Kubeconfig(KubeconfigWork::PinHostKey) => "PinHostKey",
        Action::Kubeconfig(KubeconfigWork::Store(_)) => "StoreKubeconfig",
        Action::Kubeconfig(KubeconfigWork::Drop) => "DropFetched",
        Action::Child(ChildWrite::Delete(_)) => "DeleteChild",
        Action::Child(ChildWrite::LetGo(_)) => "LetGo",
        Action::Child(ChildWrite::AddFinalizer(..)) => "AddChildFinalizer",
        Action::Child(ChildWrite::TakeBack(..)) => "TakeBackChild",
        Action::Configuration(ConfigurationWrite::Mark(_, _, Mark::Forced(_))) => "Strip",
        Action::Notify(Notice::LeftBehind(_)) => "NotifyLeftBehind",
        Action::Notify(Notice::NodeStays(_)) => "NotifyNodeStays",
        Action::Notify(Notice::MemberStays(_)) => "NotifyMemberStays",
        Action::Finalizer(FinalizerWrite::Remove(..)) => "RemoveFinalizer",
    }
}

/// The planner's view of a configuration.
pub fn member(held: &NixosConfiguration) -> Member<'_> {
    Member::of(held).expect("it bears a machine's name")
}

/// A configuration that belongs to no cluster.
pub fn stranger(name: &str, machine: &str) -> Value {
    json!({
        "apiVersion": "nio.homystack.com/v1alpha1",
        "kind": "NixosConfiguration",
        "metadata": { "name": name, "namespace": "default" },
        "spec": { "machineRef": { "name": machine }, "flake": "#x" },
    })
}

/// A configuration of another cluster.
pub fn of_rival(name: &str, rival: &str, uid: &str) -> Value {
    let mut body = stranger(name, name);
    body["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "nico.homystack.com/v1alpha1", "kind": "KubernetesCluster",
        "name": rival, "uid": uid, "controller": true,
    }]);
    body
}

/// Sets whether the cluster's kubeconfig works.
pub fn kubeconfig_works(world: &mut World, works: nico::plan::observed::Works) {
    world.cluster(PROD).kubeconfig.works = works;
}

/// The error of a kubeconfig: its API server cannot be reached, or refuses it.
pub fn not_working(unreachable: bool) -> NotWorking {
    NotWorking {
        unreachable,
        why: "refused".to_owned(),
    }
}
