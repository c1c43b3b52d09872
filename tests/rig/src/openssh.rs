//! OpenSSH's server, if it is installed.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a test whose server does not start fails with why"
)]

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use russh::keys::ssh_key::LineEnding;
use russh::keys::{PrivateKey, PublicKey};

use crate::scratch::{Program, Scratch, free_address};
use crate::wait::wait_describing;

const PROGRAM: &str = "/usr/sbin/sshd";
/// sshd started by root needs this directory.
const PRIVSEP: &str = "/run/sshd";
const STARTS_WITHIN: Duration = Duration::from_secs(60);

/// A server on loopback that accepts one key of the user who runs the test. Dropping this ends it.
pub struct OpenSsh {
    root: Scratch,
    at: SocketAddr,
    user: String,
    _server: Program,
}

impl OpenSsh {
    /// Starts a server with additional lines in its configuration; `None` if sshd is not installed, or cannot run here.
    pub async fn start(host: &PrivateKey, client: &PublicKey, settings: &str) -> Option<Self> {
        let user = stdout(Command::new("id").arg("-un"));
        if !Path::new(PROGRAM).exists() || user == "root" && !Path::new(PRIVSEP).exists() {
            crate::tools::skipped("sshd", &format!("{PROGRAM} or {PRIVSEP} is not there"));
            return None;
        }
        let at = free_address();
        let root = Scratch::new("sshd");
        let write = |name: &str, text: &str| {
            let path = root.path().join(name);
            std::fs::write(&path, text).expect("a file");
            restrict(&path);
            path.display().to_string()
        };
        let host = host.to_openssh(LineEnding::LF).expect("a key");
        let host = write("host", &host);
        let client = client.to_openssh().expect("a key");
        let client = write("authorized", &format!("{client}\n"));
        let config = write(
            "config",
            &format!(
                "ListenAddress {at}\nHostKey {host}\nAuthorizedKeysFile {client}\nPidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\n{settings}\n"
            ),
        );
        let log = std::fs::File::create(root.path().join("log")).expect("a file");
        let mut server = Command::new(PROGRAM);
        server
            .args(["-D", "-e", "-f", &config])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let started = Self {
            root,
            at,
            user,
            _server: Program::start(&mut server),
        };
        let listens = || async { TcpStream::connect(at).ok() };
        let seen = || async { started.log() };
        wait_describing("sshd listens", STARTS_WITHIN, listens, seen).await;
        Some(started)
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.at.port()
    }

    /// The user that may log in.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// A directory that is removed with it.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.root().join("log")).unwrap_or_default()
    }
}

/// Makes a file readable only for its owner, as sshd requires.
fn restrict(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let owner_only = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(path, owner_only).expect("a mode");
}

fn stdout(command: &mut Command) -> String {
    let output = command.output().expect("it runs");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
