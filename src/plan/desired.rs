//! The configurations as they should be, their revision, and what in a held one differs (SPEC 3.2 to 3.4).

mod difference;

pub use difference::{Difference, listed};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::api::names::{
    GROUP, MARKER_DIR, MachineName, Marker, REWRITTEN_ANNOTATION, ROLE_LABEL, Revision,
    WRITTEN_ANNOTATION, join_token_name, worker_token_name,
};
use crate::api::nio::{Generation, SSH_KEY};
use crate::api::status::Role;

use super::cluster_nix::{self, CLUSTER_NIX, ClusterNix};
use super::observed::{ClusterView, MACHINE_SSH_KEY, Member, WORKER_TOKEN, labels};
use super::writes::{Claim, Rewrite};

const JOIN_TOKEN: &str = "join-token";
/// Branch that classic's schema fills in where `ref` is not sent (NIO.md).
const CLASSIC_DEFAULT_REF: &str = "main";

/// What every configuration of a cluster has in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Common {
    /// NIO's generation.
    pub nio: Generation,
    /// Flake repository.
    pub git_repo: String,
    /// Branch, tag or pinned commit.
    pub git_ref: Option<String>,
    /// Directory of the flake.
    pub configuration_subdir: Option<String>,
    /// Name of the credentials Secret.
    pub credentials: Option<String>,
}

/// What one machine's configuration is to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The machine.
    pub machine: MachineName,
    /// Its role.
    pub role: Role,
    /// What it shares with the others.
    pub common: Common,
    /// The generated file.
    pub nix: ClusterNix,
    /// Secret and fingerprint of its SSH key, where that is given to it.
    pub ssh_key: Option<(String, String)>,
}

impl Target {
    /// The digest of all that should make NIO apply again, from named fields (SPEC 3.4): an upgrade of NICO rolls nothing.
    #[must_use]
    pub fn revision(&self) -> Revision {
        let Common {
            nio,
            git_repo,
            git_ref,
            configuration_subdir,
            credentials,
        } = &self.common;
        let generation = match nio {
            Generation::Classic => "classic",
            Generation::V1 => "v1",
        };
        let or_none =
            |value: Option<&str>| value.map_or_else(|| "-".to_owned(), |value| format!("+{value}"));
        let mut digest = self.nix.digest();
        for (name, value) in [
            ("gitRepo", git_repo.clone()),
            ("ref", or_none(git_ref.as_deref())),
            (
                "configurationSubdir",
                or_none(configuration_subdir.as_deref()),
            ),
            ("flake", self.flake()),
            ("nio", generation.to_owned()),
            ("credentials", or_none(credentials.as_deref())),
            (
                "sshKey",
                or_none(
                    self.ssh_key
                        .as_ref()
                        .map(|(_, fingerprint)| fingerprint.as_str()),
                ),
            ),
        ] {
            digest.add(name, &value);
        }
        Revision::from_digest(&digest.finish())
    }

    /// The configuration as it is to be created now (SPEC 2.3, 3.2).
    #[must_use]
    pub fn claim(&self, cluster: &ClusterView, now: Timestamp) -> Claim {
        let marker = Marker::at_creation(&self.revision(), now.as_second());
        let mut labels = labels(&cluster.name);
        labels.insert(ROLE_LABEL.to_owned(), self.role.as_str().to_owned());
        let body = json!({
            "apiVersion": "nio.homystack.com/v1alpha1",
            "kind": "NixosConfiguration",
            "metadata": {
                "name": self.machine,
                "namespace": cluster.namespace,
                "labels": labels,
                "annotations": { WRITTEN_ANNOTATION: now.to_string() },
                "ownerReferences": [owner_reference(cluster)],
            },
            "spec": self.spec(&marker),
        });
        Claim {
            machine: self.machine.clone(),
            role: self.role,
            marker,
            body,
        }
    }

    /// A held configuration as it is to be written anew now (SPEC 3.2, 3.4). Where its last attempt was not confirmed and may
    /// still run beside this one, that is noted (`over_unconfirmed`; NIO.md).
    #[must_use]
    pub fn rewrite(&self, member: &Member<'_>, over_unconfirmed: bool, now: Timestamp) -> Rewrite {
        let generation = member.held.metadata.generation.unwrap_or_default();
        let marker = Marker::at_generation(&self.revision(), generation);
        let mut spec = self.spec(&marker);
        for field in ["ref", "configurationSubdir", "credentialsRef"] {
            spec.entry(field).or_insert(Value::Null);
        }
        let rewritten = if over_unconfirmed {
            json!(now.to_string())
        } else {
            Value::Null
        };
        let annotations =
            json!({ WRITTEN_ANNOTATION: now.to_string(), REWRITTEN_ANNOTATION: rewritten });
        Rewrite {
            machine: self.machine.clone(),
            version: member.version(),
            marker,
            body: json!({ "metadata": { "annotations": annotations }, "spec": spec }),
        }
    }

