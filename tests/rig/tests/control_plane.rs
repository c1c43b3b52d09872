//! The control plane of the rig: that it is a real one, and that nothing of it stays behind.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "a test"
)]

use std::{
    io::{BufRead as _, BufReader},
    net::IpAddr,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::{ApiResource, GroupVersionKind},
};
use rig::{
    control_plane::{self, ControlPlane, Options},
    pki::Validity,
    wait::wait_for,
};
use serde_json::json;

/// Generous: a test fails by what it sees, not by how slow the machine is.
const SOON: Duration = Duration::from_secs(60);

async fn start(options: Options) -> ControlPlane {
    ControlPlane::start(options)
        .await
        .unwrap_or_else(|error| panic!("{error}"))
}

async fn shared() -> &'static ControlPlane {
    control_plane::shared(Options::management())
        .await
        .unwrap_or_else(|error| panic!("{error}"))
}

async fn client_of(kubeconfig: &str) -> Client {
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap();
    Client::try_from(config).unwrap()
}

fn map(name: &str) -> ConfigMap {
    let mut map = ConfigMap::default();
    map.metadata.name = Some(name.to_owned());
    map
}

async fn namespace(client: &Client, name: &str) {
    let mut namespace = Namespace::default();
    namespace.metadata.name = Some(name.to_owned());
    Api::all(client.clone())
        .create(&PostParams::default(), &namespace)
        .await
        .unwrap();
}

/// Whether a process runs; one that ended and waits to be reaped does not.
fn runs(pid: u32) -> bool {
    let output = Command::new("ps")
        .args(["-o", "stat=", "-p", &pid.to_string()])
        .output()
        .expect("ps is there");
    let state = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    !state.is_empty() && !state.starts_with('Z')
}

#[tokio::test]
async fn a_deleted_namespace_goes_with_all_that_is_in_it() {
    let control_plane = shared().await;
    let client = control_plane.client();
    namespace(&client, "going").await;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "going");
    maps.create(&PostParams::default(), &map("by-client"))
        .await
        .unwrap();
    let kubectl = control_plane
        .kubectl(&["-n", "going", "create", "configmap", "by-kubectl"])
        .await
        .unwrap();
    assert!(
        kubectl.status.success(),
        "{}",
        String::from_utf8_lossy(&kubectl.stderr)
    );
    maps.get("by-kubectl").await.unwrap();

    let namespaces: Api<Namespace> = Api::all(client);
    namespaces
        .delete("going", &DeleteParams::default())
        .await
        .unwrap();
    wait_for("the namespace to be gone", SOON, || async {
        namespaces
            .get_opt("going")
            .await
            .unwrap()
            .is_none()
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_a_deleted_owner_owns_is_collected() {
    let client = shared().await.client();
    namespace(&client, "owners").await;
    let maps: Api<ConfigMap> = Api::namespaced(client, "owners");
    let owner = maps
        .create(&PostParams::default(), &map("owner"))
        .await
        .unwrap();
    let mut child = map("owned");
    child.metadata.owner_references = Some(vec![owner.controller_owner_ref(&()).unwrap()]);
    maps.create(&PostParams::default(), &child).await.unwrap();
    let mut stranger = map("stranger");
    let mut other = owner.controller_owner_ref(&()).unwrap();
    other.uid = "00000000-0000-0000-0000-000000000000".to_owned();
    stranger.metadata.owner_references = Some(vec![other]);
    maps.create(&PostParams::default(), &stranger)
        .await
        .unwrap();

    maps.delete(&owner.name_any(), &DeleteParams::default())
        .await
        .unwrap();
    for name in ["owned", "stranger"] {
        wait_for(name, SOON, || async {
            maps.get_opt(name).await.unwrap().is_none().then_some(())
        })
        .await;
    }
}

/// The garbage collector looks for new kinds every 30 seconds; a restart spares a test that.
#[tokio::test]
async fn restarted_controllers_know_new_kinds_at_once() {
    let control_plane = start(Options::management()).await;
    let client = control_plane.client();
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": { "name": "things.rig.example" },
        "spec": {
            "group": "rig.example", "scope": "Namespaced", "names": { "kind": "Thing", "plural": "things" },
            "versions": [{ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": { "type": "object" } } }],
        },
    });
    let crds: Api<DynamicObject> = Api::all_with(
        client.clone(),
        &resource("apiextensions.k8s.io", "CustomResourceDefinition"),
    );
    crds.create(
        &PostParams::default(),
        &serde_json::from_value(crd).unwrap(),
    )
    .await
    .unwrap();
    let kind = resource("rig.example", "Thing");
    let things: Api<DynamicObject> = Api::namespaced_with(client.clone(), "default", &kind);
    wait_for("the kind to be served", SOON, || async {
        things.list(&ListParams::default()).await.ok()
    })
    .await;
    let began = Instant::now();
    control_plane.restart_controllers().unwrap();

    let thing = things
        .create(&PostParams::default(), &DynamicObject::new("thing", &kind))
        .await
        .unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(client, "default");
    let mut child = map("owned");
    child.metadata.owner_references = Some(vec![thing.controller_owner_ref(&kind).unwrap()]);
    maps.create(&PostParams::default(), &child).await.unwrap();
    things
        .delete("thing", &DeleteParams::default())
        .await
        .unwrap();
    wait_for("the map to be collected", SOON, || async {
        maps.get_opt("owned").await.unwrap().is_none().then_some(())
    })
    .await;
    eprintln!("collected {:?} after the restart", began.elapsed());
}

fn resource(group: &str, kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind))
}

