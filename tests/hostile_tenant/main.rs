//! A tenant that does all it can to NICO, beside one that wants a cluster: the second gets it, has it rolled and deleted at the price
//! at which it does alone.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "../e2e/common/mod.rs"]
mod common;
mod tenant;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use common::shown::at_rest;
use common::traffic::Counter;
use common::{five, nico, three_and_two};
use kube::api::{DeleteParams, Patch, PatchParams};
use rig::proxy::Proxy;
use rig::wait::{wait_describing, wait_for};
use rig::world::{RunningNico, World};
use serde_json::json;
use tenant::Tenant;
use tokio::net::{TcpSocket, TcpStream};

/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(60);
/// Idle connections to the health port.
const IDLE: usize = 100;
/// Most requests for the cluster of the good tenant, where it has 10 for itself.
const MOST_OF_TEN: usize = 13;
const MIB: u64 = 1024 * 1024;
const MOST_MEMORY: u64 = 256 * MIB;

/// A cluster of 3+2 comes up, is rolled and deleted. Returns how many requests NICO made in its namespace.
async fn life(world: &World, proxy: &Proxy) -> usize {
    let namespace = world.namespace().to_owned();
    let requests = Counter::on(proxy, move |call| call.namespace == namespace);
    five(world).await;
    world.cluster("prod", three_and_two()).await.unwrap();
    world.wait_ready("prod", DEADLINE).await;
    let clusters = world.clusters();
    let other = Patch::Merge(json!({"spec": {"gitRepo": "https://git.example.com/other.git"}}));
    clusters
        .patch("prod", &PatchParams::default(), &other)
        .await
        .unwrap();
    let rolled = |status: &serde_json::Value| at_rest(status, Some(2));
    world
        .wait_status("prod", "rolled out", DEADLINE, rolled)
        .await;
    clusters
        .delete("prod", &DeleteParams::default())
        .await
        .unwrap();
    let gone = || async { clusters.get_opt("prod").await.ok()?.is_none().then_some(()) };
    wait_describing("the cluster is gone", DEADLINE, gone, || world.describe()).await;
    requests.get()
}

/// Probes NICO's health until it is told to stop; the numbers of probes and of those that were not answered well.
async fn probe(nico: Arc<RunningNico>, stop: Arc<AtomicBool>) -> (usize, usize) {
    let (mut probes, mut failed) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        let answer = tokio::time::timeout(Duration::from_secs(5), nico.get("/healthz")).await;
        probes += 1;
        failed += usize::from(!matches!(answer, Ok(Some((200, _)))));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    (probes, failed)
}

/// A connection from a pod of the tenant's, which has an address of its own.
async fn from_the_tenant(address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(([127, 5, 0, 1], 0).into())?;
    socket.connect(address).await
}

/// Keeps idle connections to the health port open, each opened again as soon as it is closed.
fn idle(nico: &RunningNico) -> (Vec<tokio::task::JoinHandle<()>>, Arc<AtomicUsize>) {
    let opened = Arc::new(AtomicUsize::new(0));
    let address = nico.http();
    let hold = |_| {
        let opened = Arc::clone(&opened);
        tokio::spawn(async move {
            loop {
                if let Ok(stream) = from_the_tenant(address).await {
                    opened.fetch_add(1, Ordering::Relaxed);
                    let closed = async {
                        while stream.readable().await.is_ok() && stream.try_read(&mut [0]).is_err()
                        {
                        }
                    };
                    let _ = tokio::time::timeout(Duration::from_secs(60), closed).await;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
    };
    ((0..IDLE).map(hold).collect(), opened)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_tenant_costs_another_nothing() {
    let good = World::new().await;
    let proxy = good.proxy().await;
    let setup = nico().everywhere().log("info");
    let nico = Arc::new(good.nico(&setup, &proxy).await);
    let alone = life(&good, &proxy).await;

    let hostile = World::new().await;
    let tenant = Tenant::move_in(&hostile).await;
    let (idle, opened) = idle(&nico);
    let stop = Arc::new(AtomicBool::new(false));
    let probing = tokio::spawn(probe(Arc::clone(&nico), Arc::clone(&stop)));
    for cluster in Tenant::clusters() {
        hostile
            .wait_status(&cluster, "it was looked at", DEADLINE, |status| {
                status["conditions"].is_array()
            })
            .await;
    }
    let attacked = || async { (tenant.connections() > 20).then_some(()) };
    wait_for("NICO logs in to hostile machines", DEADLINE, attacked).await;

    let good = World::new().await;
    let beside = life(&good, &proxy).await;
    stop.store(true, Ordering::Relaxed);
    let (probes, failed) = probing.await.unwrap();
    idle.iter().for_each(tokio::task::JoinHandle::abort);
    let memory = nico.peak_rss_bytes().unwrap();
    println!(
        "requests: {alone} alone, {beside} beside; {failed} of {probes} probes failed; {} idle connections; {} MiB at the most; \
         {} connections to hostile machines",
        opened.load(Ordering::Relaxed),
        memory / MIB,
        tenant.connections()
    );
    assert!(
        beside * 10 <= alone * MOST_OF_TEN,
        "{beside} requests, {alone} alone"
    );
    assert_eq!(failed, 0, "of {probes} probes");
    assert!(memory < MOST_MEMORY, "{} MiB", memory / MIB);
    assert_eq!(tenant.opened(), 0, "channels of machines were accepted");
    let output = nico.output();
    let longest = output.lines().map(str::len).max();
    assert!(longest < Some(8 * 1024), "a log line of {longest:?} bytes");
    assert!(!output.contains("panicked"));
}
