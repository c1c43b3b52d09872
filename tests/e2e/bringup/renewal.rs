//! A stored kubeconfig through the cluster's life: it is read again before it ends, where it no longer works, and where
//! somebody edited it.

use std::time::Duration;

use jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams};
use nico::api::names::STORED_ANNOTATION;
use nico::remote::kubeconfig::verify::verify;
use nico::remote::secret::SecretText;
use rig::machines::MachineHost;
use rig::pki::Validity;
use rig::wait::wait_describing;
use serde_json::json;

use crate::common::case::Case;
use crate::common::shown::took_effect;
use crate::common::traffic::{RESYNC, resyncs};
use crate::common::{DEADLINE, listed, nico};

/// How long a server is given to answer.
const ANSWER: Duration = Duration::from_secs(10);
const ELSEWHERE: &str = "/srv/admin.conf";
/// How long a client certificate lives whose end a test waits for.
const LIFE: Duration = Duration::from_secs(90);

/// Another kubeconfig on the machine, with a client certificate that lives from now on for so long; when that ends.
fn renewed(life: Duration, case: &Case, host: &MachineHost) -> Timestamp {
    let now = Timestamp::now();
    let validity = Validity {
        not_before: now - Duration::from_secs(1),
        not_after: now + life,
    };
    put(ELSEWHERE, validity, case, host);
    validity.not_after
}

/// Another kubeconfig on the machine.
fn put(path: &str, validity: Validity, case: &Case, host: &MachineHost) {
    let server = format!("https://127.0.0.1:{}", host.api_port());
    let api = case.world.workload().control_plane();
    let text = api
        .client_cert_kubeconfig(Some(&server), "admin", Some("system:masters"), validity)
        .unwrap();
    host.put_file(path, text);
}

/// A Ready cluster of one machine whose kubeconfig lives for [`LIFE`]; when that ends.
async fn short_lived() -> (Case, MachineHost, Timestamp) {
    let case = Case::with(&nico().args(&RESYNC)).await;
    let host = case.world.machine("cp-01").await;
    let ends = renewed(LIFE, &case, &host);
    let mut spec = listed(&["cp-01"], &[]);
    spec["kubeconfig"] = json!({"path": ELSEWHERE});
    case.cluster("prod", spec).await;
    case.ready("prod").await;
    (case, host, ends)
}

async fn stored(case: &Case) -> Option<Vec<u8>> {
    let secret = case.secret("prod-kubeconfig").await?;
    Some(secret.data?.get("value")?.0.clone())
}

/// How often the Secret was written.
fn writes(case: &Case) -> usize {
    let writes = case.proxy.writes();
    let of_it = writes.iter().filter(|call| {
        call.resource == "secrets" && call.object_name() == "prod-kubeconfig" && took_effect(call)
    });
    of_it.count()
}

async fn wait_other(case: &Case, what: &str, old: &[u8]) -> Vec<u8> {
    let other = || async { stored(case).await.filter(|found| found != old) };
    wait_describing(what, DEADLINE, other, || case.world.describe()).await
}

