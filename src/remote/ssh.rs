//! Reads a file from a machine over SSH, without an external `ssh`: with public key authentication only, and only after the host key was
//! accepted.
//!
//! Each step has a deadline. What the machine sends (banner, stderr, version) never gets into an error or a log.

mod bounded;
mod command;
mod error;
mod host_key;
mod key;
mod key_error;
mod key_text;
mod kind;

pub use error::{Reached, SshError, Step};
pub use key::fingerprint_of_public_half;
pub use key_error::{KeyError, MAX_TEXT};

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use russh::client::{self, Handle};
use russh::keys::{HashAlg, PrivateKey};
use russh::{ChannelMsg, ChannelStream, Disconnect};
use tokio::net::{TcpStream, ToSocketAddrs};
use tokio::time::{Instant, timeout, timeout_at};

use crate::api::host::Host;

pub(super) use self::bounded::Bounded;
use self::command::As;
use self::error::handshake;
pub(super) use self::error::unreachable;
use self::host_key::{Decision, HostKeyCheck, preferred};
use self::key::Signer;
use super::deadlines::Deadlines;
use super::known_hosts::KnownHosts;
use super::offload::{ANSWERS, look_up};
use super::secret::{SecretBytes, SecretText};

/// Most bytes of a file.
pub const MAX_FILE: usize = 64 * 1024;
/// SSH window: how much a machine may send before NICO reads on. It is little more than a file, so that an endless stream does not fill the
/// memory.
const WINDOW: u32 = 96 * 1024;
/// How much of a command's stderr is kept: its end.
const MAX_STDERR: usize = 4 * 1024;
/// The message of coreutils, busybox and uutils for a file that does not exist.
const NOT_THERE: &[u8] = b"No such file or directory";

/// Where to log in, and as which user.
#[derive(Clone, Copy, Debug)]
pub struct Login<'a> {
    /// The Machine's name, for messages.
    pub machine: &'a str,
    /// Its address: a host name or an IP address without brackets.
    pub host: &'a str,
    /// The addresses of that host; `None`: they are looked up.
    pub looked_up: Option<&'a [SocketAddr]>,
    /// The port of its SSH server.
    pub port: u16,
    /// The user.
    pub user: &'a str,
}

/// Outcome of reading a file.
pub enum FileRead {
    /// Its content.
    Content(SecretBytes),
    /// There is no such file.
    Missing,
    /// It cannot be read, not even with `sudo`.
    Denied,
}

/// An authenticated connection to a machine.
pub struct Session {
    handle: Handle<HostKeyCheck>,
    at: String,
    user: String,
    command: Duration,
}

/// A connection whose host key was accepted, before authentication.
struct Exchanged {
    handle: Handle<HostKeyCheck>,
    decision: Decision,
    /// The machine and its address, for messages.
    at: String,
}

/// Connects, checks the host key, and logs in. If the host was unknown and its key was accepted, the line to pin is put into
/// `new_host_key_line`, even if a later step fails.
pub async fn connect(
    login: &Login<'_>,
    key: &SecretText,
    known: &Arc<KnownHosts>,
    deadlines: &Deadlines,
    new_host_key_line: &mut Option<String>,
) -> Result<Session, SshError> {
    let key = key::read(key).await.map_err(|why| {
        let machine = login.machine.to_owned();
        SshError::Key { machine, why }
    })?;
    let exchanged = exchange(login, known, deadlines).await?;
    let Exchanged {
        mut handle,
        decision,
        at,
    } = exchanged;
    *new_host_key_line = decision.new_line();
    let user = shown(login.user);
    match timeout(deadlines.auth, log_in(&mut handle, login.user, key)).await {
        Ok(Ok(true)) => Ok(Session {
            handle,
            at,
            user,
            command: deadlines.command,
        }),
        Ok(Ok(false)) => Err(SshError::AuthRefused { at, user }),
        Ok(Err(error)) => Err(handshake(at, &error)),
        Err(_) => Err(SshError::Timeout {
            at,
            during: Step::LogIn,
        }),
    }
}

