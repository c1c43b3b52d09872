//! The metadata of objects, as far as NICO uses it. Others write it too, so what is kept of it is bounded.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::kubeconfig::KUBECONFIG_LABEL;
use super::names::{
    ACCEPT_QUORUM_LOSS_ANNOTATION, ADOPT_ANNOTATION, CLUSTER_FINALIZER, CLUSTER_LABEL,
    CONFIRMED_ANNOTATION, DIGEST_ANNOTATION, ENDPOINT_ANNOTATION, FORCE_RELEASE_ANNOTATION,
    IN_USE_FINALIZER, MANAGED_BY_LABEL, NIO_FINALIZERS, ORPHAN_FINALIZER, PORT_ANNOTATION,
    RELEASE_ANNOTATION, REWRITTEN_ANNOTATION, ROLE_LABEL, STORED_ANNOTATION, TOUCHED_ANNOTATION,
    WRITTEN_ANNOTATION,
};
use super::read::{lenient, object, of_few_values};

/// Replaces the part of a field that is not kept. The API server accepts it neither as a label, a finalizer nor an owner, and NICO never
/// writes it: a field with it differs from everything that NICO writes.
pub const CUT: &str = "(longer than NICO keeps)";

/// Most bytes of labels, finalizers or owners that are kept, and most of them. Objects have a few of each.
const LONGEST_LIST: usize = 8 * 1024;
const MOST_IN_LIST: usize = 128;
/// Most bytes of an annotation of NICO's, but for `force-release` of a cluster. The longest is an endpoint: a host and a port.
const LONGEST_ANNOTATION: usize = 512;
/// Most bytes of `force-release`: as many names as a cluster can have machines, with room for spaces.
const LONGEST_FORCE_RELEASE: usize = 128 * 1024;
/// Most bytes of a part of an owner reference where not all owners are kept.
const LONGEST_NAME: usize = 253;

/// The labels that NICO reads by name.
const LABELS: [&str; 4] = [
    MANAGED_BY_LABEL,
    CLUSTER_LABEL,
    ROLE_LABEL,
    KUBECONFIG_LABEL,
];
/// The annotations that NICO reads. Those of others are as large as the object.
const ANNOTATIONS: [&str; 12] = [
    ACCEPT_QUORUM_LOSS_ANNOTATION,
    ADOPT_ANNOTATION,
    CONFIRMED_ANNOTATION,
    DIGEST_ANNOTATION,
    ENDPOINT_ANNOTATION,
    FORCE_RELEASE_ANNOTATION,
    RELEASE_ANNOTATION,
    REWRITTEN_ANNOTATION,
    PORT_ANNOTATION,
    STORED_ANNOTATION,
    TOUCHED_ANNOTATION,
    WRITTEN_ANNOTATION,
];

/// The metadata of an object that is no cluster.
pub fn metadata<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    kept(deserializer, LONGEST_ANNOTATION)
}

/// The metadata of an object that NICO never writes, whoever owns it.
pub(super) fn metadata_of_machine<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<ObjectMeta, D::Error> {
    Ok(ObjectMeta {
        finalizers: None,
        owner_references: None,
        ..metadata(deserializer)?
    })
}

/// The metadata of an object of which NICO needs to know that it exists, and its controller.
pub(super) fn metadata_of_work<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<ObjectMeta, D::Error> {
    let mut kept = metadata(deserializer)?;
    if let Some(owners) = &mut kept.owner_references {
        owners.retain(|owner| owner.controller == Some(true));
        owners.shrink_to_fit();
    }
    Ok(ObjectMeta {
        finalizers: None,
        labels: None,
        annotations: None,
        ..kept
    })
}

/// The metadata of a cluster.
pub(super) fn cluster_metadata<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<ObjectMeta, D::Error> {
    kept(deserializer, LONGEST_FORCE_RELEASE)
}

/// The labels of an object; `None` if it has more than are kept, because whether a selector matches is then unknown.
#[must_use]
pub fn labels(meta: &ObjectMeta) -> Option<&BTreeMap<String, String>> {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    let labels = meta.labels.as_ref().unwrap_or(&NONE);
    (!labels.contains_key(CUT)).then_some(labels)
}

