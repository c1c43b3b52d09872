//! The Secret of a kubeconfig, and the parts of it that are not secret.

use jiff::Timestamp;

/// Secret type by which Cluster API and Flux find a kubeconfig.
pub const KUBECONFIG_TYPE: &str = "cluster.x-k8s.io/secret";
/// Label by which Cluster API and Flux find a kubeconfig: the cluster's name.
pub const KUBECONFIG_LABEL: &str = "cluster.x-k8s.io/cluster-name";
/// Key of the kubeconfig in its Secret (Cluster API).
pub const VALUE_KEY: &str = "value";
/// The same, under a name that users look for.
pub const KUBECONFIG_KEY: &str = "kubeconfig";

/// The parts of a kubeconfig Secret that are not secret; only of one that is unchanged since NICO wrote it.
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
