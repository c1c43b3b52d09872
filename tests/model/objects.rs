//! The real objects that the planner is shown.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use nico::api::ledger::{Entry, EntryState, Ledger, Slot as RealSlot};
use nico::api::names::{
    CLUSTER_FINALIZER, ClusterId, MachineName, join_token_name, known_hosts_name, kubeconfig_name,
    worker_token_name,
};
use nico::api::nio::{
    Generation, Machine, MachineSpec, MachineStatus, NioCondition, NixosConfiguration,
    NixosConfigurationSpec, NixosConfigurationStatus, SecretRef,
};
use nico::api::parsed::Parsed;
use nico::api::spec::ValidSpec;
use nico::api::status::Role;
use nico::plan::desired::{TOKEN_KEY, owner_reference};
use nico::plan::facts::{Facts, KubeconfigAnswer, MapFacts, Read, SecretFacts};
use nico::plan::observed::{
    Answer, ClusterView, Fetch, KnownHostsView, NodeView, SecretView, SshKeyView, Stored, Workload,
    WorkloadHealth as RealHealth, Works, labels,
};
use nico::plan::writes::Precondition;
use serde_json::json;

use crate::compact::{self, Age, Child, Estate, Kept, Life, Marks, Proof, Word};
use crate::facts;
use crate::texts::Texts;

pub const CLUSTER: &str = "prod";
/// The generation of every configuration as read: larger than the number in any marker that exists.
pub const READ_GENERATION: i64 = 1000;
/// How long the pods of a machine that leaves are given, where they are given time.
pub const DRAIN_SECONDS: i64 = 300;

/// The id of the cluster's founding.
fn id() -> ClusterId {
    ClusterId::from_bits(7)
}

/// The cluster object, and what the shell remembers of it.
pub fn blank(spec: Result<Arc<ValidSpec>, Vec<String>>, estate: Estate) -> Facts {
    let cluster = ClusterView {
        namespace: "default".to_owned(),
        name: CLUSTER.to_owned(),
        uid: "uid".to_owned(),
        resource_version: "1".to_owned(),
        generation: 1,
        deleting: estate.life == Life::Deleting,
        finalizers: if estate.finalizer {
            vec![CLUSTER_FINALIZER.to_owned()]
        } else {
            Vec::new()
        },
        ..ClusterView::default()
    };
    let mut facts = Facts::new(cluster, spec, id());
    facts.nio = Some(Generation::Classic);
    facts.live = true;
    facts
}

/// The version of the ledger as read, or another one.
pub fn ledger_version(resource_version: &str) -> Precondition {
    facts::version("ledger", resource_version)
}

/// The version of a configuration as read.
pub fn version(machine: &MachineName) -> Precondition {
    facts::version(&format!("uid-of-{machine}"), "now")
}

pub fn ledger(slot: compact::Slot, cluster: &ClusterView, names: &[MachineName]) -> MapFacts {
    let entries = slot.entries.iter().flatten().map(|entry| Entry {
        machine: names[usize::from(entry.machine)].clone(),
        role: role(entry.leads),
        state: if entry.releasing {
            EntryState::Releasing
        } else {
            EntryState::Active
        },
    });
    let mut ledger = Ledger::new(id(), !slot.founding);
    ledger.slot = RealSlot {
        entries: entries.collect(),
        fencing: slot.fencing,
    };
    facts::ledger(&ledger, cluster, ledger_version("now"))
}

fn role(leads: bool) -> Role {
    if leads {
        Role::ControlPlane
    } else {
        Role::Worker
    }
}

/// A ledger in few bytes.
pub fn slot(ledger: &Ledger, names: &[MachineName]) -> compact::Slot {
    let slot = &ledger.slot;
    let mut entries = slot.entries.iter().map(|entry| {
        let at = names.iter().position(|name| *name == entry.machine);
        compact::Entry {
            machine: u8::try_from(at.expect("a machine of this search")).unwrap(),
            leads: entry.role == Role::ControlPlane,
            releasing: entry.state == EntryState::Releasing,
        }
    });
    compact::Slot {
        entries: [entries.next(), entries.next()],
        fencing: slot.fencing,
        founding: !ledger.founded,
    }
}