/// A client that lists nodes through the stored kubeconfig again and again never fails, and each one is replaced while it works.
/// The certificates are dated back, to half of their life, so that no machine is too slow for the other half.
#[tokio::test(flavor = "multi_thread")]
async fn a_kubeconfig_is_renewed_before_its_certificate_ends() {
    let half = Duration::from_secs(3600);
    let case = Case::with(&nico().args(&RESYNC)).await;
    let host = case.world.machine("cp-01").await;
    // A path for each: the pause between two attempts, a tenth of the life, counts again where the spec names another path.
    let path = |turn: u32| format!("/srv/{turn}.conf");
    let put = |turn: u32| {
        let now = Timestamp::now();
        let validity = Validity {
            not_before: now - half,
            // One is replaced only by one that ends later.
            not_after: now + half + turn * Duration::from_secs(60),
        };
        put(&path(turn), validity, &case, &host);
        validity.not_after
    };
    let mut ends = put(0);
    let mut spec = listed(&["cp-01"], &[]);
    spec["kubeconfig"] = json!({"path": path(0)});
    case.cluster("prod", spec).await;
    case.ready("prod").await;

    let works = async |text: &[u8]| {
        let text = SecretText::new(String::from_utf8(text.to_vec()).unwrap());
        assert_eq!(verify(&text, ANSWER).await, Ok(()));
    };
    let looks = resyncs(&case.proxy, "prod");
    for turn in 1..=2 {
        let first = stored(&case).await.unwrap();
        ends = put(turn);
        case.edit("prod", json!({"kubeconfig": {"path": path(turn)}}))
            .await;
        let logins = host.auths().len();
        looks.more("NICO looks again", 3, DEADLINE).await;
        assert_eq!(host.auths().len(), logins, "it is not due");
        // As if it had been stored when its life began.
        let dated_back = json!({"metadata": {"annotations": {STORED_ANNOTATION: null}}});
        let params = PatchParams::default();
        let secrets = case.world.secrets();
        secrets
            .patch("prod-kubeconfig", &params, &Patch::Merge(dated_back))
            .await
            .unwrap();
        let other = || async {
            let found = stored(&case).await.expect("the Secret is there");
            works(&found).await;
            (found != first).then_some(())
        };
        wait_describing("it is renewed", DEADLINE, other, || case.world.describe()).await;
        works(&first).await;
    }
    assert_eq!(writes(&case), 3);
    case.ready("prod").await;
    let namespace = case.world.namespace();
    let line = format!(
        "nico_kubeconfig_expiry_timestamp_seconds{{namespace=\"{namespace}\",cluster=\"prod\"}} {}",
        ends.as_second()
    );
    let served = || async {
        let (_, text) = case.nico.get("/metrics").await?;
        text.lines().any(|it| it == line).then_some(())
    };
    let told = || async { format!("{:?}", case.nico.get("/metrics").await) };
    wait_describing(&line, DEADLINE, served, told).await;
    case.finish().await;
}

/// The same bytes are not written twice: a machine that has nothing new changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_has_nothing_new_changes_nothing() {
    let (case, host, ends) = short_lived().await;
    let logins = || host.auths().len();
    let before = logins();
    // Past half of its life it is read again and again.
    let again = || async { (logins() > before + 1).then_some(()) };
    wait_describing("it is read again", DEADLINE, again, || {
        case.world.describe()
    })
    .await;
    assert_eq!(writes(&case), 1);
    // Once it has ended, that is told; another on the machine mends it.
    case.told("prod", "KubeconfigReady", "False", "KubeconfigBroken")
        .await;
    assert!(Timestamp::now() > ends);
    // A broken one is read again once a minute: the other must live for longer.
    let _ = renewed(10 * LIFE, &case, &host);
    case.told("prod", "KubeconfigReady", "True", "AsExpected")
        .await;
    assert_eq!(writes(&case), 2);
    case.finish().await;
}

/// A machine that takes connections and never answers: another one's is read, and no other cluster waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn another_control_plane_machine_is_asked_where_the_first_is_dead() {
    let case = Case::with(&nico().args(&RESYNC)).await;
    let hosts = case
        .world
        .machines_named(&["cp-01", "cp-02", "cp-03", "other"])
        .await;
    case.cluster("prod", listed(&["cp-01", "cp-02", "cp-03"], &[]))
        .await;
    case.ready("prod").await;
    let first = stored(&case).await.unwrap();
    // On a slow machine it need not be cp-01's.
    let leads_to = async || {
        let config = case.kubeconfig("prod").await;
        let server = &config["clusters"][0]["cluster"]["server"];
        let is =
            |host: &MachineHost| *server == format!("https://{}:{}", host.ip(), host.api_port());
        hosts[..3]
            .iter()
            .position(is)
            .expect("it leads to a member")
    };
    let dead = leads_to().await;
    let host = &hosts[dead];
    host.api_off(true);
    host.hang(true);
    let asked = host.connections();
    let hangs = || async { (host.connections() > asked).then_some(()) };
    wait_describing("it is asked", DEADLINE, hangs, || case.world.describe()).await;
    case.cluster("other", listed(&["other"], &[])).await;
    tokio::join!(
        case.ready("other"),
        wait_other(&case, "another one's is stored", &first)
    );
    assert_ne!(leads_to().await, dead);
    case.told("prod", "KubeconfigReady", "True", "AsExpected")
        .await;
    // Where it comes back, what works is kept.
    host.hang(false);
    host.api_off(false);
    case.ready("prod").await;
    case.two_more_passes().await;
    assert_eq!(writes(&case), 2);
    case.finish().await;
}

