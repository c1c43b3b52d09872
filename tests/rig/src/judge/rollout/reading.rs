//! Interprets NICO's writes that matter for rollouts.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::nio::{KOPF_FINALIZER, V1_FINALIZER};
use crate::proxy::Call;

/// The content of a cluster's ledger.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    pub(super) founded: bool,
    /// The machines with an active entry in its last write.
    pub(super) active: BTreeSet<String>,
}

/// A write that took effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Ledger {
        cluster: String,
        data: Value,
    },
    LedgerGone {
        cluster: String,
    },
    /// NICO knows that the cluster is being deleted.
    Deleting {
        cluster: String,
    },
    /// A configuration was written with files.
    Written {
        machine: String,
        cluster: String,
        control_plane: bool,
        marker: String,
        made: bool,
    },
    Confirmed {
        machine: String,
        marker: String,
    },
    Deleted {
        machine: String,
    },
    /// NICO removed NIO's finalizer (`force-release`).
    Released {
        machine: String,
    },
}

/// The effect of a call; `None` if it was refused, or is none of these.
pub(super) fn effect(call: &Call) -> Option<Effect> {
    if !call.code.is_some_and(|code| (200..300).contains(&code)) {
        return None;
    }
    let name = call.object_name().to_owned();
    let body = call.body.as_ref().unwrap_or(&Value::Null);
    let deleted = call.verb == "delete";
    match (call.resource.as_str(), call.subresource.as_str()) {
        ("configmaps", "") => {
            let cluster = name.strip_suffix("-nico")?.to_owned();
            Some(if deleted {
                Effect::LedgerGone { cluster }
            } else {
                let data = body["data"].clone();
                Effect::Ledger { cluster, data }
            })
        }
        ("kubernetesclusters", "status") => {
            (body["status"]["phase"] == "Deleting").then_some(Effect::Deleting { cluster: name })
        }
        ("nixosconfigurations", "") if deleted => Some(Effect::Deleted { machine: name }),
        ("nixosconfigurations", "") => configuration(call, name, body),
        _ => None,
    }
}

fn configuration(call: &Call, machine: String, body: &Value) -> Option<Effect> {
    let metadata = &body["metadata"];
    if let Some(files) = body["spec"]["additionalFiles"].as_array() {
        let marker = marker(files.last()?["path"].as_str()?)?;
        let inline = files.iter().find(|file| is_cluster_nix(file));
        let cluster = crate::nix::parse(inline?["inline"].as_str()?).ok()?;
        let mut members = cluster["controlPlane"].as_array().into_iter().flatten();
        return Some(Effect::Written {
            control_plane: members.any(|member| member["name"] == *machine),
            cluster: cluster["name"].as_str()?.to_owned(),
            marker: marker.to_owned(),
            made: call.verb == "create",
            machine,
        });
    }
    let confirmed = metadata["annotations"]["nico.homystack.com/confirmed"].as_str();
    if let Some(marker) = confirmed {
        let marker = marker.to_owned();
        return Some(Effect::Confirmed { machine, marker });
    }
    let finalizers = metadata["finalizers"].as_array()?;
    let nio = |finalizer: &Value| *finalizer == KOPF_FINALIZER || *finalizer == V1_FINALIZER;
    let released = !finalizers.iter().any(nio);
    released.then_some(Effect::Released { machine })
}

/// The marker in the path of a configuration's last file; v1's paths begin with its `configurationSubdir`.
pub(in crate::judge) fn marker(path: &str) -> Option<&str> {
    match path.split_once(".nico/")? {
        ("", marker) => Some(marker),
        (subdir, marker) => subdir.ends_with('/').then_some(marker),
    }
}

/// Whether an additional file is cluster.nix, in any directory.
pub(in crate::judge) fn is_cluster_nix(file: &Value) -> bool {
    let path = file["path"].as_str().unwrap_or_default();
    path.rsplit('/').next() == Some("cluster.nix")
}

/// The machines with an active entry in the slot of a ledger's data.
pub(super) fn active(data: &Value) -> BTreeSet<String> {
    let slot: Value = data["slot"]
        .as_str()
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    let entries = slot["entries"].as_array().into_iter().flatten();
    entries
        .filter(|entry| entry["state"] == "active")
        .filter_map(|entry| entry["machine"].as_str().map(str::to_owned))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::marker;

    #[test]
    fn a_marker_is_known_in_every_directory() {
        assert_eq!(marker(".nico/abc"), Some("abc"));
        assert_eq!(marker("some/where/.nico/abc"), Some("abc"));
        assert_eq!(marker("not.nico/abc"), None);
        assert_eq!(marker("cluster.nix"), None);
    }
}