/// The children, but for configurations and ledger.
pub fn children(facts: &mut Facts, estate: Estate) {
    let cluster = facts.cluster.clone();
    let secret = |bit: u8| {
        if estate.children & (1 << bit) == 0 {
            SecretView::Absent
        } else {
            SecretView::Ours
        }
    };
    let tokens = [join_token_name(CLUSTER), worker_token_name(CLUSTER)];
    for (bit, name) in (0..).zip(tokens) {
        let found = facts::secret(secret(bit), &cluster, TOKEN_KEY);
        facts.secrets.insert(name, facts::live(found));
    }
    let stored = Stored {
        version: facts::version("kubeconfig", "1"),
        host: Some("10.0.0.1".to_owned()),
        endpoint: String::new(),
        port: None,
        client_certificate: None,
        stored: None,
    };
    let found = facts::kubeconfig(secret(2), &cluster, &stored);
    let name = kubeconfig_name(CLUSTER);
    facts.secrets.insert(name, facts::live(found));
    let hosts = if secret(3) == SecretView::Ours {
        KnownHostsView::Ours
    } else {
        KnownHostsView::Absent
    };
    let found = facts::known_hosts(hosts, &cluster);
    let name = known_hosts_name(CLUSTER);
    facts.maps.insert(name, facts::live(found));
}

/// What the background work says of the kubeconfig.
pub fn background() -> KubeconfigAnswer {
    KubeconfigAnswer {
        works: Works::Yes,
        failures: 0,
        // Sooner or later it is time for it.
        try_again: true,
        fetch: Fetch::default(),
    }
}

/// What the cluster says, a bit each: the control plane, and the machines that run no kubelet.
pub fn word(
    word: Word,
    names: &[MachineName],
    (members, unlisted): (u8, u8),
    now: Timestamp,
) -> RealHealth {
    let (down, absent, leads, marks) = match word {
        Word::NotAsked => return RealHealth::NotProbed,
        Word::Silence => (u8::MAX, 0, 0, [Marks::default(); compact::MOST]),
        Word::Heard {
            down,
            absent,
            leads,
            marks,
        } => (down | absent, absent, leads, marks),
    };
    let ago = |seconds: i64| now - SignedDuration::from_secs(seconds);
    let is_up = |index: usize| down & (1 << index) == 0;
    let is_member = |index: usize| members & (1 << index) != 0;
    let members = || names.iter().enumerate().filter(|it| is_member(it.0));
    let answers = members().map(|(index, name)| {
        let answer = if is_up(index) {
            Answer::Ready
        } else {
            Answer::Unreachable
        };
        (name.clone(), answer)
    });
    let anyone = members().any(|(index, _)| is_up(index));
    let nodes = names.iter().enumerate();
    let nodes = nodes.filter(|(index, _)| (absent | unlisted) & (1 << index) == 0);
    let nodes = nodes.map(|(index, name)| NodeView {
        name: name.to_string(),
        uid: format!("node-{name}"),
        addresses: vec![format!("ip-of-{name}")],
        ready: is_up(index),
        control_plane: leads & (1 << index) != 0,
        deleting: false,
        kubelet_minor: Some(37),
        unschedulable: marks[index].unschedulable,
        cordoned: marks[index].unschedulable && marks[index].cordoned,
        draining_since: marks[index].draining.map(|age| match age {
            Age::Fresh => ago(10),
            Age::Over => ago(DRAIN_SECONDS + 10),
            Age::Old => ago(DRAIN_SECONDS + 10_000),
        }),
        deleting_since: None,
        finalizers: Vec::new(),
        volumes: Vec::new(),
        stuck: Vec::new(),
        pods_left: marks[index]
            .draining
            .map(|_| usize::from(marks[index].pods)),
    });
    RealHealth::Answered(Arc::new(Workload {
        nodes: anyone.then(|| nodes.collect::<Vec<_>>().into()),
        answers: answers.collect(),
        api_minor: anyone.then_some(37),
        untrusted: BTreeMap::new(),
    }))
}

pub fn machine(name: &MachineName, hidden: bool, nio: Generation) -> Machine {
    let by_jobs = nio == Generation::V1;
    let address = || Some(Parsed::of(&format!("ip-of-{name}")));
    let mut object = Machine {
        spec: MachineSpec {
            host: address().filter(|_| by_jobs),
            ip_address: address().filter(|_| !by_jobs),
            hostname: Some(Parsed::of(name.as_str())).filter(|_| !by_jobs),
            ssh_key_secret_ref: Some(SecretRef {
                name: Some(Parsed::of(&ssh_key_name(name))),
                namespace: Some(Parsed::of("default")),
            }),
            ..MachineSpec::default()
        },
        status: Some(MachineStatus {
            discoverable: !hidden,
            has_configuration: true,
            applied_configuration: Some(name.to_string()),
        }),
        ..Machine::default()
    };
    object.metadata.name = Some(name.to_string());
    object
}

