//! The files and the misbehaviour of a machine, and the methods with which a test changes and reads them.

use std::collections::BTreeMap;

use russh::keys::{Algorithm, PrivateKey, PublicKey};
use russh::{cipher, kex};

use super::{HostOptions, KeyPair, MachineHost};

/// The result of reading a file.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Its bytes, and exit status 0.
    Bytes(Vec<u8>),
    /// Text on stderr and this exit status.
    Fail {
        /// What is written to stderr.
        stderr: String,
        /// The exit status.
        status: u32,
    },
    /// Bytes that do not end (up to 64 MiB).
    Endless,
    /// The command hangs forever.
    Hang,
    /// These bytes; then the channel is closed without an exit status.
    NoStatus(Vec<u8>),
    /// The machine opens such a channel to its client, waits for the response, and then sends these bytes.
    Opens(ServerChannel, Vec<u8>),
}

/// The channels that an SSH server may open.
#[derive(Clone, Copy, Debug)]
pub enum ServerChannel {
    /// To the client's SSH agent.
    Agent,
    /// A session, which only clients open.
    Session,
    /// To a port that the client's machine reaches.
    DirectTcpip,
    /// To a socket on the client's machine.
    DirectStreamLocal,
    /// From a port that the client asked to be forwarded.
    ForwardedTcpip,
    /// From a socket that the client asked to be forwarded.
    ForwardedStreamLocal,
    /// To the client's display.
    X11,
}

/// One attempt to log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthAttempt {
    /// The requested user.
    pub user: String,
    /// `publickey`, `password` or `none`.
    pub method: &'static str,
    /// Whether it was accepted.
    pub accepted: bool,
}

/// The state of a machine that can change while it runs.
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub(super) struct State {
    pub(super) user: String,
    pub(super) authorized: Vec<PublicKey>,
    pub(super) host_key: PrivateKey,
    pub(super) files: BTreeMap<String, Answer>,
    pub(super) need_sudo: bool,
    pub(super) no_sudo: bool,
    /// What the login shell prints before each command.
    pub(super) greeting: Vec<u8>,
    pub(super) speaks_french: bool,
    pub(super) refuse: bool,
    pub(super) hang: bool,
    pub(super) rekeys: bool,
    pub(super) exchange: Option<kex::Name>,
    pub(super) cipher: Option<cipher::Name>,
    pub(super) opened: u64,
    /// Whether it runs a control plane that is up.
    pub(super) api_up: bool,
    pub(super) api_off: bool,
    pub(super) api_hangs: bool,
    pub(super) api_held: u64,
    pub(super) gone: bool,
    pub(super) connections: u64,
    pub(super) execs: Vec<String>,
    pub(super) auths: Vec<AuthAttempt>,
}

impl State {
    pub(super) fn new(options: HostOptions) -> Self {
        Self {
            user: options.user,
            authorized: options.authorized,
            host_key: KeyPair::generate().private,
            files: BTreeMap::new(),
            need_sudo: false,
            no_sudo: false,
            greeting: Vec::new(),
            speaks_french: false,
            refuse: false,
            hang: false,
            rekeys: false,
            exchange: None,
            cipher: None,
            opened: 0,
            api_up: false,
            api_off: false,
            api_hangs: false,
            api_held: 0,
            gone: false,
            connections: 0,
            execs: Vec::new(),
            auths: Vec::new(),
        }
    }

    /// Whether the API port is open.
    pub(super) fn serves_api(&self) -> bool {
        self.api_up && !self.api_off && !self.gone
    }

