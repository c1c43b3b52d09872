//! The flakes as Nix evaluates them, many files at once in one process.
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The outputs of a flake: of each machine, and of `minimal`, what `report.nix` tells.
pub(crate) type Evaluated = BTreeMap<String, Value>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flake {
    K3s,
    Rke2,
    Kubeadm,
    K0s,
}

impl Flake {
    pub(crate) const ALL: [Self; 4] = [Self::K3s, Self::Rke2, Self::Kubeadm, Self::K0s];

    pub(crate) fn directory(self) -> &'static str {
        match self {
            Self::K3s => "k3s",
            Self::Rke2 => "rke2",
            Self::Kubeadm => "kubeadm",
            Self::K0s => "k0s",
        }
    }
}

/// Nix where it is installed; else the test says that it is skipped.
pub(crate) fn nix_or_skip(test: &str) -> Option<PathBuf> {
    rig::tools::on_path(test, "nix-instantiate")
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A directory of its own for a test's files.
pub(crate) fn scratch(purpose: &str) -> PathBuf {
    let name = format!("flakes-{purpose}-{}", std::process::id());
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).unwrap();
    directory
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap().path();
        let target = to.join(entry.file_name().unwrap());
        if entry.is_dir() {
            copy(&entry, &target);
        } else {
            fs::copy(&entry, &target).unwrap();
        }
    }
}

/// A flake as NIO leaves it on a control plane machine, once for each cluster.nix; with a CA of its own, or without.
pub(crate) fn evaluate(
    nix: &Path,
    flake: Flake,
    purpose: &str,
    own_ca: bool,
    texts: &[String],
) -> Vec<Evaluated> {
    evaluate_with(nix, flake, purpose, texts, |here| {
        if own_ca && flake == Flake::K0s {
            fs::write(here.join("ca.crt"), "a certificate").unwrap();
            fs::write(here.join("ca.key"), "a key").unwrap();
        }
    })
}

/// The same, after more files were put into each directory.
pub(crate) fn evaluate_with(
    nix: &Path,
    flake: Flake,
    purpose: &str,
    texts: &[String],
    add: impl Fn(&Path),
) -> Vec<Evaluated> {
    let directory = scratch(&format!("{purpose}-{}", flake.directory()));
    let examples = root().join("examples/flakes");
    copy(&examples.join("lib"), &directory.join("lib"));
    let mut list = String::from("import ");
    list.push_str(root().join("tests/flakes/report.nix").to_str().unwrap());
    list.push_str(" [\n");
    for (index, text) in texts.iter().enumerate() {
        let here = directory.join(index.to_string());
        copy(&examples.join(flake.directory()), &here);
        fs::write(here.join("cluster.nix"), text).unwrap();
        fs::write(here.join("join-token"), "1".repeat(64)).unwrap();
        fs::write(here.join("worker-token"), "2".repeat(64)).unwrap();
        fs::write(here.join("machine-ssh-key"), "a private key").unwrap();
        add(&here);
        list.push_str("  ./");
        list.push_str(&index.to_string());
        list.push('\n');
    }
    list.push_str("]\n");
    let found = expression(nix, &directory, &list);
    let _ = fs::remove_dir_all(&directory);
    serde_json::from_value(found).unwrap()
}

/// What an expression is, in a directory.
pub(crate) fn expression(nix: &Path, directory: &Path, text: &str) -> Value {
    let found = try_expression(nix, directory, text);
    found.unwrap_or_else(|errors| panic!("{} does not evaluate: {errors}", directory.display()))
}

/// The same, or Nix's complaint.
pub(crate) fn try_expression(nix: &Path, directory: &Path, text: &str) -> Result<Value, String> {
    fs::write(directory.join("all.nix"), text).unwrap();
    let output = Command::new(nix)
        .args(["--readonly-mode", "--store", "dummy://"])
        .args(["--eval", "--strict", "--json", "--show-trace", "all.nix"])
        .current_dir(directory)
        .env("HOME", directory)
        .env("NIX_CONF_DIR", directory)
        .output()
        .expect("nix-instantiate can be started");
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(serde_json::from_slice(&output.stdout).expect("Nix prints JSON"))
}
