//! Classic NIO's stand-in, and the machines and the flake behind it.

use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, ResourceExt};
use rig::nio::hash::additional_files_hash;
use rig::nio::{KOPF_ANNOTATION, KOPF_FINALIZER, Outcome};
use rig::wait::wait_for;
use rig::workload::KUBECONFIG_PATH;
use rig::world::{MachineSpec, World};
use serde_json::{Value, json};

use crate::{SOON, remove};

fn cluster_nix(bootstrap: &str, names: &[&str]) -> String {
    let members = names
        .iter()
        .map(|name| json!({"name": name, "ip": "10.0.0.1"}));
    rig::nix::text(
        &json!({"name": "prod", "id": "1", "bootstrap": bootstrap, "join": null, "endpoint": null,
        "controlPlane": members.collect::<Vec<_>>(), "workers": []}),
    )
}

fn configuration(name: &str, cluster: &str, marker: &str) -> DynamicObject {
    let value = json!({
        "apiVersion": "nio.homystack.com/v1alpha1", "kind": "NixosConfiguration", "metadata": {"name": name},
        "spec": {"gitRepo": "https://example.org/flakes.git", "flake": format!("#{name}"), "onRemoveFlake": "#minimal",
            "machineRef": {"name": name}, "unknown": 1,
            "additionalFiles": [
                {"path": "cluster.nix", "valueType": "Inline", "inline": cluster},
                {"path": "join-token", "valueType": "SecretRef", "secretRef": {"name": "gone", "key": "token"}},
                {"path": "machine-ssh-key", "valueType": "SecretRef", "secretRef": {"name": format!("ssh-{name}")}},
                {"path": marker, "valueType": "Inline", "inline": ""},
            ]}
    });
    serde_json::from_value(value).expect("it is an object")
}

async fn create(world: &World, name: &str, cluster: &str, marker: &str) {
    let object = configuration(name, cluster, marker);
    let created = world
        .configurations()
        .create(&PostParams::default(), &object)
        .await;
    created.expect("the configuration is made");
}

async fn applied(world: &World, name: &str) -> DynamicObject {
    wait_for("the configuration is applied", SOON, || async {
        let object = world.configurations().get(name).await.ok()?;
        let status = &object.data["status"];
        let hash = additional_files_hash(object.data["spec"].get("additionalFiles"));
        (status["additionalFilesHash"] == hash && status["conditions"][0]["status"] == "True")
            .then_some(object)
    })
    .await
}

#[tokio::test]
async fn nio_applies_a_configuration_and_the_machine_serves_its_kubeconfig() {
    let world = World::new().await;
    let host = world.machine("cp-a").await;
    create(&world, "cp-a", &cluster_nix("cp-a", &["cp-a"]), ".nico/m1").await;
    let object = applied(&world, "cp-a").await;

    // What the schema keeps, defaults and prunes.
    let spec = &object.data["spec"];
    assert_eq!(spec["ref"], "main");
    assert_eq!(spec["unknown"], 1);
    assert_eq!(
        spec["additionalFiles"][1]["secretRef"],
        json!({"name": "gone"})
    );
    let status = &object.data["status"];
    assert_eq!(status["targetMachine"], "cp-a");
    assert_eq!(status["appliedCommit"], json!(world.nio().head()));
    assert!(status["configurationHash"].is_string());
    assert!(object.finalizers().contains(&KOPF_FINALIZER.to_owned()));
    wait_for("kopf's annotation", SOON, || async {
        let object = world.configurations().get("cp-a").await.ok()?;
        object
            .annotations()
            .contains_key(KOPF_ANNOTATION)
            .then_some(())
    })
    .await;
    let machine = world
        .machines()
        .get("cp-a")
        .await
        .expect("the machine is there");
    assert_eq!(machine.data["status"]["appliedConfiguration"], "cp-a");

    // Each creation applies twice; what is injected is the first key of a Secret, and a missing one is skipped.
    wait_for("two applies", SOON, || async {
        (world.nio().applies("cp-a").len() == 2).then_some(())
    })
    .await;
    let attempt = world.nio().applies("cp-a").remove(0).applied;
    assert_eq!(attempt.marker.as_deref(), Some(".nico/m1"));
    assert_eq!(attempt.skipped, ["join-token"]);
    assert_eq!(
        attempt.files["machine-ssh-key"],
        world.key().private_pem().into_bytes()
    );
    assert_eq!(world.flake().foundings().len(), 1);

    // The kubeconfig works at the machine's own address.
    let text = world.workload().kubeconfig(host.api_port());
    let text = text.replace("127.0.0.1", &host.ip().to_string());
    let config = Kubeconfig::from_yaml(&text).expect("it is a kubeconfig");
    let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await;
    let client = Client::try_from(config.expect("it is complete")).expect("a client can be made");
    let nodes: Api<Node> = Api::all(client);
    let found = nodes
        .list(&ListParams::default())
        .await
        .expect("the workload answers");
    let name = world.node_name("cp-a");
    assert!(found.iter().any(|node| node.name_any() == name));

    // A deletion that a watch shows late is not this configuration's.
    let nio = world.nio();
    nio.handle_late_deletion(world.namespace(), "cp-a").await;
    assert!(!nio.history().iter().any(|attempt| attempt.applied.removal));
    // Deletion takes the configuration off the machine.
    remove(&world, "cp-a").await;
    let machine = world
        .machines()
        .get("cp-a")
        .await
        .expect("the machine is there");
    assert_eq!(machine.data["status"]["hasConfiguration"], false);
    assert!(
        world
            .nio()
            .history()
            .last()
            .expect("there is a history")
            .applied
            .removal
    );
}

