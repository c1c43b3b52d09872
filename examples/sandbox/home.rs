//! The directory of a session: kubeconfig, kubectl, manifests and NICO's log. At the end the sandbox removes what it made there, and
//! the directory only where nothing else lies in it. What a killed session left, the next one removes in the same way.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nico::api::digest::sha256;
use rig::go_build::rig_directory;
use rig::workload::Workload;

use crate::Failure;
use crate::management::Management;
use crate::session::DEMO;

/// A second cluster to apply, of one machine.
const EDGE: &str = include_str!("../single.yaml");

/// What directories of sessions are called: this, and a process id.
const PREFIX: &str = "sandbox-";
/// Held as long as the session lives.
const LOCK: &str = "lock";
/// Set, to any value, by a person who wants to look at what a session wrote, after it ended.
const KEEP: &str = "RIG_KEEP";
/// What else the sandbox makes in it, beside what [`Home::write`] notes: NICO's log and kubeconfig, and what kubectl remembers.
const MADE: [&str; 4] = [LOCK, "nico.log", "nico.kubeconfig", CACHE];
const CACHE: &str = "kubectl-cache";
/// Where the names and digests of what was written are noted.
const WRITTEN: &str = ".written";

/// The directory of a session.
pub(crate) struct Home {
    path: PathBuf,
    _lock: File,
}

impl Home {
    /// Fills the directory.
    pub(crate) fn new(management: &Management, workload: &Workload) -> Result<Self, Failure> {
        let parent = rig_directory()?;
        remove_dead(&parent);
        let directory = parent.join(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir_all(&directory)?;
        let lock = File::create(directory.join(LOCK))?;
        lock.lock()?;
        let home = Self {
            path: fs::canonicalize(directory)?,
            _lock: lock,
        };
        let path = home.path.display();
        home.write("sandbox.kubeconfig", 0o600, &management.kubeconfig()?)?;
        home.write("demo.yaml", 0o644, DEMO)?;
        // It is applied to the namespace of the kubeconfig, whatever that is called.
        let edge: Vec<&str> = EDGE
            .lines()
            .filter(|line| !line.starts_with("  namespace:"))
            .collect();
        home.write("edge.yaml", 0o644, &(edge.join("\n") + "\n"))?;
        let kubectl = words(&workload.control_plane().kubectl_words());
        let cache = quoted(&home.path.join(CACHE).display().to_string());
        fs::create_dir_all(home.path.join("bin"))?;
        home.write(
            "bin/kubectl",
            0o755,
            &format!("#!/bin/sh\nKUBECACHEDIR={cache} exec {kubectl} \"$@\"\n"),
        )?;
        let kubeconfig = quoted(&format!("{path}/sandbox.kubeconfig"));
        let bin = quoted(&format!("{path}/bin"));
        home.write(
            "env",
            0o644,
            // The kubeconfigs that are written there hold keys of administrators.
            &format!("umask 077\nexport KUBECONFIG={kubeconfig}\nexport PATH={bin}:\"$PATH\"\n"),
        )?;
        Ok(home)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where it is, as a shell reads it.
    pub(crate) fn quoted(&self) -> String {
        quoted(&self.path.display().to_string())
    }

    /// kubectl as the printed commands have it.
    pub(crate) fn kubectl(&self) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(self.path.join("bin/kubectl"));
        command
            .env("KUBECONFIG", self.path.join("sandbox.kubeconfig"))
            .current_dir(&self.path)
            .kill_on_drop(true);
        command
    }

    /// What NICO said last.
    pub(crate) fn last_log_line(&self) -> String {
        let log = fs::read_to_string(self.path.join("nico.log")).unwrap_or_default();
        log.lines().last().unwrap_or("its log is empty").to_owned()
    }

    /// Writes a file with these permissions.
    pub(crate) fn write(&self, name: &str, mode: u32, text: &str) -> io::Result<()> {
        let mut options = File::options();
        options.create(true).write(true).truncate(true).mode(mode);
        options
            .open(self.path.join(name))?
            .write_all(text.as_bytes())?;
        let mut noted = File::options()
            .create(true)
            .append(true)
            .open(self.path.join(WRITTEN))?;
        writeln!(noted, "{} {name}", sha256(text.as_bytes()))
    }

    /// Removes what the sandbox made; returns the names of what stays, since somebody else made or changed it.
    pub(crate) fn remove(self) -> Vec<String> {
        if std::env::var_os(KEEP).is_some() {
            return vec![];
        }
        remove_made(&self.path)
    }
}

/// Removes the directories of sessions that live no more, but for what others put there.
fn remove_dead(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // One without a lock was kept for what others put there.
        let is_dead = File::open(path.join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok());
        if name.starts_with(PREFIX) && is_dead {
            remove_made(&path);
        }
    }
}

/// Removes from a directory what a sandbox made and nobody changed, and the directory itself where nothing else lies in it; returns
/// what stays.
fn remove_made(directory: &Path) -> Vec<String> {
    let noted = fs::read_to_string(directory.join(WRITTEN)).unwrap_or_default();
    for (digest, name) in noted.lines().filter_map(|line| line.split_once(' ')) {
        let path = directory.join(name);
        if fs::read(&path).is_ok_and(|bytes| sha256(&bytes) == digest) {
            let _ = fs::remove_file(path);
        }
    }
    for name in MADE.into_iter().chain([WRITTEN]) {
        let path = directory.join(name);
        let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(path));
    }
    // Only where they are empty.
    let _ = fs::remove_dir(directory.join("bin"));
    let _ = fs::remove_dir(directory);
    let left = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut left: Vec<String> = left
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    left.sort();
    left
}

fn words(words: &[OsString]) -> String {
    let words: Vec<String> = words
        .iter()
        .map(|word| quoted(&word.to_string_lossy()))
        .collect();
    words.join(" ")
}

/// A word as a shell reads it, in quotes only where it needs them.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}
