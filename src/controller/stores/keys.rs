//! Index keys of the stores.

use kube::Resource;

use crate::api::names::CLUSTER_LABEL;
use crate::api::nio::NixosConfiguration;
use crate::plan::observed::controller;

/// Index keys of a configuration: the machine to which it refers, the uid of its controller, and the cluster of its label.
#[must_use]
pub fn configuration_keys(configuration: &NixosConfiguration) -> Vec<String> {
    let machine = configuration.spec.machine().map(machine_key);
    let owner = controller(&configuration.metadata).map(|owner| owner_key(&owner.uid));
    let labels = configuration.metadata.labels.as_ref();
    let label = labels
        .and_then(|labels| labels.get(CLUSTER_LABEL))
        .map(|cluster| label_key(cluster));
    let own = configuration.metadata.uid.as_deref().map(uid_key);
    let keys = machine.into_iter().chain(owner).chain(label).chain(own);
    keys.collect()
}

/// Index key of the configurations that refer to a machine.
#[must_use]
pub fn machine_key(machine: &str) -> String {
    format!("machine/{machine}")
}

/// Index key of the configurations with a cluster's label.
#[must_use]
pub fn label_key(cluster: &str) -> String {
    format!("label/{cluster}")
}

/// Index key of the configurations that a cluster owns.
#[must_use]
pub fn owner_key(uid: &str) -> String {
    format!("owner/{uid}")
}

/// Index keys of objects that configurations own through others: the uid of the controller, and the object's own uid, to find an owner by
/// its uid.
#[must_use]
pub fn owned_keys<K: Resource>(object: &K) -> Vec<String> {
    let meta = object.meta();
    let owner = controller(meta).map(|owner| owner_key(&owner.uid));
    let own = meta.uid.as_deref().map(uid_key);
    owner.into_iter().chain(own).collect()
}

/// Index key of the object with a uid.
#[must_use]
pub fn uid_key(uid: &str) -> String {
    format!("uid/{uid}")
}
