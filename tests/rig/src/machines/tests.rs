//! Tests of the machines with a real SSH client.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use russh::ChannelMsg;
use russh::client::{self, Handle};
use russh::keys::{PrivateKeyWithHashAlg, PublicKeyOrCertificate};

use super::{Answer, HostOptions, KeyPair, MachineHost, MachinePool};
use crate::wait::wait_for;

struct Anyone;

impl client::Handler for Anyone {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        _key: &PublicKeyOrCertificate,
    ) -> Result<bool, Self::Error> {
        Ok(true)
    }
}

async fn connect(host: &MachineHost, user: &str, key: &KeyPair) -> Option<Handle<Anyone>> {
    let config = Arc::new(client::Config::default());
    let mut session = client::connect(config, (host.ip(), host.ssh_port()), Anyone)
        .await
        .ok()?;
    let key = PrivateKeyWithHashAlg::new(Arc::new(key.private().clone()), None);
    session
        .authenticate_publickey(user, key)
        .await
        .ok()?
        .success()
        .then_some(session)
}

async fn exec(session: &Handle<Anyone>, command: &str) -> (Vec<u8>, Option<u32>) {
    let mut channel = session
        .channel_open_session()
        .await
        .expect("a channel opens");
    channel
        .exec(true, command)
        .await
        .expect("the command is taken");
    let (mut out, mut status) = (Vec::new(), None);
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::Data { data } => out.extend_from_slice(&data),
            ChannelMsg::ExitStatus { exit_status } => status = Some(exit_status),
            _ => {}
        }
    }
    (out, status)
}

async fn pool() -> Arc<MachinePool> {
    MachinePool::start(SocketAddr::from(([127, 0, 0, 1], 9))).await
}

#[tokio::test]
async fn a_machine_gives_its_files_and_nothing_else() {
    let (pool, key) = (pool().await, KeyPair::generate());
    let host = pool.host(HostOptions::new(&key)).await;
    host.put_file("/etc/it's.yaml", vec![7u8; 100_000]);
    let session = connect(&host, "nixos", &key)
        .await
        .expect("the key is known");
    assert_eq!(
        exec(&session, "cat -- '/etc/it'\\''s.yaml'").await,
        (vec![7u8; 100_000], Some(0))
    );
    assert_eq!(exec(&session, "cat -- '/none'").await, (vec![], Some(1)));
    assert_eq!(exec(&session, "id").await, (vec![], Some(127)));
    host.need_sudo(true);
    assert_eq!(
        exec(&session, "cat -- '/etc/it'\\''s.yaml'").await.1,
        Some(1)
    );
    assert_eq!(
        exec(&session, "sudo -n cat -- '/etc/it'\\''s.yaml'")
            .await
            .0
            .len(),
        100_000
    );
    host.answer("/x", Answer::NoStatus(b"half".to_vec()));
    assert_eq!(
        exec(&session, "sudo -n cat -- /x").await,
        (b"half".to_vec(), None)
    );
    assert_eq!(host.execs().len(), 6);
}

#[tokio::test]
async fn strangers_stay_outside() {
    let (pool, key) = (pool().await, KeyPair::generate());
    let host = pool.host(HostOptions::new(&key)).await;
    assert!(
        connect(&host, "nixos", &KeyPair::generate())
            .await
            .is_none()
    );
    assert!(connect(&host, "root", &key).await.is_none());
    assert!(host.auths().iter().all(|attempt| !attempt.accepted));
    assert_eq!(host.connections(), 2);
}

#[tokio::test]
async fn two_machines_share_ports_and_each_can_be_shut() {
    let (pool, key) = (pool().await, KeyPair::generate());
    let (one, two) = (
        pool.host(HostOptions::new(&key)).await,
        pool.host(HostOptions::new(&key)).await,
    );
    assert_ne!(one.ip(), two.ip());
    assert_ne!(one.host_key(), two.host_key());
    one.refuse(true);
    wait_for("the port is shut", Duration::from_secs(5), || async {
        tokio::net::TcpStream::connect((one.ip(), one.ssh_port()))
            .await
            .is_err()
            .then_some(())
    })
    .await;
    assert!(connect(&two, "nixos", &key).await.is_some());
    one.refuse(false);
    wait_for("the port is open again", Duration::from_secs(5), || {
        connect(&one, "nixos", &key)
    })
    .await;
    let old = one.host_key();
    assert_ne!(one.change_host_key(), old);
    let ip = one.ip();
    drop(one);
    wait_for(
        "the address is given out again",
        Duration::from_secs(5),
        || async { (pool.host(HostOptions::new(&key)).await.ip() == ip).then_some(()) },
    )
    .await;
}
