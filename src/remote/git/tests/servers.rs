//! Git servers for tests: git's own programs, and hostile servers.

use std::convert::Infallible;
use std::io::{Read, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rig::git::{self, alone};
use rig::pki::{Authority, Pair, Validity};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::spawn_blocking;

use crate::api::form::Form as _;
use crate::api::names::Commit;
use crate::remote::test_server;

pub(super) type Answer = Response<Full<Bytes>>;

/// A repository with two branches, tags of both kinds, and a tag and a branch of the same name.
pub(super) struct Repo(git::Repo);

impl Repo {
    /// `None` if git is not installed.
    pub(super) fn new() -> Option<Self> {
        let repo = git::Repo::new()?;
        repo.commit("one");
        repo.git(&["tag", "light"]);
        repo.git(&["tag", "-a", "-m", "text", "annotated"]);
        repo.git(&["tag", "-a", "-m", "text", "both"]);
        repo.git(&["checkout", "-q", "-b", "feature/x"]);
        repo.commit("two");
        repo.git(&["branch", "both"]);
        repo.git(&["checkout", "-q", "main"]);
        repo.commit("three");
        Some(Self(repo))
    }

    /// A repository that git makes with these arguments; `None` if git is not installed.
    pub(super) fn of(init: &[&str]) -> Option<Self> {
        let repo = git::Repo::new()?;
        let directory = repo.root().join("repo");
        std::fs::remove_dir_all(directory.join(".git")).expect("it exists");
        repo.git(init);
        Some(Self(repo))
    }

    /// Runs git in the repository.
    pub(super) fn git(&self, arguments: &[&str]) {
        self.0.git(arguments);
    }

    /// The directory that contains the repository `repo/.git`.
    pub(super) fn root(&self) -> PathBuf {
        self.0.root().to_owned()
    }

    /// The commit that a ref names.
    pub(super) fn commit(&self, git_ref: &str) -> Commit {
        let commit = self.0.git(&["rev-parse", &format!("{git_ref}^{{commit}}")]);
        Commit::parse(&commit).expect("git prints a commit")
    }
}

pub(super) struct Reply;

impl Reply {
    pub(super) fn of(status: u16) -> Answer {
        let answer = Response::builder().status(status);
        answer.body(Full::default()).expect("an answer")
    }

    pub(super) fn to(location: &str) -> Answer {
        let answer = Response::builder().status(301).header("location", location);
        answer.body(Full::default()).expect("an answer")
    }
}

/// Serves HTTP on a free port.
pub(super) async fn http<F>(
    answer: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static,
) -> SocketAddr
where
    F: Future<Output = Answer> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("its address");
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = Arc::clone(&answer);
            let service = service_fn(move |request| {
                let answer = answer(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            let io = TokioIo::new(stream);
            let server = hyper::server::conn::http1::Builder::new();
            tokio::spawn(server.serve_connection(io, service));
        }
    });
    at
}

/// Runs `git http-backend`, with the protocol version that the client asks for unless it is to be ignored.
pub(super) async fn cgi(
    root: PathBuf,
    request: Request<Incoming>,
    version: Option<&'static str>,
) -> Answer {
    let asked = request.headers().get("git-protocol").cloned();
    assert_eq!(asked.expect("the version"), "version=2");
    let header = |name: &str| {
        let value = request.headers().get(name);
        value
            .map_or("", |value| value.to_str().expect("text"))
            .to_owned()
    };
    let mut git = Command::new("git");
    alone(&mut git)
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", request.method().as_str())
        .env("PATH_INFO", request.uri().path())
        .env("QUERY_STRING", request.uri().query().unwrap_or_default())
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", header("content-length"))
        .envs(version.map(|version| ("GIT_PROTOCOL", version)));
    let body = request.into_body().collect().await.expect("a body");
    let body = body.to_bytes();
    let said = spawn_blocking(move || run(git, &body)).await.expect("git");
    let end = said.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let end = end.expect("an answer");
    let head = String::from_utf8_lossy(&said[..end]).into_owned();
    let mut answer = Response::builder();
    for line in head.lines() {
        let (name, value) = line.split_once(": ").expect("a header");
        answer = match name {
            "Status" => answer.status(value.get(..3).expect("a status")),
            _ => answer.header(name, value),
        };
    }
    let body = Bytes::copy_from_slice(&said[end + 4..]);
    answer.body(Full::new(body)).expect("an answer")
}

/// The output of a program for this input.
fn run(mut program: Command, input: &[u8]) -> Vec<u8> {
    let piped = program.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = piped.stderr(Stdio::null()).spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("its input");
    let _ = stdin.write_all(input);
    drop(stdin);
    child.wait_with_output().expect("it ends").stdout
}

/// Starts `git daemon`; `None` if it is not installed.
pub(super) async fn daemon(repo: &Repo) -> Option<git::Daemon> {
    git::serve(&repo.0).await
}

/// Sends to every client what `next` returns for the number of bytes sent so far, until the client disconnects; for `None` it sends
/// nothing.
pub(super) async fn raw(
    next: impl Fn(usize) -> Option<Vec<u8>> + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("its address");
    let next = Arc::new(next);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let next = Arc::clone(&next);
            tokio::spawn(async move {
                let mut sent = 0;
                let _ = stream.read(&mut [0; 1024]).await;
                while let Some(bytes) = next(sent) {
                    if stream.write_all(&bytes).await.is_err() {
                        return;
                    }
                    sent += bytes.len();
                    if bytes.len() == 1 {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
                std::future::pending::<()>().await;
            });
        }
    });
    at
}

/// A TLS server whose certificate is signed by an untrusted authority.
pub(super) fn tls() -> SocketAddr {
    test_server::serve(&signed().0, b"")
}

/// A TLS server before a plain one, and the authority that has signed its certificate.
pub(super) fn tls_before(plain: SocketAddr) -> (SocketAddr, String) {
    let (pair, authority) = signed();
    let at = test_server::answer(&pair, move |stream| {
        let request = whole_request(stream)?;
        let mut plain = std::net::TcpStream::connect(plain)?;
        plain.write_all(&request)?;
        let mut answer = Vec::new();
        plain.read_to_end(&mut answer)?;
        Ok(answer)
    });
    (at, authority)
}

/// A certificate, and the authority that has signed it.
fn signed() -> (Pair, String) {
    let authority = Authority::new("nobody").expect("an authority");
    let validity = Validity::lasting(Duration::from_secs(3600));
    let pair = authority.serving(&["localhost"], &[[127, 0, 0, 1].into()], validity);
    (
        pair.expect("a certificate"),
        authority.certificate().to_owned(),
    )
}

/// Reads a request with its body. It asks for the end of the connection.
fn whole_request(stream: &mut dyn Read) -> std::io::Result<Vec<u8>> {
    let mut request = Vec::new();
    loop {
        let mut bytes = [0; 4096];
        let read = stream.read(&mut bytes)?;
        request.extend_from_slice(&bytes[..read]);
        let Some(end) = request.windows(4).position(|it| it == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&request[..end]).to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |length| length.trim().parse().expect("a number"));
        if read == 0 || request.len() >= end + 4 + length {
            let rest = request.split_off(end);
            request.extend_from_slice(b"\r\nconnection: close");
            request.extend(rest);
            return Ok(request);
        }
    }
}
