//! The desired configurations, their revision, and how existing ones differ.

mod difference;
mod files;

pub use difference::{Difference, listed};
pub use files::{Compared, TOKEN_KEY};

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::api::digest::FieldDigest;
use crate::api::names::{
    GROUP, MachineName, Marker, REWRITTEN_ANNOTATION, ROLE_LABEL, Revision, WRITTEN_ANNOTATION,
};
use crate::api::nio::Generation;
use crate::api::status::Role;

use super::cluster_nix::{ClusterNix, Lists};
use super::nio::{self, Nio, Wanted};
use super::observed::{ClusterView, Member, bears_label, bears_labels, in_seconds, labels};
use super::pin::DEFAULT_REF;
use super::writes::{Body, Claim, Rewrite, with_text};

/// The fields that all configurations of a cluster share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Common {
    /// NIO's generation.
    pub nio: Generation,
    /// Flake repository.
    pub git_repo: String,
    /// Branch, tag or pinned commit.
    pub git_ref: Option<String>,
    /// If the ref is a pinned commit: since when the spec names the branch or tag that it was resolved from.
    pub pinned_since: Option<Timestamp>,
    /// Directory of the flake.
    pub configuration_subdir: Option<String>,
    /// Name of the credentials Secret.
    pub credentials: Option<String>,
    /// Whether the disks of a new machine are wiped.
    pub full_install: bool,
}

impl Common {
    /// Input of the fields that depend on the generation of NIO.
    #[must_use]
    pub fn wanted(&self, paused: bool) -> Wanted<'_> {
        Wanted {
            git_ref: self.git_ref.as_deref(),
            full_install: self.full_install,
            paused,
        }
    }
}

/// The desired content of one machine's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The machine.
    pub machine: MachineName,
    /// Its role.
    pub role: Role,
    /// The fields that it shares with the others.
    pub common: Arc<Common>,
    /// The generated file, which it shares with all that join through the same machine.
    pub nix: Arc<ClusterNix>,
    /// Secret and fingerprint of its SSH key, if the machine gets it.
    pub ssh_key: Option<(String, String)>,
}

/// The revisions of all targets of one cluster.
#[must_use]
pub fn revisions(targets: &BTreeMap<MachineName, Target>) -> BTreeMap<MachineName, Revision> {
    let mut common: HashMap<*const Lists, FieldDigest> = HashMap::new();
    let revision = |(machine, target): (&MachineName, &Target)| {
        let lists = Arc::as_ptr(&target.nix.lists);
        let digest = common
            .entry(lists)
            .or_insert_with(|| target.common_digest());
        (machine.clone(), target.revision_behind(digest.clone()))
    };
    targets.iter().map(revision).collect()
}

fn or_none(value: Option<&str>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("+{value}"))
}

impl Target {
    /// The digest of all fields whose change makes NIO apply again. It is computed from named fields, so that an upgrade of NICO starts no
    /// rollout.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision_behind(self.common_digest())
    }

    /// The digest of the fields that all machines of a cluster with these lists share.
    fn common_digest(&self) -> FieldDigest {
        let Common {
            nio: _,
            git_repo,
            git_ref,
            pinned_since: _,
            configuration_subdir,
            credentials: _,
            full_install: _,
        } = &*self.common;
        let mut digest = self.nix.digest();
        digest.add("gitRepo", git_repo);
        digest.add("ref", &or_none(git_ref.as_deref()));
        digest.add(
            "configurationSubdir",
            &or_none(configuration_subdir.as_deref()),
        );
        digest
    }

    fn revision_behind(&self, mut digest: FieldDigest) -> Revision {
        let fingerprint = self.ssh_key.as_ref().map(|(_, it)| it.as_str());
        digest.add("flake", &self.flake());
        digest.add("nio", self.nio().name());
        digest.add("credentials", &or_none(self.common.credentials.as_deref()));
        digest.add("sshKey", &or_none(fingerprint));
        Revision::from_digest(&digest.finish())
    }

    /// The configuration to create now.
    #[must_use]
    pub fn claim(&self, cluster: &ClusterView, now: Timestamp) -> Claim {
        let marker = Marker::at_creation(&self.revision(), now.as_second());
        Claim {
            machine: self.machine.clone(),
            role: self.role,
            marker: marker.clone(),
            body: First {
                target: self.clone(),
                cluster: cluster.uid.clone(),
                marker,
                written: now,
            },
        }
    }

    /// The update of an existing configuration. `over_unconfirmed` notes that its last attempt was not confirmed and may still run beside
    /// this one.
    #[must_use]
    pub fn rewrite(&self, member: &Member<'_>, over_unconfirmed: bool, now: Timestamp) -> Rewrite {
        let generation = member.held.metadata.generation.unwrap_or_default();
        // The generation starts again if a configuration is restored from a backup.
        let after_held = member
            .marker()
            .and_then(|held| held.number()?.checked_add(1));
        let marker =
            Marker::at_generation(&self.revision(), generation.max(after_held.unwrap_or(0)));
        let wanted = self.common.wanted(false);
        let mut spec = self.spec(&marker, self.nio().rewritten_fields(member, &wanted));
        for field in ["ref", "configurationSubdir", "credentialsRef"] {
            spec.entry(field).or_insert(Value::Null);
        }
        let older_runs = self.nio().older_attempt_runs_for().is_some();
        let rewritten = if over_unconfirmed && older_runs {
            json!(in_seconds(now).to_string())
        } else {
            Value::Null
        };
        let annotations =
            json!({ WRITTEN_ANNOTATION: now.to_string(), REWRITTEN_ANNOTATION: rewritten });
        Rewrite {
            machine: self.machine.clone(),
            version: member.version(),
            marker,
            body: Body {
                rest: json!({ "metadata": { "annotations": annotations }, "spec": spec }),
                nix: Arc::clone(&self.nix),
            },
        }
    }

    /// NICO's fields in which an existing configuration differs; empty if it is up to date.
    #[must_use]
    pub fn differences(
        &self,
        member: &Member<'_>,
        wanted: Option<&Revision>,
        compared: &mut Compared,
    ) -> Vec<Difference> {
        let held = member.held;
        let Common {
            nio: _,
            git_repo,
            git_ref,
            pinned_since,
            configuration_subdir,
            credentials,
            full_install: _,
        } = &*self.common;
        let text = |field| held.spec.text(field);
        let reference = |field: &str| {
            let value = held.spec.get(field)?;
            value.get("name")?.as_str()
        };
        let mut differences = Vec::new();
        let mut differs = |field: Difference, is: bool| {
            if is {
                differences.push(field);
            }
        };
        differs(Difference::GitRepo, text("gitRepo") != Some(git_repo));
        let held_ref = text("ref");
        let defaulted = git_ref.is_none() && held_ref == Some(DEFAULT_REF);
        // It was written for the ref that the spec still names: only the commit differs.
        let is_pushed = pinned_since.is_some_and(|since| member.written() >= Some(since));
        differs(
            if is_pushed {
                Difference::Commit
            } else {
                Difference::Ref
            },
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
        let flake_of = text("flake").and_then(|flake| flake.strip_prefix('#'));
        differs(Difference::Flake, flake_of != Some(self.machine.as_str()));
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
            self.nio()
                .full_install_differs(held.spec.get("fullInstall")),
        );
        let marker = member.marker();
        differences.extend(self.file_differences(held, marker.as_ref(), compared));
        let revision = marker.map(|marker| marker.revision());
        if differences.is_empty() && revision.as_ref() != wanted {
            differences.push(if self.ssh_key.is_some() {
                Difference::SshKey
            } else {
                Difference::Revision
            });
        }
        differences
    }

    fn flake(&self) -> String {
        format!("#{}", self.machine)
    }

    fn nio(&self) -> &'static dyn Nio {
        nio::for_generation(self.common.nio)
    }

    /// All fields; `own` are those that depend on the generation of NIO.
    fn spec(&self, marker: &Marker, own: Map<String, Value>) -> Map<String, Value> {
        let mut spec = own;
        let mut set = |field: &str, value: Value| spec.insert(field.to_owned(), value);
        set("gitRepo", json!(self.common.git_repo));
        set("flake", json!(self.flake()));
        set("onRemoveFlake", json!(ON_REMOVE_FLAKE));
        set("machineRef", json!({ "name": self.machine }));
        set("additionalFiles", Value::Array(self.files(marker)));
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
}

