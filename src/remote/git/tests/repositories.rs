//! Repositories of odd forms, at git's own HTTP server, in each version of its protocol.

use super::ask;
use super::servers::{Repo, cgi, http};
use crate::api::names::Commit;
use crate::remote::git::GitError;

/// What `main`, or another ref, of a repository is, in each version of the protocol.
async fn each_version(repo: &Repo, git_ref: &str) -> Vec<Result<Commit, GitError>> {
    let mut answers = Vec::new();
    for version in [Some("version=2"), Some("version=1"), None] {
        let root = repo.root();
        let at = http(move |request| cgi(root.clone(), request, version)).await;
        answers.push(ask(&format!("http://{at}/repo/.git"), git_ref).await);
    }
    answers
}

#[tokio::test]
async fn packed_refs_and_tags_of_tags_lead_to_their_commit() {
    let Some(repo) = Repo::new() else { return };
    repo.git(&["tag", "-a", "-m", "text", "release/1.0", "annotated"]);
    repo.git(&["pack-refs", "--all"]);
    repo.git(&["gc", "-q"]);
    for git_ref in [
        "release/1.0",
        "feature/x",
        "both",
        "tags/light",
        "refs/tags/annotated",
    ] {
        let expected = Ok(repo.commit(git_ref));
        let answers = each_version(&repo, git_ref).await;
        assert!(
            answers.iter().all(|it| *it == expected),
            "{git_ref}: {answers:?}"
        );
    }
}

/// A ref that is set again is another commit at the next question, and one that is deleted is missing.
#[tokio::test]
async fn a_ref_is_what_it_is_now() {
    let Some(repo) = Repo::new() else { return };
    repo.git(&["pack-refs", "--all"]);
    repo.git(&["branch", "-f", "feature/x", "light"]);
    let answers = each_version(&repo, "feature/x").await;
    let back = Ok(repo.commit("light"));
    assert!(answers.iter().all(|it| *it == back), "{answers:?}");
    repo.git(&["branch", "-D", "feature/x"]);
    for answer in each_version(&repo, "feature/x").await {
        assert!(
            matches!(answer, Err(GitError::Missing { .. })),
            "{answer:?}"
        );
    }
}

#[tokio::test]
async fn an_empty_repository_lacks_every_ref() {
    let Some(repo) = Repo::of(&["init", "-q", "-b", "main"]) else {
        return;
    };
    for git_ref in ["main", "HEAD"] {
        for answer in each_version(&repo, git_ref).await {
            assert!(
                matches!(answer, Err(GitError::Missing { .. })),
                "{answer:?}"
            );
        }
    }
}

/// NIO knows commits of 40 digits only.
#[tokio::test]
async fn a_repository_with_longer_commits_is_told_of() {
    let Some(repo) = Repo::of(&["init", "-q", "-b", "main", "--object-format=sha256"]) else {
        return;
    };
    repo.git(&["commit", "-q", "--allow-empty", "-m", "one"]);
    for answer in each_version(&repo, "main").await {
        let Err(error @ GitError::NotGit { .. }) = answer else {
            panic!("{answer:?}");
        };
        assert!(error.to_string().contains("SHA-256"), "{error}");
    }
}
