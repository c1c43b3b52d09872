//! The flakes of `examples/flakes`: real Nix evaluates them for what NICO writes into cluster.nix, and their scripts are run.
//!
//! nixpkgs is not there offline. `nixpkgs/` stands in for it: what the flakes use of it, and an error for all else.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod activated;
mod changes;
mod empty;
mod evaluated;
mod interrupted;
mod ipv6;
mod joining;
mod machine;
mod members;
mod options;
mod readme;
mod release;
mod scripts;
mod shapes;
mod silent;
mod template;
mod upgrade;
mod upkeep;

use evaluated::{Evaluated, Flake, evaluate};
use nico::api::spec::Endpoint;
use nico::api::status::Role;
use nico::plan::cluster_nix::{ClusterNix, NixNode};
use serde_json::{Value, json};
use shapes::{is_ipv6, shapes};

/// How many shapes of cluster.nix each flake is evaluated for.
const SHAPES: usize = 50;

/// The files of /var/lib/nico/member by which a machine starts.
fn state<'a>(machine: &'a Value, file: &str) -> Option<&'a str> {
    machine["state"][file].as_str()
}

fn names(nodes: &[NixNode]) -> Vec<&str> {
    nodes.iter().map(|node| node.name.as_str()).collect()
}

/// The rules that hold in every distribution.
fn check(flake: Flake, cluster: &ClusterNix, found: &Evaluated) {
    let control_plane = names(cluster.lists.for_role(Role::ControlPlane));
    let workers = names(cluster.lists.for_role(Role::Worker));
    let mut expected: Vec<&str> = [&control_plane[..], &workers[..], &["minimal"]].concat();
    expected.sort_unstable();
    let outputs: Vec<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(outputs, expected, "the outputs of {flake:?}");

    let founding: Vec<&str> = expected
        .iter()
        .filter(|name| state(&found[**name], "founds").is_some())
        .copied()
        .collect();
    let told: Vec<&str> = cluster.bootstrap.as_deref().into_iter().collect();
    assert_eq!(founding, told, "exactly the named machine founds");

    for (nodes, role) in [
        (&control_plane, Role::ControlPlane),
        (&workers, Role::Worker),
    ] {
        for name in nodes {
            let machine = &found[*name];
            let text = cluster.render();
            let wrong = flake.refuses(cluster);
            let failed = machine["failed"].as_array().unwrap();
            assert_eq!(
                failed.is_empty(),
                !wrong,
                "{flake:?} {name}: {failed:?} in {text}"
            );
            assert_eq!(machine["hostName"], **name);
            let kind = if role == Role::ControlPlane {
                "control-plane"
            } else {
                "worker"
            };
            assert_eq!(state(machine, "role"), Some(kind), "{name}");
            assert_eq!(state(machine, "id"), Some(cluster.id.as_str()));

            let join = cluster.join.as_ref().filter(|join| join.name != **name);
            let join = join.filter(|_| cluster.bootstrap.as_deref() != Some(*name));
            let url =
                join.map(|join| format!("https://{}", authority(&join.ip, flake.join_port(role))));
            assert_eq!(
                state(machine, "join"),
                url.as_deref(),
                "{flake:?} {name}: {text}"
            );

            let others = cluster.lists.for_role(Role::ControlPlane).iter();
            let peers: Vec<String> = others
                .filter(|peer| peer.name != **name)
                .map(|peer| format!("https://{}\n", authority(&peer.ip, 6443)))
                .collect();
            let peers = peers.concat();
            assert_eq!(state(machine, "peers"), Some(peers.as_str()));
            let tokens = machine["activation"].to_string();
            assert_eq!(tokens.contains("worker-token"), role == Role::ControlPlane);
            assert!(tokens.contains("join-token") && tokens.contains("authorized_keys.d"));
            flake.check(machine, cluster, name, role);
        }
    }
    for node in cluster
        .lists
        .for_role(Role::Worker)
        .iter()
        .chain(cluster.lists.for_role(Role::ControlPlane))
    {
        let listed = &found[expected[0]]["hosts"][&node.ip];
        if expected[0] != "minimal" && shapes::is_ip(&node.ip) {
            assert!(
                listed
                    .as_array()
                    .unwrap()
                    .contains(&Value::from(node.name.as_str()))
            );
        }
    }
    assert!(found["minimal"]["units"]["nico-leave"]["script"].is_string());
}

