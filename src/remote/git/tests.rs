//! The resolver against real git servers, and against hostile ones.

#![allow(clippy::expect_used, clippy::panic, reason = "tests")]

mod hostile_http;
mod places;
mod repositories;
mod servers;
mod sshd;

use std::process::Command;
use std::time::{Duration, Instant};

use rig::machines::KeyPair;
use rig::openssh::OpenSsh;
use rig::scratch::Scratch;
use tokio::task::spawn_blocking;

use self::servers::{Reply, Repo, cgi, daemon, http, raw, tls, tls_before};
use self::sshd::{Keys, sshd};
use super::{Credentials, GitError, Reach, resolve};
use crate::api::names::Commit;
use crate::remote::known_hosts::line_for;
use crate::remote::secret::SecretText;

const SHORT: Duration = Duration::from_millis(500);
/// For answers that come: no test fails because a machine is slow.
const DEADLINE: Duration = Duration::from_secs(300);

fn password(password: &str) -> Credentials {
    Credentials {
        password: Some(SecretText::new(password.to_owned())),
        ..Credentials::default()
    }
}

async fn ask(repo: &str, git_ref: &str) -> Result<Commit, GitError> {
    ask_with(repo, git_ref, &Credentials::default()).await
}

async fn ask_with(
    repo: &str,
    git_ref: &str,
    credentials: &Credentials,
) -> Result<Commit, GitError> {
    resolve(repo, Some(git_ref), credentials, Reach::Host, DEADLINE).await
}

/// Each ref must resolve to the same commit over every transport.
async fn answers_as_git_does(url: &str, repo: &Repo, credentials: &Credentials) {
    let commit = |git_ref: &str| Ok(repo.commit(git_ref));
    for (git_ref, expected) in [
        (None, commit("main")),
        (Some("HEAD"), commit("main")),
        (Some("main"), commit("main")),
        (Some("feature/x"), commit("feature/x")),
        (Some("refs/heads/feature/x"), commit("feature/x")),
        (Some("heads/main"), commit("main")),
        (Some("light"), commit("light")),
        (Some("annotated"), commit("annotated")),
        // A branch of the same name points to another commit.
        (Some("both"), commit("refs/tags/both")),
    ] {
        let found = resolve(url, git_ref, credentials, Reach::Host, DEADLINE).await;
        assert_eq!(found, expected, "{git_ref:?}");
    }
    assert_ne!(
        repo.commit("refs/heads/both"),
        repo.commit("refs/tags/both")
    );
    for missing in ["mai", "main2", "x", "tags"] {
        let found = ask_with(url, missing, credentials).await;
        let Err(GitError::Missing { what, .. }) = found else {
            panic!("{found:?}");
        };
        assert_eq!(what, format!("branch or tag {missing}"));
    }
}

#[tokio::test]
async fn a_commit_is_its_own_answer() {
    let commit = "0123456789abcdef0123456789ABCDEF01234567";
    let found = ask("https://nobody.invalid/x", commit).await;
    let found = found.map(|commit| commit.to_string());
    assert_eq!(found, Ok(commit.to_ascii_lowercase()));
}

#[tokio::test]
async fn refs_are_resolved_over_http_in_each_version_of_the_protocol() {
    let Some(repo) = Repo::new() else { return };
    for version in [Some("version=2"), Some("version=1"), None] {
        let root = repo.root();
        let at = http(move |request| cgi(root.clone(), request, version)).await;
        let url = format!("http://{at}/repo/.git");
        answers_as_git_does(&url, &repo, &Credentials::default()).await;
        let none = ask(&format!("http://{at}/other"), "main").await;
        assert!(
            matches!(none, Err(GitError::NoRepository { .. })),
            "{none:?}"
        );
    }
}

#[tokio::test]
async fn refs_are_resolved_at_gits_own_port() {
    let Some(repo) = Repo::new() else { return };
    let Some(hosted) = daemon(&repo).await else {
        return;
    };
    let at = hosted.at;
    let url = format!("git://{at}/repo/.git");
    answers_as_git_does(&url, &repo, &Credentials::default()).await;
    let none = ask(&format!("git://{at}/other"), "main").await;
    assert!(
        matches!(none, Err(GitError::NoRepository { .. })),
        "{none:?}"
    );
}

