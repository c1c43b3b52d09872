#![doc = include_str!("nio/README.md")]

use std::collections::BTreeMap;
use std::sync::OnceLock;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{CustomResource, Resource};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::cluster_nix::CLUSTER_NIX;
use super::files::File;
use super::files_hash::additional_files_hash;
use super::host::{Address, canonical};
use super::metadata::{CUT, metadata, metadata_of_machine};
use super::names::{CLUSTER_LABEL, ObjectName, is_dns_label};
use super::parsed::{Parsed, parsed};
use super::read::{fields, lenient, of_few_values, short};

mod job;
mod status;

pub use job::{CronJob, Job, JobState, NixCronJob, NixJob};
pub use status::{NioCondition, NixosConfigurationStatus};

/// Which NIO is installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Generation {
    /// homystack/NIO, Python on kopf.
    Classic,
    /// kitsunoff/NIO 1.0.
    V1,
}

/// Key of a machine's private key in its SSH Secret.
pub const SSH_KEY: &str = "ssh-privatekey";

/// Spec of a `Machine`.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "nio.homystack.com",
    version = "v1alpha1",
    kind = "Machine",
    plural = "machines",
    namespaced,
    schema = "disabled",
    root = "MachineKind"
)]
#[serde(rename_all = "camelCase", default)]
pub struct MachineSpec {
    /// Classic: address for the apply.
    #[serde(deserialize_with = "parsed", skip_serializing_if = "Option::is_none")]
    pub ip_address: Option<Parsed<Address>>,
    /// v1: address.
    #[serde(deserialize_with = "parsed", skip_serializing_if = "Option::is_none")]
    pub host: Option<Parsed<Address>>,
    /// Classic: name for the probe, and for the apply where there is no `ipAddress`.
    #[serde(deserialize_with = "parsed", skip_serializing_if = "Option::is_none")]
    pub hostname: Option<Parsed<Address>>,
    /// User that NIO and NICO log in as; v1's default is root.
    #[serde(deserialize_with = "user", skip_serializing_if = "Option::is_none")]
    pub ssh_user: Option<String>,
    /// Secret with the private key.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub ssh_key_secret_ref: Option<SecretRef>,
}

/// Reference to a Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SecretRef {
    /// Name of the Secret.
    #[serde(deserialize_with = "parsed", skip_serializing_if = "Option::is_none")]
    pub name: Option<Parsed<ObjectName>>,
    /// Classic: its namespace; absent: `default`.
    #[serde(deserialize_with = "parsed", skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Parsed<ObjectName>>,
}

/// Status of a `Machine`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MachineStatus {
    /// Whether NIO can reach it.
    #[serde(deserialize_with = "lenient")]
    pub discoverable: bool,
    /// Whether a configuration was applied; can be stale both ways.
    #[serde(deserialize_with = "lenient")]
    pub has_configuration: bool,
    /// Name of the configuration on it.
    #[serde(deserialize_with = "short", skip_serializing_if = "Option::is_none")]
    pub applied_configuration: Option<String>,
}

/// A machine. One without a spec decodes too: a single invalid object must not stop the watch of all.
#[derive(Resource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[resource(inherit = MachineKind)]
pub struct Machine {
    /// Standard object metadata, as far as NICO works with it.
    #[serde(deserialize_with = "metadata_of_machine")]
    pub metadata: ObjectMeta,
    /// The user's settings of it.
    #[serde(default, deserialize_with = "lenient")]
    pub spec: MachineSpec,
    /// What NIO reports about it.
    #[serde(
        default,
        deserialize_with = "lenient",
        skip_serializing_if = "Option::is_none"
    )]
    pub status: Option<MachineStatus>,
}

impl Machine {
    /// The machine's address: ipAddress, else host, else hostname. `None` if the first of these is malformed: NIO would still use that one,
    /// so no other field replaces it.
    #[must_use]
    pub fn address(&self) -> Option<&str> {
        let (_, address) = self.first_address()?;
        address.good().map(Address::as_str)
    }

    /// The address in the form in which addresses are compared: see [`canonical`].
    #[must_use]
    pub fn canonical_address(&self) -> Option<String> {
        self.address().map(canonical)
    }

