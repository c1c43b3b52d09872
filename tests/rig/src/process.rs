//! The real program as a child process, with its own environment. Tests can watch, measure and kill it. It ends with the test process, even
//! if that is killed: a shell waits for the end of a pipe that only the test keeps open.

#![allow(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "the rig stops with a sentence where it cannot go on"
)]

mod kill;

use std::fs;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

pub use self::kill::KillSwitch;
use crate::runtime;
use crate::wait::{try_wait_for, wait_describing};

/// `exec` replaces the shell by the program, so that signals and `/proc` belong to the program. Before that, the shell starts a watcher,
/// which reads descriptor 3 (the pipe) until the test is gone, and then kills the program.
const WATCHED: &str = "exec 3<&0 0</dev/null; p=$$; { read -r x <&3; kill -9 $p; } >/dev/null 2>&1 & exec 3<&-; exec \"$@\"";

/// NICO's request timeout, unless a test sets another one. Waits for late requests take four times as long, so it is short.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Options of a NICO process.
#[derive(Clone, Debug)]
pub struct NicoOptions {
    /// The binary (`env!("CARGO_BIN_EXE_nico")` in a test of the package).
    pub binary: PathBuf,
    /// Its kubeconfig.
    pub kubeconfig: String,
    /// The only namespace that it watches; `None`: all.
    pub namespace: Option<String>,
    /// The port of the machines' SSH servers.
    pub ssh_port: u16,
    /// The tracing filter.
    pub log: String,
    /// Additional arguments after `run`.
    pub args: Vec<String>,
}

/// A running NICO process, which is killed when this is dropped.
pub struct Nico {
    child: Arc<Mutex<Child>>,
    pid: u32,
    http: SocketAddr,
    output: Arc<Mutex<Vec<u8>>>,
    kubeconfig: Option<PathBuf>,
}

impl Nico {
    /// Starts the program. It may not be ready yet; see [`Nico::wait_ready`].
    pub async fn start(options: NicoOptions) -> Self {
        // On the rig's runtime, since the test's runtime may end before the process.
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let file = format!("nico-rig-{}-{number}.kubeconfig", std::process::id());
        let kubeconfig = std::env::temp_dir().join(file);
        let started = runtime().spawn(async move { Self::spawn(&options, kubeconfig, None) });
        started.await.expect("the program can be started")
    }

    /// Like [`Nico::start`], with all files in `directory`: its kubeconfig, and `nico.log` with its output.
    pub async fn start_in(options: NicoOptions, directory: &Path) -> Self {
        let kubeconfig = directory.join("nico.kubeconfig");
        let log = fs::File::create(directory.join("nico.log")).expect("a log can be made");
        let started = runtime().spawn(async move { Self::spawn(&options, kubeconfig, Some(log)) });
        started.await.expect("the program can be started")
    }

    /// Starts a command line that ends in NICO, with these environment variables and no others; its HTTP server is told to listen at
    /// a free port of 127.0.0.1.
    pub async fn start_line(line: Vec<String>, variables: Vec<(String, String)>) -> Self {
        let started = runtime().spawn(async move {
            let http = free_address();
            let mut command = Command::new("sh");
            command
                .args(["-c", WATCHED, "sh"])
                .args(line)
                .env_clear()
                .envs(variables)
                .env("NICO_HTTP_ADDR", http.to_string());
            Self::watched(command, http, None, None)
        });
        started.await.expect("the program can be started")
    }

    fn spawn(options: &NicoOptions, kubeconfig: PathBuf, log: Option<fs::File>) -> Self {
        write_private(&kubeconfig, &options.kubeconfig).expect("the kubeconfig can be written");
        let http = free_address();
        let mut command = Command::new("sh");
        command
            .args(["-c", WATCHED, "sh"])
            .arg(&options.binary)
            .arg("run")
            .args(["--http-addr", &http.to_string()])
            .args(["--ssh-port", &options.ssh_port.to_string()])
            .args(["--log", &options.log]);
        if let Some(namespace) = &options.namespace {
            command.args(["--watch-namespace", namespace]);
        }
        command
            .args(&options.args)
            .env("KUBECONFIG", &kubeconfig)
            .env("RUST_BACKTRACE", "1")
            .envs(crate::deploy::memory_settings())
            .env(
                "NICO_REQUEST_TIMEOUT",
                format!("{}s", REQUEST_TIMEOUT.as_secs()),
            );
        Self::watched(command, http, Some(kubeconfig), log)
    }