/// Reads each field by itself: an invalid field counts as absent. `managedFields` and the annotations of others are never kept: a merge
/// patch leaves them as they are.
fn kept<'de, D: Deserializer<'de>>(
    deserializer: D,
    longest_force_release: usize,
) -> Result<ObjectMeta, D::Error> {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Kept {
        #[serde(deserialize_with = "lenient")]
        name: Option<String>,
        #[serde(deserialize_with = "lenient")]
        namespace: Option<String>,
        #[serde(deserialize_with = "lenient")]
        uid: Option<String>,
        #[serde(deserialize_with = "lenient")]
        resource_version: Option<String>,
        #[serde(deserialize_with = "lenient")]
        generation: Option<i64>,
        #[serde(deserialize_with = "lenient")]
        creation_timestamp: Option<Time>,
        #[serde(deserialize_with = "lenient")]
        deletion_timestamp: Option<Time>,
        #[serde(deserialize_with = "finalizers")]
        finalizers: Option<Vec<String>>,
        #[serde(deserialize_with = "kept_labels")]
        labels: Option<BTreeMap<String, String>>,
        #[serde(deserialize_with = "lenient")]
        annotations: Option<BTreeMap<String, String>>,
        #[serde(deserialize_with = "owners")]
        owner_references: Option<Vec<OwnerReference>>,
    }

    let kept = object::<D, Kept>(deserializer)?.unwrap_or_default();
    let annotations = kept.annotations.map(|mut annotations| {
        annotations.retain(|key, _| ANNOTATIONS.contains(&key.as_str()));
        for (key, value) in &mut annotations {
            let longest = match key.as_str() {
                FORCE_RELEASE_ANNOTATION => longest_force_release,
                _ => LONGEST_ANNOTATION,
            };
            if value.len() > longest {
                *value = cut_annotation(key, value, longest);
            }
        }
        annotations
    });
    Ok(ObjectMeta {
        name: kept.name,
        namespace: kept.namespace,
        uid: kept.uid,
        resource_version: kept.resource_version,
        generation: kept.generation,
        creation_timestamp: kept.creation_timestamp,
        deletion_timestamp: kept.deletion_timestamp,
        finalizers: kept.finalizers,
        labels: kept.labels,
        annotations: annotations.filter(|annotations| !annotations.is_empty()),
        owner_references: kept.owner_references,
        ..ObjectMeta::default()
    })
}

/// The names of a list that are short enough to be kept; an empty list for any other text.
fn cut_annotation(key: &str, value: &str, longest: usize) -> String {
    let mut bytes = value.as_bytes().iter().take(longest);
    let names = bytes.rposition(|byte| *byte == b',');
    let names = names.and_then(|end| value.get(..end));
    match names {
        Some(names) if key == FORCE_RELEASE_ANNOTATION => names.to_owned(),
        _ => CUT.to_owned(),
    }
}

/// A list that is short enough to be kept, or else the result of `cut`.
fn short_or<'de, D: Deserializer<'de>, T: serde::de::DeserializeOwned>(
    deserializer: D,
    most_values: usize,
    cut: impl FnOnce(T) -> T,
) -> Result<Option<T>, D::Error> {
    let text = Box::<RawValue>::deserialize(deserializer)?;
    let whole: Option<T> = serde_json::from_str(text.get()).unwrap_or_default();
    let is_short = text.get().len() <= LONGEST_LIST && of_few_values(&text, most_values);
    Ok(whole.map(|whole| if is_short { whole } else { cut(whole) }))
}

fn kept_labels<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<BTreeMap<String, String>>, D::Error> {
    short_or(deserializer, MOST_IN_LIST, |mut labels: BTreeMap<_, _>| {
        labels.retain(|key: &String, value: &mut String| {
            LABELS.contains(&key.as_str()) && value.len() <= LONGEST_NAME
        });
        labels.insert(CUT.to_owned(), String::new());
        labels
    })
}

/// If not all are kept, those that NICO reads are.
fn finalizers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    let asked_for = [CLUSTER_FINALIZER, IN_USE_FINALIZER, ORPHAN_FINALIZER]
        .into_iter()
        .chain(NIO_FINALIZERS);
    short_or(deserializer, MOST_IN_LIST, |all: Vec<String>| {
        let mut kept: Vec<String> = asked_for
            .filter(|finalizer| all.iter().any(|it| it == finalizer))
            .map(str::to_owned)
            .collect();
        kept.push(CUT.to_owned());
        kept
    })
}

/// If not all are kept, the controller is.
fn owners<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<OwnerReference>>, D::Error> {
    let short = |text: String| {
        if text.len() <= LONGEST_NAME {
            text
        } else {
            CUT.to_owned()
        }
    };
    let values = |owners| owners * 6;
    short_or(
        deserializer,
        values(MOST_IN_LIST),
        |all: Vec<OwnerReference>| {
            let controller = all.into_iter().find(|it| it.controller == Some(true));
            let controller = controller.map(|it| OwnerReference {
                api_version: short(it.api_version),
                kind: short(it.kind),
                name: short(it.name),
                uid: short(it.uid),
                ..it
            });
            let cut = OwnerReference {
                uid: CUT.to_owned(),
                ..OwnerReference::default()
            };
            controller.into_iter().chain([cut]).collect()
        },
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests;
