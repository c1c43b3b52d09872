//! What nobody should ever observe: objects that NICO would not write, views that do not fit each other, clocks gone wrong.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use nico::api::conditions::{Cause, Reason};
use nico::api::ledger::{Ledger, LedgerError};
use nico::api::names::{CONFIRMED_ANNOTATION, ClusterId, MachineName, ROLE_LABEL};
use nico::api::nio::{Generation, NioCondition, NixosConfiguration, NixosConfigurationSpec};
use nico::plan::facts::{Facts, Freshness, ObjectFacts};
use nico::plan::observed::{
    AtHand, Fetch, HostKeys, KnownHostsView, LedgerView, Observed, Rival, SecretView, SshKeyView,
    Stored, Works,
};
use nico::plan::patience::Clock;
use nico::plan::writes::Precondition;
use serde_json::{Value, json};

use crate::arbitrary::NAMES;
use crate::given::stranger;
use crate::source::Source;
use crate::world::{edit, rotated_key, unusable_key, usable_key};

const SECRETS: [SecretView; 6] = [
    SecretView::Ours,
    SecretView::Absent,
    SecretView::Adopted,
    SecretView::Unusable,
    SecretView::Terminating,
    SecretView::Foreign,
];

/// A configuration that NICO would never have written.
fn garble(configuration: &mut NixosConfiguration, source: &mut Source) {
    let meta = &mut configuration.metadata;
    match source.below(15) {
        0 => meta.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH)),
        1 => meta.owner_references = None,
        2 => {
            meta.owner_references = Some(vec![OwnerReference {
                controller: Some(true),
                kind: source.of(&["KubernetesCluster", "Helm"]).to_owned(),
                uid: source.of(&["rival-uid", ""]).to_owned(),
                ..OwnerReference::default()
            }])
        }
        3 => meta.labels = None,
        4 => {
            let role = source.of(&["worker", "control-plane", "king"]).to_owned();
            meta.labels
                .get_or_insert_default()
                .insert(ROLE_LABEL.to_owned(), role);
        }
        5 => {
            let value = source.of(&["", "withdrawn", "0123456789ab-t1"]).to_owned();
            let annotations = meta.annotations.get_or_insert_default();
            annotations.insert(CONFIRMED_ANNOTATION.to_owned(), value);
        }
        6 => meta.annotations = None,
        7 => configuration.spec = NixosConfigurationSpec::default(),
        8 => {
            let field = source.of(&["additionalFiles", "machineRef", "gitRepo", "flake", "ref"]);
            let value = source.of(&[
                Value::Null,
                json!(7),
                json!([null, 1, {}]),
                json!({"name": 3}),
            ]);
            edit(&mut configuration.spec, |spec| {
                spec.insert(field.to_owned(), value)
            });
        }
        9 => {
            let machine = source.of(&NAMES);
            let value = json!({ "name": machine });
            edit(&mut configuration.spec, |spec| {
                spec.insert("machineRef".to_owned(), value)
            });
        }
        10 => {
            let text = source.of(&["", "{", "{ }", "# x\nbuiltins.fromJSON ''\n{}''\n", "\0"]);
            edit(&mut configuration.spec, |spec| {
                if let Some(files) = spec.get_mut("additionalFiles")
                    && let Some(inline) = files.get_mut(0).and_then(|file| file.get_mut("inline"))
                {
                    *inline = json!(text);
                }
            });
        }
        11 => {
            let (from, to) = source.of(&[
                ("\"bootstrap\": \"", "\"bootstrap\": null } #"),
                ("\"id\": \"0", "\"id\": \"f"),
                ("\"bootstrap\": \"m-1\"", "\"bootstrap\": \"m-2\""),
                ("\"bootstrap\": \"m-1\"", "\"bootstrap\": null"),
                ("\"name\": \"m-", "\"name\": \"x-"),
            ]);
            edit(&mut configuration.spec, |spec| {
                if let Some(files) = spec.get_mut("additionalFiles")
                    && let Some(Value::String(text)) =
                        files.get_mut(0).and_then(|file| file.get_mut("inline"))
                {
                    *text = text.replace(from, to);
                }
            });
        }
        12 => configuration.status = None,
        13 => {
            let status = configuration.status.get_or_insert_default();
            status.additional_files_hash = Some(String::new());
            status.applied_commit = Some(source.of(&["", "<b>", "c0ffee"]).to_owned());
            status.conditions = vec![NioCondition {
                kind: "Applied".to_owned(),
                status: source.of(&["False", "True", "x"]).to_owned(),
                reason: "Missing\u{202e} Credentials".to_owned(),
                ..NioCondition::default()
            }];
        }
        _ => {
            meta.uid = None;
            meta.resource_version = None;
        }
    }
}