    /// The result of a command line. It knows only `cat -- <path>`, the same with `sudo -n`, and a check whether a file exists. Each can be
    /// bare or in a script of `sh -c` that has the path as its argument and begins with `echo`, whose argument is printed first; another
    /// `echo` may come after the file.
    pub(super) fn run(&self, command: &str) -> (Vec<u8>, Answer) {
        let fail = |stderr: String, status| Answer::Fail { stderr, status };
        let unknown = || {
            let stderr = format!("sh: command not found: {command}\n");
            (self.greeting.clone(), fail(stderr, 127))
        };
        let script = command.strip_prefix("sh -c '");
        let script = script.and_then(|rest| rest.split_once("' '"));
        let (script, path) = match script {
            Some((script, path)) => (script, unquote(&format!("'{path}"))),
            None => match command.rsplit_once("cat -- ") {
                Some((_, path)) => (command, unquote(path)),
                None => return unknown(),
            },
        };
        let Some(path) = path else { return unknown() };
        let mut before = self.greeting.clone();
        let echo = script.split_once("; echo ");
        if let Some((word, _)) = echo.and_then(|(_, rest)| rest.split_once(';')) {
            before.extend_from_slice(word.as_bytes());
            before.push(b'\n');
        }
        let sudo = script.contains("sudo -n cat");
        let english = !self.speaks_french || script.contains("LC_ALL=C");
        let says = |english_text: &str, french: &str| {
            let text = if english { english_text } else { french };
            fail(format!("cat: {path}: {text}\n"), 1)
        };
        let file = self.files.get(&path);
        let answer = if let Some((_, status)) = script.rsplit_once("&& exit ") {
            // The check reports whether the file exists: every directory can be searched.
            let missing = status.split_once(';').and_then(|(it, _)| it.parse().ok());
            let there = script
                .rsplit_once("exit ")
                .and_then(|(_, it)| it.parse().ok());
            let status = if file.is_none() { missing } else { there };
            fail(String::new(), status.unwrap_or(127))
        } else if sudo && self.no_sudo {
            fail("sudo: a password is required\n".into(), 1)
        } else {
            match file {
                Some(_) if self.need_sudo && !sudo => {
                    says("Permission denied", "Permission non accordée")
                }
                Some(Answer::Bytes(bytes)) => {
                    let after = script.rsplit_once("{ echo; echo ");
                    let after = after.and_then(|(_, rest)| rest.split_once(';'));
                    let after = after.map(|(word, _)| format!("\n{word}\n"));
                    Answer::Bytes([bytes, after.unwrap_or_default().as_bytes()].concat())
                }
                Some(answer) => answer.clone(),
                None => says(
                    "No such file or directory",
                    "Aucun fichier ou dossier de ce nom",
                ),
            }
        };
        (before, answer)
    }
}

/// Parses one word as a POSIX shell does: in single quotes (with `'\''` for a quote), or bare without special characters.
fn unquote(word: &str) -> Option<String> {
    if let Some(inner) = word
        .strip_prefix('\'')
        .and_then(|rest| rest.strip_suffix('\''))
    {
        let text = inner.replace("'\\''", "\u{0}");
        return (!text.contains('\'')).then(|| text.replace('\u{0}', "'"));
    }
    let harmless = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    (!word.is_empty() && word.chars().all(harmless)).then(|| word.to_owned())
}

impl MachineHost {
    /// Creates or replaces a file.
    pub fn put_file(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.answer(path, Answer::Bytes(bytes.into()));
    }

    /// Sets the result of reading `path`.
    pub fn answer(&self, path: &str, answer: Answer) {
        self.change(|state| drop(state.files.insert(path.to_owned(), answer)));
    }

    /// The result of reading `path`; `None` if there is no such file.
    #[must_use]
    pub fn file(&self, path: &str) -> Option<Answer> {
        self.read(|state| state.files.get(path).cloned())
    }

    /// Removes a file.
    pub fn remove_file(&self, path: &str) {
        self.change(|state| drop(state.files.remove(path)));
    }

    /// Removes all files, as a reinstallation does.
    pub fn wipe(&self) {
        self.change(|state| state.files.clear());
    }

    /// Sets whether files can be read only with sudo.
    pub fn need_sudo(&self, need: bool) {
        self.change(|state| state.need_sudo = need);
    }

    /// Sets whether sudo asks for a password, so that it always fails.
    pub fn no_sudo(&self, no: bool) {
        self.change(|state| state.no_sudo = no);
    }

