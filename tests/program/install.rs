//! NICO as the first page installs it: its lines applied to a management cluster without NICO, and the two replicas run as the Deployment
//! says, in an empty root, until the page's cluster is Ready. `NICO_PROGRAM` names another program than the one of this build, as the image's.

mod manifest;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rig::control_plane::ControlPlane;
use rig::crds::Generation;
use rig::environment::Environment;
use rig::process::Nico;
use rig::scratch::Scratch;
use rig::wait::wait_describing;
use rig::world::World;

use crate::ten_steps::{Step, steps};
use manifest::Manifest;

/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(400);

/// Where a pod finds its ServiceAccount.
const ACCOUNT: &str = "var/run/secrets/kubernetes.io/serviceaccount";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs kubectl in the root of the repository, and gives what it printed.
fn kubectl(control_plane: &ControlPlane, arguments: &[&str]) -> String {
    let mut command = control_plane.kubectl_command();
    let output = command
        .args(arguments)
        .current_dir(root())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {told}");
    String::from_utf8(output.stdout).unwrap()
}

/// A management cluster with NIO, on which the page's lines have installed NICO.
async fn installed(step: &Step) -> &'static Environment {
    let environment: &Environment =
        Box::leak(Box::new(Environment::start(Generation::Classic).await));
    let control_plane = &environment.control_plane;
    // What the rig put there for its own tests.
    let theirs = ["-f", "crds/", "-f", "deploy/base/"];
    let delete = ["delete", "--ignore-not-found"];
    kubectl(control_plane, &[&delete[..], &theirs].concat());
    let lines = step.commands.iter();
    let lines: Vec<Vec<&str>> = lines
        .map(|line| line.split_whitespace().collect())
        .filter(|words: &Vec<&str>| words.first() == Some(&"kubectl"))
        .collect();
    assert!(lines.len() > 1, "{lines:?}");
    for words in lines {
        kubectl(control_plane, &words[1..]);
    }
    environment
}

/// Whether this process may become another user.
fn is_root() -> bool {
    let user = Command::new("id").arg("-u").output().unwrap();
    user.stdout == b"0\n"
}

/// The words that run a program of another root directory as that user, or as this one where it may become no other.
fn in_root_as((uid, gid): (u32, u32)) -> Vec<String> {
    if is_root() {
        let user = format!("--userspec={uid}:{gid}");
        vec!["chroot".to_owned(), user, "--groups=".to_owned()]
    } else {
        ["unshare", "--map-root-user", "chroot"]
            .map(str::to_owned)
            .to_vec()
    }
}

/// Whether this system lets this process change its root directory: many containers and some kernels do not.
fn may_change_root() -> bool {
    let words = in_root_as((0, 0));
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).args(["/", "true"]);
    command.output().is_ok_and(|output| output.status.success())
}

/// The port at which the program listens by itself.
fn default_port() -> u64 {
    let help = Command::new(env!("CARGO_BIN_EXE_nico"))
        .args(["run", "--help"])
        .output()
        .unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let (_, rest) = help.split_once("--http-addr").unwrap();
    let (_, rest) = rest.split_once("[default: 0.0.0.0:").unwrap();
    rest.split_once(']').unwrap().0.parse().unwrap()
}

/// What a container of the image finds: the program (with the libraries of a build that is not static) and the ServiceAccount's files.
struct Container {
    root: Scratch,
    manifest: Manifest,
    /// What is there before anything runs.
    files: String,
}

impl Container {
    async fn new(control_plane: &ControlPlane) -> Self {
        let mut container = Self {
            root: Scratch::new("install"),
            manifest: Manifest::read(control_plane),
            files: String::new(),
        };
        let program = std::env::var_os("NICO_PROGRAM")
            .map_or(env!("CARGO_BIN_EXE_nico").into(), PathBuf::from);
        let (uid, gid) = container.manifest.user();
        let entrypoint = &container.manifest.line()[0];
        container.put(&program, entrypoint);
        let libraries = Command::new("ldd").arg(&program).output().unwrap();
        let libraries = String::from_utf8(libraries.stdout).unwrap();
        for library in libraries
            .split_whitespace()
            .filter(|it| it.starts_with('/'))
        {
            container.put(Path::new(library), library);
        }
        let account = container.manifest.pod()["serviceAccountName"]
            .as_str()
            .unwrap();
        let token = control_plane
            .service_account_token("nico-system", account)
            .await
            .unwrap();
        let directory = container.path(ACCOUNT);
        fs::create_dir_all(&directory).unwrap();
        for (name, text) in [
            ("token", token.as_str()),
            ("ca.crt", control_plane.ca_pem()),
            ("namespace", "nico-system"),
        ] {
            let file = directory.join(name);
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
            if is_root() {
                chown(&file, Some(uid), Some(gid)).unwrap();
            }
        }
        container.files = container.listed();
        container
    }

    fn path(&self, inside: &str) -> PathBuf {
        self.root.path().join(inside.trim_start_matches('/'))
    }

    fn put(&self, file: &Path, inside: &str) {
        let to = self.path(inside);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(file, to).unwrap();
    }

