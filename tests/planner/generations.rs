//! What differs between the generations of NIO stands in one place.

use std::fs;
use std::path::{Path, PathBuf};

use nico::api::names::{CONFIRMED_ANNOTATION, NIO_FINALIZERS};
use nico::api::nio::Generation;
use nico::plan::action::Action;
use nico::plan::nio;

use crate::given::{Seen, cluster, given, planned};

#[test]
fn each_generation_is_told_by_its_name_and_its_schema() {
    for generation in nio::ALL {
        let answers = nio::for_generation(generation);
        assert_eq!(
            nio::detect(|property| property == answers.address_property()),
            Some(generation)
        );
        assert!(NIO_FINALIZERS.contains(&answers.finalizer()));
        let same = |other: &&Generation| nio::for_generation(**other).name() == answers.name();
        assert_eq!(nio::ALL.iter().filter(same).count(), 1);
    }
    assert_eq!(nio::detect(|_| false), None);
}

/// No write's precondition covers a Job: another may have begun since the watch showed the last one.
#[test]
fn a_proof_by_jobs_is_noted_after_live_reads_alone() {
    for generation in nio::ALL {
        let mut given = given(cluster().control_plane(["a"])).machines(["a"]);
        given.0.nio = Some(generation);
        given.0.settle();
        let marks = |seen: &Seen| {
            let actions = &seen.plan.actions;
            assert!(!actions.iter().any(Action::needs_live_reads));
            actions.iter().any(Action::marks_a_proof)
        };
        let by_jobs = nio::for_generation(generation).works_by_jobs();
        assert_eq!(by_jobs, generation == Generation::V1);
        given
            .when(planned)
            .then(|seen| {
                assert!(!marks(seen) && !seen.plan.needs_live_reads());
            })
            .when(|world| {
                world.edit_configuration("a", |held| {
                    let annotations = held.metadata.annotations.as_mut();
                    annotations.and_then(|it| it.remove(CONFIRMED_ANNOTATION));
                });
            })
            .then(|seen| {
                assert!(marks(seen), "{generation:?}");
                assert_eq!(seen.plan.needs_live_reads(), by_jobs, "{generation:?}");
            });
    }
}

/// The words of code that say which generation of NIO is meant, and lines that compare its name.
fn tells(code: &str) -> Vec<String> {
    let mut told = Vec::new();
    for line in code.lines() {
        let line = line.split("//").next().unwrap_or_default();
        if line.contains("\"classic\"") || line.contains("\"v1\"") && !line.contains("apiVersion") {
            told.push(line.trim().to_owned());
        }
        // What is in quotation marks is no code.
        let code: String = line.split('"').step_by(2).collect::<Vec<_>>().join(" ");
        // Modules of Kubernetes' API.
        let code = code.replace("::v1::", "::");
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let words = code.split(|c| !is_word(c));
        let named = words.filter(|word| {
            let word = word.to_ascii_lowercase();
            word.contains("v1") && word != "v1alpha1" || word.contains("classic")
        });
        told.extend(named.map(str::to_owned));
    }
    told
}

#[test]
fn each_way_to_tell_a_generation_is_noticed() {
    for code in [
        "if nio == Generation::V1 {",
        "use crate::api::nio::Generation::*; if nio == V1 {",
        "if nio.is_v1() {",
        "let v1 = true;",
        "matches!(nio, Some(Classic))",
        "if nio::for_generation(nio).name() == \"v1\" {",
        "const V1_SCHEDULE: &str = \"\";",
    ] {
        assert_ne!(tells(code), [""; 0], "{code}");
    }
    for code in [
        "use k8s_openapi::api::core::v1::Secret;",
        "\"apiVersion\": \"v1\",",
        "let spec = 1; // with v1",
        "\"classic NIO cannot\"",
        "for_generation(nio)",
    ] {
        assert_eq!(tells(code), [""; 0], "{code}");
    }
}

/// A third generation is one new file beside these, its variant, and its line in the table.
#[test]
fn nothing_but_the_seam_tells_the_generations_apart() {
    // The variants, and the finalizers, which are removed whatever NIO is installed.
    let spelled = [
        ("api/nio.rs", &["Classic", "V1"][..]),
        (
            "api/names.rs",
            &[
                "CLASSIC_FINALIZER",
                "V1_FINALIZER",
                "CLASSIC_FINALIZER",
                "V1_FINALIZER",
            ],
        ),
    ];
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&src, &mut files);
    assert!(files.len() > 100, "{}", files.len());
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        if file.starts_with(src.join("plan/nio")) {
            continue;
        }
        let spelled = spelled.iter().find(|(name, _)| file == src.join(name));
        let spelled = spelled.map_or(&[][..], |(_, words)| words);
        assert_eq!(tells(code), spelled, "{}", file.display());
    }
}

fn is_test(file: &Path) -> bool {
    let name = file.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.ends_with("tests.rs"))
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|it| it == "rs") && !is_test(&path) {
            files.push(path);
        }
    }
}
