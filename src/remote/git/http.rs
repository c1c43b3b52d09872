//! Git's smart HTTP protocol (gitprotocol-http(5)): version 2, and the older versions, which some servers return instead.

use std::convert::Infallible;
use std::future::ready;
use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy::Client as Http;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ClientBuilder, ConfigExt as _};
use kube::{Client, Config};
use tower::service_fn;
use zeroize::Zeroizing;

use super::Credentials;
use super::address::{Place, Transport};
use super::error::GitError;
use super::lines::{Advertised, Lines, MAX_ANSWER, question};
use super::search::Search;
use crate::api::host::Host;
use crate::remote::answer;
use crate::remote::offload::ANSWERS;
use crate::remote::tls;

/// User name for a password or token without one, as in NIO.
const USER: &str = "git";
const REFS: &str = "/info/refs?service=git-upload-pack";
/// Redirects that are followed in one resolution.
const MOST_REDIRECTS: usize = 3;

/// Resolves a ref over HTTP, at these addresses of the server.
pub(super) async fn ask(
    place: &Place,
    at: Vec<SocketAddr>,
    credentials: &Credentials,
    search: &mut Search,
) -> Result<(), GitError> {
    let server = Server {
        client: client(place, at).await?,
        place,
        authorization: authorization(credentials),
    };
    let mut base = String::from_utf8_lossy(&place.path).into_owned();
    let mut redirects = 0;
    let response = loop {
        let response = server.get(&format!("{base}{REFS}")).await?;
        if !response.status().is_redirection() {
            break response;
        }
        redirects += 1;
        if redirects > MOST_REDIRECTS {
            return Err(server.not_git("it redirects again and again"));
        }
        base = redirected(place, response.headers())?;
    };
    let body = server
        .body(response, "application/x-git-upload-pack-advertisement")
        .await?;
    let mut lines = Lines::new(&*body, place.at());
    if lines.advertisement(search).await? == Advertised::Capabilities {
        let response = server
            .post(&format!("{base}/git-upload-pack"), question(search))
            .await?;
        let body = server
            .body(response, "application/x-git-upload-pack-result")
            .await?;
        Lines::new(&*body, place.at()).refs(search).await?;
    }
    Ok(())
}

/// A client for this server only, at these addresses. It ignores the environment, does not retry, and trusts the system's certificate
/// authorities.
async fn client(place: &Place, at: Vec<SocketAddr>) -> Result<Client, GitError> {
    let url: Uri = place.origin().parse().map_err(|_| GitError::Address)?;
    let looked_up = service_fn(move |_: Name| ready(Ok::<_, Infallible>(at.clone().into_iter())));
    let mut connector = HttpConnector::new_with_resolver(looked_up);
    connector.enforce_http(false);
    let config = Config::new(url);
    let default_namespace = config.default_namespace.clone();
    // This reads the authorities from files.
    let connector =
        ANSWERS.offload(move || config.rustls_https_connector_with_connector(connector));
    let connector = connector
        .await
        .map_err(|_| GitError::Tls { at: place.at() })?;
    let http = Http::builder(TokioExecutor::new()).build(connector);
    Ok(ClientBuilder::new(http, default_namespace).build())
}

fn authorization(credentials: &Credentials) -> Option<HeaderValue> {
    let password = credentials.password.as_ref()?.expose();
    let user = credentials
        .username
        .as_ref()
        .map_or(USER, |name| name.expose());
    let pair = Zeroizing::new(format!("{}:{}", user.trim(), password.trim()));
    let basic = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
    let mut value = HeaderValue::from_str(&basic).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn not_git(place: &Place, why: &'static str) -> GitError {
    let at = place.at();
    GitError::NotGit { at, why }
}

/// The repository path to which a server redirects; an error unless it is on the same server.
fn redirected(place: &Place, headers: &HeaderMap) -> Result<String, GitError> {
    let malformed = || not_git(place, "its redirect leads nowhere");
    let location: Uri = headers
        .get(LOCATION)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .ok_or_else(malformed)?;
    if let Some(host) = location.host() {
        let scheme = location.scheme_str().unwrap_or_default();
        let port = location
            .port_u16()
            .map_or(String::new(), |port| format!(":{port}"));
        let plain = host.trim_matches(['[', ']']);
        let to = Host::with_underscores(plain).ok_or_else(malformed)?;
        let repo = format!("{scheme}://{to}{port}/");
        let origin = Place::parse(&format!("{repo}x")).map(|place| place.origin());
        if origin != Some(place.origin()) {
            let scheme = match scheme {
                "http" | "https" => scheme,
                _ => "another scheme",
            };
            return Err(GitError::Redirect {
                at: place.at(),
                to: format!("{to}{port} ({scheme})"),
            });
        }
    }
    let path = location.path_and_query().map_or("", |path| path.as_str());
    match path.strip_suffix(REFS) {
        // `//host/path` would name another host.
        Some(base) if !base.starts_with("//") => Ok(base.to_owned()),
        _ => Err(malformed()),
    }
}

struct Server<'a> {
    client: Client,
    place: &'a Place,
    authorization: Option<HeaderValue>,
}

