//! What configurations say, each kept once: the spec as the API server stores it, but for the number in its marker.

use std::collections::HashMap;

use nico::api::names::{Marker, Revision};
use nico::api::nio::Generation;
use nico::plan::cluster_nix;
use serde_json::{Map, Value, json};

use crate::compact::Attempt;

/// The text of a configuration.
#[derive(Clone, Debug)]
pub struct Text {
    /// The spec as stored, with the marker that it came with.
    spec: Map<String, Value>,
    pub revision: Revision,
    /// `gitRepo`, by which the judge tells the specs apart.
    pub repository: String,
    /// Whether it names a machine that is to found the cluster.
    pub bootstrap: bool,
    /// `machineRef`.
    pub machine: String,
}

/// All texts that came up.
#[derive(Debug, Default)]
pub struct Texts {
    all: Vec<Text>,
    by_content: HashMap<String, u16>,
    /// NIO is v1.
    by_jobs: bool,
}

impl Texts {
    pub fn of(nio: Generation) -> Self {
        Self {
            by_jobs: nio == Generation::V1,
            ..Self::default()
        }
    }

    pub fn get(&self, text: u16) -> &Text {
        &self.all[usize::from(text)]
    }

    /// The text of a spec as NICO sent it, and the marker in it.
    pub fn keep(&mut self, mut spec: Map<String, Value>) -> (u16, Marker) {
        if self.by_jobs {
            // It says when a Job starts, which may be at any time here.
            spec.remove("dayTwoSchedule");
        } else {
            as_stored(&mut spec);
        }
        let marker = marker_of(&spec);
        let revision = marker.revision();
        set_marker(&mut spec, &Marker::at_generation(&revision, 0));
        let content = Value::Object(spec.clone()).to_string();
        let next = u16::try_from(self.all.len()).unwrap();
        let known = *self.by_content.entry(content).or_insert(next);
        if known == next {
            let nix = spec["additionalFiles"][0]["inline"].as_str();
            let values = cluster_nix::parse(nix.unwrap()).expect("NICO reads what it writes");
            self.all.push(Text {
                revision,
                repository: spec["gitRepo"].as_str().unwrap().to_owned(),
                bootstrap: values.bootstrap.is_some(),
                machine: spec["machineRef"]["name"].as_str().unwrap().to_owned(),
                spec,
            });
        }
        (known, marker)
    }

    /// The marker of an attempt. Numbers count from one.
    pub fn marker(&self, attempt: Attempt) -> Marker {
        let number = i64::from(attempt.number) + 1;
        Marker::at_generation(&self.get(attempt.text).revision, number)
    }

    /// The spec of an attempt as stored.
    pub fn spec(&self, attempt: Attempt) -> Map<String, Value> {
        let mut spec = self.get(attempt.text).spec.clone();
        set_marker(&mut spec, &self.marker(attempt));
        spec
    }
}

fn last_path(spec: &mut Map<String, Value>) -> &mut Value {
    let files = spec["additionalFiles"].as_array_mut().unwrap();
    &mut files.last_mut().unwrap()["path"]
}

fn marker_of(spec: &Map<String, Value>) -> Marker {
    let files = spec["additionalFiles"].as_array().unwrap();
    let path = files.last().unwrap()["path"].as_str().unwrap();
    Marker::from_path(path).expect("the last file is the marker")
}

fn set_marker(spec: &mut Map<String, Value>, marker: &Marker) {
    *last_path(spec) = json!(marker.path());
}

/// What classic's schema makes of a spec: `ref` is filled in, `secretRef.key` pruned, null is absent.
fn as_stored(spec: &mut Map<String, Value>) {
    spec.retain(|_, value| !value.is_null());
    spec.entry("ref").or_insert_with(|| json!("main"));
    for file in spec["additionalFiles"].as_array_mut().unwrap() {
        if let Some(secret) = file.get_mut("secretRef").and_then(Value::as_object_mut) {
            secret.remove("key");
        }
    }
}
