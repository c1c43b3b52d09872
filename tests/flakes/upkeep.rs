//! What a kubeadm cluster needs again and again.
use nico::plan::cluster_nix::ClusterNix;

use super::changes::founded;
use super::evaluated::{self, Flake, evaluate};
use super::machine::Machine;

/// What the API server and the certificate of a control plane machine are like.
#[derive(Clone, Copy)]
struct Before {
    ready: bool,
    /// An address that the certificate does not cover.
    uncovered: Option<&'static str>,
    version: &'static str,
    upgrade_fails: bool,
}

const GOOD: Before = Before {
    ready: true,
    uncovered: None,
    version: "v1.34.1",
    upgrade_fails: false,
};

#[test]
fn certificates_tokens_and_versions_are_kept_as_they_should_be() {
    let test = "certificates_tokens_and_versions_are_kept_as_they_should_be";
    let Some(nix) = evaluated::nix_or_skip(test) else {
        return;
    };
    let found = evaluate(&nix, Flake::Kubeadm, "upkeep", false, &[founded().render()]);
    let evaluated = &found[0]["cp-02"];
    let script = evaluated["units"]["nico-upkeep"]["script"]
        .as_str()
        .unwrap();
    let version = evaluated["units"]["nico-upkeep"]["environment"]["KUBERNETES_VERSION"].as_str();
    let script = format!("export KUBERNETES_VERSION={}\n{script}", version.unwrap());

    let repeated = ["upload-certs", "bootstrap-token", "upload-config kubeadm"];
    let upgraded = [
        "upload-certs",
        "bootstrap-token",
        "upgrade apply",
        "upload-config kubeadm",
    ];
    let cases: [(&str, bool, Before, &[&str]); 8] = [
        ("as it should be", true, GOOD, &repeated),
        ("not in the cluster yet", false, GOOD, &[]),
        (
            "not ready",
            true,
            Before {
                ready: false,
                ..GOOD
            },
            &[],
        ),
        (
            "a new endpoint",
            true,
            Before {
                uncovered: Some("10.0.0.10"),
                ..GOOD
            },
            &["certs apiserver"],
        ),
        (
            "cut off before the new certificate was there, so that the API server cannot start",
            true,
            Before {
                ready: false,
                uncovered: Some("10.0.0.10"),
                ..GOOD
            },
            &["certs apiserver"],
        ),
        (
            "a new name",
            true,
            Before {
                uncovered: Some("cp-02"),
                ..GOOD
            },
            &["certs apiserver"],
        ),
        (
            "an older version",
            true,
            Before {
                version: "v1.33.9",
                ..GOOD
            },
            &upgraded,
        ),
        (
            "an upgrade that fails, as beside a machine that is dead",
            true,
            Before {
                version: "v1.33.9",
                upgrade_fails: true,
                ..GOOD
            },
            &upgraded[..3],
        ),
    ];
    for (what, member, before, expected) in cases {
        let machine = Machine::new("upkeep", evaluated, member);
        let ready = if before.ready { "" } else { "exit 1" };
        let version = before.version;
        machine.command(
            "kubectl",
            &format!("case \"$*\" in *readyz) {ready} ;; *jsonpath*) echo registry.k8s.io/kube-apiserver:{version} ;; esac"),
        );
        let uncovered = before.uncovered.unwrap_or("nothing");
        machine.command(
            "openssl",
            &format!("case \"$*\" in *' {uncovered} '*) echo 'does NOT match certificate' ;; *) echo 'does match certificate' ;; esac"),
        );
        machine.command("crictl", "case \"$*\" in *--quiet*) echo container ;; esac");
        // What it is given, as long as it runs.
        let run = machine.path("run/nico");
        let run = run.display();
        let fails = if before.upgrade_fails {
            "upgrade"
        } else {
            "nothing"
        };
        machine.command(
            "kubeadm",
            &format!("case $1 in {fails}) exit 1 ;; esac\ncat {run}/kubeadm.yaml > {run}/given"),
        );
        machine.must_run(&script);
        let calls = machine.calls(&["kubeadm"]);
        assert_eq!(calls.len(), expected.len(), "{what}: {calls:?}");
        for (call, expected) in calls.iter().zip(expected) {
            assert!(call.contains(expected), "{what}: {calls:?}");
        }
        let restarted = machine
            .calls(&["crictl"])
            .iter()
            .any(|call| call.ends_with("stop container"));
        assert_eq!(restarted, before.uncovered.is_some(), "{what}");
        if !expected.is_empty() {
            let given = machine.read("run/nico/given").unwrap();
            assert!(
                given.contains(&format!("\"certificateKey\":\"{}\"", "1".repeat(64))),
                "{given}"
            );
        }
        assert_eq!(
            machine.read("run/nico/kubeadm.yaml"),
            None,
            "{what}: the tokens do not stay"
        );
    }
}