/// A host and a port as they stand in a URL.
fn authority(host: &str, port: u16) -> String {
    if is_ipv6(host) {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

#[test]
fn every_machine_of_every_shape_has_its_part() {
    let Some(nix) = evaluated::nix_or_skip("every_machine_of_every_shape_has_its_part") else {
        return;
    };
    let clusters = shapes(SHAPES);
    for flake in Flake::ALL {
        let texts: Vec<String> = clusters.iter().map(ClusterNix::render).collect();
        let found = evaluate(&nix, flake, "shapes", false, &texts);
        for (cluster, found) in clusters.iter().zip(&found) {
            check(flake, cluster, found);
        }
    }
}

/// NICO sorts its lists; a file by hand need not.
#[test]
fn the_order_of_the_lists_does_not_matter() {
    let Some(nix) = evaluated::nix_or_skip("the_order_of_the_lists_does_not_matter") else {
        return;
    };
    let clusters = shapes(10);
    for flake in Flake::ALL {
        let mut texts = Vec::new();
        for cluster in &clusters {
            let text = cluster.render();
            let (comment, json) = text.split_once("builtins.fromJSON ''\n").unwrap();
            let mut value: Value =
                serde_json::from_str(json.trim_end().trim_end_matches("''")).unwrap();
            for list in ["controlPlane", "workers"] {
                value[list].as_array_mut().unwrap().reverse();
            }
            texts.push(format!("{comment}builtins.fromJSON ''\n{value}\n''\n"));
            texts.push(text);
        }
        let found = evaluate(&nix, flake, "order", true, &texts);
        for pair in found.chunks(2) {
            assert_eq!(pair[0], pair[1]);
        }
    }
}

impl Flake {
    /// Whether the flake is to refuse a machine, with a message.
    fn refuses(self, cluster: &ClusterNix) -> bool {
        let several = cluster.lists.for_role(Role::ControlPlane).len() > 1;
        match self {
            Self::K3s | Self::Rke2 => false,
            Self::Kubeadm => several && cluster.endpoint.is_none(),
            Self::K0s => several,
        }
    }

    /// The port at which machines join.
    fn join_port(self, role: Role) -> u16 {
        match self {
            Self::Rke2 => 9345,
            Self::K0s if role == Role::ControlPlane => 9443,
            Self::K3s | Self::Kubeadm | Self::K0s => 6443,
        }
    }

    /// What holds of one distribution alone.
    fn check(self, machine: &Value, cluster: &ClusterNix, name: &str, role: Role) {
        match self {
            Self::K3s | Self::Rke2 => self.check_rancher(machine, cluster, name, role),
            Self::Kubeadm => check_kubeadm(machine, cluster, role),
            Self::K0s => check_k0s(machine, cluster, role),
        }
    }

    fn check_rancher(self, machine: &Value, cluster: &ClusterNix, name: &str, role: Role) {
        let server = role == Role::ControlPlane;
        let (service, command) = match (self, server) {
            (Self::Rke2, true) => ("rke2-server", "rke2 server"),
            (Self::Rke2, false) => ("rke2-agent", "rke2 agent"),
            (_, true) => ("k3s", "k3s server"),
            (_, false) => ("k3s", "k3s agent"),
        };
        let start = machine["units"][service]["serviceConfig"]["ExecStart"]
            .as_str()
            .unwrap();
        assert!(
            start.contains(&format!("/bin/{command} ")),
            "{name}: {start}"
        );
        assert!(start.contains("--token-file /run/nico/join-token"));
        assert!(
            !start.contains("--server") && !start.contains("--cluster-init"),
            "{start}"
        );

        let settings = |file: &str| -> Option<Value> {
            Some(serde_json::from_str(state(machine, file)?).unwrap())
        };
        let found = settings("found.yaml");
        assert_eq!(found.is_some(), cluster.bootstrap.as_deref() == Some(name));
        for found in found
            .iter()
            .chain(&settings("member.yaml").filter(|_| cluster.join.is_none() && server))
        {
            assert!(
                found.get("server").is_none(),
                "who founds joins nobody: {found}"
            );
        }
        for (file, value) in
            ["found.yaml", "join.yaml", "member.yaml"].map(|file| (file, settings(file)))
        {
            let Some(value) = value else { continue };
            let initial = self == Self::K3s && file == "found.yaml";
            assert_eq!(
                value.get("cluster-init").is_some(),
                initial,
                "{file}: {value}"
            );
            assert_eq!(value["node-name"], name);
            assert!(
                value["data-dir"]
                    .as_str()
                    .unwrap()
                    .ends_with(cluster.id.as_str())
            );
            assert_eq!(value.get("agent-token-file").is_some(), server);
            let Some(sans) = value["tls-san"].as_array() else {
                assert!(!server);
                assert!(
                    value.get("server").is_some(),
                    "a worker has a server: {value}"
                );
                continue;
            };
            let own = cluster
                .lists
                .for_role(role)
                .iter()
                .find(|node| node.name == name)
                .unwrap();
            let endpoint = cluster.endpoint.as_ref().map(|Endpoint { host, .. }| host);
            for covered in [Some(&own.ip), endpoint].into_iter().flatten() {
                assert!(
                    sans.contains(&Value::from(covered.as_str())),
                    "{covered}: {value}"
                );
            }
        }
        let ports: Vec<u64> = machine["ports"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_u64)
            .collect();
        assert_eq!(ports.contains(&6443), server);
        assert!(ports.contains(&10250));
    }
}

/// The addresses that the certificates of a control plane machine have to cover, without brackets.
fn covered<'a>(cluster: &'a ClusterNix, machine: &Value) -> Vec<&'a str> {
    let own = cluster.lists.for_role(Role::ControlPlane).iter();
    let own = own.filter(|node| state(machine, "name") == Some(&node.name));
    let endpoint = cluster.endpoint.iter().map(|it| it.host.as_str());
    own.map(|node| node.ip.as_str()).chain(endpoint).collect()
}

