//! The additional files of a configuration, and how existing ones differ.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{Difference, Target};
use crate::api::files::{File, Text};
use crate::api::names::{Marker, join_token_name, worker_token_name};
use crate::api::nio::{NixosConfiguration, SSH_KEY};
use crate::api::status::Role;
use crate::plan::cluster_nix::{CLUSTER_NIX, ClusterNix, Lists};
use crate::plan::nio;
use crate::plan::observed::{MACHINE_SSH_KEY, WORKER_TOKEN};

/// Key of a token Secret.
pub const TOKEN_KEY: &str = "token";

const JOIN_TOKEN: &str = "join-token";
const INLINE: &str = "Inline";
const SECRET_REF: &str = "SecretRef";

/// A desired file: a key of a Secret, or inline.
struct Wanted<'a> {
    path: Cow<'a, str>,
    secret: Option<(Cow<'a, str>, &'static str)>,
}

impl Wanted<'_> {
    fn value_type(&self) -> &'static str {
        match self.secret {
            Some(_) => SECRET_REF,
            None => INLINE,
        }
    }

    fn is(&self, held: &File) -> bool {
        let secret = self.secret.as_ref();
        held.path() == Some(&*self.path)
            && is_of_type(held, self.value_type())
            && match (held.secret(), secret) {
                (Some(held), Some((name, _))) => held.as_str() == Some(name),
                (held, wanted) => held.is_none() && wanted.is_none(),
            }
    }

    /// The entry in the list, without the text of an inline file.
    fn render(&self) -> Value {
        let (path, kind) = (&self.path, self.value_type());
        match &self.secret {
            Some((name, key)) => {
                json!({ "path": path, "valueType": kind, "secretRef": { "name": name, "key": key } })
            }
            None => json!({ "path": path, "valueType": kind, "inline": "" }),
        }
    }
}

fn is_of_type(file: &File, value_type: &str) -> bool {
    file.get("valueType").and_then(Value::as_str) == Some(value_type)
}

impl Target {
    /// The additional files. Their order never changes. cluster.nix is the first, without its text.
    pub(super) fn files(&self, marker: &Marker) -> Vec<Value> {
        let path = marker.path();
        let marker = Wanted {
            path: self.path(&path),
            secret: None,
        };
        let all = self.files_before_marker().into_iter().chain([marker]);
        all.map(|file| file.render()).collect()
    }

    fn files_before_marker(&self) -> Vec<Wanted<'_>> {
        let secret = |path, name, key| Wanted {
            path: self.path(path),
            secret: Some((name, key)),
        };
        let own_token = match self.role {
            Role::ControlPlane => join_token_name(&self.nix.name),
            Role::Worker => worker_token_name(&self.nix.name),
        };
        let cluster_nix = Wanted {
            path: self.path(CLUSTER_NIX),
            secret: None,
        };
        let own_token = secret(JOIN_TOKEN, own_token.into(), TOKEN_KEY);
        let mut files = vec![cluster_nix, own_token];
        if let Some((name, _)) = &self.ssh_key {
            files.push(secret(MACHINE_SSH_KEY, name.into(), SSH_KEY));
        }
        if self.role == Role::ControlPlane {
            let worker_token = worker_token_name(&self.nix.name);
            files.push(secret(WORKER_TOKEN, worker_token.into(), TOKEN_KEY));
        }
        files
    }

    /// The path with which NIO writes a file beside the flake.
    fn path<'a>(&self, file: &'a str) -> Cow<'a, str> {
        let subdir = self.common.configuration_subdir.as_deref();
        nio::for_generation(self.common.nio).path(subdir, file)
    }

    /// The differences of the files. cluster.nix is compared by its values, and a marker by its revision.
    pub(super) fn file_differences(
        &self,
        held: &NixosConfiguration,
        marker: Option<&Marker>,
        compared: &mut Compared,
    ) -> Vec<Difference> {
        let files = held.spec.files();
        let path = self.path(CLUSTER_NIX);
        let mut texts = files.iter().filter(|file| file.path() == Some(&*path));
        let mut differences = match texts.next().and_then(File::inline) {
            Some(text) => compared.with(&self.nix, text),
            None => vec![Difference::ClusterNix],
        };
        let Some((last, others)) = files.split_last().filter(|_| marker.is_some()) else {
            differences.push(Difference::MarkerFile);
            return differences;
        };
        let wanted = self.files_before_marker();
        let same = wanted.len() == others.len()
            && wanted.iter().zip(others).all(|(file, held)| file.is(held))
            && is_of_type(last, INLINE)
            && last.secret().is_none()
            && last.inline().is_none_or(|text| text.as_str().is_empty());
        if !same {
            differences.push(Difference::AdditionalFiles);
        }
        differences
    }
}

/// The texts that were already compared with the desired values of one cluster: most of its configurations share the same text.
#[derive(Debug, Default)]
pub struct Compared(HashMap<(*const Lists, *const Text), Vec<Difference>>);

impl Compared {
    /// The differences of a cluster.nix, except for `bootstrap` and `join`. Text and values live at least as long as this cache, so their
    /// addresses identify them.
    fn with(&mut self, wanted: &ClusterNix, held: &Arc<Text>) -> Vec<Difference> {
        let key = (Arc::as_ptr(&wanted.lists), Arc::as_ptr(held));
        let compare = || match held.values() {
            Some(held) => {
                let lists = |role| wanted.lists_the_same(role, held);
                [
                    (Difference::ClusterName, wanted.name == held.name),
                    (Difference::ClusterId, wanted.id == held.id),
                    (Difference::Endpoint, wanted.leads_to_the_same(held)),
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
        self.0.entry(key).or_insert_with(compare).clone()
    }
}
