//! The planner with one of its rules broken. Each must be found by the searches of every day:
//! `cargo test --test model source_mutants -- --ignored --nocapture` breaks a copy of the sources under `target/mutants`, one rule
//! after the other, and runs there the search that is to find it. `NICO_MUTANT=<words of its name>` runs only those.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// A rule that is broken: in this file, this text becomes that one.
struct Mutant {
    name: &'static str,
    /// The test of `searches.rs` that fails then.
    found_by: &'static str,
    edits: &'static [(&'static str, &'static str, &'static str)],
}

const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "quorum is one less",
        found_by: "three_without_a_quorum",
        edits: &[("src/plan/quorum.rs", "    n / 2 + 1\n", "    n / 2\n")],
    },
    Mutant {
        name: "a sick one is changed with one healthy one too few",
        found_by: "three_without_a_quorum",
        edits: &[(
            "src/plan/quorum.rs",
            "    healthy >= quorum(n)\n",
            "    healthy + 1 >= quorum(n)\n",
        )],
    },
    Mutant {
        name: "a newcomer does not count in the quorum that it joins",
        found_by: "a_control_plane_that_grows",
        edits: &[(
            "src/plan/quorum.rs",
            "    healthy >= quorum(n + 1)\n",
            "    healthy >= quorum(n)\n",
        )],
    },
    Mutant {
        name: "a marker without generation",
        found_by: "two_workers",
        edits: &[(
            "src/plan/desired.rs",
            "Marker::at_generation(&self.revision(), generation);",
            "Marker::at_generation(&self.revision(), generation - generation);",
        )],
    },
    Mutant {
        name: "the confirmation of an older attempt is accepted",
        found_by: "three_and_one",
        edits: &[(
            "src/plan/confirmed.rs",
            "held_marker(configuration).is_some_and(|marker| kept(configuration) == Some(marker.as_str()))",
            "held_marker(configuration).is_some_and(|_| kept(configuration).is_some())",
        )],
    },
    Mutant {
        name: "NIO's proof of an older attempt is accepted",
        found_by: "three_and_one",
        // `withdrawn` alone would keep the entry: both comparisons go.
        edits: &[
            (
                "src/plan/confirmed.rs",
                "    held_marker(configuration).is_some()
        && classics_proof(configuration, machine)
            .is_some_and(|applied| applied == additional_files_hash(configuration.spec.files()))",
                "    held_marker(configuration).is_some()
        && classics_proof(configuration, machine).is_some()",
            ),
            (
                "src/plan/confirmed.rs",
                ".is_some_and(|applied| applied != additional_files_hash(configuration.spec.files())),",
                ".is_some_and(str::is_empty),",
            ),
        ],
    },
    Mutant {
        name: "bootstrap is kept after the founding",
        found_by: "two_workers",
        edits: &[(
            "src/plan/targets.rs",
            "                bootstrap: bootstrap.clone(),\n",
            "                bootstrap: bootstrap.clone().or(Some(machine.to_string())),\n",
        )],
    },
    Mutant {
        name: "a lost quorum touches healthy ones",
        found_by: "three_without_a_quorum",
        edits: &[
            (
                "src/plan/rollout/scene/numbers.rs",
                "Health::Healthy => quorum::bears_loss_of_healthy(n, healthy),",
                "Health::Healthy => quorum::bears_loss_of_healthy(n, healthy) || self.leads_out(machine),",
            ),
            (
                "src/plan/rollout/scene.rs",
                "            && self.health(machine) == Health::Sick\n",
                "",
            ),
        ],
    },
    Mutant {
        name: "unknown counts as healthy",
        found_by: "three_with_an_outage",
        edits: &[(
            "src/plan/health.rs",
            "            Health::Unknown => numbers.unknown += 1,",
            "            Health::Unknown => numbers.healthy += 1,",
        )],
    },
    Mutant {
        name: "unknown ones are as good as a lost quorum",
        found_by: "three_with_an_outage",
        edits: &[(
            "src/plan/health.rs",
            "self.healthy + self.unknown < quorum::quorum(self.n)",
            "self.healthy < quorum::quorum(self.n)",
        )],
    },
    Mutant {
        name: "members that are not confirmed are not in flight",
        found_by: "a_lost_ledger",
        edits: &[(
            "src/plan/slot.rs",
            "if counts && (!is_confirmed(configuration) || older_runs) {",
            "if counts && older_runs {",
        )],
    },
    Mutant {
        name: "an older attempt that lost its entry is not in flight",
        found_by: "a_lost_ledger",
        edits: &[(
            "src/plan/slot.rs",
            "if counts && (!is_confirmed(configuration) || older_runs) {",
            "if counts && !is_confirmed(configuration) {",
        )],
    },
    Mutant {
        name: "a newcomer of the control plane is written anew without the slot",
        found_by: "a_lost_ledger",
        edits: &[(
            "src/plan/rollout.rs",
            "let lives = founding.founded && target.role == Role::ControlPlane;",
            "let lives = false;",
        )],
    },
    Mutant {
        name: "a worker is written anew without the slot",
        found_by: "three_and_one",
        edits: &[(
            "src/plan/rollout.rs",
            "            || once_confirmed(held)\n",
            "            || once_confirmed(held) && target.role == Role::ControlPlane\n",
        )],
    },
    Mutant {
        name: "one of two leaves though nobody said so",
        found_by: "a_control_plane_that_shrinks",
        edits: &[(
            "src/plan/rollout/scene/numbers.rs",
            "(accepted != Some(machine.as_str())).then(",
            "(accepted == Some(machine.as_str())).then(",
        )],
    },
    Mutant {
        name: "workers and control plane at once",
        found_by: "three_and_one",
        edits: &[(
            "src/plan/rollout/scene/turn.rs",
            "others().filter(|(_, flight)| stands_in_the_way(flight));",
            "others().filter(|(_, flight)| flight.role == role && stands_in_the_way(flight));",
        )],
    },
    Mutant {
        name: "the control plane goes before outdated workers",
        found_by: "three_and_one",
        edits: &[(
            "src/plan/rollout/scene/turn.rs",
            "        if role == first {\n            return None;",
            "        if role == first || role == Role::ControlPlane {\n            return None;",
        )],
    },
    Mutant {
        name: "more workers than maxUnavailable",
        found_by: "two_workers",
        edits: &[(
            "src/plan/rollout/scene/turn.rs",
            "            Some((other, _)) if full => Some(in_flight(machine, other)),",
            "            Some((other, _)) if full && entered > 1 => Some(in_flight(machine, other)),",
        )],
    },
    Mutant {
        name: "`rewritten` is ignored",
        found_by: "three_whose_nio_forgets",
        edits: &[(
            "src/plan/slot.rs",
            "        && older_attempt(observed, configuration, now).is_none()\n",
            "        && (older_attempt(observed, configuration, now).is_none() || true)\n",
        )],
    },
    Mutant {
        name: "`rewritten` is not noted",
        found_by: "three_whose_nio_forgets",
        edits: &[(
            "src/plan/rollout.rs",
            "                of_three && unfinished,\n",
            "                of_three && unfinished && !scene.founded,\n",
        )],
    },
    Mutant {
        name: "an entry is removed while its machine is in flight",
        found_by: "five",
        edits: &[
            (
                "src/plan/slot.rs",
                "    is_confirmed(configuration)
        && configuration.metadata.deletion_timestamp.is_none()
",
                "    configuration.metadata.deletion_timestamp.is_none()\n",
            ),
            (
                "src/plan/slot.rs",
                "if counts && (!is_confirmed(configuration) || older_runs) {",
                "if counts && older_runs {",
            ),
        ],
    },
    Mutant {
        name: "an entry is in hand whatever the ledger says",
        found_by: "two_operators",
        edits: &[(
            "src/plan/slot.rs",
            "(version == taken && active && !ledger.slot.fencing).then(|| Self {",
            "(version == taken && active || ledger.founded).then(|| Self {",
        )],
    },
    Mutant {
        name: "an entry ends without `releasing`",
        found_by: "two_operators",
        edits: &[(
            "src/plan/slot.rs",
            "    if entry.state == EntryState::Active {\n        let releasing",
            "    if entry.state == EntryState::Active && owned(observed, &entry.machine).is_none() {\n        let releasing",
        )],
    },
    Mutant {
        name: "a ledger made anew opens at once",
        found_by: "a_lost_ledger",
        edits: &[(
            "src/plan/founding.rs",
            "            ledger.slot.fencing = founding.founded;\n",
            "            ledger.slot.fencing = false;\n",
        )],
    },
    Mutant {
        name: "nobody waits where there is no child",
        found_by: "a_control_plane_that_grows",
        edits: &[(
            "src/plan/slot.rs",
            "    if waited < LATE_REQUESTS {\n        plan.look_again_in(LATE_REQUESTS.saturating_sub(waited));\n    } else if",
            "    if waited < Duration::ZERO {\n        plan.look_again_in(LATE_REQUESTS.saturating_sub(waited));\n    } else if",
        )],
    },
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn each_mutant_is_one_place_of_the_sources() {
    for mutant in MUTANTS {
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
    for mutant in MUTANTS.iter().filter(|it| it.name.contains(&wanted)) {
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
    let search = format!("searches::{}", mutant.found_by);
    let run = cargo(&["--", "--nocapture", "--exact", &search]);
    let said = String::from_utf8_lossy(&run.stdout);
    let said_too = String::from_utf8_lossy(&run.stderr);
    for line in said.lines().chain(said_too.lines()) {
        if line.contains(" moves") || line.contains("panicked") {
            println!("  {line}");
        }
    }
    run.status.success()
}

/// Everything that cargo needs to build the model.
fn copy_sources(to: &Path) {
    let _ = fs::remove_dir_all(to);
    for name in ["Cargo.toml", "Cargo.lock"] {
        fs::create_dir_all(to).unwrap();
        fs::copy(root().join(name), to.join(name)).unwrap();
    }
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
