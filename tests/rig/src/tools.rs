//! Tools of the system that some tests need. Where one is missing, the test says that it was skipped; in CI, where `.ci/run` installs
//! them, that is a failure.

use std::io::Write as _;
use std::path::PathBuf;

/// Says that a test is skipped, and why.
///
/// # Panics
///
/// In CI.
pub fn skipped(test: &str, why: &str) {
    assert!(
        std::env::var_os("CI").is_none(),
        "{test}: {why}, and CI skips nothing"
    );
    // Not by a macro, whose output the test harness would keep to itself.
    let _ = writeln!(std::io::stderr(), "skipped {test}: {why}");
}

/// A program where it is installed; else the test says that it is skipped.
#[must_use]
pub fn on_path(test: &str, program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|file| file.is_file());
    if found.is_none() {
        skipped(test, &format!("{program} is not on PATH"));
    }
    found
}
