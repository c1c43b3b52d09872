//! The objects that v1 creates for a configuration. A Job's pod template contains the paths of the additional files in the script of its
//! container `inject-files`. Their content is in Secrets, and in a `ConfigMap` that is overwritten in place.

use std::collections::BTreeMap;
use std::fmt::Write;

use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::nio::hash::hex;

/// The API version of NIO's kinds.
pub(super) const NIO: &str = "nio.homystack.com/v1alpha1";

/// The kind of a configuration's child.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Install,
    DayTwo,
    Remove,
}

impl Kind {
    /// The name of the `NixCronJob` or `NixJob`.
    pub(super) fn child(self, configuration: &str) -> String {
        let end = match self {
            Self::Install => "install",
            Self::DayTwo => "day2",
            Self::Remove => "onremove",
        };
        format!("{configuration}-{end}")
    }

    fn workload(self) -> &'static str {
        match self {
            Self::DayTwo => "NixCronJob",
            Self::Install | Self::Remove => "NixJob",
        }
    }
}

/// The source of an additional file's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A key of the `ConfigMap`.
    Inline(String),
    /// A Secret and its key.
    Secret(String, String),
}

/// The specification of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template {
    pub(super) kind: Kind,
    pub(super) configuration: String,
    pub(super) machine: String,
    pub(super) git_repo: String,
    pub(super) flake: String,
    pub(super) files: Vec<(String, Source)>,
    /// The `ConfigMap`'s content.
    pub(super) inline: BTreeMap<String, String>,
    revision: String,
    key_secret: String,
    run: &'static str,
    args: Vec<String>,
    source: Value,
    nix_files: Vec<Value>,
}

impl Template {
    /// The template for the current spec of a configuration; an error if v1 cannot create a child for it.
    pub(super) fn new(
        kind: Kind,
        configuration: &DynamicObject,
        machine: &DynamicObject,
        revision: &str,
    ) -> Result<Self, String> {
        let spec = &configuration.data["spec"];
        let text = |field: &str| spec[field].as_str().unwrap_or_default().to_owned();
        let name = machine.name_any();
        let Some(key_secret) = machine.data["spec"]["sshKeySecretRef"]["name"].as_str() else {
            return Err(format!(
                "machine {name:?} has no sshKeySecretRef; cannot apply over SSH"
            ));
        };
        let user = machine.data["spec"]["sshUser"].as_str().unwrap_or("root");
        let host = machine.data["spec"]["host"].as_str().unwrap_or_default();
        let target = format!("{user}@{host}");
        let flake = text(if kind == Kind::Remove {
            "onRemoveFlake"
        } else {
            "flake"
        });
        let installable = format!(".{flake}");
        let (run, args) = match kind {
            Kind::Install => (
                "github:nix-community/nixos-anywhere",
                vec!["--flake".to_owned(), installable, target],
            ),
            Kind::DayTwo | Kind::Remove => {
                let words = ["switch", "--flake", &installable, "--target-host", &target];
                ("nixpkgs#nixos-rebuild", words.map(str::to_owned).to_vec())
            }
        };
        let mut this = Self {
            kind,
            configuration: configuration.name_any(),
            machine: name,
            git_repo: text("gitRepo"),
            flake,
            files: vec![],
            inline: BTreeMap::new(),
            revision: revision.to_owned(),
            key_secret: key_secret.to_owned(),
            run,
            args,
            source: json!({"gitRepo": text("gitRepo"), "ref": text("ref"), "dir": text("configurationSubdir")}),
            nix_files: vec![],
        };
        for file in spec["additionalFiles"].as_array().into_iter().flatten() {
            this.add(file)?;
        }
        Ok(this)
    }

    fn add(&mut self, file: &Value) -> Result<(), String> {
        let path = file["path"].as_str().unwrap_or_default();
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
        let escapes = path.starts_with('/') || path.split('/').any(|part| part == "..");
        if path.is_empty() || escapes || !path.chars().all(allowed) {
            return Err(format!("additionalFile path {path:?} is not supported"));
        }
        let source = match file["valueType"].as_str().unwrap_or_default() {
            "Inline" => {
                let key = format!("file-{}", self.files.len());
                let content = file["inline"].as_str().unwrap_or_default();
                self.inline.insert(key.clone(), content.to_owned());
                self.nix_files
                    .push(json!({"path": path, "inline": content}));
                Source::Inline(key)
            }
            "SecretRef" => {
                let of = |field: &str| {
                    let found = file["secretRef"][field].as_str();
                    found.unwrap_or_default().to_owned()
                };
                self.nix_files
                    .push(json!({"path": path, "secretRef": file["secretRef"]}));
                Source::Secret(of("name"), of("key"))
            }
            other => {
                return Err(format!(
                    "additionalFile {path:?}: valueType {other:?} is not supported"
                ));
            }
        };
        self.files.push((path.to_owned(), source));
        Ok(())
    }

    /// The name of the `NixCronJob` or `NixJob`.
    pub(super) fn child(&self) -> String {
        self.kind.child(&self.configuration)
    }

    /// The name of the `ConfigMap` with the inline files.
    pub(super) fn config_map(&self) -> String {
        format!("{}-nixfiles", self.child())
    }

