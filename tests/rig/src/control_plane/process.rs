//! The processes of a control plane: where their programs are, and that none outlives whoever started it.
//!
//! Each holds the reading end of a pipe as its standard input, and the rig the other end. However the rig ends, `kill
//! -9` included, that end closes, and the process goes. Our own binary watches its input itself; a released program
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

/// Watches the pipe (descriptor 3) beside the program, which takes over this shell's process by `exec` and so is the
/// one that `$$` names.
const WATCHED: &str = r#"
exec 3<&0 </dev/null
(cat <&3 >/dev/null; kill -9 $$ 2>/dev/null; [ -z "$RIG_REMOVE_WITH_PARENT" ] || rm -rf "$RIG_REMOVE_WITH_PARENT") &
exec 3<&-
exec "$@"
"#;
/// How long a process whose pipe was closed may take to end before it is killed.
const PATIENCE: Duration = Duration::from_secs(3);

/// Where the programs are.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    assets: Option<PathBuf>,
    built: Option<PathBuf>,
}

impl Programs {
    /// Blocks for minutes where our binary is to be built; it is not built where `KUBEBUILDER_ASSETS` has all that is
    /// asked for.
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

    /// The words with which a program's command line begins, and whether it is of our own binary.
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

/// A running process; dropping it ends it.
pub(super) struct Process {
    pub(super) name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program, with its output appended to `<name>.log` in `directory`. With `last` it removes that
    /// directory when the rig ended without having done so.
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
        let child = command
            .args(
                arguments
                    .iter()
                    .map(|(flag, value)| format!("--{flag}={value}")),
            )
            .current_dir(directory)
            // Ctrl-C in a terminal is for whoever started this, who ends it in its own time.
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

    /// An error with the last lines of its log when it has ended.
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

/// Resident memory of a process in bytes, where the system says it in `/proc`.
pub(super) fn resident_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kibibytes * 1024)
}
