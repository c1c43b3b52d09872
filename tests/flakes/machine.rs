//! A machine whose scripts are run: with its own files, and with commands that only pretend.
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use super::evaluated::scratch;

/// Commands that touch nothing here. Each notes that it was called.
const PRETENDED: [&str; 15] = [
    "crictl",
    "curl",
    "etcdctl",
    "ip",
    "ip6tables-restore",
    "ip6tables-save",
    "iptables-restore",
    "iptables-save",
    "kubeadm",
    "kubectl",
    "openssl",
    "pkill",
    "sync",
    "systemctl",
    "umount",
];

pub(crate) struct Machine {
    root: PathBuf,
}

impl Machine {
    /// A machine that holds what its flake puts there. `data` says whether it has data of this cluster.
    pub(crate) fn new(purpose: &str, evaluated: &Value, data: bool) -> Self {
        let machine = Self {
            root: scratch(purpose),
        };
        for directory in ["bin", "run/nico", "var/lib/nico/member"] {
            fs::create_dir_all(machine.root.join(directory)).unwrap();
        }
        let files = evaluated["state"].as_object().into_iter().flatten();
        for (file, text) in files {
            let text = text.as_str().unwrap();
            machine.write(&format!("var/lib/nico/member/{file}"), text);
            if file == "data" && data {
                machine.write(text.trim_start_matches('/'), "");
                let id = evaluated["state"]["id"].as_str().unwrap();
                for begun in ["etc/kubernetes/nico-begun", "var/lib/k0s/nico-begun"] {
                    machine.write(begun, id);
                }
            }
        }
        machine.mounted(&[]);
        machine.write("proc/uptime", "0.00 0.00\n");
        machine.write("run/nico/join-token", &"1".repeat(64));
        if evaluated["state"]["role"] == "control-plane" {
            machine.write("run/nico/worker-token", &"2".repeat(64));
        }
        for command in PRETENDED {
            machine.command(command, "exit 0");
        }
        machine.answering(&[]);
        // The API server's certificate.
        machine.command("openssl", "echo does match certificate");
        machine
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    pub(crate) fn write(&self, relative: &str, text: &str) {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn read(&self, relative: &str) -> Option<String> {
        fs::read_to_string(self.path(relative)).ok()
    }

    /// What a command does, after its call was noted.
    pub(crate) fn command(&self, name: &str, script: &str) {
        let file = self.path("bin").join(name);
        let calls = self.path("calls");
        let calls = calls.display();
        fs::write(
            &file,
            format!("#!/bin/sh\necho \"{name} $*\" >> {calls}\n{script}\n"),
        )
        .unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The mount points, relative to the machine's root.
    pub(crate) fn mounted(&self, paths: &[&str]) {
        let line = |path: &&str| {
            let path = self.path(path).display().to_string();
            format!("disk {} ext4 rw 0 0\n", path.replace(' ', "\\040"))
        };
        let table: String = paths.iter().map(line).collect();
        self.write("proc/self/mounts", &table);
    }

    /// The static pods of a control plane machine, as kubeadm writes them.
    pub(crate) fn static_pods(&self, version: &str) {
        for name in [
            "kube-apiserver",
            "kube-controller-manager",
            "kube-scheduler",
        ] {
            self.static_pod(name, version);
        }
    }

    pub(crate) fn static_pod(&self, name: &str, version: &str) {
        let text = format!(
            "spec:\n  containers:\n  - command:\n    - {name}\n    image: registry.k8s.io/{name}:{version}\n"
        );
        self.write(&format!("etc/kubernetes/manifests/{name}.yaml"), &text);
    }

    /// The URLs that answer; nobody else does.
    pub(crate) fn answering(&self, urls: &[&str]) {
        let urls = urls.join(" ");
        // The URL is the last argument.
        let script = format!(
            "for url; do :; done\nfor it in {urls}; do [ \"$it\" != \"$url\" ] || exit 0; done\nexit 7"
        );
        self.command("curl", &script);
    }

    /// The calls so far of the commands with these names, in order.
    pub(crate) fn calls(&self, of: &[&str]) -> Vec<String> {
        let all = self.read("calls").unwrap_or_default();
        let lines = all.lines().map(str::to_owned);
        lines
            .filter(|line| of.contains(&line.split(' ').next().unwrap()))
            .collect()
    }

    pub(crate) fn run(&self, script: &str) -> Output {
        let bin = self.path("bin");
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        Command::new("bash")
            .args(["-e", "-c", script])
            .env("PATH", path)
            .env("NICO_ROOT", &self.root)
            .env("NICO_INTERVAL", "0")
            .env("NICO_PATIENCE", "0")
            .output()
            .unwrap()
    }

    /// Runs a script that is to end well.
    pub(crate) fn must_run(&self, script: &str) -> String {
        let output = self.run(script);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{errors}");
        errors
    }

    /// How the machine starts: found, join or member; `None` where it waits.
    pub(crate) fn start(&self, script: &str) -> Option<String> {
        // It waits without end: so it is asked once.
        let once = script.replace(
            "; do sleep \"${NICO_INTERVAL:-5}\"; done\nsay",
            "; do exit 3; done\nsay",
        );
        assert_ne!(script, once, "the script waits");
        let output = self.run(&once);
        let errors = String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            Some(0) => {
                let how = errors
                    .lines()
                    .find_map(|line| line.split_once("nico: start: "));
                Some(how.unwrap().1.to_owned())
            }
            Some(3) => None,
            code => panic!("{code:?}: {errors}"),
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(Path::new(&self.root));
    }
}
