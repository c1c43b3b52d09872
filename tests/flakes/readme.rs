//! Steps 5 and 7 of the README's ten: what goes into the laptops' configuration, and the repository that is made of the k3s example.
use std::fs;
use std::path::Path;
use std::sync::Arc;

use nico::plan::cluster_nix::{ClusterNix, Lists};
use serde_json::json;

use super::changes::{founding, node};
use super::evaluated::{Flake, evaluate_with, nix_or_skip, root};

const README: &str = include_str!("../../README.md");

/// The block of this kind in a step.
fn block(step: u8, kind: &str) -> &'static str {
    let (_, text) = README.split_once(&format!("\n**{step}. ")).unwrap();
    let (text, _) = text.split_once(&format!("\n**{}. ", step + 1)).unwrap();
    let (_, block) = text.split_once(&format!("```{kind}\n")).unwrap();
    block.split_once("```").unwrap().0
}

/// Each flake is the directory of a cluster among the examples.
#[test]
fn each_flake_has_an_example() {
    let files = fs::read_dir(root().join("examples")).unwrap();
    let files = files.map(|entry| entry.unwrap().path());
    let clusters = files.filter(|path| path.extension().is_some_and(|it| it == "yaml"));
    let text: String = clusters
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    for flake in Flake::ALL {
        let named = format!("\n  configurationSubdir: {}\n", flake.directory());
        assert!(text.contains(&named), "{flake:?}");
    }
}

#[test]
fn the_repository_of_the_readme_configures_its_laptops_and_releases_them() {
    let tree: Vec<&str> = block(7, "text")
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let examples = root().join("examples/flakes");
    let (own, copied): (Vec<&str>, Vec<&str>) =
        tree.iter().partition(|it| it.starts_with("k3s/machines/"));
    for path in &copied {
        assert!(
            examples.join(path).exists(),
            "{path} is not in examples/flakes"
        );
    }
    let test = "the_repository_of_the_readme_configures_its_laptops_and_releases_them";
    let Some(nix) = nix_or_skip(test) else {
        return;
    };
    let laptop = block(5, "nix");
    let add = |here: &Path| {
        // The hardware is that of the example, and the laptop's configuration stands beside it.
        fs::rename(here.join("hardware.nix"), here.join("disks.nix")).unwrap();
        fs::write(here.join("laptop.nix"), laptop).unwrap();
        let both = "{ imports = [ ./disks.nix ./laptop.nix ]; }";
        fs::write(here.join("hardware.nix"), both).unwrap();
        for path in &own {
            let file = here.join(path.strip_prefix("k3s/").unwrap());
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            let module = "{ networking.domain = \"example.com\"; }";
            let is_module = file.extension().is_some_and(|it| it == "nix");
            fs::write(
                file,
                if is_module {
                    module
                } else {
                    "ssh-ed25519 AAAA"
                },
            )
            .unwrap();
        }
    };
    let machines = [node("cp-01", 11), node("cp-02", 12), node("cp-03", 13)];
    let cluster = ClusterNix {
        endpoint: None,
        lists: Arc::new(Lists::new(&machines, &[])),
        ..founding()
    };
    let found = evaluate_with(&nix, Flake::K3s, "readme", &[cluster.render()], add);
    let outputs: Vec<&str> = found[0].keys().map(String::as_str).collect();
    assert_eq!(outputs, ["cp-01", "cp-02", "cp-03", "minimal"]);
    let (_, key) = laptop.split_once("[ \"").unwrap();
    let key = json!(key.split_once('"').unwrap().0);
    for (name, machine) in &found[0] {
        assert_eq!(machine["failed"], json!([]), "{name}");
        assert_eq!(machine["ssh"]["enable"], true, "{name}");
        let keys = machine["keys"].as_array().unwrap();
        assert!(keys.contains(&key), "{name}: {keys:?}");
    }
    let activation = found[0]["cp-01"]["activation"].to_string();
    assert!(activation.contains("-join-token.age"), "{activation}");
}
