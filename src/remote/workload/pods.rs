//! The pods of a Node that is drained, as `kubectl drain` treats them: pods of `DaemonSets` and mirror pods stay, and completed pods do not
//! block the drain. Like the Nodes, this input is not trusted.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::Client;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use super::list::{first, list, named, page};
use super::{is_plain_name, is_plain_uid};
use crate::api::names::is_dns_label;
use crate::api::text::shown_in;

/// Most pages of pods of one Node, which has at most 110 pods by default (Kubernetes, "Considerations for large clusters").
const MOST_PAGES: usize = 40;
const KIND: &str = "PodList";
const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";
/// Most claims of pods that stay.
const MOST_CLAIMS: usize = 64;
/// Most finalizers of a pod that are shown, and most bytes of one.
const MOST_FINALIZERS: usize = 3;
const LONGEST_FINALIZER: usize = 100;
/// Most labels of a pod that are read, to find its budgets, and most bytes of a key and of a value (Kubernetes, "Labels and Selectors").
const MOST_LABELS: usize = 20;
const LONGEST_KEY: usize = 253 + 1 + 63;
const LONGEST_VALUE: usize = 63;

/// A pod that has to be evicted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodView {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
    /// If it is terminating: when it is to be gone.
    pub(super) terminating: Option<Timestamp>,
    /// The first of its finalizers.
    pub(super) finalizers: Vec<String>,
    /// The first of its labels.
    pub(super) labels: Vec<(String, String)>,
}

/// The pods of a Node.
#[derive(Default)]
pub(super) struct Pods {
    /// Those that have to be evicted.
    pub(super) evicted: Vec<PodView>,
    /// The claims of those that stay and run: the volumes of these stay attached.
    pub(super) kept_claims: Vec<Claim>,
}

/// A `PersistentVolumeClaim`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) namespace: String,
    pub(super) name: String,
}

/// The pods of a Node; `None` if they could not all be read. The Node's name must be checked before.
pub(super) async fn of_node(client: &Client, node: &str) -> Option<Pods> {
    let path = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{node}&");
    let mut pods = Pods::default();
    let add = |page: Vec<ListedPod>| {
        for pod in page {
            match pod {
                ListedPod::Evicted(pod) => pods.evicted.push(pod),
                ListedPod::Stays(claims) => pods.kept_claims.extend(claims),
            }
        }
        pods.kept_claims.truncate(MOST_CLAIMS);
        Some(())
    };
    list(client, &path, KIND, MOST_PAGES, add).await?;
    Some(pods)
}

/// The pods on a page of a list that have to be evicted, and the token of the next page. `None` if it is not a list of pods.
#[must_use]
pub fn pods_of_page(body: &[u8]) -> Option<(Vec<PodView>, String)> {
    let (pods, next) = page::<ListedPod>(body, KIND)?;
    let evicted = pods.into_iter().filter_map(|pod| match pod {
        ListedPod::Evicted(pod) => Some(pod),
        ListedPod::Stays(_) => None,
    });
    Some((evicted.collect(), next))
}

/// A pod, reduced to what the drain needs.
#[derive(Deserialize)]
#[serde(try_from = "Pod")]
enum ListedPod {
    Evicted(PodView),
    /// It stays, with these claims.
    Stays(Vec<Claim>),
}

impl TryFrom<Pod> for ListedPod {
    type Error = &'static str;

    fn try_from(pod: Pod) -> Result<Self, Self::Error> {
        if must_be_evicted(&pod) {
            Ok(Self::Evicted(view(pod).ok_or("it is no pod")?))
        } else {
            Ok(Self::Stays(claims(pod)))
        }
    }
}

#[derive(Deserialize)]
struct Pod {
    metadata: PodMeta,
    #[serde(default)]
    spec: PodSpec,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Default, Deserialize)]
