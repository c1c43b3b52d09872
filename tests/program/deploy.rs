//! The manifests that users apply: `crds/`, `deploy/` and `examples/` on a real API server.
use std::path::Path;

use rig::{control_plane::ControlPlane, crds::Generation, deploy, environment::Environment};
use serde_json::{Value, json};

fn path(relative: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join(relative).to_string_lossy().into_owned()
}

/// What kubectl printed, after it ended well and without a warning.
async fn kubectl(control_plane: &ControlPlane, arguments: &[&str]) -> String {
    let output = control_plane.kubectl(arguments).await.unwrap();
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && err.is_empty(),
        "{arguments:?}: {out}{err}"
    );
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_applies_cleanly_and_twice() {
    let environment = Environment::shared().await;
    let control_plane = &environment.control_plane;
    // By the server, and by force: the rig has applied some of it already, in its own way.
    let apply = async |how: &str, file: &str| {
        let file = path(file);
        let by_server = ["apply", "--server-side", "--force-conflicts"];
        kubectl(control_plane, &[&by_server[..], &[how, &file]].concat()).await
    };
    kubectl(control_plane, &["create", "namespace", "clusters"]).await;
    for _ in 0..2 {
        apply("-f", "crds").await;
        apply("-f", "deploy").await;
        apply("-k", "deploy").await;
        apply("-k", "deploy/one-namespace").await;
    }
    for (name, text) in deploy::manifests(Path::new(&path("examples"))) {
        let file = path(&format!("examples/{name}"));
        nothing_is_added(control_plane, &file, &deploy::documents(&text)).await;
    }
    let installed = kubectl(control_plane, &["kustomize", &path("deploy/base")]).await;
    assert_eq!(
        deploy::documents(&installed),
        deploy::documents(include_str!("../../deploy/nico.yaml")),
        "write what `kubectl kustomize deploy/base` prints into deploy/nico.yaml"
    );
    let overlay = kubectl(control_plane, &["kustomize", &path("deploy/one-namespace")]).await;
    one_namespace(&overlay);
    for objects in [&installed, &overlay].map(|text| deploy::documents(text)) {
        hardened(&objects);
        only_the_ports_that_it_needs(&objects);
    }
}

/// What people compare shows no difference: the API server keeps each spec as the file has it, `kubectl diff` is empty, and a second
/// `kubectl apply` writes nothing.
async fn nothing_is_added(control_plane: &ControlPlane, file: &str, objects: &[Value]) {
    let stored = async || {
        let text = kubectl(control_plane, &["get", "-f", file, "-o", "json"]).await;
        let found: Value = serde_json::from_str(&text).unwrap();
        found["items"].as_array().cloned().unwrap_or(vec![found])
    };
    kubectl(control_plane, &["apply", "-f", file]).await;
    let once = stored().await;
    let specs = |of: &[Value]| -> Vec<Value> { of.iter().map(|it| it["spec"].clone()).collect() };
    assert_eq!(specs(&once), specs(objects), "{file}");
    assert_eq!(kubectl(control_plane, &["diff", "-f", file]).await, "");
    kubectl(control_plane, &["apply", "-f", file]).await;
    assert_eq!(stored().await, once, "{file}");
}

/// The overlay for one namespace gives no rights elsewhere, and lets NICO work where it has them.
fn one_namespace(overlay: &str) {
    let objects = deploy::documents(overlay);
    let of_kind = |kind: &str| -> Vec<&Value> {
        let of_kind = objects.iter().filter(|object| object["kind"] == kind);
        of_kind.collect()
    };
    assert_eq!(of_kind("ClusterRoleBinding"), Vec::<&Value>::new());
    let mut namespaces: Vec<&str> = of_kind("RoleBinding")
        .iter()
        .filter_map(|binding| binding["metadata"]["namespace"].as_str())
        .collect();
    namespaces.sort_unstable();
    let deployment = of_kind("Deployment")[0];
    let watched = variable(deployment, "NICO_WATCH_NAMESPACE");
    assert_eq!(namespaces, [watched, "nico-system"]);
}

