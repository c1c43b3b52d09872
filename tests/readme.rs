//! What the README promises: no flag, condition or reason is missing, and its YAML is a cluster.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

const README: &str = include_str!("../README.md");
const CONDITIONS: &str = include_str!("../src/api/conditions.rs");

/// The variants of an enum in the source of the conditions.
fn variants(of: &str) -> Vec<&'static str> {
    let (_, body) = CONDITIONS.split_once(&format!("pub enum {of} {{")).unwrap();
    let (body, _) = body.split_once("\n}").unwrap();
    let lines = body.lines().map(str::trim);
    lines
        .filter_map(|line| line.strip_suffix(','))
        .filter(|line| !line.starts_with("//"))
        .collect()
}

#[test]
fn every_condition_and_reason_is_explained() {
    for kind in ["ConditionType", "Reason"] {
        let variants = variants(kind);
        assert!(variants.len() > 5, "{kind}: {variants:?}");
        for variant in variants {
            assert!(README.contains(&format!("`{variant}`")), "{kind} {variant}");
        }
    }
}

#[test]
fn the_example_obeys_the_rules() {
    let (_, example) = README.split_once("```yaml\n").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    let cluster: Value = serde_yaml::from_str(example).unwrap();
    let name = cluster["metadata"]["name"].as_str().unwrap();
    nico::api::validate::validate(name, &cluster["spec"]).unwrap();
}

/// The pages that explain the source.
const PAGES: [&str; 5] = [
    "src/README.md",
    "src/api/README.md",
    "src/api/nio/README.md",
    "src/plan/README.md",
    "tests/README.md",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|it| it.unwrap());
    let below = entries.flat_map(|entry| {
        let path = entry.path();
        if path.is_dir() {
            files(&path)
        } else {
            vec![path]
        }
    });
    below.collect()
}

#[test]
fn every_file_that_a_page_names_is_there() {
    let all: Vec<PathBuf> = ["src", "tests"]
        .iter()
        .flat_map(|folder| files(&root().join(folder)))
        .collect();
    let mut named = 0;
    for page in PAGES {
        let text = std::fs::read_to_string(root().join(page)).unwrap();
        let quoted = text.split('`').skip(1).step_by(2);
        for file in quoted.filter(|it| {
            let extension = Path::new(it).extension();
            extension.is_some_and(|it| it == "rs") && !it.contains(['*', ' '])
        }) {
            named += 1;
            let is_there = all.iter().any(|path| path.ends_with(file));
            assert!(is_there, "{page} names {file}");
        }
    }
    assert!(named > 30, "{named}");
}

#[test]
fn every_invariant_is_named_by_a_test() {
    let page = std::fs::read_to_string(root().join("tests/README.md")).unwrap();
    let first_cells = page.lines().filter_map(|line| line.split('|').nth(1));
    let invariants: Vec<&str> = first_cells
        .map(str::trim)
        .filter(|cell| {
            let number = cell.strip_prefix(['I', 'L']);
            number.is_some_and(|it| it.parse::<u8>().is_ok())
        })
        .collect();
    assert!(invariants.len() > 20, "{invariants:?}");
    let sources = ["tests", "src"].map(|it| files(&root().join(it)));
    let sources = sources.into_iter().flatten();
    let sources = sources.filter(|path| path.extension().is_some_and(|it| it == "rs"));
    let text: String = sources
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    let words: BTreeSet<&str> = text.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    for invariant in invariants {
        assert!(words.contains(invariant), "no test names {invariant}");
    }
}

/// Whoever clones the repository has nothing else: no rule may stand in a document that is not here.
#[test]
fn nothing_refers_to_a_document_that_is_not_here() {
    let outside = ["SPEC", "INVARIANTS", "DESIGN", "STYLE", "PRD"];
    let folders = ["src", "tests", "examples", "deploy", "crds"];
    let below = folders.iter().flat_map(|it| files(&root().join(it)));
    let top = ["README.md", "Cargo.toml"].map(|it| root().join(it));
    let mut read = 0;
    for path in below.chain(top).filter(|path| !path.ends_with(file!())) {
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        read += 1;
        for (number, line) in text.lines().enumerate() {
            let mut words = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let refers = words.any(|it| outside.contains(&it)) || line.contains("NIO.md");
            assert!(!refers, "{}:{}: {line}", path.display(), number + 1);
        }
    }
    assert!(read > 100, "{read}");
}
