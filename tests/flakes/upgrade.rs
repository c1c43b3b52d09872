//! What takes a kubeadm API server away for moments: it belongs to the apply, so that one control plane machine follows the other.
use serde_json::{Value, json};

use super::changes::founded;
use super::evaluated::{self, Evaluated, Flake, evaluate};
use super::machine::Machine;

/// The flake while its cluster runs.
fn running(test: &str) -> Option<Evaluated> {
    let nix = evaluated::nix_or_skip(test)?;
    let found = evaluate(&nix, Flake::Kubeadm, test, false, &[founded().render()]);
    found.into_iter().next()
}

/// The script of the unit for which an apply waits.
fn starts(evaluated: &Value) -> String {
    let unit = &evaluated["units"]["nico-kubeadm"];
    let version = unit["environment"]["KUBERNETES_VERSION"].as_str().unwrap();
    let script = unit["script"].as_str().unwrap();
    format!("export KUBERNETES_VERSION={version}\n{script}")
}

/// A member that is as its flake wants it, whose API server is ready or not.
fn member(test: &str, evaluated: &Value, ready: bool) -> Machine {
    let machine = Machine::new(test, evaluated, true);
    machine.write(
        "var/lib/nico/id",
        evaluated["state"]["id"].as_str().unwrap(),
    );
    machine.static_pods("v1.34.1");
    let ready = if ready { "" } else { "exit 1" };
    machine.command(
        "kubectl",
        &format!("case \"$*\" in *readyz) {ready} ;; esac"),
    );
    // Upkeep waits meanwhile.
    let lock = machine.path("run/nico/lock");
    machine.command(
        "kubeadm",
        &format!("! flock --nonblock {} true", lock.display()),
    );
    machine
}

/// The kubelet of Kubernetes 1.35 does not start with a flag that kubeadm wrote until then.
#[test]
fn a_new_kubelet_starts_without_the_flag_that_it_no_longer_knows() {
    let Some(found) = running("a_new_kubelet_starts_without_the_flag_that_it_no_longer_knows")
    else {
        return;
    };
    for name in ["cp-02", "worker-01"] {
        let script = found[name]["units"]["kubelet"]["preStart"]
            .as_str()
            .unwrap();
        let machine = Machine::new(&format!("kubelet-flag-{name}"), &found[name], true);
        let flags = "var/lib/kubelet/kubeadm-flags.env";
        machine.must_run(script);
        assert_eq!(machine.read(flags), None, "before kubeadm wrote any");
        let pause = "--pod-infra-container-image=registry.k8s.io/pause:3.10.1";
        for (before, after) in [
            (
                format!("\"--node-ip=10.0.0.11 {pause} --v=2\""),
                "\"--node-ip=10.0.0.11 --v=2\"",
            ),
            (format!("\"{pause}\""), "\"\""),
            ("\"--v=2\"".to_owned(), "\"--v=2\""),
        ] {
            machine.write(flags, &format!("KUBELET_KUBEADM_ARGS={before}\n"));
            machine.must_run(script);
            let left = machine.read(flags);
            assert_eq!(left, Some(format!("KUBELET_KUBEADM_ARGS={after}\n")));
        }
    }
}

