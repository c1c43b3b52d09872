//! The scripts of the evaluated units are run: how a machine starts, and how it leaves.
use std::path::Path;

use nico::plan::cluster_nix::ClusterNix;
use serde_json::Value;

use super::changes::{founded, founding};
use super::evaluated::{self, Evaluated, Flake, evaluate};
use super::machine::Machine;

impl Flake {
    /// The script by which a control plane machine starts.
    pub(super) fn starts(self, evaluated: &Value) -> &str {
        let units = &evaluated["units"];
        let script = match self {
            Self::K3s => &units["k3s"]["preStart"],
            Self::Rke2 => &units["rke2-server"]["preStart"],
            Self::Kubeadm => &units["nico-kubeadm"]["script"],
            Self::K0s => &units["k0scontroller"]["preStart"],
        };
        script.as_str().unwrap()
    }
}

/// While it is founded, and later with nobody to join.
fn two_stages(nix: &Path, flake: Flake, purpose: &str) -> [Evaluated; 2] {
    let later = ClusterNix {
        join: None,
        ..founded()
    };
    let texts = [founding().render(), later.render()];
    evaluate(nix, flake, purpose, true, &texts)
        .try_into()
        .unwrap()
}

#[test]
fn a_machine_founds_joins_goes_on_or_waits() {
    let test = "a_machine_founds_joins_goes_on_or_waits";
    let Some(nix) = evaluated::nix_or_skip(test) else {
        return;
    };
    for flake in Flake::ALL {
        let [founding, later] = two_stages(&nix, flake, "starts");
        let (founder, other) = ("cp-01", "cp-02");
        let join = founding[other]["state"]["join"].as_str().unwrap();
        // Of each: the machine, whether it has data, and who answers.
        let cases: [(&Value, bool, &[&str], Option<&str>); 10] = [
            (&founding[founder], false, &[], Some("found")),
            (&founding[founder], false, &["https://10.0.0.13:6443"], None),
            (
                &founding[founder],
                false,
                &["https://10.0.0.99:6443"],
                Some("found"),
            ),
            (
                &founding[founder],
                true,
                &["https://10.0.0.13:6443"],
                Some("member"),
            ),
            (&founding[other], false, &[], None),
            (&founding[other], false, &[join], Some("join")),
            (&founding[other], true, &[], Some("member")),
            (&later[founder], false, &["https://10.0.0.12:6443"], None),
            (&later[founder], true, &[], Some("member")),
            (&later[other], false, &[join], None),
        ];
        for (index, (evaluated, data, answering, expected)) in cases.into_iter().enumerate() {
            let name = format!("start-{}-{index}", flake.directory());
            let machine = Machine::new(&name, evaluated, data);
            machine.answering(answering);
            let run = machine.path("run/nico");
            let run = run.display();
            // Upkeep waits meanwhile.
            machine.command(
                "kubeadm",
                &format!("cat {run}/start.yaml > {run}/given\n! flock --nonblock {run}/lock true"),
            );
            let found = machine.start(flake.starts(evaluated));
            assert_eq!(found.as_deref(), expected, "{flake:?}: case {index}");
            let Some(how) = expected else {
                assert_eq!(machine.read("run/nico/config.yaml"), None);
                assert!(machine.calls(&["kubeadm"]).is_empty());
                continue;
            };
            match flake {
                Flake::K3s | Flake::Rke2 => {
                    let config: Value =
                        serde_json::from_str(&machine.read("run/nico/config.yaml").unwrap())
                            .unwrap();
                    assert_eq!(
                        config["cluster-init"] == true,
                        flake == Flake::K3s && how == "found"
                    );
                    assert_eq!(
                        config.get("server").is_some(),
                        evaluated["state"].get("join").is_some()
                    );
                }
                Flake::Kubeadm => {
                    let command = machine
                        .calls(&["kubeadm"])
                        .first()
                        .map(|call| call.split(' ').nth(1).unwrap().to_owned());
                    let expected = match how {
                        "found" => Some("init"),
                        "join" => Some("join"),
                        _ => None,
                    };
                    assert_eq!(command.as_deref(), expected);
                    if let Some(given) = machine.read("run/nico/given") {
                        assert!(
                            given.contains(&format!("222222.{}", "2".repeat(16))),
                            "{given}"
                        );
                        assert!(
                            given.contains(&"1".repeat(64)) && !given.contains('@'),
                            "{given}"
                        );
                    }
                    assert_eq!(
                        machine.read("run/nico/start.yaml"),
                        None,
                        "tokens do not stay in a file"
                    );
                    assert!(
                        machine
                            .calls(&["kubeadm"])
                            .iter()
                            .all(|call| !call.contains("1111"))
                    );
                }
                Flake::K0s => {
                    let joins = machine
                        .read("run/nico/k0s.env")
                        .unwrap()
                        .contains("--token-file=");
                    assert_eq!(joins, how == "join");
                }
            }
        }
    }
}

