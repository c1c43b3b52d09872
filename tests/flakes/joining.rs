//! What a machine needs to be reached and to be joined: the SSH server, open ports, tokens; and how it knows that it is in the cluster.
use std::fs;

use serde_json::{Value, json};

use super::changes::{each_founding, founding};
use super::evaluated::{self, Flake, copy, evaluate, expression, root, scratch};
use super::machine::Machine;
use super::release::leaves;

/// The first start ends when the machine is a Node, and a later one asks nobody.
#[test]
fn the_first_start_waits_until_the_machine_is_a_node() {
    let Some(nix) = evaluated::nix_or_skip("the_first_start_waits_until_the_machine_is_a_node")
    else {
        return;
    };
    // kubeadm itself waits.
    for flake in [Flake::K3s, Flake::Rke2, Flake::K0s] {
        let found = evaluate(&nix, flake, "joined", true, &[founding().render()]);
        for name in ["cp-01", "worker-01"] {
            let evaluated = &found[0][name];
            let unit = &evaluated["units"]["nico-joined"];
            let script = unit["script"].as_str().unwrap();
            // It fails, and a switch to a new system sees that; nothing starts it again before the next one.
            assert_eq!(unit["wantedBy"], json!(["multi-user.target"]));
            assert_eq!(
                unit["serviceConfig"],
                json!({"Type": "oneshot", "RemainAfterExit": true, "TimeoutStartSec": "20min"})
            );
            let waits = |unit: &&Value| unit["postStart"].as_str().is_some_and(|it| !it.is_empty());
            let units = evaluated["units"].as_object().unwrap();
            assert_eq!(
                units.values().find(waits),
                None,
                "no service restarts while its postStart waits"
            );
            let machine = Machine::new(
                &format!("joined-{}-{name}", flake.directory()),
                evaluated,
                true,
            );
            let id = evaluated["state"]["id"].as_str().unwrap();
            // Whose data are there is not known before start.sh has judged them: those of another cluster know a Node of this name, too.
            let role = evaluated["state"]["role"].as_str().unwrap();
            let state = machine.path("var/lib/nico").display().to_string();
            machine.write("var/lib/nico/id", "0123456789abcdef");
            machine.command(
                "sleep",
                &format!("echo {id} > {state}/id; echo {role} > {state}/role"),
            );
            // The third question finds the Node.
            let calls = machine.path("calls");
            machine.command(
                "kubectl",
                &format!("[ $(grep -c ^kubectl {}) -ge 3 ]", calls.display()),
            );
            machine.must_run(script);
            let asked = machine.calls(&["kubectl"]);
            assert_eq!(asked.len(), 3, "{flake:?}: {asked:?}");
            let first = machine.calls(&["sleep", "kubectl"]).remove(0);
            assert!(first.starts_with("sleep"), "{flake:?}: {first}");
            let kubeconfig = evaluated["state"]["kubeconfig"].as_str().unwrap();
            let kubeconfig = machine.path(kubeconfig.trim_start_matches('/'));
            let expected = format!(
                "kubectl --kubeconfig {} --request-timeout 5s get node {name}",
                kubeconfig.display()
            );
            assert_eq!(asked[0], expected);
            assert_eq!(machine.read("var/lib/nico/joined").as_deref(), Some(id));
            machine.command("kubectl", "exit 1");
            machine.must_run(script);
            assert_eq!(
                machine.calls(&["kubectl"]).len(),
                3,
                "a later start waits for nobody"
            );
            // In another cluster, it waits again.
            machine.write("var/lib/nico/joined", "0123456789abcdef");
            machine.command("kubectl", "exit 0");
            machine.must_run(script);
            assert_eq!(machine.calls(&["kubectl"]).len(), 4);
        }
    }
}

