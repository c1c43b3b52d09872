//! A Git repository behind git's own server, for clusters whose commits NICO resolves.

#![allow(
    clippy::expect_used,
    reason = "a test whose git server does not start fails with why"
)]

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::wait::wait_for;

const STARTS_WITHIN: Duration = Duration::from_secs(60);

/// A repository with one branch, `main`. It ends with its handle.
pub struct GitServer {
    root: PathBuf,
    port: u16,
    daemon: Child,
}

impl GitServer {
    /// Starts one with a first commit. `None`: git is not installed.
    ///
    /// # Panics
    ///
    /// Where git or its server does not start.
    pub async fn start() -> Option<Self> {
        if Command::new("git").arg("--version").output().is_err() {
            println!("skipped: git is not installed");
            return None;
        }
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = free.local_addr().expect("its address").port();
        drop(free);
        let root = std::env::temp_dir().join(format!("nico-rig-git-{}-{port}", std::process::id()));
        std::fs::create_dir_all(root.join("repo")).expect("a directory");
        let daemon = git()
            .args(["daemon", "--export-all", "--listen=127.0.0.1"])
            .arg(format!("--port={port}"))
            .arg(format!("--base-path={}", root.display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("git starts its server");
        let server = Self { root, port, daemon };
        server.run(&["init", "-q", "-b", "main"]);
        let _first = server.push("the first");
        let listens = || async { TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok() };
        wait_for("the git server listens", STARTS_WITHIN, listens).await;
        Some(server)
    }

    /// For `gitRepo`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("git://127.0.0.1:{}/repo/.git", self.port)
    }

    /// A new commit on the branch, which is served at once.
    #[must_use]
    pub fn push(&self, message: &str) -> String {
        self.run(&["commit", "-q", "--allow-empty", "-m", message]);
        self.run(&["rev-parse", "HEAD"])
    }

    fn run(&self, arguments: &[&str]) -> String {
        let repo = self.root.join("repo");
        let output = git().arg("-C").arg(repo).args(arguments).output();
        let output = output.expect("git runs");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

/// Without the configuration of the user and the system.
fn git() -> Command {
    let mut git = Command::new("git");
    git.env_remove("GIT_DIR").env_remove("GIT_PROTOCOL");
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
    git
}
