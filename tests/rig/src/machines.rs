//! Machines: each has its own loopback address with an SSH server (in process) and a forwarder to the workload API server. All machines of
//! a pool listen on the same two ports, since NICO has one setting for the SSH port of all machines. The test controls what a machine
//! answers, and whether it answers at all.

#![allow(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "the rig stops with a sentence where it cannot go on"
)]

mod forward;
mod knobs;
mod sshd;

pub use knobs::{Answer, AuthAttempt, ServerChannel};

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use russh::keys::{Algorithm, PrivateKey, PublicKey};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::knobs::State;
use crate::runtime;

/// The first address of a pool. It has no machine; its listeners reserve the pool's two ports for this process.
pub const FIRST_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 1);

/// Every address that a pool may use, for the workload API server's certificate.
#[must_use]
pub fn all_addresses() -> Vec<std::net::IpAddr> {
    (0..=1u8)
        .flat_map(|third| (1..=254u8).map(move |last| Ipv4Addr::new(127, 77, third, last).into()))
        .collect()
}

/// A generated SSH key pair.
#[derive(Clone)]
pub struct KeyPair {
    private: PrivateKey,
}

impl KeyPair {
    /// A new ed25519 pair.
    #[must_use]
    pub fn generate() -> Self {
        let private = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519)
            .expect("an ed25519 key can always be made");
        Self { private }
    }

    /// The private half in OpenSSH's format, as in a Secret under `ssh-privatekey`.
    #[must_use]
    pub fn private_pem(&self) -> String {
        let text = self
            .private
            .to_openssh(russh::keys::ssh_key::LineEnding::LF);
        text.expect("a key that was just made can be written")
            .to_string()
    }

    /// The private half.
    #[must_use]
    pub fn private(&self) -> &PrivateKey {
        &self.private
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        self.private.public_key()
    }
}

/// The options of a machine.
#[derive(Clone)]
pub struct HostOptions {
    /// The user that may log in.
    pub user: String,
    /// The keys that may log in.
    pub authorized: Vec<PublicKey>,
    /// The API server behind its API port; `None`: the pool's.
    pub api_target: Option<SocketAddr>,
}

impl HostOptions {
    /// A machine that the user `nixos` can log in to with this key.
    #[must_use]
    pub fn new(key: &KeyPair) -> Self {
        Self {
            user: "nixos".into(),
            authorized: vec![key.public().clone()],
            api_target: None,
        }
    }

    /// Uses this API server instead of the pool's.
    #[must_use]
    pub fn api_target(mut self, target: SocketAddr) -> Self {
        self.api_target = Some(target);
        self
    }
}

/// Machines that share an SSH port and an API port.
pub struct MachinePool {
    ssh_port: u16,
    api_port: u16,
    api_target: SocketAddr,
    addresses: Mutex<Addresses>,
    /// Reserves the pool's two ports for this process.
    _reserved: (TcpListener, TcpListener),
}

/// Addresses that are not used yet, and those that are free again.
struct Addresses {
    next: u16,
    free: VecDeque<Ipv4Addr>,
}

impl MachinePool {
    /// A pool whose machines forward their API port to `api_target`.
    pub async fn start(api_target: SocketAddr) -> Arc<Self> {
        let made = runtime().spawn(async move {
            let ssh = TcpListener::bind((FIRST_ADDRESS, 0))
                .await
                .expect("a loopback address can be bound");
            let api = TcpListener::bind((FIRST_ADDRESS, 0))
                .await
                .expect("a loopback address can be bound");
            Self {
                ssh_port: ssh
                    .local_addr()
                    .expect("a bound socket has an address")
                    .port(),
                api_port: api
                    .local_addr()
                    .expect("a bound socket has an address")
                    .port(),
                api_target,
                addresses: Mutex::new(Addresses {
                    next: 2,
                    free: VecDeque::new(),
                }),
                _reserved: (ssh, api),
            }
        });
        Arc::new(made.await.expect("the pool's start does not panic"))
    }

    /// The port of the SSH servers (NICO's `--ssh-port`).
    #[must_use]
    pub fn ssh_port(&self) -> u16 {
        self.ssh_port
    }

    /// The port of the machines' API servers (as in their kubeconfigs).
    #[must_use]
    pub fn api_port(&self) -> u16 {
        self.api_port
    }

    /// Starts a machine on its own address. When the last clone is dropped, it ends, and the address is free again.
    pub async fn host(self: &Arc<Self>, options: HostOptions) -> MachineHost {
        let pool = Arc::clone(self);
        let made = runtime().spawn(async move {
            loop {
                let ip = pool.take_address();
                // Skips an address at which another process uses the port.
                let Ok(ssh) = TcpListener::bind((ip, pool.ssh_port)).await else {
                    continue;
                };
                let Ok(api) = TcpListener::bind((ip, pool.api_port)).await else {
                    continue;
                };
                let target = options.api_target.unwrap_or(pool.api_target);
                let (state, _) = watch::channel(State::new(options));
                let state = Arc::new(state);
                let tasks = vec![
                    runtime().spawn(sshd::serve(Arc::clone(&state), ssh)),
                    runtime().spawn(forward::serve(Arc::clone(&state), api, target)),
                ];
                return MachineHost {
                    inner: Arc::new(Inner {
                        ip,
                        state,
                        tasks,
                        pool,
                    }),
                };
            }
        });
        made.await.expect("a machine's start does not panic")
    }

    fn take_address(&self) -> Ipv4Addr {
        let mut addresses = self
            .addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(ip) = addresses.free.pop_front() {
            return ip;
        }
        let index = addresses.next;
        addresses.next += 1;
        let third = u8::try_from(index / 254).expect("the addresses suffice");
        assert!(third <= 1, "a pool has 507 addresses at a time");
        let last = u8::try_from(index % 254).expect("a remainder of 254 fits");
        Ipv4Addr::new(127, 77, third, if last == 0 { 254 } else { last })
    }
}

/// A machine. Clones share it.
#[derive(Clone)]
pub struct MachineHost {
    inner: Arc<Inner>,
}

struct Inner {
    ip: Ipv4Addr,
    state: Arc<watch::Sender<State>>,
    tasks: Vec<JoinHandle<()>>,
    pool: Arc<MachinePool>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.state.send_modify(|state| state.gone = true);
        let (tasks, pool, ip) = (
            std::mem::take(&mut self.tasks),
            Arc::clone(&self.pool),
            self.ip,
        );
        // A port is free only once its task has ended.
        runtime().spawn(async move {
            for task in tasks {
                task.abort();
                let _ = task.await;
            }
            let mut addresses = pool
                .addresses
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            addresses.free.push_back(ip);
        });
    }
}

impl MachineHost {
    /// The machine's address.
    #[must_use]
    pub fn ip(&self) -> Ipv4Addr {
        self.inner.ip
    }

    /// The SSH port of its pool.
    #[must_use]
    pub fn ssh_port(&self) -> u16 {
        self.inner.pool.ssh_port
    }

    /// The API port of its pool.
    #[must_use]
    pub fn api_port(&self) -> u16 {
        self.inner.pool.api_port
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        self.inner.state.send_modify(change);
    }

    fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.inner.state.borrow())
    }
}

#[cfg(test)]
mod tests;
