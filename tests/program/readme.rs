//! What the pages promise: no condition or reason is missing, their YAML is a cluster, and no reference leads nowhere.
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

const OPERATIONS: &str = include_str!("../../deploy/OPERATIONS.md");
const STATUS: &str = concat!(
    include_str!("../../src/api/conditions.rs"),
    include_str!("../../src/api/status.rs")
);

/// The variants of an enum in the source of the status.
fn variants(of: &str) -> Vec<&'static str> {
    let (_, body) = STATUS.split_once(&format!("pub enum {of} {{")).unwrap();
    let (body, _) = body.split_once("\n}").unwrap();
    let lines = body.lines().map(str::trim);
    lines
        .filter_map(|line| line.strip_suffix(','))
        .filter(|line| !line.starts_with("//"))
        .collect()
}

#[test]
fn every_condition_reason_and_state_is_explained() {
    for kind in ["ConditionType", "Reason", "MachineState"] {
        let variants = variants(kind);
        assert!(variants.len() > 5, "{kind}: {variants:?}");
        for variant in variants {
            assert!(
                OPERATIONS.contains(&format!("| `{variant}`"))
                    || OPERATIONS.contains(&format!("`, `{variant}`")),
                "{kind} {variant}"
            );
        }
    }
}

/// The KubernetesClusters among the YAML blocks of a page.
fn clusters(page: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(root().join(page)).unwrap();
    let blocks = text.split("```yaml\n").skip(1);
    let objects = blocks.map(|block| serde_yaml::from_str(block.split_once("```").unwrap().0));
    objects
        .map(|object: Result<Value, _>| object.unwrap())
        .filter(|object| object["kind"] == "KubernetesCluster")
        .collect()
}

#[test]
fn the_examples_obey_the_rules() {
    for page in [
        "README.md",
        "examples/README.md",
        "examples/flakes/README.md",
    ] {
        let clusters = clusters(page);
        assert!(!clusters.is_empty(), "{page}");
        for cluster in clusters {
            let name = cluster["metadata"]["name"].as_str().unwrap();
            nico::api::validate::validate(name, &cluster["spec"]).unwrap();
        }
    }
}

/// The heading's anchor, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let heading = heading.trim_start_matches('#').trim().to_lowercase();
    heading
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

/// A link to a file of the repository names one that is there, and a heading that it has.
#[test]
fn every_link_leads_somewhere() {
    let mut followed = 0;
    for page in USER_PAGES.into_iter().chain(PAGES) {
        let text = std::fs::read_to_string(root().join(page)).unwrap();
        let folder = root().join(page).parent().unwrap().to_owned();
        let links = text.split("](").skip(1);
        let links = links.filter_map(|rest| Some(rest.split_once(')')?.0));
        // Links to items of the source are rustdoc's to check.
        for link in links.filter(|it| !it.contains("://") && !it.contains("::")) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            if file.contains('(') {
                continue;
            }
            followed += 1;
            let target = if file.is_empty() {
                root().join(page)
            } else {
                folder.join(file)
            };
            assert!(target.exists(), "{page}: {link}");
            if !heading.is_empty() {
                let text = std::fs::read_to_string(&target).unwrap();
                let mut headings = text.lines().filter(|line| line.starts_with('#'));
                let is_there = headings.any(|line| anchor(line) == heading);
                assert!(is_there, "{page}: {link}");
            }
        }
    }
    assert!(followed > 8, "{followed}");
}

/// The pages of those who use NICO.
const USER_PAGES: [&str; 8] = [
    "README.md",
    "deploy/README.md",
    "deploy/SECURITY.md",
    "deploy/OPERATIONS.md",
    "deploy/gitops/README.md",
    "deploy/monitoring/RUNBOOKS.md",
    "examples/README.md",
    "examples/flakes/README.md",
];

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

/// Codes like those of the invariants, such as a letter and a number, mean nothing without a table that explains them.
#[test]
fn comments_have_no_codes_but_those_of_the_invariants() {
    let is_code = |word: &&str| {
        let number = word.trim_start_matches(|c: char| c.is_ascii_uppercase());
        let is_short = word.len() - number.len() == 1 && (1..=2).contains(&number.len());
        is_short && number.bytes().all(|it| it.is_ascii_digit()) && *word != "V1"
    };
    let sources = ["tests", "src"].map(|it| files(&root().join(it)));
    let sources = sources.into_iter().flatten();
    for path in sources.filter(|path| path.extension().is_some_and(|it| it == "rs")) {
        let text = std::fs::read_to_string(&path).unwrap();
        let comments = text.lines().filter(|line| line.trim().starts_with("//"));
        for line in comments {
            let words = line.split(|c: char| !c.is_ascii_alphanumeric());
            let mut codes = words.filter(is_code);
            let code = codes.find(|it| !it.starts_with(['I', 'L']));
            assert_eq!(code, None, "{}: {line}", path.display());
        }
    }
}
