//! `KubernetesCluster` on the wire: its spec as users write it, its definition, and the lenient form that the watch reads.
//!
//! The program itself works with [`super::spec::ValidSpec`], which [`super::validate::validate`] makes of a spec.

#![allow(
    clippy::duplicated_attributes,
    reason = "several printer columns have one type"
)]

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{CustomResource, CustomResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::metadata::cluster_metadata;
use super::read::{lenient, object, whole};
use super::rules;
use super::schema;
use super::spec::{RefPolicy, RolloutOrder};
use super::status::ClusterStatus;

/// What the cluster consists of and how it is changed.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "nico.homystack.com",
    version = "v1alpha1",
    kind = "KubernetesCluster",
    plural = "kubernetesclusters",
    shortname = "kcluster",
    shortname = "k8scluster",
    namespaced,
    derive = "PartialEq",
    status = "ClusterStatus",
    doc = "A Kubernetes cluster on NixOS machines managed by NIO. Whoever may create one is root on the Machines of its namespace.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether the cluster is as the spec asks"
    ),
    printcolumn(
        name = "Phase",
        type_ = "string",
        json_path = ".status.phase",
        description = "Provisioning, Ready, Failed or Deleting"
    ),
    printcolumn(
        name = "Control plane",
        type_ = "string",
        json_path = ".status.controlPlane.summary",
        description = "Control plane machines: how many NIO has applied, of those asked for"
    ),
    printcolumn(
        name = "Workers",
        type_ = "string",
        json_path = ".status.dataPlane.summary",
        description = "Workers: how many NIO has applied, of those asked for"
    ),
    printcolumn(
        name = "Updated",
        type_ = "string",
        json_path = ".status.updated",
        description = "Machines that are up to date, of those asked for"
    ),
    printcolumn(
        name = "Paused",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Paused")].status"#,
        description = "Whether spec.paused stops every change"
    ),
    printcolumn(
        name = "Revision",
        type_ = "string",
        json_path = ".status.revision",
        description = "Digest of what every machine is to have; not a commit"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    printcolumn(
        name = "Kubeconfig",
        type_ = "string",
        json_path = ".status.kubeconfigSecret",
        description = "Secret with the admin kubeconfig",
        priority = "1"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        description = "Why the cluster is Ready or not",
        priority = "1"
    )
)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["controlPlane"], "x-kubernetes-validations" = schema::spec_rules()))]
pub struct ClusterSpec {
    /// Flake repository with one output for each machine, `#<machine>`: https, http, ssh or git URL, or
    /// `user@host:path`. No password in it: name a Secret in `credentialsRef`. Default: the operator's
    /// `--default-git-repo`.
    #[schemars(transform = schema::text(&rules::GIT_REPO))]
    pub git_repo: Option<String>,

    /// Branch, tag or commit of the repository. Default: that of NIO, which is `main`.
    #[serde(rename = "ref")]
    #[schemars(transform = schema::text(&rules::GIT_REF))]
    pub git_ref: Option<String>,

    /// Who turns `ref` into a commit. `Pin`: NICO does, and rolls each new commit out machine by machine. `Follow`: NIO
    /// does, everywhere at once. Default: `Pin` with NIO v1; `Follow` with classic NIO, which cannot pin.
    #[schemars(with = "RefPolicy")]
    pub ref_policy: Option<RefPolicy>,

    /// Directory of the flake within the repository, like `clusters/prod`, without a slash at the end. Default: the root.
    #[schemars(transform = schema::text(&rules::SUBDIR))]
    pub configuration_subdir: Option<String>,

    /// Secret, in this namespace, with the credentials of a private repository, in NIO's form.
    #[serde(deserialize_with = "object")]
    pub credentials_ref: Option<CredentialsRef>,

    /// Machines that run the control plane; at least one, and an odd number keeps quorum best.
    #[serde(deserialize_with = "object")]
    #[schemars(transform = schema::pool(&rules::CONTROL_PLANE))]
    pub control_plane: Option<PoolSpec>,

    /// Machines that run workloads only. Default: none.
    #[serde(deserialize_with = "object")]
    #[schemars(transform = schema::pool(&rules::DATA_PLANE))]
    pub data_plane: Option<PoolSpec>,

    /// Address of a VIP or load balancer in front of the control plane; written into cluster.nix and the kubeconfig.
    /// The flake's certificates must cover it. Default: a control plane machine's own address.
    #[serde(deserialize_with = "object")]
    pub control_plane_endpoint: Option<EndpointSpec>,

    /// Wipe and partition the disks (nixos-anywhere) when a machine gets its first configuration. With NIO v1 only;
    /// refused with classic NIO, which would wipe again later. Default: false.
    pub full_install: Option<bool>,

    /// Give each machine its own private SSH key as the file `machine-ssh-key`. Default: true.
    #[serde(rename = "injectSSHKey")]
    pub inject_ssh_key: Option<bool>,

    /// How the admin kubeconfig is read from a control plane machine.
    #[serde(deserialize_with = "object")]
    pub kubeconfig: Option<KubeconfigSpec>,

    /// Change nothing but status until this is false again; a deletion waits, too. Default: false.
    pub paused: Option<bool>,

