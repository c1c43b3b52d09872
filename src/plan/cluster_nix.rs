//! cluster.nix: the attribute set that describes the cluster to a flake.
//!
//! It is JSON in Nix, so that Nix reads every string in it as data. It is compared by its values, not its text.

#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};

use crate::api::cluster_nix::{CLOSING, ESCAPED, ListDigests, OPENING};
pub use crate::api::cluster_nix::{CLUSTER_NIX, NixNode, Values, parse};
use crate::api::digest::FieldDigest;
use crate::api::names::ClusterId;
use crate::api::nio::NixosConfiguration;
use crate::api::spec::Endpoint;
use crate::api::status::Role;

/// Both lists of a cluster.nix. The files of one plan share them, and their digest is computed once.
#[derive(Debug, Default)]
pub struct Lists {
    control_plane: Vec<NixNode>,
    workers: Vec<NixNode>,
    digested: OnceLock<([(&'static str, String); 3], FieldDigest)>,
    rendered: OnceLock<String>,
    list_digests: OnceLock<ListDigests>,
}

impl Lists {
    /// Creates both lists from machines in any order.
    #[must_use]
    pub fn new(control_plane: &[NixNode], workers: &[NixNode]) -> Self {
        Self {
            control_plane: in_name_order(control_plane),
            workers: in_name_order(workers),
            digested: OnceLock::new(),
            rendered: OnceLock::new(),
            list_digests: OnceLock::new(),
        }
    }

    /// What both lists are compared by with those that are not kept whole.
    fn list_digests(&self) -> &ListDigests {
        self.list_digests
            .get_or_init(|| ListDigests::of(&self.control_plane, &self.workers))
    }

    /// Both lists as text.
    fn rendered(&self) -> &str {
        let lines = |nodes: &[NixNode]| {
            let lines: Vec<String> = nodes.iter().map(node_line).collect();
            if lines.is_empty() {
                "[]".to_owned()
            } else {
                format!("[\n      {}\n    ]", lines.join(",\n      "))
            }
        };
        self.rendered.get_or_init(|| {
            format!(
                "    \"controlPlane\": {},\n    \"workers\": {}\n",
                lines(&self.control_plane),
                lines(&self.workers)
            )
        })
    }

    /// The list of a role, in name order.
    #[must_use]
    pub fn for_role(&self, role: Role) -> &[NixNode] {
        match role {
            Role::ControlPlane => &self.control_plane,
            Role::Worker => &self.workers,
        }
    }

    /// The digest of both lists after the other fields, which are the same for all files of a plan.
    fn digest(&self, head: [(&'static str, String); 3]) -> FieldDigest {
        let compute = |head: &[(&'static str, String)]| {
            let mut digest = FieldDigest::default();
            for (name, value) in head.iter().chain(&self.revision_fields()) {
                digest.add(name, value);
            }
            digest
        };
        match self.digested.get() {
            Some((of, digest)) if *of == head => digest.clone(),
            Some(_) => compute(&head),
            None => {
                let digest = compute(&head);
                // Another thread may have stored the same value first.
                let _ = self.digested.set((head, digest.clone()));
                digest
            }
        }
    }

    fn revision_fields(&self) -> [(&'static str, String); 2] {
        let json = |nodes: &[NixNode]| -> Value {
            let nodes = nodes.iter();
            nodes
                .map(|NixNode { name, ip }| json!([name, ip]))
                .collect()
        };
        [
            (
                "cluster.controlPlane",
                json(&self.control_plane).to_string(),
            ),
            ("cluster.workers", json(&self.workers).to_string()),
        ]
    }
}

impl PartialEq for Lists {
    fn eq(&self, other: &Self) -> bool {
        (&self.control_plane, &self.workers) == (&other.control_plane, &other.workers)
    }
}

impl Eq for Lists {}

/// The content of a cluster.nix to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterNix {
    /// Namespace of the cluster; in the header only.
    pub namespace: String,
    /// Name of the cluster.
    pub name: String,
    /// Id of this founding.
    pub id: ClusterId,
    /// The machine that founds the cluster; absent once it is founded.
    pub bootstrap: Option<String>,
    /// The machine to join through; absent if there is none.
    pub join: Option<NixNode>,
    /// The address in front of the control plane; absent if the spec sets none.
    pub endpoint: Option<Endpoint>,
    /// The control plane and the workers.
    pub lists: Arc<Lists>,
}

impl ClusterNix {
    /// The values of the rendered text: nodes in name order, each string as Nix can represent it.
    #[must_use]
    pub fn values(&self) -> Values {
        Values {
            name: carried(&self.name),
            id: self.id.clone(),
            bootstrap: self.bootstrap.as_deref().map(carried),
            join: self.join.as_ref().map(carried_node),
            endpoint: self.carried_endpoint(),
            control_plane: self.lists.control_plane.clone(),
            workers: self.lists.workers.clone(),
            digests: None,
        }
    }

    /// Whether a list of an existing file is the same.
    #[must_use]
    pub fn lists_the_same(&self, role: Role, held: &Values) -> bool {
        if let Some(held) = &held.digests {
            let own = self.lists.list_digests();
            return match role {
                Role::ControlPlane => own.control_plane == held.control_plane,
                Role::Worker => own.workers == held.workers,
            };
        }
        let held = match role {
            Role::ControlPlane => &held.control_plane,
            Role::Worker => &held.workers,
        };
        self.lists.for_role(role) == held
    }

    /// Whether the endpoint of an existing file is the same.
    #[must_use]
    pub fn leads_to_the_same(&self, held: &Values) -> bool {
        self.carried_endpoint() == held.endpoint
    }

    fn carried_endpoint(&self) -> Option<Endpoint> {
        self.endpoint.as_ref().map(|endpoint| Endpoint {
            host: carried(&endpoint.host),
            port: endpoint.port,
        })
    }

    /// The text of the file, with one line per machine.
    #[must_use]
    pub fn render(&self) -> String {
        let or_null = |value: Option<String>| value.unwrap_or_else(|| "null".to_owned());
        let bootstrap = self.bootstrap.as_deref().map(quoted);
        let join = self.join.as_ref().map(node_line);
        let endpoint = self.endpoint.as_ref().map(|Endpoint { host, port }| {
            format!("{{ \"host\": {}, \"port\": {port} }}", quoted(host))
        });
        format!(
            "# Generated by NICO for KubernetesCluster {}/{}. Do not edit.\n{OPENING}  {{\n    \
             \"name\": {},\n    \"id\": {},\n    \"bootstrap\": {},\n    \"join\": {},\n    \"endpoint\": {},\n\
             {}  }}\n{CLOSING}",
            in_comment(&self.namespace),
            in_comment(&self.name),
            quoted(&self.name),
            quoted(self.id.as_str()),
            or_null(bootstrap),
            or_null(join),
            or_null(endpoint),
            self.lists.rendered(),
        )
    }

    /// The fields that make NIO apply again when they change: all but `bootstrap` and `join`, and not the header.
    ///
    /// Each value is JSON, which is unambiguous. A new release of NICO must not change it, or it starts a rollout in every cluster.
    #[must_use]
    pub fn revision_fields(&self) -> Vec<(&'static str, String)> {
        let lists = self.lists.revision_fields();
        self.revision_head().into_iter().chain(lists).collect()
    }

    /// The digest of these fields. The caller adds others.
    #[must_use]
    pub fn digest(&self) -> FieldDigest {
        self.lists.digest(self.revision_head())
    }

    fn revision_head(&self) -> [(&'static str, String); 3] {
        let endpoint = self.carried_endpoint();
        let endpoint = endpoint.map(|Endpoint { host, port }| json!([host, port]));
        [
            ("cluster.name", json!(carried(&self.name))),
            ("cluster.id", json!(self.id.as_str())),
            ("cluster.endpoint", endpoint.unwrap_or_default()),
        ]
        .map(|(field, value)| (field, value.to_string()))
    }
}

/// The values of the cluster.nix in a configuration.
#[must_use]
pub fn held_values(configuration: &NixosConfiguration) -> Option<&Values> {
    configuration.spec.file(CLUSTER_NIX)?.inline()?.values()
}

/// The string as Nix can represent it: a Nix string cannot contain NUL, so the replacement character is written instead.
fn carried(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// A text as JSON without anything that Nix would interpret.
fn quoted(text: &str) -> String {
    // A text can always be written as JSON.
    let json = serde_json::to_string(&carried(text)).unwrap_or_default();
    ESCAPED.iter().fold(json, |json, (character, escape)| {
        json.replace(*character, escape)
    })
}

fn node_line(NixNode { name, ip }: &NixNode) -> String {
    format!("{{ \"name\": {}, \"ip\": {} }}", quoted(name), quoted(ip))
}

fn carried_node(node: &NixNode) -> NixNode {
    NixNode {
        name: carried(&node.name),
        ip: carried(&node.ip),
    }
}

fn in_name_order(nodes: &[NixNode]) -> Vec<NixNode> {
    let mut nodes: Vec<NixNode> = nodes.iter().map(carried_node).collect();
    nodes.sort();
    nodes
}

/// A name in a comment, where nothing can be escaped: characters that no Kubernetes name contains become `?`.
fn in_comment(name: &str) -> String {
    name.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || ".-".contains(c) {
                c
            } else {
                '?'
            }
        })
        .collect()
}