#[tokio::test]
async fn refs_are_resolved_over_ssh_and_only_at_the_host_that_is_known() {
    let Some(repo) = Repo::new() else { return };
    let (server, client) = (KeyPair::generate(), KeyPair::generate());
    let keys = Keys {
        host: server.private().clone(),
        client: client.public().clone(),
    };
    let at = sshd(keys.clone(), true).await;
    let older = sshd(keys, false).await;
    let url = format!("ssh://git@{at}{}/repo/.git", repo.root().display());
    let line = |key: &KeyPair| line_for("127.0.0.1", at.port(), key.public());
    let credentials = |key: &KeyPair, known_hosts: Option<String>| Credentials {
        ssh_key: Some(SecretText::new(key.private_pem())),
        known_hosts: known_hosts.map(SecretText::new),
        ..Credentials::default()
    };
    answers_as_git_does(&url, &repo, &credentials(&client, Some(line(&server)))).await;
    let known = line_for("127.0.0.1", older.port(), server.public());
    let of_older = url.replace(&at.to_string(), &older.to_string());
    answers_as_git_does(&of_older, &repo, &credentials(&client, Some(known))).await;

    let other = KeyPair::generate();
    let refused = async |credentials: Credentials| {
        let found = ask_with(&url, "main", &credentials).await;
        found.expect_err("nothing is resolved")
    };
    let error = refused(credentials(&client, Some(line(&other)))).await;
    assert!(matches!(error, GitError::HostKey { .. }), "{error:?}");
    let error = refused(credentials(&client, Some(String::new()))).await;
    assert!(matches!(error, GitError::HostKey { .. }), "{error:?}");
    let error = refused(credentials(&client, None)).await;
    assert!(error.to_string().contains("known_hosts"), "{error}");
    let error = refused(password("x")).await;
    assert!(error.to_string().contains("ssh-privatekey"), "{error}");
    let error = refused(credentials(&other, Some(line(&server)))).await;
    assert!(matches!(error, GitError::Refused { .. }), "{error:?}");
    let missing = format!("ssh://git@{at}{}/none", repo.root().display());
    let known = credentials(&client, Some(line(&server)));
    let none = ask_with(&missing, "main", &known).await;
    assert!(matches!(none, Err(GitError::NotGit { .. })), "{none:?}");
}

