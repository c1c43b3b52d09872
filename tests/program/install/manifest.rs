//! How the Deployment runs NICO, as the API server stores it.

use rig::control_plane::ControlPlane;
use serde_json::Value;

use super::kubectl;

/// The Deployment as the API server has it.
pub(super) struct Manifest(Value);

impl Manifest {
    pub(super) fn read(control_plane: &ControlPlane) -> Self {
        let words = "-n nico-system get deployment nico -o json".split(' ');
        let deployment = kubectl(control_plane, &words.collect::<Vec<_>>());
        let manifest = Self(serde_json::from_str(&deployment).unwrap());
        // Nothing that is not imitated.
        for absent in ["command", "volumeMounts", "envFrom", "workingDir"] {
            assert_eq!(manifest.container()[absent], Value::Null, "{absent}");
        }
        assert_eq!(manifest.pod()["volumes"], Value::Null);
        manifest
    }

    pub(super) fn pod(&self) -> &Value {
        &self.0["spec"]["template"]["spec"]
    }

    pub(super) fn container(&self) -> &Value {
        &self.pod()["containers"][0]
    }

    /// The user and its group.
    pub(super) fn user(&self) -> (u32, u32) {
        let context = &self.pod()["securityContext"];
        let id = |field: &str| u32::try_from(context[field].as_u64().unwrap()).unwrap();
        (id("runAsUser"), id("runAsGroup"))
    }

    /// The words of the command line: the image's entrypoint, and the manifest's arguments.
    pub(super) fn line(&self) -> Vec<String> {
        let image = include_str!("../../../Dockerfile").lines();
        let mut entrypoints = image.filter_map(|line| line.strip_prefix("ENTRYPOINT "));
        let entrypoint = entrypoints.next_back().unwrap();
        let mut line: Vec<String> = serde_json::from_str(entrypoint).unwrap();
        let arguments: Vec<String> =
            serde_json::from_value(self.container()["args"].clone()).unwrap();
        line.extend(arguments);
        line
    }

    pub(super) fn variables(&self) -> Vec<(String, String)> {
        let variables = self.container()["env"].as_array().unwrap().iter();
        let text = |value: &Value| value.as_str().expect("a plain variable").to_owned();
        variables
            .map(|it| {
                (
                    text(&it["name"]),
                    it.get("value").map(text).unwrap_or_default(),
                )
            })
            .collect()
    }

    /// Path of a probe; its port is the one at which NICO listens where nothing else is said.
    pub(super) fn probe(&self, name: &str, listens: u64) -> &str {
        let get = &self.container()[name]["httpGet"];
        let ports = self.container()["ports"].as_array().unwrap();
        let port = ports.iter().find(|port| port["name"] == get["port"]);
        assert_eq!(port.unwrap()["containerPort"], listens, "{name}");
        get["path"].as_str().unwrap()
    }
}
