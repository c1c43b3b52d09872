//! What a thief of NICO's token cannot do: each validation of the shipped admission policies refuses something that nothing else refuses,
//! while NICO itself works under all of them.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams,
};
use kube::{Client, ResourceExt};
use rig::crds::{cluster_resource, configuration_resource};
use rig::deploy;
use rig::environment::repository;
use rig::wait::wait_for;
use serde_json::{Value, json};

use crate::common::case::Case;
use crate::common::traffic::RESYNC;
use crate::common::{DEADLINE, five, listed, nico};

/// The thief, with NICO's token, in the namespace of its cluster.
struct Thief {
    client: Client,
    namespace: String,
    /// The owner reference that NICO's objects have.
    owner: Value,
    refused: BTreeSet<String>,
}

fn plain(kind: &str) -> ApiResource {
    ApiResource {
        group: String::new(),
        version: "v1".to_owned(),
        api_version: "v1".to_owned(),
        kind: kind.to_owned(),
        plural: format!("{}s", kind.to_lowercase()),
    }
}

fn lease() -> ApiResource {
    let group = "coordination.k8s.io".to_owned();
    ApiResource {
        api_version: format!("{group}/v1"),
        group,
        ..plain("Lease")
    }
}

impl Thief {
    fn api(&self, resource: &ApiResource) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, resource)
    }

    /// An object as NICO makes it for the cluster `prod`.
    fn object(&self, resource: &ApiResource, name: &str, rest: &Value) -> Value {
        let mut object = json!({"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {
            "name": name,
            "labels": {"app.kubernetes.io/managed-by": "nico", "nico.homystack.com/cluster": "prod"},
            "ownerReferences": [self.owner],
        }});
        merge(&mut object, rest);
        object
    }

    /// What is done must be refused by a policy, with its own message.
    fn expect<T>(&mut self, what: &str, answer: kube::Result<T>) {
        match answer {
            Err(kube::Error::Api(status))
                if status.message.contains("ValidatingAdmissionPolicy") =>
            {
                let (_, message) = status.message.split_once("denied request: ").unwrap();
                self.refused.insert(message.to_owned());
            }
            Err(error) => panic!("{what}: {error}"),
            Ok(_) => panic!("{what} was allowed"),
        }
    }

    async fn creates(&mut self, resource: &ApiResource, name: &str, rest: Value) {
        let object = serde_json::from_value(self.object(resource, name, &rest)).unwrap();
        let answer = self
            .api(resource)
            .create(&PostParams::default(), &object)
            .await;
        self.expect(
            &format!("POST of {} {name} with {rest}", resource.kind),
            answer,
        );
    }

    async fn patches(&mut self, resource: &ApiResource, name: &str, patch: Value) {
        let params = PatchParams::default();
        let answer = self
            .api(resource)
            .patch(name, &params, &Patch::Merge(&patch))
            .await;
        self.expect(
            &format!("PATCH of {} {name} with {patch}", resource.kind),
            answer,
        );
    }

    async fn deletes(&mut self, resource: &ApiResource, name: &str) {
        let answer = self
            .api(resource)
            .delete(name, &DeleteParams::default())
            .await;
        self.expect(&format!("DELETE of {} {name}", resource.kind), answer);
    }
}

/// A merge patch, of objects alone.
fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *into = patch.clone();
        return;
    };
    for (key, value) in fields {
        merge(&mut into[key], value);
    }
}

