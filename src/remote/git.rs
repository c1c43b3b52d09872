//! Resolves a branch or tag of a git repository to a commit over HTTP, SSH or git's own protocol, as `git ls-remote` does. Nothing of the
//! repository is fetched.
//!
//! The server is not trusted: time, bytes and lines are limited, and errors contain nothing that it sends except the host of a redirect.
//! Credentials are sent only to the host of `spec.gitRepo`, by the scheme that is written there: NIO sends them in the same way.

mod address;
mod error;
mod http;
mod lines;
mod reach;
mod search;
mod talk;

pub use error::GitError;
pub use reach::Reach;

use std::time::Duration;

use tokio::time::timeout;

use self::address::{Place, Transport};
use self::search::Search;
use super::secret::SecretText;
use crate::api::names::Commit;

/// Time for one resolution, from the first packet to the last.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// The content of a credentials Secret, as NIO reads it.
#[derive(Clone, Default)]
pub struct Credentials {
    /// `ssh-privatekey`.
    pub ssh_key: Option<SecretText>,
    /// `known_hosts`.
    pub known_hosts: Option<SecretText>,
    /// `username`.
    pub username: Option<SecretText>,
    /// `password`, or else `token`.
    pub password: Option<SecretText>,
}

/// The commit that `git_ref` names; `None`: that of the default branch. If a tag and a branch have the same name, the tag is meant, as in
/// gitrevisions(7). A ref that is a commit itself is returned without asking the server. Fails if the server cannot be asked, or has no such
/// ref.
pub async fn resolve(
    repo: &str,
    git_ref: Option<&str>,
    credentials: &Credentials,
    reach: Reach,
    deadline: Duration,
) -> Result<Commit, GitError> {
    if let Some(commit) = git_ref.and_then(Commit::named_by) {
        return Ok(commit);
    }
    let place = Place::parse(repo).ok_or(GitError::Address)?;
    let mut search = Search::new(git_ref);
    let asked = async {
        let at = reach.look_up(&place).await?;
        match place.transport {
            Transport::Http | Transport::Https => {
                http::ask(&place, at, credentials, &mut search).await
            }
            Transport::Ssh => talk::over_ssh(&place, &at, credentials, &mut search).await,
            Transport::Git => talk::over_tcp(&place, &at, &mut search).await,
        }
    };
    let asked = timeout(deadline, asked).await;
    let at = place.at();
    match asked {
        Err(_) => Err(GitError::Timeout { at }),
        Ok(Err(error)) => Err(error),
        Ok(Ok(())) => search.found().ok_or_else(|| GitError::missing(at, git_ref)),
    }
}

#[cfg(test)]
mod tests;
