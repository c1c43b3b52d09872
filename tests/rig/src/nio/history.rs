//! What the simulator did, for checks.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

/// A configuration as it was applied to a machine.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// The namespace of both.
    pub namespace: String,
    /// The machine's name.
    pub machine: String,
    /// The configuration's name.
    pub configuration: String,
    /// The repository of the flake.
    pub git_repo: String,
    /// The flake output that was applied (`onRemoveFlake` for a removal).
    pub flake: String,
    /// The files that were injected, Secrets' contents included.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Files that were skipped, because their Secret is missing or empty.
    pub skipped: Vec<String>,
    /// The path of the last additional file of the spec.
    pub marker: Option<String>,
    /// Whether this removes the configuration from the machine.
    pub removal: bool,
    /// v1: whether this wiped the machine's disks, by `fullInstall`.
    pub wipes: bool,
}

impl Applied {
    /// The content of cluster.nix.
    #[must_use]
    pub fn cluster(&self) -> Option<Value> {
        // With v1 its path is in `configurationSubdir`.
        let named = |path: &str| path.rsplit('/').next() == Some("cluster.nix");
        let (_, content) = self.files.iter().find(|(path, _)| named(path))?;
        let text = std::str::from_utf8(content).ok()?;
        crate::nix::parse(text).ok()
    }
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Applied and reported.
    Success,
    /// Failed; nothing was written.
    Failure,
}

/// One attempt to apply a configuration to its machine.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// When it began, since the simulator's start.
    pub began: Duration,
    /// When it ended, since the simulator's start.
    pub ended: Duration,
    /// What was applied.
    pub applied: Applied,
    /// How it ended.
    pub outcome: Outcome,
}