/// Exchanges keys with a machine without logging in. Returns the line to pin if the host was unknown and its key was accepted.
pub async fn meet(
    login: &Login<'_>,
    known: &Arc<KnownHosts>,
    deadlines: &Deadlines,
) -> Result<Option<String>, SshError> {
    let Exchanged {
        handle, decision, ..
    } = exchange(login, known, deadlines).await?;
    let bye = handle.disconnect(Disconnect::ByApplication, "", "");
    let _ = timeout(deadlines.auth, bye).await;
    Ok(decision.new_line())
}

/// Connects and checks the host key.
async fn exchange(
    login: &Login<'_>,
    known: &Arc<KnownHosts>,
    deadlines: &Deadlines,
) -> Result<Exchanged, SshError> {
    let host = Host::with_underscores(login.host).ok_or_else(|| {
        let machine = login.machine.to_owned();
        SshError::Address { machine }
    })?;
    let at = format!("{} ({host} port {})", login.machine, login.port);
    let host_name = host.to_string();
    let pins = {
        let length = known.length();
        let (known, name, port) = (Arc::clone(known), host_name.clone(), login.port);
        let look_up = move || known.pins(&name, port);
        ANSWERS.run(length, look_up).await
    };
    let pins = pins.ok_or_else(|| SshError::KnownHostsTooLarge {
        config_map: known.config_map().to_owned(),
    })?;
    let preferred = preferred(&pins.types());
    let (check, decision) = HostKeyCheck::new(&host_name, login.port, pins);
    let config = Arc::new(client::Config {
        window_size: WINDOW,
        inactivity_timeout: Some(deadlines.whole),
        preferred,
        ..client::Config::default()
    });
    let end = Instant::now() + deadlines.whole;
    let too_slow = |during| SshError::Timeout {
        at: at.clone(),
        during,
    };
    let whole = Instant::now() + deadlines.connect;
    let stream = async {
        match (login.looked_up, &host) {
            (Some(at), _) => open(at).await,
            (None, Host::Ip(ip)) => open(SocketAddr::new(*ip, login.port)).await,
            (None, Host::Name(name)) => open(&look_up(name, login.port).await?[..]).await,
        }
    };
    let stream = timeout_at(whole, stream).await;
    let stream = stream.map_err(|_| too_slow(Step::Connect))?;
    let stream = stream.map_err(|error| unreachable(&at, &error))?;
    let session = client::connect_stream(config, Bounded::new(stream, end), check);
    let session = timeout_at(whole, session).await;
    let session = session.map_err(|_| too_slow(Step::Exchange))?;
    let handle = session.map_err(|error| {
        let cut = || handshake(at.clone(), &error);
        decision.refusal(&at).unwrap_or_else(cut)
    })?;
    Ok(Exchanged {
        handle,
        decision,
        at,
    })
}

/// Opens the TCP connection. Of several addresses, the first that answers is used.
pub(super) async fn open(at: impl ToSocketAddrs) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(at).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Logs in with the key; RSA keys with SHA-2 only.
async fn log_in(
    handle: &mut Handle<HostKeyCheck>,
    user: &str,
    key: PrivateKey,
) -> Result<bool, russh::Error> {
    let hash = if key.algorithm().is_rsa() {
        match handle.best_supported_rsa_hash().await? {
            Some(Some(hash)) => Some(hash),
            Some(None) => return Ok(false),
            None => Some(HashAlg::Sha512),
        }
    } else {
        None
    };
    let mut signer = Signer::new(key);
    let public = signer.public_key().clone();
    let outcome = handle.authenticate_publickey_with(user, public, hash, &mut signer);
    let outcome = outcome.await.map_err(|_| russh::Error::Inconsistent)?;
    Ok(outcome.success())
}

