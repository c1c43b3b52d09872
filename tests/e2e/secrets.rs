//! The search for secret bytes where none may be (I7): whole bring-ups at trace level, and ways in which they fail.

use crate::common::shown::at_rest;
use crate::common::traffic::{RESYNC, judge};
use crate::common::{DEADLINE, five, nico, over_both, three_and_two};
use kube::api::{DeleteParams, Patch, PatchParams};
use rig::crds::Generation;
use rig::machines::KeyPair;
use rig::proxy::{Call, Effect, Fault, Moment, Proxy};
use rig::wait::{wait_describing, wait_for};
use rig::workload::KUBECONFIG_PATH;
use rig::world::{NicoSetup, RunningNico, World};
use serde_json::{Value, json};

over_both![
    on demand:
    nothing_secret_is_seen_of_a_whole_life,
];

/// Stands in for a secret of which not one part may be seen.
const CANARY: &str = "c4n4ry-6f1d0b7e52aa49c3";
/// The same in base64, whole in whatever text it stands at the start of.
const ENCODED: &str = "YzRuNHJ5LTZmMWQwYjdlNTJhYTQ5Yz";

fn setup() -> NicoSetup {
    nico().log("trace").args(&RESYNC)
}

/// Everything that NICO said or wrote where others can read it.
async fn said(world: &World, nico: &RunningNico) -> String {
    let mut text = nico.output();
    text += &world.public_text().await;
    text += &std::fs::read_to_string(format!("/proc/{}/cmdline", nico.pid())).unwrap_or_default();
    for path in ["/healthz", "/readyz", "/metrics", "/nothing"] {
        text += &nico
            .get(path)
            .await
            .map_or_else(String::new, |(_, body)| body);
    }
    text
}

/// Fails where a secret of the namespace or the canary stands in what NICO said.
async fn search(world: &World, nico: &RunningNico, case: &str) {
    let text = said(world, nico).await;
    assert!(
        text.len() > 10_000,
        "{case}: {} bytes are no log at trace level",
        text.len()
    );
    let leaks = world.leaks(&text).await;
    assert_eq!(leaks, Vec::<String>::new(), "{case}");
    assert!(!text.contains(nico.token()), "{case}: its own token");
    for canary in [CANARY, ENCODED] {
        let at = text.find(canary).map(|at| text[..at].lines().count());
        assert_eq!(
            at,
            None,
            "{case}: the canary stands in this line of {}",
            text.lines().count()
        );
    }
}

async fn start(world: &World) -> (Proxy, RunningNico) {
    let proxy = world.proxy().await;
    let nico = world.nico(&setup(), &proxy).await;
    (proxy, nico)
}

/// Waits until NICO's output at trace level shows that it went on.
async fn passes(nico: &RunningNico) {
    let before = nico.output().len();
    let more = || async { (nico.output().len() > before + 1000).then_some(()) };
    wait_for("NICO goes on", DEADLINE, more).await;
}

