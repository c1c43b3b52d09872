//! What differs between the generations of NIO stands in one place.

use std::fs;
use std::path::{Path, PathBuf};

use nico::api::names::NIO_FINALIZERS;
use nico::api::nio::Generation;
use nico::plan::nio;

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

/// A third generation is one new file beside these, its variant, and its line in the table.
#[test]
fn nothing_but_the_seam_tells_the_generations_apart() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&src, &mut files);
    assert!(files.len() > 100, "{}", files.len());
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let seam = file.starts_with(src.join("plan/nio"));
        let tells = code.contains("Generation::");
        assert!(seam || !tells, "{}", file.display());
    }
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|it| it == "rs") && !path.ends_with("tests.rs") {
            files.push(path);
        }
    }
}
