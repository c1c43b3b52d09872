//! The processes of a control plane: where their programs are, and how they end with the process that started them.
//!
//! Each process has the reading end of a pipe as its standard input, and the rig has the other end. However the rig ends, also by
//! `kill -9`, that end closes, and the process ends. The rig's own binary watches its input itself. A released program
//! (`KUBEBUILDER_ASSETS`) is watched by a shell.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::{Error, run_dir::KEEP};
use crate::go_build::controlplane_binary;

/// Watches the pipe (descriptor 3) in a background process. The program replaces this shell by `exec`, so `$$` is its process id.
const WATCHED: &str = r#"
exec 3<&0 </dev/null
(cat <&3 >/dev/null; kill -9 $$ 2>/dev/null; [ -z "$RIG_REMOVE_WITH_PARENT" ] || rm -rf "$RIG_REMOVE_WITH_PARENT") &
exec 3<&-
exec "$@"
"#;
/// How long a process may take to end after its pipe was closed, before it is killed.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often Go's runtime collects garbage, unless the environment says it. By default that is a fifth of the API server's CPU time; with
/// these it is far less, for memory that is bounded.
const GARBAGE: [(&str, &str); 2] = [("GOGC", "300"), ("GOMEMLIMIT", "2GiB")];

/// Where the programs are.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    assets: Option<PathBuf>,
    built: Option<PathBuf>,
}

impl Programs {
    /// Finds the programs. Blocks for minutes if the rig's binary has to be built; it is not needed if `KUBEBUILDER_ASSETS` has all
    /// programs.
    pub(super) fn find(controllers: bool) -> Result<Self, Error> {
        let assets = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
        let mut names = vec!["etcd", "kube-apiserver", "kubectl"];
        if controllers {
            names.push("kube-controller-manager");
        }
        let complete = assets
            .as_ref()
            .is_some_and(|directory| names.iter().all(|name| directory.join(name).exists()));
        let built = if complete {
            None
        } else {
            Some(controlplane_binary()?)
        };
        Ok(Self { assets, built })
    }

    /// The beginning of a program's command line, and whether it is the rig's own binary.
    pub(super) fn words(&self, name: &'static str) -> (Vec<OsString>, bool) {
        let asset = self
            .assets
            .as_ref()
            .map(|directory| directory.join(name))
            .filter(|path| path.exists());
        match (asset, &self.built) {
            (None, Some(built)) => (vec![built.into(), name.into()], true),
            (asset, _) => (vec![asset.map_or_else(|| name.into(), Into::into)], false),
        }
    }
}

/// A running process. Dropping this ends it.
pub(super) struct Process {
    pub(super) name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program, with its output appended to `<name>.log` in `directory`. If `last` is set, it removes that directory in case the
    /// rig ended without doing so.
    pub(super) fn start(
        programs: &Programs,
        name: &'static str,
        arguments: &BTreeMap<&str, String>,
        directory: &Path,
        last: bool,
    ) -> Result<Self, Error> {
        let log = directory.join(format!("{name}.log"));
        let failed = |source| Error::File {
            path: log.clone(),
            source,
        };
        let output = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(failed)?;
        let (words, ours) = programs.words(name);
        let mut command = if ours {
            let mut command = Command::new(&words[0]);
            command.args(&words[1..]).env("RIG_EXIT_WITH_PARENT", "1");
            command
        } else {
            let mut command = Command::new("sh");
            command.args(["-c", WATCHED, "sh"]).args(words);
            command
        };
        if last && std::env::var_os(KEEP).is_none() {
            command.env("RIG_REMOVE_WITH_PARENT", directory);
        }
        for (variable, value) in GARBAGE {
            if std::env::var_os(variable).is_none() {
                command.env(variable, value);
            }
        }
        let child = command
            .args(
                arguments
                    .iter()
                    .map(|(flag, value)| format!("--{flag}={value}")),
            )
            .current_dir(directory)
            // Ctrl-C in a terminal is meant for the process that started this one, which then stops it.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(output.try_clone().map_err(failed)?)
            .stderr(output)
            .spawn()
            .map_err(|source| Error::Start { name, source })?;
        Ok(Self { name, child, log })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns an error with the last lines of its log if it has ended.
    pub(super) fn check(&mut self) -> Result<(), Error> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(Error::Ended {
                name: self.name,
                status: status.to_string(),
                log: self.last_lines(),
            }),
            Err(source) => Err(Error::Start {
                name: self.name,
                source,
            }),
        }
    }

    /// The last twenty lines that it wrote.
    pub(super) fn last_lines(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let deadline = Instant::now() + PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Resident memory of a process in bytes, if the system has `/proc`.
pub(super) fn resident_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kibibytes * 1024)
}