    /// The fields of ours in which a held configuration differs in meaning; empty where it is up to date.
    #[must_use]
    pub fn differences(&self, member: &Member<'_>) -> Vec<Difference> {
        let held = member.held;
        let Common {
            nio: _,
            git_repo,
            git_ref,
            configuration_subdir,
            credentials,
        } = &self.common;
        let text = |field| held.spec.text(field);
        let reference = |field: &str| {
            held.spec
                .0
                .get(field)
                .and_then(|value| value.get("name"))
                .and_then(Value::as_str)
        };
        let mut differences = Vec::new();
        let mut differs = |field: Difference, is: bool| {
            if is {
                differences.push(field);
            }
        };
        differs(Difference::GitRepo, text("gitRepo") != Some(git_repo));
        let held_ref = text("ref");
        let defaulted = git_ref.is_none() && held_ref == Some(CLASSIC_DEFAULT_REF);
        differs(
            Difference::Ref,
            held_ref != git_ref.as_deref() && !defaulted,
        );
        differs(
            Difference::ConfigurationSubdir,
            text("configurationSubdir") != configuration_subdir.as_deref(),
        );
        differs(
            Difference::CredentialsRef,
            reference("credentialsRef") != credentials.as_deref(),
        );
        differs(Difference::Flake, text("flake") != Some(&self.flake()));
        differs(
            Difference::OnRemoveFlake,
            text("onRemoveFlake") != Some(ON_REMOVE_FLAKE),
        );
        differs(
            Difference::MachineRef,
            held.spec.machine() != Some(self.machine.as_str()),
        );
        differs(
            Difference::FullInstall,
            held.spec
                .0
                .get("fullInstall")
                .is_some_and(|value| *value != Value::Bool(false)),
        );
        differences.extend(self.file_differences(member));
        let revision = member.marker().map(|marker| marker.revision());
        if differences.is_empty() && revision != Some(self.revision()) {
            differences.push(if self.ssh_key.is_some() {
                Difference::SshKey
            } else {
                Difference::Revision
            });
        }
        differences
    }

    fn file_differences(&self, member: &Member<'_>) -> Vec<Difference> {
        let held_files = member.held.spec.files();
        let held_text = held_files
            .iter()
            .find(|file| file.get("path").and_then(Value::as_str) == Some(&self.path(CLUSTER_NIX)))
            .and_then(|file| file.get("inline"))
            .and_then(Value::as_str);
        let mut differences = match held_text.and_then(cluster_nix::parse) {
            Some(held) => {
                let wanted = &self.nix;
                let lists = |role| wanted.lists_the_same(role, &held);
                [
                    (Difference::ClusterName, wanted.name == held.name),
                    (Difference::ClusterId, wanted.id == held.id),
                    (Difference::Endpoint, wanted.leads_to_the_same(&held)),
                    (Difference::ControlPlaneMembers, lists(Role::ControlPlane)),
                    (Difference::Workers, lists(Role::Worker)),
                ]
                .into_iter()
                .filter(|(_, same)| !same)
                .map(|(what, _)| what)
                .collect()
            }
            None => vec![Difference::ClusterNix],
        };
        // The text of cluster.nix was compared by its values, and the marker by its revision.
        let shape = |file: &Value, is_marker: bool| {
            let field = |name: &str| file.get(name).cloned().unwrap_or_default();
            let path = if is_marker {
                Value::Null
            } else {
                field("path")
            };
            let secret = file
                .get("secretRef")
                .and_then(|secret| secret.get("name"))
                .cloned();
            (path, field("valueType"), secret)
        };
        let Some(held_marker) = member.marker() else {
            differences.push(Difference::MarkerFile);
            return differences;
        };
        let wanted = self.files(&held_marker, "");
        let last = wanted.len() - 1;
        let same = wanted.len() == held_files.len()
            && wanted
                .iter()
                .zip(held_files)
                .enumerate()
                .all(|(index, (wanted, held))| {
                    shape(wanted, index == last) == shape(held, index == last)
                })
            && held_files
                .last()
                .and_then(|file| file.get("inline"))
                .and_then(Value::as_str)
                .is_none_or(str::is_empty);
        if !same {
            differences.push(Difference::AdditionalFiles);
        }
        differences
    }

