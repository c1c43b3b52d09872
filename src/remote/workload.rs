//! The cluster's own word, through its kubeconfig: each member's `/readyz`, the Nodes, and the deletion of one. The
//! servers are whatever the machines say they are: answers are of bounded size, and nothing of them gets into a message.

mod drain;
mod list;
mod node;
mod pods;

use std::time::Duration;

use futures::future::join_all;
use hyper::Method;
use jiff::Timestamp;
use kube::Client;
use kube::client::Body;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::answer;
use super::deadlines::{MEMBER_PROBE, NODE_LIST, NODE_WRITE, PROBE_CONNECT};
use super::kubeconfig::member::{Member, Unreached, members};
use super::secret::SecretText;
use crate::api::names::{CORDONED_ANNOTATION, DRAINING_ANNOTATION, MachineName};
use crate::api::workload::{Answer, Nodes, NodesOf, Workload};
pub use node::nodes_of_page;
use node::{leading_number, list_nodes};
pub use pods::pods_of_page;

/// Most bytes of an answer to `/version`.
const MAX_ANSWER: usize = 64 * 1024;

/// A control plane member to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiServer {
    /// The machine.
    pub machine: MachineName,
    /// Its address.
    pub address: String,
}

/// Whom to ask, and how.
#[derive(Clone)]
pub struct WorkloadApi {
    /// The stored kubeconfig.
    pub kubeconfig: SecretText,
    /// The control plane members.
    pub members: Vec<ApiServer>,
    /// Port of their API servers; absent: the kubeconfig's.
    pub port: Option<u16>,
}

impl WorkloadApi {
    /// Asks all members at the same time, and one of those that answer for the Nodes. One that does not answer holds up nothing
    /// for longer than a deadline. The Nodes are those of these machines.
    pub async fn probe(&self, of: &NodesOf) -> Workload {
        let asked = self.asked(&self.members).await;
        let asked = join_all(asked.iter().map(|it| ask_one(it.as_ref()))).await;
        let mut workload = Workload::default();
        let mut clients = Vec::new();
        for (member, asked) in self.members.iter().zip(asked) {
            let machine = member.machine.clone();
            let answer = match asked {
                Ok(reached) => {
                    clients.push(reached.client);
                    let minors = [workload.api_minor, reached.minor];
                    workload.api_minor = minors.into_iter().flatten().min();
                    reached.answer
                }
                Err(Unreached { tls }) => {
                    let untrusted = tls.map(|why| (machine.clone(), why));
                    workload.untrusted.extend(untrusted);
                    Answer::Unreachable
                }
            };
            workload.answers.insert(machine, answer);
        }
        let list = async {
            for client in clients {
                if let Some(mut nodes) = list_nodes(&client, of).await {
                    for node in &mut nodes.kept {
                        if node.draining_since.is_some() {
                            drain::look(&client, node).await;
                        }
                    }
                    return Some(nodes);
                }
            }
            None
        };
        let nodes = timeout(NODE_LIST, list).await.ok().flatten();
        workload.nodes = nodes.map(Nodes::from);
        workload
    }

    /// These members, in their order; `None` where an address or the kubeconfig is of no use.
    async fn asked(&self, of: &[ApiServer]) -> Vec<Option<Member>> {
        let addresses = of.iter().map(|it| it.address.clone()).collect();
        members(&self.kubeconfig, addresses, self.port, PROBE_CONNECT).await
    }

    /// Deletes the Node of that name and uid through the first member that answers; its HTTP status, `None` where none answered.
    /// `left` tells how much time the decision is still good for: nothing is under way any more after that.
    pub async fn delete_node(
        &self,
        name: &str,
        uid: &str,
        left: impl Fn() -> Duration,
    ) -> Option<u16> {
        let body = json!({
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": { "uid": uid },
        });
        self.write_node(Method::DELETE, name, &body, left).await
    }

    /// Puts marks on the Node of that name and uid, or takes them off, in the same way.
    pub async fn mark_node(
        &self,
        name: &str,
        uid: &str,
        marks: &Marks,
        left: impl Fn() -> Duration,
    ) -> Option<u16> {
        let mut body = marks.0.clone();
        body["metadata"]["uid"] = uid.into();
        self.write_node(Method::PATCH, name, &body, left).await
    }

