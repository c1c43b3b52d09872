//! Checks the text of a private key as OpenSSH does. NIO and the machines use OpenSSH, which accepts fewer forms than NICO's library. So a
//! key that only NICO could use is refused before anything is written.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::key_error::{KeyError, MAX_TEXT};
use crate::remote::secret::SecretBytes;

/// The format of a key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    OpenSsh,
    Pkcs1,
    /// PKCS#8, or SEC 1 of an elliptic curve.
    Der,
    Dsa,
}

const FORMS: [(&str, Encoding); 5] = [
    ("OPENSSH PRIVATE KEY", Encoding::OpenSsh),
    ("RSA PRIVATE KEY", Encoding::Pkcs1),
    ("PRIVATE KEY", Encoding::Der),
    ("EC PRIVATE KEY", Encoding::Der),
    ("DSA PRIVATE KEY", Encoding::Dsa),
];

/// OpenSSH requires these bytes at the very beginning, and [`END`] after a line break.
const BEGIN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----\n";
/// See [`BEGIN`]. The line break belongs to it.
const END: &str = "\n-----END OPENSSH PRIVATE KEY-----\n";
/// `-----BEGIN` in base64.
const ENCODED: &str = "LS0tLS1CRUdJTi";

/// Decodes the first private key in a text.
pub(super) fn read(text: &str) -> Result<(Encoding, SecretBytes), KeyError> {
    if text.len() > MAX_TEXT {
        return Err(KeyError::TooLarge);
    }
    foreign(text)?;
    // `Proc-Type: 4,ENCRYPTED` and `BEGIN ENCRYPTED PRIVATE KEY`.
    if text.contains("ENCRYPTED") {
        return Err(KeyError::Encrypted);
    }
    let Some((encoding, bytes)) = pem(text) else {
        // The line breaks of the key are lost: shells and templates do that.
        return Err(if text.contains("PRIVATE KEY-----") {
            KeyError::Altered
        } else {
            KeyError::Unreadable
        });
    };
    Ok((encoding, bytes))
}

/// Refuses a key whose lines OpenSSH does not read.
pub(super) fn check_lines(text: &str, encoding: Encoding) -> Result<(), KeyError> {
    match encoding {
        Encoding::OpenSsh => openssh_lines(text),
        Encoding::Pkcs1 | Encoding::Der | Encoding::Dsa => pem_lines(text),
    }
}

/// Refuses what users put into a Secret instead of a private key.
fn foreign(text: &str) -> Result<(), KeyError> {
    let text = text.trim_start_matches('\u{feff}').trim_start();
    if text.starts_with("PuTTY-User-Key-File-") {
        return Err(KeyError::Putty);
    }
    if text.starts_with(ENCODED) {
        return Err(KeyError::Encoded);
    }
    if text.starts_with("---- BEGIN SSH2 PUBLIC") {
        return Err(KeyError::Public);
    }
    if text.starts_with("---- BEGIN SSH2") {
        return Err(KeyError::OtherForm);
    }
    if text.contains("PRIVATE KEY-----") {
        return Ok(());
    }
    // The type is the first word, or follows the options of `authorized_keys` or the host of `known_hosts`.
    let names_type = |word: &str| {
        ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-sha2-"]
            .iter()
            .any(|prefix| word.starts_with(prefix))
    };
    let mut words = text.split_whitespace().take(4);
    if text.contains("PUBLIC KEY-----") || words.any(names_type) && text.contains(" AAAA") {
        return Err(KeyError::Public);
    }
    Ok(())
}

/// The format that the first line of a PEM key names.
fn encoding_of(line: &str) -> Option<Encoding> {
    let label = line.strip_prefix("-----BEGIN ")?.strip_suffix("-----")?;
    let form = FORMS.iter().find(|(known, _)| *known == label)?;
    Some(form.1)
}

/// The first private key in a PEM text.
fn pem(text: &str) -> Option<(Encoding, SecretBytes)> {
    let mut lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
    let encoding = lines.find_map(encoding_of)?;
    let mut base64 = Zeroizing::new(String::with_capacity(text.len()));
    for line in lines.take_while(|line| !line.starts_with("-----END ")) {
        base64.push_str(line);
    }
    if encoding == Encoding::Dsa {
        return Some((encoding, SecretBytes::new(Vec::new())));
    }
    let mut der = Zeroizing::new(vec![0; base64.len() / 4 * 3]);
    let length = STANDARD.decode_slice(base64.as_bytes(), &mut der).ok()?;
    der.truncate(length);
    Some((encoding, SecretBytes::new(std::mem::take(&mut *der))))
}

/// Checks OpenSSH's own format: nothing before it, line feeds after its first and its last line.
fn openssh_lines(text: &str) -> Result<(), KeyError> {
    let content = text.strip_prefix(BEGIN);
    // The line break before the end marker may be that of the first line.
    let ends = content.is_some() && text[BEGIN.len() - 1..].contains(END);
    if ends {
        Ok(())
    } else if text.contains('\r') {
        Err(KeyError::LineEnds)
    } else if content.is_some() && text.ends_with(END.trim_end()) {
        Err(KeyError::NoLastLineEnd)
    } else {
        Err(KeyError::Altered)
    }
}

/// Checks the older formats, which OpenSSH reads with OpenSSL. That accepts every line ending, and text around the key, but no indentation
/// and no blank line within.
fn pem_lines(text: &str) -> Result<(), KeyError> {
    let mut lines = text.trim_start_matches('\u{feff}').lines();
    let first = lines.find(|line| encoding_of(line.trim()).is_some());
    let lines = lines.take_while(|line| !line.starts_with("-----END "));
    let is_indented = |line: &str| line.starts_with(char::is_whitespace);
    // Headers and a blank line may come first.
    let is_good = |(at, line): (usize, &str)| {
        at == 0 || !line.trim().is_empty() && !line.contains("-----END ")
    };
    if first.is_some_and(is_indented) || !lines.enumerate().all(is_good) {
        Err(KeyError::Altered)
    } else {
        Ok(())
    }
}

#[cfg(test)]
#[path = "key_text_tests.rs"]
#[allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests"
)]
mod tests;
