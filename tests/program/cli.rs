//! The command line as a person meets it: flags, what is refused and how, and how a run starts and ends.
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde_json::Value;

/// Every flag of `nico run` with its environment twin.
const FLAGS: [(&str, &str); 11] = [
    ("--watch-namespace", "NICO_WATCH_NAMESPACE"),
    ("--default-git-repo", "NICO_DEFAULT_GIT_REPO"),
    ("--nio", "NICO_NIO"),
    ("--resync", "NICO_RESYNC"),
    ("--request-timeout", "NICO_REQUEST_TIMEOUT"),
    ("--http-addr", "NICO_HTTP_ADDR"),
    ("--ssh-port", "NICO_SSH_PORT"),
    ("--leader-elect", "NICO_LEADER_ELECT"),
    ("--lease-namespace", "NICO_LEASE_NAMESPACE"),
    ("--log-format", "NICO_LOG_FORMAT"),
    ("--log", "NICO_LOG"),
];

/// Values that are refused, by flag.
const BAD: [(&str, &str); 23] = [
    ("--watch-namespace", "Not_A_Namespace"),
    ("--watch-namespace", "a.b"),
    ("--default-git-repo", "ext::sh -c id"),
    ("--default-git-repo", "file:///etc"),
    ("--nio", "v2"),
    ("--nio", "Classic"),
    ("--resync", "300"),
    ("--resync", "0s"),
    ("--resync", "25h"),
    ("--resync", "-5s"),
    ("--request-timeout", "30"),
    ("--request-timeout", "999ms"),
    ("--request-timeout", "301s"),
    ("--http-addr", "8080"),
    ("--http-addr", "localhost:8080"),
    ("--http-addr", "127.0.0.1:65536"),
    ("--ssh-port", "0"),
    ("--ssh-port", "65536"),
    ("--ssh-port", "ssh"),
    ("--leader-elect", "maybe"),
    ("--lease-namespace", "a.b"),
    ("--log-format", "xml"),
    ("--log", "nico=loud"),
];

/// `nico` without any environment of the machine's.
fn nico(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nico"));
    command
        .args(args)
        .env_clear()
        .env("HOME", dir("empty-home"))
        .stdin(Stdio::null());
    command
}

/// A directory of this test run, by name.
fn dir(name: &str) -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .join("cli")
        .join(name);
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// A kubeconfig file with this text.
fn kubeconfig(name: &str, text: &str) -> PathBuf {
    let path = dir("kubeconfigs").join(name);
    fs::write(&path, text).unwrap();
    path
}

/// The kubeconfig of an API server at `address`.
fn kubeconfig_for(name: &str, address: SocketAddr) -> PathBuf {
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: it\n\
         contexts: [{{name: it, context: {{cluster: it, user: it}}}}]\n\
         clusters: [{{name: it, cluster: {{server: 'http://{address}'}}}}]\n\
         users: [{{name: it, user: {{token: canary-token}}}}]\n"
    );
    kubeconfig(name, &text)
}