    /// How changes are rolled out.
    #[serde(deserialize_with = "object")]
    pub rollout: Option<RolloutSpec>,
}

/// Reference to a Secret of the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["name"]))]
pub struct CredentialsRef {
    /// Name of the Secret.
    #[schemars(transform = schema::text(&rules::SECRET_NAME))]
    pub name: Option<String>,
}

/// Machines of one role.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PoolSpec {
    /// Names of Machines in this namespace; DNS labels, so none with a dot. Where there are any, `machineSelector` and `count` are ignored.
    pub machines: Option<Vec<String>>,

    /// Which Machines may be taken, by their labels; goes with `count`. An empty selector matches every Machine.
    #[schemars(transform = schema::selector)]
    pub machine_selector: Option<LabelSelector>,

    /// How many of the Machines that match are taken.
    #[serde(deserialize_with = "whole")]
    pub count: Option<i64>,
}

/// An address in front of the control plane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["host"]))]
pub struct EndpointSpec {
    /// DNS name or IP address, without scheme, port or brackets.
    #[schemars(transform = schema::text(&rules::HOST))]
    pub host: Option<String>,
    /// TCP port. Default: 6443.
    #[serde(deserialize_with = "whole")]
    #[schemars(transform = schema::number(&rules::PORT))]
    pub port: Option<i64>,
}

/// How the admin kubeconfig is read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct KubeconfigSpec {
    /// Absolute path of the file on the machine. Default: the places where k3s, RKE2, k0s, kubeadm and NixOS' own module
    /// put it.
    #[schemars(transform = schema::text(&rules::KUBECONFIG_PATH))]
    pub path: Option<String>,
}

/// How changes are rolled out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RolloutSpec {
    /// Which role is updated first. `ControlPlaneFirst` is what Kubernetes asks for on a minor upgrade. Default:
    /// `WorkersFirst`.
    #[schemars(with = "RolloutOrder")]
    pub order: Option<RolloutOrder>,

    /// Workers updated at a time: a number, or a percentage like `25%`, rounded down but at least 1. The control plane
    /// is always updated one machine at a time. Default: 1.
    #[schemars(schema_with = "schema::max_unavailable")]
    pub max_unavailable: Option<IntOrString>,

    /// Seconds within which NIO must apply a machine; otherwise the rollout stops. Default: 4200, since NIO itself
    /// gives an apply 3600.
    #[serde(deserialize_with = "whole")]
    #[schemars(transform = schema::number(&rules::PROGRESS_DEADLINE))]
    pub progress_deadline_seconds: Option<i64>,

    /// Whether nodes and API servers of the cluster itself must be well before the next machine is changed. Default:
    /// true.
    pub node_checks: Option<bool>,

    /// Seconds that the pods of a leaving machine are given; 0: they are not evicted. Default: 300.
    #[serde(deserialize_with = "whole")]
    #[schemars(transform = schema::number(&rules::DRAIN_TIMEOUT))]
    pub drain_timeout_seconds: Option<i64>,
}

/// A `KubernetesCluster` as the watch reads it: any spec decodes, so that one malformed object (an older definition let it
/// through) stops neither the watch nor other clusters.
#[derive(kube::Resource, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[resource(inherit = KubernetesCluster)]
pub struct RawCluster {
    /// Standard object metadata, as far as NICO works with it.
    #[serde(deserialize_with = "cluster_metadata")]
    pub metadata: ObjectMeta,
    /// The spec as stored; null where there is none.
    #[serde(default, deserialize_with = "lenient")]
    pub spec: Value,
    /// The status; absent where it is not what NICO writes.
    #[serde(
        default,
        deserialize_with = "lenient",
        skip_serializing_if = "Option::is_none"
    )]
    pub status: Option<ClusterStatus>,
}

/// The definition of `KubernetesCluster`, with all that the API server can check.
#[must_use]
pub fn crd() -> CustomResourceDefinition {
    let mut crd = KubernetesCluster::crd();
    for version in &mut crd.spec.versions {
        if let Some(root) = version
            .schema
            .as_mut()
            .and_then(|schema| schema.open_api_v3_schema.as_mut())
        {
            schema::tidy(root);
            schema::restrict_name(root);
            schema::default_observed_generation(root);
        }
    }
    crd
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::crd;

    /// The places of a schema where the API server would write a default.
    fn defaults(schema: &Value, at: &str) -> Vec<String> {
        let own = schema.get("default").map(|_| at.to_owned());
        let properties = schema["properties"].as_object().into_iter().flatten();
        let properties = properties.map(|(name, schema)| defaults(schema, &format!("{at}.{name}")));
        let items = schema.get("items").map(|schema| defaults(schema, at));
        let below = properties.chain(items).flatten();
        own.into_iter().chain(below).collect()
    }

    /// To a tool that compares what was applied with what is stored, a default in a spec is drift.
    #[test]
    fn nothing_is_written_into_a_spec() {
        let definition = serde_json::to_value(crd()).unwrap_or_default();
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let spec = &schema["properties"]["spec"];
        assert!(spec["properties"]["rollout"]["properties"].is_object());
        assert_eq!(defaults(spec, "spec"), Vec::<String>::new());
    }
}
