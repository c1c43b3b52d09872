//! The real objects that the planner is shown.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use nico::api::ledger::{Entry, EntryState, Ledger, Slot as RealSlot};
use nico::api::names::{CLUSTER_FINALIZER, ClusterId, MachineName};
use nico::api::nio::{
    Generation, Machine, MachineSpec, MachineStatus, NioCondition, NixosConfiguration,
    NixosConfigurationSpec, NixosConfigurationStatus,
};
use nico::api::spec::ValidSpec;
use nico::api::status::{ClusterStatus, Role};
use nico::plan::desired::owner_reference;
use nico::plan::files_hash::additional_files_hash;
use nico::plan::observed::{
    Answer, ClusterView, Fetch, KnownHostsView, KubeconfigView, LedgerView, NodeView, Observed,
    SecretView, SshKeyView, Word as RealWord, Workload, Works, labels,
};
use nico::plan::writes::Precondition;
use serde_json::json;

use crate::compact::{self, Age, Child, Estate, Kept, Life, Marks, Proof, Word};
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

/// A founded cluster of which nothing is known yet.
pub fn blank(spec: Result<Arc<ValidSpec>, Vec<String>>) -> Observed {
    Observed {
        cluster: ClusterView {
            namespace: "default".to_owned(),
            name: CLUSTER.to_owned(),
            uid: "uid".to_owned(),
            resource_version: "1".to_owned(),
            generation: 1,
            created: None,
            deleting: false,
            finalizers: vec![CLUSTER_FINALIZER.to_owned()],
            accept_quorum_loss: None,
            force_release: None,
            status: ClusterStatus::default(),
        },
        spec,
        nio: Some(Generation::Classic),
        ledger: LedgerView::Absent,
        join_token: SecretView::Ours,
        worker_token: SecretView::Ours,
        unheld: BTreeMap::new(),
        credentials: None,
        configurations: BTreeMap::new(),
        machines: BTreeMap::new(),
        ssh_keys: BTreeMap::new(),
        rivals: BTreeMap::new(),
        kubeconfig: KubeconfigView {
            secret: SecretView::Ours,
            works: Works::Yes,
            failures: 0,
            stored: None,
            // Sooner or later it is time for it.
            try_again: true,
            fetch: Fetch::default(),
        },
        known_hosts: KnownHostsView::Ours,
        word: RealWord::NotAsked,
        word_is_old: false,
        entered: None,
        since: BTreeMap::new(),
        fresh_id: id(),
    }
}

/// The version of the ledger as read, or another one.
pub fn ledger_version(resource_version: &str) -> Precondition {
    Precondition {
        uid: "ledger".to_owned(),
        resource_version: resource_version.to_owned(),
    }
}

/// The version of a configuration as read.
pub fn version(machine: &MachineName) -> Precondition {
    Precondition {
        uid: format!("uid-of-{machine}"),
        resource_version: "now".to_owned(),
    }
}

pub fn ledger(
    slot: Option<&compact::Slot>,
    names: &[MachineName],
    control_plane: u8,
) -> LedgerView {
    let Some(slot) = slot else {
        return LedgerView::Absent;
    };
    let entries = slot.entries.iter().flatten().map(|entry| Entry {
        machine: names[usize::from(entry.machine)].clone(),
        role: role(entry.machine, control_plane),
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
    LedgerView::Ours(ledger_version("now"), ledger)
}

fn role(machine: u8, control_plane: u8) -> Role {
    if machine < control_plane {
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
            releasing: entry.state == EntryState::Releasing,
        }
    });
    compact::Slot {
        entries: [entries.next(), entries.next()],
        fencing: slot.fencing,
        founding: !ledger.founded,
    }
}

/// The cluster object and its children, but for configurations and ledger.
pub fn estate(observed: &mut Observed, estate: Estate) {
    let is_there = |bit: u8| estate.children & (1 << bit) != 0;
    let secret = |bit: u8| {
        if is_there(bit) {
            SecretView::Ours
        } else {
            SecretView::Absent
        }
    };
    observed.cluster.deleting = estate.life == Life::Deleting;
    if !estate.finalizer {
        observed.cluster.finalizers = Vec::new();
    }
    observed.join_token = secret(0);
    observed.worker_token = secret(1);
    observed.kubeconfig.secret = secret(2);
    if !is_there(3) {
        observed.known_hosts = KnownHostsView::Absent;
    }
}

pub fn word(word: Word, names: &[MachineName], control_plane: u8, now: Timestamp) -> RealWord {
    let (down, absent, marks) = match word {
        Word::NotAsked => return RealWord::NotAsked,
        Word::Silence => (u8::MAX, 0, [Marks::default(); compact::MOST]),
        Word::Heard {
            down,
            absent,
            marks,
        } => (down | absent, absent, marks),
    };
    let ago = |seconds: i64| now - SignedDuration::from_secs(seconds);
    let is_up = |index: usize| down & (1 << index) == 0;
    let members = || names.iter().enumerate().take(usize::from(control_plane));
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
    let nodes = nodes.filter(|(index, _)| absent & (1 << index) == 0);
    let nodes = nodes.map(|(index, name)| NodeView {
        name: name.to_string(),
        uid: format!("node-{name}"),
        addresses: vec![format!("ip-of-{name}")],
        ready: is_up(index),
        control_plane: index < usize::from(control_plane),
        deleting: false,
        kubelet_minor: Some(37),
        unschedulable: marks[index].unschedulable,
        cordoned: marks[index].unschedulable && marks[index].cordoned,
        draining_since: marks[index].draining.map(|age| match age {
            Age::Fresh => ago(10),
            Age::Over => ago(DRAIN_SECONDS + 10),
            Age::Old => ago(DRAIN_SECONDS + 10_000),
        }),
        pods_left: marks[index]
            .draining
            .map(|_| usize::from(marks[index].pods)),
    });
    RealWord::Heard(Workload {
        nodes: anyone.then(|| nodes.collect()),
        answers: answers.collect(),
        api_minor: anyone.then_some(37),
    })
}

pub fn machine(name: &MachineName, hidden: bool) -> (Machine, SshKeyView) {
    let mut object = Machine {
        spec: MachineSpec {
            ip_address: Some(format!("ip-of-{name}")),
            hostname: Some(name.to_string()),
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
    let key = SshKeyView::Usable {
        secret: format!("ssh-{name}"),
        fingerprint: format!("SHA256:{name}"),
    };
    (object, key)
}

pub fn configuration(
    name: &MachineName,
    role: &str,
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
        spec: NixosConfigurationSpec(texts.spec(child.held)),
        status: proof(child, texts, name),
        ..NixosConfiguration::default()
    };
    let view = blank(Err(Vec::new())).cluster;
    let mut own_labels = labels(CLUSTER);
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
        Proof::Faded => Some(NixosConfigurationStatus {
            conditions: vec![applied("False", "MachineUnreachable")],
            ..NixosConfigurationStatus::default()
        }),
        Proof::Success(attempt) => {
            let spec = NixosConfigurationSpec(texts.spec(attempt));
            Some(NixosConfigurationStatus {
                applied_commit: Some("c0ffee".to_owned()),
                additional_files_hash: Some(additional_files_hash(spec.files())),
                target_machine: Some(name.to_string()),
                conditions: vec![applied("True", "Success")],
                ..NixosConfigurationStatus::default()
            })
        }
    }
}
