//! Git's pkt-lines (gitprotocol-common(5)), and the ref lists that servers send in them, in all three versions of the protocol.

use tokio::io::{AsyncRead, AsyncReadExt as _, BufReader, Take};
use tokio::task::coop::consume_budget;

use super::error::GitError;
use super::search::Search;
use crate::api::form::Form as _;
use crate::api::names::Commit;

/// Most bytes that are read from a server.
pub(super) const MAX_ANSWER: usize = 4 * 1024 * 1024;
/// Longest pkt-line, including its length prefix.
const MAX_LINE: usize = 65_520;

/// The pkt-lines that a server sends.
pub(super) struct Lines<R> {
    from: BufReader<Take<R>>,
    at: String,
}

enum Packet {
    Line(Vec<u8>),
    /// The end of a message or of a part of it.
    End,
}

/// Outcome of reading the advertisement.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Advertised {
    /// All refs (version 0 or 1): no request is needed.
    Refs,
    /// The server's capabilities (version 2): the refs have to be requested.
    Capabilities,
}

/// Encodes a pkt-line.
pub(super) fn line(text: &[u8]) -> Vec<u8> {
    let mut line = format!("{:04x}", text.len() + 4).into_bytes();
    line.extend_from_slice(text);
    line
}

/// The end of a message.
pub(super) const FLUSH: &[u8] = b"0000";

/// The `ls-refs` request of version 2 for the refs of a search.
pub(super) fn question(search: &Search) -> Vec<u8> {
    let mut all = line(b"command=ls-refs\n");
    all.extend_from_slice(b"0001");
    all.extend(line(b"peel\n"));
    for name in search.names() {
        all.extend(line(format!("ref-prefix {name}\n").as_bytes()));
    }
    all.extend_from_slice(FLUSH);
    all
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// Reads from `from`; `at` names the server in messages.
    pub(super) fn new(from: R, at: String) -> Self {
        let from = BufReader::new(from.take(MAX_ANSWER as u64));
        Self { from, at }
    }

    fn not_git(&self, why: &'static str) -> GitError {
        let at = self.at.clone();
        GitError::NotGit { at, why }
    }

    async fn fill(&mut self, bytes: &mut [u8]) -> Result<(), GitError> {
        match self.from.read_exact(bytes).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                let at = self.at.clone();
                Err(GitError::Timeout { at })
            }
            Err(_) if self.from.get_ref().limit() == 0 => Err(self.not_git(TOO_LONG)),
            Err(_) => Err(self.not_git("its answer broke off")),
        }
    }

    async fn packet(&mut self) -> Result<Packet, GitError> {
        consume_budget().await;
        let mut length = [0; 4];
        self.fill(&mut length).await?;
        let is_hex = length.iter().all(u8::is_ascii_hexdigit);
        let text = std::str::from_utf8(&length).unwrap_or_default();
        match usize::from_str_radix(text, 16) {
            Ok(0..=2) if is_hex => Ok(Packet::End),
            Ok(length @ 4..=MAX_LINE) if is_hex => {
                let mut bytes = vec![0; length - 4];
                self.fill(&mut bytes).await?;
                if bytes.starts_with(b"ERR ") {
                    let at = self.at.clone();
                    return Err(GitError::NoRepository { at });
                }
                if bytes.ends_with(b"\n") {
                    bytes.pop();
                }
                Ok(Packet::Line(bytes))
            }
            _ => Err(self.not_git("it does not speak git's protocol")),
        }
    }

    /// Reads the advertisement, which the server sends first.
    pub(super) async fn advertisement(
        &mut self,
        search: &mut Search,
    ) -> Result<Advertised, GitError> {
        let mut first = self.packet().await?;
        if matches!(&first, Packet::Line(line) if line.starts_with(b"# service=")) {
            let Packet::End = self.packet().await? else {
                return Err(self.not_git("it does not speak git's protocol"));
            };
            first = self.packet().await?;
        }
        match &first {
            Packet::Line(line) if line == b"version 2" => {
                let mut lists = false;
                while let Packet::Line(line) = self.packet().await? {
                    self.check_format(&line)?;
                    lists |= line == b"ls-refs" || line.starts_with(b"ls-refs=");
                }
                if lists {
                    Ok(Advertised::Capabilities)
                } else {
                    Err(self.not_git("it does not list its refs"))
                }
            }
            Packet::Line(line) if line == b"version 1" => {
                let first = self.packet().await?;
                self.all_refs(first, search).await
            }
            _ => self.all_refs(first, search).await,
        }
    }

    async fn all_refs(
        &mut self,
        mut next: Packet,
        search: &mut Search,
    ) -> Result<Advertised, GitError> {
        while let Packet::Line(line) = next {
            let mut parts = line.splitn(2, |c| *c == 0);
            let name = parts.next().unwrap_or_default();
            for capability in parts.next().unwrap_or_default().split(|c| *c == b' ') {
                self.check_format(capability)?;
            }
            self.note(name, search)?;
            next = self.packet().await?;
        }
        Ok(Advertised::Refs)
    }

    /// Reads the response to [`question`].
    pub(super) async fn refs(&mut self, search: &mut Search) -> Result<(), GitError> {
        while let Packet::Line(line) = self.packet().await? {
            self.note(&line, search)?;
        }
        Ok(())
    }

    fn check_format(&self, capability: &[u8]) -> Result<(), GitError> {
        if capability.starts_with(b"object-format=") && capability != b"object-format=sha1" {
            return Err(self.not_git("its commits are not of 40 digits (SHA-256)"));
        }
        Ok(())
    }

    /// Notes a line: a commit, a name, and in version 2 the commit that a tag points to.
    fn note(&self, line: &[u8], search: &mut Search) -> Result<(), GitError> {
        let malformed = || self.not_git("its list of refs is malformed");
        let Ok(line) = std::str::from_utf8(line) else {
            // A name that is not UTF-8 is not one that is searched for.
            return Ok(());
        };
        // `unborn` lines are not requested. A shallow repository lists its boundary at the end.
        if line.starts_with("shallow ") {
            return Ok(());
        }
        let mut parts = line.split(' ');
        let (Some(commit), Some(name)) = (parts.next(), parts.next()) else {
            return Err(malformed());
        };
        let commit = Commit::parse(commit).ok_or_else(malformed)?;
        search.note(name, commit);
        if let Some(peeled) = parts.find_map(|part| part.strip_prefix("peeled:")) {
            let peeled = Commit::parse(peeled).ok_or_else(malformed)?;
            search.note_peeled(name, peeled);
        }
        Ok(())
    }
}

/// Error for a response that is too long.
pub(super) const TOO_LONG: &str = "its answer is longer than 4 MiB";