/// Nonsense over one part of what was observed.
pub fn distort(observed: &mut Observed, source: &mut Source) {
    let name = MachineName::parse(source.of(&NAMES)).unwrap();
    match source.below(22) {
        0..5 => {
            let keys: Vec<String> = observed.configurations.keys().cloned().collect();
            if !keys.is_empty() {
                let name = source.of(&keys);
                let mut held = observed.configurations[&name].clone();
                garble(Arc::make_mut(&mut held), source);
                Arc::make_mut(&mut observed.configurations).insert(name, held);
            }
        }
        5 => {
            // Ours, and of no machine.
            let mut odd: NixosConfiguration =
                serde_json::from_value(stranger("a.b", name.as_str())).unwrap();
            odd.metadata.owner_references = Some(vec![OwnerReference {
                controller: Some(true),
                kind: "KubernetesCluster".to_owned(),
                uid: observed.cluster.uid.clone(),
                ..OwnerReference::default()
            }]);
            Arc::make_mut(&mut observed.configurations).insert("a.b".to_owned(), Arc::new(odd));
        }
        6 => {
            observed.configurations = Arc::default();
        }
        7 => {
            observed.machines.remove(&name);
        }
        8 => {
            if let Some(machine) = observed.machines.get_mut(&name) {
                let machine = Arc::make_mut(machine);
                if source.once_in(2) {
                    machine.status = None;
                } else {
                    machine.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
                }
            }
        }
        9 => {
            let (id, founded) = (ClusterId::from_bits(7), source.once_in(2));
            let version = Precondition {
                uid: "l".to_owned(),
                resource_version: "1".to_owned(),
            };
            observed.ledger = match source.below(4) {
                0 => LedgerView::Absent,
                1 => LedgerView::Foreign,
                2 => LedgerView::Unreadable(LedgerError::Missing("id")),
                _ => LedgerView::Ours(version, Ledger::new(id, founded)),
            };
        }
        10 => observed.join_token = source.of(&SECRETS),
        11 => observed.worker_token = source.of(&SECRETS),
        12 => observed.credentials = Some(source.of(&SECRETS)),
        13 => observed.nio = source.of(&[None, Some(Generation::V1), Some(Generation::Classic)]),
        14 => observed.kubeconfig.secret = source.of(&SECRETS),
        15 => {
            observed.kubeconfig.works = source.of(&[
                Works::Yes,
                Works::No(crate::given::not_working(false)),
                Works::Unknown,
            ]);
            observed.kubeconfig.try_again = source.once_in(2);
            observed.kubeconfig.failures = source.of(&[0, 2, 3, u32::MAX]);
            let valid = (Timestamp::UNIX_EPOCH, Timestamp::MAX);
            observed.kubeconfig.stored = source.once_in(2).then(|| Stored {
                version: Precondition {
                    uid: "kubeconfig".to_owned(),
                    resource_version: "1".to_owned(),
                },
                host: source.once_in(2).then(|| "vip".to_owned()),
                endpoint: source.of(&[String::new(), "vip:6443".to_owned()]),
                stored: source.of(&[None, Some(Timestamp::MIN), Some(Timestamp::MAX)]),
                port: None,
                client_certificate: source.of(&[
                    None,
                    Some(valid),
                    Some((Timestamp::MAX, Timestamp::MIN)),
                ]),
            });
        }
        16 => {
            observed.kubeconfig.fetch = Fetch {
                running: source.once_in(2),
                began: source.of(&[None, Some(Timestamp::UNIX_EPOCH), Some(Timestamp::MAX)]),
                failure: source
                    .once_in(2)
                    .then(|| Cause::new(Reason::HostKeyChanged, "changed")),
                new_host_key: source.once_in(2),
                hosts: HostKeys {
                    meet: source.once_in(2),
                    pending: source.once_in(2),
                    to_decide: source
                        .once_in(2)
                        .then(|| {
                            (
                                MachineName::parse("a").unwrap(),
                                Cause::new(Reason::HostKeyChanged, "changed"),
                            )
                        })
                        .into_iter()
                        .collect(),
                },
                at_hand: source.of(&[
                    None,
                    Some(AtHand {
                        verified: Ok(()),
                        ends: Some(Timestamp::UNIX_EPOCH),
                    }),
                    Some(AtHand {
                        verified: Err(crate::given::not_working(true)),
                        ends: None,
                    }),
                ]),
            };
        }
        17 => {
            observed.known_hosts = source.of(&[
                KnownHostsView::Foreign,
                KnownHostsView::Ours,
                KnownHostsView::Absent,
            ]);
        }
        18 => {
            for clock in [
                Clock::IncompleteClaims,
                Clock::Kubeconfig,
                Clock::Unverified,
            ] {
                let second = source.of(&[0, crate::world::START - 30, crate::world::START + 9_999]);
                let since = Timestamp::from_second(second).unwrap();
                observed.since.insert(clock, since);
            }
        }
        19 => {
            let view = &mut observed.cluster;
            view.deleting = source.once_in(2);
            view.created = source.of(&[None, Some(Timestamp::UNIX_EPOCH), Some(Timestamp::MAX)]);
            view.generation = source.of(&[0, -1, i64::MAX]);
            view.finalizers = source.of(&[
                vec![],
                vec!["other/one".to_owned()],
                vec![
                    "nico.homystack.com/cluster".to_owned(),
                    "other/one".to_owned(),
                ],
            ]);
        }
        20 => {
            let created = source.of(&[None, Some(Timestamp::UNIX_EPOCH), Some(Timestamp::MAX)]);
            let rival = Rival {
                name: "rival".to_owned(),
                created,
            };
            observed.rivals.insert("rival-uid".to_owned(), rival);
        }
        _ => {
            let key = source.of(&[
                None,
                Some(usable_key(&name)),
                Some(rotated_key(&name, "SHA256:rotated")),
                Some(unusable_key(&name)),
                Some(SshKeyView::Unusable(Cause::new(
                    Reason::SSHKeyUnusable,
                    "rotate it",
                ))),
            ]);
            observed.ssh_keys.remove(&name);
            observed.ssh_keys.extend(key.map(|key| (name, key)));
        }
    }
}

