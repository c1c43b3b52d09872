//! The life of a cluster as facts: from before its first claim to a roll, without any I/O.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use nico::api::kubeconfig::{KubeconfigFacts, VALUE_KEY};
use nico::api::ledger::{Entry, EntryState, Ledger};
use nico::api::names::{
    CLUSTER_FINALIZER, CONFIRMED_ANNOTATION, ClusterId, MachineName, join_token_name,
    known_hosts_name, kubeconfig_name, ledger_name, worker_token_name,
};
use nico::api::nio::{
    Generation, Machine, MachineSpec, MachineStatus, NioCondition, NixosConfiguration,
    NixosConfigurationStatus, SSH_KEY, SecretRef,
};
use nico::api::parsed::Parsed;
use nico::api::status::{ClusterStatus, Role};
use nico::api::validate::validate;
use nico::plan::Settings;
use nico::plan::action::{Action, ConfigurationWrite, LedgerWrite, Plan};
use nico::plan::assemble::assemble;
use nico::plan::desired::TOKEN_KEY;
use nico::plan::facts::{
    Facts, Freshness, KubeconfigAnswer, MapFacts, Needs, ObjectFacts, Read, SecretFacts,
};
use nico::plan::observed::{
    Answer, ClusterView, Fetch, Member, NodeView, Observed, Workload, WorkloadHealth, Works,
};
use nico::plan::status::status;
use nico::plan::writes::Precondition;
use serde_json::{Value, json};

const PROD: &str = "prod";

/// The state in which all configurations were just made.
pub const HELD: &str = "all claimed";

type Happens = fn(&mut Life);

/// What happens, one after the other, and how the state is called that comes of it.
pub const STATES: &[(&str, Happens)] = &[
    ("before the first claim", |_| {}),
    (HELD, Life::claim),
    ("all applied, none confirmed", Life::apply),
    ("founded and settled", Life::settle),
    ("a new ref, before the first entry", |life| {
        life.edit("ref", json!("v2"));
    }),
    ("a new ref, under an entry", Life::enter),
    ("a new ref, a Node that is not Ready", Life::unwell),
    ("an address changes", Life::readdress),
    ("workers leave", Life::shrink),
    ("being deleted", Life::delete),
];

pub struct Life {
    pub now: Timestamp,
    spec: Value,
    view: ClusterView,
    machines: BTreeMap<MachineName, Machine>,
    configurations: BTreeMap<String, Arc<NixosConfiguration>>,
    ledger: Option<Ledger>,
    workload: WorkloadHealth,
    last: Option<Plan>,
    versions: u64,
}

/// A Machine that NIO reaches, without an SSH key.
pub fn discoverable(name: &str, address: &str) -> Machine {
    let mut machine = Machine {
        spec: MachineSpec {
            ip_address: Some(Parsed::of(address)),
            ..MachineSpec::default()
        },
        status: Some(MachineStatus {
            discoverable: true,
            ..MachineStatus::default()
        }),
        ..Machine::default()
    };
    machine.metadata.name = Some(name.to_owned());
    machine
}

impl Life {
    pub fn new(control_plane: usize, workers: usize) -> Self {
        let name = |role: &str, n: usize| format!("{role}-{n:04}");
        let names = |role: &'static str, n: usize| (0..n).map(move |n| name(role, n));
        let listed = |role, n| json!({ "machines": names(role, n).collect::<Vec<_>>() });
        let spec = json!({
            "gitRepo": "https://example.com/flakes/clusters.git",
            "controlPlane": listed("cp", control_plane),
            "dataPlane": listed("worker", workers),
        });
        let all = names("cp", control_plane).chain(names("worker", workers));
        let machines = all.enumerate().map(|(n, name)| {
            let mut object = discoverable(&name, &address(n));
            object.spec.ssh_key_secret_ref = Some(SecretRef {
                name: Some(Parsed::of(&format!("ssh-{name}"))),
                namespace: Some(Parsed::of("default")),
            });
            (MachineName::parse(&name).unwrap(), object)
        });
        Self {
            now: Timestamp::from_second(1_800_000_000).unwrap(),
            view: ClusterView {
                namespace: "default".to_owned(),
                name: PROD.to_owned(),
                uid: "prod-uid".to_owned(),
                resource_version: "1".to_owned(),
                generation: 1,
                finalizers: vec![CLUSTER_FINALIZER.to_owned()],
                ..ClusterView::default()
            },
            spec,
            machines: machines.collect(),
            configurations: BTreeMap::new(),
            ledger: None,
            workload: WorkloadHealth::NotProbed,
            last: None,
            versions: 1,
        }
    }

