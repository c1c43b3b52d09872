//! The same, and how it is fetched, from a machine over SSH.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use nico::api::conditions::Reason;
use nico::remote::deadlines::Deadlines;
use nico::remote::known_hosts::{KnownHosts, Policy};
use nico::remote::kubeconfig::fetch::{FetchError, FetchRequest, Fetched, WELL_KNOWN, fetch};
use nico::remote::kubeconfig::rebuild::Rebuilt;
use nico::remote::kubeconfig::verify::VerifyError;
use nico::remote::secret::SecretText;
use nico::remote::ssh::Login;
use rig::machines::{Answer, HostOptions, KeyPair, MachineHost, MachinePool};
use serde_json::json;

use crate::kubeconfig::table::{Fate, HERE, Honest, table};
use crate::kubeconfig::{assert_clean, file};

const PATH: &str = "/etc/rancher/k3s/k3s.yaml";

/// A machine with an SSH server.
struct Machine {
    host: MachineHost,
    key: SecretText,
    ip: String,
    known: Arc<KnownHosts>,
}

impl Machine {
    async fn new() -> Self {
        let pool = MachinePool::start(SocketAddr::from(([127, 0, 0, 1], 9))).await;
        let key = KeyPair::generate();
        let host = pool.host(HostOptions::new(&key)).await;
        let ip = host.ip().to_string();
        let known = KnownHosts::parse("prod-known-hosts", "", Policy::TrustOnFirstUse);
        Self {
            host,
            key: SecretText::new(key.private_pem()),
            ip,
            known: Arc::new(known),
        }
    }

    /// What was fetched, and the line to be pinned.
    async fn fetch(
        &self,
        path: Option<&str>,
        deadlines: Deadlines,
    ) -> (Result<Rebuilt, FetchError>, Option<String>) {
        let (fetched, line) = self.search(path, deadlines, async |_| Ok(())).await;
        (fetched.map(|it| it.kubeconfig), line)
    }

    /// The same, where not every kubeconfig works.
    async fn search(
        &self,
        path: Option<&str>,
        deadlines: Deadlines,
        works: impl AsyncFn(&SecretText) -> Result<(), VerifyError>,
    ) -> (Result<Fetched, FetchError>, Option<String>) {
        let login = Login {
            machine: "cp-01",
            host: &self.ip,
            looked_up: None,
            port: self.host.ssh_port(),
            user: "nixos",
        };
        let request = FetchRequest {
            cluster: "prod",
            login,
            key: &self.key,
            known_hosts: &self.known,
            path,
            endpoint: None,
            deadlines,
        };
        let mut line = None;
        (fetch(&request, &mut line, works).await, line)
    }

    async fn fetched(&self) -> Result<Rebuilt, FetchError> {
        self.fetch(None, Deadlines::DEFAULT).await.0
    }

    async fn failure(&self) -> FetchError {
        self.fetched().await.err().expect("nothing is fetched")
    }
}

#[tokio::test]
async fn the_same_over_ssh() {
    let honest = Honest::new();
    let machine = Machine::new().await;
    machine
        .host
        .put_file("/etc/shadow", file("/etc/shadow").unwrap());
    for (name, bytes, fate) in table(&honest) {
        machine.host.put_file(PATH, bytes);
        let (outcome, line) = machine.fetch(None, Deadlines::DEFAULT).await;
        assert!(line.is_some(), "{name}");
        match (outcome, &fate) {
            (Ok(fetched), Fate::Harmless(server)) => {
                // The machine's own address stands in the place of the table's.
                let server = server.replace("10.0.0.11", &machine.ip);
                assert_eq!(fetched.server(), server, "{name}");
                assert_clean(name, fetched.text().expose());
            }
            (Err(error), Fate::Refused(_)) => {
                assert_eq!(error.reason(), Reason::KubeconfigUnsafe, "{name}: {error}");
                assert_clean(name, &format!("{error} {error:?}"));
            }
            (outcome, fate) => panic!("{name}: {:?}, and not {fate:?}", outcome.err()),
        }
    }
    let read: Vec<_> = machine
        .host
        .execs()
        .into_iter()
        .filter_map(|command| Some(command.rsplit_once("' '")?.1.to_owned()))
        .filter(|path| path.contains("..") || path.contains(';'))
        .collect();
    assert_eq!(read, Vec::<String>::new());
}

