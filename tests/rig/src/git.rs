//! Git repositories, and git's own server.

#![allow(
    clippy::expect_used,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    reason = "a test whose git server does not start fails with why"
)]

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::scratch::{Program, Scratch, free_address};
use crate::wait::wait_for;

const STARTS_WITHIN: Duration = Duration::from_secs(60);

/// A repository `repo/.git` in a temporary directory.
pub struct Repo(Scratch);

impl Repo {
    /// A repository with the empty branch `main`; `None` if git is not installed.
    #[must_use]
    pub fn new() -> Option<Self> {
        crate::tools::on_path("a repository", "git")?;
        let repo = Self(Scratch::new("git"));
        std::fs::create_dir_all(repo.root().join("repo")).expect("a directory");
        repo.git(&["init", "-q", "-b", "main"]);
        Some(repo)
    }

    /// The directory that contains the repository.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.0.path()
    }

    /// Adds a commit to the current branch and returns it. A server of the repository serves it at once.
    pub fn commit(&self, message: &str) -> String {
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// Runs git in the repository; returns its output.
    pub fn git(&self, arguments: &[&str]) -> String {
        let mut git = Command::new("git");
        let repo = self.root().join("repo");
        let output = alone(&mut git).arg("-C").arg(repo).args(arguments).output();
        let output = output.expect("git runs");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

/// A running `git daemon`.
pub struct Daemon {
    /// The address on which it listens.
    pub at: SocketAddr,
    _program: Program,
}

/// Serves a repository with `git daemon`, at `git://{at}/repo/.git`; `None` if it is not installed.
pub async fn serve(repo: &Repo) -> Option<Daemon> {
    let program = exec_path().join("git-daemon");
    if !program.exists() {
        crate::tools::skipped("git daemon", "it is not installed");
        return None;
    }
    let at = free_address();
    let mut daemon = Command::new(program);
    alone(&mut daemon)
        .args(["--reuseaddr", "--export-all", "--listen=127.0.0.1"])
        .arg(format!("--port={}", at.port()))
        .arg(format!("--base-path={}", repo.root().display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let program = Program::start(&mut daemon);
    let listens = || async { TcpStream::connect(at).ok() };
    wait_for("git daemon listens", STARTS_WITHIN, listens).await;
    Some(Daemon {
        at,
        _program: program,
    })
}

fn exec_path() -> PathBuf {
    let output = Command::new("git").arg("--exec-path").output();
    let path = output.expect("git runs").stdout;
    Path::new(String::from_utf8_lossy(&path).trim()).to_owned()
}

/// Ignores the user's and the system's git configuration.
pub fn alone(git: &mut Command) -> &mut Command {
    for (name, value) in [
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_AUTHOR_NAME", "a"),
        ("GIT_AUTHOR_EMAIL", "a@example.com"),
        ("GIT_COMMITTER_NAME", "a"),
        ("GIT_COMMITTER_EMAIL", "a@example.com"),
    ] {
        git.env(name, value);
    }
    git.env_remove("GIT_DIR").env_remove("GIT_PROTOCOL")
}
