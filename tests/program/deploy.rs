//! The manifests that users apply: `crds/`, `deploy/` and `examples/` on a real API server.
use std::path::Path;

use rig::{control_plane::ControlPlane, deploy, environment::Environment};
use serde_json::Value;

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
    let apply = async |file: &str| {
        let file = path(file);
        let by_server = ["apply", "--server-side", "--force-conflicts"];
        kubectl(control_plane, &[&by_server[..], &["-f", &file]].concat()).await
    };
    for _ in 0..2 {
        apply("crds").await;
        apply("deploy").await;
    }
    kubectl(control_plane, &["create", "namespace", "clusters"]).await;
    apply("deploy/one-namespace").await;
    for (name, _) in deploy::manifests(Path::new(&path("examples"))) {
        apply(&format!("examples/{name}")).await;
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
        rules("deploy", "ClusterRole")
    );
}

#[test]
fn nothing_may_list_secrets_or_write_machines() {
    for rule in rules("deploy", "ClusterRole") {
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
