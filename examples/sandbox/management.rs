//! The management cluster: an API server of the sandbox's own, or an existing cluster.

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Client;
use kube::api::{Api, PostParams};
use kube::config::{AuthInfo, Kubeconfig};
use rig::control_plane::{ControlPlane, Options};
use rig::deploy;
use rig::environment::repository;
use serde_json::{Value, json};

use crate::existing::Existing;
use crate::story::Clock;
use crate::{Failure, definitions};

/// The namespace of the sandbox's own management cluster, as in the samples.
const NAMESPACE: &str = "clusters";
/// How long NICO's token is valid: longer than anybody plays.
const TOKEN_SECONDS: i64 = 24 * 3600;

/// The management cluster.
pub(crate) enum Management {
    /// An API server that ends with the session.
    Own(Box<Own>),
    /// A cluster of the user's, from which all is removed at the end.
    Existing(Box<Existing>),
}

/// An API server of the sandbox's own.
pub(crate) struct Own {
    control_plane: ControlPlane,
    client: Client,
    kubeconfig: Kubeconfig,
}

impl Management {
    /// Starts an API server of the sandbox's own.
    pub(crate) async fn own() -> Result<Self, Failure> {
        let control_plane = ControlPlane::start(Options::management()).await?;
        let client = control_plane.client();
        let kubeconfig = Kubeconfig::from_yaml(control_plane.admin_kubeconfig())?;
        Ok(Self::Own(Box::new(Own {
            control_plane,
            client,
            kubeconfig: in_namespace(kubeconfig, NAMESPACE),
        })))
    }

    /// An administrator's client.
    pub(crate) fn client(&self) -> &Client {
        match self {
            Self::Own(own) => &own.client,
            Self::Existing(existing) => existing.client(),
        }
    }

    /// Where the sandbox's objects are.
    pub(crate) fn namespace(&self) -> &str {
        match self {
            Self::Own(_) => NAMESPACE,
            Self::Existing(existing) => existing.namespace(),
        }
    }

    /// The namespace to which NICO is confined; in the sandbox's own cluster it works everywhere.
    pub(crate) fn watched_namespace(&self) -> Option<String> {
        match self {
            Self::Own(_) => None,
            Self::Existing(existing) => Some(existing.namespace().to_owned()),
        }
    }

    /// The API server's own processes, with their memory in bytes.
    pub(crate) fn memory(&self) -> Vec<(&'static str, u64)> {
        match self {
            Self::Own(own) => own.control_plane.rss(),
            Self::Existing(_) => vec![],
        }
    }

    /// A kubeconfig of one context, with the sandbox's namespace as the default.
    pub(crate) fn kubeconfig(&self) -> Result<String, Failure> {
        Ok(serde_yaml::to_string(self.config())?)
    }

    fn config(&self) -> &Kubeconfig {
        match self {
            Self::Own(own) => &own.kubeconfig,
            Self::Existing(existing) => existing.kubeconfig(),
        }
    }

    /// Installs definitions, namespace and NICO's rights.
    pub(crate) async fn install(&self, clock: &Clock) -> Result<(), Failure> {
        match self {
            Self::Own(own) => {
                definitions::install(&own.client, &definitions::all()).await?;
                // Or the garbage collector would learn of the new kinds half a minute late.
                own.control_plane.restart_controllers()?;
                let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
                let mut objects = vec![namespace];
                objects.extend(deploy::rights(&repository().join("deploy/base")));
                apply(&own.client, NAMESPACE, objects).await?;
            }
            Self::Existing(existing) => existing.install().await?,
        }
        clock.tell("installed: the CustomResourceDefinitions of NIO (machines, nixosconfigurations) and NICO (kubernetesclusters), and NICO's rights");
        Ok(())
    }

    /// `namespace/name` of NICO's ServiceAccount.
    pub(crate) fn service_account(&self) -> String {
        let (namespace, name) = self.account();
        format!("{namespace}/{name}")
    }

    fn account(&self) -> (String, String) {
        let shipped = deploy::service_account(&deploy::rights(&repository().join("deploy/base")));
        let (namespace, name) =
            shipped.unwrap_or_else(|| ("nico-system".to_owned(), "nico".to_owned()));
        match self {
            Self::Own(_) => (namespace, name),
            Self::Existing(existing) => (existing.namespace().to_owned(), name),
        }
    }

    /// A kubeconfig with a token of NICO's ServiceAccount and nothing else.
    pub(crate) async fn nico_kubeconfig(&self) -> Result<String, Failure> {
        let (namespace, name) = self.account();
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                expiration_seconds: Some(TOKEN_SECONDS),
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client().clone(), &namespace);
        let answer = accounts
            .create_token_request(&name, &PostParams::default(), &request)
            .await?;
        let token = answer
            .status
            .and_then(|status| status.token)
            .ok_or("NICO's ServiceAccount got no token")?;
        let mut config = self.config().clone();
        for user in &mut config.auth_infos {
            user.auth_info = Some(AuthInfo {
                token: Some(token.clone().into()),
                ..AuthInfo::default()
            });
        }
        Ok(serde_yaml::to_string(&config)?)
    }
}

/// Applies objects; those without a namespace get this one.
pub(crate) async fn apply(
    client: &Client,
    namespace: &str,
    objects: Vec<Value>,
) -> Result<(), Failure> {
    for object in objects {
        deploy::apply_value(client, namespace, object).await?;
    }
    Ok(())
}

/// The current context alone, with this namespace as its default.
pub(crate) fn in_namespace(mut config: Kubeconfig, namespace: &str) -> Kubeconfig {
    let current = config.current_context.clone().unwrap_or_default();
    config.contexts.retain(|context| context.name == current);
    let (mut cluster, mut user) = (String::new(), None);
    for context in config
        .contexts
        .iter_mut()
        .filter_map(|named| named.context.as_mut())
    {
        context.namespace = Some(namespace.to_owned());
        cluster.clone_from(&context.cluster);
        user.clone_from(&context.user);
    }
    config.clusters.retain(|named| named.name == cluster);
    config
        .auth_infos
        .retain(|named| Some(&named.name) == user.as_ref());
    config
}