/// Bring-up, a roll, a rotated key, an edited kubeconfig and the deletion.
async fn nothing_secret_is_seen_of_a_whole_life(generation: Generation) {
    let world = World::alone_of(generation, |_| ()).await;
    let hosts = world
        .machines_named(&["cp-01", "cp-02", "cp-03", "w-01", "w-02"])
        .await;
    let change = async |secret: &str, patch: Value| {
        let params = PatchParams::default();
        let patch = Patch::Merge(patch);
        world
            .secrets()
            .patch(secret, &params, &patch)
            .await
            .unwrap();
    };
    change("ssh-w-01", json!({"stringData": {"ssh-publickey": CANARY}})).await;
    let (proxy, nico) = start(&world).await;
    world.cluster("prod", three_and_two()).await.unwrap();
    world.wait_ready("prod", DEADLINE).await;
    let mut canaries = world.canaries().await;
    for secret in [
        "prod-join-token/token",
        "prod-worker-token/token",
        "prod-kubeconfig/value",
        "ssh-cp-01/ssh-privatekey",
        "ssh-w-01/ssh-privatekey",
    ] {
        assert!(
            canaries.iter().any(|(name, _)| name == secret),
            "{secret} is searched for"
        );
    }
    // The search finds what there is to be found.
    let planted = format!("x{}x", canaries[0].1);
    assert!(!world.leaks(&planted).await.is_empty());
    search(&world, &nico, "a bring-up").await;
    judge(&world, &proxy, "a bring-up");

    let edit = async |spec: Value| {
        let patch = Patch::Merge(json!({ "spec": spec }));
        let params = PatchParams::default();
        let edited = world.clusters().patch("prod", &params, &patch).await;
        let generation = edited.unwrap().metadata.generation;
        let done = |status: &Value| at_rest(status, generation);
        world
            .wait_status("prod", "it is rolled out", DEADLINE, done)
            .await;
    };
    edit(json!({"gitRepo": "https://git.example.com/next.git"})).await;
    search(&world, &nico, "a roll").await;

    let rotated = KeyPair::generate();
    hosts[3].authorize("nixos", vec![rotated.public().clone()]);
    let key = json!({"stringData": {"ssh-privatekey": rotated.private_pem()}});
    change("ssh-w-01", key).await;
    let given = || async {
        let last = world.nio().applies("w-01").pop()?;
        let held = last.applied.files.get("machine-ssh-key")?.clone();
        (held == rotated.private_pem().as_bytes()).then_some(())
    };
    wait_for("the rotated key reaches its machine", DEADLINE, given).await;
    search(&world, &nico, "a rotated key").await;

    let edited = json!({"stringData": {"value": CANARY, "kubeconfig": CANARY}});
    change("prod-kubeconfig", edited).await;
    let renewed = || async {
        let secret = world.secrets().get("prod-kubeconfig").await.ok()?;
        (secret.data?.get("value")?.0 != CANARY.as_bytes()).then_some(())
    };
    wait_for("the kubeconfig is made again", DEADLINE, renewed).await;
    search(&world, &nico, "a kubeconfig that was edited").await;

    canaries.extend(world.canaries().await);
    canaries.push((
        "the key that was rotated in".to_owned(),
        rotated.private_pem(),
    ));

    // The answers to deletions hold what is deleted.
    for effect in [Effect::Echo(500), Effect::Truncated] {
        let it = |call: &Call| call.resource == "secrets" && call.verb != "get";
        proxy.fault(Fault::on(it, Moment::After, effect).times(1));
    }
    let deletion = DeleteParams::default();
    world.clusters().delete("prod", &deletion).await.unwrap();
    let gone = || async {
        let found = world.clusters().get_opt("prod").await.ok()?;
        found.is_none().then_some(())
    };
    let told = || async { proxy.write_lines() };
    wait_describing("the cluster is gone", DEADLINE, gone, told).await;
    // The Secrets are gone, their texts are not.
    let text = said(&world, &nico).await;
    for (name, canary) in &canaries {
        assert!(!text.contains(canary), "{name} after a deletion");
    }
    assert!(!text.contains(CANARY) && !text.contains(ENCODED) && !text.contains(nico.token()));
    println!(
        "{} secret texts were not found in {} bytes",
        canaries.len(),
        text.len()
    );
}

/// A machine that NIO configures and that serves this file in the place of a kubeconfig.
async fn served(file: &str, reason: &str) {
    let world = World::new().await;
    let host = world.machine("cp-01").await;
    world.flake().dead("cp-01", true);
    host.put_file(KUBECONFIG_PATH, file);
    let (_proxy, nico) = start(&world).await;
    let spec = json!({"gitRepo": "https://git.example.com/flakes.git", "controlPlane": {"machines": ["cp-01"]}});
    world.cluster("prod", spec).await.unwrap();
    world
        .wait_condition("prod", "KubeconfigReady", "False", reason, DEADLINE)
        .await;
    passes(&nico).await;
    search(&world, &nico, file).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_bad_kubeconfig_is_seen() {
    let exec = format!(
        "apiVersion: v1\nkind: Config\nclusters: [{{name: c, cluster: {{server: 'https://127.0.0.1:6443'}}}}]\n\
        contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\ncurrent-context: c\n\
        users: [{{name: u, user: {{exec: {{apiVersion: v1, command: {CANARY}, args: [{CANARY}]}}}}}}]\n"
    );
    let broken = format!("apiVersion: v1\nclusters: [{CANARY}: \"\n\t{CANARY}");
    let plain = format!("{CANARY} {CANARY}\n");
    tokio::join!(
        served(&exec, "KubeconfigUnsafe"),
        served(&broken, "KubeconfigUnsafe"),
        served(&plain, "KubeconfigUnsafe"),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_bad_key_or_a_foreign_token_is_seen() {
    let world = World::new().await;
    five(&world).await;
    let pem = |text: &str| {
        format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{text}\n-----END OPENSSH PRIVATE KEY-----\n")
    };
    for (machine, key) in [
        ("cp-01", CANARY.to_owned()),
        ("cp-02", pem(CANARY)),
        ("cp-03", pem(ENCODED)),
    ] {
        let patch = json!({"stringData": {"ssh-privatekey": key}});
        let name = format!("ssh-{machine}");
        let params = PatchParams::default();
        world
            .secrets()
            .patch(&name, &params, &Patch::Merge(patch))
            .await
            .unwrap();
    }
    let (proxy, nico) = start(&world).await;
    world.cluster("prod", three_and_two()).await.unwrap();
    world
        .wait_condition(
            "prod",
            "MachinesAvailable",
            "False",
            "SSHKeyUnusable",
            DEADLINE,
        )
        .await;
    search(&world, &nico, "SSH keys that are none").await;

    let token = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: other-join-token}}\nstringData: {{token: {CANARY}}}\n"
    );
    world.apply(&token).await.unwrap();
    world.machine("solo").await;
    let spec = json!({"gitRepo": "https://git.example.com/flakes.git", "controlPlane": {"machines": ["solo"]}});
    world.cluster("other", spec).await.unwrap();
    let conflict = || async {
        let status = world.status("other").await;
        status.to_string().contains("SecretConflict").then_some(())
    };
    let told = || async { world.describe().await };
    wait_describing("the conflict is told", DEADLINE, conflict, told).await;
    search(&world, &nico, "a token of someone else").await;
    let made = proxy
        .writes()
        .into_iter()
        .any(|call| call.resource == "nixosconfigurations");
    assert!(!made, "{}", proxy.write_lines());
}