struct PodSpec {
    volumes: Option<Vec<Volume>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Volume {
    name: String,
    persistent_volume_claim: Option<ClaimSource>,
    ephemeral: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClaimSource {
    claim_name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodMeta {
    namespace: String,
    name: String,
    uid: String,
    deletion_timestamp: Option<String>,
    finalizers: Option<Vec<String>>,
    #[serde(default, deserialize_with = "annotations")]
    annotations: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "labels")]
    labels: Vec<(String, String)>,
    owner_references: Option<Vec<Owner>>,
}

fn labels<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<(String, String)>, D::Error> {
    let mut labels = first(from, MOST_LABELS)?;
    labels.retain(|(key, value)| key.len() <= LONGEST_KEY && value.len() <= LONGEST_VALUE);
    Ok(labels)
}

fn annotations<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, String>, D::Error> {
    named(from, &[MIRROR_ANNOTATION])
}

#[derive(Deserialize)]
struct Owner {
    kind: String,
    controller: Option<bool>,
}

#[derive(Default, Deserialize)]
struct PodStatus {
    phase: Option<String>,
}

fn must_be_evicted(pod: &Pod) -> bool {
    let PodMeta {
        annotations,
        owner_references,
        ..
    } = &pod.metadata;
    let mut owners = owner_references.iter().flatten();
    let of_daemon_set =
        owners.any(|owner| owner.controller == Some(true) && owner.kind == "DaemonSet");
    let is_mirror = annotations.contains_key(MIRROR_ANNOTATION);
    !(of_daemon_set || is_mirror || is_over(pod))
}

fn is_over(pod: &Pod) -> bool {
    matches!(pod.status.phase.as_deref(), Some("Succeeded" | "Failed"))
}

/// The claims of a pod that stays. The volumes of one that is over are detached.
fn claims(pod: Pod) -> Vec<Claim> {
    if is_over(&pod) {
        return Vec::new();
    }
    let PodMeta {
        namespace, name, ..
    } = pod.metadata;
    let volumes = pod.spec.volumes.into_iter().flatten();
    let names = volumes.filter_map(|volume| match volume {
        Volume {
            persistent_volume_claim: Some(source),
            ..
        } => Some(source.claim_name),
        // Kubernetes, "Generic ephemeral volumes, PersistentVolumeClaim naming".
        Volume {
            ephemeral: Some(_), ..
        } => Some(format!("{name}-{}", volume.name)),
        _ => None,
    });
    let names = names.filter(|claim| is_dns_label(&namespace) && is_plain_name(claim));
    let claim = |name| Claim {
        namespace: namespace.clone(),
        name,
    };
    names.map(claim).collect()
}

fn view(pod: Pod) -> Option<PodView> {
    let PodMeta {
        namespace,
        name,
        uid,
        deletion_timestamp,
        finalizers,
        labels,
        ..
    } = pod.metadata;
    let finalizers = finalizers.into_iter().flatten().take(MOST_FINALIZERS);
    let plain = is_dns_label(&namespace) && is_plain_name(&name) && is_plain_uid(&uid);
    plain.then_some(PodView {
        namespace,
        name,
        uid,
        // The end of time, where it is no time: it terminates, and that is all.
        terminating: deletion_timestamp.map(|it| it.parse().unwrap_or(Timestamp::MAX)),
        finalizers: finalizers
            .map(|it| shown_in(&it, LONGEST_FINALIZER))
            .collect(),
        labels,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn listed(pod: &Value) -> Option<Vec<PodView>> {
        let list = json!({"kind": "PodList", "metadata": {"continue": ""}, "items": [pod]});
        Some(pods_of_page(list.to_string().as_bytes())?.0)
    }

    fn pod(more: &Value) -> Value {
        let mut pod = json!({
            "metadata": {"namespace": "default", "name": "web-0", "uid": "u"},
            "status": {"phase": "Running"},
        });
        for (field, value) in more.as_object().into_iter().flatten() {
            pod["metadata"][field] = value.clone();
        }
        pod
    }

    #[test]
    fn pods_that_have_to_go_and_those_that_stay() {
        let count = |pod: &Value| listed(pod).map(|pods| pods.len());
        assert_eq!(count(&pod(&json!({}))), Some(1));
        let terminating = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
        assert_eq!(count(&pod(&terminating)), Some(1));
        let owned = |kind: &str| json!({"ownerReferences": [{"kind": kind, "controller": true}]});
        assert_eq!(count(&pod(&owned("ReplicaSet"))), Some(1));
        assert_eq!(count(&pod(&owned("DaemonSet"))), Some(0));
        let mirror = json!({"annotations": {"kubernetes.io/config.mirror": "x"}});
        assert_eq!(count(&pod(&mirror)), Some(0));
        let mut over = pod(&json!({}));
        over["status"]["phase"] = "Succeeded".into();
        assert_eq!(count(&over), Some(0));
    }

    #[test]
    fn a_pod_whose_name_is_none_makes_the_list_unusable() {
        for name in ["../x", "a/b", "", "A"] {
            assert_eq!(listed(&pod(&json!({"name": name}))), None, "{name:?}");
        }
        assert_eq!(listed(&pod(&json!({"namespace": "a/b"}))), None);
    }

    /// A Node may have thousands of pods.
    #[test]
    fn of_a_pod_little_is_kept() {
        let long = "x".repeat(1000);
        assert_eq!(listed(&pod(&json!({ "uid": long }))), None);
        let labels = json!({"app": "web", "long": long, long.clone(): "x"});
        let pods = listed(&pod(&json!({ "labels": labels }))).unwrap_or_default();
        assert_eq!(pods[0].labels, [("app".to_owned(), "web".to_owned())]);
    }

    /// The claims of a pod that stays.
    fn kept(pod: &Value) -> Option<Vec<String>> {
        match serde_json::from_value(pod.clone()) {
            Ok(ListedPod::Stays(claims)) => Some(claims.into_iter().map(|it| it.name).collect()),
            _ => None,
        }
    }

    #[test]
    fn the_claims_of_pods_that_stay_are_known() {
        let owner = json!({"ownerReferences": [{"kind": "DaemonSet", "controller": true}]});
        let mut pod = pod(&owner);
        assert_eq!(kept(&pod), Some(Vec::new()));
        pod["spec"]["volumes"] = json!([
            {"name": "data", "persistentVolumeClaim": {"claimName": "disk"}},
            {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {}}},
            {"name": "host", "hostPath": {"path": "/"}},
            {"name": "odd", "persistentVolumeClaim": {"claimName": "../x"}},
        ]);
        assert_eq!(kept(&pod).unwrap_or_default(), ["disk", "web-0-scratch"]);
        // Those of a pod that is over are detached.
        pod["status"]["phase"] = "Failed".into();
        assert_eq!(kept(&pod), Some(Vec::new()));
    }

    #[test]
    fn what_holds_a_pod_that_terminates_is_known() {
        let more = json!({
            "deletionTimestamp": "2026-01-01T00:00:30Z",
            "finalizers": ["example.com/a", "x\u{1b}[31m", "c", "d"],
        });
        let pods = listed(&pod(&more)).unwrap_or_default();
        let since = "2026-01-01T00:00:30Z".parse().ok();
        assert_eq!(pods[0].terminating, since);
        assert_eq!(pods[0].finalizers, ["example.com/a", "x\\u{1b}[31m", "c"]);
        let odd = json!({"deletionTimestamp": "soon", "finalizers": null});
        let pods = listed(&pod(&odd)).unwrap_or_default();
        assert_eq!(pods[0].terminating, Some(Timestamp::MAX));
    }
}