/// An apply waits for a oneshot unit, and one that fails fails it.
#[test]
fn an_apply_waits_for_the_upgrade() {
    let Some(found) = running("an_apply_waits_for_the_upgrade") else {
        return;
    };
    let unit = &found["cp-02"]["units"]["nico-kubeadm"];
    assert_eq!(unit["serviceConfig"]["Type"], "oneshot");
    // A slow machine needs half an hour, and upkeep waits for it.
    assert_eq!(unit["serviceConfig"]["TimeoutStartSec"], "40min");
    assert_eq!(unit["serviceConfig"]["Restart"], "on-failure");
    assert_eq!(unit["wantedBy"], json!(["multi-user.target"]));
    assert_eq!(unit["restartIfChanged"], true);
    // A new version starts it again.
    let triggers = unit["restartTriggers"].to_string();
    assert!(triggers.contains("v1.34.1"), "{triggers}");
    let upkeep = &found["cp-02"]["units"]["nico-upkeep"];
    assert_eq!(upkeep["serviceConfig"]["TimeoutStartSec"], "70min");
    let upkeep = upkeep["script"].as_str().unwrap();
    assert!(upkeep.contains("\ntake_turn --timeout 2500\n"), "{upkeep}");
    assert!(!upkeep.contains("kubeadm upgrade"), "{upkeep}");

    let upgrade = "kubeadm upgrade apply --yes --ignore-preflight-errors ControlPlaneNodesReady,CreateJob v1.34.1";
    let cases: [(&str, &[&str], bool, &[&str]); 5] = [
        ("as it should be", &[], true, &[]),
        ("as it should be, without a quorum", &[], false, &[]),
        ("an older API server", &["kube-apiserver"], true, &[upgrade]),
        ("an older scheduler", &["kube-scheduler"], true, &[upgrade]),
        ("somebody else's pod", &["kube-vip"], true, &[]),
    ];
    for (what, older, ready, expected) in cases {
        let machine = member("upgrade-waits", &found["cp-02"], ready);
        for name in older {
            machine.static_pod(name, "v1.33.9");
        }
        machine.must_run(&starts(&found["cp-02"]));
        assert_eq!(machine.calls(&["kubeadm"]), expected, "{what}");
        let calls = machine.calls(&["kubeadm", "systemctl"]);
        assert!(
            calls[0].contains("start --no-block kubelet"),
            "{what}: {calls:?}"
        );
        assert!(
            machine.read("etc/kubernetes/nico-upgrading").is_none(),
            "{what}"
        );
    }

    // A worker has no part in it.
    let machine = member("upgrade-waits", &found["worker-01"], true);
    machine.static_pods("v1.33.9");
    machine.must_run(&starts(&found["worker-01"]));
    assert!(machine.calls(&["kubeadm"]).is_empty());
}

#[test]
fn an_upgrade_that_fails_fails_the_apply_and_is_taken_up_again() {
    let Some(found) = running("an_upgrade_that_fails_fails_the_apply_and_is_taken_up_again") else {
        return;
    };
    let script = starts(&found["cp-02"]);
    let machine = member("upgrade-fails", &found["cp-02"], true);
    machine.static_pods("v1.33.9");
    // It gets as far as the static pods, and not to the rest.
    let pods = machine.path("etc/kubernetes/manifests");
    machine.command(
        "kubeadm",
        &format!("sed -i s/v1.33.9/v1.34.1/ {}/*; exit 1", pods.display()),
    );
    assert!(!machine.run(&script).status.success());
    assert_eq!(machine.calls(&["kubeadm"]).len(), 1);
    // What comes next fails before it changes anything: what was begun is still to be taken up.
    machine.command("kubeadm", "exit 1");
    assert!(!machine.run(&script).status.success());
    machine.command("kubeadm", "exit 0");
    machine.must_run(&script);
    assert_eq!(machine.calls(&["kubeadm"]).len(), 3);
    machine.must_run(&script);
    assert_eq!(machine.calls(&["kubeadm"]).len(), 3, "once is enough");
}

/// The next machine may be the one that brings the quorum back: an apply that waits for it in vain must not stop NICO.
#[test]
fn without_a_quorum_an_apply_ends_well_and_upkeep_upgrades_later() {
    let Some(found) = running("without_a_quorum_an_apply_ends_well_and_upkeep_upgrades_later")
    else {
        return;
    };
    let (script, unit) = (starts(&found["cp-02"]), &found["cp-02"]["units"]);
    let upkeep = unit["nico-upkeep"]["script"].as_str().unwrap();
    let upkeep = format!("export KUBERNETES_VERSION=v1.34.1\n{upkeep}");
    // Also where a power cut ended an upgrade that had begun.
    for begun in [false, true] {
        let machine = member("upgrade-quorum", &found["cp-02"], false);
        let restarts = || {
            let calls = machine.calls(&["systemctl"]);
            let is = |call: &&String| call.contains("restart --no-block nico-kubeadm");
            calls.iter().filter(is).count()
        };
        machine.static_pods("v1.33.9");
        if begun {
            machine.write("etc/kubernetes/nico-upgrading", "");
        }
        let said = machine.must_run(&script);
        assert!(said.contains("not upgraded to v1.34.1 yet"), "{said}");
        assert!(machine.calls(&["kubeadm"]).is_empty(), "nothing is changed");
        let calls = machine.calls(&["systemctl"]);
        assert!(calls[0].contains("start --no-block kubelet"), "{calls:?}");

        machine.must_run(&upkeep);
        assert_eq!(restarts(), 0, "there is no quorum yet");
        machine.command("kubectl", "exit 0");
        machine.command("systemctl", "case \"$1\" in is-active) exit 3 ;; esac");
        machine.must_run(&upkeep);
        assert_eq!(restarts(), 0, "a start is on its way, or tries again");
        machine.command("systemctl", "exit 0");
        machine.must_run(&upkeep);
        assert_eq!(restarts(), 1);
        // What comes then.
        machine.static_pods("v1.34.1");
        machine.must_run(&script);
        let upgrades = machine.calls(&["kubeadm"]);
        let upgrades = upgrades
            .iter()
            .filter(|call| call.contains("upgrade apply"));
        assert_eq!(upgrades.count(), usize::from(begun));
        machine.must_run(&upkeep);
        assert_eq!(restarts(), 1, "once is enough");
    }
}

