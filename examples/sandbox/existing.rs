//! A cluster of the user's as the management cluster: what is made there carries a label and is removed at the end. Where NIO or
//! NICO is installed, nothing is touched: their objects may be real machines.

use std::error::Error;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use kube::core::NamespaceResourceScope;
use kube::{Client, Resource, ResourceExt};
use rig::environment::repository;
use rig::wait::try_wait_for;
use rig::{crds, deploy};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::story::Clock;
use crate::{Failure, definitions, management};

/// The namespace of the sandbox.
const NAMESPACE: &str = "nico-sandbox";
/// The label of what the sandbox made.
const LABEL: (&str, &str) = ("app.kubernetes.io/managed-by", "nico-sandbox");
/// How long one look at the cluster may take at first.
const ANSWER: Duration = Duration::from_secs(15);
/// How long NICO and NIO's stand-in may take to let go of everything.
const RELEASE: Duration = Duration::from_secs(30);
/// How long the API server may take to empty a namespace, or to remove a definition.
const REMOVAL: Duration = Duration::from_secs(90);

/// A cluster of the user's.
pub(crate) struct Existing {
    context: String,
    server: String,
    client: Client,
    kubeconfig: Kubeconfig,
}

impl Existing {
    /// Looks the context up, and whether its cluster may be used.
    pub(crate) async fn find(context: &str) -> Result<Self, Failure> {
        let existing = Self::reach(context).await?;
        let clean = format!("cargo run --example sandbox -- --context {context} --clean");
        if let Some(foreign) = existing.foreign_definition().await? {
            return Err(format!(
                "the cluster of context {context} has {foreign} already: NIO or NICO is installed there, and the sandbox would meddle \
                 with real machines. Nothing was changed"
            )
            .into());
        }
        let namespaces: Api<Namespace> = Api::all(existing.client.clone());
        match namespaces.get_opt(NAMESPACE).await? {
            None => {}
            Some(namespace) if is_ours(&namespace) => {
                return Err(format!(
                    "a sandbox runs in the cluster of context {context}, or was killed there. If it runs no more, remove what it left:\n\n    {clean}\n"
                )
                .into());
            }
            Some(_) => {
                return Err(format!("the cluster of context {context} has a namespace {NAMESPACE} that is not the sandbox's. Nothing was changed").into());
            }
        }
        Ok(existing)
    }

