//! Nodes from a workload cluster's API server, which is not trusted. An invalid Node makes the whole list unusable: without that Node, the
//! control plane would be counted too small.

use std::collections::BTreeMap;
use std::net::IpAddr;

use kube::Client;
use serde::{Deserialize, Deserializer};

use super::list::{list, named, page};
use super::{MAX_NAME, is_plain_uid};
use crate::api::names::{CORDONED_ANNOTATION, DRAINING_ANNOTATION, is_dns_label};
use crate::api::workload::{NodeList, NodeView, NodesOf};

const KIND: &str = "NodeList";
const CONTROL_PLANE_LABEL: &str = "node-role.kubernetes.io/control-plane";
const OLD_CONTROL_PLANE_LABEL: &str = "node-role.kubernetes.io/master";
/// A cluster has at most 5000 Nodes (Kubernetes, "Considerations for large clusters").
const MOST_PAGES: usize = 100;
/// Most characters of a finalizer (a qualified name; Kubernetes, "Finalizers"), and most finalizers that are reported.
const MAX_FINALIZER: usize = 253 + 1 + 63;
const MOST_FINALIZERS: usize = 4;
/// Most addresses of a Node that are read.
const MOST_ADDRESSES: usize = 16;

/// The Nodes of these machines; `None` if they could not all be read, or one is invalid.
pub(super) async fn list_nodes<'a>(client: &Client, machines: &'a NodesOf) -> Option<NodeList<'a>> {
    let mut nodes = NodeList::new(machines);
    let add = |page: Vec<ListedNode>| page.into_iter().try_for_each(|node| nodes.add(node.0));
    list(client, "/api/v1/nodes?", KIND, MOST_PAGES, add).await?;
    Some(nodes)
}

/// The Nodes on a page of a list, and the token of the next one, which is empty on the last page. `None` if it is not a list of Nodes.
#[must_use]
pub fn nodes_of_page(body: &[u8]) -> Option<(Vec<NodeView>, String)> {
    let (nodes, next) = page::<ListedNode>(body, KIND)?;
    Some((nodes.into_iter().map(|node| node.0).collect(), next))
}

/// A Node, reduced to what the planner uses.
#[derive(Deserialize)]
#[serde(try_from = "Node")]
struct ListedNode(NodeView);

impl TryFrom<Node> for ListedNode {
    type Error = &'static str;

    fn try_from(node: Node) -> Result<Self, Self::Error> {
        view(node).map(Self).ok_or("it is no Node")
    }
}

#[derive(Deserialize)]
struct Node {
    metadata: NodeMeta,
    #[serde(default)]
    spec: NodeSpec,
    #[serde(default)]
    status: NodeStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NodeMeta {
    name: String,
    uid: String,
    #[serde(default, deserialize_with = "labels")]
    labels: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "annotations")]
    annotations: BTreeMap<String, String>,
    deletion_timestamp: Option<String>,
    finalizers: Option<Vec<String>>,
}

fn labels<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, String>, D::Error> {
    named(from, &[CONTROL_PLANE_LABEL, OLD_CONTROL_PLANE_LABEL])
}

fn annotations<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, String>, D::Error> {
    named(from, &[CORDONED_ANNOTATION, DRAINING_ANNOTATION])
}