#[tokio::test]
async fn the_well_known_places_are_tried_in_order() {
    let honest = Honest::new();
    let machine = Machine::new().await;
    for path in WELL_KNOWN.iter().rev() {
        machine.host.put_file(path, honest.changed(|_| {}));
        let before = machine.host.execs().len();
        assert!(machine.fetched().await.is_ok(), "{path}");
        let asked = machine.host.execs().split_off(before);
        assert!(
            asked.last().is_some_and(|command| command.contains(path)),
            "{asked:?}"
        );
    }
    machine.host.wipe();
    machine.host.answer(
        PATH,
        Answer::Fail {
            stderr: "EVIL: Permission denied".into(),
            status: 1,
        },
    );
    let error = machine.failure().await;
    assert_eq!(error.reason(), Reason::KubeconfigUnreadable);
    let message = error.to_string();
    assert!(
        message.contains("/etc/rancher/k3s/k3s.yaml cannot be read"),
        "{message}"
    );
    assert!(
        message.contains("there is no file at /etc/rancher/rke2/rke2.yaml"),
        "{message}"
    );
    assert_clean("stderr", &format!("{error} {error:?}"));
}

/// What an earlier distribution left on the machine is passed over while another place has a kubeconfig that works.
#[tokio::test]
async fn a_file_that_is_no_good_is_passed_over() {
    const GOOD: &str = "/etc/kubernetes/admin.conf";
    let (honest, other) = (Honest::new(), Honest::new());
    let machine = Machine::new().await;
    machine.host.put_file(GOOD, honest.changed(|_| {}));
    let good = machine.fetched().await.unwrap().text().expose().to_owned();
    let server = || "https://10.0.0.1:6443".to_owned();
    let refused = VerifyError::Unauthorised {
        server: server(),
        status: 401,
    };
    let silent = VerifyError::Unreachable { server: server() };
    let left: [(&str, Answer); 5] = [
        ("authority", Answer::Bytes(other.changed(|_| {}))),
        ("it is empty", Answer::Bytes(vec![])),
        ("context", Answer::Bytes(b"{}".to_vec())),
        ("YAML", Answer::Bytes(b"a: [".to_vec())),
        ("larger than", Answer::Bytes(vec![b'x'; 70_000])),
    ];
    for (why, answer) in left {
        machine.host.answer(PATH, answer);
        let works = async |text: &SecretText| {
            if text.expose() == good {
                Ok(())
            } else {
                Err(VerifyError::Tls {
                    server: server(),
                    why: "another authority".to_owned(),
                })
            }
        };
        let found = machine.search(None, Deadlines::DEFAULT, works).await.0;
        let found = found.unwrap_or_else(|error| panic!("{why}: {error}"));
        assert_eq!(found.kubeconfig.text().expose(), good, "{why}");
        assert_eq!((found.verified.clone(), &*found.path), (Ok(()), GOOD));
        let passed_over = found.passed_over();
        assert!(
            passed_over.contains(PATH) && passed_over.contains(why),
            "{passed_over}"
        );
    }
    // Where none works, the one whose server may still come up is kept at hand.
    machine.host.put_file(PATH, other.changed(|_| {}));
    let works = async |text: &SecretText| {
        if text.expose() == good {
            Err(silent.clone())
        } else {
            Err(refused.clone())
        }
    };
    let found = machine
        .search(None, Deadlines::DEFAULT, works)
        .await
        .0
        .unwrap();
    assert_eq!(
        (found.verified.clone(), &*found.path),
        (Err(silent.clone()), GOOD)
    );
    // And where each is refused, the message names them all.
    machine.host.put_file(GOOD, "{}");
    machine.host.put_file(PATH, "");
    let error = machine.failure().await;
    assert_eq!(error.reason(), Reason::KubeconfigUnsafe);
    let message = error.to_string();
    assert!(
        message.contains(PATH) && message.contains(GOOD),
        "{message}"
    );
    // One that nobody may read is named beside one that is no good.
    let denied = || Answer::Fail {
        stderr: String::new(),
        status: 1,
    };
    machine.host.answer(GOOD, denied());
    let message = machine.failure().await.to_string();
    let words = format!("{GOOD}: cannot be read by its user");
    assert!(
        message.contains(PATH) && message.contains(&words),
        "{message}"
    );
    machine.host.put_file(GOOD, honest.changed(|_| {}));
    machine.host.answer(PATH, denied());
    let works = async |_: &SecretText| Ok(());
    let found = machine.search(None, Deadlines::DEFAULT, works).await.0;
    let passed_over = found.unwrap().passed_over();
    assert!(
        passed_over.contains(&format!("{PATH}: cannot be read")),
        "{passed_over}"
    );
}

