//! Where NICO asks, and where it does not: addresses, names, and redirects.

use std::sync::{Arc, Mutex};

use rig::machines::KeyPair;

use super::servers::{Reply, Repo, cgi, http, raw};
use super::{DEADLINE, ask, ask_with, password};
use crate::remote::git::{Credentials, GitError, Reach, resolve};
use crate::remote::secret::SecretText;

#[tokio::test]
async fn redirects_are_followed_on_the_same_server_only() {
    let Some(repo) = Repo::new() else { return };
    let root = repo.root();
    let at = http(move |request| {
        let root = root.clone();
        async move {
            let path = request
                .uri()
                .path_and_query()
                .map_or("", |path| path.as_str());
            match path.strip_prefix("/moved") {
                Some(rest) => Reply::to(&format!("/repo/.git{rest}")),
                None => cgi(root, request, Some("version=2")).await,
            }
        }
    })
    .await;
    let found = ask(&format!("http://{at}/moved"), "main").await;
    assert_eq!(found, Ok(repo.commit("main")));

    // Another port is another server: it must get no request, and so no credentials.
    let seen = Arc::new(Mutex::new(0));
    let count = Arc::clone(&seen);
    let elsewhere = http(move |_| {
        *count.lock().expect("no panic") += 1;
        async { Reply::of(404) }
    })
    .await;
    let to = format!("http://{elsewhere}/repo/.git/info/refs?service=git-upload-pack");
    let at = http(move |_| {
        let to = to.clone();
        async move { Reply::to(&to) }
    })
    .await;
    let url = format!("http://{at}/repo/.git");
    let found = ask_with(&url, "main", &password("secret")).await;
    let Err(error @ GitError::Redirect { .. }) = found else {
        panic!("{found:?}");
    };
    assert!(
        error.to_string().contains(&elsewhere.to_string()),
        "{error}"
    );
    assert_eq!(*seen.lock().expect("no panic"), 0);

    let at = http(|request| async move {
        let path = request
            .uri()
            .path_and_query()
            .map_or("", |path| path.as_str());
        Reply::to(&format!("/again{path}"))
    })
    .await;
    let found = ask(&format!("http://{at}/x"), "main").await;
    assert!(matches!(found, Err(GitError::NotGit { .. })), "{found:?}");
}

/// A pod's loopback addresses are its own: a tenant must not learn of them, nor speak to them.
#[tokio::test]
async fn from_a_pod_its_own_addresses_get_no_connection() {
    let seen = Arc::new(Mutex::new(0));
    let count = Arc::clone(&seen);
    let at = raw(move |_| {
        *count.lock().expect("no panic") += 1;
        Some(b"0".to_vec())
    })
    .await;
    let key = KeyPair::generate();
    let credentials = Credentials {
        ssh_key: Some(SecretText::new(key.private_pem())),
        known_hosts: Some(SecretText::new(String::new())),
        ..password("secret")
    };
    for host in ["127.0.0.1", "localhost"] {
        for scheme in ["http", "https", "ssh", "git"] {
            let url = format!("{scheme}://{host}:{}/x", at.port());
            let found = resolve(&url, None, &credentials, Reach::Pod, DEADLINE).await;
            let Err(error @ GitError::NotAsked { .. }) = found else {
                panic!("{url}: {found:?}");
            };
            assert!(error.to_string().contains("loopback"), "{error}");
        }
    }
    assert_eq!(*seen.lock().expect("no panic"), 0);
}

/// The name is looked up by NICO, and the server still gets it.
#[tokio::test]
async fn a_server_is_asked_by_its_name() {
    let Some(repo) = Repo::new() else { return };
    let root = repo.root();
    let at = http(move |request| {
        let root = root.clone();
        async move {
            let host = request.headers().get("host").cloned();
            let host = host.expect("a host");
            assert!(host.as_bytes().starts_with(b"localhost:"), "{host:?}");
            cgi(root, request, Some("version=2")).await
        }
    })
    .await;
    let url = format!("http://localhost:{}/repo/.git", at.port());
    assert_eq!(ask(&url, "main").await, Ok(repo.commit("main")));
    let unknown = ask("http://nobody.invalid/x", "main").await;
    assert!(
        matches!(unknown, Err(GitError::Unreachable { .. })),
        "{unknown:?}"
    );
}