    /// The field that should contain the machine's address and is malformed.
    #[must_use]
    pub fn malformed_address(&self) -> Option<&'static str> {
        let (field, address) = self.first_address()?;
        (*address == Parsed::Malformed).then_some(field)
    }

    fn first_address(&self) -> Option<(&'static str, &Parsed<Address>)> {
        let MachineSpec {
            ip_address,
            host,
            hostname,
            ..
        } = &self.spec;
        [
            ("spec.ipAddress", ip_address),
            ("spec.host", host),
            ("spec.hostname", hostname),
        ]
        .into_iter()
        .find_map(|(field, address)| Some((field, address.as_ref()?)))
    }
}

/// The fields of a `NixosConfiguration`'s spec that NICO reads.
const READ_FIELDS: [&str; 10] = [
    "gitRepo",
    "ref",
    "configurationSubdir",
    "credentialsRef",
    "flake",
    "onRemoveFlake",
    MACHINE_REF,
    "fullInstall",
    "dayTwoSchedule",
    ADDITIONAL_FILES,
];

/// Spec of a `NixosConfiguration`: the fields that NICO reads, as they are stored, since NIO hashes them so.
#[derive(CustomResource, Clone, Debug, Default)]
#[kube(
    group = "nio.homystack.com",
    version = "v1alpha1",
    kind = "NixosConfiguration",
    plural = "nixosconfigurations",
    namespaced,
    schema = "disabled",
    root = "NixosConfigurationKind"
)]
pub struct NixosConfigurationSpec {
    /// All fields; a list of additional files is empty here.
    fields: Map<String, Value>,
    files: Vec<File>,
    /// The hash by which NIO names the files, once it was computed.
    files_hash: OnceLock<String>,
}

const ADDITIONAL_FILES: &str = "additionalFiles";
const MACHINE_REF: &str = "machineRef";

/// Most bytes of the JSON of the additional files. The longest that NICO writes has 800 kB: 1,100 machines that replace as many others,
/// with the longest names and addresses.
const LONGEST_FILES: usize = 1024 * 1024;
/// Most bytes of it without the texts. NICO writes five files, with paths of up to a kilobyte.
const LONGEST_WITHOUT_TEXTS: usize = 16 * 1024;
/// Most values in them. Those of NICO have some 20.
const MOST_VALUES_OF_FILES: usize = 64;
/// Most bytes of the JSON of another field. The longest that NICO writes is `gitRepo`, of 2,048 characters.
const LONGEST_FIELD: usize = 4 * 1024;
/// Most values in it. NICO writes texts, and references to a name.
const MOST_VALUES_OF_FIELD: usize = 8;

/// A field as it is kept. A value that NICO cannot have written is replaced by one that it never writes, except for the machine that the
/// configuration is for, which is always kept.
fn kept(name: &str, text: &RawValue) -> Value {
    let (longest, most) = match name {
        ADDITIONAL_FILES => (LONGEST_FILES, MOST_VALUES_OF_FILES),
        _ => (LONGEST_FIELD, MOST_VALUES_OF_FIELD),
    };
    if text.get().len() <= longest
        && of_few_values(text, most)
        && let Ok(value) = serde_json::from_str(text.get())
    {
        return value;
    }
    let reference: SecretRef = serde_json::from_str(text.get()).unwrap_or_default();
    match reference.name {
        Some(Parsed::Good(machine)) if name == MACHINE_REF => {
            json!({ "name": machine, CUT: null })
        }
        _ => Value::from(CUT),
    }
}

impl From<Map<String, Value>> for NixosConfigurationSpec {
    fn from(mut fields: Map<String, Value>) -> Self {
        fields.retain(|field, _| READ_FIELDS.contains(&field.as_str()));
        let files = match fields.get_mut(ADDITIONAL_FILES) {
            Some(Value::Array(files)) => std::mem::take(files),
            _ => Vec::new(),
        };
        let mut files: Vec<File> = files.into_iter().map(File::from).collect();
        if files.iter().map(File::bytes_without_text).sum::<usize>() > LONGEST_WITHOUT_TEXTS {
            fields.insert(ADDITIONAL_FILES.to_owned(), Value::from(CUT));
            files = Vec::new();
        }
        Self {
            fields,
            files,
            files_hash: OnceLock::new(),
        }
    }
}

impl PartialEq for NixosConfigurationSpec {
    fn eq(&self, other: &Self) -> bool {
        (&self.fields, &self.files) == (&other.fields, &other.files)
    }
}

impl Eq for NixosConfigurationSpec {}