    /// Starts a command of the watching shell.
    fn watched(
        mut command: Command,
        http: SocketAddr,
        kubeconfig: Option<PathBuf>,
        log: Option<fs::File>,
    ) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C in a terminal is meant for the test only.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .expect("a shell can be started");
        let pid = child.id().expect("the child was just started");
        let output = Arc::new(Mutex::new(Vec::new()));
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        let log = log.map(Arc::new);
        runtime().spawn(capture(stdout, Arc::clone(&output), log.clone()));
        runtime().spawn(capture(stderr, Arc::clone(&output), log));
        Self {
            child: Arc::new(Mutex::new(child)),
            pid,
            http,
            output,
            kubeconfig,
        }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its output to stdout and stderr so far; empty if it writes to a file ([`Nico::start_in`]).
    #[must_use]
    pub fn output(&self) -> String {
        let output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&output).into_owned()
    }

    /// Sends SIGKILL.
    pub fn kill(&self) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = child.start_kill();
    }

    /// Sends SIGTERM without waiting.
    pub async fn terminate(&self) {
        let _ = Command::new("kill")
            .args(["-TERM", &self.pid.to_string()])
            .status()
            .await;
    }

    /// The exit status, once it has ended.
    #[must_use]
    pub fn exit_status(&self) -> Option<ExitStatus> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        child.try_wait().ok().flatten()
    }

    /// Waits until it ends; `None` if it still runs at the deadline.
    pub async fn wait_exit(&self, deadline: Duration) -> Option<ExitStatus> {
        try_wait_for(deadline, || async { self.exit_status() }).await
    }

    /// Waits until `/readyz` answers ok; fails with the program's output.
    pub async fn wait_ready(&self) {
        let ready = || async { (self.get("/readyz").await?.0 == 200).then_some(()) };
        let deadline = Duration::from_secs(30);
        wait_describing("NICO is ready", deadline, ready, || async {
            format!("exit: {:?}\n{}", self.exit_status(), self.output())
        })
        .await;
    }

    /// Sends a GET to its HTTP server; returns status code and body.
    pub async fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(self.http).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: nico\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let code = answer.split(' ').nth(1)?.parse().ok()?;
        let body = answer
            .split_once("\r\n\r\n")
            .map(|(_, body)| body.to_owned());
        Some((code, body.unwrap_or_default()))
    }

    /// The address of its HTTP server.
    #[must_use]
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// Resident memory in bytes.
    #[must_use]
    pub fn rss_bytes(&self) -> Option<u64> {
        self.memory("VmRSS:")
    }

    /// The most resident memory so far, in bytes.
    #[must_use]
    pub fn peak_rss_bytes(&self) -> Option<u64> {
        self.memory("VmHWM:")
    }

    fn memory(&self, field: &str) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(field))?;
        let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
        Some(kibibytes * 1024)
    }

    /// CPU time used so far, user and system, in clock ticks (100 a second on Linux).
    #[must_use]
    pub fn cpu_ticks(&self) -> Option<u64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        // The program's name, in parentheses, may contain spaces.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
        let user: u64 = fields.next()?.parse().ok()?;
        let system: u64 = fields.next()?.parse().ok()?;
        Some(user + system)
    }
}

impl Drop for Nico {
    fn drop(&mut self) {
        self.kill();
        if let Some(kubeconfig) = &self.kubeconfig {
            let _ = fs::remove_file(kubeconfig);
        }
    }
}

/// Where nobody listens; freed just before the program takes it.
fn free_address() -> SocketAddr {
    std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|free| free.local_addr())
        .expect("a port is free")
}

/// Writes a file that only its owner may read, since it contains credentials.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut options = fs::File::options();
    options.create(true).write(true).truncate(true).mode(0o600);
    options.open(path)?.write_all(text.as_bytes())
}

/// Stores the output of a stream in `log` if there is one, else in `output`. If `RIG_LOG` is set in the environment, it is shown as well.
async fn capture(
    stream: impl tokio::io::AsyncRead + Unpin,
    output: Arc<Mutex<Vec<u8>>>,
    log: Option<Arc<fs::File>>,
) {
    let show = std::env::var_os("RIG_LOG").is_some();
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    while matches!(reader.read_until(b'\n', &mut line).await, Ok(1..)) {
        if show {
            eprint!("{}", String::from_utf8_lossy(&line));
        }
        match &log {
            Some(log) => {
                // If the disk is full, only the log is lost.
                let _ = log.as_ref().write_all(&line);
                line.clear();
            }
            None => output
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .append(&mut line),
        }
    }
}

#[cfg(test)]
mod tests;
