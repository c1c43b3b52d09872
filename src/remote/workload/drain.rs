//! The progress of a Node's drain: which pods are left, what holds them, and which volumes are still to be detached. Like the Nodes, this
//! input is not trusted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::{StreamExt as _, stream};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::Client;
use kube::core::{Selector, SelectorExt as _};
use serde::Deserialize;
use tokio::time::{Instant, timeout, timeout_at};

use super::evict;
use super::list::{list, page};
use super::pods::{self, Claim, PodView};
use super::{get, is_plain_name};
use crate::api::workload::{NodeView, Stuck, StuckPod};
use crate::remote::answer::decoded;

/// Most bytes of the list of budgets of a namespace.
const MAX_BUDGETS: usize = 256 * 1024;
/// Most namespaces whose budgets are read, and most stuck pods that are reported.
const MOST_NAMESPACES: usize = 3;
const MOST_STUCK: usize = 3;
/// Time to read the claims of pods that stay, how many are read at the same time, and most bytes of one.
const CLAIMS: Duration = Duration::from_secs(1);
const CLAIMS_AT_ONCE: usize = 8;
const MAX_CLAIM: usize = 256 * 1024;
const BUDGET_KIND: &str = "PodDisruptionBudgetList";
const ATTACHMENT_KIND: &str = "VolumeAttachmentList";
/// Most pages of the list of attached volumes, over all Nodes.
const MOST_PAGES: usize = 200;
/// Most volumes of one Node that are kept.
const MOST_VOLUMES: usize = 256;

/// Notes the progress of the drain in a Node's view. If a list fails, pods or volumes count as still there. What holds pods is looked for until
/// then: it is only reported.
pub(super) async fn look(client: &Client, node: &mut NodeView, until: Instant) {
    let Some(pods) = pods::of_node(client, &node.name).await else {
        return;
    };
    if pods.evicted.is_empty() {
        let Some(mut volumes) = attached(client, &node.name).await else {
            return;
        };
        if !volumes.is_empty() {
            let kept = volumes_of(client, pods.kept_claims).await;
            volumes.retain(|volume| !kept.contains(volume));
        }
        node.volumes = volumes;
    } else {
        node.stuck = stuck(client, &pods.evicted, until).await;
    }
    node.pods_left = Some(pods.evicted.len());
}

/// The volumes of these claims. Pods of `DaemonSets` and mirror pods stay, and so do their volumes: nothing detaches them, so the drain
/// does not wait for them. The volume of a claim that cannot be read in time is waited for.
async fn volumes_of(client: &Client, claims: Vec<Claim>) -> BTreeSet<String> {
    let mut volumes = BTreeSet::new();
    let read = claims
        .into_iter()
        .map(|claim| volume_of(client.clone(), claim));
    let mut read = stream::iter(read).buffer_unordered(CLAIMS_AT_ONCE);
    let all = async {
        while let Some(volume) = read.next().await {
            volumes.extend(volume);
        }
    };
    // Those that are read by then count.
    let _ = timeout(CLAIMS, all).await;
    volumes
}

async fn volume_of(client: Client, Claim { namespace, name }: Claim) -> Option<String> {
    let path = format!("/api/v1/namespaces/{namespace}/persistentvolumeclaims/{name}");
    let (status, body) = get(&client, &path, MAX_CLAIM).await?;
    let claim = serde_json::from_slice::<SentClaim>(&body).ok();
    claim.filter(|_| status == 200)?.spec.volume_name
}