#[tokio::test]
async fn nio_applies_again_only_for_files_and_pushes() {
    let world = World::new().await;
    world.machine("cp-b").await;
    create(&world, "cp-b", &cluster_nix("cp-b", &["cp-b"]), ".nico/m1").await;
    applied(&world, "cp-b").await;
    wait_for("two applies", SOON, || async {
        (world.nio().applies("cp-b").len() == 2).then_some(())
    })
    .await;
    let patch = |value: Value| {
        let api = world.configurations();
        async move {
            let patched = api
                .patch("cp-b", &PatchParams::default(), &Patch::Merge(value))
                .await;
            patched.expect("the configuration can be changed")
        }
    };
    patch(json!({"spec": {"flake": "#other"}, "metadata": {"annotations": {"a": "b"}}})).await;
    world.nio().push();
    wait_for("the push is applied", SOON, || async {
        (world.nio().applies("cp-b").len() > 2).then_some(())
    })
    .await;
    let mut object = applied(&world, "cp-b").await;
    object.data["spec"]["additionalFiles"][3]["path"] = json!(".nico/m2");
    patch(json!({"spec": {"additionalFiles": object.data["spec"]["additionalFiles"]}})).await;
    applied(&world, "cp-b").await;
    let last = world
        .nio()
        .applies("cp-b")
        .pop()
        .expect("it was applied")
        .applied;
    assert_eq!(
        (last.marker.as_deref(), last.flake.as_str()),
        (Some(".nico/m2"), "#other")
    );

    // A failure writes nothing: the last success stays.
    world.nio().set("cp-b", |knobs| knobs.fails = true);
    object.data["spec"]["additionalFiles"][3]["path"] = json!(".nico/m3");
    patch(json!({"spec": {"additionalFiles": object.data["spec"]["additionalFiles"]}})).await;
    wait_for("a failure", SOON, || async {
        world
            .nio()
            .history()
            .iter()
            .any(|attempt| attempt.outcome == Outcome::Failure)
            .then_some(())
    })
    .await;
    let object = world
        .configurations()
        .get("cp-b")
        .await
        .expect("it is there");
    assert_eq!(object.data["status"]["conditions"][0]["reason"], "Success");
    // An unreachable machine loses its proof; deleted then, it stays configured.
    world.nio().set("cp-b", |knobs| knobs.unreachable = true);
    wait_for("the proof is gone", SOON, || async {
        let object = world.configurations().get("cp-b").await.ok()?;
        let status = &object.data["status"];
        (status["conditions"][0]["status"] == "False" && status["appliedCommit"].is_null())
            .then_some(())
    })
    .await;
    remove(&world, "cp-b").await;
    let machine = world
        .machines()
        .get("cp-b")
        .await
        .expect("the machine is there");
    assert_eq!(machine.data["status"]["hasConfiguration"], true);
    assert_eq!(machine.data["status"]["discoverable"], false);
}

#[tokio::test]
async fn joiners_wait_for_their_founder() {
    let world = World::new().await;
    let founder = world.machine("cp-c").await;
    let joiner = world
        .machine_with(MachineSpec::new("cp-d").label("role", "control-plane"))
        .await;
    world
        .nio()
        .set("cp-c", |knobs| knobs.delay = Some(Duration::from_secs(1)));
    let text = cluster_nix("cp-c", &["cp-c", "cp-d"]);
    create(&world, "cp-c", &text, ".nico/m1").await;
    create(&world, "cp-d", &text, ".nico/m1").await;
    applied(&world, "cp-d").await;
    assert!(joiner.file(KUBECONFIG_PATH).is_none());
    applied(&world, "cp-c").await;
    assert!(founder.file(KUBECONFIG_PATH).is_some() && joiner.file(KUBECONFIG_PATH).is_some());
}
