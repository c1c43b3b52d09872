//! Search rounds against one of the rig's machines.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::client::Body;
use rig::machines::{HostOptions, KeyPair, MachineHost, MachinePool};
use russh::keys::PublicKey;
use serde_json::json;
use tower::service_fn;

use super::fetch::{FetchSource, FetchSpec, Memory, Pins, fetch_round};
use super::logins::Logins;
use super::pace::Paces;
use crate::api::conditions::Reason;
use crate::api::names::MachineName;
use crate::controller::metrics::Metrics;
use crate::plan::writes::Wanted;
use crate::remote::gate::{Class, Gate};
use crate::remote::known_hosts::line_for;

/// The content of the API server: the Secret's key, and the lines of the ConfigMap.
pub(super) struct Held {
    pub(super) key: String,
    pub(super) known_hosts: String,
}

pub(super) fn client(held: &Arc<Mutex<Held>>) -> kube::Client {
    let held = Arc::clone(held);
    let service = service_fn(move |request: hyper::Request<Body>| {
        let held = held.lock().unwrap();
        let owner = json!({"apiVersion": "v1", "kind": "KubernetesCluster", "name": "prod", "uid": "u", "controller": true});
        let body = if request.uri().path().ends_with("/prod-known-hosts") {
            json!({"metadata": {"name": "prod-known-hosts", "ownerReferences": [owner]},
                "data": {"known_hosts": held.known_hosts}})
        } else {
            json!({"metadata": {"name": "ssh-cp-01"}, "data": {"ssh-privatekey": STANDARD.encode(&held.key)}})
        };
        let body = Body::from(body.to_string().into_bytes());
        async move { Ok::<_, Infallible>(hyper::Response::new(body)) }
    });
    kube::Client::new(service, "default")
}

async fn machine() -> MachineHost {
    let pool = MachinePool::start(SocketAddr::from(([127, 0, 0, 1], 9))).await;
    let options = HostOptions::new(&KeyPair::generate());
    pool.host(options).await
}

pub(super) fn spec_of(host: &MachineHost, path: Option<&str>) -> FetchSpec {
    FetchSpec {
        pins: Pins {
            namespace: "default".to_owned(),
            cluster: "prod".to_owned(),
            uid: "u".to_owned(),
        },
        sources: vec![FetchSource {
            machine: MachineName::parse("cp-01").unwrap(),
            host: host.ip().to_string(),
            user: "nixos".to_owned(),
            key: "ssh-cp-01".to_owned(),
        }],
        ssh_port: host.ssh_port(),
        path: path.map(str::to_owned),
        endpoint: None,
        wanted: Wanted::First,
    }
}

/// There is a pause before the next connection to a machine that refuses the key, also for searches that begin meanwhile. If the
/// circumstances change, it is tried at once.
#[tokio::test]
async fn a_refused_machine_is_asked_again_once_something_may_help() {
    let host = machine().await;
    let (ip, port) = (host.ip().to_string(), host.ssh_port());
    let line = |key: &PublicKey| format!("{}\n", line_for(&ip, port, key));
    let held = Arc::new(Mutex::new(Held {
        key: KeyPair::generate().private_pem(),
        known_hosts: line(&host.host_key()),
    }));
    let client = client(&held);
    let (paces, metrics) = (Mutex::new(Paces::default()), Metrics::new(None));
    let logins = Logins::new(Gate::new(1, 0), Arc::clone(&metrics));
    let rounds = async |path: Option<&str>| {
        let mut reason = None;
        for _ in 0..5 {
            let (spec, memory) = (spec_of(&host, path), &mut Memory::default());
            let round = fetch_round(&client, &spec, memory, &paces, (&logins, Class::First)).await;
            reason = Some(round.failure.unwrap().reason);
        }
        (host.connections(), reason.unwrap())
    };
    assert_eq!(rounds(None).await, (1, Reason::KubeconfigUnreadable));
    held.lock().unwrap().key = KeyPair::generate().private_pem();
    assert_eq!(rounds(None).await, (2, Reason::KubeconfigUnreadable));
    let before = line(&host.change_host_key());
    assert_eq!(rounds(Some("/etc/x")).await, (3, Reason::HostKeyChanged));
    held.lock().unwrap().known_hosts = before;
    assert_eq!(
        rounds(Some("/etc/x")).await,
        (4, Reason::KubeconfigUnreadable)
    );
    let counted = metrics.render();
    for count in ["{kind=\"auth\"} 3\n", "{kind=\"host-key-changed\"} 1\n"] {
        let line = format!("nico_ssh_failures_total{count}");
        assert!(counted.contains(&line), "{counted}");
    }
}

/// Trust on first use is only for key exchanges without a log-in.
#[tokio::test]
async fn a_host_whose_key_is_not_pinned_yet_is_not_logged_in_to() {
    let host = machine().await;
    let held = Arc::new(Mutex::new(Held {
        key: KeyPair::generate().private_pem(),
        known_hosts: String::new(),
    }));
    let spec = spec_of(&host, None);
    let (paces, metrics) = (Mutex::new(Paces::default()), Metrics::new(None));
    let logins = Logins::new(Gate::new(1, 0), Arc::clone(&metrics));
    let memory = &mut Memory::default();
    let place = (&logins, Class::First);
    let round = fetch_round(&client(&held), &spec, memory, &paces, place).await;
    assert!(round.fetched.is_none() && round.failure.is_none());
    assert_eq!(round.unpinned, [spec.sources[0].machine.clone()].into());
    assert_eq!(host.connections(), 0);
}