    pub fn machines(&self) -> usize {
        self.machines.len()
    }

    /// Everything that the planner asks for, read.
    pub fn facts(&self) -> Facts {
        let spec = validate(PROD, &self.spec).unwrap();
        let mut facts = Facts::new(
            self.view.clone(),
            Ok(Arc::new(spec)),
            ClusterId::from_bits(7),
        );
        facts.nio = Some(Generation::Classic);
        facts.live = true;
        (facts.workload, facts.workload_is_old) = (self.workload.clone(), false);
        facts.add_configurations(self.configurations.values().cloned());
        loop {
            match assemble(&facts) {
                Ok(_) => return facts,
                Err(needs) => self.read(*needs, &mut facts),
            }
        }
    }

    fn read(&self, needs: Needs, facts: &mut Facts) {
        let found = |found| Read {
            found,
            freshness: Freshness::Live,
        };
        for name in needs.maps.into_keys() {
            let map = self.ledger.as_ref().filter(|_| name == ledger_name(PROD));
            let data = map.map(Ledger::to_data);
            let pinned = name == known_hosts_name(PROD) && self.ledger.is_some();
            let data = data.or(pinned.then(BTreeMap::new));
            let map = data.map(|data| MapFacts {
                object: self.ours("ledger"),
                data,
            });
            let read = Read {
                found: map,
                freshness: Freshness::Live,
            };
            facts.maps.insert(name, read);
        }
        for name in needs.secrets.into_keys() {
            let secret = if name == join_token_name(PROD) || name == worker_token_name(PROD) {
                self.ledger.as_ref().map(|_| self.secret(TOKEN_KEY))
            } else if name == kubeconfig_name(PROD) {
                let founded = self.ledger.as_ref().filter(|ledger| ledger.founded);
                founded.map(|_| SecretFacts {
                    is_kubeconfig: true,
                    kubeconfig: Some(KubeconfigFacts {
                        cluster: PROD.to_owned(),
                        host: address(0),
                        endpoint: String::new(),
                        port: None,
                        client_certificate: None,
                        stored: None,
                    }),
                    ..self.secret(VALUE_KEY)
                })
            } else {
                Some(SecretFacts {
                    fingerprint: Some(Ok(format!("SHA256:{name}"))),
                    ..self.secret(SSH_KEY)
                })
            };
            facts.secrets.insert(name, found(secret));
        }
        for name in needs.machines {
            let machine = self.machines.get(&name).cloned().map(Arc::new);
            facts.machines.insert(name, machine);
        }
        if let Some(question) = needs.kubeconfig {
            let answer = KubeconfigAnswer {
                works: Works::Yes,
                failures: 0,
                try_again: false,
                fetch: Fetch::default(),
            };
            facts.kubeconfig = Some((question, answer));
        }
    }

    fn ours(&self, uid: &str) -> ObjectFacts {
        ObjectFacts {
            version: Precondition {
                uid: uid.to_owned(),
                resource_version: "1".to_owned(),
            },
            deleting: false,
            controller: Some(self.view.uid.clone()),
            in_use: true,
            adopt: None,
            left_by: None,
        }
    }

    fn secret(&self, key: &str) -> SecretFacts {
        SecretFacts {
            object: self.ours("secret"),
            keys: BTreeMap::from([(key.to_owned(), Some("digest".to_owned()))]),
            fingerprint: None,
            is_kubeconfig: false,
            kubeconfig: None,
        }
    }

    /// What was planned, and the status that came of it.
    pub fn saw(&mut self, planned: Plan, observed: &Observed) {
        self.view.status = status(observed, &planned, None, self.now);
        self.last = Some(planned);
    }

    fn version(&mut self) -> String {
        self.versions += 1;
        self.versions.to_string()
    }