/// The body of a first configuration. It is rendered only when it is written: a plan may claim 1,100 machines at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct First {
    pub(super) target: Target,
    /// Uid of the cluster.
    cluster: String,
    marker: Marker,
    written: Timestamp,
}

impl First {
    /// The complete JSON.
    #[must_use]
    pub fn render(&self) -> Value {
        let Target {
            machine,
            role,
            common,
            nix,
            ssh_key: _,
        } = &self.target;
        let mut labels = labels(&nix.name);
        labels.insert(ROLE_LABEL.to_owned(), role.as_str().to_owned());
        let own = self.target.nio().first_fields(common.full_install);
        let rest = json!({
            "apiVersion": "nio.homystack.com/v1alpha1",
            "kind": "NixosConfiguration",
            "metadata": {
                "name": machine,
                "namespace": nix.namespace,
                "labels": labels,
                "annotations": { WRITTEN_ANNOTATION: self.written.to_string() },
                "ownerReferences": [owner(&nix.name, &self.cluster)],
            },
            "spec": self.target.spec(&self.marker, own),
        });
        with_text(rest, nix)
    }
}

/// The flake's output that NIO applies to a machine that is released. That of a machine has the machine's name.
pub const ON_REMOVE_FLAKE: &str = "#minimal";

/// The controller owner reference of every child.
#[must_use]
pub fn owner_reference(cluster: &ClusterView) -> Value {
    owner(&cluster.name, &cluster.uid)
}

fn owner(name: &str, uid: &str) -> Value {
    json!({
        "apiVersion": format!("{GROUP}/v1alpha1"),
        "kind": "KubernetesCluster",
        "name": name,
        "uid": uid,
        "controller": true,
        "blockOwnerDeletion": false,
    })
}

/// The only owner reference of a child that was restored from an earlier cluster of this name.
#[must_use]
pub fn restored_metadata(cluster: &ClusterView) -> Value {
    json!({ "ownerReferences": [owner_reference(cluster)] })
}

/// The desired owner references and labels of a member, if some of them are missing. The list is complete: those that were read, and
/// NICO's.
#[must_use]
pub fn lost_metadata(cluster: &ClusterView, member: &Member<'_>) -> Option<Value> {
    let role = member.role().as_str();
    let meta = &member.held.metadata;
    let owned = member.controlled;
    if owned && bears_labels(meta, &cluster.name) && bears_label(meta, ROLE_LABEL, role) {
        return None;
    }
    let mut wanted = labels(&cluster.name);
    wanted.insert(ROLE_LABEL.to_owned(), role.to_owned());
    let mut owners: Vec<Value> = meta
        .owner_references
        .iter()
        .flatten()
        // A reference to the same cluster that is not the controller would occur twice.
        .filter(|owner| owned || owner.uid != cluster.uid)
        .filter_map(|owner| serde_json::to_value(owner).ok())
        .collect();
    if !owned {
        owners.push(owner_reference(cluster));
    }
    Some(json!({ "ownerReferences": owners, "labels": wanted }))
}
