//! The real planner on a compact view: the view becomes real objects, `nico::plan::plan` looks at them, and its actions become
//! compact steps (`steps.rs`). The planner is pure, so each view is planned once and remembered.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use nico::api::conditions::{ConditionType, Reason};
use nico::api::names::MachineName;
use nico::api::nio::{Generation, NixosConfiguration};
use nico::api::spec::ValidSpec;
use nico::api::validate::validate;
use nico::plan::action::{Action, ConfigurationWrite, KubeconfigWork, Plan};
use nico::plan::observed::Observed;
use nico::plan::patience::Clock;
use nico::plan::{Settings, plan, status};
use serde_json::Value;

use crate::compact::{Child, Estate, Life, MOST, Proof, Slot, Word};
use crate::facts;
use crate::jobs;
use crate::mutation::Mutation;
use crate::objects;
use crate::state::{Step, Write};
use crate::steps::after_its_check;
use crate::texts::Texts;

/// What the planner is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct View {
    /// Index of the spec.
    pub spec: u8,
    pub estate: Estate,
    pub ledger: Option<Slot>,
    pub children: [Option<Child>; MOST],
    /// Machines that NIO cannot reach.
    pub hidden: u8,
    /// Machines of which an hour has passed since `rewritten`.
    pub aged: u8,
    pub word: Word,
    /// Under the entries of machines, a bit each, and whether the ledger is still the one of one's own take.
    pub entered: Option<(u8, bool)>,
    /// Whether every clock of patience has run out.
    pub patient: bool,
    /// Whether every deadline of progress has passed.
    pub overdue: bool,
}

impl View {
    /// The control plane, a bit each: as the configurations say, or the Nodes of machines that have none.
    fn control_plane(&self) -> u8 {
        let mut leads = match self.word {
            Word::Heard { leads, .. } => leads,
            Word::NotAsked | Word::Silence => 0,
        };
        for (index, child) in self.children.iter().enumerate() {
            if let Some(child) = child {
                leads = leads & !(1 << index) | u8::from(child.leads) << index;
            }
        }
        leads
    }
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Planned {
    pub steps: Vec<Step>,
    /// Reasons of all waits, and whether they make `Stalled` true.
    pub waits: Vec<(Reason, bool)>,
    /// Nobody is outdated, joins, leaves or is in flight.
    pub settled: bool,
    /// The cluster is to be asked how its machines are.
    pub wants_word: bool,
    /// The plan is another one with the status wiped.
    pub heeds_status: bool,
}

/// The planner, with what it said before.
pub struct Planner {
    pub names: Vec<MachineName>,
    specs: Vec<Arc<ValidSpec>>,
    /// The control plane has no Nodes.
    pub without_kubelets: bool,
    nio: Generation,
    /// What the planner is shown of Jobs otherwise than it is.
    pub mutation: Mutation,
    pub now: Timestamp,
    pub texts: Mutex<Texts>,
    plans: Mutex<HashMap<View, Arc<Planned>>>,
    settled: Mutex<HashMap<(u8, Child, bool), bool>>,
}

impl Planner {
    pub fn new(names: Vec<MachineName>, specs: &[Value], nio: Generation) -> Self {
        let valid = |spec| Arc::new(validate(objects::CLUSTER, spec).expect("a valid spec"));
        Self {
            names,
            specs: specs.iter().map(valid).collect(),
            without_kubelets: false,
            nio,
            mutation: Mutation::Faithful,
            now: Timestamp::from_second(1_800_000_000).unwrap(),
            texts: Mutex::new(Texts::of(nio)),
            plans: Mutex::default(),
            settled: Mutex::default(),
        }
    }

    /// How many different views were planned.
    pub fn views(&self) -> usize {
        lock(&self.plans).len()
    }

    /// The repository that a text is of.
    pub fn repository(&self, text: u16) -> String {
        lock(&self.texts).get(text).repository.clone()
    }

    /// The first configurations, as the planner claims them for a new cluster.
    pub fn first_claims(&self, spec: u8) -> [Option<Write>; MOST] {
        let view = View {
            spec,
            estate: Estate::whole(),
            ledger: None,
            children: [None; MOST],
            hidden: 0,
            aged: 0,
            word: Word::NotAsked,
            entered: None,
            patient: false,
            overdue: false,
        };
        let mut observed = self.observe(&view);
        observed.kubeconfig.secret = nico::plan::observed::SecretView::Absent;
        let plan = plan(&observed, self.now, &Settings::default());
        let mut claims = [None; MOST];
        for action in &plan.actions {
            if let Action::Configuration(ConfigurationWrite::Claim(claim)) = action {
                let write = self.written(&view, &claim.machine, &claim.body.render(), false);
                claims[usize::from(write.machine)] = Some(write);
            }
        }
        claims
    }

    /// The plan of a view.
    pub fn plan(&self, view: &View) -> Arc<Planned> {
        let view = &asked_for(view);
        if let Some(known) = lock(&self.plans).get(view) {
            return Arc::clone(known);
        }
        let planned = Arc::new(self.plan_anew(view));
        lock(&self.plans).insert(*view, Arc::clone(&planned));
        planned
    }

    fn plan_anew(&self, view: &View) -> Planned {
        let mut observed = self.observe(view);
        let settings = Settings::default();
        let plan = plan(&observed, self.now, &settings);
        // The status is a report: whatever it says, the same is done (I3, "also with the status wiped or restored").
        observed.cluster.status = status::status(&observed, &plan, None, self.now);
        let with_status = nico::plan::plan(&observed, self.now, &settings);
        Planned {
            steps: plan
                .actions
                .iter()
                .filter_map(|action| self.step(view, action))
                .flat_map(after_its_check)
                .collect(),
            waits: plan
                .waits
                .iter()
                .map(|wait| (wait.cause.reason, wait.condition == ConditionType::Stalled))
                .collect(),
            settled: is_at_rest(&plan),
            wants_word: plan.actions.contains(&Action::ProbeWorkload),
            heeds_status: plan.actions != with_status.actions,
        }
    }