#[tokio::test]
async fn refs_are_resolved_at_opensshs_own_server() {
    let Some(repo) = Repo::new() else { return };
    let (host, client) = (KeyPair::generate(), KeyPair::generate());
    let Some(server) = OpenSsh::start(host.private(), client.public(), "").await else {
        return;
    };
    let path = repo.root().join("repo").display().to_string();
    let url = format!("ssh://{}@127.0.0.1:{}{path}", server.user(), server.port());
    let line = line_for("127.0.0.1", server.port(), host.public());
    let credentials = |key: &KeyPair| Credentials {
        ssh_key: Some(SecretText::new(key.private_pem())),
        known_hosts: Some(SecretText::new(line.clone())),
        ..Credentials::default()
    };
    answers_as_git_does(&url, &repo, &credentials(&client)).await;
    let other = KeyPair::generate();
    let refused = resolve(
        &url,
        Some("main"),
        &credentials(&other),
        Reach::Host,
        DEADLINE,
    )
    .await;
    assert!(
        matches!(refused, Err(GitError::Refused { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn only_the_right_credentials_open_a_private_repository() {
    let Some(repo) = Repo::new() else { return };
    let root = repo.root();
    let at = http(move |request| {
        let root = root.clone();
        async move {
            // git:right
            let right = request.headers().get("authorization");
            if right.is_some_and(|value| value == "Basic Z2l0OnJpZ2h0") {
                cgi(root, request, Some("version=2")).await
            } else {
                Reply::of(401)
            }
        }
    })
    .await;
    let url = format!("http://{at}/repo/.git");
    let found = ask_with(&url, "main", &password("right\n")).await;
    assert_eq!(found, Ok(repo.commit("main")));
    for wrong in [password("a-wrong-one"), Credentials::default()] {
        let found = ask_with(&url, "main", &wrong).await;
        let Err(error @ GitError::Refused { .. }) = found else {
            panic!("{found:?}");
        };
        assert!(!format!("{error} {error:?}").contains("a-wrong-one"));
    }
}

#[tokio::test]
async fn a_server_that_hangs_or_trickles_is_given_up_in_time() {
    let silent = raw(|_| None).await;
    let trickles = raw(|sent| {
        let head =
            b"HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement\r\n\r\n";
        Some(match head.get(sent) {
            Some(byte) => vec![*byte],
            None => vec![b'0'],
        })
    })
    .await;
    for url in [
        format!("http://{silent}/x"),
        format!("git://{silent}/x"),
        format!("https://{silent}/x"),
        format!("http://{trickles}/x"),
        format!("git://{trickles}/x"),
    ] {
        let began = Instant::now();
        let found = resolve(
            &url,
            Some("main"),
            &Credentials::default(),
            Reach::Host,
            SHORT,
        )
        .await;
        let in_time = began.elapsed() < Duration::from_secs(60);
        assert!(in_time, "{url}");
        assert!(
            matches!(
                found,
                Err(GitError::Timeout { .. } | GitError::NotGit { .. })
            ),
            "{url}: {found:?}"
        );
    }
}

#[tokio::test]
async fn an_endless_answer_and_garbage_are_errors() {
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement\r\n\r\n";
    let line = |text: &str| format!("{:04x}{text}", text.len() + 4);
    let first = line("version 2\n") + &line("ls-refs\n");
    let commit = "0".repeat(40);
    let endless = line(&format!("{commit} refs/heads/other\n")).repeat(500);
    for (begin, rest) in [
        (String::new(), "x".repeat(32 << 10)),
        (String::new(), endless),
        (first, line("capability\n").repeat(500)),
        (String::new(), line("garbage\n")),
        (String::new(), "+00800000000".to_owned()),
        (String::new(), "0003".to_owned()),
        (String::new(), line(&format!("{commit}0 refs/heads/main\n"))),
    ] {
        for (head, scheme) in [(head, "http"), ("", "git")] {
            let begin = format!("{head}{begin}").into_bytes();
            let rest = rest.clone().into_bytes();
            let at = raw(move |sent| {
                Some(if sent < begin.len() {
                    begin[sent..].to_vec()
                } else {
                    rest.clone()
                })
            })
            .await;
            let found = ask(&format!("{scheme}://{at}/x"), "main").await;
            assert!(matches!(found, Err(GitError::NotGit { .. })), "{found:?}");
        }
    }
}

/// Where the system's authorities are is read from the environment, and only another process can have another one.
#[tokio::test]
async fn refs_are_resolved_over_https_where_an_authority_of_the_system_signs() {
    let Some(repo) = Repo::new() else { return };
    let root = repo.root();
    let plain = http(move |request| cgi(root.clone(), request, Some("version=2"))).await;
    let (at, authority) = tls_before(plain);
    let directory = Scratch::new("authority");
    let file = directory.path().join("authority.pem");
    let url = format!("https://127.0.0.1:{}/repo/.git", at.port());
    let resolved = async |authority: &str| {
        std::fs::write(&file, authority).expect("a file");
        let mut resolves = Command::new(std::env::current_exe().expect("this test"));
        resolves
            .args(["--exact", "--nocapture", "--ignored"])
            .arg("remote::git::tests::what_the_environment_names")
            .env(URL, &url)
            .env("SSL_CERT_FILE", &file)
            .env_remove("SSL_CERT_DIR");
        let output = spawn_blocking(move || resolves.output()).await;
        let output = output.expect("no panic").expect("it runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let commit = repo.commit("main");
    let trusted = resolved(&authority).await;
    assert!(trusted.contains(commit.as_str()), "{trusted}");
    let other = rig::pki::Authority::new("other").expect("an authority");
    let refused = resolved(other.certificate()).await;
    assert!(refused.contains("certificate"), "{refused}");
    assert!(!refused.contains(commit.as_str()), "{refused}");
}

/// The repository for the test below.
const URL: &str = "NICO_TEST_GIT_URL";

#[tokio::test]
#[ignore = "a part of the test above, in a process of its own"]
async fn what_the_environment_names() {
    if let Ok(url) = std::env::var(URL) {
        match ask(&url, "main").await {
            Ok(commit) => println!("{commit}"),
            Err(error) => println!("{error}"),
        }
    }
}

#[tokio::test]
async fn a_certificate_of_nobody_is_not_trusted() {
    let at = tls();
    let url = format!("https://127.0.0.1:{}/x", at.port());
    let found = ask_with(&url, "main", &password("secret")).await;
    assert!(matches!(found, Err(GitError::Tls { .. })), "{found:?}");
}

#[tokio::test]
async fn nobody_who_answers_is_said() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let at = closed.expect("a port").local_addr().expect("its address");
    for scheme in ["http", "git"] {
        let found = ask(&format!("{scheme}://{at}/x"), "main").await;
        assert!(
            matches!(found, Err(GitError::Unreachable { .. })),
            "{found:?}"
        );
    }
}