/// `minimal` lets NIO in by the key that the machine had as a member, also where it is built without that key.
#[test]
fn a_released_machine_is_reached_by_ssh_as_before() {
    let Some(nix) = evaluated::nix_or_skip("a_released_machine_is_reached_by_ssh_as_before") else {
        return;
    };
    for flake in Flake::ALL {
        let directory = scratch(&format!("ssh-{}", flake.directory()));
        let examples = root().join("examples/flakes");
        copy(&examples.join("lib"), &directory.join("lib"));
        copy(&examples.join(flake.directory()), &directory.join("flake"));
        let report = root().join("tests/flakes/report.nix");
        let found = expression(
            &nix,
            &directory,
            &format!("import {} [ ./flake ]", report.display()),
        );
        let _ = fs::remove_dir_all(&directory);
        let member = evaluate(&nix, flake, "ssh-member", true, &[founding().render()]);
        for (what, machine) in [
            ("a member", &member[0]["cp-01"]),
            ("minimal alone", &found[0]["minimal"]),
        ] {
            assert_eq!(machine["ssh"]["enable"], true, "{flake:?}: {what}");
            let files = &machine["ssh"]["authorizedKeysFiles"];
            assert!(
                files
                    .as_array()
                    .unwrap()
                    .contains(&json!("/var/lib/nico/authorized_keys.d/%u")),
                "{files}"
            );
            assert_eq!(machine["ssh"]["openFirewall"], true);
        }
        let activation = member[0]["cp-01"]["activation"].to_string();
        assert!(
            activation.contains("-nico-authorized-keys /var/lib/nico/authorized_keys.d/'root'"),
            "{activation}"
        );
        // The release itself leaves the key alone.
        let machine = Machine::new(
            &format!("ssh-{}", flake.directory()),
            &member[0]["worker-01"],
            true,
        );
        machine.write("var/lib/nico/authorized_keys.d/root", "ssh-ed25519 AAAA");
        machine.must_run(&leaves(&member[0]));
        assert!(
            machine
                .read("var/lib/nico/authorized_keys.d/root")
                .is_some(),
            "{flake:?}"
        );
    }
}

/// dhcpcd may make a pod's interface the machine's default route. A released machine still has them while it leaves.
#[test]
fn nobody_asks_for_addresses_on_interfaces_of_pods() {
    each_founding("dhcp", |flake, found| {
        for (name, machine) in found {
            let denied = machine["dhcpcd"].as_array().unwrap();
            for interface in ["veth*", "cali*", "cni*", "flannel*", "kube-bridge"] {
                assert!(denied.contains(&json!(interface)), "{flake:?}: {name}");
            }
        }
    });
}

#[test]
fn ports_are_open_for_all_who_may_join() {
    let Some(nix) = evaluated::nix_or_skip("ports_are_open_for_all_who_may_join") else {
        return;
    };
    for (flake, own_ca, server, worker) in [
        (
            Flake::K3s,
            false,
            vec![2379, 2380, 6443, 10250],
            vec![10250],
        ),
        (
            Flake::Rke2,
            false,
            vec![2379, 2380, 2381, 6443, 9345, 10250],
            vec![10250],
        ),
        (
            Flake::Kubeadm,
            false,
            vec![2379, 2380, 6443, 10250],
            vec![10250],
        ),
        (
            Flake::K0s,
            true,
            vec![179, 2380, 6443, 8132, 9443, 10250],
            vec![179, 10250],
        ),
        (
            Flake::K0s,
            false,
            vec![179, 2380, 6443, 8132, 9443, 9444, 10250],
            vec![179, 10250],
        ),
    ] {
        let found = evaluate(
            &nix,
            flake,
            &format!("ports-{own_ca}"),
            own_ca,
            &[founding().render()],
        );
        for (name, expected) in [("cp-01", &server), ("worker-01", &worker)] {
            let machine = &found[0][name];
            let ports = machine["ports"].as_array().unwrap().iter();
            let mut ports: Vec<u64> = ports.map(|port| port.as_u64().unwrap()).collect();
            ports.sort_unstable();
            assert_eq!(&ports, expected, "{flake:?} {name}");
            let firewall = &machine["others"]["firewall"];
            // The pods' network. k0s has none over UDP.
            let udp = if flake == Flake::K0s {
                json!([])
            } else {
                json!([8472])
            };
            assert_eq!(firewall["allowedUDPPorts"], udp, "{flake:?} {name}");
            assert_eq!(firewall["enable"], true);
        }
    }
}

