//! `nico crd`: the definition of `KubernetesCluster` as YAML.

use crate::api::cluster::crd;

/// The comment above the definition, which itself is generated.
const HEADER: &str = "\
# The definition of KubernetesCluster, as `nico crd` prints it.
# Generated from src/api/cluster.rs; a test holds both equal. Do not edit.
";

/// The definition as YAML, with a comment that says where it comes from.
pub fn print() -> Result<String, serde_yaml::Error> {
    Ok(format!("{HEADER}{}", serde_yaml::to_string(&crd())?))
}