#[tokio::test]
async fn a_path_of_ones_own_is_the_only_one() {
    let honest = Honest::new();
    let machine = Machine::new().await;
    machine.host.put_file(PATH, honest.changed(|_| {}));
    let failed = machine
        .fetch(Some("/root/kubeconfig"), Deadlines::DEFAULT)
        .await
        .0
        .err()
        .unwrap();
    assert!(matches!(failed, FetchError::NotFound { .. }), "{failed}");
    machine
        .host
        .put_file("/root/kubeconfig", honest.changed(|_| {}));
    assert!(
        machine
            .fetch(Some("/root/kubeconfig"), Deadlines::DEFAULT)
            .await
            .0
            .is_ok()
    );
    let connections = machine.host.connections();
    for path in ["relative", "/a/../b", "/a b", "/$(id)", "/"] {
        let failed = machine
            .fetch(Some(path), Deadlines::DEFAULT)
            .await
            .0
            .err()
            .unwrap();
        assert!(matches!(failed, FetchError::Path), "{path}");
    }
    assert_eq!(machine.host.connections(), connections);
}

#[tokio::test]
async fn files_named_by_path_are_read_the_same_way() {
    let honest = Honest::new();
    let machine = Machine::new().await;
    machine.host.need_sudo(true);
    let both = format!("{}{}", honest.client.certificate, honest.client.key);
    machine
        .host
        .put_file("/var/lib/pki/ca.crt", honest.ca.clone());
    machine.host.put_file("/var/lib/pki/current.pem", both);
    machine.host.put_file(PATH, honest.changed(|config| {
        config["clusters"][0]["cluster"] = json!({"server": HERE, "certificate-authority": "/var/lib/pki/ca.crt"});
        config["users"][0]["user"] = json!({"client-certificate": "/var/lib/pki/current.pem", "client-key": "/var/lib/pki/current.pem"});
    }));
    let by_path = machine
        .fetched()
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    machine
        .host
        .put_file(PATH, honest.cluster("server", json!(HERE)));
    let embedded = machine
        .fetched()
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(by_path.text().expose(), embedded.text().expose());
}

#[tokio::test]
async fn a_machine_that_dawdles_is_left() {
    let machine = Machine::new().await;
    machine.host.answer(PATH, Answer::Hang);
    let deadlines = Deadlines {
        // Long enough to log in on a slow machine; the command would hang for ever.
        whole: Duration::from_secs(5),
        ..Deadlines::DEFAULT
    };
    let (outcome, line) = machine.fetch(None, deadlines).await;
    let error = outcome.err().unwrap();
    assert!(error.to_string().contains("took too long"), "{error}");
    assert!(line.is_some());
    machine.host.answer(PATH, Answer::Endless);
    let error = machine.fetch(None, deadlines).await.0.err().unwrap();
    assert_eq!(error.reason(), Reason::KubeconfigUnsafe);
    // A pipe in one place keeps nobody from another.
    machine.host.answer(PATH, Answer::Hang);
    machine
        .host
        .put_file("/etc/kubernetes/admin.conf", Honest::new().changed(|_| {}));
    let deadlines = Deadlines {
        command: Duration::from_secs(2),
        ..Deadlines::DEFAULT
    };
    let works = async |_: &SecretText| Ok(());
    let found = machine.search(None, deadlines, works).await.0;
    let passed_over = found.unwrap().passed_over();
    assert!(
        passed_over.contains(&format!("{PATH}: does not end in time")),
        "{passed_over}"
    );
    // Nor does a command that is killed.
    machine
        .host
        .answer(PATH, Answer::NoStatus(b"half".to_vec()));
    let found = machine.search(None, deadlines, works).await.0;
    let passed_over = found.unwrap().passed_over();
    assert!(
        passed_over.contains(&format!("{PATH}: the machine breaks off")),
        "{passed_over}"
    );
}

#[tokio::test]
async fn no_key_and_no_content_gets_into_an_error() {
    let machine = Machine::new().await;
    machine.host.put_file(PATH, "EVIL: [");
    let key = machine.key.expose().to_owned();
    let mut errors = vec![machine.failure().await];
    machine.host.authorize("nobody", vec![]);
    errors.push(machine.failure().await);
    machine.host.refuse(true);
    let closed = || async {
        tokio::net::TcpStream::connect((machine.host.ip(), machine.host.ssh_port()))
            .await
            .is_err()
            .then_some(())
    };
    rig::wait::wait_for("the port is closed", Duration::from_secs(5), closed).await;
    errors.push(machine.failure().await);
    for error in errors {
        let text = format!("{error} {error:?}");
        assert_clean("error", &text);
        assert!(
            key.lines()
                .filter(|line| line.len() > 16)
                .all(|line| !text.contains(line)),
            "{text}"
        );
        assert!(text.contains("cp-01"), "{text}");
    }
}