impl Server<'_> {
    fn not_git(&self, why: &'static str) -> GitError {
        not_git(self.place, why)
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.place.origin())
    }

    async fn get(&self, path: &str) -> Result<Response<Body>, GitError> {
        self.send(Request::get(self.url(path)), Body::empty()).await
    }

    async fn post(&self, path: &str, body: Vec<u8>) -> Result<Response<Body>, GitError> {
        let request = Request::post(self.url(path))
            .header(CONTENT_TYPE, "application/x-git-upload-pack-request")
            .header(ACCEPT, "application/x-git-upload-pack-result");
        self.send(request, body.into()).await
    }

    async fn send(
        &self,
        request: hyper::http::request::Builder,
        body: Body,
    ) -> Result<Response<Body>, GitError> {
        let mut request = request.header("Git-Protocol", "version=2");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(body).map_err(|_| GitError::Address)?;
        let response = self.client.send(request).await;
        response.map_err(|error| {
            let at = self.place.at();
            if self.place.transport == Transport::Https && tls::error_of(&error).is_some() {
                GitError::Tls { at }
            } else {
                let why = "no connection";
                GitError::Unreachable { at, why }
            }
        })
    }

    /// The body of a response, which must have this content type.
    async fn body(&self, response: Response<Body>, of_type: &str) -> Result<Vec<u8>, GitError> {
        let at = self.place.at();
        match response.status().as_u16() {
            200 => {}
            401 | 403 => {
                let what = match self.authorization {
                    Some(_) => "the credentials",
                    None => "to answer without credentials",
                };
                return Err(GitError::Refused { at, what });
            }
            404 | 410 => return Err(GitError::NoRepository { at }),
            429 | 500..=599 => {
                let why = "it says that it cannot answer now";
                return Err(GitError::Unreachable { at, why });
            }
            _ => return Err(self.not_git("it answers otherwise than git servers do")),
        }
        let found = response.headers().get(CONTENT_TYPE);
        if found.is_none_or(|found| found != of_type) {
            return Err(
                self.not_git("it serves something else, or git's old protocol of plain files")
            );
        }
        let body = answer::body(response, MAX_ANSWER).await;
        body.ok_or_else(|| self.not_git("its answer broke off or is longer than 4 MiB"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

    use super::*;

    /// Credentials go where `spec.gitRepo` says, by the scheme that it says, and nowhere else.
    #[test]
    fn a_redirect_leads_to_another_path_of_the_same_server_or_nowhere() {
        let to = |repo: &str, location: &str| {
            let location = HeaderValue::from_str(location).unwrap();
            let headers = HeaderMap::from_iter([(LOCATION, location)]);
            redirected(&Place::parse(repo).unwrap(), &headers)
        };
        let at = "https://git.example/a";
        for (repo, location) in [
            (at, "/b"),
            (at, "https://git.example/b"),
            (at, "https://git.example:443/b"),
            (at, "https://GIT.example./b"),
            ("http://git.example:3000/a", "http://git.example:3000/b"),
        ] {
            let found = to(repo, &format!("{location}{REFS}"));
            assert_eq!(found.as_deref(), Ok("/b"), "{location}");
        }
        for (repo, location, told) in [
            (at, "https://other.example/b", "other.example (https)"),
            (
                at,
                "https://git.example.other/b",
                "git.example.other (https)",
            ),
            (
                at,
                "https://git.example@other.example/b",
                "other.example (https)",
            ),
            (at, "https://git.example:8443/b", "git.example:8443 (https)"),
            (at, "http://git.example/b", "git.example (http)"),
            (at, "http://git.example:443/b", "git.example:443 (http)"),
            (
                "http://git.example/a",
                "https://git.example/b",
                "git.example (https)",
            ),
            (
                "http://git.example/a",
                "http://169.254.169.254/b",
                "169.254.169.254 (http)",
            ),
            (at, "ftp://git.example/b", "git.example (another scheme)"),
        ] {
            let found = to(repo, &format!("{location}{REFS}"));
            let Err(GitError::Redirect { to, .. }) = found else {
                panic!("{location}: {found:?}");
            };
            assert_eq!(to, told);
        }
        for location in [
            "//other.example/b/info/refs?service=git-upload-pack",
            "/login?next=/b",
            "https://",
            "https://a b/",
        ] {
            let found = to(at, location);
            assert!(
                matches!(found, Err(GitError::NotGit { .. })),
                "{location}: {found:?}"
            );
        }
        let none = redirected(&Place::parse(at).unwrap(), &HeaderMap::new());
        assert!(matches!(none, Err(GitError::NotGit { .. })));
    }
}
