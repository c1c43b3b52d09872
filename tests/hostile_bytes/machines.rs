//! Decoders of what machines and their clusters send.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nico::api::host::Host;
use nico::remote::known_hosts::{KnownHosts, Policy};
use nico::remote::kubeconfig::rebuild::inspect;
use nico::remote::secret::SecretText;
use nico::remote::ssh::fingerprint_of_public_half;
use nico::remote::workload::{nodes_of_page, pods_of_page};

use crate::{Decoder, MIB, text};

fn kubeconfig(bytes: &[u8]) {
    if let Ok(parsed) = inspect(bytes) {
        let _ = parsed.resolve(&BTreeMap::new());
    }
}

fn authority(bytes: &[u8]) {
    let data = STANDARD.encode(bytes);
    kubeconfig(
        format!(
            "clusters: [{{name: a, cluster: {{server: 'https://a', certificate-authority-data: '{data}'}}}}]\n\
             users: [{{name: a, user: {{token: a}}}}]\n"
        )
        .as_bytes(),
    );
}

fn known_hosts(bytes: &[u8]) {
    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMPVPDA40Ivsb6Rw+cwwO9TW0tLFVmtbIvRnCW2vEkHj";
    let hosts = KnownHosts::parse("prod-known-hosts", &text(bytes), Policy::PinnedOnly);
    let pins = hosts.pins("10.0.0.1", 22);
    let _ = pins.map(|pins| pins.lookup(&KEY.parse().unwrap()));
    let _ = hosts.pins_host_of(&format!("10.0.0.1 {KEY}"));
}

fn key(bytes: &[u8]) {
    let _ = fingerprint_of_public_half(&SecretText::new(text(bytes)));
}