impl Session {
    /// Reads a file of at most [`MAX_FILE`] bytes: as the user, then with `sudo` if it needs no password. Fails if the file is larger, or if the
    /// connection does not last; a file that is missing or denied is an answer.
    pub async fn read_file(&self, path: &str) -> Result<FileRead, SshError> {
        let ran = self.run(&command::read(path, As::User), path).await?;
        match ran.status {
            0 => return Ok(FileRead::Content(ran.content)),
            _ if ran.not_there => return Ok(FileRead::Missing),
            _ => {}
        }
        let ran = self.run(&command::read(path, As::Root), path).await?;
        if ran.status == 0 {
            return Ok(FileRead::Content(ran.content));
        }
        match self.run(&command::exists(path), path).await?.status {
            command::MISSING => Ok(FileRead::Missing),
            _ => Ok(FileRead::Denied),
        }
    }

    /// Starts a command that speaks its own protocol, with this environment variable if the server allows it. It runs as long as the
    /// session.
    pub(super) async fn start(
        &self,
        command: Vec<u8>,
        (name, value): (&str, &str),
    ) -> Result<ChannelStream<client::Msg>, SshError> {
        let cut = |_| SshError::CutOff {
            at: self.at.clone(),
            path: String::new(),
        };
        let channel = self.handle.channel_open_session().await.map_err(cut)?;
        channel.set_env(false, name, value).await.map_err(cut)?;
        channel.exec(false, command).await.map_err(cut)?;
        Ok(channel.into_stream())
    }

    async fn run(&self, command: &str, path: &str) -> Result<Ran, SshError> {
        let ran = timeout(self.command, self.exec(command, path)).await;
        ran.map_err(|_| SshError::Timeout {
            at: self.at.clone(),
            during: Step::File,
        })?
    }

    async fn exec(&self, command: &str, path: &str) -> Result<Ran, SshError> {
        let cut = || SshError::CutOff {
            at: self.at.clone(),
            path: path.to_owned(),
        };
        let no_commands = || SshError::NoCommands {
            at: self.at.clone(),
            user: self.user.clone(),
        };
        let mut channel = self
            .handle
            .channel_open_session()
            .await
            .map_err(|_| cut())?;
        channel.exec(true, command).await.map_err(|_| cut())?;
        let mut output = command::Output::default();
        let too_large = || SshError::TooLarge {
            at: self.at.clone(),
            path: path.to_owned(),
        };
        let mut stderr: Vec<u8> = Vec::new();
        let mut status = None;
        while let Some(message) = channel.wait().await {
            match message {
                ChannelMsg::Data { data } => {
                    output.push(&data);
                    if output.exceeds(MAX_FILE) {
                        drop(output.content());
                        let _ = channel.close().await;
                        return Err(too_large());
                    }
                }
                ChannelMsg::ExtendedData { data, .. } => {
                    stderr.extend_from_slice(&data);
                    if let Some(begin) = command::last_begin(&stderr) {
                        stderr.drain(..begin);
                    }
                    // Only the end is needed: errors come last.
                    stderr.drain(..stderr.len().saturating_sub(MAX_STDERR));
                }
                ChannelMsg::ExitStatus { exit_status } => status = Some(exit_status),
                ChannelMsg::Failure => return Err(no_commands()),
                ChannelMsg::Close => break,
                _ => {}
            }
        }
        let (content, begun) = output.content();
        if content.expose().len() > MAX_FILE {
            return Err(too_large());
        }
        let status = status.ok_or_else(cut)?;
        if !begun {
            return Err(no_commands());
        }
        let mut parts = stderr.windows(NOT_THERE.len());
        Ok(Ran {
            status,
            content,
            not_there: parts.any(|part| part == NOT_THERE),
        })
    }
}

/// Outcome of a command.
struct Ran {
    status: u32,
    /// What it printed.
    content: SecretBytes,
    /// Whether it reported that the file does not exist.
    not_there: bool,
}

/// A user name that is safe to show in a message.
fn shown(user: &str) -> String {
    user.chars()
        .take(64)
        .flat_map(char::escape_default)
        .collect()
}

#[cfg(test)]
mod file_tests;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod openssh_tests;
#[cfg(test)]
mod tests;
