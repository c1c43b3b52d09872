//! Decoders of what the API server sends of objects that tenants wrote.

use std::collections::BTreeMap;

use hyper::body::Bytes;
use nico::api::cluster::RawCluster;
use nico::api::ledger::Ledger;
use nico::api::nio::{Machine, NixosConfiguration};
use nico::api::validate::validate;
use nico::controller::client::depth::Depth;
use nico::plan::cluster_nix;
use serde::de::DeserializeOwned;

use crate::{Decoder, MIB, text};

/// Bytes of the longest object that is tried. The API server takes 1.5 MiB (etcd's limit of a request); the multiple is the same.
const OBJECT: usize = MIB / 4;

fn cluster_nix(bytes: &[u8]) {
    let text = text(bytes);
    let _ = cluster_nix::parse(&text);
    let _ = cluster_nix::parse(&format!("# a\nbuiltins.fromJSON ''\n{text}''\n"));
}

fn ledger(bytes: &[u8]) {
    let text = text(bytes);
    for key in ["id", "founded", "slot"] {
        let ledger = [
            ("id", "9f2c4e1ab0d35c77"),
            ("founded", "true"),
            ("slot", "{}"),
        ];
        let mut data: BTreeMap<String, String> = ledger
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        data.insert(key.to_owned(), text.clone());
        let _ = Ledger::from_data(&data);
    }
}

/// As the client does: cut to a bounded depth first. Each field may hold what stands in `bytes`.
fn object<T: DeserializeOwned>(bytes: &[u8]) -> impl Iterator<Item = T> {
    let text = text(bytes);
    let object = |start: &str, end: &str| {
        let whole = Bytes::from(format!("{start}{text}{end}"));
        serde_json::from_slice(&Depth::default().cut(whole)).ok()
    };
    [
        object("", ""),
        object("{\"metadata\":{\"name\":\"a\"},\"spec\":", "}"),
        object("{\"metadata\":{\"name\":\"a\"},\"status\":", "}"),
        object("{\"metadata\":", "}"),
    ]
    .into_iter()
    .flatten()
}

fn cluster(bytes: &[u8]) {
    for cluster in object::<RawCluster>(bytes) {
        let _ = validate("prod", &cluster.spec);
    }
}

fn depth(bytes: &[u8]) {
    let mut depth = Depth::default();
    let pieces = bytes.chunks(16 * 1024).map(Bytes::copy_from_slice);
    pieces.for_each(|piece| drop(depth.cut(piece)));
}

/// A spec that every rule looks at.
pub(crate) const WHOLE_SPEC: &str = r#"{"gitRepo":"https://a/b","ref":"a","configurationSubdir":"a","credentialsRef":{"name":"a"},
    "controlPlane":{"machines":["a"]},"controlPlaneEndpoint":{"host":"a"},"kubeconfig":{"path":"/a"},
    "rollout":{"maxUnavailable":"5%"}}"#;

const METADATA: &[&str] = &[
    "metadata",
    "name",
    "uid",
    "labels",
    "annotations",
    "finalizers",
    "ownerReferences",
    "managedFields",
    "creationTimestamp",
    "spec",
    "status",
    "conditions",
    "type",
    "message",
    "ipAddress",
    "sshKeySecretRef",
    "hardwareFacts",
    "additionalFiles",
    "path",
    "inline",
    "machineRef",
    "controlPlane",
    "machines",
    "machineSelector",
    "matchExpressions",
    "values",
    "count",
    "rollout",
    "maxUnavailable",
    "observedGeneration",
    "entries",
    "machine",
    "role",
    "state",
    "workers",
    "ip",
    "id",
    "endpoint",
];
const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "null",
    "true",
    "0",
    "1e999",
    "-1",
    "6443.0",
    "\"",
    "\"\"",
    "\"a\"",
    "\\u0000",
    "\\ud800",
    "''",
    "${",
    "# a\n",
    "builtins.fromJSON ''\n",
    "''\n",
    "\"name\":",
    "\"machines\":[",
    "\"entries\":[",
    "\"worker\"",
    "\"active\"",
];
/// What is small in JSON and large in memory, in the place of any field.
const FLOODS: &[(&str, &str, &str)] = &[
    ("[", "0,", "0]"),
    ("[", "[],", "[]]"),
    ("[", "{\"\":0},", "{}]"),
    ("{\"a\":[", "{\"\":0},", "{}]}"),
    ("{\"hardwareFacts\":[", "{\"\":0},", "{}]}"),
    ("{\"conditions\":[", "{},", "{}]}"),
    ("{\"additionalFiles\":[", "{\"\":0},", "{}]}"),
    ("{\"managedFields\":[", "{\"\":0},", "{}]}"),
    ("{\"finalizers\":[", "\"\",", "\"\"]}"),
    (
        "{\"ownerReferences\":[",
        "{\"apiVersion\":\"\",\"kind\":\"\",\"name\":\"\",\"uid\":\"\"},",
        "{}]}",
    ),
    ("{\"controlPlane\":{\"machines\":[", "\"a\",", "\"a\"]}}"),
    (
        "{\"controlPlane\":{\"count\":1,\"machineSelector\":{\"matchExpressions\":[",
        "{\"\":0},",
        "{}]}}}",
    ),
];

/// What the decoders of objects have in common.
const OBJECTS: Decoder = Decoder {
    name: "objects",
    decode: |_| {},
    longest: OBJECT,
    base: 4 * 1024,
    times: 50,
    most: 256 * MIB,
    keys: METADATA,
    floods: FLOODS,
    words: WORDS,
};

pub(crate) const DECODERS: &[Decoder] = &[
    Decoder {
        name: "cluster.nix",
        decode: cluster_nix,
        longest: OBJECT,
        base: 4 * 1024,
        times: 24,
        most: 128 * MIB,
        keys: METADATA,
        floods: &[
            (
                r#"{"name":"a","id":"9f2c4e1ab0d35c77","bootstrap":null,"join":null,"endpoint":null,"controlPlane":["#,
                r#"{"name":"","ip":""},"#,
                r#"{"name":"","ip":""}],"workers":[]}"#,
            ),
            (r#"{"a":["#, r#"{"":0},"#, "{}]}"),
        ],
        words: WORDS,
    },
    Decoder {
        name: "ledgers",
        decode: ledger,
        longest: OBJECT,
        base: 4 * 1024,
        times: 24,
        most: 128 * MIB,
        keys: METADATA,
        floods: &[
            (
                r#"{"entries":["#,
                r#"{"machine":"a","role":"worker","state":"active"},"#,
                r#"{"machine":"a","role":"worker","state":"active"}]}"#,
            ),
            (r#"{"a":["#, r#"{"":0},"#, "{}]}"),
        ],
        words: WORDS,
    },
    Decoder {
        name: "Machines",
        decode: |bytes| object::<Machine>(bytes).for_each(drop),
        ..OBJECTS
    },
    Decoder {
        name: "NixosConfigurations",
        decode: |bytes| object::<NixosConfiguration>(bytes).for_each(drop),
        ..OBJECTS
    },
    Decoder {
        name: "KubernetesClusters",
        decode: cluster,
        base: 512 * 1024,
        times: 160,
        most: 768 * MIB,
        ..OBJECTS
    },
    Decoder {
        name: "the depth of answers",
        decode: depth,
        longest: MIB,
        times: 4,
        ..OBJECTS
    },
];
