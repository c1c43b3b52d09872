//! Git's protocol over a stream: SSH, and git's own port.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, split};
use tokio::time::Instant;

use super::address::Place;
use super::error::GitError;
use super::lines::{Advertised, FLUSH, Lines, line, question};
use super::search::Search;
use super::{Credentials, DEADLINE};
use crate::remote::deadlines::Deadlines;
use crate::remote::known_hosts::{KnownHosts, Policy};
use crate::remote::offload::ANSWERS;
use crate::remote::ssh::{self, Login};

/// The usual user on git servers.
const USER: &str = "git";

/// Resolves a ref over SSH, at these addresses of the server. The Secret must contain the host key: an unverified server could choose what runs on the machines.
pub(super) async fn over_ssh(
    place: &Place,
    at: &[SocketAddr],
    credentials: &Credentials,
    search: &mut Search,
) -> Result<(), GitError> {
    let lacks = |what| GitError::Lacks { what };
    let key = credentials.ssh_key.as_ref();
    let key = key.ok_or(lacks("a key ssh-privatekey"))?;
    let known = credentials.known_hosts.clone();
    let known = known.ok_or(lacks(
        "a key known_hosts with what `ssh-keyscan` says of the host",
    ))?;
    let known = ANSWERS
        .offload(move || KnownHosts::parse("", known.expose(), Policy::PinnedOnly))
        .await;
    let host = place.host.to_string();
    let login = Login {
        machine: "",
        host: &host,
        looked_up: Some(at),
        port: place.port,
        user: place.user.as_deref().unwrap_or(USER),
    };
    let of_ssh = |error| GitError::of_ssh(place.at(), error);
    let known = Arc::new(known);
    let session = ssh::connect(&login, key, &known, &Deadlines::DEFAULT, &mut None).await;
    let session = session.map_err(of_ssh)?;
    // A server that ignores this variable uses an older version.
    let version = ("GIT_PROTOCOL", "version=2");
    let stream = session.start(command(&place.path), version).await;
    converse(stream.map_err(of_ssh)?, place, search).await
}

/// The command, with the path quoted for a shell.
fn command(path: &[u8]) -> Vec<u8> {
    let mut command = b"git-upload-pack '".to_vec();
    for byte in path {
        match byte {
            // csh expands an exclamation mark even within quotes.
            b'\'' | b'!' => command.extend([b'\'', b'\\', *byte, b'\'']),
            byte => command.push(*byte),
        }
    }
    command.push(b'\'');
    command
}

/// Resolves a ref over git's own protocol (`git://`), at these addresses of the server.
pub(super) async fn over_tcp(
    place: &Place,
    at: &[SocketAddr],
    search: &mut Search,
) -> Result<(), GitError> {
    let unreachable = |error| GitError::of_ssh(place.at(), ssh::unreachable("", &error));
    let stream = ssh::open(at).await;
    let stream = stream.map_err(unreachable)?;
    let mut stream = ssh::Bounded::new(stream, Instant::now() + DEADLINE);
    let mut request = b"git-upload-pack ".to_vec();
    request.extend_from_slice(&place.path);
    request.extend_from_slice(format!("\0host={}\0\0version=2\0", place.at()).as_bytes());
    let sent = stream.write_all(&line(&request)).await;
    sent.map_err(unreachable)?;
    converse(stream, place, search).await
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite,
    place: &Place,
    search: &mut Search,
) -> Result<(), GitError> {
    let (from, mut to) = split(stream);
    let mut lines = Lines::new(from, place.at());
    let cut = |_| GitError::NotGit {
        at: place.at(),
        why: "it ended the connection",
    };
    if lines.advertisement(search).await? == Advertised::Capabilities {
        let sent = to.write_all(&question(search)).await;
        sent.map_err(cut)?;
        lines.refs(search).await?;
    }
    // This ends the session without fetching. Errors do not matter: the refs are already read.
    let _ = to.write_all(FLUSH).await;
    let _ = to.shutdown().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_path_ends_the_quotes() {
        let command =
            |path: &str| String::from_utf8_lossy(&super::command(path.as_bytes())).into_owned();
        assert_eq!(command("/a/b.git"), "git-upload-pack '/a/b.git'");
        assert_eq!(
            command("a'; rm -rf $HOME!'"),
            r"git-upload-pack 'a'\''; rm -rf $HOME'\!''\'''"
        );
    }
}
