//! What NICO can write into cluster.nix.
use std::net::IpAddr;
use std::sync::Arc;

use nico::api::names::ClusterId;
use nico::api::spec::Endpoint;
use nico::plan::cluster_nix::{ClusterNix, Lists, NixNode};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

pub(crate) fn is_ip(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok()
}

pub(crate) fn is_ipv6(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6())
}

/// A Machine's name, which is a DNS label.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-z]{1,3}-[0-9]{1,2}",
        1 => "[a-z0-9][a-z0-9-]{0,61}[a-z0-9]",
        1 => "[0-9]",
    ]
}

/// A Machine's address, or the host of an endpoint.
fn address() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => any::<[u8; 4]>().prop_map(|bytes| IpAddr::from(bytes).to_string()),
        2 => any::<[u16; 8]>().prop_map(|words| IpAddr::from(words).to_string()),
        1 => Just("fd00::1".to_owned()),
        1 => "[a-z]{1,8}(\\.[a-z]{2,5}){0,2}",
    ]
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    let port = prop_oneof![Just(6443), 1..=u16::MAX];
    (address(), port).prop_map(|(host, port)| Endpoint { host, port })
}

/// How far the cluster is: being founded, founded, or founded with nobody to join.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Founding,
    Founded,
    Alone,
}

/// A cluster of a control plane and any workers. `join` names one control plane machine; for that machine itself it counts as null.
fn shape() -> impl Strategy<Value = ClusterNix> {
    let node = || (name(), address()).prop_map(|(name, ip)| NixNode { name, ip });
    let stage = prop::sample::select(vec![
        Stage::Founding,
        Stage::Founded,
        Stage::Founded,
        Stage::Alone,
    ]);
    let machines = (1_usize..6, vec(node(), 1..9));
    (
        machines,
        stage,
        any::<prop::sample::Index>(),
        prop::option::of(endpoint()),
        any::<u64>(),
    )
        .prop_map(
            |((control_plane, mut nodes), stage, chosen, endpoint, id)| {
                nodes.sort();
                nodes.dedup_by(|a, b| a.name == b.name);
                nodes.retain(|node| node.name != "minimal");
                if nodes.is_empty() {
                    nodes.push(NixNode {
                        name: "a".to_owned(),
                        ip: "10.0.0.1".to_owned(),
                    });
                }
                let workers = nodes.split_off(control_plane.min(nodes.len()));
                let chosen = chosen.get(&nodes).clone();
                ClusterNix {
                    namespace: "clusters".to_owned(),
                    name: "prod".to_owned(),
                    id: ClusterId::from_bits(id),
                    bootstrap: matches!(stage, Stage::Founding).then(|| chosen.name.clone()),
                    join: (!matches!(stage, Stage::Alone)).then_some(chosen),
                    endpoint,
                    lists: Arc::new(Lists::new(&nodes, &workers)),
                }
            },
        )
}

/// Some of these, at random.
pub(crate) fn shapes(count: usize) -> Vec<ClusterNix> {
    let mut runner = TestRunner::default();
    let mut draw = || shape().new_tree(&mut runner).unwrap().current();
    (0..count).map(|_| draw()).collect()
}
