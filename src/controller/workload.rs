//! The cluster's own word, through its kubeconfig (SPEC 4.4, 4.5): each member's `/readyz`, the Nodes, and the deletion of one. The
//! servers are whatever the machines say they are: answers are of bounded size, and nothing of them gets into a message.

use std::time::Duration;

use futures::future::join_all;
use http_body_util::{BodyExt as _, Limited};
use k8s_openapi::api::core::v1::Node;
use kube::api::{DeleteParams, ListParams, Preconditions};
use kube::client::Body;
use kube::{Api, Client};
use serde::Deserialize;
use tokio::time::timeout;

use super::kubeconfig::verify::member_client;
use super::secret::SecretText;
use crate::api::names::MachineName;
use crate::plan::observed::{Answer, NodeView, Word, Workload};

/// Bounds each request to a member, its connection included.
const DEADLINE: Duration = Duration::from_secs(5);
/// Nodes of one page.
const PAGE: u32 = 500;
/// Pages of a cluster that is larger than Kubernetes supports.
const MOST_PAGES: usize = 20;
/// Most bytes of an answer to `/readyz` or `/version`.
const MAX_ANSWER: usize = 64 * 1024;
const CONTROL_PLANE_LABEL: &str = "node-role.kubernetes.io/control-plane";
const OLD_CONTROL_PLANE_LABEL: &str = "node-role.kubernetes.io/master";

/// A control plane member to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The machine.
    pub machine: MachineName,
    /// Its address.
    pub address: String,
}

/// Whom to ask, and how.
#[derive(Clone)]
pub struct Question {
    /// The stored kubeconfig.
    pub kubeconfig: SecretText,
    /// The control plane members.
    pub members: Vec<Member>,
    /// Port of their API servers; absent: the kubeconfig's.
    pub port: Option<u16>,
}

impl Question {
    /// Asks all members at the same time. One that does not answer holds up nothing for longer than a deadline.
    pub async fn ask(&self) -> Word {
        if self.members.is_empty() {
            return Word::Silent("no control plane machine has an address to ask".to_owned());
        }
        let asked = join_all(self.members.iter().map(|member| self.ask_one(member))).await;
        let mut workload = Workload::default();
        let mut clients = Vec::new();
        for (member, (answer, minor, client)) in self.members.iter().zip(asked) {
            if answer != Answer::Unreachable {
                clients.extend(client);
            }
            workload.answers.insert(member.machine.clone(), answer);
            workload.api_minor = [workload.api_minor, minor].into_iter().flatten().min();
        }
        for client in clients {
            if let Some(nodes) = list_nodes(&client).await {
                workload.nodes = Some(nodes);
                break;
            }
        }
        Word::Heard(workload)
    }

    async fn ask_one(&self, member: &Member) -> (Answer, Option<u32>, Option<Client>) {
        let client = member_client(&self.kubeconfig, &member.address, self.port, DEADLINE);
        let Ok(client) = client else {
            return (Answer::Unreachable, None, None);
        };
        let answer = match get(&client, "/readyz").await {
            Some((200, _)) => Answer::Ready,
            Some(_) => Answer::NotReady,
            None => return (Answer::Unreachable, None, None),
        };
        let minor = match get(&client, "/version").await {
            Some((200, body)) => serde_json::from_slice::<Version>(&body)
                .ok()
                .and_then(|version| leading_number(&version.minor)),
            _ => None,
        };
        (answer, minor, Some(client))
    }

    /// Deletes the Node of that name and uid through the first member that takes it; gone already is as good.
    pub async fn delete_node(&self, name: &str, uid: &str) -> bool {
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(uid.to_owned()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        for member in &self.members {
            let client = member_client(&self.kubeconfig, &member.address, self.port, DEADLINE);
            let Ok(client) = client else { continue };
            let nodes: Api<Node> = Api::all(client);
            match timeout(DEADLINE, nodes.delete(name, &params)).await {
                Ok(Ok(_)) => return true,
                Ok(Err(kube::Error::Api(status))) if status.code == 404 => return true,
                _ => {}
            }
        }
        false
    }
}

#[derive(Deserialize)]
struct Version {
    minor: String,
}

/// The status and the body of an answer; `None`: there was none in time, or it was too long.
async fn get(client: &Client, path: &str) -> Option<(u16, Vec<u8>)> {
    let request = hyper::Request::get(path).body(Body::empty()).ok()?;
    let ask = async {
        let response = client.send(request).await.ok()?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), MAX_ANSWER)
            .collect()
            .await
            .ok()?;
        Some((status, body.to_bytes().to_vec()))
    };
    timeout(DEADLINE, ask).await.ok().flatten()
}

async fn list_nodes(client: &Client) -> Option<Vec<NodeView>> {
    let api: Api<Node> = Api::all(client.clone());
    let mut params = ListParams::default().limit(PAGE);
    let mut nodes = Vec::new();
    for _ in 0..MOST_PAGES {
        let page = timeout(DEADLINE, api.list(&params)).await.ok()?.ok()?;
        nodes.extend(page.items.iter().map(view));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Some(nodes),
        }
    }
    None
}

fn view(node: &Node) -> NodeView {
    let status = node.status.clone().unwrap_or_default();
    let labels = node.metadata.labels.clone().unwrap_or_default();
    let ready = status
        .conditions
        .iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let addresses = status.addresses.into_iter().flatten();
    NodeView {
        name: node.metadata.name.clone().unwrap_or_default(),
        uid: node.metadata.uid.clone().unwrap_or_default(),
        addresses: addresses
            .filter(|address| address.type_ == "InternalIP")
            .map(|address| address.address)
            .collect(),
        ready,
        control_plane: labels.contains_key(CONTROL_PLANE_LABEL)
            || labels.contains_key(OLD_CONTROL_PLANE_LABEL),
        deleting: node.metadata.deletion_timestamp.is_some(),
        kubelet_minor: status
            .node_info
            .and_then(|info| minor(&info.kubelet_version)),
    }
}

/// The minor version in `v1.37.2` or `v1.37.2+k3s1`.
fn minor(version: &str) -> Option<u32> {
    leading_number(version.split('.').nth(1)?)
}

/// The number that a text begins with: some distributions answer `37+`.
fn leading_number(text: &str) -> Option<u32> {
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{leading_number, minor, view};
    use serde_json::json;

    #[test]
    fn minor_versions() {
        assert_eq!(minor("v1.37.2"), Some(37));
        assert_eq!(minor("v1.31.4+k3s1"), Some(31));
        assert_eq!(minor("1"), None);
        assert_eq!(leading_number("37+"), Some(37));
        assert_eq!(leading_number("x"), None);
    }

    #[test]
    fn a_node_is_cut_to_what_the_planner_asks() {
        let node = serde_json::from_value(json!({
            "metadata": {"name": "cp-01", "uid": "u", "labels": {"node-role.kubernetes.io/control-plane": "true"}},
            "status": {
                "addresses": [{"type": "Hostname", "address": "cp-01"}, {"type": "InternalIP", "address": "10.0.0.1"}],
                "conditions": [{"type": "MemoryPressure", "status": "True"}, {"type": "Ready", "status": "Unknown"}],
            },
        }));
        let view = view(&node.unwrap_or_default());
        assert_eq!(view.addresses, ["10.0.0.1"]);
        assert!(view.control_plane && !view.ready && !view.deleting);
    }
}