#[derive(Default, Deserialize)]
struct NodeSpec {
    unschedulable: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NodeStatus {
    #[serde(default)]
    addresses: Option<Vec<NodeAddress>>,
    #[serde(default)]
    conditions: Option<Vec<NodeCondition>>,
    node_info: Option<Info>,
}

#[derive(Deserialize)]
struct NodeAddress {
    #[serde(rename = "type")]
    kind: String,
    address: String,
}

#[derive(Deserialize)]
struct NodeCondition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Info {
    kubelet_version: String,
}

fn view(node: Node) -> Option<NodeView> {
    let Node {
        metadata,
        spec,
        status,
    } = node;
    let NodeMeta {
        name,
        uid,
        labels,
        annotations,
        deletion_timestamp,
        finalizers,
    } = metadata;
    let deleting = deletion_timestamp.is_some();
    let plain_name = name.len() <= MAX_NAME && name.split('.').all(is_dns_label);
    if !plain_name || !is_plain_uid(&uid) {
        return None;
    }
    let unschedulable = spec.unschedulable == Some(true);
    let is_ready =
        |condition: &NodeCondition| condition.kind == "Ready" && condition.status == "True";
    let internal = |address: NodeAddress| {
        let is_ip = address.kind == "InternalIP" && address.address.parse::<IpAddr>().is_ok();
        is_ip.then_some(address.address)
    };
    Some(NodeView {
        name,
        uid,
        addresses: status
            .addresses
            .into_iter()
            .flatten()
            .filter_map(internal)
            .take(MOST_ADDRESSES)
            .collect(),
        ready: status.conditions.iter().flatten().any(is_ready),
        control_plane: labels.contains_key(CONTROL_PLANE_LABEL)
            || labels.contains_key(OLD_CONTROL_PLANE_LABEL),
        deleting,
        deleting_since: deletion_timestamp.and_then(|since| since.parse().ok()),
        finalizers: finalizers
            .into_iter()
            .flatten()
            .filter(|finalizer| deleting && is_qualified(finalizer))
            .take(MOST_FINALIZERS)
            .collect(),
        kubelet_minor: status
            .node_info
            .and_then(|info| minor(&info.kubelet_version)),
        unschedulable,
        cordoned: unschedulable
            && annotations
                .get(CORDONED_ANNOTATION)
                .is_some_and(|value| value == "true"),
        draining_since: annotations
            .get(DRAINING_ANNOTATION)
            .and_then(|since| since.parse().ok()),
        pods_left: None,
        volumes: Vec::new(),
        stuck: Vec::new(),
    })
}

/// Whether a text has only characters of a qualified name, such as a finalizer's.
fn is_qualified(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    (1..=MAX_FINALIZER).contains(&name.len()) && name.bytes().all(plain)
}

/// The minor version of `v1.37.2` or `v1.37.2+k3s1`.
fn minor(version: &str) -> Option<u32> {
    leading_number(version.split('.').nth(1)?)
}

/// The number with which a text begins: some distributions return `37+`.
pub(super) fn leading_number(text: &str) -> Option<u32> {
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{NodeView, leading_number, minor, nodes_of_page};
    use serde_json::{Value, json};

    fn page(metadata: &Value, node: &Value) -> Option<(Vec<NodeView>, String)> {
        let list = json!({"kind": "NodeList", "metadata": metadata, "items": [node]});
        nodes_of_page(list.to_string().as_bytes())
    }

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
        let node = json!({
            "metadata": {"name": "cp-01.example", "uid": "u-1", "labels": {"node-role.kubernetes.io/control-plane": "true"}},
            "status": {
                "addresses": [{"type": "Hostname", "address": "cp-01"}, {"type": "InternalIP", "address": "10.0.0.1"}, {"type": "InternalIP", "address": "not an address"}],
                "conditions": [{"type": "MemoryPressure", "status": "True"}, {"type": "Ready", "status": "Unknown"}],
                "nodeInfo": {"kubeletVersion": "v1.36.0"},
            },
        });
        let page = page(&json!({"continue": "abc-_="}), &node);
        let expected = NodeView {
            name: "cp-01.example".to_owned(),
            uid: "u-1".to_owned(),
            addresses: vec!["10.0.0.1".to_owned()],
            ready: false,
            control_plane: true,
            deleting: false,
            kubelet_minor: Some(36),
            ..NodeView::default()
        };
        assert_eq!(page, Some((vec![expected], "abc-_=".to_owned())));
    }

    #[test]
    fn what_holds_a_node_that_is_being_deleted_is_told() {
        let held = |since: &Value| {
            let finalizers = ["cloud.example/lb", "a b", "x/1", "x/2", "x/3", "x/4"];
            let mut node = json!({"metadata": {"name": "w", "uid": "u", "finalizers": finalizers}});
            node["metadata"]["deletionTimestamp"] = since.clone();
            let (nodes, _) = page(&json!({}), &node).unwrap_or_default();
            let node = nodes.into_iter().next().unwrap_or_default();
            (node.deleting, node.deleting_since, node.finalizers.len())
        };
        let since = "2026-01-01T00:00:00Z".parse().ok();
        assert_eq!(held(&json!("2026-01-01T00:00:00Z")), (true, since, 4));
        assert_eq!(held(&json!("soon")), (true, None, 4));
        assert_eq!(held(&Value::Null), (false, None, 0));
    }

    #[test]
    fn what_is_no_node_makes_the_list_unusable() {
        let named = |name: &str, uid: &str| json!({"metadata": {"name": name, "uid": uid}});
        assert!(page(&json!({}), &named("cp-01", "u")).is_some());
        for (name, uid) in [
            ("../../secrets", "u"),
            ("", "u"),
            ("cp-01?x", "u"),
            ("Ⓐ", "u"),
            ("cp-01", ""),
            ("cp-01", "u\"}"),
        ] {
            assert_eq!(
                page(&json!({}), &named(name, uid)),
                None,
                "{name:?} {uid:?}"
            );
        }
        assert_eq!(
            page(&json!({"continue": "a&limit=1"}), &named("cp-01", "u")),
            None
        );
        assert_eq!(nodes_of_page(b"{\"kind\": \"NodeStatus\"}"), None);
    }
}
