//! The rights of users and of NICO's ServiceAccount, as each overlay ships them.

use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::Client;
use kube::api::{Api, PostParams};
use rig::control_plane::{ControlPlane, Options};
use rig::crds::install_crd_text;
use rig::deploy;
use rig::wait::wait_describing;
use serde_json::{Value, json};

/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(120);

/// The controller that fills view, edit and admin.
const AGGREGATION: &str = "clusterrole-aggregation-controller";

fn file(relative: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(relative);
    path.display().to_string()
}

async fn kubectl(control_plane: &ControlPlane, arguments: &[&str]) -> String {
    let output = control_plane.kubectl(arguments).await.unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The admission policies bind NICO only if they name its ServiceAccount as the Deployment has it.
#[tokio::test(flavor = "multi_thread")]
async fn every_overlay_binds_its_own_service_account() {
    let options = Options::default();
    let control_plane = ControlPlane::start(options).await.unwrap();
    for overlay in ["deploy", "deploy/base", "deploy/one-namespace"] {
        let rendered = kubectl(&control_plane, &["kustomize", &file(overlay)]).await;
        let objects = deploy::documents(&rendered);
        let of_kind = |kind: &'static str| objects.iter().filter(move |it| it["kind"] == kind);
        let deployment = of_kind("Deployment").next().unwrap();
        let namespace = &deployment["metadata"]["namespace"];
        let account = &deployment["spec"]["template"]["spec"]["serviceAccountName"];
        let accounts: Vec<&Value> = of_kind("ServiceAccount")
            .map(|it| &it["metadata"])
            .collect();
        assert_eq!(accounts.len(), 1, "{overlay}");
        assert_eq!(
            [&accounts[0]["namespace"], &accounts[0]["name"]],
            [namespace, account],
            "{overlay}"
        );
        let (namespace, account) = (namespace.as_str().unwrap(), account.as_str().unwrap());
        let user = format!("system:serviceaccount:{namespace}:{account}");
        let is_nico = json!([{"name": "is-nico", "expression": format!("request.userInfo.username == {user:?}")}]);
        let policies: Vec<&Value> = of_kind("ValidatingAdmissionPolicy").collect();
        assert_eq!(policies.len(), 3, "{overlay}");
        for policy in &policies {
            assert_eq!(policy["spec"]["matchConditions"], is_nico, "{overlay}");
        }
        let bound = |policy: &Value| {
            let name = &policy["metadata"]["name"];
            let mut bindings = of_kind("ValidatingAdmissionPolicyBinding");
            bindings.any(|it| {
                it["spec"]["policyName"] == *name
                    && it["spec"]["validationActions"] == json!(["Deny"])
            })
        };
        assert!(policies.iter().all(|policy| bound(policy)), "{overlay}");
        for kind in ["RoleBinding", "ClusterRoleBinding"] {
            for binding in of_kind(kind) {
                let subject =
                    json!([{"kind": "ServiceAccount", "name": account, "namespace": namespace}]);
                assert_eq!(binding["subjects"], subject, "{overlay}");
            }
        }
    }
}

/// Whether a user may do this to KubernetesClusters in a namespace, or to a part of them.
async fn may(client: &Client, user: &str, verb: &str, part: &str, namespace: &str) -> bool {
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(user.to_owned()),
            resource_attributes: Some(ResourceAttributes {
                group: Some("nico.homystack.com".to_owned()),
                resource: Some("kubernetesclusters".to_owned()),
                subresource: Some(part.to_owned()),
                verb: Some(verb.to_owned()),
                namespace: Some(namespace.to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let reviews: Api<SubjectAccessReview> = Api::all(client.clone());
    let answer = reviews.create(&PostParams::default(), &review).await;
    answer.unwrap().status.is_some_and(|status| status.allowed)
}

/// Who has Kubernetes' own view, edit or admin in a namespace has as much of the KubernetesClusters there, and nothing more.
#[tokio::test(flavor = "multi_thread")]
async fn view_edit_and_admin_have_their_part_of_the_clusters() {
    let options = Options {
        controllers: vec![AGGREGATION],
        ..Options::default()
    };
    let control_plane = ControlPlane::start(options).await.unwrap();
    let client = control_plane.client();
    let definition = include_str!("../../crds/kubernetescluster.yaml");
    install_crd_text(&client, definition).await;
    let roles = file("deploy/base/36-users.yaml");
    kubectl(&control_plane, &["apply", "-f", &roles]).await;
    for namespace in ["clusters", "others"] {
        kubectl(&control_plane, &["create", "namespace", namespace]).await;
    }
    for role in ["view", "edit", "admin"] {
        let binding =
            format!("create -n clusters rolebinding {role} --clusterrole={role} --user={role}");
        kubectl(&control_plane, &binding.split(' ').collect::<Vec<_>>()).await;
    }
    // Of each role, what comes last.
    for (user, verb) in [
        ("view", "watch"),
        ("edit", "deletecollection"),
        ("admin", "deletecollection"),
    ] {
        let aggregated = || async {
            let may = may(&client, user, verb, "", "clusters").await;
            may.then_some(())
        };
        let arguments = ["get", "clusterrole", user, "-o", "yaml"];
        let roles = || kubectl(&control_plane, &arguments);
        wait_describing("the role is aggregated", DEADLINE, aggregated, roles).await;
    }
    let reads = ["get", "list", "watch"];
    let writes = ["create", "update", "patch", "delete", "deletecollection"];
    for user in ["view", "edit", "admin"] {
        for verb in reads.into_iter().chain(writes) {
            let reads = reads.contains(&verb);
            let of_status = may(&client, user, verb, "status", "clusters").await;
            assert_eq!(of_status, reads, "{user} {verb} status");
            let allowed = may(&client, user, verb, "", "clusters").await;
            assert_eq!(allowed, reads || user != "view", "{user} {verb}");
            for part in ["finalizers", "scale"] {
                assert!(
                    !may(&client, user, verb, part, "clusters").await,
                    "{user} {verb} {part}"
                );
            }
            assert!(
                !may(&client, user, verb, "", "others").await,
                "{user} {verb} elsewhere"
            );
        }
    }
    // What the answers are worth.
    let cluster = file("examples/listed.yaml");
    let create = [
        "create",
        "-n",
        "clusters",
        "--dry-run=server",
        "-f",
        &cluster,
    ];
    for (user, creates) in [("view", false), ("edit", true)] {
        let arguments = [&create[..], &["--as", user]].concat();
        let output = control_plane.kubectl(&arguments).await.unwrap();
        assert_eq!(output.status.success(), creates, "{output:?}");
    }
}