    /// What the login shell prints before each command.
    pub fn greets_with(&self, greeting: &str) {
        self.change(|state| state.greeting = greeting.into());
    }

    /// Sets whether commands report errors in French unless they set a locale.
    pub fn speak_french(&self, french: bool) {
        self.change(|state| state.speaks_french = french);
    }

    /// Sets whether connections to the SSH port are refused. Open ones stay.
    pub fn refuse(&self, refuse: bool) {
        self.change(|state| state.refuse = refuse);
    }

    /// Sets whether new connections to the SSH port are accepted but never answered.
    pub fn hang(&self, hang: bool) {
        self.change(|state| state.hang = hang);
    }

    /// Sets whether new connections exchange keys again after each packet.
    pub fn rekey_always(&self, rekeys: bool) {
        self.change(|state| state.rekeys = rekeys);
    }

    /// Sets the only key exchange that the SSH server offers to new connections.
    pub fn offer_only(&self, exchange: kex::Name) {
        self.change(|state| state.exchange = Some(exchange));
    }

    /// Sets the only cipher that the SSH server offers to new connections.
    pub fn offer_only_cipher(&self, cipher: cipher::Name) {
        self.change(|state| state.cipher = Some(cipher));
    }

    /// How many channels opened by the machine its client accepted.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.read(|state| state.opened)
    }

    /// Sets whether the machine runs a control plane that is up. Otherwise its API port is closed.
    pub fn serve_api(&self, up: bool) {
        self.change(|state| state.api_up = up);
    }

    /// Sets whether the machine's API port is closed although its control plane is up. Open connections are cut.
    pub fn api_off(&self, off: bool) {
        self.change(|state| state.api_off = off);
    }

    /// Sets whether new connections to the API port are accepted but not answered until this is reset.
    pub fn api_hangs(&self, hangs: bool) {
        self.change(|state| state.api_hangs = hangs);
    }

    /// How many connections to the API port were held in this way.
    #[must_use]
    pub fn api_held(&self) -> u64 {
        self.read(|state| state.api_held)
    }

    /// Replaces the host key, as after a reinstallation or with a man in the middle. Returns the new public half.
    #[must_use]
    pub fn change_host_key(&self) -> PublicKey {
        let key = KeyPair::generate().private;
        let public = key.public_key().clone();
        self.change(|state| state.host_key = key);
        public
    }

    /// Replaces the host key with one of this algorithm.
    pub fn have_host_key(&self, algorithm: Algorithm) {
        let key = PrivateKey::random(&mut rand::rng(), algorithm).expect("a key can be made");
        self.change(|state| state.host_key = key);
    }

    /// The public half of the host key.
    #[must_use]
    pub fn host_key(&self) -> PublicKey {
        self.read(|state| state.host_key.public_key().clone())
    }

    /// Sets who may log in.
    pub fn authorize(&self, user: &str, keys: Vec<PublicKey>) {
        self.change(|state| {
            state.authorized = keys;
            user.clone_into(&mut state.user);
        });
    }

    /// Every command line that was requested, in order.
    #[must_use]
    pub fn execs(&self) -> Vec<String> {
        self.read(|state| state.execs.clone())
    }

    /// Every attempt to log in, in order.
    #[must_use]
    pub fn auths(&self) -> Vec<AuthAttempt> {
        self.read(|state| state.auths.clone())
    }

    /// How many connections the SSH port accepted.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.read(|state| state.connections)
    }
}

#[cfg(test)]
mod tests {
    use super::unquote;

    #[test]
    fn words_of_a_shell() {
        assert_eq!(unquote("'/etc/a b'").as_deref(), Some("/etc/a b"));
        assert_eq!(unquote("'/it'\\''s'").as_deref(), Some("/it's"));
        assert_eq!(unquote("/etc/k.yaml").as_deref(), Some("/etc/k.yaml"));
        assert_eq!(unquote("/etc/k;id"), None);
        assert_eq!(unquote("'a' 'b'"), None);
        assert_eq!(unquote(""), None);
    }
}
