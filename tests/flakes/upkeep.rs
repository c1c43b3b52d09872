//! What a kubeadm cluster needs again and again.
use nico::plan::cluster_nix::ClusterNix;
use serde_json::json;

use super::changes::founded;
use super::evaluated::{self, Flake, evaluate};
use super::machine::Machine;

#[test]
fn certificates_tokens_and_settings_are_kept_as_they_should_be() {
    let test = "certificates_tokens_and_settings_are_kept_as_they_should_be";
    let Some(nix) = evaluated::nix_or_skip(test) else {
        return;
    };
    let found = evaluate(&nix, Flake::Kubeadm, "upkeep", false, &[founded().render()]);
    let evaluated = &found[0]["cp-02"];
    let unit = &evaluated["units"]["nico-upkeep"];
    let version = unit["environment"]["KUBERNETES_VERSION"].as_str().unwrap();
    let script = unit["script"].as_str().unwrap();
    let script = format!("export KUBERNETES_VERSION={version}\n{script}");
    let timer = &evaluated["others"]["timers"]["nico-upkeep"];
    assert_eq!(timer["wantedBy"], json!(["timers.target"]));
    // The uploaded certificates last for two hours.
    assert_eq!(timer["timerConfig"]["OnUnitInactiveSec"], "30min");

    let joins = ["upload-certs", "bootstrap-token"];
    let all = ["upload-certs", "bootstrap-token", "upload-config kubeadm"];
    // Whether the machine is in the cluster, whether its API server is ready, and which version it has.
    let cases: [(&str, bool, bool, &str, &[&str]); 4] = [
        ("as it should be", true, true, version, &all),
        ("not in the cluster yet", false, true, version, &[]),
        ("not ready", true, false, version, &[]),
        ("an upgrade is due", true, true, "v1.33.9", &joins),
    ];
    for (what, member, ready, version, expected) in cases {
        let machine = Machine::new("upkeep", evaluated, member);
        machine.static_pods(version);
        machine.write("run/nico/start.yaml", "of a start that still runs");
        let ready = if ready { "" } else { "exit 1" };
        machine.command(
            "kubectl",
            &format!("case \"$*\" in *readyz) {ready} ;; esac"),
        );
        // What it is given, as long as it runs.
        let run = machine.path("run/nico");
        let run = run.display();
        machine.command(
            "kubeadm",
            &format!("cat {run}/upkeep.yaml > {run}/given\n! flock --nonblock {run}/lock true"),
        );
        machine.must_run(&script);
        let calls = machine.calls(&["kubeadm"]);
        assert_eq!(calls.len(), expected.len(), "{what}: {calls:?}");
        for (call, expected) in calls.iter().zip(expected) {
            assert!(call.contains(expected), "{what}: {calls:?}");
        }
        if !expected.is_empty() {
            let given = machine.read("run/nico/given").unwrap();
            assert!(
                given.contains(&format!("\"certificateKey\":\"{}\"", "1".repeat(64))),
                "{given}"
            );
        }
        assert!(machine.read("run/nico/upkeep.yaml").is_none(), "{what}");
        assert!(machine.read("run/nico/start.yaml").is_some(), "{what}");
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
            let proxy = machine.path("proxy");
            machine.command(
                "kubectl",
                &format!(
                    "case \"$*\" in *'configmap kube-proxy'*) cat {0} ;;\n\
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