/// Standard error as text, after a check that nothing went to standard output.
fn told(output: &Output) -> String {
    assert!(output.stdout.is_empty(), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A run that ends by itself with `code`: what it said.
fn ends_with(code: i32, command: &mut Command) -> String {
    let output = command.output().unwrap();
    let told = told(&output);
    assert_eq!(output.status.code(), Some(code), "{told}");
    told
}

#[test]
fn help_names_every_flag_with_its_environment_twin_and_no_other() {
    let output = nico(&["run", "--help"]).output().unwrap();
    assert!(output.status.success());
    let help = String::from_utf8(output.stdout).unwrap();
    for (flag, variable) in FLAGS {
        assert!(help.contains(flag), "{flag} in {help}");
        assert!(
            help.contains(&format!("[env: {variable}]")),
            "{variable} in {help}"
        );
    }
    assert_eq!(help.matches("[env: ").count(), FLAGS.len(), "{help}");
}

#[test]
fn help_shows_no_value_of_the_environment() {
    let mut command = nico(&["run", "--help"]);
    for (_, variable) in FLAGS {
        command.env(variable, "canary");
    }
    let output = command.output().unwrap();
    assert!(!String::from_utf8(output.stdout).unwrap().contains("canary"));
}

#[test]
fn a_bad_value_is_a_usage_error_that_names_the_flag() {
    for (flag, value) in BAD {
        let by_flag = ends_with(2, &mut nico(&["run", &format!("{flag}={value}")]));
        assert!(by_flag.contains(flag), "{flag}={value}: {by_flag}");
        assert!(
            by_flag.ends_with("\n\nFor more information, try '--help'.\n"),
            "{flag}={value}: {by_flag:?}"
        );
        let (_, variable) = FLAGS.iter().find(|(name, _)| *name == flag).unwrap();
        let by_variable = ends_with(2, nico(&["run"]).env(variable, value));
        assert!(
            by_variable.contains(flag),
            "{variable}={value}: {by_variable}"
        );
    }
}

#[test]
fn a_password_in_the_default_repository_is_refused_and_not_repeated() {
    let repository = "https://me:canary@git.example.com/flakes.git";
    let told = ends_with(2, &mut nico(&["run", "--default-git-repo", repository]));
    assert!(told.contains("--default-git-repo"), "{told}");
    assert!(!told.contains("canary"), "{told}");
}

#[test]
fn a_missing_or_unknown_command_is_a_usage_error() {
    for args in [&[][..], &["fly"], &["run", "--fly"], &["run", "now"]] {
        let told = ends_with(2, &mut nico(args));
        assert!(told.contains("Usage"), "{told}");
    }
}

#[test]
fn a_kubeconfig_that_cannot_be_used_is_named_and_never_quoted() {
    let missing = dir("kubeconfigs").join("missing");
    let cases = [
        (missing.clone(), "does not exist"),
        (kubeconfig("empty", ""), "current-context"),
        (kubeconfig("no-yaml", "users: [{token: canary"), "YAML"),
        (kubeconfig("wrong-type", "clusters: canary"), "YAML"),
        (kubeconfig("no-context", "current-context: prod"), "prod"),
        (
            kubeconfig(
                "no-cluster",
                "current-context: a\ncontexts: [{name: a, context: {cluster: gone, user: u}}]",
            ),
            "gone",
        ),
        (dir("kubeconfigs"), "cannot be used"),
    ];
    for (path, why) in cases {
        let told = ends_with(1, nico(&["run"]).env("KUBECONFIG", &path));
        let told = told.lines().last().unwrap();
        assert!(told.starts_with("error: KUBECONFIG names "), "{told}");
        assert!(told.contains(path.to_str().unwrap()), "{told}");
        assert!(told.contains(why), "{told}");
        assert!(!told.contains("canary"), "{told}");
    }
}

#[test]
fn a_broken_kubeconfig_at_home_is_named_and_not_passed_over() {
    let home = dir("broken-home");
    let path = home.join(".kube").join("config");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, "{").unwrap();
    let told = ends_with(1, nico(&["run"]).env("HOME", &home));
    assert!(told.contains(path.to_str().unwrap()), "{told}");
}

#[test]
fn without_a_kubeconfig_and_outside_a_pod_the_mend_is_said() {
    let told = ends_with(1, &mut nico(&["run"]));
    assert!(told.contains("KUBECONFIG"), "{told}");
    let told = ends_with(
        1,
        nico(&["run"])
            .env("KUBERNETES_SERVICE_HOST", "10.0.0.1")
            .env("KUBERNETES_SERVICE_PORT", "443"),
    );
    assert!(told.contains("service account"), "{told}");
}

#[test]
fn a_proxy_is_refused_without_its_password_and_is_not_for_loopback() {
    // TEST-NET-1 (RFC 5737); refused before anything is sent.
    let elsewhere = kubeconfig_for("proxy", "192.0.2.1:6443".parse().unwrap());
    let proxy = "http://me:canary@192.0.2.2:3128";
    let told = ends_with(
        1,
        nico(&["run", "--http-addr=127.0.0.1:0"])
            .env("KUBECONFIG", elsewhere)
            .env("HTTPS_PROXY", proxy),
    );
    assert!(told.contains("HTTPS_PROXY"), "{told}");
    assert!(!told.contains("canary"), "{told}");
    let here = kubeconfig_for("proxy-loopback", closed_address());
    let run = Run::of(nico(&RUN).env("KUBECONFIG", here).env("HTTPS_PROXY", proxy));
    run.stops_on("-TERM");
}

#[test]
fn an_address_in_use_is_named_with_its_flag() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let path = kubeconfig_for("in-use", closed_address());
    let told = ends_with(
        1,
        nico(&["run", "--http-addr", &address]).env("KUBECONFIG", path),
    );
    assert!(told.contains("--http-addr"), "{told}");
    assert!(told.contains(&address), "{told}");
}