#[derive(Deserialize)]
struct SentClaim {
    spec: ClaimSpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClaimSpec {
    volume_name: Option<String>,
}

/// The volumes that are attached to a Node; `None` if they could not all be read.
async fn attached(client: &Client, node: &str) -> Option<Vec<String>> {
    let mut volumes = Vec::new();
    let take = |page: Vec<Attachment>| {
        let own = page
            .into_iter()
            .filter(|attachment| attachment.spec.node_name == node);
        volumes.extend(own.map(Attachment::volume));
        volumes.truncate(MOST_VOLUMES);
        Some(())
    };
    let path = "/apis/storage.k8s.io/v1/volumeattachments?";
    list(client, path, ATTACHMENT_KIND, MOST_PAGES, take).await?;
    volumes.sort();
    volumes.dedup();
    Some(volumes)
}

#[derive(Deserialize)]
struct Attachment {
    spec: AttachmentSpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AttachmentSpec {
    node_name: String,
    #[serde(default)]
    source: Source,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Source {
    persistent_volume_name: Option<String>,
}

impl Attachment {
    fn volume(self) -> String {
        let name = self.spec.source.persistent_volume_name;
        let plain = name.filter(|name| is_plain_name(name));
        plain.unwrap_or_else(|| "an inline volume".to_owned())
    }
}

/// The first pods whose eviction is refused, and the first that terminate.
async fn stuck(client: &Client, pods: &[PodView], until: Instant) -> Vec<StuckPod> {
    let held = timeout_at(until, held_by_budgets(client, pods)).await;
    let mut stuck = held.unwrap_or_default();
    // What is known by then is reported.
    let _ = timeout_at(until, add_refused(client, pods, &mut stuck)).await;
    let mut ends: Vec<_> = pods
        .iter()
        .filter_map(|pod| Some((pod.terminating?, pod)))
        .collect();
    ends.sort_by_key(|(since, _)| *since);
    let ends = ends.into_iter().take(MOST_STUCK);
    stuck.extend(ends.map(|(since, pod)| {
        let finalizers = pod.finalizers.clone();
        stuck_by(pod, Stuck::Terminates { since, finalizers })
    }));
    stuck
}

fn stuck_by(pod: &PodView, why: Stuck) -> StuckPod {
    StuckPod {
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        why,
    }
}

/// Adds the first other pods whose eviction is refused.
async fn add_refused(client: &Client, pods: &[PodView], stuck: &mut Vec<StuckPod>) {
    let is_held = |pod: &PodView| {
        let mut held = stuck.iter();
        held.any(|it| it.namespace == pod.namespace && it.name == pod.name)
    };
    let others = pods
        .iter()
        .filter(|pod| pod.terminating.is_none() && !is_held(pod));
    let asked: Vec<&PodView> = others.take(MOST_STUCK).collect();
    for pod in asked {
        let why = evict::refusal(client, pod).await;
        stuck.extend(why.map(|why| stuck_by(pod, Stuck::Refused(why))));
    }
}

/// The first pods whose budgets block their eviction.
async fn held_by_budgets(client: &Client, pods: &[PodView]) -> Vec<StuckPod> {
    let stay = || pods.iter().filter(|pod| pod.terminating.is_none());
    let namespaces: BTreeSet<&str> = stay().map(|pod| pod.namespace.as_str()).collect();
    let mut budgets = BTreeMap::new();
    for namespace in namespaces.into_iter().take(MOST_NAMESPACES) {
        let path = format!("/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets?limit=50");
        if let Some((200, body)) = get(client, &path, MAX_BUDGETS).await
            && let Some(of) = decoded(body, budgets_of_page).await
        {
            budgets.insert(namespace, of);
        }
    }
    let blocked = stay().filter_map(|pod| blocked_by(pod, budgets.get(pod.namespace.as_str())?));
    blocked.take(MOST_STUCK).collect()
}

/// The pod with the budgets that block its eviction; `None` if none does. A pod that two budgets select is never evicted (Kubernetes,
/// "API-initiated eviction").
fn blocked_by(pod: &PodView, budgets: &[Budget]) -> Option<StuckPod> {
    let labels: BTreeMap<String, String> = pod.labels.iter().cloned().collect();
    let own = || {
        budgets
            .iter()
            .filter(|budget| budget.selector.matches(&labels))
    };
    let blocks = own().count() > 1 || own().any(|budget| budget.allowed <= 0);
    blocks.then(|| {
        let budgets = own().map(|budget| budget.name.clone());
        stuck_by(pod, Stuck::Budgets(budgets.collect()))
    })
}

/// A `PodDisruptionBudget`.
struct Budget {
    name: String,
    selector: Selector,
    /// How many of its pods may be evicted now.
    allowed: i64,
}

fn budgets_of_page(body: &[u8]) -> Option<Vec<Budget>> {
    let (sent, _) = page::<SentBudget>(body, BUDGET_KIND)?;
    let budgets = sent.into_iter().filter_map(|budget| {
        // A budget without a selector selects no pod.
        let selector = Selector::try_from(budget.spec.selector?).ok()?;
        let name = budget.metadata.name;
        is_plain_name(&name).then_some(Budget {
            name,
            selector,
            allowed: budget.status.disruptions_allowed,
        })
    });
    Some(budgets.collect())
}

#[derive(Deserialize)]
struct SentBudget {
    metadata: Named,
    #[serde(default)]
    spec: BudgetSpec,
    #[serde(default)]
    status: BudgetStatus,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Default, Deserialize)]
struct BudgetSpec {
    selector: Option<LabelSelector>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct BudgetStatus {
    disruptions_allowed: i64,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::remote::workload::pods::pods_of_page;

    fn pod(labels: &Value) -> PodView {
        let list = json!({"kind": "PodList", "items": [{"metadata": {
            "namespace": "shop", "name": "web-0", "uid": "u", "labels": labels,
        }}]});
        let (pods, _) = pods_of_page(list.to_string().as_bytes()).unwrap();
        pods.into_iter().next().unwrap()
    }

    fn budget(name: &str, selector: &Value, allowed: i64) -> Value {
        json!({"metadata": {"name": name}, "spec": {"selector": selector}, "status": {"disruptionsAllowed": allowed}})
    }

    #[test]
    fn a_pod_that_its_budgets_hold_is_told_with_them() {
        let web = json!({"matchLabels": {"app": "web"}});
        let other = json!({"matchLabels": {"app": "db"}});
        let tier = json!({"matchExpressions": [{"key": "tier", "operator": "Exists"}]});
        let pod = pod(&json!({"app": "web", "tier": "front"}));
        for (budgets, expected) in [
            (vec![], None),
            (vec![budget("web", &web, 1)], None),
            (vec![budget("web", &web, 0)], Some(vec!["web"])),
            (vec![budget("db", &other, 0)], None),
            (vec![budget("none", &Value::Null, 0)], None),
            (vec![budget("all", &json!({}), 0)], Some(vec!["all"])),
            (
                vec![budget("web", &web, 5), budget("tier", &tier, 5)],
                Some(vec!["web", "tier"]),
            ),
            (vec![budget("../x", &web, 0)], None),
        ] {
            let list = json!({"kind": BUDGET_KIND, "items": budgets});
            let read = budgets_of_page(list.to_string().as_bytes()).unwrap();
            let stuck = blocked_by(&pod, &read);
            let why = stuck.map(|it| it.why);
            let expected = expected
                .map(|it: Vec<&str>| Stuck::Budgets(it.into_iter().map(str::to_owned).collect()));
            assert_eq!(why, expected, "{list}");
        }
        assert!(budgets_of_page(b"{\"kind\": \"PodList\", \"items\": []}").is_none());
    }

    /// One of them is slow: it is waited for, and no other.
    #[tokio::test]
    async fn the_claims_that_are_read_in_time_count() {
        let answers = tower::service_fn(|request: hyper::Request<kube::client::Body>| async move {
            let name = request.uri().path().rsplit('/').next().unwrap().to_owned();
            if name == "slow" {
                std::future::pending::<()>().await;
            }
            let claim = json!({"spec": {"volumeName": format!("pv-{name}")}});
            let body = kube::client::Body::from(claim.to_string().into_bytes());
            Ok::<_, std::convert::Infallible>(hyper::Response::new(body))
        });
        let client = Client::new(answers, "default");
        let claim = |name: &str| Claim {
            namespace: "shop".to_owned(),
            name: name.to_owned(),
        };
        let claims = ["slow", "a", "b"].map(claim);
        let volumes = volumes_of(&client, claims.into()).await;
        assert_eq!(volumes, ["pv-a", "pv-b"].map(str::to_owned).into());
    }

    #[test]
    fn volumes_are_told_by_the_name_of_their_persistent_volume() {
        let volume = |source: &Value| {
            let sent = json!({"spec": {"nodeName": "w", "source": source}});
            serde_json::from_value::<Attachment>(sent).unwrap().volume()
        };
        assert_eq!(volume(&json!({"persistentVolumeName": "pvc-1"})), "pvc-1");
        for odd in [
            json!({}),
            json!({"persistentVolumeName": "\u{1b}[31m"}),
            json!({"inlineVolumeSpec": {}}),
        ] {
            assert_eq!(volume(&odd), "an inline volume");
        }
    }
}
