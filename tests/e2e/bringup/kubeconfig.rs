//! The kubeconfig on its way from a machine to its Secret: where it lies, whose host key is trusted, what is refused.

use rig::crds::Generation;
use rig::machines::MachineHost;
use rig::workload::KUBECONFIG_PATH;
use serde_json::json;

use crate::common::case::Case;
use crate::common::traffic::RESYNC;
use crate::common::{DEADLINE, listed, nico, over_both};

over_both![known_hosts_that_a_user_deletes_are_made_again_for_the_next_kubeconfig];

const ELSEWHERE: &str = "/srv/admin.conf";

fn good(case: &Case, host: &MachineHost) -> String {
    case.world.workload().kubeconfig(host.api_port())
}

/// As a machine in the wrong hands serves it: whoever uses it runs a program.
fn with_a_program(case: &Case, host: &MachineHost) -> String {
    let mut config: serde_json::Value = serde_yaml::from_str(&good(case, host)).unwrap();
    let exec = json!({"apiVersion": "client.authentication.k8s.io/v1", "command": "/bin/sh", "args": ["-c", "id"]});
    config["users"][0]["user"] = json!({ "exec": exec });
    serde_yaml::to_string(&config).unwrap()
}

fn lies_elsewhere() -> serde_json::Value {
    let mut spec = listed(&["cp-01"], &[]);
    spec["kubeconfig"] = json!({"path": ELSEWHERE});
    spec
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kubeconfig_is_read_where_the_spec_says() {
    let case = Case::start().await;
    let host = case.world.machine("cp-01").await;
    case.cluster("prod", lies_elsewhere()).await;
    let message = case
        .told("prod", "KubeconfigReady", "False", "KubeconfigUnreadable")
        .await;
    assert!(message.contains(ELSEWHERE), "{message}");
    host.put_file(ELSEWHERE, good(&case, &host));
    case.ready("prod").await;
    let kubeconfig = case.kubeconfig("prod").await;
    let server = format!("https://{}:{}", host.ip(), host.api_port());
    assert_eq!(
        kubeconfig["clusters"][0]["cluster"]["server"],
        json!(server)
    );
    assert_eq!(kubeconfig["current-context"], "prod-admin@prod");
    let execs = host.execs();
    assert!(
        execs
            .iter()
            .all(|line| line.ends_with("/srv/admin.conf") || line.ends_with("'/srv/admin.conf'")),
        "{execs:?}"
    );
    case.nodes("prod").await;
    case.finish().await;
}

/// A ConfigMap of the user's own is only read, and nobody is trusted on first use.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_the_users_known_hosts_do_not_name_is_refused() {
    let case = Case::with(&nico().args(&RESYNC)).await;
    let host = case.world.machine("cp-01").await;
    let stranger = host.host_key().to_openssh().unwrap();
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "prod-known-hosts"},
        "data": {"known_hosts": format!("192.0.2.1 {stranger}\n")}});
    case.world.apply(&map.to_string()).await.unwrap();
    case.cluster("prod", listed(&["cp-01"], &[])).await;
    let message = case
        .told("prod", "KubeconfigReady", "False", "HostKeyUnknown")
        .await;
    assert!(message.contains("prod-known-hosts"), "{message}");
    case.two_more_passes().await;
    assert_eq!(host.auths(), vec![]);
    assert_eq!(case.secret("prod-kubeconfig").await, None);
    let line = format!("[{}]:{} {stranger}\n", host.ip(), host.ssh_port());
    let mended = case.write_known_hosts("prod", &line).await;
    case.ready("prod").await;
    case.delete("prod").await;
    case.wait_gone("prod").await;
    let left = case.maps().get("prod-known-hosts").await.unwrap();
    assert_eq!(
        left.metadata.resource_version,
        mended.metadata.resource_version
    );
    case.finish().await;
}

/// What is pinned, once anything is.
async fn pinned(case: &Case) -> String {
    let pinned = || async {
        let map = case.map("prod-known-hosts").await;
        map.get("known_hosts").cloned()
    };
    rig::wait::wait_for("the host key is pinned", DEADLINE, pinned).await
}