#[test]
fn while_the_api_server_is_away_nico_says_so_and_stays_alive_and_not_ready() {
    let server = closed_address();
    let run = Run::start(&kubeconfig_for("away", server));
    let line = run.line(|line| line["level"] == "WARN");
    let message = line["fields"]["message"].as_str().unwrap();
    assert!(message.contains(&server.to_string()), "{message}");
    assert!(message.contains("KUBECONFIG"), "{message}");
    assert!(run.get("/healthz").starts_with("HTTP/1.1 200 "));
    let ready = run.get("/readyz");
    assert!(ready.starts_with("HTTP/1.1 503 ") && ready.contains("api-server"));
    let mut lines = run.stops_on("-TERM").into_iter();
    assert!(!lines.any(|line| line["level"] == "ERROR"), "told twice");
}

#[test]
fn either_signal_ends_a_run_cleanly_even_while_a_call_hangs() {
    // Takes connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    for signal in ["-TERM", "-INT"] {
        let run = Run::start(&kubeconfig_for(
            &format!("silent{signal}"),
            silent.local_addr().unwrap(),
        ));
        run.stops_on(signal);
    }
}

#[test]
fn no_log_line_holds_the_token() {
    let path = kubeconfig_for("canary", closed_address());
    let run = Run::of(nico(&RUN).env("NICO_LOG", "trace").env("KUBECONFIG", path));
    run.line(|line| line["level"] == "WARN");
    for line in run.stops_on("-TERM") {
        assert!(!line.to_string().contains("canary-token"), "{line}");
    }
}

/// An address where nobody listens.
fn closed_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

/// Longest wait for anything here.
const PATIENCE: Duration = Duration::from_secs(20);

/// A run that this file can follow.
const RUN: [&str; 3] = ["run", "--http-addr=127.0.0.1:0", "--log-format=json"];

/// A running `nico run` with JSON lines on stderr; killed at the end at the latest.
struct Run {
    child: Child,
    lines: std::sync::mpsc::Receiver<Value>,
    reader: Option<JoinHandle<()>>,
    seen: std::cell::RefCell<Vec<Value>>,
}

impl Run {
    fn start(kubeconfig: &Path) -> Self {
        Self::of(nico(&RUN).env("KUBECONFIG", kubeconfig))
    }

    fn of(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = std::sync::mpsc::channel();
        let reader = thread::spawn(move || {
            for line in stderr.lines() {
                let line = line.unwrap();
                let parsed = serde_json::from_str(&line)
                    .unwrap_or_else(|_| panic!("not a line of JSON: {line}"));
                let _ = sender.send(parsed);
            }
        });
        Self {
            child,
            lines,
            reader: Some(reader),
            seen: Vec::new().into(),
        }
    }

    /// The first line, of those seen and those to come, that fits.
    fn line(&self, fits: impl Fn(&Value) -> bool) -> Value {
        if let Some(line) = self.seen.borrow().iter().find(|line| fits(line)) {
            return line.clone();
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self
                .lines
                .recv_timeout(left)
                .unwrap_or_else(|_| panic!("no such line in {:?}", self.seen.borrow()));
            self.seen.borrow_mut().push(line.clone());
            if fits(&line) {
                return line;
            }
        }
    }

    /// The answer to a GET.
    fn get(&self, path: &str) -> String {
        let line = self.line(|line| line["fields"]["address"].is_string());
        let address = line["fields"]["address"].as_str().unwrap().to_owned();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: nico\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Sends the signal once the program listens; it ends with 0 within ten seconds. All its lines.
    fn stops_on(mut self, signal: &str) -> Vec<Value> {
        self.line(|line| line["fields"]["address"].is_string());
        let sent = Instant::now();
        let kill = Command::new("kill")
            .args([signal, &self.child.id().to_string()])
            .status();
        assert!(kill.unwrap().success());
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(
                sent.elapsed() < Duration::from_secs(10),
                "{signal}: still running"
            );
            thread::sleep(Duration::from_millis(10));
        };
        assert_eq!(status.code(), Some(0), "{signal}");
        self.reader.take().unwrap().join().unwrap();
        let mut lines = self.seen.take();
        lines.extend(self.lines.try_iter());
        lines
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