impl<'de> Deserialize<'de> for NixosConfigurationSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        fields(deserializer, &READ_FIELDS, kept).map(Self::from)
    }
}

impl Serialize for NixosConfigurationSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.stored().serialize(serializer)
    }
}

/// The metadata of an object, and nothing else of it.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct OnlyMetadata {
    /// Standard object metadata, as far as NICO works with it.
    #[serde(default, deserialize_with = "metadata")]
    pub metadata: ObjectMeta,
}

/// The name of a user; `None` if no system allows it.
fn user<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let name: Option<String> = lenient(deserializer)?;
    Ok(name.filter(|name| name.len() <= 255 && !name.contains(char::is_control)))
}

impl NixosConfigurationSpec {
    /// The fields as they are stored.
    #[must_use]
    pub fn stored(&self) -> Map<String, Value> {
        let mut fields = self.fields.clone();
        if let Some(Value::Array(files)) = fields.get_mut(ADDITIONAL_FILES) {
            files.extend(self.files.iter().map(Value::from));
        }
        fields
    }

    /// A field other than the additional files.
    #[must_use]
    pub fn get(&self, field: &str) -> Option<&Value> {
        self.fields.get(field)
    }

    /// A string field, where it is there and a string.
    #[must_use]
    pub fn text(&self, field: &str) -> Option<&str> {
        self.get(field).and_then(Value::as_str)
    }

    /// Name of the machine that this configuration is for, if NICO accepts such a name.
    #[must_use]
    pub fn machine(&self) -> Option<&str> {
        let name = self.get(MACHINE_REF)?.get("name")?.as_str()?;
        is_dns_label(name).then_some(name)
    }

    /// The additional file of that name, in any directory.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<&File> {
        self.files.iter().find(|file| file.is_named(name))
    }

    /// The additional files as stored; none if the field is absent or not a list.
    #[must_use]
    pub fn files(&self) -> &[File] {
        &self.files
    }

    /// Keeps of long texts what NICO needs to know of this machine: everything compares as before.
    pub fn shorten_files(&mut self) {
        // The hash is that of the whole texts.
        let _ = self.files_hash();
        let machine = self.machine().unwrap_or_default().to_owned();
        let read = self.files.iter().position(|it| it.is_named(CLUSTER_NIX));
        for (at, file) in self.files.iter_mut().enumerate() {
            file.shorten((read == Some(at)).then_some(machine.as_str()));
        }
    }

    /// The hash by which classic NIO names these files.
    #[must_use]
    pub fn files_hash(&self) -> &str {
        self.files_hash
            .get_or_init(|| additional_files_hash(&self.files))
    }
}

/// What is to be applied to a machine. One without a spec decodes too. Of the spec of one that belongs to no cluster, only the machine is
/// kept.
#[derive(Resource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[resource(inherit = NixosConfigurationKind)]
#[serde(from = "Sent")]
pub struct NixosConfiguration {
    /// Standard object metadata, as far as NICO works with it.
    pub metadata: ObjectMeta,
    /// What is to be applied.
    pub spec: NixosConfigurationSpec,
    /// What NIO reports about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<NixosConfigurationStatus>,
}

/// A configuration as the API server sends it.
#[derive(Deserialize)]
struct Sent {
    #[serde(deserialize_with = "metadata")]
    metadata: ObjectMeta,
    #[serde(default, deserialize_with = "lenient")]
    spec: NixosConfigurationSpec,
    #[serde(default, deserialize_with = "lenient")]
    status: Option<NixosConfigurationStatus>,
}

impl From<Sent> for NixosConfiguration {
    fn from(sent: Sent) -> Self {
        let Sent {
            metadata,
            mut spec,
            status,
        } = sent;
        let mut owners = metadata.owner_references.iter().flatten();
        let is_labelled = |labels: &BTreeMap<_, _>| labels.contains_key(CLUSTER_LABEL);
        let of_a_cluster = owners.any(|owner| owner.kind == "KubernetesCluster")
            || metadata.labels.as_ref().is_some_and(is_labelled);
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        if !of_a_cluster {
            spec.fields.retain(|field, _| field == MACHINE_REF);
            spec.files = Vec::new();
        } else if !spec.files.iter().all(|file| file.has_room(namespace)) {
            spec.shorten_files();
        }
        Self {
            metadata,
            spec,
            status,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
