//! Git's smart HTTP protocol (gitprotocol-http(5)): version 2, and the older versions, which some servers return instead.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, LOCATION};
use hyper::{Request, Response, Uri};
use kube::client::Body;
use kube::{Client, Config};
use zeroize::Zeroizing;

use super::address::{Place, Transport};
use super::error::GitError;
use super::lines::{Advertised, Lines, MAX_ANSWER, question};
use super::search::Search;
use super::{Credentials, DEADLINE};
use crate::api::host::Host;
use crate::remote::answer;
use crate::remote::offload::ANSWERS;
use crate::remote::tls;

/// User name for a password or token without one, as in NIO.
const USER: &str = "git";
const REFS: &str = "/info/refs?service=git-upload-pack";
/// Redirects that are followed in one resolution.
const MOST_REDIRECTS: usize = 3;

/// Resolves a ref over HTTP.
pub(super) async fn ask(
    place: &Place,
    credentials: &Credentials,
    search: &mut Search,
) -> Result<(), GitError> {
    let server = Server {
        client: client(place).await?,
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
        base = server.redirected(&response)?;
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

/// A client for this server only. It ignores the environment, does not retry, and trusts the system's certificate authorities.
async fn client(place: &Place) -> Result<Client, GitError> {
    let url: Uri = place.origin().parse().map_err(|_| GitError::Address)?;
    let mut config = Config::new(url);
    config.connect_timeout = Some(DEADLINE);
    config.read_timeout = Some(DEADLINE);
    config.write_timeout = Some(DEADLINE);
    config.proxy_url = None;
    config.default_retry = false;
    // This reads the authorities from files.
    let client = ANSWERS.offload(move || Client::try_from(config)).await;
    client.map_err(|_| GitError::Tls { at: place.at() })
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

struct Server<'a> {
    client: Client,
    place: &'a Place,
    authorization: Option<HeaderValue>,
}

impl Server<'_> {
    fn not_git(&self, why: &'static str) -> GitError {
        let at = self.place.at();
        GitError::NotGit { at, why }
    }

    async fn get(&self, path: &str) -> Result<Response<Body>, GitError> {
        self.send(Request::get(path), Body::empty()).await
    }

    async fn post(&self, path: &str, body: Vec<u8>) -> Result<Response<Body>, GitError> {
        let request = Request::post(path)
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

    /// The repository path to which the server redirects; an error unless it is on the same server.
    fn redirected(&self, response: &Response<Body>) -> Result<String, GitError> {
        let malformed = || self.not_git("its redirect leads nowhere");
        let location = response.headers().get(LOCATION);
        let location: Uri = location
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
            if origin != Some(self.place.origin()) {
                let scheme = match scheme {
                    "http" | "https" => scheme,
                    _ => "another scheme",
                };
                return Err(GitError::Redirect {
                    at: self.place.at(),
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