    async fn write_node(
        &self,
        method: Method,
        name: &str,
        body: &Value,
        left: impl Fn() -> Duration,
    ) -> Option<u16> {
        for member in self.asked(&self.members).await.into_iter().flatten() {
            let longest = left().min(NODE_WRITE);
            if longest.is_zero() {
                break;
            }
            let path = format!("/api/v1/nodes/{name}");
            let request = json_request(method.clone(), &path, body)?;
            let send = async {
                let (client, _) = member.reach().await.ok()?;
                client.send(request).await.ok()
            };
            // The answer's body is not read: the status tells it all.
            if let Ok(Some(response)) = timeout(longest, send).await {
                return Some(response.status().as_u16());
            }
        }
        None
    }

    /// Evicts the pods of a Node, as far as their `PodDisruptionBudgets` let them go. What is left is seen when the
    /// cluster is asked again.
    pub async fn evict_all(&self, node: &str) {
        for member in &self.members {
            let member = self.asked(std::slice::from_ref(member)).await;
            for member in member.into_iter().flatten() {
                if let Ok(Ok((client, _))) = timeout(MEMBER_PROBE, member.reach()).await
                    && pods::evict_all(&client, node).await.is_some()
                {
                    return;
                }
            }
        }
    }
}

/// A member that answers.
struct Reached {
    client: Client,
    answer: Answer,
    /// Minor version of its API server, where it told it.
    minor: Option<u32>,
}

async fn ask_one(member: Option<&Member>) -> Result<Reached, Unreached> {
    let ask = async {
        let (client, status) = member.ok_or(Unreached { tls: None })?.reach().await?;
        let minor = match get(&client, "/version", MAX_ANSWER).await {
            Some((200, body)) => answer::json::<Version>(body)
                .await
                .and_then(|version| leading_number(&version.minor)),
            _ => None,
        };
        let answer = match status {
            200 => Answer::Ready,
            // What `/readyz` answers where a check fails (Kubernetes, "API health endpoints").
            500 => Answer::NotReady,
            _ => Answer::Refuses,
        };
        Ok(Reached {
            client,
            answer,
            minor,
        })
    };
    let late = |_| Err(Unreached { tls: None });
    timeout(MEMBER_PROBE, ask).await.unwrap_or_else(late)
}

/// What NICO writes on a Node, as a merge patch.
#[derive(Clone, Debug, PartialEq)]
pub struct Marks(Value);

impl Marks {
    /// The Node is drained since then, and made unschedulable if it is not so already.
    #[must_use]
    pub fn drained(since: Timestamp, cordon: bool) -> Self {
        let mut marks = json!({"metadata": {"annotations": {
            DRAINING_ANNOTATION: since.to_string(),
        }}});
        if cordon {
            marks["metadata"]["annotations"][CORDONED_ANNOTATION] = "true".into();
            marks["spec"] = json!({ "unschedulable": true });
        }
        Self(marks)
    }

    /// No marks; schedulable again where NICO had changed that.
    #[must_use]
    pub fn none(cordoned: bool) -> Self {
        let mut marks = json!({"metadata": {"annotations": {
            DRAINING_ANNOTATION: null,
            CORDONED_ANNOTATION: null,
        }}});
        if cordoned {
            marks["spec"] = json!({ "unschedulable": null });
        }
        Self(marks)
    }
}

fn json_request(method: Method, path: &str, body: &Value) -> Option<hyper::Request<Body>> {
    let kind = match method {
        Method::PATCH => "application/merge-patch+json",
        _ => "application/json",
    };
    hyper::Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", kind)
        .body(Body::from(body.to_string().into_bytes()))
        .ok()
}

#[derive(Deserialize)]
struct Version {
    minor: String,
}

/// Most characters of an object's name (Kubernetes, "DNS subdomain names").
const MAX_NAME: usize = 253;

/// Whether a text is the name of an object, whose parts may be longer than a label.
fn is_plain_name(name: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    name.len() <= MAX_NAME && name.split('.').all(is_part)
}

/// The status and the body of an answer; `None`: there was none, or it was too long.
async fn get(client: &Client, path: &str, most: usize) -> Option<(u16, Vec<u8>)> {
    let request = hyper::Request::get(path).body(Body::empty()).ok()?;
    let response = client.send(request).await.ok()?;
    let status = response.status().as_u16();
    Some((status, answer::body(response, most).await?))
}
