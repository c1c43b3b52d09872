//! The planner with one of its rules broken. Each must be found by the searches of every day:
//! `cargo test --test model source_mutants -- --ignored --nocapture` breaks a copy of the sources under `target/mutants`, one rule
//! after the other, and runs there the search that is to find it. `NICO_MUTANT=<words of its name, or of the test that is to find
//! it>` runs only those. `mutants_rollout.rs` and `mutants_leaving.rs` are the rules.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::{mutants_leaving, mutants_rollout};

/// A rule that is broken: in this file, this text becomes that one.
pub struct Mutant {
    pub name: &'static str,
    /// The test that fails then.
    pub found_by: &'static str,
    pub edits: &'static [(&'static str, &'static str, &'static str)],
}

impl Mutant {
    fn is_wanted(&self, words: &str) -> bool {
        self.name.contains(words) || self.found_by.contains(words)
    }
}

/// All of them.
fn mutants() -> impl Iterator<Item = &'static Mutant> {
    let tables = [mutants_rollout::MUTANTS, mutants_leaving::MUTANTS];
    tables.into_iter().flatten()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn each_mutant_is_one_place_of_the_sources() {
    for mutant in mutants() {
        for (file, from, to) in mutant.edits {
            let text = fs::read_to_string(root().join(file)).unwrap();
            assert_eq!(text.matches(from).count(), 1, "{}: {file}", mutant.name);
            assert_ne!(from, to, "{}", mutant.name);
        }
    }
}

#[test]
#[ignore = "builds the planner once for each mutant"]
fn source_mutants() {
    let wanted = std::env::var("NICO_MUTANT").unwrap_or_default();
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let copy = target.join("mutants/sources");
    copy_sources(&copy);
    let mut missed = Vec::new();
    for mutant in mutants().filter(|it| it.is_wanted(&wanted)) {
        let begun = Instant::now();
        break_rule(&copy, mutant);
        let missed_it = finds_nothing(mutant, &copy, &target);
        let verdict = if missed_it { "MISSED" } else { "found" };
        println!(
            "{verdict}: {} ({:.0} s)",
            mutant.name,
            begun.elapsed().as_secs_f32()
        );
        if missed_it {
            missed.push(mutant.name);
        }
        for (file, ..) in mutant.edits {
            fs::copy(root().join(file), copy.join(file)).unwrap();
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}

fn break_rule(copy: &Path, mutant: &Mutant) {
    for (file, from, to) in mutant.edits {
        let text = fs::read_to_string(copy.join(file)).unwrap();
        fs::write(copy.join(file), text.replace(from, to)).unwrap();
    }
}

/// Runs the search that is to find a mutant. What does not build is no mutant.
fn finds_nothing(mutant: &Mutant, copy: &Path, target: &Path) -> bool {
    let cargo = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO"));
        command
            .current_dir(copy)
            .args([
                "test",
                "--quiet",
                "--offline",
                "--package",
                "nico",
                "--test",
                "model",
            ])
            .args(arguments)
            // What is built of the dependencies is shared; what is put in place is not.
            .env("CARGO_BUILD_BUILD_DIR", target)
            .env("CARGO_TARGET_DIR", target.join("mutants/target"));
        command.output().unwrap()
    };
    let built = cargo(&["--no-run"]);
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    let run = cargo(&["--", "--nocapture", "--exact", mutant.found_by]);
    let said = String::from_utf8_lossy(&run.stdout);
    let said_too = String::from_utf8_lossy(&run.stderr);
    for line in said.lines().chain(said_too.lines()) {
        if line.contains(" moves") || line.contains("dead end") || line.contains("panicked") {
            println!("  {line}");
        }
    }
    run.status.success()
}

/// Everything that cargo needs to build the model. It has a version of its own: else cargo would take what it builds of a broken
/// planner for that of the checkout.
fn copy_sources(to: &Path) {
    let _ = fs::remove_dir_all(to);
    for name in ["Cargo.toml", "Cargo.lock"] {
        fs::create_dir_all(to).unwrap();
        fs::copy(root().join(name), to.join(name)).unwrap();
    }
    let manifest = fs::read_to_string(to.join("Cargo.toml")).unwrap();
    let (own, copied) = (
        concat!("version = \"", env!("CARGO_PKG_VERSION"), "\""),
        "version = \"0.0.0-broken\"",
    );
    assert_eq!(
        manifest.matches(own).count(),
        1,
        "the version of the workspace"
    );
    fs::write(to.join("Cargo.toml"), manifest.replace(own, copied)).unwrap();
    for name in ["src", "crds", "tests/model", "tests/rig"] {
        copy_folder(&root().join(name), &to.join(name));
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&from, &to);
        } else {
            fs::copy(from, to).unwrap();
        }
    }
}