fn check_kubeadm(machine: &Value, cluster: &ClusterNix, role: Role) {
    let server = role == Role::ControlPlane;
    for (unit, expected) in [("nico-upkeep", true), ("nico-dead-members", server)] {
        let timers = &machine["others"]["timers"];
        assert_eq!(machine["units"].get(unit).is_some(), expected, "{unit}");
        assert_eq!(timers.get(unit).is_some(), expected, "{unit}");
    }
    assert_eq!(
        machine["units"]["kubelet"]["wantedBy"],
        json!([]),
        "the kubelet waits for the start script"
    );
    let documents = |file: &str| -> Option<Vec<Value>> {
        let documents = state(machine, file)?.split("\n---\n");
        Some(
            documents
                .map(|it| serde_json::from_str(it).unwrap())
                .collect(),
        )
    };
    if let Some(init) = documents("init.yaml") {
        assert!(server);
        assert_eq!(
            init[0]["bootstrapTokens"][0],
            json!({"token": "@token@", "ttl": "0s"})
        );
        let sans = init[1]["apiServer"]["certSANs"].as_array().unwrap();
        for address in covered(cluster, machine) {
            assert!(sans.contains(&Value::from(address)), "{address}: {sans:?}");
        }
        if let Some(Endpoint { host, port }) = &cluster.endpoint {
            assert_eq!(init[1]["controlPlaneEndpoint"], authority(host, *port));
        }
    } else {
        assert!(!server);
    }
    if let Some(join) = documents("join.yaml") {
        let url = state(machine, "join").unwrap();
        let discovery = &join[0]["discovery"]["bootstrapToken"];
        assert_eq!(discovery["token"], "@token@");
        let server_named = discovery["apiServerEndpoint"].as_str().unwrap();
        assert_eq!(url, format!("https://{server_named}"));
        assert_eq!(join[0].get("controlPlane").is_some(), server);
    }
}

fn check_k0s(machine: &Value, cluster: &ClusterNix, role: Role) {
    let server = role == Role::ControlPlane;
    let (service, command) = if server {
        ("k0scontroller", "k0s controller --enable-worker ")
    } else {
        ("k0sworker", "k0s worker ")
    };
    let start = machine["units"][service]["serviceConfig"]["ExecStart"]
        .as_str()
        .unwrap();
    assert!(start.contains(command), "{start}");
    assert!(
        start.ends_with(" $NICO_JOIN"),
        "whether it joins is decided at the start"
    );
    if let Some(configuration) = state(machine, "k0s.yaml") {
        assert!(server);
        let configuration: Value = serde_json::from_str(configuration).unwrap();
        // From the first machine on, so that one can become three.
        assert_eq!(configuration["spec"]["storage"]["type"], "etcd");
        let api = &configuration["spec"]["api"];
        // It has no port, and is nothing beside the load balancer of each machine.
        assert_eq!(api.get("externalAddress"), None);
        let network = &configuration["spec"]["network"];
        assert_eq!(network.get("nodeLocalLoadBalancing"), None, "there is one");
        let sans = api["sans"].as_array().unwrap();
        for address in covered(cluster, machine) {
            assert!(sans.contains(&Value::from(address)), "{address}: {sans:?}");
        }
    } else {
        assert!(!server);
    }
    if let Some(join) = state(machine, "join.json") {
        let join: Value = serde_json::from_str(join).unwrap();
        assert_eq!(
            join["clusters"][0]["cluster"]["server"].as_str(),
            state(machine, "join")
        );
        assert!(state(machine, "ca").unwrap().ends_with(":9444/"));
    }
}