/// What a hand does to the Secret is undone.
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_edited_or_deleted_is_made_again() {
    let case = Case::with(&nico().args(&RESYNC)).await;
    let host = case.world.machine("cp-01").await;
    case.cluster("prod", listed(&["cp-01"], &[])).await;
    case.ready("prod").await;
    let good = stored(&case).await.unwrap();
    let secrets = case.world.secrets();
    let whole = || async {
        let secret = case.secret("prod-kubeconfig").await?;
        let label = secret.metadata.labels?;
        let data = secret.data?;
        let both = data.get("value")?.0 == good && data.get("kubeconfig")?.0 == good;
        (both && label.get("cluster.x-k8s.io/cluster-name")? == "prod").then_some(())
    };
    let edits = [
        json!({"data": {"kubeconfig": null}}),
        json!({"stringData": {"kubeconfig": "mine"}, "metadata": {"labels": {"cluster.x-k8s.io/cluster-name": null}}}),
        json!({"stringData": {"value": "mine"}}),
        json!({"stringData": {"value": "mine", "kubeconfig": "mine"}}),
        json!({"data": null}),
    ];
    for edit in edits {
        let patch = Patch::Merge(edit.clone());
        let params = PatchParams::default();
        secrets
            .patch("prod-kubeconfig", &params, &patch)
            .await
            .unwrap();
        let what = format!("it is whole again after {edit}");
        wait_describing(&what, DEADLINE, whole, || case.world.describe()).await;
    }
    let deletion = DeleteParams::default();
    secrets.delete("prod-kubeconfig", &deletion).await.unwrap();
    wait_describing("it is made again", DEADLINE, whole, || {
        case.world.describe()
    })
    .await;

    // Whoever answers with another host key is not asked for a new one, and the mend is told.
    let logins = host.auths().len();
    let changed = host.change_host_key().to_openssh().unwrap();
    let nothing = Patch::Merge(json!({"data": null}));
    secrets
        .patch("prod-kubeconfig", &PatchParams::default(), &nothing)
        .await
        .unwrap();
    let message = case
        .told("prod", "KubeconfigReady", "False", "HostKeyChanged")
        .await;
    assert!(message.contains("prod-known-hosts"), "{message}");
    assert_eq!(host.auths().len(), logins);
    let line = format!("[{}]:{} {changed}\n", host.ip(), host.ssh_port());
    case.write_known_hosts("prod", &line).await;
    wait_describing("it is made again", DEADLINE, whole, || {
        case.world.describe()
    })
    .await;
    case.ready("prod").await;
    case.finish().await;
}

/// A load balancer that comes later: the kubeconfig leads to it once it answers, and to the machine until then.
#[tokio::test(flavor = "multi_thread")]
async fn the_kubeconfig_follows_the_endpoint_once_that_answers() {
    let case = Case::with(&nico().args(&RESYNC)).await;
    let hosts = case.world.machines_named(&["cp-01", "vip"]).await;
    case.cluster("prod", listed(&["cp-01"], &[])).await;
    case.ready("prod").await;
    let first = stored(&case).await.unwrap();
    let endpoint = json!({"host": hosts[1].ip().to_string(), "port": hosts[1].api_port()});
    let asked = hosts[0].auths().len();
    case.edit("prod", json!({"controlPlaneEndpoint": endpoint}))
        .await;
    let read = || async { (hosts[0].auths().len() > asked).then_some(()) };
    wait_describing("it is read again", DEADLINE, read, || case.world.describe()).await;
    assert_eq!(stored(&case).await.unwrap(), first);
    hosts[1].serve_api(true);
    wait_other(&case, "it leads to the endpoint", &first).await;
    let server = format!("https://{}:{}", hosts[1].ip(), hosts[1].api_port());
    let kubeconfig = case.kubeconfig("prod").await;
    assert_eq!(
        kubeconfig["clusters"][0]["cluster"]["server"],
        json!(server)
    );
    case.ready("prod").await;
    case.finish().await;
}