#[test]
fn a_flake_goes_back_after_an_upgrade_that_changed_nothing() {
    let Some(found) = running("a_flake_goes_back_after_an_upgrade_that_changed_nothing") else {
        return;
    };
    let machine = member("upgrade-back", &found["cp-02"], true);
    machine.static_pods("v1.33.9");
    machine.command("kubeadm", "exit 1");
    let script = starts(&found["cp-02"]);
    assert!(!machine.run(&script).status.success());
    // The flake of before asks for what is there.
    machine.command("kubectl", "exit 1");
    machine.must_run(&script.replace("v1.34.1", "v1.33.9"));
    assert_eq!(machine.calls(&["kubeadm"]).len(), 1);
}

/// Such names are asked for as names: openssl takes none of them for an address.
#[test]
fn a_name_that_begins_like_an_address_is_a_name() {
    let Some(found) = running("a_name_that_begins_like_an_address_is_a_name") else {
        return;
    };
    let machine = member("upgrade-names", &found["cp-02"], true);
    machine.write(
        "var/lib/nico/member/sans",
        "10.0.0.12\ncp-02\nfd00::10\n10.0.0.10.nip.io\n4.3.2.1x\n",
    );
    machine.command(
        "openssl",
        "case \"$*\" in *'-checkip 10.0.0.12 '* | *'-checkip fd00::10 '* | *'-checkhost cp-02 '* | *'-checkhost 10.0.0.10.nip.io '* | *'-checkhost 4.3.2.1x '*) echo does match certificate ;; esac",
    );
    machine.must_run(&starts(&found["cp-02"]));
    assert!(machine.calls(&["kubeadm"]).is_empty(), "it is covered");
}

/// The certificate covers an endpoint that came later, and the API server starts again for it.
#[test]
fn an_apply_waits_for_a_certificate_that_covers_the_endpoint() {
    let Some(found) = running("an_apply_waits_for_a_certificate_that_covers_the_endpoint") else {
        return;
    };
    // Also where a power cut left no certificate, so that no API server becomes ready.
    for (uncovered, ready) in [("10.0.0.10", true), ("10.0.0.10", false), ("cp-02", true)] {
        let machine = member("upgrade-covers", &found["cp-02"], ready);
        machine.command(
            "openssl",
            &format!("case \"$*\" in *' {uncovered} '*) echo 'does NOT match certificate' ;; *) echo 'does match certificate' ;; esac"),
        );
        machine.command("crictl", "case \"$*\" in *--quiet*) echo container ;; esac");
        machine.write(
            "etc/kubernetes/pki/apiserver.key",
            "of the earlier certificate",
        );
        machine.must_run(&starts(&found["cp-02"]));
        let config = machine.path("run/nico/start.yaml");
        let expected = format!(
            "kubeadm init phase certs apiserver --config {}",
            config.display()
        );
        assert_eq!(machine.calls(&["kubeadm"]), [expected]);
        assert!(!machine.path("etc/kubernetes/pki/apiserver.key").exists());
        let restarted = machine.calls(&["crictl"]);
        assert!(
            restarted.last().unwrap().ends_with("stop container"),
            "{restarted:?}"
        );
        assert!(!config.exists(), "the tokens do not stay");
    }
}
