//! The templates: what `nix flake init` copies is a whole flake, as NIO evaluates it from a git repository.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::evaluated::{Flake, copy, root, scratch};

/// A directory with a Nix store of its own.
struct Sandbox(PathBuf);

impl Sandbox {
    fn run(&self, program: &Path, directory: &str, arguments: &[&str]) -> String {
        let store = self.0.join("nix");
        let output = Command::new(program)
            .args(arguments)
            .current_dir(self.0.join(directory))
            .env("HOME", &self.0)
            .env("NIX_CONF_DIR", &self.0)
            .env("NIX_STORE_DIR", store.join("store"))
            .env("NIX_STATE_DIR", store.join("var"))
            .env("NIX_LOG_DIR", store.join("log"))
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{} {arguments:?}: {errors}",
            program.display()
        );
        String::from_utf8(output.stdout).unwrap()
    }
}

#[test]
fn what_a_template_gives_evaluates_from_git() {
    let test = "what_a_template_gives_evaluates_from_git";
    let (Some(nix), Some(git)) = (
        rig::tools::on_path(test, "nix"),
        rig::tools::on_path(test, "git"),
    ) else {
        return;
    };
    let sandbox = Sandbox(scratch("template"));
    copy(
        &root().join("examples/flakes"),
        &sandbox.0.join("nico/examples/flakes"),
    );
    fs::copy(root().join("flake.nix"), sandbox.0.join("nico/flake.nix")).unwrap();
    // The input nixpkgs, of which there is none offline.
    copy(
        &root().join("tests/flakes/nixpkgs"),
        &sandbox.0.join("nixpkgs"),
    );
    fs::write(
        sandbox.0.join("nixpkgs/flake.nix"),
        "{ outputs = _: import ./default.nix; }",
    )
    .unwrap();
    // And of the k0s flake, the other input.
    let k0s = r#"{ inputs.nixpkgs.url = "nixpkgs"; outputs = _: { packages.x86_64-linux.k0s = { type = "derivation"; name = "k0s"; outPath = "/nix/store/00000000000000000000000000000000-k0s"; }; }; }"#;
    fs::create_dir_all(sandbox.0.join("k0s-nix")).unwrap();
    fs::write(sandbox.0.join("k0s-nix/flake.nix"), k0s).unwrap();
    let flakes = [
        "--extra-experimental-features",
        "nix-command flakes",
        "--option",
        "build-users-group",
        "",
    ];
    for flake in Flake::ALL {
        let name = flake.directory();
        fs::create_dir_all(sandbox.0.join(name)).unwrap();
        let template = format!("path:{}/nico#{name}", sandbox.0.display());
        sandbox.run(
            &nix,
            name,
            &[&flakes[..], &["flake", "init", "-t", &template]].concat(),
        );
        let here = sandbox.0.join(name).join(name);
        fs::copy(
            root().join("examples/flakes/sample/cluster.nix"),
            here.join("cluster.nix"),
        )
        .unwrap();
        for file in ["join-token", "worker-token", "machine-ssh-key"] {
            fs::write(here.join(file), "1").unwrap();
        }
        sandbox.run(&git, name, &["init", "--quiet"]);
        sandbox.run(&git, name, &["add", "--all"]);
        let url = format!(
            "git+file://{}/{name}?dir={name}#nixosConfigurations",
            sandbox.0.display()
        );
        let nixpkgs = format!("path:{}/nixpkgs", sandbox.0.display());
        let told = "machines: builtins.mapAttrs (_: machine: machine.config.nico.state.role or null) machines";
        let evaluate = ["eval", "--json", &url, "--apply", told];
        let inputs = ["--override-input", "nixpkgs", &nixpkgs];
        let k0s = format!("path:{}/k0s-nix", sandbox.0.display());
        let k0s = if flake == Flake::K0s {
            &["--override-input", "k0s", &k0s][..]
        } else {
            &[]
        };
        let found = sandbox.run(&nix, name, &[&flakes[..], &evaluate, &inputs, k0s].concat());
        let found: Value = serde_json::from_str(&found).unwrap();
        let [server, worker] = ["control-plane", "worker"];
        let expected = json!({"cp-01": server, "cp-02": server, "cp-03": server, "worker-01": worker, "minimal": null});
        assert_eq!(found, expected);
    }
    let _ = fs::remove_dir_all(&sandbox.0);
}
