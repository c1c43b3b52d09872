//! NICO refuses the keys that OpenSSH does not read, and each refusal says how to fix it.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::fingerprint_of_public_half;
use super::KeyError;
use crate::remote::secret::SecretText;

const ED25519: &str = include_str!("test_keys/ed25519.openssh");
const GOOD: [(&str, &str); 7] = [
    ("ed25519.openssh", ED25519),
    (
        "ecdsa521.openssh",
        include_str!("test_keys/ecdsa521.openssh"),
    ),
    ("ecdsa.pkcs8", include_str!("test_keys/ecdsa.pkcs8")),
    ("ecdsa.sec1", include_str!("test_keys/ecdsa.sec1")),
    (
        "ecdsa-parameters.sec1",
        include_str!("test_keys/ecdsa-parameters.sec1"),
    ),
    ("rsa.pkcs1", include_str!("test_keys/rsa.pkcs1")),
    ("rsa.pkcs8", include_str!("test_keys/rsa.pkcs8")),
];

fn judged(text: &str) -> Result<(), KeyError> {
    fingerprint_of_public_half(&SecretText::new(text.to_owned())).map(drop)
}

/// A good key as it looks after other ways into a Secret than `--from-file`.
fn altered(key: &str) -> Vec<(&'static str, String)> {
    let each_line = |change: &dyn Fn(&str) -> String| key.lines().map(change).collect::<String>();
    let (_, rest) = key.split_once('\n').unwrap();
    let at = key[..key.rfind("\n-----END").unwrap()].rfind('\n').unwrap();
    let (before, last) = (&key[..at], &key[at + 1..]);
    let body = rest.split_once("\n-----END").unwrap().0;
    vec![
        ("as it is", key.to_owned()),
        ("without its last line break", key.trim_end().to_owned()),
        ("with CR LF", each_line(&|line| format!("{line}\r\n"))),
        (
            "with CR LF, without the last",
            key.trim_end().replace('\n', "\r\n"),
        ),
        ("with CR alone", each_line(&|line| format!("{line}\r"))),
        ("after a blank line", format!("\n{key}")),
        ("after other text", format!("my key\n{key}")),
        ("after a byte order mark", format!("\u{feff}{key}")),
        ("before other text", format!("{key}more\n")),
        ("with one more line break", format!("{key}\n")),
        ("indented", each_line(&|line| format!("  {line}\n"))),
        (
            "with spaces at the ends of its lines",
            each_line(&|line| format!("{line} \n")),
        ),
        ("with spaces for line breaks", key.replace('\n', " ")),
        ("with `\\n` for line breaks", key.replace('\n', "\\n")),
        (
            "in one line of base64",
            key.replace(body, &body.replace('\n', "")),
        ),
        ("with a blank line", format!("{before}\n\n{last}")),
    ]
}

#[test]
fn a_key_whose_lines_openssh_does_not_read_is_refused() {
    for (form, key) in GOOD {
        for (how, text) in altered(key) {
            let found = judged(&text);
            let openssh = form.ends_with(".openssh");
            let expected = match how {
                "without its last line break" if openssh => Err(KeyError::NoLastLineEnd),
                "with CR LF" | "with CR LF, without the last" if openssh => Err(KeyError::LineEnds),
                "after a blank line"
                | "after other text"
                | "after a byte order mark"
                | "with spaces at the ends of its lines"
                    if openssh =>
                {
                    Err(KeyError::Altered)
                }
                "with a blank line" if !openssh => Err(KeyError::Altered),
                "indented" | "with spaces for line breaks" | "with `\\n` for line breaks" => {
                    Err(KeyError::Altered)
                }
                "with CR alone" => Err(if found == Err(KeyError::LineEnds) {
                    KeyError::LineEnds
                } else {
                    KeyError::Altered
                }),
                _ => Ok(()),
            };
            assert_eq!(found, expected, "{form} {how}");
        }
    }
}

