//! Rebuilds a kubeconfig from untrusted bytes: pure, without panics, and with no part of the input in errors.
//!
//! There are two steps, since a kubeconfig may refer to files: [`inspect`] returns which, [`Harmless::finish`] takes their content.

use std::collections::BTreeMap;

use serde_yaml::Value;

use super::pem_text::{self, Certificates, PrivateKey};
pub use super::refusal::{Field, Unsafe};
use super::server::Server;
use super::yaml;
use crate::api::host::Host;
use crate::api::spec::Endpoint;
use crate::remote::secret::{SecretBytes, SecretText};

/// Most characters of a bearer token.
const MAX_TOKEN: usize = 16 * 1024;
/// Most characters of a path.
const MAX_PATH: usize = 1024;

/// Fields of a user that would run a program, read a file, contact another server or weaken TLS (`client-go`, `AuthInfo`).
const USER_REFUSED: [&str; 11] = [
    "exec",
    "auth-provider",
    "tokenFile",
    "token-file",
    "username",
    "password",
    "as",
    "as-uid",
    "as-groups",
    "as-user-extra",
    "impersonate",
];
/// The same for a cluster (`client-go`, `Cluster`).
const CLUSTER_REFUSED: [&str; 2] = ["proxy-url", "insecure-skip-tls-verify"];

/// The cluster and machine of the rebuilt kubeconfig.
#[derive(Clone, Copy, Debug)]
pub struct RebuiltFor<'a> {
    /// The cluster's name.
    pub cluster: &'a str,
    /// The address of the machine from which the kubeconfig comes.
    pub machine_address: &'a str,
    /// `spec.controlPlaneEndpoint`.
    pub endpoint: Option<&'a Endpoint>,
}

/// PEM, or the path of the file that contains it.
enum Pem {
    Data(SecretBytes),
    Path(String),
}

enum HarmlessCredential {
    Certificate { certificate: Pem, key: Pem },
    Token(SecretText),
}

/// The harmless parts of a kubeconfig, before the files to which it refers are read.
pub struct Harmless {
    server: Server,
    tls_server_name: Option<Host>,
    authority: Pem,
    credential: HarmlessCredential,
}

/// How a client authenticates.
#[derive(Clone)]
pub(super) enum Credential {
    /// A client certificate.
    Certificate {
        certificates: Certificates,
        key: PrivateKey,
    },
    /// A bearer token.
    Token(SecretText),
}

/// What a client needs to reach an API server. Every part is checked.
#[derive(Clone)]
pub struct Access {
    pub(super) server: Server,
    pub(super) tls_server_name: Option<Host>,
    pub(super) authority: Certificates,
    pub(super) credential: Credential,
}

/// Parses a kubeconfig and keeps the harmless parts of its current context. Fails if it is none, or if a field is set that NICO refuses.
pub fn inspect(bytes: &[u8]) -> Result<Harmless, Unsafe> {
    let root = yaml::parse(bytes)?;
    for (key, expected) in [("kind", "Config"), ("apiVersion", "v1")] {
        if yaml::text(&root, key)?.is_some_and(|found| found != expected) {
            return Err(Unsafe::NotKubeconfig);
        }
    }
    let (cluster, user) = current(&root)?;
    refuse(cluster, &CLUSTER_REFUSED)?;
    refuse(user, &USER_REFUSED)?;
    let server = yaml::text(cluster, "server")?
        .and_then(Server::parse)
        .ok_or(Unsafe::Server)?;
    let tls_server_name = match yaml::text(cluster, "tls-server-name")? {
        None => None,
        Some(name) => Some(Host::parse(name).ok_or(Unsafe::TlsServerName)?),
    };
    let authority = source(cluster, Field::Authority)?.ok_or(Unsafe::NoAuthority)?;
    Ok(Harmless {
        server,
        tls_server_name,
        authority,
        credential: credential(user)?,
    })
}

impl Harmless {
    /// The paths of the files that [`Self::finish`] needs, by field.
    #[must_use]
    pub fn files(&self) -> Vec<(Field, &str)> {
        let mut sources = vec![(Field::Authority, &self.authority)];
        if let HarmlessCredential::Certificate { certificate, key } = &self.credential {
            sources.extend([
                (Field::ClientCertificate, certificate),
                (Field::ClientKey, key),
            ]);
        }
        let paths = sources
            .into_iter()
            .filter_map(|(field, source)| match source {
                Pem::Path(path) => Some((field, path.as_str())),
                Pem::Data(_) => None,
            });
        paths.collect()
    }