/// Three control plane machines, with a CA of one's own.
#[test]
fn k0s_machines_found_and_join_with_a_ca_of_ones_own() {
    let Some(nix) = evaluated::nix_or_skip("k0s_machines_found_and_join_with_a_ca_of_ones_own")
    else {
        return;
    };
    let found = evaluate(&nix, Flake::K0s, "own-ca", true, &[founding().render()]);
    let found = &found[0];
    for (name, founds) in [
        ("cp-01", true),
        ("cp-02", false),
        ("cp-03", false),
        ("worker-01", false),
    ] {
        let evaluated = &found[name];
        assert_eq!(evaluated["failed"], json!([]), "{name}");
        let activation = evaluated["activation"].to_string();
        assert_eq!(activation.contains("/run/nico/ca.key"), founds, "{name}");
        assert_eq!(
            evaluated["others"]["sockets"],
            json!({}),
            "nobody hands out a CA"
        );
        let control_plane = name != "worker-01";
        let service = if control_plane {
            "k0scontroller"
        } else {
            "k0sworker"
        };
        let script = evaluated["units"][service]["preStart"].as_str().unwrap();
        let machine = Machine::new(&format!("own-ca-{name}"), evaluated, false);
        if founds {
            machine.write("run/nico/ca.key", "a key");
        }
        let join = format!(
            "https://10.0.0.11:{}",
            if control_plane { 9443 } else { 6443 }
        );
        machine.answering(
            if founds {
                &[]
            } else {
                std::slice::from_ref(&join)
            }
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .as_slice(),
        );
        let how = machine.start(script);
        assert_eq!(
            how.as_deref(),
            Some(if founds { "found" } else { "join" }),
            "{name}"
        );
        assert_eq!(machine.read("var/lib/k0s/pki/ca.key").is_some(), founds);
        assert_eq!(machine.read("var/lib/k0s/pki/ca.crt").is_some(), founds);

        let tokens = machine.read("var/lib/k0s/manifests/nico/tokens.yaml");
        assert_eq!(tokens.is_some(), control_plane, "{name}");
        if let Some(tokens) = tokens {
            check_tokens(&serde_json::from_str(&tokens).unwrap());
        }
        if !founds {
            let token = machine.must_run("base64 -d $NICO_ROOT/run/nico/k0s-token | gzip -d >&2");
            let kubeconfig: Value = serde_json::from_str(&token).unwrap();
            let cluster = &kubeconfig["clusters"][0]["cluster"];
            assert_eq!(cluster["server"], *join);
            assert_eq!(
                cluster["certificate-authority-data"],
                "YSBjZXJ0aWZpY2F0ZQ=="
            );
            let user = if control_plane {
                "controller-bootstrap"
            } else {
                "kubelet-bootstrap"
            };
            assert_eq!(kubeconfig["users"][0]["name"], user);
            assert_eq!(kubeconfig["contexts"][0]["context"]["user"], user);
            let digit = "1";
            assert_eq!(
                kubeconfig["users"][0]["user"]["token"],
                format!("{}.{}", digit.repeat(6), digit.repeat(16))
            );
        }
    }
}

/// Which tokens the cluster accepts, and for what.
fn check_tokens(list: &Value) {
    let items = list["items"].as_array().unwrap();
    assert_eq!(items.len(), 2);
    for (digit, usage, others) in [
        (
            "2",
            [
                "usage-bootstrap-authentication",
                "usage-bootstrap-api-worker-calls",
            ],
            ["usage-controller-join", "usage-bootstrap-controller-join"],
        ),
        (
            "1",
            ["usage-controller-join", "usage-bootstrap-controller-join"],
            ["usage-bootstrap-authentication", "usage-bootstrap-signing"],
        ),
    ] {
        let name = format!("bootstrap-token-{}", digit.repeat(6));
        let secret = items
            .iter()
            .find(|item| item["metadata"]["name"] == name.as_str())
            .unwrap();
        assert_eq!(secret["kind"], "Secret");
        assert_eq!(secret["type"], "bootstrap.kubernetes.io/token");
        assert_eq!(secret["metadata"]["namespace"], "kube-system");
        let data = &secret["stringData"];
        assert_eq!(data["token-id"], digit.repeat(6));
        assert_eq!(data["token-secret"], digit.repeat(16));
        assert!(
            data.get("expiration").is_none(),
            "a machine may join at any time"
        );
        for usage in usage {
            assert_eq!(data[usage], "true", "{name}: {usage}");
        }
        for other in others {
            assert_ne!(data[other], "true", "{name}: {other}");
        }
    }
}
