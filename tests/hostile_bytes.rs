//! Each decoder of what machines and API servers send, on any bytes: none panics, and none takes more than a fixed multiple of its
//! input. Memory and steps are counted as the bytes that are allocated in all, so this is one test: others would be counted, too.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test")]

use std::alloc::System;
use std::cell::Cell;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nico::api::host::Host;
use nico::remote::known_hosts::{KnownHosts, Policy};
use nico::remote::kubeconfig::rebuild::inspect;
use nico::remote::secret::SecretText;
use nico::remote::ssh::fingerprint_of_public_half;
use nico::remote::workload::nodes_of_page;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{TestCaseError, TestRunner};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const MIB: usize = 1024 * 1024;

struct Decoder {
    name: &'static str,
    decode: fn(&[u8]),
    /// Longest input that is read on: what is longer is refused for its length.
    longest: usize,
    /// Bytes that may be allocated whatever the input is: buffers of a parser, and what a refusal says.
    base: usize,
    /// Most bytes allocated for each byte of input.
    times: usize,
    /// Most bytes allocated for any input.
    most: usize,
    /// What such inputs consist of.
    words: &'static [&'static str],
    /// Well-formed inputs with one part again and again: what stands before it, the part, and what stands after it.
    floods: &'static [(&'static str, &'static str, &'static str)],
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

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
    let _ = hosts.lookup("10.0.0.1", 22, &KEY.parse().unwrap());
    let _ = hosts.pins_host_of(&format!("10.0.0.1 {KEY}"));
}

fn key(bytes: &[u8]) {
    let _ = fingerprint_of_public_half(&SecretText::new(text(bytes)));
}

const DECODERS: &[Decoder] = &[
    Decoder {
        name: "kubeconfig",
        decode: kubeconfig,
        longest: 64 * 1024,
        base: 256 * 1024,
        times: 700,
        most: 16 * MIB,
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
];

/// Decodes, and says how many bytes were allocated for each byte of input.
fn times(decoder: &Decoder, input: &[u8]) -> Result<usize, TestCaseError> {
    let region = Region::new(ALLOCATOR);
    (decoder.decode)(input);
    let change = region.change();
    let grown = usize::try_from(change.bytes_reallocated).unwrap_or_default();
    let allocated = change.bytes_allocated + grown;
    let times = allocated.saturating_sub(decoder.base) / input.len().max(1);
    let start = text(&input[..input.len().min(200)]);
    prop_assert!(
        times <= decoder.times && allocated <= decoder.most,
        "{}: {allocated} bytes for {} ({times} times): {start}",
        decoder.name,
        input.len()
    );
    Ok(times)
}

#[test]
fn any_bytes_cost_a_fixed_multiple_of_their_length() {
    for decoder in DECODERS {
        let most = Cell::new(0);
        let config = ProptestConfig {
            cases: 200,
            failure_persistence: None,
            ..ProptestConfig::default()
        };
        let bytes = vec(any::<u8>(), 0..4096);
        let words = vec(select(decoder.words), 0..1500);
        let words = words.prop_map(|words| words.concat().into_bytes());
        // One word again and again, between others: what is deep, and what is many.
        let repeated = (
            vec(select(decoder.words), 0..8),
            vec(select(decoder.words), 1..4),
            1..decoder.longest,
        );
        let repeated = repeated.prop_map(|(before, again, length)| {
            let (mut text, again) = (before.concat(), again.concat());
            while text.len() + again.len() <= length {
                text.push_str(&again);
            }
            text.into_bytes()
        });
        let input = prop_oneof![bytes, words, repeated];
        let outcome = TestRunner::new(config).run(&input, |input| {
            most.set(most.get().max(times(decoder, &input)?));
            Ok(())
        });
        println!(
            "{}: at most {} bytes for each byte",
            decoder.name,
            most.get()
        );
        outcome.unwrap();
        for (before, part, after) in decoder.floods {
            let room = decoder.longest - before.len() - after.len();
            let input = format!("{before}{}{after}", part.repeat(room / part.len()));
            let times = times(decoder, input.as_bytes()).unwrap();
            println!("{}: {times} for {part:?} again and again", decoder.name);
        }
        // What is deep, and what is too long to be read on.
        for word in decoder.words {
            for longest in [decoder.longest, 4 * decoder.longest] {
                let input = word.repeat(longest / word.len());
                times(decoder, input.as_bytes()).unwrap();
            }
        }
    }
}