    /// Rebuilds the kubeconfig for `target`, with the content of the files by field. Fails if a file is missing, or if what is in it cannot be
    /// used.
    pub fn finish(
        self,
        files: &BTreeMap<Field, SecretBytes>,
        target: &RebuiltFor<'_>,
    ) -> Result<Rebuilt, Unsafe> {
        let mut access = self.resolve(files)?;
        let own = access.server.clone();
        let machine = Host::parse(target.machine_address);
        // A server that is the endpoint already says nothing about the port of the members behind it.
        let mut of_member = true;
        if let Some(endpoint) = target.endpoint {
            let host = Host::parse(&endpoint.host).ok_or(Unsafe::Server)?;
            of_member = own.host != host || machine.as_ref() == Some(&host);
            access.server = Server {
                host,
                port: endpoint.port,
            };
        } else if access.server.host.is_local() {
            access.server.host = machine.ok_or(Unsafe::MachineAddress)?;
        }
        Ok(Rebuilt {
            text: render(target.cluster, &access),
            server: access.server.to_string(),
            member_port: of_member.then_some(own.port),
        })
    }

    /// The access that the kubeconfig gives, without replacing its server. Fails as [`finish`](Self::finish) does.
    pub fn resolve(self, files: &BTreeMap<Field, SecretBytes>) -> Result<Access, Unsafe> {
        let content = |field: Field, source: Pem| match source {
            Pem::Data(bytes) => Ok(bytes),
            Pem::Path(_) => files
                .get(&field)
                .cloned()
                .ok_or(Unsafe::FileMissing { field }),
        };
        let authority = pem_text::authority(&content(Field::Authority, self.authority)?)?;
        let credential = match self.credential {
            HarmlessCredential::Token(token) => Credential::Token(token),
            HarmlessCredential::Certificate { certificate, key } => {
                let certificates =
                    pem_text::client_certificate(&content(Field::ClientCertificate, certificate)?)?;
                let key = pem_text::client_key(&content(Field::ClientKey, key)?, &certificates)?;
                Credential::Certificate { certificates, key }
            }
        };
        Ok(Access {
            server: self.server,
            tls_server_name: self.tls_server_name,
            authority,
            credential,
        })
    }
}

/// A kubeconfig written by NICO.
pub struct Rebuilt {
    text: SecretText,
    server: String,
    member_port: Option<u16>,
}

impl Rebuilt {
    /// The YAML text for the Secret.
    #[must_use]
    pub fn text(&self) -> &SecretText {
        &self.text
    }

    /// The YAML text, without a copy.
    #[must_use]
    pub fn into_text(self) -> SecretText {
        self.text
    }

    /// Port of the machine's own API server, from the kubeconfig before its server was replaced; `None` if that was the endpoint.
    #[must_use]
    pub fn member_port(&self) -> Option<u16> {
        self.member_port
    }

    /// The server's URL, which is not secret.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }
}

/// The cluster and user of the current context. Without one, the file must contain exactly one cluster and one user.
fn current(root: &Value) -> Result<(&Value, &Value), Unsafe> {
    let contexts = yaml::list(root, "contexts")?;
    let clusters = yaml::list(root, "clusters")?;
    let users = yaml::list(root, "users")?;
    let context = match (yaml::text(root, "current-context")?, contexts) {
        (Some(name), _) => named(contexts, name, "context")?,
        (None, [only]) => yaml::get(only, "context").ok_or(Unsafe::Context)?,
        (None, []) => {
            let alone = |list: &'_ [Value]| list.len() == 1;
            if !alone(clusters) || !alone(users) {
                return Err(Unsafe::Context);
            }
            return Ok((first(clusters, "cluster")?, first(users, "user")?));
        }
        (None, _) => return Err(Unsafe::Context),
    };
    let cluster = yaml::text(context, "cluster")?.ok_or(Unsafe::Context)?;
    let user = yaml::text(context, "user")?.ok_or(Unsafe::Context)?;
    Ok((
        named(clusters, cluster, "cluster")?,
        named(users, user, "user")?,
    ))
}

