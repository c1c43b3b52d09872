//! A session of the sandbox, as a person has it in a terminal.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rig::go_build::rig_directory;

/// How long a whole session may take.
const DEADLINE: Duration = Duration::from_secs(180);

/// A running sandbox; killed when this is dropped.
pub(super) struct Sandbox {
    child: Child,
    lines: Receiver<String>,
    pub(super) told: String,
}

impl Sandbox {
    pub(super) fn start(arguments: &[&str], kubeconfig: Option<PathBuf>) -> Self {
        // cargo puts examples beside the directory of the tests.
        let program = std::env::current_exe().unwrap();
        let program = program.ancestors().nth(2).unwrap().join("examples/sandbox");
        assert!(
            program.exists(),
            "{} is missing: `cargo test` builds it, and so does `cargo build --example sandbox`",
            program.display()
        );
        let mut child = Command::new(program)
            .args(arguments)
            .env("KUBECONFIG", kubeconfig.unwrap_or_default())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        let stdout = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self {
            child,
            lines,
            told: String::new(),
        }
    }

    /// Reads on until a line holds `text`.
    pub(super) fn read_until(&mut self, text: &str) {
        let end = Instant::now() + DEADLINE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.told += &(line.clone() + "\n");
                    if line.contains(text) {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("no {text:?} in time:\n{}", self.told),
                Err(RecvTimeoutError::Disconnected) => {
                    let complaint = self.complaint();
                    panic!("it ended without {text:?}:\n{}{complaint}", self.told);
                }
            }
        }
    }

    /// Reads to the end: whether it went well, what it told, and what it complained of.
    pub(super) fn finish(mut self) -> (bool, String, String) {
        let end = Instant::now() + DEADLINE;
        while let Ok(line) = self
            .lines
            .recv_timeout(end.saturating_duration_since(Instant::now()))
        {
            self.told += &(line + "\n");
        }
        assert!(Instant::now() < end, "it does not end:\n{}", self.told);
        let complaint = self.complaint();
        let status = self.child.wait().unwrap();
        (status.success(), std::mem::take(&mut self.told), complaint)
    }

    fn complaint(&mut self) -> String {
        let mut text = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut text).unwrap();
        }
        text
    }

    pub(super) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([name, &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Its directory, also before it told of it.
    pub(super) fn directory(&self) -> PathBuf {
        let name = format!("sandbox-{}", self.child.id());
        rig_directory().unwrap().join(name)
    }

    /// The directory that it told the user to enter.
    pub(super) fn home(&self) -> PathBuf {
        let line = self.told.lines().find(|line| line.ends_with("&& . ./env"));
        let path = line.unwrap().trim().strip_prefix("cd ").unwrap();
        PathBuf::from(path.strip_suffix(" && . ./env").unwrap())
    }

    /// What its directories are called.
    pub(super) fn mark(&self) -> String {
        format!("rig/run-{}-", self.child.id())
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command as the user enters it, beside a cluster with a misspelt machine.
pub(super) fn play(sandbox: &mut Sandbox, command: &str) {
    let home = sandbox.home();
    let mistake = "apiVersion: nico.homystack.com/v1alpha1\nkind: KubernetesCluster\nmetadata: {name: oops}\n\
                   spec: {gitRepo: 'https://git.example.com/a.git', controlPlane: {machines: [egde-01]}}\n";
    fs::write(home.join("mistake.yaml"), mistake).unwrap();
    let script = format!("cd {} && . ./env && {command}", home.display());
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert!(output.status.success(), "{command}: {output:?}");
}

/// Processes and directories of a session.
pub(super) fn left(mark: &str) -> Vec<String> {
    let holds = |path: PathBuf| {
        fs::read(path).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(mark))
    };
    let processes = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .map(|entry| entry.path());
    let processes =
        processes.filter(|path| holds(path.join("cmdline")) || holds(path.join("environ")));
    let directories = fs::read_dir(rig_directory().unwrap()).unwrap();
    let directories = directories.flatten().map(|entry| entry.path());
    let directories = directories.filter(|path| path.to_string_lossy().contains(mark));
    processes
        .chain(directories)
        .map(|path| path.display().to_string())
        .collect()
}
