//! Clusters whose machines have IPv6 addresses: what the distributions are told beside URLs and certificates.
use serde_json::{Value, json};

use super::changes::founding;
use super::evaluated::{self, Evaluated, Flake, evaluate};

const PODS: &str = "fd42:42::/56";
const SERVICES: &str = "fd42:43::/112";

fn parsed(text: &Value) -> Value {
    serde_json::from_str(text.as_str().unwrap()).unwrap()
}

fn documents(text: &Value) -> Vec<Value> {
    let documents = text.as_str().unwrap().split("\n---\n");
    documents
        .map(|it| serde_json::from_str(it).unwrap())
        .collect()
}

/// The cluster as it is, and with IPv6 addresses in its place.
fn both(test: &str, flake: Flake) -> Option<[Evaluated; 2]> {
    let nix = evaluated::nix_or_skip(test)?;
    let text = founding().render();
    let texts = [text.replace("10.0.0.", "fd00::"), text];
    Some(
        evaluate(&nix, flake, test, true, &texts)
            .try_into()
            .unwrap(),
    )
}

#[test]
fn rancher_gets_networks_of_the_machines_family() {
    for flake in [Flake::K3s, Flake::Rke2] {
        let Some([six, four]) = both("ipv6-rancher", flake) else {
            return;
        };
        let (server, agent) = (&six["cp-01"]["state"], &six["worker-01"]["state"]);
        for (file, text) in [
            ("found.yaml", &server["found.yaml"]),
            ("member.yaml", &server["member.yaml"]),
        ] {
            let settings = parsed(text);
            assert_eq!(settings["node-ip"], "fd00::11", "{flake:?}: {file}");
            assert_eq!(settings["cluster-cidr"], PODS, "{flake:?}: {file}");
            assert_eq!(settings["service-cidr"], SERVICES);
            let masquerades = settings.get("flannel-ipv6-masq") == Some(&json!(true));
            assert_eq!(masquerades, flake == Flake::K3s);
        }
        let joined = parsed(&agent["join.yaml"]);
        assert_eq!(joined["node-ip"], "fd00::21");
        let port = if flake == Flake::Rke2 { 9345 } else { 6443 };
        assert_eq!(joined["server"], format!("https://[fd00::11]:{port}"));
        assert!(
            joined.get("cluster-cidr").is_none(),
            "an agent has no such setting"
        );
        let settings = parsed(&four["cp-01"]["state"]["found.yaml"]);
        assert_eq!(settings["node-ip"], "10.0.0.11");
        for absent in ["cluster-cidr", "service-cidr", "flannel-ipv6-masq"] {
            assert!(settings.get(absent).is_none(), "{flake:?}: {absent}");
        }
    }
}

#[test]
fn kubeadm_gets_networks_of_the_machines_family() {
    let Some([six, four]) = both("ipv6-kubeadm", Flake::Kubeadm) else {
        return;
    };
    let address = |document: &Value| document["nodeRegistration"]["kubeletExtraArgs"].clone();
    let node_ip = |ip: &str| json!([{"name": "node-ip", "value": ip}]);
    for (found, ips, subnet) in [
        (&six, ["fd00::11", "fd00::21"], PODS),
        (&four, ["10.0.0.11", "10.0.0.21"], "10.244.0.0/16"),
    ] {
        let is_ipv6 = subnet == PODS;
        let machine = &found["cp-01"];
        let init = documents(&machine["state"]["init.yaml"]);
        assert_eq!(init[0]["localAPIEndpoint"]["advertiseAddress"], ips[0]);
        assert_eq!(address(&init[0]), node_ip(ips[0]));
        let join = documents(&found["worker-01"]["state"]["join.yaml"]);
        assert_eq!(address(&join[0]), node_ip(ips[1]));
        assert_eq!(init[1]["networking"]["podSubnet"], subnet);
        let services = init[1]["networking"].get("serviceSubnet");
        assert_eq!(services, is_ipv6.then_some(&json!(SERVICES)));

        let network = parsed(&machine["state"]["network.json"]);
        let items = network["items"].as_array().unwrap();
        let flannel = items
            .iter()
            .find_map(|item| item["data"].get("net-conf.json"));
        let flannel = parsed(flannel.unwrap());
        let key = if is_ipv6 { "IPv6Network" } else { "Network" };
        assert_eq!(flannel[key], subnet, "the same as kubeadm's");
        assert_eq!(flannel.get("EnableIPv6") == Some(&json!(true)), is_ipv6);
        assert_eq!(flannel.get("EnableIPv4") == Some(&json!(false)), is_ipv6);

        let loopback = if is_ipv6 { "[::1]" } else { "127.0.0.1" };
        let environment = &machine["units"]["nico-dead-members"]["environment"];
        assert_eq!(
            environment["ETCDCTL_ENDPOINTS"],
            format!("https://{loopback}:2379")
        );
    }
}

#[test]
fn k0s_gets_networks_of_the_machines_family() {
    let Some([six, four]) = both("ipv6-k0s", Flake::K0s) else {
        return;
    };
    // Where there may be more control plane machines, workers reach all of them.
    let balancing = json!({"enabled": true, "type": "EnvoyProxy"});
    for (found, ips, network) in [
        (
            &six,
            ["fd00::11", "fd00::21"],
            json!({"nodeLocalLoadBalancing": balancing, "podCIDR": PODS, "serviceCIDR": SERVICES}),
        ),
        (
            &four,
            ["10.0.0.11", "10.0.0.21"],
            json!({"nodeLocalLoadBalancing": balancing}),
        ),
    ] {
        let configuration = parsed(&found["cp-01"]["state"]["k0s.yaml"]);
        let spec = &configuration["spec"];
        assert_eq!(spec["api"]["address"], ips[0]);
        assert_eq!(spec["storage"]["etcd"]["peerAddress"], ips[0]);
        assert_eq!(spec["network"], network);
        for (name, service, ip) in [
            ("cp-01", "k0scontroller", ips[0]),
            ("worker-01", "k0sworker", ips[1]),
        ] {
            let start = found[name]["units"][service]["serviceConfig"]["ExecStart"]
                .as_str()
                .unwrap();
            assert!(
                start.contains(&format!(" --kubelet-extra-args=--node-ip={ip} ")),
                "{start}"
            );
        }
    }
}