pub(crate) const DECODERS: &[Decoder] = &[
    Decoder {
        name: "kubeconfig",
        decode: kubeconfig,
        longest: 64 * 1024,
        base: 256 * 1024,
        times: 700,
        most: 16 * MIB,
        keys: &[],
        floods: &[
            ("a: [", "a,", "]"),
            ("", "a: b\n", ""),
            ("", "- a\n", ""),
            ("a: \"", "\\n", "\""),
            ("a:\n", "  - {a: b}\n", ""),
        ],
        words: &[
            "a",
            "a: ",
            "- ",
            "? ",
            "[",
            "]",
            "{",
            "}",
            ", ",
            "\n",
            "\n ",
            "\n    ",
            "&a ",
            "*a",
            "<<: ",
            "!!str ",
            "!a ",
            "| ",
            "> ",
            "\"",
            "'",
            "\\",
            "# ",
            "---\n",
            "...\n",
            "%YAML 1.2\n",
            "clusters:\n",
            "- name: a\n",
            "cluster:\n",
            "server: https://a\n",
            "users:\n",
            "contexts:\n",
            "current-context: a\n",
            "\t",
            "\r",
            "0x1",
            "1e999",
            "~",
            "é",
        ],
    },
    Decoder {
        name: "PEM of certificates",
        decode: authority,
        longest: 48 * 1024,
        base: 256 * 1024,
        times: 60,
        most: 16 * MIB,
        keys: &[],
        floods: &[
            (
                "",
                "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
                "",
            ),
            (
                "-----BEGIN CERTIFICATE-----\n",
                "AAAA",
                "\n-----END CERTIFICATE-----\n",
            ),
        ],
        words: &[
            "-----BEGIN CERTIFICATE-----\n",
            "-----END CERTIFICATE-----\n",
            "-----BEGIN PRIVATE KEY-----\n",
            "-----END PRIVATE KEY-----\n",
            "-----BEGIN X-----\n",
            "MIIB",
            "MIIBszCCAVmgAwIBAgIU",
            "MIID",
            "AAAA",
            "=",
            "\n",
            "\r\n",
            "A",
        ],
    },
    Decoder {
        name: "known_hosts",
        decode: known_hosts,
        longest: 256 * 1024,
        base: 4 * 1024,
        times: 60,
        most: 16 * MIB,
        keys: &[],
        floods: &[
            ("", "a ssh-rsa AAAA\n", ""),
            (
                "",
                "a,",
                " ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMPVPDA40Ivsb6Rw+cwwO9TW0tLFVmtbIvRnCW2vEkHj\n",
            ),
        ],
        words: &[
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMPVPDA40Ivsb6Rw+cwwO9TW0tLFVmtbIvRnCW2vEkHj",
            "ssh-rsa AAAA",
            "10.0.0.1",
            "*",
            "?",
            "!",
            ",",
            "[",
            "]:22",
            " ",
            "\n",
            "\t",
            "@revoked ",
            "@cert-authority ",
            "|1|",
            "AAAA",
            "=",
            "#",
        ],
    },
    Decoder {
        name: "host names",
        decode: |bytes| drop(Host::parse(&text(bytes))),
        longest: 64 * 1024,
        base: 4 * 1024,
        times: 8,
        most: MIB,
        keys: &[],
        floods: &[("", "a.", "a")],
        words: &[
            "a",
            "-",
            ".",
            "1",
            ":",
            "::",
            "ffff",
            "%",
            "é",
            "127.0.0.1",
            "[",
            "]",
            " ",
        ],
    },
    Decoder {
        name: "private keys",
        decode: key,
        longest: 16 * 1024,
        base: 4 * 1024,
        times: 60,
        most: MIB,
        keys: &[],
        floods: &[
            (
                "-----BEGIN PRIVATE KEY-----\n",
                "MAAw",
                "\n-----END PRIVATE KEY-----\n",
            ),
            (
                "-----BEGIN OPENSSH PRIVATE KEY-----\n",
                "AAAA",
                "\n-----END OPENSSH PRIVATE KEY-----\n",
            ),
        ],
        words: &[
            "-----BEGIN OPENSSH PRIVATE KEY-----\n",
            "-----END OPENSSH PRIVATE KEY-----\n",
            "-----BEGIN RSA PRIVATE KEY-----\n",
            "-----BEGIN PRIVATE KEY-----\n",
            "-----BEGIN EC PRIVATE KEY-----\n",
            "Proc-Type: 4,X\n",
            "b3BlbnNzaC1rZXktdjEA",
            "AAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAA",
            "MIIB",
            "MII",
            "MDAw",
            "AgEA",
            "BAQE",
            "AAAA",
            "=",
            "\n",
            "\r\n",
            "A",
            "MA0GCSqGSIb3DQEBAQUA",
        ],
    },
    Decoder {
        name: "pages of Nodes",
        decode: |bytes| drop(nodes_of_page(bytes)),
        longest: 2 * 1024 * 1024,
        base: 4 * 1024,
        times: 16,
        most: 32 * MIB,
        keys: &[
            "kind",
            "metadata",
            "continue",
            "items",
            "name",
            "uid",
            "labels",
            "annotations",
            "status",
            "addresses",
            "type",
            "address",
            "conditions",
            "nodeInfo",
            "kubeletVersion",
            "spec",
            "unschedulable",
        ],
        floods: &[
            (
                r#"{"kind":"NodeList","items":[{"metadata":{"name":"a","uid":"u","labels":{"#,
                r#""abc":"","#,
                r#""b":""}}}]}"#,
            ),
            (
                r#"{"kind":"NodeList","items":[{"metadata":{"name":"a","uid":"u","annotations":{"#,
                r#""abc":"","#,
                r#""b":""}}}]}"#,
            ),
            (
                r#"{"kind":"NodeList","items":[{"metadata":{"name":"a","uid":"u","deletionTimestamp":"","finalizers":["#,
                r#""abc","#,
                r#""b"]}}]}"#,
            ),
            (
                r#"{"kind":"NodeList","items":[{"metadata":{"name":"a","uid":"u"},"status":{"addresses":["#,
                r#"{"type":"","address":""},"#,
                r#"{"type":"","address":""}]}}]}"#,
            ),
            (
                r#"{"kind":"NodeList","items":["#,
                r#"{"metadata":{"name":"a","uid":"u"}},"#,
                r#"{"metadata":{"name":"a","uid":"u"}}]}"#,
            ),
            (
                r#"{"kind":"NodeList","metadata":{"continue":""#,
                "a",
                r#""},"items":[]}"#,
            ),
            (r#"{"kind":"NodeList","items":[],"a":"#, "[", ""),
        ],
        words: &[
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "null",
            "true",
            "1e99",
            "\"\"",
            "\"a\"",
            "\"kind\":\"NodeList\",",
            "\"items\":[",
            "{\"metadata\":{\"name\":\"a\",\"uid\":\"u\"",
            "\"labels\":{",
            "\"annotations\":{",
            "\"a\":\"b\",",
            "\"status\":{\"addresses\":[",
            "{\"type\":\"InternalIP\",\"address\":\"10.0.0.1\"},",
            "\"conditions\":[",
            "{\"type\":\"Ready\",\"status\":\"True\"},",
            "}},",
            "\\u0000",
            "\"",
        ],
    },
    Decoder {
        name: "pages of pods",
        decode: |bytes| drop(pods_of_page(bytes)),
        longest: 2 * MIB,
        base: 4 * 1024,
        times: 24,
        most: 48 * MIB,
        keys: &[
            "kind",
            "metadata",
            "continue",
            "items",
            "namespace",
            "name",
            "uid",
            "deletionTimestamp",
            "annotations",
            "ownerReferences",
            "controller",
            "status",
            "phase",
        ],
        floods: &[
            (
                r#"{"kind":"PodList","items":["#,
                r#"{"metadata":{"namespace":"a","name":"a","uid":""}},"#,
                r#"{"metadata":{"namespace":"a","name":"a","uid":""}}]}"#,
            ),
            (
                r#"{"kind":"PodList","items":[{"metadata":{"namespace":"a","name":"a","uid":"u","ownerReferences":["#,
                r#"{"kind":""},"#,
                r#"{"kind":""}]}}]}"#,
            ),
            (
                r#"{"kind":"PodList","items":[{"metadata":{"namespace":"a","name":"a","uid":"u","labels":{"#,
                r#""abc":"","#,
                r#""b":""}}}]}"#,
            ),
            (
                r#"{"kind":"PodList","items":[{"metadata":{"namespace":"a","name":"a","uid":"u","annotations":{"#,
                r#""abc":"","#,
                r#""b":""}}}]}"#,
            ),
        ],
        words: &[
            "PodList",
            "DaemonSet",
            "Succeeded",
            "a",
            "../a",
            "{",
            "[",
            "\"",
            "true",
            "1e999",
        ],
    },
];
