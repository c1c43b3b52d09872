//! The scripts of the evaluated units are run, with commands that only pretend.
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nico::plan::cluster_nix::ClusterNix;
use serde_json::Value;

use super::changes::{founded, founding};
use super::evaluated::{self, Flake, evaluate, scratch};

/// A machine with its own files and commands.
struct Machine {
    root: PathBuf,
    state: PathBuf,
}

impl Machine {
    /// A machine that holds what a flake put there; `data` says whether it has data of this cluster.
    fn new(purpose: &str, evaluated: &Value, data: bool) -> Self {
        let root = scratch(purpose);
        let machine = Self {
            state: root.join("state"),
            root,
        };
        let member = machine.state.join("member");
        fs::create_dir_all(&member).unwrap();
        fs::create_dir_all(machine.root.join("bin")).unwrap();
        for (file, text) in evaluated["state"].as_object().unwrap() {
            fs::write(member.join(file), text.as_str().unwrap()).unwrap();
        }
        let place = machine.root.join("data");
        fs::write(member.join("data"), place.to_str().unwrap()).unwrap();
        if data {
            fs::write(place, "").unwrap();
        }
        // Nothing of the real machine is touched.
        for command in [
            "pkill",
            "ip",
            "umount",
            "iptables-save",
            "iptables-restore",
            "ip6tables-save",
            "ip6tables-restore",
        ] {
            machine.command(command, "exit 0");
        }
        machine.command("systemctl", "echo \"$0 $*\" >> \"$NICO_STATE/calls\"");
        machine.command("kubectl", "exit 1");
        machine.answering(&[]);
        machine
    }

    fn command(&self, name: &str, script: &str) {
        let file = self.root.join("bin").join(name);
        fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The URLs that answer; nobody else does.
    fn answering(&self, urls: &[&str]) {
        let urls = urls.join(" ");
        // The URL is the last argument.
        let script = format!(
            "for url; do :; done\nfor it in {urls}; do [ \"$it\" != \"$url\" ] || exit 0; done\nexit 7"
        );
        self.command("curl", &script);
    }

    fn run(&self, script: &str) -> Output {
        let path = format!(
            "{}:{}",
            self.root.join("bin").display(),
            std::env::var("PATH").unwrap()
        );
        Command::new("bash")
            .args(["-e", "-c", script])
            .env("PATH", path)
            .env("NICO_STATE", &self.state)
            .env("NICO_RUN", self.root.join("run"))
            .env("NICO_INTERVAL", "0")
            .env("NICO_PATIENCE", "1")
            .env("NICO_SERVICES", "k3s")
            .output()
            .unwrap()
    }

    /// How the machine starts: found, join or member; `None` where it waits.
    fn start(&self, evaluated: &Value, service: &str) -> Option<String> {
        let script = evaluated["units"][service]["preStart"].as_str().unwrap();
        // It waits for ever: so it is asked once.
        let once = script.replace(
            "; do sleep \"${NICO_INTERVAL:-5}\"; done",
            "; do exit 3; done",
        );
        assert_ne!(script, once, "the script waits");
        let output = self.run(&once);
        let errors = String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            Some(0) => Some(errors.rsplit_once("start: ").unwrap().1.trim().to_owned()),
            Some(3) => None,
            code => panic!("{code:?}: {errors}"),
        }
    }

    fn config(&self) -> Value {
        serde_json::from_str(&fs::read_to_string(self.root.join("run/config.yaml")).unwrap())
            .unwrap()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn server(flake: Flake) -> &'static str {
    match flake {
        Flake::K3s => "k3s",
        Flake::Rke2 => "rke2-server",
    }
}

fn evaluated_two(nix: &Path, flake: Flake, purpose: &str) -> [BTreeMap<String, Value>; 2] {
    let alone = ClusterNix {
        join: None,
        ..founded()
    };
    let texts = [founding().render(), alone.render()];
    evaluate(nix, flake, purpose, &texts).try_into().unwrap()
}

#[test]
fn a_machine_founds_joins_goes_on_or_waits() {
    let test = "a_machine_founds_joins_goes_on_or_waits";
    let Some(nix) = evaluated::nix_or_skip(test) else {
        return;
    };
    for flake in Flake::ALL {
        let [founding, alone] = evaluated_two(&nix, flake, "starts");
        let join = founding["cp-02"]["state"]["join"].as_str().unwrap();
        let (founder, other) = ("cp-01", "cp-02");
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
            (&alone[founder], false, &["https://10.0.0.12:6443"], None),
            (&alone[founder], true, &[], Some("member")),
            (&alone[other], false, &[join], None),
        ];
        for (index, (evaluated, data, answering, expected)) in cases.into_iter().enumerate() {
            let machine = Machine::new(
                &format!("start-{}-{index}", flake.directory()),
                evaluated,
                data,
            );
            machine.answering(answering);
            let found = machine.start(evaluated, server(flake));
            assert_eq!(found.as_deref(), expected, "{flake:?}: case {index}");
            if matches!(flake, Flake::K3s | Flake::Rke2) && found.is_some() {
                let founds = flake == Flake::K3s && expected == Some("found");
                assert_eq!(machine.config()["cluster-init"] == true, founds);
                let joins = evaluated["state"].get("join").is_some();
                assert_eq!(machine.config().get("server").is_some(), joins);
            }
        }
    }
}