    /// Whether the answer to a touch shows the machine done with.
    pub fn is_settled(&self, machine: u8, child: &Child, aged: bool) -> bool {
        let key = (machine, *child, aged);
        if let Some(known) = lock(&self.settled).get(&key) {
            return *known;
        }
        let mut children = [None; MOST];
        children[usize::from(machine)] = Some(*child);
        let observed = self.observe(&View {
            spec: 0,
            estate: Estate::whole(),
            ledger: None,
            children,
            hidden: 0,
            aged: u8::from(aged) << machine,
            word: Word::NotAsked,
            entered: None,
            patient: false,
            overdue: false,
        });
        let answer = &observed.configurations[self.names[usize::from(machine)].as_str()];
        let answer = observed.as_member(answer).expect("it is ours");
        let settled = answer.is_settled(self.now);
        lock(&self.settled).insert(key, settled);
        settled
    }

    /// The real objects of a view.
    fn observe(&self, view: &View) -> Observed {
        let spec = Arc::clone(&self.specs[usize::from(view.spec)]);
        let mut facts = objects::blank(Ok(spec), view.estate);
        facts.nio = Some(self.nio);
        let cluster = facts.cluster.clone();
        let ledger = view.ledger;
        let ledger = ledger.map(|it| objects::ledger(it, &cluster, &self.names));
        objects::children(&mut facts, view.estate);
        let unlisted = if self.without_kubelets {
            view.control_plane()
        } else {
            0
        };
        let members = (view.control_plane(), unlisted);
        facts.workload = objects::word(view.word, &self.names, members, self.now);
        facts.workload_is_old = view.word == Word::NotAsked;
        for (index, name) in self.names.iter().enumerate() {
            let bit = |mask: u8| mask & (1 << index) != 0;
            let machine = objects::machine(name, bit(view.hidden), self.nio);
            facts.machines.insert(name.clone(), Some(Arc::new(machine)));
            let secret = objects::ssh_key_name(name);
            facts
                .secrets
                .insert(secret, objects::ssh_key(name, &cluster));
            if let Some(child) = &view.children[index] {
                let configuration = self.configuration(index, child, bit(view.aged), view.overdue);
                if let Proof::Jobs(jobs) = &child.proof {
                    let uid = objects::version(name).uid;
                    let texts = lock(&self.texts);
                    let jobs = jobs::objects(jobs, child.held, &texts, (self.mutation, self.now));
                    Arc::make_mut(&mut facts.jobs).insert(uid, jobs);
                }
                facts.add_configurations([Arc::new(configuration)]);
            }
        }
        if view.patient && ledger.is_some() {
            facts.since = self.clocks();
        }
        match view.entered {
            None => facts.add_ledger(ledger),
            Some((machines, stood)) => {
                let taken = objects::ledger_version(if stood { "now" } else { "before" });
                let entered = self.names.iter().enumerate();
                let entered = entered.filter(|(index, _)| machines & (1 << index) != 0);
                let entered: Vec<_> = entered.map(|it| it.1.clone()).collect();
                facts.enter(&entered, &taken, ledger);
            }
        }
        facts::complete(&mut facts, |needs, facts| {
            let question = needs.kubeconfig.expect("all else was read");
            facts.kubeconfig = Some((question, objects::background()));
        })
    }

    fn configuration(
        &self,
        index: usize,
        child: &Child,
        aged: bool,
        overdue: bool,
    ) -> NixosConfiguration {
        let texts = lock(&self.texts);
        objects::configuration(&self.names[index], child, &texts, (aged, overdue), self.now)
    }

    /// Every clock that a plan may ask for, long run out.
    fn clocks(&self) -> BTreeMap<Clock, Timestamp> {
        let version = objects::ledger_version("now");
        let of_machines = self.names.iter().flat_map(|name| {
            [
                Clock::Undiscoverable(name.clone()),
                Clock::NoChild(name.clone(), version.clone()),
                Clock::WithoutNode(name.clone()),
            ]
        });
        let of_cluster = [Clock::QuorumLost, Clock::Fencing(version.uid.clone())];
        of_machines
            .chain(of_cluster)
            .map(|clock| (clock, Timestamp::UNIX_EPOCH))
            .collect()
    }

    pub fn index(&self, machine: &MachineName) -> u8 {
        let at = self.names.iter().position(|name| name == machine);
        u8::try_from(at.expect("a machine of this search")).unwrap()
    }
}

/// What the shell looks at: where the cluster is being deleted, its configurations alone.
fn asked_for(view: &View) -> View {
    if view.estate.life != Life::Deleting {
        return *view;
    }
    View {
        estate: Estate {
            children: 0,
            ..view.estate
        },
        ledger: None,
        hidden: 0,
        aged: 0,
        word: Word::NotAsked,
        entered: None,
        ..*view
    }
}

fn is_at_rest(plan: &Plan) -> bool {
    let joining =
        |pick: &nico::plan::selection::Pick| !pick.joining.is_empty() || !pick.leaving.is_empty();
    plan.outdated.is_empty()
        && plan.in_flight.is_empty()
        && plan.actions.iter().all(is_a_look)
        && !joining(&plan.selection.control_plane)
        && !joining(&plan.selection.workers)
}

/// Whether an action only looks, in the background.
fn is_a_look(action: &Action) -> bool {
    matches!(
        action,
        Action::ProbeWorkload | Action::Kubeconfig(KubeconfigWork::Verify)
    )
}

pub fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