/// The pin holds also while a kubeconfig is at hand whose API server does not answer yet, as in every bring-up.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_key_that_changes_before_the_api_server_answers_is_refused() {
    let case = Case::with(&nico().args(&RESYNC)).await;
    let host = case.world.machine("cp-01").await;
    host.api_off(true);
    host.put_file(ELSEWHERE, good(&case, &host));
    case.cluster("prod", lies_elsewhere()).await;
    case.told("prod", "KubeconfigReady", "False", "Unverified")
        .await;
    let pinned = pinned(&case).await;
    let _ = host.change_host_key();
    case.told("prod", "KubeconfigReady", "False", "HostKeyChanged")
        .await;
    let logins = host.auths().len();
    host.api_off(false);
    case.two_more_passes().await;
    assert_eq!(host.auths().len(), logins, "{:?}", host.auths());
    assert_eq!(case.map("prod-known-hosts").await["known_hosts"], pinned);
    assert!(case.secret("prod-kubeconfig").await.is_none());
    case.finish().await;
}

/// Who answers with another key than the pinned one gets no key of NICO's to see, not even a signature.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_host_key_is_refused_before_any_login() {
    let case = Case::with(&nico().args(&RESYNC)).await;
    let host = case.world.machine("cp-01").await;
    case.cluster("prod", lies_elsewhere()).await;
    // Logged in to, and so pinned, though nothing could be read.
    case.told("prod", "KubeconfigReady", "False", "KubeconfigUnreadable")
        .await;
    let pinned = pinned(&case).await;
    host.refuse(true);
    let unreachable = |status: &serde_json::Value| {
        let found = rig::world::condition(status, "KubeconfigReady");
        found["message"]
            .as_str()
            .is_some_and(|text| !text.contains(ELSEWHERE))
    };
    case.world
        .wait_status("prod", "the machine refuses", DEADLINE, unreachable)
        .await;
    let logins = host.auths().len();
    let changed = host.change_host_key().to_openssh().unwrap();
    host.put_file(ELSEWHERE, good(&case, &host));
    host.refuse(false);
    let message = case
        .told("prod", "KubeconfigReady", "False", "HostKeyChanged")
        .await;
    assert!(message.contains("prod-known-hosts"), "{message}");
    case.two_more_passes().await;
    assert_eq!(host.auths().len(), logins, "{:?}", host.auths());
    assert_eq!(case.map("prod-known-hosts").await["known_hosts"], pinned);
    // The mend that the message tells of: a person puts the new key there.
    let line = format!("[{}]:{} {changed}\n", host.ip(), host.ssh_port());
    case.write_known_hosts("prod", &line).await;
    case.ready("prod").await;
    case.finish().await;
}

/// The known hosts, where they have so many lines.
async fn lines(case: &Case, count: usize) -> Option<String> {
    let known = case.map("prod-known-hosts").await.remove("known_hosts")?;
    (known.lines().count() == count).then_some(known)
}

/// All control plane machines are pinned, so that nobody is met for the first time when the others have changed. Those that have are
/// told.
#[tokio::test(flavor = "multi_thread")]
async fn each_changed_host_key_is_told() {
    let case = Case::with(&nico().args(&RESYNC)).await;
    let names = ["cp-01", "cp-02", "cp-03"];
    let hosts = case.world.machines_named(&names).await;
    let spec = listed(&names, &[]);
    case.cluster("prod", spec).await;
    case.ready("prod").await;
    let known = rig::wait::wait_for("all are pinned", DEADLINE, || lines(&case, 3)).await;
    for host in &hosts {
        assert!(known.contains(&host.ip().to_string()), "{known}");
    }

    let logins: Vec<usize> = hosts.iter().map(|host| host.auths().len()).collect();
    for host in &hosts {
        drop(host.change_host_key());
    }
    let deletion = kube::api::DeleteParams::default();
    let secrets = case.world.secrets();
    secrets.delete("prod-kubeconfig", &deletion).await.unwrap();
    let all = |status: &serde_json::Value| {
        let found = rig::world::condition(status, "KubeconfigReady");
        let message = found["message"].as_str().unwrap_or_default();
        found["reason"] == "HostKeyChanged" && names.iter().all(|name| message.contains(name))
    };
    case.world
        .wait_status("prod", "each is told", DEADLINE, all)
        .await;
    let after: Vec<usize> = hosts.iter().map(|host| host.auths().len()).collect();
    assert_eq!(after, logins, "nobody is logged in to");
    assert_eq!(case.map("prod-known-hosts").await["known_hosts"], known);

    case.write_known_hosts("prod", "").await;
    case.ready("prod").await;
    rig::wait::wait_for("all are pinned again", DEADLINE, || lines(&case, 3)).await;
    case.finish().await;
}