/// An object that was read by name is another one, or is gone, or an answer is an old one.
pub fn misread(facts: &mut Facts, source: &mut Source) {
    let controllers = [
        None,
        Some(facts.cluster.uid.clone()),
        Some("rival-uid".to_owned()),
    ];
    let other = |object: &mut ObjectFacts, source: &mut Source| {
        object.controller = source.of(&controllers);
        object.left_by = source.of(&[None, Some("prod".to_owned()), Some("rival".to_owned())]);
        object.adopt = source.of(&[None, Some("prod".to_owned()), Some(String::new())]);
        (object.deleting, object.in_use) = (source.once_in(2), source.once_in(2));
    };
    let freshness = source.of(&[Freshness::Live, Freshness::Recent, Freshness::Remembered]);
    let at = source.below(facts.secrets.len() + facts.maps.len());
    if let Some(read) = facts.secrets.values_mut().nth(at) {
        let Some(secret) = &mut read.found else {
            return;
        };
        match source.below(6) {
            0 => secret.keys.clear(),
            1 => secret.is_kubeconfig = false,
            2 => secret.kubeconfig = None,
            3 => read.freshness = freshness,
            4 => read.found = None,
            _ => other(&mut secret.object, source),
        }
    } else if let Some(read) = facts.maps.values_mut().nth(at - facts.secrets.len()) {
        let Some(map) = &mut read.found else {
            return;
        };
        match source.below(4) {
            0 => map.data.clear(),
            1 => read.freshness = freshness,
            2 => read.found = None,
            _ => other(&mut map.object, source),
        }
    }
}
