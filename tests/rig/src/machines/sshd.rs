//! A machine's SSH server: russh in process, public keys only, and `cat` from a map of files.

use std::sync::Arc;
use std::time::Duration;

use russh::keys::PublicKey;
use russh::server::{Auth, Config, Handle, Handler, Msg, Session, VerifiedPublicKey, run_stream};
use russh::{Channel, ChannelId, Limits, Preferred, server};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::knobs::{Answer, AuthAttempt, ServerChannel, State};

/// Most bytes of an endless answer, so that a client that never stops reading does not fill the memory.
const ENDLESS: usize = 64 << 20;
const CHUNK: usize = 32 << 10;

/// Serves connections. The port is closed while the machine refuses them.
pub(super) async fn serve(state: Arc<watch::Sender<State>>, listener: TcpListener) {
    let Ok(address) = listener.local_addr() else {
        return;
    };
    let mut listener = Some(listener);
    let mut watcher = state.subscribe();
    loop {
        let open = match listener.take() {
            Some(open) => open,
            None => match TcpListener::bind(address).await {
                Ok(open) => open,
                Err(_) => return,
            },
        };
        loop {
            tokio::select! {
                accepted = open.accept() => {
                    let Ok((stream, _)) = accepted else { continue };
                    state.send_modify(|state| state.connections += 1);
                    tokio::spawn(connection(Arc::clone(&state), stream));
                }
                _ = watcher.wait_for(|state| state.refuse) => break,
            }
        }
        drop(open);
        if watcher.wait_for(|state| !state.refuse).await.is_err() {
            return;
        }
    }
}

async fn connection(state: Arc<watch::Sender<State>>, stream: TcpStream) {
    let mut watcher = state.subscribe();
    if state.borrow().hang {
        // The connection is accepted but not answered until the setting is reset.
        let _ = watcher.wait_for(|state| !state.hang || state.gone).await;
        return;
    }
    let (key, exchange, cipher, rekeys) = {
        let state = state.borrow();
        let key = state.host_key.clone();
        (key, state.exchange, state.cipher, state.rekeys)
    };
    let defaults = Config::default();
    let config = Config {
        keys: vec![key],
        limits: Limits {
            rekey_write_limit: if rekeys {
                1
            } else {
                defaults.limits.rekey_write_limit
            },
            ..defaults.limits
        },
        preferred: Preferred {
            kex: exchange.map_or(defaults.preferred.kex, |exchange| vec![exchange].into()),
            cipher: cipher.map_or(defaults.preferred.cipher, |cipher| vec![cipher].into()),
            ..defaults.preferred
        },
        auth_rejection_time: Duration::ZERO,
        auth_rejection_time_initial: Some(Duration::ZERO),
        inactivity_timeout: Some(Duration::from_secs(120)),
        nodelay: true,
        ..Config::default()
    };
    let sshd = Sshd {
        state: Arc::clone(&state),
    };
    let Ok(session) = run_stream(Arc::new(config), stream, sshd).await else {
        return;
    };
    tokio::select! {
        _ = session => {}
        _ = watcher.wait_for(|state| state.gone) => {}
    }
}

/// One connection.
struct Sshd {
    state: Arc<watch::Sender<State>>,
}

impl Sshd {
    fn attempt(&self, user: &str, method: &'static str, accepted: bool) -> Auth {
        let attempt = AuthAttempt {
            user: user.to_owned(),
            method,
            accepted,
        };
        self.state.send_modify(|state| state.auths.push(attempt));
        if accepted {
            Auth::Accept
        } else {
            Auth::reject()
        }
    }

    fn knows(&self, user: &str, key: &PublicKey) -> bool {
        let state = self.state.borrow();
        state.user == user
            && state
                .authorized
                .iter()
                .any(|known| known.key_data() == key.key_data())
    }
}

impl Handler for Sshd {
    type Error = russh::Error;

    async fn auth_none(&mut self, user: &str) -> Result<Auth, Self::Error> {
        Ok(self.attempt(user, "none", false))
    }

    async fn auth_password(&mut self, user: &str, _password: &str) -> Result<Auth, Self::Error> {
        Ok(self.attempt(user, "password", false))
    }

    async fn auth_publickey(
        &mut self,
        user: &str,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        let known = self.knows(user, key.public_key);
        Ok(self.attempt(user, "publickey", known))
    }

    async fn channel_open_session(
        &mut self,
        _channel: Channel<Msg>,
        reply: server::ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        reply.accept().await;
        Ok(())
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let command = String::from_utf8_lossy(data).into_owned();
        let (before, answer) = self.state.borrow().run(&command);
        self.state.send_modify(|state| state.execs.push(command));
        session.channel_success(channel)?;
        tokio::spawn(reply(
            session.handle(),
            channel,
            (before, answer),
            Arc::clone(&self.state),
        ));
        Ok(())
    }
}

/// Sends the greeting and an answer. Errors mean that the client is gone.
async fn reply(
    handle: Handle,
    channel: ChannelId,
    (before, answer): (Vec<u8>, Answer),
    state: Arc<watch::Sender<State>>,
) {
    if send(&handle, channel, before).await.is_err() {
        return;
    }
    let status = match answer {
        Answer::Opens(kind, bytes) => {
            if open(&handle, kind).await {
                state.send_modify(|state| state.opened += 1);
            }
            send(&handle, channel, bytes).await.map(|()| Some(0))
        }
        Answer::Hang => return,
        Answer::Bytes(bytes) => send(&handle, channel, bytes).await.map(|()| Some(0)),
        Answer::NoStatus(bytes) => send(&handle, channel, bytes).await.map(|()| None),
        Answer::Fail { stderr, status } => {
            let sent = handle.extended_data(channel, 1, stderr.into_bytes()).await;
            sent.map(|()| Some(status)).map_err(drop)
        }
        Answer::Endless => {
            let mut sent = Ok(());
            for _ in 0..ENDLESS / CHUNK {
                sent = handle.data(channel, vec![b'x'; CHUNK]).await.map_err(drop);
                if sent.is_err() {
                    break;
                }
            }
            sent.map(|()| Some(0))
        }
    };
    let Ok(status) = status else { return };
    if let Some(status) = status {
        let _ = handle.exit_status_request(channel, status).await;
    }
    let _ = handle.eof(channel).await;
    let _ = handle.close(channel).await;
}

/// Whether the client accepts a channel.
async fn open(handle: &Handle, kind: ServerChannel) -> bool {
    let opened = match kind {
        ServerChannel::Agent => handle.channel_open_agent().await,
        ServerChannel::Session => handle.channel_open_session().await,
        ServerChannel::DirectTcpip => {
            handle
                .channel_open_direct_tcpip("10.0.0.1", 1, "10.0.0.2", 2)
                .await
        }
        ServerChannel::DirectStreamLocal => handle.channel_open_direct_streamlocal("/run/x").await,
        ServerChannel::ForwardedTcpip => {
            handle
                .channel_open_forwarded_tcpip("10.0.0.1", 1, "10.0.0.2", 2)
                .await
        }
        ServerChannel::ForwardedStreamLocal => {
            handle.channel_open_forwarded_streamlocal("/run/x").await
        }
        ServerChannel::X11 => handle.channel_open_x11("10.0.0.1", 1).await,
    };
    opened.is_ok()
}

async fn send(handle: &Handle, channel: ChannelId, bytes: Vec<u8>) -> Result<(), ()> {
    for chunk in bytes.chunks(CHUNK) {
        handle.data(channel, chunk.to_vec()).await.map_err(drop)?;
    }
    Ok(())
}
