//! What a thief of NICO's token cannot do: each validation of the shipped admission policies refuses something that nothing else
//! refuses. NICO itself works under all of them, in every other story.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{GroupVersionKind, TypeMeta};
use kube::{Client, Config};
use rig::deploy;
use rig::environment::repository;
use rig::wait::wait_describing;
use rig::world::World;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::common::{DEADLINE, listed};

const POLICY: &str = "ValidatingAdmissionPolicy";

/// More annotations than anyone has: with their keys, as many bytes as an object may have.
const MANY: usize = 40_000;

/// Method, kind, name, and what is sent.
#[derive(Debug, Deserialize)]
struct Attempt(String, String, String, #[serde(default)] Value);

/// What `stolen_token.yaml` holds.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Attempts {
    objects: Vec<Attempt>,
    allowed: Vec<Attempt>,
    refused: BTreeMap<String, Vec<Attempt>>,
    refused_twice: Vec<Attempt>,
}

impl Attempts {
    fn read(cluster: &str, settings: &str) -> Self {
        let text = include_str!("stolen_token.yaml");
        let text = text.replace("UID", cluster).replace("SETTINGS", settings);
        let mut all: serde_yaml::Value = serde_yaml::from_str(&text).unwrap();
        all.apply_merge().unwrap();
        serde_yaml::from_value(all).unwrap()
    }
}

fn resource(kind: &str) -> ApiResource {
    let group = match kind {
        "NixosConfiguration" => "nio.homystack.com/v1alpha1",
        "KubernetesCluster" => "nico.homystack.com/v1alpha1",
        "Lease" => "coordination.k8s.io/v1",
        _ => "v1",
    };
    let kind = GroupVersionKind::try_from(&TypeMeta {
        api_version: group.to_owned(),
        kind: kind.to_owned(),
    });
    ApiResource::from_gvk(&kind.unwrap())
}

/// A JSON merge patch (RFC 7386).
fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    for (key, value) in fields {
        match value {
            Value::Null => drop(into.as_object_mut().unwrap().remove(key)),
            _ => merge(&mut into[key], value),
        }
    }
}

impl Attempt {
    /// As NICO makes it, with the changes.
    fn object(&self, uid: &str) -> Value {
        let Self(_, kind, name, changes) = self;
        let mut object = json!({"apiVersion": resource(kind).api_version, "kind": kind, "metadata": {
            "name": name,
            "labels": {"app.kubernetes.io/managed-by": "nico", "nico.homystack.com/cluster": "prod"},
            "ownerReferences": [{"apiVersion": "nico.homystack.com/v1alpha1", "kind": "KubernetesCluster",
                "name": "prod", "uid": uid, "controller": true, "blockOwnerDeletion": false}],
        }});
        if kind == "NixosConfiguration" {
            object["spec"] = json!({"gitRepo": "https://git.example.com/flakes.git",
                "flake": format!("#{name}"), "onRemoveFlake": "#minimal", "machineRef": {"name": name}});
        }
        merge(&mut object, changes);
        object
    }

    async fn send(&self, to: &Place, dry_run: bool) -> kube::Result<()> {
        let Self(method, kind, name, changes) = self;
        let resource = resource(kind);
        let api: Api<DynamicObject> =
            Api::namespaced_with(to.client.clone(), &to.namespace, &resource);
        match method.as_str() {
            "POST" => {
                let object = serde_json::from_value(self.object(&to.uid)).unwrap();
                let params = PostParams {
                    dry_run,
                    ..PostParams::default()
                };
                api.create(&params, &object).await.map(drop)
            }
            "PATCH" => {
                let params = PatchParams {
                    dry_run,
                    ..PatchParams::default()
                };
                api.patch(name, &params, &Patch::Merge(changes))
                    .await
                    .map(drop)
            }
            "DELETE" => {
                let params = DeleteParams {
                    dry_run,
                    ..DeleteParams::default()
                };
                api.delete(name, &params).await.map(drop)
            }
            _ => panic!("{self:?}"),
        }
    }

