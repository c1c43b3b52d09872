//! Objects that an earlier cluster of the same name left: a restored backup, or a deletion with `--cascade=orphan`.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::api::ledger::LedgerError;
use crate::api::names::{CLUSTER_LABEL, ClusterId, GROUP};
use crate::plan::writes::{Child, Precondition};

use super::bears_labels;

/// Advice about an object that was left.
pub const PAUSE: &str = "was left by an earlier KubernetesCluster of this name: set spec.paused to true to have NICO take it back";

/// The children other than configurations that have a cluster's labels and no existing owner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// The id in the ledger, if the ledger is one of them.
    pub id: Option<ClusterId>,
    /// Why the ledger cannot be read, if it was left and cannot be.
    pub unreadable: Option<LedgerError>,
    /// By child: the version that was read.
    pub children: BTreeMap<Child, Precondition>,
}

/// The name of the cluster whose labels an object has, if no other object owns it. An owner with that name and another uid no longer
/// exists, because names are unique.
#[must_use]
pub fn left_by(meta: &ObjectMeta) -> Option<&str> {
    let cluster = meta.labels.as_ref()?.get(CLUSTER_LABEL)?;
    let mut owners = meta.owner_references.iter().flatten();
    (bears_labels(meta, cluster) && owners.all(|owner| is_cluster(owner, cluster)))
        .then_some(cluster.as_str())
}

fn is_cluster(owner: &OwnerReference, name: &str) -> bool {
    let group = owner.api_version.split_once('/').map(|(group, _)| group);
    group == Some(GROUP) && owner.kind == "KubernetesCluster" && owner.name == name
}