/// Data of another id are set aside once, and what runs from them ends.
#[test]
fn another_id_starts_from_nothing() {
    let Some(nix) = evaluated::nix_or_skip("another_id_starts_from_nothing") else {
        return;
    };
    for flake in Flake::ALL {
        let [founding, _] = two_stages(&nix, flake, "other-id");
        let evaluated = &founding["cp-01"];
        let id = evaluated["state"]["id"].as_str().unwrap();
        for (held, aside) in [("0123456789abcdef", true), (id, false)] {
            let machine = Machine::new(
                &format!("other-id-{}-{aside}", flake.directory()),
                evaluated,
                false,
            );
            machine.write("var/lib/nico/id", held);
            for begun in ["etc/kubernetes/nico-begun", "var/lib/k0s/nico-begun"] {
                machine.write(begun, held);
            }
            machine.write("etc/kubernetes/earlier", "");
            machine.write("var/lib/k0s/earlier", "");
            assert_eq!(
                machine.start(flake.starts(evaluated)).as_deref(),
                Some("found")
            );
            assert_eq!(machine.read("var/lib/nico/id").unwrap().trim(), id);
            assert_eq!(!machine.calls(&["pkill"]).is_empty(), aside, "{flake:?}");
            let earlier = match flake {
                // They have a directory for each id.
                Flake::K3s | Flake::Rke2 => continue,
                Flake::Kubeadm => "etc/kubernetes/earlier",
                Flake::K0s => "var/lib/k0s/earlier",
            };
            assert_eq!(machine.read(earlier).is_none(), aside, "{flake:?}");
            assert_eq!(
                machine.path("var/lib/nico/aside").exists(),
                aside,
                "{flake:?}"
            );
        }
    }
}

#[test]
fn a_released_machine_leaves_etcd_before_it_stops() {
    let Some(nix) = evaluated::nix_or_skip("a_released_machine_leaves_etcd_before_it_stops") else {
        return;
    };
    for flake in Flake::ALL {
        let [founding, _] = two_stages(&nix, flake, "leaves");
        let unit = &founding["minimal"]["units"]["nico-leave"];
        let services = unit["environment"]["NICO_SERVICES"].as_str().unwrap();
        for service in services.split(' ') {
            let kept = &founding["minimal"]["units"][service];
            assert_eq!(
                kept["restartIfChanged"], false,
                "{service} runs on until it is stopped"
            );
            assert!(kept["wantedBy"].as_array().unwrap().is_empty());
        }
        let script = format!(
            "NICO_SERVICES='{services}'\n{}",
            unit["script"].as_str().unwrap()
        );
        // Whether another control plane machine answers.
        for answers in [true, false] {
            let machine = Machine::new(
                &format!("leave-{}-{answers}", flake.directory()),
                &founding["cp-02"],
                true,
            );
            machine.answering(if answers {
                &["https://10.0.0.13:6443"]
            } else {
                &[]
            });
            machine.command("kubectl", "echo removed-node-name: etcd.k3s.cattle.io/removed-node-name etcd.rke2.cattle.io/removed-node-name");
            machine.command("etcdctl", "case \"$*\" in *list) echo 'a1, started, cp-01, x, y, false'; echo 'a2, started, cp-02, x, y, false' ;; esac");
            machine.must_run(&script);
            let calls = machine.calls(&["kubectl", "etcdctl", "systemctl"]);
            let stops = calls
                .iter()
                .position(|call| call.starts_with("systemctl stop"))
                .unwrap();
            let leaves = calls.iter().position(|call| {
                call.contains("annotate node cp-02") || call.ends_with("member remove a2")
            });
            assert_eq!(leaves.is_some(), answers, "{flake:?}: {calls:?}");
            assert!(
                leaves.is_none_or(|leaves| leaves < stops),
                "{flake:?}: {calls:?}"
            );
            assert!(!machine.path("var/lib/nico/member").exists());
            let data = founding["cp-02"]["state"]["data"].as_str().unwrap();
            let data = machine.path(data.trim_start_matches('/'));
            assert!(!data.exists(), "{flake:?} would start again");
            // Once more, as after a reboot.
            machine.must_run(&script);
            assert_eq!(
                machine.calls(&["systemctl"]).len(),
                services.split(' ').count()
            );
        }
        // A worker has nothing to leave but its place.
        let machine = Machine::new(
            &format!("leave-{}-worker", flake.directory()),
            &founding["worker-01"],
            true,
        );
        machine.must_run(&script);
        assert!(machine.calls(&["kubectl", "etcdctl"]).is_empty());
    }
}

