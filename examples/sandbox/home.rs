//! The directory of a session: kubeconfig, kubectl, manifests and NICO's log. It is a control plane's own, and goes with it, also
//! when this process is killed.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rig::workload::Workload;

use crate::Failure;
use crate::management::Management;
use crate::session::DEMO;

/// A second cluster to apply, of one machine.
const EDGE: &str = include_str!("../single.yaml");

/// The directory of a session.
pub(crate) struct Home {
    path: PathBuf,
}

impl Home {
    /// Fills the directory.
    pub(crate) fn new(management: &Management, workload: &Workload) -> Result<Self, Failure> {
        let directory = management
            .directory()
            .unwrap_or_else(|| workload.control_plane().directory());
        let home = Self {
            path: fs::canonicalize(directory)?,
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
        let cache = quoted(&home.path.join("kubectl-cache").display().to_string());
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
            &format!("export KUBECONFIG={kubeconfig}\nexport PATH={bin}:\"$PATH\"\n"),
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
            .write_all(text.as_bytes())
    }
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