/// Bad answers of an API server to everything that concerns Secrets, once each: they quote what was sent or stored, or are cut.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_an_api_server_quotes_is_seen() {
    let effects = [
        Effect::Echo(422),
        Effect::Echo(500),
        Effect::Echo(403),
        Effect::Truncated,
        Effect::Html,
    ];
    let cases = effects.map(async |effect| {
        let world = World::new().await;
        five(&world).await;
        let beside = Patch::Merge(json!({"stringData": {"ssh-publickey": CANARY}}));
        let params = PatchParams::default();
        let patched = world.secrets().patch("ssh-w-01", &params, &beside).await;
        patched.unwrap();
        let case = format!("{effect:?}");
        let (proxy, nico) = start(&world).await;
        for name in [
            "prod-join-token",
            "prod-worker-token",
            "prod-kubeconfig",
            "ssh-cp-01",
        ] {
            for verb in ["create", "get"] {
                let it = move |call: &Call| {
                    call.resource == "secrets" && call.verb == verb && call.object_name() == name
                        // What is not there yet quotes nothing.
                        && (verb == "create" || name == "ssh-cp-01")
                };
                proxy.fault(Fault::on(it, Moment::After, effect.clone()).times(1));
            }
        }
        world.cluster("prod", three_and_two()).await.unwrap();
        world.wait_ready("prod", DEADLINE).await;
        search(&world, &nico, &case).await;
        judge(&world, &proxy, &case);
        // And once all is there: each read of a token and of the kubeconfig, in the life of another NICO.
        proxy.clear_faults();
        for name in [
            "prod-join-token",
            "prod-worker-token",
            "prod-kubeconfig",
            "ssh-w-01",
            "ssh-cp-02",
        ] {
            let it = move |call: &Call| call.verb == "get" && call.object_name() == name;
            proxy.fault(Fault::on(it, Moment::After, effect.clone()).times(1));
        }
        let second = world.nico(&setup(), &proxy).await;
        passes(&second).await;
        search(&world, &second, &case).await;
        // And what is written of them later.
        proxy.clear_faults();
        let name = "prod-kubeconfig";
        let it = move |call: &Call| call.verb == "patch" && call.object_name() == name;
        proxy.fault(Fault::on(it, Moment::After, effect.clone()).times(1));
        let edit = Patch::Merge(json!({"stringData": {"value": CANARY}}));
        let params = PatchParams::default();
        world.secrets().patch(name, &params, &edit).await.unwrap();
        let mended = || async {
            let secret = world.secrets().get(name).await.ok()?;
            (secret.data?.get("value")?.0 != CANARY.as_bytes()).then_some(())
        };
        wait_for("it is as it was", DEADLINE, mended).await;
        for nico in [&nico, &second] {
            search(&world, nico, &case).await;
        }
    });
    futures::future::join_all(cases).await;
}