/// The messages of all validations that are shipped.
fn validations() -> BTreeSet<String> {
    let policies = deploy::admission(&repository().join("deploy/base"));
    let validations = policies.iter().flat_map(|policy| {
        let validations = policy["spec"]["validations"].as_array();
        validations.into_iter().flatten()
    });
    validations
        .map(|validation| validation["message"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_token_changes_nothing_that_is_not_nicos() {
    let case = Case::with(&nico().args(&RESYNC)).await;
    let world = &case.world;
    five(world).await;
    let cluster = world
        .cluster("prod", listed(&["cp-01"], &[]))
        .await
        .unwrap();
    world.wait_ready("prod", DEADLINE).await;
    let namespace = world.namespace();
    // What belongs to others: a Secret with a name as NICO's have, a ConfigMap, a configuration, and a Secret of a controller.
    world
        .apply(
            "{apiVersion: v1, kind: Secret, metadata: {name: backup-join-token}, stringData: {token: foreign}}\n---\n\
             {apiVersion: v1, kind: ConfigMap, metadata: {name: settings}, data: {a: b}}\n---\n\
             {apiVersion: v1, kind: Secret, metadata: {name: prod-worker-token-2, labels: {app.kubernetes.io/managed-by: nico, \
              nico.homystack.com/cluster: prod}}}\n---\n\
             {apiVersion: nio.homystack.com/v1alpha1, kind: NixosConfiguration, metadata: {name: w-01}, \
              spec: {gitRepo: 'https://git.example.com/theirs.git', flake: '#w-01', machineRef: {name: w-01}}}",
        )
        .await
        .unwrap();
    let token = case.nico.token();
    let client = world
        .environment()
        .control_plane
        .token_client(token)
        .await
        .unwrap();
    let owner = json!({"apiVersion": "nico.homystack.com/v1alpha1", "kind": "KubernetesCluster", "name": "prod",
        "uid": cluster.metadata.uid, "controller": true, "blockOwnerDeletion": false});
    let mut thief = Thief {
        client,
        namespace: namespace.to_owned(),
        owner,
        refused: BTreeSet::new(),
    };
    let (secrets, maps) = (plain("Secret"), plain("ConfigMap"));
    let (configurations, clusters) = (configuration_resource(), cluster_resource());

    // The token of another ServiceAccount, which would be an administrator's where there is one.
    let account = json!({"type": "kubernetes.io/service-account-token",
        "metadata": {"annotations": {"kubernetes.io/service-account.name": "default"}}});
    thief
        .creates(&secrets, "prod-kubeconfig-2", account.clone())
        .await;
    thief.creates(&secrets, "prod-kubeconfig", account).await;
    // A Secret of any other name, without labels, or without an owner, and one whose name the API server makes up.
    thief.creates(&secrets, "other-join-token", json!({})).await;
    thief
        .creates(
            &secrets,
            "prod-join-token",
            json!({"metadata": {"labels": null}}),
        )
        .await;
    thief
        .creates(
            &secrets,
            "prod-join-token",
            json!({"metadata": {"ownerReferences": []}}),
        )
        .await;
    let made_up = json!({"metadata": {"name": null, "generateName": "prod-join-token"}});
    thief.creates(&secrets, "", made_up).await;
    thief.creates(&maps, "kube-root-ca.crt", json!({})).await;
    thief
        .creates(
            &configurations,
            "w-02",
            json!({"spec": {"gitRepo": "https://git.example.com/evil.git", "flake": "#w-02",
        "machineRef": {"name": "w-03"}}}),
        )
        .await;

    // What is there and not NICO's, also by a patch that would make it look as if it were.
    let marks = thief.object(
        &secrets,
        "backup-join-token",
        &json!({"data": {"token": "ZXZpbA=="}}),
    );
    thief
        .patches(
            &secrets,
            "backup-join-token",
            json!({"metadata": {"finalizers": ["example.com/thief"]}}),
        )
        .await;
    thief.patches(&secrets, "backup-join-token", marks).await;
    thief.deletes(&secrets, "backup-join-token").await;
    thief.deletes(&secrets, "prod-worker-token-2").await;
    thief
        .patches(&maps, "settings", json!({"data": {"a": "c"}}))
        .await;
    thief.deletes(&maps, "settings").await;
    thief
        .patches(
            &configurations,
            "w-01",
            json!({"spec": {"gitRepo": "https://git.example.com/evil.git"}}),
        )
        .await;
    thief.deletes(&configurations, "w-01").await;
    // NICO's own, so that nobody knows them any more.
    thief
        .patches(
            &secrets,
            "prod-join-token",
            json!({"metadata": {"labels": null, "ownerReferences": null}}),
        )
        .await;

    let foreign = json!({"metadata": {"ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "theirs",
        "uid": "1b4e28ba-2fa1-11d2-883f-0016d3cca427", "controller": true}]}});
    thief.patches(&maps, "prod-nico", foreign).await;

    // The cluster itself: who may change its spec has root on all Machines.
    thief
        .patches(
            &clusters,
            "prod",
            json!({"spec": {"gitRepo": "https://git.example.com/evil.git"}}),
        )
        .await;
    for metadata in [
        json!({"labels": {"a": "b"}}),
        json!({"annotations": {"nico.homystack.com/force-release": "cp-01"}}),
        json!({"ownerReferences": [{"apiVersion": "v1", "kind": "Secret", "name": "a", "uid": "b"}]}),
    ] {
        thief
            .patches(&clusters, "prod", json!({"metadata": metadata}))
            .await;
    }
    thief.patches(&clusters, "prod", json!({"metadata": {"finalizers": ["nico.homystack.com/cluster", "example.com/thief"]}})).await;
    thief
        .creates(
            &lease(),
            "another-controller",
            json!({"spec": {"holderIdentity": "thief"}}),
        )
        .await;

    assert_eq!(thief.refused, validations());

    // What RBAC itself refuses.
    let all = ListParams::default();
    let secrets: Api<Secret> = Api::namespaced(thief.client.clone(), namespace);
    let maps: Api<ConfigMap> = Api::namespaced(thief.client.clone(), namespace);
    let elsewhere: Api<Secret> = Api::namespaced(thief.client.clone(), "kube-system");
    for answer in [
        secrets.list(&all).await.map(drop),
        maps.list(&all).await.map(drop),
        elsewhere.get("any").await.map(drop),
    ] {
        assert!(
            matches!(&answer, Err(kube::Error::Api(status)) if status.code == 403),
            "{answer:?}"
        );
    }

    // NICO is not in its own way: what is deleted is there again.
    let kubeconfig = world.secrets();
    let uid = kubeconfig.get("prod-kubeconfig").await.unwrap().uid();
    let now = DeleteParams::default();
    kubeconfig.delete("prod-kubeconfig", &now).await.unwrap();
    let again = || async {
        let found = kubeconfig.get_opt("prod-kubeconfig").await.ok()??;
        (found.uid() != uid).then_some(())
    };
    wait_for("the kubeconfig is stored again", DEADLINE, again).await;
    case.finish().await;
}