    fn flake(&self) -> String {
        format!("#{}", self.machine)
    }

    /// Where a file has to be put so that it lands beside the flake: v1 puts files into the repository's root (NIO.md).
    fn path(&self, file: &str) -> String {
        match (self.common.nio, &self.common.configuration_subdir) {
            (Generation::V1, Some(subdir)) => format!("{subdir}/{file}"),
            _ => file.to_owned(),
        }
    }

    fn spec(&self, marker: &Marker) -> Map<String, Value> {
        let mut spec = Map::new();
        let mut set = |field: &str, value: Value| spec.insert(field.to_owned(), value);
        set("gitRepo", json!(self.common.git_repo));
        set("flake", json!(self.flake()));
        set("onRemoveFlake", json!(ON_REMOVE_FLAKE));
        set("machineRef", json!({ "name": self.machine }));
        set("fullInstall", json!(false));
        set(
            "additionalFiles",
            Value::Array(self.files(marker, &self.nix.render())),
        );
        if let Some(git_ref) = &self.common.git_ref {
            set("ref", json!(git_ref));
        }
        if let Some(subdir) = &self.common.configuration_subdir {
            set("configurationSubdir", json!(subdir));
        }
        if let Some(credentials) = &self.common.credentials {
            set("credentialsRef", json!({ "name": credentials }));
        }
        spec
    }

    /// The additional files, in the order that never changes (SPEC 3.2).
    fn files(&self, marker: &Marker, cluster_nix: &str) -> Vec<Value> {
        let inline = |path: &str, text: &str| json!({ "path": self.path(path), "valueType": "Inline", "inline": text });
        let secret = |path: &str, name: &str, key: &str| json!({ "path": self.path(path), "valueType": "SecretRef", "secretRef": { "name": name, "key": key } });
        let worker_token = worker_token_name(&self.nix.name);
        let own_token = match self.role {
            Role::ControlPlane => join_token_name(&self.nix.name),
            Role::Worker => worker_token.clone(),
        };
        let mut files = vec![
            inline(CLUSTER_NIX, cluster_nix),
            secret(JOIN_TOKEN, &own_token, TOKEN_KEY),
        ];
        if let Some((name, _)) = &self.ssh_key {
            files.push(secret(MACHINE_SSH_KEY, name, SSH_KEY));
        }
        if self.role == Role::ControlPlane {
            files.push(secret(WORKER_TOKEN, &worker_token, TOKEN_KEY));
        }
        debug_assert!(marker.path().starts_with(MARKER_DIR));
        files.push(inline(&marker.path(), ""));
        files
    }
}

/// Key of a token Secret (SPEC 3.1).
pub const TOKEN_KEY: &str = "token";
const ON_REMOVE_FLAKE: &str = "#minimal";

/// The controller owner reference of every child (SPEC 3.2).
#[must_use]
pub fn owner_reference(cluster: &ClusterView) -> Value {
    json!({
        "apiVersion": format!("{GROUP}/v1alpha1"),
        "kind": "KubernetesCluster",
        "name": cluster.name,
        "uid": cluster.uid,
        "controller": true,
        "blockOwnerDeletion": false,
    })
}

/// The owner references and labels of a member as they should be, where some of them are missing: the list is whole, as read
/// and ours added (SPEC 3.2).
#[must_use]
pub fn lost_metadata(cluster: &ClusterView, member: &Member<'_>) -> Option<Value> {
    let mut wanted = labels(&cluster.name);
    wanted.insert(ROLE_LABEL.to_owned(), member.role().as_str().to_owned());
    let meta = &member.held.metadata;
    let has = |(key, value): (&String, &String)| {
        let labels = meta.labels.as_ref();
        labels.and_then(|labels| labels.get(key)) == Some(value)
    };
    let owned = member.controlled;
    if owned && wanted.iter().all(has) {
        return None;
    }
    let mut owners: Vec<Value> = meta
        .owner_references
        .iter()
        .flatten()
        // One of our own that is no longer the controller's would stand twice.
        .filter(|owner| owned || owner.uid != cluster.uid)
        .filter_map(|owner| serde_json::to_value(owner).ok())
        .collect();
    if !owned {
        owners.push(owner_reference(cluster));
    }
    Some(json!({ "ownerReferences": owners, "labels": wanted }))
}