    /// `r-` and a hash of commit, command and arguments, without the files.
    pub(super) fn composite_revision(&self) -> String {
        let mut hash = Sha256::new();
        let fields = [self.revision.as_str(), self.run].into_iter();
        for field in fields.chain(self.args.iter().map(String::as_str)) {
            hash.update(format!("{}:{field}", field.len()));
        }
        format!("r-{}", &hex(&hash.finalize())[..12])
    }

    fn nix(&self) -> Value {
        json!({"source": self.source, "run": self.run, "args": self.args, "additionalFiles": self.nix_files})
    }

    pub(super) fn nix_cron_job_spec(&self, schedule: &str, suspend: bool) -> Value {
        let mut nix = self.nix();
        nix["triggerOnChange"] = json!(true);
        nix["suspend"] = json!(suspend);
        json!({"nix": nix, "cronJobTemplate": {"schedule": schedule, "concurrencyPolicy": "Forbid"}})
    }

    pub(super) fn nix_job_spec(&self) -> Value {
        json!({ "nix": self.nix() })
    }

    pub(super) fn cron_job_spec(&self, schedule: &str) -> Value {
        json!({"schedule": schedule, "concurrencyPolicy": "Forbid", "jobTemplate": {"spec": self.job_spec()}})
    }

    pub(super) fn job_spec(&self) -> Value {
        let revision = self.composite_revision();
        let mut labels = self.labels();
        labels["nio.homystack.com/revision"] = json!(revision);
        let (injection, volumes) = self.injection();
        let image = "nixos/nix:latest";
        let workspace = json!({"name": "workspace", "mountPath": "/workspace"});
        let mut containers = vec![
            json!({"name": "bootstrap", "image": image, "command": ["sh", "-c", "cp --archive /nix/. /nix-vol/"]}),
            json!({"name": "fetch-source", "image": image, "command": ["sh", "-c", "git fetch --depth 1 origin \"$NIO_REVISION\""],
                "env": [{"name": "NIO_REVISION", "value": self.revision}, {"name": "NIO_GIT_REPO", "value": self.git_repo}],
                "volumeMounts": [workspace]}),
        ];
        containers.extend(injection);
        containers.push(
            json!({"name": "instantiate", "image": image, "command": ["nix", "build", self.run],
            "volumeMounts": [workspace]}),
        );
        let mut command = vec!["nix", "run", self.run, "--"];
        command.extend(self.args.iter().map(String::as_str));
        let app =
            json!({"name": "app", "image": image, "command": command, "volumeMounts": [workspace]});
        let mut all = vec![
            json!({"name": "workspace", "emptyDir": {}}),
            json!({"name": "nio-target-ssh", "secret": {"secretName": self.key_secret}}),
        ];
        all.extend(volumes);
        json!({"template": {
            "metadata": {"labels": labels, "annotations": {"nio.homystack.com/revision": revision}},
            "spec": {"restartPolicy": "Never", "initContainers": containers, "containers": [app], "volumes": all}}})
    }

    pub(super) fn labels(&self) -> Value {
        json!({"app.kubernetes.io/managed-by": "nio", "nio.homystack.com/workload-kind": self.kind.workload(),
            "nio.homystack.com/workload-name": self.child()})
    }

    /// The container that writes the additional files, and its mounts; none without files.
    fn injection(&self) -> (Option<Value>, Vec<Value>) {
        if self.files.is_empty() {
            return (None, vec![]);
        }
        let mut mounted: Vec<(bool, String)> = vec![];
        let mut script = "set -eu\ncd /workspace\n".to_owned();
        let mut staged = "git add --force --".to_owned();
        for (path, source) in &self.files {
            let (place, key) = match source {
                Source::Inline(key) => ((false, self.config_map()), key),
                Source::Secret(name, key) => ((true, name.clone()), key),
            };
            let known = mounted.iter().position(|mount| *mount == place);
            let index = known.unwrap_or_else(|| {
                mounted.push(place);
                mounted.len() - 1
            });
            let _ = writeln!(script, "mkdir -p \"$(dirname \"{path}\")\"");
            let _ = writeln!(script, "cp \"/etc/nio/files/{index}/{key}\" \"{path}\"");
            let _ = write!(staged, " \"{path}\"");
        }
        script += &staged;
        script.push('\n');
        let mounts = (0..mounted.len()).map(|index| {
            json!({"name": format!("nio-file-{index}"), "mountPath": format!("/etc/nio/files/{index}"), "readOnly": true})
        });
        let container = json!({"name": "inject-files", "image": "nixos/nix:latest", "volumeMounts": mounts.collect::<Vec<_>>(),
            "command": ["nix", "shell", "nixpkgs#gitMinimal", "--command", "sh", "-c", script]});
        let volumes = mounted.iter().enumerate().map(|(index, (secret, name))| {
            let name_of = format!("nio-file-{index}");
            if *secret {
                json!({"name": name_of, "secret": {"secretName": name}})
            } else {
                json!({"name": name_of, "configMap": {"name": name}})
            }
        });
        (Some(container), volumes.collect())
    }
}

/// A reference to a controller.
pub(super) fn owner(api_version: &str, kind: &str, name: &str, uid: &str) -> Value {
    json!([{"apiVersion": api_version, "kind": kind, "name": name, "uid": uid, "controller": true,
        "blockOwnerDeletion": true}])
}