    /// Tries it as a dry run, so that each meets the same objects. `Err` with the message of the validation that refuses it.
    async fn tried(&self, at: &Place) -> Result<(), String> {
        match self.send(at, true).await {
            Ok(()) => Ok(()),
            Err(kube::Error::Api(status)) => match status.message.split_once("denied request: ") {
                Some((before, message)) if before.contains(POLICY) => Err(message.to_owned()),
                _ => Err(status.message),
            },
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Who sends, and about which cluster.
#[derive(Clone)]
struct Place {
    client: Client,
    namespace: String,
    uid: String,
}

impl Place {
    fn seen_by(&self, client: Client) -> Self {
        Self {
            client,
            ..self.clone()
        }
    }
}

/// The shipped policies: for each its name, and the messages of its validations.
fn policies() -> Vec<(Value, String, Vec<String>)> {
    let objects = deploy::admission(&repository().join("deploy/base"));
    let policies = objects.into_iter().filter(|it| it["kind"] == POLICY);
    let named = policies.map(|policy| {
        let validations = policy["spec"]["validations"].as_array().unwrap();
        let messages = validations.iter().map(|it| it["message"].as_str().unwrap());
        let messages = messages.map(str::to_owned).collect();
        let name = policy["metadata"]["name"].as_str().unwrap().to_owned();
        (policy, name, messages)
    });
    named.collect()
}

/// A client of a user with all rights, of whom only a policy can refuse anything.
fn client_of(world: &World, user: &str) -> Client {
    let mut config = world.environment().control_plane.config();
    config.auth_info.impersonate = Some(user.to_owned());
    config.auth_info.impersonate_groups = Some(vec!["system:masters".to_owned()]);
    Client::try_from(config).unwrap()
}

/// The client of the thief, with NICO's own rights.
async fn thief(world: &World) -> Client {
    let environment = world.environment();
    let url = environment.control_plane.url();
    let kubeconfig = environment.namespace_kubeconfig(world.client(), world.namespace(), url);
    let kubeconfig: Kubeconfig = serde_yaml::from_str(&kubeconfig.await).unwrap();
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options);
    Client::try_from(config.await.unwrap()).unwrap()
}

/// A shipped policy for this user alone, without one of its validations, and its binding.
fn without(policy: &Value, user: &str, validation: usize) -> [Value; 2] {
    let mut policy = policy.clone();
    policy["metadata"]["name"] = json!(user);
    // A policy must have a validation.
    policy["spec"]["validations"][validation]["expression"] = json!("true");
    let is_user = format!("request.userInfo.username == '{user}'");
    policy["spec"]["matchConditions"] = json!([{"name": "is-user", "expression": is_user}]);
    let binding = json!({"apiVersion": policy["apiVersion"], "kind": format!("{POLICY}Binding"),
        "metadata": {"name": user}, "spec": {"policyName": user, "validationActions": ["Deny"]}});
    [policy, binding]
}

/// The cluster `prod`, without a NICO, and what is there beside it.
async fn prepared(world: &World) -> (Place, Attempts) {
    let spec = listed(&["cp-01"], &[]);
    let cluster = world.cluster("prod", spec).await.unwrap();
    let admin = Place {
        client: world.client().clone(),
        namespace: world.namespace().to_owned(),
        uid: cluster.metadata.uid.unwrap(),
    };
    let settings = "{apiVersion: v1, kind: ConfigMap, metadata: {name: settings}, data: {a: b}}";
    world.apply(settings).await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(admin.client.clone(), &admin.namespace);
    let settings = maps.get("settings").await.unwrap().metadata.uid.unwrap();
    let attempts = Attempts::read(&admin.uid, &settings);
    let many = (0..MANY).map(|number| (format!("a{number:x}"), json!("")));
    let many: serde_json::Map<String, Value> = many.collect();
    let many = Attempt(
        "POST".to_owned(),
        "NixosConfiguration".to_owned(),
        "many-annotations".to_owned(),
        json!({"metadata": {"annotations": many}}),
    );
    for object in attempts.objects.iter().chain([&many]) {
        // NIO would put its finalizer on it, or take it off.
        world
            .nio()
            .set(&object.2, |knobs| knobs.never_reacts = true);
        object.send(&admin, false).await.unwrap();
    }
    (admin, attempts)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_token_changes_nothing_that_is_not_nicos() {
    let world = World::new().await;
    let (admin, attempts) = prepared(&world).await;
    let policies = policies();
    let shipped: BTreeSet<&String> = policies.iter().flat_map(|it| &it.2).collect();
    assert_eq!(attempts.refused.keys().collect::<BTreeSet<_>>(), shipped);

    let thief = admin.seen_by(thief(&world).await);
    for (message, attempts) in &attempts.refused {
        for attempt in attempts {
            let answer = attempt.tried(&thief).await;
            assert_eq!(answer, Err(message.clone()), "{attempt:?}");
        }
    }
    for attempt in &attempts.refused_twice {
        let answer = attempt.tried(&thief).await;
        let is_shipped = answer.as_ref().is_err_and(|it| shipped.contains(it));
        assert!(is_shipped, "{attempt:?}: {answer:?}");
    }
    for attempt in &attempts.allowed {
        assert_eq!(attempt.tried(&thief).await, Ok(()), "{attempt:?}");
    }
    what_rbac_refuses(&thief).await;

    // Without a validation, nothing refuses what it refuses, and all else is refused as before.
    for (policy, name, messages) in &policies {
        for (index, message) in messages.iter().enumerate() {
            let user = format!("{}-{name}-{index}", admin.namespace);
            let objects = without(policy, &user, index);
            for object in objects.clone() {
                let applied = deploy::apply_value(&admin.client, &admin.namespace, object).await;
                applied.unwrap();
            }
            let user = admin.seen_by(client_of(&world, &user));
            if let Some(other) = messages.iter().find(|it| *it != message) {
                let attempt = &attempts.refused[other][0];
                let known = || async {
                    let answer = attempt.tried(&user).await;
                    (answer == Err(other.clone())).then_some(())
                };
                let what = format!("the policy {name} without \"{message}\" is in force");
                let last = || async { format!("{:?}", attempt.tried(&user).await) };
                wait_describing(&what, DEADLINE, known, last).await;
            }
            for attempt in &attempts.refused[message] {
                let answer = attempt.tried(&user).await;
                assert_eq!(answer, Ok(()), "{attempt:?} without \"{message}\"");
            }
            for object in objects {
                let object: DynamicObject = serde_json::from_value(object).unwrap();
                remove(&admin.client, &object).await;
            }
        }
    }
}

/// What is tried beside the policies.
async fn what_rbac_refuses(thief: &Place) {
    let all = ListParams::default();
    let client = || thief.client.clone();
    let secrets: Api<Secret> = Api::namespaced(client(), &thief.namespace);
    let maps: Api<ConfigMap> = Api::namespaced(client(), &thief.namespace);
    let elsewhere: Api<Secret> = Api::namespaced(client(), "kube-system");
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
}

/// Other stories share the API server, and each policy has a cost at every write.
async fn remove(client: &Client, object: &DynamicObject) {
    let kind = GroupVersionKind::try_from(object.types.as_ref().unwrap()).unwrap();
    let resource = ApiResource::from_gvk(&kind);
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let name = object.metadata.name.as_ref().unwrap();
    api.delete(name, &DeleteParams::default()).await.unwrap();
}