/// The value of an environment variable of a Deployment's container.
fn variable<'a>(deployment: &'a Value, name: &str) -> &'a str {
    let env = deployment.pointer("/spec/template/spec/containers/0/env");
    let mut env = env.unwrap().as_array().unwrap().iter();
    let variable = env.find(|variable| variable["name"] == name);
    variable.map_or("", |variable| variable["value"].as_str().unwrap())
}

/// The one file of a release is what `kubectl apply -k deploy/` applies, with the release's image.
#[test]
fn the_file_of_a_release_differs_in_the_image_alone() {
    let image = "registry.example.com/nico:0.1.0@sha256:0123abcd";
    let mut script = std::process::Command::new(path(".ci/install-yaml"));
    let printed = script.arg(image).output().unwrap();
    assert!(printed.status.success(), "{printed:?}");
    let mut expected = deploy::documents(include_str!("../../crds/kubernetescluster.yaml"));
    expected.extend(deploy::documents(include_str!("../../deploy/nico.yaml")));
    let mut deployments = expected.iter_mut().filter(|it| it["kind"] == "Deployment");
    deployments.next().unwrap()["spec"]["template"]["spec"]["containers"][0]["image"] =
        json!(image);
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert_eq!(deploy::documents(&printed), expected);
}

/// Replicas without leader election would all work at the same time.
#[test]
fn the_replicas_elect_a_leader_and_one_of_them_may_be_evicted() {
    let objects = deploy::documents(include_str!("../../deploy/nico.yaml"));
    let of_kind = |kind: &str| {
        objects
            .iter()
            .find(|object| object["kind"] == kind)
            .unwrap()
    };
    let deployment = of_kind("Deployment");
    assert_eq!(deployment["spec"]["replicas"], 2);
    assert_eq!(variable(deployment, "NICO_LEADER_ELECT"), "true");
    let pods = &deployment["spec"]["template"]["metadata"]["labels"];
    for selector in [
        &deployment["spec"]["selector"]["matchLabels"],
        &of_kind("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        &of_kind("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ] {
        assert_eq!(selector, pods);
    }
    assert_eq!(of_kind("PodDisruptionBudget")["spec"]["maxUnavailable"], 1);
}

/// What the pods run as, what they may use, and when they count as well. There is no volume: what they write is lost.
fn hardened(objects: &[Value]) {
    let of_kind = |kind: &str| {
        objects
            .iter()
            .find(|object| object["kind"] == kind)
            .unwrap()
    };
    let pod = &of_kind("Deployment")["spec"]["template"]["spec"];
    let fields = |of: &Value| of.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let expected = [
        "containers",
        "securityContext",
        "serviceAccountName",
        "terminationGracePeriodSeconds",
        "topologySpreadConstraints",
    ];
    assert_eq!(fields(pod), expected, "no volume and nothing of the host");
    assert_eq!(
        pod["securityContext"],
        json!({
            "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        })
    );
    let [container] = &pod["containers"].as_array().unwrap()[..] else {
        panic!("{pod}");
    };
    assert_eq!(
        container["securityContext"],
        json!({
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
        })
    );
    assert_eq!(
        container["resources"],
        json!({"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}})
    );
    let http = json!([{"name": "http", "containerPort": 8080}]);
    assert_eq!(container["ports"], http);
    for (probe, path) in [("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")] {
        let get = json!({"path": path, "port": "http"});
        assert_eq!(container[probe]["httpGet"], get, "{probe}");
    }
    assert_eq!(
        pod["terminationGracePeriodSeconds"], 15,
        "NICO ends within ten seconds"
    );
    let [spread] = &pod["topologySpreadConstraints"].as_array().unwrap()[..] else {
        panic!("{pod}");
    };
    assert_eq!(spread["topologyKey"], "kubernetes.io/hostname");
    let labels = &of_kind("Namespace")["metadata"]["labels"];
    assert_eq!(labels["pod-security.kubernetes.io/enforce"], "restricted");
}

/// In: probes and metrics. Out: DNS; API servers, of this cluster and of those that NICO builds; git servers; SSH.
fn only_the_ports_that_it_needs(objects: &[Value]) {
    let mut policies = objects.iter().filter(|it| it["kind"] == "NetworkPolicy");
    let rules = &policies.next().unwrap()["spec"];
    let ports = |direction: &str| -> Vec<String> {
        let rules = rules[direction].as_array().unwrap();
        let mut ports = Vec::new();
        for rule in rules {
            // Without ports a rule would allow all of them.
            assert_eq!(rule.as_object().unwrap().len(), 1, "{rule}");
            for port in rule["ports"].as_array().unwrap() {
                assert_eq!(port.as_object().unwrap().len(), 2, "{port}");
                let protocol = port["protocol"].as_str().unwrap();
                ports.push(format!("{protocol} {}", port["port"]));
            }
        }
        ports
    };
    assert_eq!(rules["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!(ports("ingress"), ["TCP \"http\""]);
    let egress = ["UDP 53", "TCP 53", "TCP 443", "TCP 6443", "TCP 22"];
    assert_eq!(ports("egress"), egress);
    assert!(policies.next().is_none());
}

/// The Machines of the examples fit the NIO that they are for.
#[tokio::test(flavor = "multi_thread")]
async fn the_machines_fit_their_nio() {
    for (generation, file) in [
        (Generation::Classic, "examples/machines/classic.yaml"),
        (Generation::V1, "examples/machines/v1.yaml"),
    ] {
        let environment = Environment::of(generation).await;
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "fleet"}});
        deploy::apply_value(&environment.client, "default", namespace)
            .await
            .unwrap();
        // In a namespace of this test's own, whatever the file says.
        let text = std::fs::read_to_string(path(file)).unwrap();
        let text = text.replace("namespace: clusters", "namespace: fleet");
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let copy = directory.join(format!("machines-{}.yaml", std::process::id()));
        std::fs::write(&copy, text).unwrap();
        let arguments = ["apply", "--server-side", "-f", copy.to_str().unwrap()];
        let told = kubectl(&environment.control_plane, &arguments).await;
        assert_eq!(told.matches("serverside-applied").count(), 4, "{told}");
        let _ = std::fs::remove_file(copy);
    }
}

/// The rules of the one role of that kind in a directory.
fn rules(directory: &str, kind: &str) -> Vec<Value> {
    let objects = deploy::rights(Path::new(&path(directory)));
    let role = objects.iter().find(|object| object["kind"] == kind);
    let rules = role.expect("the role is there")["rules"].as_array();
    rules.expect("it has rules").clone()
}

#[test]
fn a_role_gives_in_one_namespace_what_the_cluster_role_gives_in_all() {
    assert_eq!(
        rules("deploy/one-namespace", "Role"),
        rules("deploy/base", "ClusterRole")
    );
}

#[test]
fn nothing_may_list_secrets_or_write_machines() {
    for rule in rules("deploy/base", "ClusterRole") {
        let words = |field: &str| -> Vec<String> {
            serde_json::from_value(rule[field].clone()).expect("a list of words")
        };
        let (resources, verbs) = (words("resources"), words("verbs"));
        assert!(!resources.iter().chain(&verbs).any(|word| word == "*"));
        let gives = |resource: &str, denied: &[&str]| {
            resources.iter().any(|name| name == resource)
                && verbs.iter().any(|verb| denied.contains(&verb.as_str()))
        };
        assert!(!gives(
            "secrets",
            &["list", "watch", "update", "deletecollection"]
        ));
        assert!(!gives(
            "machines",
            &["create", "patch", "update", "delete", "deletecollection"]
        ));
    }
}