/// A cluster that began without an endpoint, or with another one, is led to the one that it has now.
#[test]
fn addresses_follow_the_endpoint_once_it_answers() {
    let test = "addresses_follow_the_endpoint_once_it_answers";
    let Some(nix) = evaluated::nix_or_skip(test) else {
        return;
    };
    let without = ClusterNix {
        endpoint: None,
        ..founded()
    };
    let texts = [founded().render(), without.render()];
    let found = evaluate(&nix, Flake::Kubeadm, "endpoint", false, &texts);
    let (before, after) = ("https://10.0.0.11:6443", "https://10.0.0.10:6443");
    let kubeconfig = |server: &str| {
        format!(
            "clusters:\n- cluster:\n    certificate-authority-data: AAAA\n    server: {server}\n  name: prod\n"
        )
    };
    // Whether there is an endpoint, and whether it answers with a certificate that covers it.
    for (found, answers, moves) in [
        (&found[0], true, true),
        (&found[0], false, false),
        (&found[1], true, false),
    ] {
        for (name, file) in [("worker-01", "kubelet.conf"), ("cp-02", "admin.conf")] {
            let script = found[name]["units"]["nico-upkeep"]["script"].as_str();
            let script = format!("export KUBERNETES_VERSION=v1.34.1\n{}", script.unwrap());
            let machine = Machine::new("endpoint", &found[name], true);
            let file = format!("etc/kubernetes/{file}");
            machine.write(&file, &kubeconfig(before));
            machine.write(
                "proxy",
                &format!("data:\n  kubeconfig.conf: \"server: {before}\\nuser: a\"\n"),
            );
            let ca = machine.path("etc/kubernetes/pki/ca.crt");
            let reached = if answers { 0 } else { 60 };
            machine.command(
                "curl",
                &format!("case \"$*\" in *'--cacert {} '*'{after}/livez') exit {reached} ;; esac\nexit 7", ca.display()),
            );
            machine.command("openssl", "echo 'does match certificate'");
            let proxy = machine.path("proxy");
            machine.command(
                "kubectl",
                &format!(
                    "case \"$*\" in *jsonpath*) echo registry.k8s.io/kube-apiserver:v1.34.1 ;; *'configmap kube-proxy'*) cat {0} ;;\n\
                     *'replace -f -') cat > {0}.new; mv {0}.new {0} ;; esac",
                    proxy.display()
                ),
            );
            let restarts = || {
                let calls = machine.calls(&["kubectl", "systemctl"]);
                let restart = |call: &String| {
                    call.contains("rollout restart") || call.contains("restart --no-block kubelet")
                };
                calls.iter().filter(|call| restart(call)).count()
            };
            machine.must_run(&script);
            let expected = if moves { after } else { before };
            assert_eq!(machine.read(&file), Some(kubeconfig(expected)), "{name}");
            let proxied = machine.read("proxy").unwrap();
            let server = if name == "cp-02" { expected } else { before };
            assert!(
                proxied.contains(&format!("server: {server}\\nuser")),
                "{proxied}"
            );
            assert_eq!(restarts(), usize::from(moves), "{name}");
            machine.must_run(&script);
            assert_eq!(restarts(), usize::from(moves), "{name}: again and again");
            if moves && name == "cp-02" {
                // The power failed between the ConfigMap and the restart.
                machine.write("var/lib/nico/kube-proxy", "");
                machine.must_run(&script);
                assert_eq!(restarts(), 2);
                machine.must_run(&script);
                assert_eq!(restarts(), 2);
            }
        }
    }
}