    /// The cluster, and proof that it answers.
    async fn reach(context: &str) -> Result<Self, Failure> {
        let mut kubeconfig = Kubeconfig::read().map_err(|error| causes(&error))?;
        if !kubeconfig
            .contexts
            .iter()
            .any(|named| named.name == context)
        {
            let known: Vec<&str> = kubeconfig
                .contexts
                .iter()
                .map(|named| named.name.as_str())
                .collect();
            return Err(format!(
                "your kubeconfig has no context {context}; it has: {}",
                known.join(", ")
            )
            .into());
        }
        kubeconfig.current_context = Some(context.to_owned());
        let kubeconfig = management::in_namespace(kubeconfig, NAMESPACE);
        let mut config =
            Config::from_custom_kubeconfig(kubeconfig.clone(), &KubeConfigOptions::default())
                .await
                .map_err(|error| causes(&error))?;
        config.connect_timeout = Some(ANSWER);
        if config
            .cluster_url
            .host()
            .is_some_and(|host| host == "localhost" || host.starts_with("127."))
        {
            config.proxy_url = None;
        }
        let server = config.cluster_url.to_string();
        let client = Client::try_from(config).map_err(|error| causes(&error))?;
        match tokio::time::timeout(ANSWER, client.apiserver_version()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                return Err(format!(
                    "the cluster of context {context} ({server}) cannot be used: {}",
                    causes(&error)
                )
                .into());
            }
            Err(_) => {
                return Err(format!(
                    "the cluster of context {context} ({server}) does not answer within {} s",
                    ANSWER.as_secs()
                )
                .into());
            }
        }
        Ok(Self {
            context: context.to_owned(),
            server,
            client,
            kubeconfig,
        })
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    #[allow(
        clippy::unused_self,
        reason = "whoever asks need not know that it is always the same"
    )]
    pub(crate) fn namespace(&self) -> &'static str {
        NAMESPACE
    }

    pub(crate) fn kubeconfig(&self) -> &Kubeconfig {
        &self.kubeconfig
    }

    /// A definition of NIO's or NICO's that the sandbox did not make.
    async fn foreign_definition(&self) -> Result<Option<String>, Failure> {
        let stored: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        for definition in definitions::all() {
            let name = definitions::name(&definition);
            if stored
                .get_opt(name)
                .await?
                .is_some_and(|found| !is_ours(&found))
            {
                return Ok(Some(name.to_owned()));
            }
        }
        Ok(None)
    }

    /// Says what will be made in the cluster.
    pub(crate) fn say_what_is_installed(&self, clock: &Clock) {
        let all = definitions::all();
        let names: Vec<&str> = all.iter().map(definitions::name).collect();
        clock.tell(&format!("the management cluster is that of context {} ({}). In it the sandbox makes, and removes at the end:", self.context, self.server));
        clock.add(&format!(
            "the namespace {NAMESPACE}, with the rights that NICO has for one namespace"
        ));
        clock.add(&format!("the definitions {}", names.join(", ")));
    }

    /// Makes the namespace, the definitions and NICO's rights in the namespace.
    pub(crate) async fn install(&self) -> Result<(), Failure> {
        // By POST: of two sandboxes one gets it.
        let namespace = serde_json::from_value(
            json!({"metadata": {"name": NAMESPACE, "labels": {LABEL.0: LABEL.1}}}),
        )?;
        Api::<Namespace>::all(self.client.clone())
            .create(&PostParams::default(), &namespace)
            .await?;
        let labelled: Vec<Value> = definitions::all()
            .into_iter()
            .map(|mut definition| {
                definition["metadata"]["labels"][LABEL.0] = json!(LABEL.1);
                definition
            })
            .collect();
        definitions::install(&self.client, &labelled).await?;
        let mut objects = vec![
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "nico", "namespace": NAMESPACE}}),
        ];
        for mut object in deploy::rights(&repository().join("deploy/one-namespace")) {
            object["metadata"]["namespace"] = json!(NAMESPACE);
            if object["kind"] == "RoleBinding" {
                object["subjects"] =
                    json!([{"kind": "ServiceAccount", "name": "nico", "namespace": NAMESPACE}]);
            }
            objects.push(object);
        }
        management::apply(&self.client, NAMESPACE, objects).await
    }

    /// Deletes the clusters and waits until NICO and NIO's stand-in have let go of everything, where they run.
    pub(crate) async fn release(&self, clock: &Clock, running: bool) -> Result<(), Failure> {
        clock.tell(&format!(
            "removing what was made in the cluster of context {}; a second Ctrl-C leaves it there",
            self.context
        ));
        if !running {
            return Ok(());
        }
        let clusters = crds::clusters(&self.client, NAMESPACE);
        let configurations = crds::configurations(&self.client, NAMESPACE);
        let all = ListParams::default();
        clusters
            .delete_collection(&DeleteParams::default(), &all)
            .await?;
        let gone = || async {
            let left = clusters.list(&all).await.ok()?.items.len()
                + configurations.list(&all).await.ok()?.items.len();
            (left == 0).then_some(())
        };
        if try_wait_for(RELEASE, gone).await.is_none() {
            clock.tell("not all clusters could be deleted in time; their finalizers are taken off");
        }
        Ok(())
    }

    /// Removes the namespace and the definitions that carry the sandbox's label, whoever made them.
    pub(crate) async fn remove(&self, clock: &Clock) -> Result<(), Failure> {
        let client = &self.client;
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let mut emptied = Ok(());
        if namespaces
            .get_opt(NAMESPACE)
            .await?
            .is_some_and(|found| is_ours(&found))
        {
            // NICO and NIO's stand-in, which would take them off, run no more.
            if self.serves_definitions().await? {
                strip(&crds::clusters(client, NAMESPACE)).await?;
                strip(&crds::configurations(client, NAMESPACE)).await?;
                strip(&crds::machines(client, NAMESPACE)).await?;
            }
            strip_all::<Secret>(client).await?;
            strip_all::<ConfigMap>(client).await?;
            emptied = delete(&namespaces, NAMESPACE).await;
        }
        let stored: Api<CustomResourceDefinition> = Api::all(client.clone());
        for definition in definitions::all() {
            let name = definitions::name(&definition);
            if stored
                .get_opt(name)
                .await?
                .is_some_and(|found| is_ours(&found))
            {
                delete(&stored, name).await?;
            }
        }
        emptied?;
        clock.tell(&format!(
            "removed from the cluster of context {}: the namespace {NAMESPACE} and the definitions",
            self.context
        ));
        Ok(())
    }

    async fn serves_definitions(&self) -> Result<bool, Failure> {
        let stored: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        for definition in definitions::all() {
            if stored
                .get_opt(definitions::name(&definition))
                .await?
                .is_none()
            {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Removes what a killed sandbox left in a cluster.
pub(crate) async fn clean(clock: &Clock, context: &str) -> Result<(), Failure> {
    Existing::reach(context).await?.remove(clock).await
}

/// Whether an object carries the sandbox's label.
fn is_ours(object: &impl ResourceExt) -> bool {
    object
        .labels()
        .get(LABEL.0)
        .is_some_and(|value| value == LABEL.1)
}

async fn strip_all<K>(client: &Client) -> Result<(), Failure>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    strip(&Api::<K>::namespaced(client.clone(), NAMESPACE)).await
}

/// Takes the finalizers off everything in a namespace.
async fn strip<K: Resource + Clone + DeserializeOwned + std::fmt::Debug>(
    api: &Api<K>,
) -> Result<(), Failure> {
    let nothing = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    for object in api.list_metadata(&ListParams::default()).await?.items {
        if object.finalizers().is_empty() {
            continue;
        }
        match api
            .patch_metadata(&object.name_any(), &PatchParams::default(), &nothing)
            .await
        {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            other => drop(other?),
        }
    }
    Ok(())
}

/// Deletes an object and waits until it is gone.
async fn delete<K: Resource + Clone + DeserializeOwned + std::fmt::Debug>(
    api: &Api<K>,
    name: &str,
) -> Result<(), Failure> {
    match api.delete(name, &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
        other => drop(other?),
    }
    let gone = || async { api.get_opt(name).await.ok()?.is_none().then_some(()) };
    let waited = try_wait_for(REMOVAL, gone).await;
    waited.ok_or_else(|| {
        format!(
            "{name} is being deleted, but is still there after {} s; the cluster itself must finish that",
            REMOVAL.as_secs()
        )
        .into()
    })
}

/// An error with all its causes.
fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        next = error.source();
    }
    text
}
