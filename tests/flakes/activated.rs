//! What a machine does when its system is activated: its host name, and its tokens; and what follows where they cannot be decrypted.
use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use super::changes::{each_founding, founding};
use super::evaluated::{Evaluated, Flake, evaluate_with, nix_or_skip};
use super::interrupted::machine;
use super::machine::Machine;

/// Each flake with the host key of cp-01 beside it.
fn each_encrypted(test: &str, check: impl Fn(Flake, &Evaluated)) {
    let Some(nix) = nix_or_skip(test) else { return };
    let add = |here: &Path| {
        fs::create_dir_all(here.join("machines")).unwrap();
        fs::write(here.join("machines/cp-01.pub"), "ssh-ed25519 AAAA").unwrap();
    };
    for flake in Flake::ALL {
        let found = evaluate_with(&nix, flake, test, &[founding().render()], add);
        check(flake, &found[0]);
    }
}

/// Runs the snippet of the activation script that is about the cluster, as NixOS does: to its end, whatever fails.
fn activate(machine: &Machine, evaluated: &Value) -> Output {
    let snippets = evaluated["activation"].as_array().unwrap();
    let snippets = snippets.iter().filter_map(Value::as_str);
    let mut snippets = snippets.filter(|it| it.contains("/var/lib/nico/member"));
    let mut script = snippets.next().unwrap().to_owned();
    while let Some((before, after)) = script.split_once("-age/bin/age ") {
        let (before, _) = before.rsplit_once("/nix/store/").unwrap();
        script = format!("{before}age {after}");
    }
    for path in ["/var/lib/nico", "/run/nico", "/proc/sys"] {
        let here = machine.path(path.trim_start_matches('/'));
        script = script.replace(path, here.to_str().unwrap());
    }
    // The store's files are none.
    machine.command(
        "install",
        "for it; do :; done\ncase \"$1\" in -d) mkdir -p \"$it\" ;; *) : > \"$it\" ;; esac",
    );
    machine.run(&format!(
        "set +e\nstatus=0\ntrap status=1 ERR\n{script}\nexit $status"
    ))
}

/// A switch to a new system leaves the running host name as it is, by which k0s names Nodes and members of etcd.
#[test]
fn a_machine_has_its_name_from_the_first_apply_on() {
    each_founding("name", |flake, found| {
        for name in ["cp-02", "worker-01"] {
            let machine = machine(flake, "name", &found[name], false);
            machine.write("proc/sys/kernel/hostname", "nixos\n");
            assert!(activate(&machine, &found[name]).status.success());
            let host = machine.read("proc/sys/kernel/hostname").unwrap();
            assert_eq!(host.trim(), name, "{flake:?}");
            // As in a container, whose name is not its own matter.
            fs::remove_file(machine.path("proc/sys/kernel/hostname")).unwrap();
            fs::create_dir(machine.path("proc/sys/kernel/hostname")).unwrap();
            assert!(activate(&machine, &found[name]).status.success());
        }
    });
}

#[test]
fn a_host_key_of_another_machine_fails_the_apply_and_is_named() {
    each_encrypted("host-key", |flake, found| {
        let evaluated = &found["cp-01"];
        let machine = machine(flake, "host-key", evaluated, false);
        machine.write("proc/sys/kernel/hostname", "");
        fs::remove_dir_all(machine.path("run/nico")).unwrap();
        machine.command("age", "exit 1");
        let output = activate(&machine, evaluated);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{flake:?}: {said}");
        assert!(
            said.contains("nico: machines/cp-01.pub is not this machine's host key"),
            "{said}"
        );
        assert!(!machine.path("run/nico/join-token").exists());

        // The right one.
        machine.command(
            "age",
            "while [ \"$1\" != --output ]; do shift; done\necho token > \"$2\"",
        );
        let output = activate(&machine, evaluated);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{flake:?}: {said}");
        for token in ["run/nico/join-token", "run/nico/worker-token"] {
            assert_eq!(machine.read(token).as_deref(), Some("token\n"));
        }
    });
}

/// What comes after such an activation fails at once: the apply says why in seconds, and not after twenty minutes.
#[test]
fn nothing_waits_for_a_token_that_is_not_there() {
    each_founding("no-token", |flake, found| {
        for name in ["cp-01", "cp-02"] {
            let evaluated = &found[name];
            for data in [false, true] {
                let machine = machine(flake, "no-token", evaluated, data);
                fs::remove_file(machine.path("run/nico/join-token")).unwrap();
                if data {
                    machine.write("var/lib/nico/role", "control-plane\n");
                }
                let mut scripts = vec![flake.starts(evaluated)];
                let joined = evaluated["units"]["nico-joined"]["script"].as_str();
                scripts.extend(joined.filter(|_| !data));
                for script in scripts {
                    // It would wait without end.
                    machine.command("sleep", "exit 9");
                    let output = machine.run(script);
                    let said = String::from_utf8_lossy(&output.stderr);
                    let refused = said.contains("no token");
                    // A member goes on with its data.
                    assert_eq!(refused, !data, "{flake:?}: {name}: {said}");
                    assert_eq!(output.status.code() == Some(1), !data, "{flake:?}: {said}");
                }
            }
        }
    });
}
