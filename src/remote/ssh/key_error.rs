//! Why a private key cannot be used, as messages for users. They never contain a part of the key.

/// Why a private key cannot be used, and how to fix it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It is not a private key in a known format.
    #[error(
        "it is not a private key that OpenSSH reads (in OpenSSH or PEM form: Ed25519, RSA, or ECDSA over a NIST curve): {FROM_FILE}, for example one from `ssh-keygen -t ed25519`"
    )]
    Unreadable,
    /// It has a passphrase.
    #[error(
        "it is protected by a passphrase: remove it with `ssh-keygen -p`, or put another key into the Secret"
    )]
    Encrypted,
    /// Its text or one of its numbers is too long to compute with.
    #[error(
        "it is larger than {} KiB, or RSA of more than {MAX_BITS} bits: put a smaller one into the Secret, for example from `ssh-keygen -t ed25519`",
        MAX_TEXT / 1024
    )]
    TooLarge,
    /// The line break after its last line is missing.
    #[error(
        "the line break after its last line is missing, and OpenSSH does not read it without: `--from-literal` with `$(cat …)` drops it, so {FROM_FILE}"
    )]
    NoLastLineEnd,
    /// Its lines end with CR LF.
    #[error(
        "its lines end with CR LF, as on Windows, and OpenSSH does not read them: convert the file with `dos2unix`, and {FROM_FILE}"
    )]
    LineEnds,
    /// Its lines were altered.
    #[error(
        "its lines are joined, indented, or follow other text, and OpenSSH does not read them: {FROM_FILE}, as `ssh-keygen` wrote that"
    )]
    Altered,
    /// It is encoded in base64 twice.
    #[error("it is encoded in base64 twice: put the key itself under `stringData`, or {FROM_FILE}")]
    Encoded,
    /// It is a public key.
    #[error("it is a public key: {FROM_FILE}, the file without `.pub`")]
    Public,
    /// It is in `PuTTY`'s format.
    #[error(
        "it is in PuTTY's form, which OpenSSH does not read: convert it with `puttygen <key>.ppk -O private-openssh -o <file>`, and {FROM_FILE}"
    )]
    Putty,
    /// It is in the format of SSH2.
    #[error(
        "it is in the form of SSH2, which OpenSSH does not read: convert it with `ssh-keygen -i`, and {FROM_FILE}"
    )]
    OtherForm,
    /// Its private half is on a hardware token.
    #[error(
        "it is an `sk-` key, which needs its hardware token at each log-in: put another key into the Secret, for example from `ssh-keygen -t ed25519`"
    )]
    Hardware,
    /// It is of another algorithm.
    #[error(
        "it is of an algorithm that OpenSSH no longer takes: put another key into the Secret, for example from `ssh-keygen -t ed25519`"
    )]
    Algorithm,
    /// Its modulus is too short.
    #[error(
        "it is RSA of fewer than {MIN_BITS} bits, which SSH servers refuse: put a longer one into the Secret, for example from `ssh-keygen -t ed25519`"
    )]
    ShortRsa,
}

/// How to put a key into a Secret unaltered.
const FROM_FILE: &str = "put the key's file into the Secret with `kubectl create secret generic <name> --from-file=ssh-privatekey=<file>`";
/// Most bytes of a key's text. This is about twice the size of an RSA key of 8192 bits.
pub const MAX_TEXT: usize = 16 * 1024;
/// Fewest bits of an RSA modulus. Hardened servers require this (`RequiredRSASize`), and so does NIST SP 800-131A.
pub(super) const MIN_BITS: u32 = 2048;
/// Most bits of an RSA modulus. The `rsa` crate has the same limit for host keys.
pub(super) const MAX_BITS: usize = 8192;
