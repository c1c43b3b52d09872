//! An SSH server for git.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rig::git::alone;
use russh::keys::{PrivateKey, PublicKey};
use russh::server::{self, Auth, Handler, Msg, Session, VerifiedPublicKey, run_stream};
use russh::{Channel, ChannelId};
use tokio::io::{AsyncWriteExt as _, copy, split};
use tokio::net::TcpListener;

/// The host key of an SSH server, and the key that it accepts.
#[derive(Clone)]
pub(super) struct Keys {
    pub(super) host: PrivateKey,
    pub(super) client: PublicKey,
}

/// An SSH server that runs each command with `sh`, as sshd does. It accepts the variable with git's protocol version if `hears` is set.
pub(super) async fn sshd(keys: Keys, hears: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("its address");
    let config = Arc::new(server::Config {
        keys: vec![keys.host.clone()],
        auth_rejection_time: Duration::ZERO,
        auth_rejection_time_initial: Some(Duration::ZERO),
        ..server::Config::default()
    });
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (config, keys) = (Arc::clone(&config), keys.clone());
            tokio::spawn(async move {
                let sshd = Sshd {
                    keys,
                    hears,
                    version: None,
                    channel: None,
                };
                if let Ok(session) = run_stream(config, stream, sshd).await {
                    let _ = session.await;
                }
            });
        }
    });
    at
}

struct Sshd {
    keys: Keys,
    hears: bool,
    version: Option<String>,
    channel: Option<Channel<Msg>>,
}

impl Handler for Sshd {
    type Error = russh::Error;

    async fn auth_publickey(
        &mut self,
        user: &str,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        let known = key.public_key.key_data() == self.keys.client.key_data();
        Ok(if known && user == "git" {
            Auth::Accept
        } else {
            Auth::reject()
        })
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: server::ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        self.channel = Some(channel);
        reply.accept().await;
        Ok(())
    }

    async fn env_request(
        &mut self,
        _: ChannelId,
        name: &str,
        value: &str,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        let version = (name == "GIT_PROTOCOL" && self.hears).then(|| value.to_owned());
        self.version = version;
        Ok(())
    }

    async fn exec_request(
        &mut self,
        _: ChannelId,
        command: &[u8],
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        let Some(channel) = self.channel.take() else {
            return Ok(());
        };
        let command = String::from_utf8_lossy(command).into_owned();
        let mut git = Command::new("sh");
        alone(&mut git)
            .args(["-c", &command])
            .envs(self.version.take().map(|it| ("GIT_PROTOCOL", it)));
        let git = tokio::process::Command::from(git)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let mut git = git.expect("git starts");
        let mut stdin = git.stdin.take().expect("its input");
        let mut stdout = git.stdout.take().expect("its output");
        let (mut from, mut to) = split(channel.into_stream());
        tokio::spawn(async move {
            // The process ends when its handle is dropped.
            let _git = git;
            let up = copy(&mut from, &mut stdin);
            let down = async {
                let _ = copy(&mut stdout, &mut to).await;
                let _ = to.shutdown().await;
            };
            tokio::join!(up, down)
        });
        Ok(())
    }
}