#[tokio::test]
async fn kubeconfigs_are_who_they_say() {
    let control_plane = shared().await;
    let client = control_plane.client();
    namespace(&client, "people").await;
    let mut account = ServiceAccount::default();
    account.metadata.name = Some("somebody".to_owned());
    let accounts: Api<ServiceAccount> = Api::namespaced(client, "people");
    accounts
        .create(&PostParams::default(), &account)
        .await
        .unwrap();

    let token = control_plane
        .service_account_token("people", "somebody")
        .await
        .unwrap();
    let by_token = control_plane.token_kubeconfig(None, &token).unwrap();
    assert_eq!(refusal(&by_token).await, 403, "known, and allowed nothing");

    let certificate = |group, validity| {
        control_plane
            .client_cert_kubeconfig(None, "somebody", group, validity)
            .unwrap()
    };
    assert_eq!(refusal(&certificate(None, Validity::default())).await, 403);
    let administrator = client_of(&certificate(Some("system:masters"), Validity::default())).await;
    Api::<ConfigMap>::all(administrator)
        .list(&ListParams::default())
        .await
        .unwrap();
    let past = Validity {
        not_before: Validity::default().not_before - Duration::from_secs(3600),
        not_after: Validity::default().not_before,
    };
    assert_eq!(
        refusal(&certificate(Some("system:masters"), past)).await,
        401,
        "its certificate is over"
    );
}

async fn refusal(kubeconfig: &str) -> u16 {
    let maps: Api<ConfigMap> = Api::all(client_of(kubeconfig).await);
    match maps.list(&ListParams::default()).await {
        Err(kube::Error::Api(status)) => status.code,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn a_restarted_api_server_has_what_was_written() {
    let addresses: Vec<IpAddr> = (0..2)
        .flat_map(|net| (2..252).map(move |host| IpAddr::from([127, 0, net, host])))
        .collect();
    let options = Options {
        extra_sans: addresses,
        audit_log: true,
        ..Options::default()
    };
    let control_plane = start(options).await;
    let maps: Api<ConfigMap> = Api::namespaced(control_plane.client(), "default");
    maps.create(&PostParams::default(), &map("kept"))
        .await
        .unwrap();

    control_plane.stop_api_server();
    maps.get("kept").await.expect_err("nobody is there");
    let began = Instant::now();
    control_plane.start_api_server().await.unwrap();
    eprintln!("ready again after {:?}", began.elapsed());
    maps.get("kept").await.unwrap();

    let log = std::fs::read_to_string(control_plane.audit_log_path().unwrap()).unwrap();
    let created = log
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .find(|event| event["verb"] == "create" && event["objectRef"]["name"] == "kept")
        .expect("the write is in the audit log");
    assert_eq!(created["user"]["username"], "rig-admin");
    assert_eq!(created["requestObject"]["metadata"]["name"], "kept");
}

#[tokio::test]
async fn a_dropped_control_plane_leaves_nothing() {
    let began = Instant::now();
    let control_plane = start(Options::management()).await;
    eprintln!("ready after {:?}", began.elapsed());
    let pids = control_plane.pids();
    let directory = control_plane.directory().to_owned();
    assert_eq!(pids.len(), 3);
    assert!(pids.iter().all(|(_, pid)| runs(*pid)));
    eprintln!("resident bytes: {:?}", control_plane.rss());

    let began = Instant::now();
    drop(control_plane);
    eprintln!("gone after {:?}", began.elapsed());
    assert!(pids.iter().all(|(_, pid)| !runs(*pid)));
    assert!(!directory.exists());
}

#[tokio::test]
async fn a_killed_rig_leaves_nothing() {
    let mut rig = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "holds_a_control_plane",
            "--ignored",
            "--nocapture",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let line = BufReader::new(rig.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.split_once(HOLDS).map(|(_, rest)| rest.to_owned()))
        .expect("it says what it holds");
    let (pids, directory) = line.split_once(' ').unwrap();
    let pids: Vec<u32> = pids.split(',').map(|pid| pid.parse().unwrap()).collect();
    assert!(pids.iter().all(|pid| runs(*pid)) && Path::new(directory).exists());

    // SIGKILL: nothing of the rig's own is carried out any more.
    rig.kill().unwrap();
    rig.wait().unwrap();
    wait_for("its processes to be gone", SOON, || async {
        pids.iter().all(|pid| !runs(*pid)).then_some(())
    })
    .await;
    wait_for("its directory to be gone", SOON, || async {
        (!Path::new(directory).exists()).then_some(())
    })
    .await;
}

/// Where not even the processes could remove it: the next start does, and leaves those that are in use.
#[tokio::test]
async fn a_forgotten_directory_goes_at_the_next_start() {
    let one = start(Options::default()).await;
    let forgotten = one.directory().with_file_name("run-0-0");
    std::fs::create_dir_all(forgotten.join("etcd")).unwrap();
    let two = start(Options::default()).await;
    assert!(!forgotten.exists());
    assert!(one.directory().exists() && two.directory().exists());
}

const HOLDS: &str = "holds: ";

#[tokio::test]
#[ignore = "runs until it is killed: for a_killed_rig_leaves_nothing"]
async fn holds_a_control_plane() {
    let control_plane = start(Options::management()).await;
    let pids: Vec<String> = control_plane
        .pids()
        .iter()
        .map(|(_, pid)| pid.to_string())
        .collect();
    println!(
        "{HOLDS}{} {}",
        pids.join(","),
        control_plane.directory().display()
    );
    std::future::pending::<()>().await;
}
