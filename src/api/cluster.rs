//! `KubernetesCluster` on the wire (SPEC 1): its spec as users write it, its definition, and the lenient form that the watch reads.
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

use super::nio::lenient;
use super::rules::{DEFAULT_DRAIN_TIMEOUT, DEFAULT_PORT, DEFAULT_PROGRESS_DEADLINE};
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
        description = "Control plane machines: confirmed of those asked for"
    ),
    printcolumn(
        name = "Workers",
        type_ = "string",
        json_path = ".status.dataPlane.summary",
        description = "Workers: confirmed of those asked for"
    ),
    printcolumn(
        name = "Revision",
        type_ = "string",
        json_path = ".status.revision",
        description = "What every machine is to have, in short"
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
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = schema::spec_rules()))]
pub struct ClusterSpec {
    /// Flake repository with one output for each machine, `#<machine>`: https, http, ssh or git URL, or
    /// `user@host:path`. No password in it: name a Secret in `credentialsRef`. Default: the operator's
    /// `--default-git-repo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::git_repo")]
    pub git_repo: Option<String>,

    /// Branch, tag or commit of the repository. Absent: NIO decides, which means the default of its own schema.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::git_ref")]
    pub git_ref: Option<String>,

    /// Who turns `ref` into a commit. `Pin`: NICO does, and rolls each new commit out machine by machine. `Follow`: NIO
    /// does, everywhere at once. Default: `Pin` with NIO v1; `Follow` with classic NIO, which cannot pin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RefPolicy")]
    pub ref_policy: Option<RefPolicy>,

    /// Directory of the flake within the repository, like `clusters/prod`. Absent: the root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::subdir")]
    pub configuration_subdir: Option<String>,

    /// Secret, in this namespace, with the credentials of a private repository, in NIO's form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_ref: Option<CredentialsRef>,

    /// Machines that run the control plane; at least one, and an odd number keeps quorum best.
    pub control_plane: ControlPlaneSpec,

    /// Machines that run workloads only. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_plane: Option<DataPlaneSpec>,

    /// Address of a VIP or load balancer in front of the control plane; written into cluster.nix and the kubeconfig.
    /// The flake's certificates must cover it. Absent: a control plane machine's own address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_plane_endpoint: Option<EndpointSpec>,

    /// Wipe and partition the disks (nixos-anywhere) when a machine gets its first configuration. With NIO v1 only;
    /// refused with classic NIO, which would wipe again later. Default: false.
    #[serde(default)]
    pub full_install: bool,

    /// Give each machine its own private SSH key as the file `machine-ssh-key`. Default: true.
    #[serde(default = "yes", rename = "injectSSHKey")]
    pub inject_ssh_key: bool,

    /// How the admin kubeconfig is read from a control plane machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<KubeconfigSpec>,

    /// Change nothing but status until this is false again; a deletion waits, too. Default: false.
    #[serde(default)]
    pub paused: bool,

    /// How a living cluster is changed.
    #[serde(default)]
    pub rollout: RolloutSpec,
}

/// Reference to a Secret of the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CredentialsRef {
    /// Name of the Secret.
    #[schemars(schema_with = "schema::secret_name")]
    pub name: String,
}

/// Machines of the control plane.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = schema::control_plane_rules()))]
pub struct ControlPlaneSpec {
    /// Names of Machines in this namespace. Where there are any, `machineSelector` and `count` are ignored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::control_plane_machines")]
    pub machines: Vec<String>,

    /// Which Machines may be taken, by their labels; goes with `count`. An empty selector matches every Machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::selector")]
    pub machine_selector: Option<LabelSelector>,

    /// How many of the Machines that match are taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::control_plane_count")]
    pub count: Option<i32>,
}

/// Workers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = schema::data_plane_rules()))]
pub struct DataPlaneSpec {
    /// Names of Machines in this namespace. Where there are any, `machineSelector` and `count` are ignored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::data_plane_machines")]
    pub machines: Vec<String>,

    /// Which Machines may be taken, by their labels; goes with `count`. An empty selector matches every Machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::selector")]
    pub machine_selector: Option<LabelSelector>,

    /// How many of the Machines that match are taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::data_plane_count")]
    pub count: Option<i32>,
}

/// An address in front of the control plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EndpointSpec {
    /// DNS name or IP address, without scheme, port or brackets.
    #[schemars(schema_with = "schema::host")]
    pub host: String,
    /// TCP port. Default: 6443.
    #[serde(default = "default_port")]
    #[schemars(schema_with = "schema::port")]
    pub port: u16,
}

/// How the admin kubeconfig is read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KubeconfigSpec {
    /// Absolute path of the file on the machine. Absent: the places where k3s, RKE2, k0s, kubeadm and NixOS' own module
    /// put it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::kubeconfig_path")]
    pub path: Option<String>,
}

/// How a living cluster is changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RolloutSpec {
    /// Which role is updated first. `ControlPlaneFirst` is what Kubernetes asks for on a minor upgrade. Default:
    /// `WorkersFirst`.
    pub order: RolloutOrder,

    /// Workers updated at a time: a number, or a percentage like `25%`, rounded down but at least 1. The control plane
    /// is always updated one machine at a time. Default: 1.
    #[schemars(schema_with = "schema::max_unavailable")]
    pub max_unavailable: IntOrString,

    /// Seconds within which a machine must be confirmed; otherwise the rollout stops. Default: 4200, since NIO itself
    /// gives an apply 3600.
    #[schemars(schema_with = "schema::progress_deadline")]
    pub progress_deadline_seconds: u32,

    /// Whether nodes and API servers of the cluster itself must be well before the next machine is changed. Default:
    /// true.
    pub node_checks: bool,

    /// Seconds that the pods of a leaving machine are given; 0: they are not evicted. Default: 300.
    #[schemars(schema_with = "schema::drain_timeout")]
    pub drain_timeout_seconds: u32,
}

impl Default for RolloutSpec {
    fn default() -> Self {
        Self {
            order: RolloutOrder::WorkersFirst,
            max_unavailable: IntOrString::Int(1),
            progress_deadline_seconds: DEFAULT_PROGRESS_DEADLINE,
            node_checks: true,
            drain_timeout_seconds: DEFAULT_DRAIN_TIMEOUT,
        }
    }
}

fn yes() -> bool {
    true
}

fn default_port() -> u16 {
    DEFAULT_PORT
}

/// A `KubernetesCluster` as the watch reads it: any spec decodes, so that one malformed object (an older definition let it
/// through) stops neither the watch nor other clusters.
#[derive(kube::Resource, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[resource(inherit = KubernetesCluster)]
pub struct RawCluster {
    /// Standard object metadata.
    pub metadata: ObjectMeta,
    /// The spec as stored; null where there is none.
    #[serde(default)]
    pub spec: Value,
    /// The status; absent where it is not what NICO writes.
    #[serde(
        default,
        deserialize_with = "lenient",
        skip_serializing_if = "Option::is_none"
    )]
    pub status: Option<ClusterStatus>,
}

/// The definition of `KubernetesCluster`, with all that the API server can check (SPEC 1.1).
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
        }
    }
    crd
}