fn first<'a>(list: &'a [Value], key: &'static str) -> Result<&'a Value, Unsafe> {
    list.first()
        .and_then(|item| yaml::get(item, key))
        .ok_or(Unsafe::Context)
}

/// The value of `key` in the only item with this name.
fn named<'a>(list: &'a [Value], name: &str, key: &'static str) -> Result<&'a Value, Unsafe> {
    let mut items = list
        .iter()
        .filter(|item| item.get("name").and_then(Value::as_str) == Some(name));
    match (items.next(), items.next()) {
        (Some(item), None) => yaml::get(item, key)
            .filter(|value| value.is_mapping())
            .ok_or(Unsafe::Context),
        _ => Err(Unsafe::Context),
    }
}

fn refuse(value: &Value, fields: &[&'static str]) -> Result<(), Unsafe> {
    match fields.iter().find(|field| yaml::is_set(value, field)) {
        Some(field) => Err(Unsafe::Refused { field }),
        None => Ok(()),
    }
}

/// The data of a field, else its path. `client-go` also prefers the data.
fn source(value: &Value, field: Field) -> Result<Option<Pem>, Unsafe> {
    if let Some(data) = yaml::text(value, field.data_key())? {
        return pem_text::decode(field, data).map(Pem::Data).map(Some);
    }
    match yaml::text(value, field.path_key())? {
        None => Ok(None),
        Some(path) if is_clean_path(path) => Ok(Some(Pem::Path(path.to_owned()))),
        Some(_) => Err(Unsafe::Path { field }),
    }
}

fn credential(user: &Value) -> Result<HarmlessCredential, Unsafe> {
    match (
        source(user, Field::ClientCertificate)?,
        source(user, Field::ClientKey)?,
    ) {
        (Some(certificate), Some(key)) => {
            return Ok(HarmlessCredential::Certificate { certificate, key });
        }
        (None, None) => {}
        _ => return Err(Unsafe::NoCredential),
    }
    let token = yaml::text(user, "token")?.ok_or(Unsafe::NoCredential)?;
    // The characters of a bearer token (RFC 6750, section 2.1).
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"-._~+/=:".contains(&c);
    if token.len() > MAX_TOKEN || !token.bytes().all(plain) {
        return Err(Unsafe::Token);
    }
    Ok(HarmlessCredential::Token(SecretText::new(token.to_owned())))
}

/// Whether a path matches `^/[A-Za-z0-9._/-]+$` without `..`.
#[must_use]
pub fn is_clean_path(path: &str) -> bool {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"._/-".contains(&c);
    (2..=MAX_PATH).contains(&path.len())
        && path.starts_with('/')
        && path.bytes().all(plain)
        && !path.contains("..")
}

/// The kubeconfig's text. Every value is checked: none needs escapes in double quotes.
fn render(cluster: &str, access: &Access) -> SecretText {
    let authority = pem_text::encode(&access.authority.pem());
    let tls_server_name = match &access.tls_server_name {
        None => String::new(),
        Some(name) => format!("    tls-server-name: \"{name}\"\n"),
    };
    let user = match &access.credential {
        Credential::Certificate { certificates, key } => format!(
            "    client-certificate-data: \"{}\"\n    client-key-data: \"{}\"\n",
            pem_text::encode(&certificates.pem()),
            pem_text::encode(key.pem().expose()),
        ),
        Credential::Token(token) => format!("    token: \"{}\"\n", token.expose()),
    };
    SecretText::new(format!(
        "apiVersion: v1\n\
         kind: Config\n\
         clusters:\n\
         - name: \"{cluster}\"\n\
         \x20 cluster:\n\
         \x20   server: \"{server}\"\n\
         {tls_server_name}\
         \x20   certificate-authority-data: \"{authority}\"\n\
         users:\n\
         - name: \"{cluster}-admin\"\n\
         \x20 user:\n\
         {user}\
         contexts:\n\
         - name: \"{cluster}-admin@{cluster}\"\n\
         \x20 context:\n\
         \x20   cluster: \"{cluster}\"\n\
         \x20   user: \"{cluster}-admin\"\n\
         current-context: \"{cluster}-admin@{cluster}\"\n",
        server = access.server,
    ))
}