pub fn ssh_key_name(machine: &MachineName) -> String {
    format!("ssh-{machine}")
}

/// The Secret with a machine's key.
pub fn ssh_key(machine: &MachineName, cluster: &ClusterView) -> Read<SecretFacts> {
    let view = SshKeyView::Usable {
        secret: ssh_key_name(machine),
        fingerprint: format!("SHA256:{machine}"),
    };
    facts::live(facts::ssh_key(&view, cluster))
}

pub fn configuration(
    name: &MachineName,
    child: &Child,
    texts: &Texts,
    (aged, overdue): (bool, bool),
    now: Timestamp,
) -> NixosConfiguration {
    let ago = |seconds: i64| (now - SignedDuration::from_secs(seconds)).to_string();
    let mut annotations = BTreeMap::from([(
        "nico.homystack.com/written".to_owned(),
        ago(if overdue { 100_000 } else { 10 }),
    )]);
    let confirmed = match child.kept {
        Kept::Never => None,
        Kept::Is(attempt) => Some(texts.marker(attempt).as_str().to_owned()),
        Kept::Withdrawn => Some("withdrawn".to_owned()),
    };
    if let Some(confirmed) = confirmed {
        annotations.insert("nico.homystack.com/confirmed".to_owned(), confirmed);
    }
    if child.rewritten {
        annotations.insert(
            "nico.homystack.com/rewritten".to_owned(),
            ago(if aged { 3600 } else { 10 }),
        );
    }
    let mut configuration = NixosConfiguration {
        spec: NixosConfigurationSpec::from(texts.spec(child.held)),
        status: proof(child, texts, name),
        ..NixosConfiguration::default()
    };
    if matches!(child.proof, Proof::Jobs(_)) && !child.is_confirmed() {
        // So there is no quiet write of the schedule, which only makes other writes fail.
        let mut spec = texts.spec(child.held);
        spec.insert("dayTwoSchedule".to_owned(), json!("* * * * *"));
        configuration.spec = NixosConfigurationSpec::from(spec);
    }
    let view = blank(Err(Vec::new()), Estate::whole()).cluster;
    let mut own_labels = labels(CLUSTER);
    let role = role(child.leads).as_str();
    own_labels.insert("nico.homystack.com/role".to_owned(), role.to_owned());
    let meta = &mut configuration.metadata;
    let version = version(name);
    meta.name = Some(name.to_string());
    meta.uid = Some(version.uid);
    meta.resource_version = Some(version.resource_version);
    meta.generation = Some(READ_GENERATION);
    meta.creation_timestamp = Some(Time(now - SignedDuration::from_secs(200_000)));
    meta.deletion_timestamp = child.terminating.then_some(Time(now));
    meta.annotations = Some(annotations);
    meta.labels = Some(own_labels);
    meta.owner_references = serde_json::from_value(json!([owner_reference(&view)])).unwrap();
    configuration
}

/// What classic writes on a configuration.
fn proof(child: &Child, texts: &Texts, name: &MachineName) -> Option<NixosConfigurationStatus> {
    let applied = |status: &str, reason: &str| NioCondition {
        kind: "Applied".to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: String::new(),
    };
    match child.proof {
        Proof::Nothing => None,
        // v1 says so of the new generation before anything was applied.
        Proof::Jobs(_) => Some(NixosConfigurationStatus {
            phase: Some("Ready".to_owned()),
            resolved_revision: Some("c0ffee".to_owned()),
            conditions: vec![
                NioCondition {
                    kind: "Ready".to_owned(),
                    ..applied("True", "Success")
                },
                applied("True", "Success"),
            ],
            ..NixosConfigurationStatus::default()
        }),
        Proof::Faded => Some(NixosConfigurationStatus {
            conditions: vec![applied("False", "MachineUnreachable")],
            ..NixosConfigurationStatus::default()
        }),
        Proof::Success(attempt) => {
            let spec = NixosConfigurationSpec::from(texts.spec(attempt));
            Some(NixosConfigurationStatus {
                applied_commit: Some("c0ffee".to_owned()),
                additional_files_hash: Some(spec.files_hash().to_owned()),
                target_machine: Some(name.to_string()),
                conditions: vec![applied("True", "Success")],
                ..NixosConfigurationStatus::default()
            })
        }
    }
}