/// Compares with the installed OpenSSH.
#[test]
fn what_is_taken_is_what_openssh_reads() {
    if rig::tools::on_path("what_is_taken_is_what_openssh_reads", "ssh-keygen").is_none() {
        return;
    }
    let dir = std::env::temp_dir().join(format!("nico-keys-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let file = dir.join("key");
    for (form, key) in GOOD {
        for (how, text) in altered(key) {
            std::fs::write(&file, &text).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
            let mut ssh_keygen = Command::new("ssh-keygen");
            let read = ssh_keygen.args(["-y", "-P", "", "-f"]).arg(&file).output();
            assert_eq!(
                judged(&text).is_ok(),
                read.unwrap().status.success(),
                "{form} {how}"
            );
        }
    }
    std::fs::remove_dir_all(dir).unwrap();
}

fn openssh_key_of(kind: &str) -> String {
    let string = |text: &[u8]| {
        let length = u32::try_from(text.len()).unwrap();
        [&length.to_be_bytes(), text].concat()
    };
    let public = [string(kind.as_bytes()), string(&[7; 32])].concat();
    let private = [&[7; 8][..], &public, &string(b"ssh:")].concat();
    let bytes = [
        b"openssh-key-v1\0",
        &[string(b"none"), string(b"none"), string(b"")].concat()[..],
        &[0, 0, 0, 1],
        &string(&public),
        &string(&private),
    ]
    .concat();
    let base64 = STANDARD.encode(bytes);
    format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{base64}\n-----END OPENSSH PRIVATE KEY-----\n")
}

#[test]
fn what_is_no_key_for_log_ins_is_told_by_its_kind() {
    const ED25519_PUBLIC: &str =
        "AAAAC3NzaC1lZDI1NTE5AAAAIJ0xCnIqgHuMGCD7aFZlBKK0XyU5wBHGXRa5ZcXbVWdE";
    let public = |before: &str, kind: &str| format!("{before}{kind} {ED25519_PUBLIC} me@here\n");
    let twice = STANDARD.encode(ED25519);
    let ssh2 = |what: &str| {
        format!(
            "---- BEGIN SSH2 {what} KEY ----\nComment: x\nAAAA\n---- END SSH2 {what} KEY ----\n"
        )
    };
    let pem = |label: &str| format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n");
    let cases = [
        (public("", "ssh-ed25519"), KeyError::Public),
        (public("", "ssh-rsa"), KeyError::Public),
        (public("", "ecdsa-sha2-nistp256"), KeyError::Public),
        (public("", "sk-ssh-ed25519@openssh.com"), KeyError::Public),
        (
            public("", "ssh-ed25519-cert-v01@openssh.com"),
            KeyError::Public,
        ),
        (public("no-pty ", "ssh-ed25519"), KeyError::Public),
        (public("10.0.0.1 ", "ssh-ed25519"), KeyError::Public),
        (pem("PUBLIC KEY"), KeyError::Public),
        (pem("RSA PUBLIC KEY"), KeyError::Public),
        (ssh2("PUBLIC"), KeyError::Public),
        (ssh2("ENCRYPTED PRIVATE"), KeyError::OtherForm),
        (
            "PuTTY-User-Key-File-2: ssh-rsa\nEncryption: none\n".to_owned(),
            KeyError::Putty,
        ),
        (
            "PuTTY-User-Key-File-3: ssh-ed25519\r\n".to_owned(),
            KeyError::Putty,
        ),
        (twice.clone(), KeyError::Encoded),
        (format!("{twice}\n"), KeyError::Encoded),
        (
            openssh_key_of("sk-ssh-ed25519@openssh.com"),
            KeyError::Hardware,
        ),
        (
            openssh_key_of("sk-ecdsa-sha2-nistp256@openssh.com"),
            KeyError::Hardware,
        ),
        (openssh_key_of("ssh-xmss@openssh.com"), KeyError::Algorithm),
        (
            include_str!("test_keys/dsa.openssh").to_owned(),
            KeyError::Algorithm,
        ),
        (
            include_str!("test_keys/dsa.pem").to_owned(),
            KeyError::Algorithm,
        ),
        (
            include_str!("test_keys/rsa1024.openssh").to_owned(),
            KeyError::ShortRsa,
        ),
        (
            include_str!("test_keys/rsa1024.pkcs1").to_owned(),
            KeyError::ShortRsa,
        ),
        ("~/.ssh/id_ed25519".to_owned(), KeyError::Unreadable),
    ];
    for (text, expected) in cases {
        assert_eq!(judged(&text), Err(expected), "{text}");
    }
}

#[test]
fn every_refusal_says_its_mend() {
    use KeyError::{
        Algorithm, Altered, Encoded, Encrypted, Hardware, LineEnds, NoLastLineEnd, OtherForm,
        Public, Putty, ShortRsa, TooLarge, Unreadable,
    };
    for error in [
        Unreadable,
        NoLastLineEnd,
        LineEnds,
        Altered,
        Encoded,
        Public,
        Putty,
        OtherForm,
    ] {
        let message = error.to_string();
        assert!(message.contains("--from-file=ssh-privatekey="), "{message}");
    }
    for error in [Encrypted, TooLarge, Hardware, Algorithm, ShortRsa] {
        assert!(error.to_string().contains("into the Secret"), "{error}");
    }
}
