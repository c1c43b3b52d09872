//! What a kubeadm cluster needs again and again.
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
}

const GOOD: Before = Before {
    ready: true,
    uncovered: None,
    version: "v1.34.1",
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

    let repeated = ["upload-config kubeadm", "upload-certs", "bootstrap-token"];
    let upgraded = [&["upgrade apply"], &repeated[..]].concat();
    let cases: [(&str, bool, Before, &[&str]); 6] = [
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
        machine.command("kubeadm", &format!("cat {run}/kubeadm.yaml > {run}/given"));
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