    /// Starts a replica: what differs from a pod is the address of its HTTP server, since pods have one each, and the port of the
    /// machines' SSH servers.
    async fn start(&self, world: &World) -> Nico {
        let environment = world.environment();
        let (host, port) = environment
            .control_plane
            .url()
            .trim_start_matches("https://")
            .rsplit_once(':')
            .unwrap();
        let mut variables = self.manifest.variables();
        variables.extend(
            [
                ("PATH", "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
                ("KUBERNETES_SERVICE_HOST", host),
                ("KUBERNETES_SERVICE_PORT", port),
                ("NICO_SSH_PORT", &environment.pool.ssh_port().to_string()),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        let mut line = in_root_as(self.manifest.user());
        line.push(self.root.path().display().to_string());
        line.extend(self.manifest.line());
        Nico::start_line(line, variables).await
    }

    /// All that is there, and whose it is.
    fn listed(&self) -> String {
        let mut find = Command::new("find");
        let output = find
            .arg(self.root.path())
            .args(["-printf", "%P %U %m %s\n"])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

/// The page's cluster, Ready, with two replicas.
struct Story {
    // Dropped first.
    replicas: [Nico; 2],
    container: Container,
    world: World,
}

impl Story {
    /// From the page's first line on.
    async fn to_ready() -> Self {
        if !is_root() {
            eprintln!(
                "WARNING: only root can run the program as the Deployment's user: it runs as this one, in a user namespace"
            );
        }
        let steps = steps();
        let environment = installed(&steps[2]).await;
        let container = Container::new(&environment.control_plane).await;
        let world = World::on(environment, |_| ()).await;
        let story = Self {
            replicas: [container.start(&world).await, container.start(&world).await],
            container,
            world,
        };
        story.probe().await;
        story.tell("ready, without a cluster");
        story
            .world
            .machines_named(&["cp-01", "cp-02", "cp-03"])
            .await;
        let namespace = format!("namespace: {}", story.world.namespace());
        let cluster = steps[7].yaml[0].replace("namespace: clusters", &namespace);
        story.world.apply(&cluster).await.unwrap();
        story.world.wait_ready("prod", DEADLINE).await;
        story.tell("three machines brought up");
        story
    }

    /// Waits until the Deployment's probes are answered by both.
    async fn probe(&self) {
        let port = default_port();
        for probe in ["livenessProbe", "readinessProbe"] {
            let path = self.container.manifest.probe(probe, port);
            for replica in &self.replicas {
                let answers = || async {
                    let ended = replica.exit_status();
                    assert_eq!(ended, None, "{}", replica.output());
                    (replica.get(path).await?.0 == 200).then_some(())
                };
                wait_describing(probe, DEADLINE, answers, || async { replica.output() }).await;
            }
        }
    }

    /// Prints what both take.
    fn tell(&self, when: &str) {
        for replica in &self.replicas {
            println!(
                "{when}: {} KiB, at most {} KiB, {} ms of CPU so far",
                replica.rss_bytes().unwrap_or_default() / 1024,
                replica.peak_rss_bytes().unwrap_or_default() / 1024,
                replica.cpu_ticks().unwrap_or_default() * 10
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_page_installs_nico_and_its_cluster_becomes_ready() {
    if !may_change_root() {
        rig::tools::skipped(
            "the installation",
            "no process may change its root directory",
        );
        return;
    }
    let story = Story::to_ready().await;
    let container = &story.container;
    let (uid, _) = container.manifest.user();
    for replica in &story.replicas {
        let status = fs::read_to_string(format!("/proc/{}/status", replica.pid())).unwrap();
        let is = |line: &str| status.lines().any(|it| it == line);
        if is_root() {
            assert!(is(&format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}")), "{status}");
            assert!(is("CapEff:\t0000000000000000"), "{status}");
        }
    }
    for replica in &story.replicas {
        replica.terminate().await;
        let ended = replica.wait_exit(DEADLINE).await;
        assert_eq!(
            ended.and_then(|it| it.code()),
            Some(0),
            "{}",
            replica.output()
        );
    }
    assert_eq!(container.files, container.listed(), "the root is read-only");
}

/// The requests that a replica has sent, by method.
async fn requests(replica: &Nico) -> BTreeMap<String, u64> {
    let (_, text) = replica.get("/metrics").await.unwrap();
    let mut sent = BTreeMap::new();
    for line in text.lines() {
        if let Some(labels) = line.strip_prefix("nico_api_requests_total{method=\"") {
            let (method, _) = labels.split_once('"').unwrap();
            let (_, count) = labels.rsplit_once(' ').unwrap();
            *sent.entry(method.to_owned()).or_default() += count.parse::<u64>().unwrap();
        }
    }
    sent
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement, of a minute"]
async fn what_two_replicas_cost_at_rest() {
    let story = Story::to_ready().await;
    for minute in ["the first minute after it", "a minute at rest"] {
        let mut before = Vec::new();
        for replica in &story.replicas {
            before.push((requests(replica).await, replica.cpu_ticks().unwrap()));
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        for (replica, (sent, ticks)) in story.replicas.iter().zip(before) {
            let mut now = requests(replica).await;
            for (method, count) in sent {
                *now.entry(method).or_default() -= count;
            }
            let ticks = replica.cpu_ticks().unwrap() - ticks;
            println!("{minute}: {now:?} requests, {} ms of CPU", ticks * 10);
        }
        story.tell(minute);
    }
}