/// A k0s worker gets the CA's certificate over a network that anybody may listen to and write into.
#[test]
fn a_worker_takes_only_a_ca_that_is_signed_with_the_workers_token() {
    let test = "a_worker_takes_only_a_ca_that_is_signed_with_the_workers_token";
    let Some(nix) = evaluated::nix_or_skip(test) else {
        return;
    };
    let found = evaluate(&nix, Flake::K0s, "ca", false, &[founding().render()]);
    let (controller, worker) = (&found[0]["cp-01"], &found[0]["worker-01"]);
    let hands_out = controller["units"]["nico-ca@"]["script"].as_str().unwrap();
    // Whoever keeps a connection open has no lasting process for it.
    let service = &controller["units"]["nico-ca@"]["serviceConfig"];
    assert_eq!(service["RuntimeMaxSec"], "10s");
    let starts = worker["units"]["k0sworker"]["preStart"].as_str().unwrap();
    let handing = Machine::new("ca-controller", controller, true);
    handing.write("var/lib/k0s/pki/ca.crt", "the CA's certificate\n");
    let answer = handing.run(hands_out).stdout;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.0 200 OK"), "{head}");
    assert!(body.ends_with("the CA's certificate\n"), "{body}");

    let other_token = "3".repeat(64);
    let changed = body.replace("certificate", "counterfeit");
    let longer = format!("{body}another certificate\n");
    // What arrives, with which token the worker judges it, and whether the worker goes on.
    let cases = [
        (body, "2".repeat(64), true),
        (&changed, "2".repeat(64), false),
        (&longer, "2".repeat(64), false),
        (body, other_token, false),
    ];
    for (index, (body, token, taken)) in cases.into_iter().enumerate() {
        let machine = Machine::new(&format!("ca-worker-{index}"), worker, false);
        machine.write("run/nico/join-token", &token);
        machine.write("body", body);
        let file = machine.path("body");
        let script = format!(
            "while [ $# -gt 0 ]; do [ \"$1\" != --output ] || [ \"$2\" = /dev/null ] || cat {} > \"$2\"; shift; done",
            file.display()
        );
        machine.command("curl", &script);
        let output = machine.run(starts);
        assert_eq!(output.status.success(), taken, "case {index}");
        assert_eq!(machine.read("run/nico/k0s-token").is_some(), taken);
        if taken {
            let token = machine.must_run("base64 -d $NICO_ROOT/run/nico/k0s-token | gzip -d >&2");
            let kubeconfig: Value = serde_json::from_str(&token).unwrap();
            let cluster = &kubeconfig["clusters"][0]["cluster"];
            assert_eq!(
                cluster["certificate-authority-data"],
                "dGhlIENBJ3MgY2VydGlmaWNhdGUK"
            );
            assert_eq!(
                kubeconfig["users"][0]["user"]["token"],
                format!("222222.{}", "2".repeat(16))
            );
        }
    }
}
