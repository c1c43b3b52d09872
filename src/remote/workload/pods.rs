//! The pods of a Node that is drained, as `kubectl drain` treats them: pods of `DaemonSets` and mirror pods stay, and completed pods do not
//! block the drain. Like the Nodes, this input is not trusted.

use std::collections::BTreeMap;

use kube::Client;
use serde::{Deserialize, Deserializer};
use serde_json::json;
use tokio::time::timeout;

use super::list::{first, list, named, page};
use super::{is_plain_name, json_request};
use crate::api::names::is_dns_label;
use crate::remote::deadlines::EVICTION;

/// Most pages of pods of one Node, which has at most 110 pods by default (Kubernetes, "Considerations for large clusters").
const MOST_PAGES: usize = 40;
const KIND: &str = "PodList";
const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";
/// Most labels of a pod that are read, to find its budgets.
const MOST_LABELS: usize = 20;

/// A pod that has to be evicted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodView {
    pub(super) namespace: String,
    pub(super) name: String,
    uid: String,
    /// Whether it is terminating already.
    pub(super) terminating: bool,
    /// The first of its labels.
    pub(super) labels: Vec<(String, String)>,
}

/// The pods of a Node that have to be evicted; `None` if they could not all be read. The Node's name must be checked before.
pub(super) async fn to_evict(client: &Client, node: &str) -> Option<Vec<PodView>> {
    let path = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{node}&");
    let mut pods = Vec::new();
    let add = |page: Vec<ListedPod>| {
        pods.extend(page.into_iter().filter_map(|pod| pod.0));
        Some(())
    };
    list(client, &path, KIND, MOST_PAGES, add).await?;
    Some(pods)
}

/// The pods on a page of a list that have to be evicted, and the token of the next page. `None` if it is not a list of pods.
#[must_use]
pub fn pods_of_page(body: &[u8]) -> Option<(Vec<PodView>, String)> {
    let (pods, next) = page::<ListedPod>(body, KIND)?;
    Some((pods.into_iter().filter_map(|pod| pod.0).collect(), next))
}

/// A pod, reduced to what the drain needs; `None` if it may stay.
#[derive(Deserialize)]
#[serde(try_from = "Pod")]
struct ListedPod(Option<PodView>);

impl TryFrom<Pod> for ListedPod {
    type Error = &'static str;

    fn try_from(pod: Pod) -> Result<Self, Self::Error> {
        if must_be_evicted(&pod) {
            Ok(Self(Some(view(pod).ok_or("it is no pod")?)))
        } else {
            Ok(Self(None))
        }
    }
}

/// Evicts each pod that is not terminating yet. Refusals are ignored: they come from a `PodDisruptionBudget` or are temporary, and the next
/// round tries again.
pub(super) async fn evict_all(client: &Client, node: &str) -> Option<()> {
    for pod in to_evict(client, node).await? {
        if pod.terminating {
            continue;
        }
        let PodView {
            namespace,
            name,
            uid,
            ..
        } = pod;
        let body = json!({
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": { "name": name, "namespace": namespace },
            "deleteOptions": { "preconditions": { "uid": uid } },
        });
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/eviction");
        let request = json_request(hyper::Method::POST, &path, &body)?;
        let _ = timeout(EVICTION, client.send(request)).await;
    }
    Some(())
}

#[derive(Deserialize)]
struct Pod {
    metadata: PodMeta,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodMeta {
    namespace: String,
    name: String,
    uid: String,
    deletion_timestamp: Option<String>,
    #[serde(default, deserialize_with = "annotations")]
    annotations: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "labels")]
    labels: Vec<(String, String)>,
    owner_references: Option<Vec<Owner>>,
}

fn labels<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<(String, String)>, D::Error> {
    first(from, MOST_LABELS)
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
    let is_over = matches!(pod.status.phase.as_deref(), Some("Succeeded" | "Failed"));
    !(of_daemon_set || is_mirror || is_over)
}

fn view(pod: Pod) -> Option<PodView> {
    let PodMeta {
        namespace,
        name,
        uid,
        deletion_timestamp,
        labels,
        ..
    } = pod.metadata;
    let plain = is_dns_label(&namespace) && is_plain_name(&name);
    plain.then_some(PodView {
        namespace,
        name,
        uid,
        terminating: deletion_timestamp.is_some(),
        labels,
    })
}

#[cfg(test)]
mod tests {
    use super::{PodView, pods_of_page};
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
}