    fn claim(&mut self) {
        // What the plan holds is not counted: it goes when this returns.
        let planned = self.last.clone().unwrap();
        for action in &planned.actions {
            match action {
                Action::Ledger(LedgerWrite::Create(ledger)) => {
                    self.ledger = Some(ledger.clone());
                }
                Action::Configuration(ConfigurationWrite::Claim(claim)) => {
                    let text = serde_json::to_vec(&claim.body.render()).unwrap();
                    let mut made: NixosConfiguration = serde_json::from_slice(&text).unwrap();
                    made.metadata.uid = Some(format!("uid-{}", claim.machine));
                    made.metadata.resource_version = Some(self.version());
                    made.metadata.generation = Some(1);
                    made.metadata.creation_timestamp = Some(Time(self.now));
                    let name = claim.machine.to_string();
                    self.configurations.insert(name, Arc::new(made));
                }
                _ => {}
            }
        }
    }

    /// NIO applies everything.
    fn apply(&mut self) {
        let mut nodes = Vec::new();
        let mut answers = BTreeMap::new();
        for (name, held) in &mut self.configurations {
            let held = Arc::make_mut(held);
            held.status = Some(NixosConfigurationStatus {
                applied_commit: Some("c0ffee".to_owned()),
                additional_files_hash: Some(held.spec.files_hash().to_owned()),
                target_machine: Some(name.clone()),
                conditions: vec![NioCondition {
                    kind: "Applied".to_owned(),
                    status: "True".to_owned(),
                    reason: "Success".to_owned(),
                    message: String::new(),
                }],
                ..NixosConfigurationStatus::default()
            });
            let machine = MachineName::parse(name).unwrap();
            let on = self.machines.get_mut(&machine).unwrap();
            let address = on.address().unwrap().to_owned();
            let status = on.status.get_or_insert_default();
            status.has_configuration = true;
            status.applied_configuration = Some(name.clone());
            let control_plane = Member::of(held).unwrap().role() == Role::ControlPlane;
            nodes.push(NodeView {
                name: name.clone(),
                uid: format!("node-{name}"),
                addresses: vec![address],
                ready: true,
                control_plane,
                kubelet_minor: Some(37),
                ..NodeView::default()
            });
            if control_plane {
                answers.insert(machine, Answer::Ready);
            }
        }
        self.workload = WorkloadHealth::Answered(Arc::new(Workload {
            nodes: Some(nodes.into()),
            answers,
            api_minor: Some(37),
            untrusted: BTreeMap::new(),
        }));
    }

    /// NICO notes the proof, stores the kubeconfig, and is done.
    fn settle(&mut self) {
        for held in self.configurations.values_mut() {
            let held = Arc::make_mut(held);
            let marker = Member::of(held).unwrap().marker().unwrap();
            let annotations = held.metadata.annotations.get_or_insert_default();
            annotations.insert(CONFIRMED_ANNOTATION.to_owned(), marker.to_string());
        }
        self.ledger.as_mut().unwrap().founded = true;
        self.view.status = ClusterStatus::default();
        let facts = self.facts();
        let observed = assemble(&facts).unwrap();
        let planned = nico::plan::plan(&observed, self.now, &Settings::default());
        assert!(planned.actions.is_empty(), "{:?}", planned.actions.first());
        self.saw(planned, &observed);
    }

    fn edit(&mut self, field: &str, value: Value) {
        self.spec[field] = value;
        self.view.generation += 1;
    }

    fn enter(&mut self) {
        let machine = self.machines.keys().last().unwrap().clone();
        let entry = Entry {
            machine,
            role: Role::Worker,
            state: EntryState::Active,
        };
        let ledger = self.ledger.as_mut().unwrap();
        ledger.slot = ledger.slot.with(entry);
    }

    fn unwell(&mut self) {
        let ledger = self.ledger.as_mut().unwrap();
        ledger.slot.entries.clear();
        let WorkloadHealth::Answered(workload) = &mut self.workload else {
            panic!("the cluster was asked");
        };
        let workload = Arc::make_mut(workload);
        let mut nodes = workload.nodes.take().unwrap().to_vec();
        nodes.last_mut().unwrap().ready = false;
        workload.nodes = Some(nodes.into());
    }

    fn readdress(&mut self) {
        let Some(machine) = self.machines.values_mut().next() else {
            return;
        };
        machine.spec.ip_address = Some(Parsed::of("10.99.99.99"));
    }

    fn shrink(&mut self) {
        let workers = self.spec["dataPlane"]["machines"].as_array_mut().unwrap();
        workers.truncate(workers.len() / 2);
        self.view.generation += 1;
    }

    fn delete(&mut self) {
        self.view.deleting = true;
    }
}

fn address(n: usize) -> String {
    format!("10.0.{}.{}", n / 250, n % 250 + 1)
}
