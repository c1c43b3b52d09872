//! The Secret that a kubeconfig is stored in, and what in it is no secret.

use jiff::Timestamp;

/// Secret type by which Cluster API and Flux find a kubeconfig.
pub const KUBECONFIG_TYPE: &str = "cluster.x-k8s.io/secret";
/// Label by which Cluster API and Flux find a kubeconfig: the cluster's name.
pub const KUBECONFIG_LABEL: &str = "cluster.x-k8s.io/cluster-name";
/// Key of the kubeconfig in its Secret (Cluster API).
pub const VALUE_KEY: &str = "value";
/// The same again, for people.
pub const KUBECONFIG_KEY: &str = "kubeconfig";

/// What is no secret in a Secret with a kubeconfig that is as NICO wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubeconfigFacts {
    /// The cluster that its label names.
    pub cluster: String,
    /// Host that it leads to.
    pub host: String,
    /// The endpoint of the spec that it was made for; empty where there was none.
    pub endpoint: String,
    /// Port of the members' API servers; `None` where that is not known.
    pub port: Option<u16>,
    /// From when to when its client certificate is valid; `None` where it has none.
    pub client_certificate: Option<(Timestamp, Timestamp)>,
    /// When it was stored; `None` where an older version did that.
    pub stored: Option<Timestamp>,
}
