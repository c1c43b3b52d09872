//! The API of a workload cluster, through its kubeconfig: each member's `/readyz`, the Nodes, and writes to them. The servers are not
//! trusted: responses are limited in size, and none of their text gets into a message but why admission refuses an eviction, escaped and cut.

mod drain;
mod evict;
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
use tokio::time::{Instant, timeout};

use super::answer;
use super::deadlines::{
    DRAIN_REPORT, EVICTION_ROUND, MEMBER_PROBE, NODE_LIST, NODE_WRITE, PROBE_CONNECT,
};
use super::kubeconfig::member::{Member, Unreached, members};
use super::secret::SecretText;
use crate::api::names::{CORDONED_ANNOTATION, DRAINING_ANNOTATION, MachineName};
use crate::api::workload::{Answer, Nodes, NodesOf, Workload};
pub use node::nodes_of_page;
use node::{leading_number, list_nodes};
pub use pods::pods_of_page;

/// Most bytes of a response to `/version`.
const MAX_ANSWER: usize = 64 * 1024;

/// The API server of a control plane member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiServer {
    /// The machine.
    pub machine: MachineName,
    /// Its address.
    pub address: String,
}

/// How to reach the API of a workload cluster.
#[derive(Clone)]
pub struct WorkloadApi {
    /// The stored kubeconfig.
    pub kubeconfig: SecretText,
    /// The control plane members.
    pub members: Vec<ApiServer>,
    /// Port of their API servers; `None`: the kubeconfig's.
    pub port: Option<u16>,
}

impl WorkloadApi {
    /// Probes all members at the same time, then lists the Nodes of these machines through one member that answers. A member that does not
    /// answer delays the probe only until its deadline.
    pub async fn probe(&self, nodes_of: &NodesOf) -> Workload {
        let asked = self.member_clients(&self.members).await;
        let asked = join_all(asked.iter().map(|member| ask_one(member.as_ref()))).await;
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
            let until = Instant::now() + DRAIN_REPORT;
            for client in clients {
                if let Some(mut nodes) = list_nodes(&client, nodes_of).await {
                    for node in &mut nodes.kept {
                        if node.draining_since.is_some() {
                            drain::look(&client, node, until).await;
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

    /// Clients of these members, in the same order; `None` if its address or the kubeconfig is unusable.
    async fn member_clients(&self, servers: &[ApiServer]) -> Vec<Option<Member>> {
        let addresses = servers
            .iter()
            .map(|server| server.address.clone())
            .collect();
        members(&self.kubeconfig, addresses, self.port, PROBE_CONNECT).await
    }

    /// Deletes the Node with this name and uid through the first member that answers. Returns the HTTP status; `None` if no member
    /// answered. `left` returns for how long the decision is still valid: no request is in progress after that. `begin` is called before
    /// the write is sent, and its result is held until that has ended. If it is `None`, the write is not sent.
    pub async fn delete_node<W>(
        &self,
        name: &str,
        uid: &str,
        left: impl Fn() -> Duration,
        begin: impl Fn() -> Option<W>,
    ) -> Option<u16> {
        let body = json!({
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": { "uid": uid },
        });
        self.write_node(Method::DELETE, name, &body, left, begin)
            .await
    }

    /// Sets or removes marks on the Node with this name and uid, in the same way.
    pub async fn mark_node<W>(
        &self,
        name: &str,
        uid: &str,
        marks: &Marks,
        left: impl Fn() -> Duration,
        begin: impl Fn() -> Option<W>,
    ) -> Option<u16> {
        let mut body = marks.0.clone();
        body["metadata"]["uid"] = uid.into();
        self.write_node(Method::PATCH, name, &body, left, begin)
            .await
    }

    async fn write_node<W>(
        &self,
        method: Method,
        name: &str,
        body: &Value,
        left: impl Fn() -> Duration,
        begin: impl Fn() -> Option<W>,
    ) -> Option<u16> {
        for member in self
            .member_clients(&self.members)
            .await
            .into_iter()
            .flatten()
        {
            let longest = left().min(NODE_WRITE);
            if longest.is_zero() {
                break;
            }
            let path = format!("/api/v1/nodes/{name}");
            let request = json_request(method.clone(), &path, body)?;
            let send = async {
                let (client, _) = member.reach().await.ok()?;
                let _begun = begin()?;
                client.send(request).await.ok()
            };
            // The body is not read: the status is enough.
            if let Ok(Some(response)) = timeout(longest, send).await {
                return Some(response.status().as_u16());
            }
        }
        None
    }

    /// Evicts the pods of a Node that their `PodDisruptionBudgets` allow to be evicted. The next probe shows which are left. `begin` is
    /// called before each eviction, and its result is held until that has ended, even if this future is dropped. `None` ends it all.
    pub async fn evict_all<W: Send + 'static>(&self, node: &str, begin: impl Fn() -> Option<W>) {
        let until = Instant::now() + EVICTION_ROUND;
        for member in &self.members {
            if Instant::now() >= until {
                return;
            }
            let member = self.member_clients(std::slice::from_ref(member)).await;
            for member in member.into_iter().flatten() {
                if let Ok(Ok((client, _))) = timeout(MEMBER_PROBE, member.reach()).await
                    && evict::evict_all(&client, node, until, &begin)
                        .await
                        .is_some()
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
    /// Minor version of its API server, if known.
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
            // `/readyz` returns this if a check fails (Kubernetes, "API health endpoints").
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

/// NICO's annotations of a Node and its `unschedulable` field, as a merge patch.
#[derive(Clone, Debug, PartialEq)]
pub struct Marks(Value);

impl Marks {
    /// Marks the Node as draining since then, and makes it unschedulable if `cordon` is set.
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

    /// Removes the marks, and makes the Node schedulable again if NICO had cordoned it.
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

/// Most characters of an object's name (Kubernetes, "DNS subdomain names") and of a uid.
const MAX_NAME: usize = 253;
const MAX_UID: usize = 64;

/// Whether a text is a valid object name. Its parts may be longer than a DNS label.
fn is_plain_name(name: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    name.len() <= MAX_NAME && name.split('.').all(is_part)
}

/// Whether a text may be a uid.
fn is_plain_uid(uid: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=MAX_UID).contains(&uid.len()) && uid.bytes().all(plain)
}

/// The status and body of a response; `None` if there was none or it was too long.
async fn get(client: &Client, path: &str, most: usize) -> Option<(u16, Vec<u8>)> {
    let request = hyper::Request::get(path).body(Body::empty()).ok()?;
    let response = client.send(request).await.ok()?;
    let status = response.status().as_u16();
    Some((status, answer::body(response, most).await?))
}

#[cfg(test)]
mod tests;