/// The process that needs the pins again has met the machines while they were pinned.
async fn known_hosts_that_a_user_deletes_are_made_again_for_the_next_kubeconfig(
    generation: Generation,
) {
    let setup = nico().args(&RESYNC);
    let mut case = Case::of(generation, &setup).await;
    let host = case.world.machine("cp-01").await;
    case.cluster("prod", listed(&["cp-01"], &[])).await;
    case.ready("prod").await;
    let known = pinned(&case).await;
    case.settled("prod").await;
    case.nico.terminate().await;
    case.nico.wait_exit(DEADLINE).await.expect("it ends");
    let before = host.connections();
    case.nico = case.world.nico(&setup, &case.proxy).await;
    let is_met = || async { (host.connections() > before).then_some(()) };
    rig::wait::wait_for("the machine is met", DEADLINE, is_met).await;
    case.two_more_passes().await;

    let deletion = kube::api::DeleteParams::default();
    let (maps, secrets) = (case.maps(), case.world.secrets());
    maps.delete("prod-known-hosts", &deletion).await.unwrap();
    secrets.delete("prod-kubeconfig", &deletion).await.unwrap();
    let stored = || async { case.secret("prod-kubeconfig").await.map(drop) };
    let state = || case.world.describe();
    rig::wait::wait_describing("a kubeconfig is stored again", DEADLINE, stored, state).await;
    assert_eq!(pinned(&case).await, known);
    case.ready("prod").await;
    case.finish().await;
}

/// Its address can then be that of a machine with another host key.
#[tokio::test(flavor = "multi_thread")]
async fn the_pin_of_a_machine_that_left_is_removed() {
    let case = Case::with(&nico().args(&RESYNC)).await;
    let names = ["cp-01", "cp-02", "cp-03"];
    let hosts = case.world.machines_named(&names).await;
    case.cluster("prod", listed(&names, &[])).await;
    case.ready("prod").await;
    rig::wait::wait_for("all are pinned", DEADLINE, || lines(&case, 3)).await;
    let two = json!({"controlPlane": {"machines": ["cp-01", "cp-02"]}});
    case.edit("prod", two).await;
    let left = rig::wait::wait_for("a pin is removed", DEADLINE, || lines(&case, 2)).await;
    let address = hosts[2].ip().to_string();
    assert!(!left.contains(&address), "{left}");
    case.ready("prod").await;

    drop(hosts[2].change_host_key());
    let three = json!({"controlPlane": {"machines": names}});
    case.edit("prod", three).await;
    let pinned = rig::wait::wait_for("it is pinned", DEADLINE, || lines(&case, 3)).await;
    assert!(pinned.contains(&address), "{pinned}");
    case.ready("prod").await;
    let mut writes = case.proxy.writes().into_iter();
    let told = writes.find(|call| format!("{:?}", call.body).contains("HostKeyChanged"));
    assert!(told.is_none(), "{told:?}");
    case.finish().await;
}

/// Where one machine's is refused, the next one is asked.
#[tokio::test(flavor = "multi_thread")]
async fn beside_an_unsafe_kubeconfig_another_machines_is_used() {
    let case = Case::start().await;
    let hosts = case.world.machines_named(&["cp-01", "cp-02"]).await;
    hosts[0].put_file(ELSEWHERE, with_a_program(&case, &hosts[0]));
    hosts[1].put_file(ELSEWHERE, good(&case, &hosts[1]));
    let mut spec = listed(&["cp-01", "cp-02"], &[]);
    spec["kubeconfig"] = json!({"path": ELSEWHERE});
    // Or it would be asked first where it is confirmed first.
    case.world
        .nio()
        .set("cp-02", |knobs| knobs.never_reacts = true);
    case.cluster("prod", spec).await;
    case.told("prod", "KubeconfigReady", "False", "KubeconfigUnsafe")
        .await;
    case.world
        .nio()
        .set("cp-02", |knobs| knobs.never_reacts = false);
    case.ready("prod").await;
    let kubeconfig = case.kubeconfig("prod").await;
    let server = format!("https://{}:{}", hosts[1].ip(), hosts[1].api_port());
    assert_eq!(
        kubeconfig["clusters"][0]["cluster"]["server"],
        json!(server)
    );
    let known = case.map("prod-known-hosts").await["known_hosts"].clone();
    assert_eq!(known.lines().count(), 2, "{known}");
    // Where the spec names no place, this one would have been found.
    assert!(hosts[0].file(KUBECONFIG_PATH).is_some());
    case.finish().await;
}
