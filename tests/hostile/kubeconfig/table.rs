//! The kubeconfigs, and what is to become of each.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nico::remote::kubeconfig::rebuild::{Field, Unsafe};
use rig::machines::KeyPair;
use rig::pki::{Authority, Pair, Validity};
use serde_json::{Value, json};

/// Stands wherever a machine could smuggle something in; it must come out nowhere.
pub(crate) const MARKER: &str = "EVIL";

fn base64(text: &str) -> String {
    STANDARD.encode(text)
}

/// What an honest machine has.
pub(crate) struct Honest {
    pub(crate) ca: String,
    pub(crate) client: Pair,
    other: Pair,
}

impl Honest {
    pub(crate) fn new() -> Self {
        let authority = Authority::new("kubernetes").unwrap();
        let client = || {
            authority
                .client("admin", Some("system:masters"), Validity::default())
                .unwrap()
        };
        Self {
            ca: authority.certificate().to_owned(),
            client: client(),
            other: client(),
        }
    }

    /// As k3s writes it.
    pub(crate) fn kubeconfig(&self) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "default", "cluster": {
                "server": "https://127.0.0.1:6443",
                "certificate-authority-data": base64(&self.ca),
            }}],
            "users": [{"name": "default", "user": {
                "client-certificate-data": base64(&self.client.certificate),
                "client-key-data": base64(&self.client.key),
            }}],
            "contexts": [{"name": "default", "context": {"cluster": "default", "user": "default"}}],
            "current-context": "default",
            "preferences": {},
        })
    }

    pub(crate) fn changed(&self, change: impl FnOnce(&mut Value)) -> Vec<u8> {
        let mut kubeconfig = self.kubeconfig();
        change(&mut kubeconfig);
        serde_yaml::to_string(&kubeconfig).unwrap().into_bytes()
    }

    pub(crate) fn cluster(&self, key: &str, value: Value) -> Vec<u8> {
        self.changed(|config| config["clusters"][0]["cluster"][key] = value)
    }

    pub(crate) fn user(&self, key: &str, value: Value) -> Vec<u8> {
        self.changed(|config| config["users"][0]["user"][key] = value)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.changed(|_| {})).unwrap()
    }
}

/// What becomes of a kubeconfig.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Refused(Unsafe),
    /// Rebuilt for this server, with nothing of the machine's own in it.
    Harmless(&'static str),
}

pub(crate) const HERE: &str = "https://10.0.0.11:6443";

fn refused(field: &'static str) -> Fate {
    Fate::Refused(Unsafe::Refused { field })
}

#[allow(clippy::too_many_lines, reason = "a table")]
pub(crate) fn table(honest: &Honest) -> Vec<(&'static str, Vec<u8>, Fate)> {
    use Fate::{Harmless, Refused};
    let server = |url: &str| honest.cluster("server", json!(url));
    let text = honest.text();
    let cert = &honest.client.certificate;
    let foreign_key = KeyPair::generate().private_pem();
    // A certificate and its key in one text.
    let with = |pem: &str| {
        honest.changed(|config| {
            config["users"][0]["user"] =
                json!({"client-certificate-data": base64(pem), "client-key-data": base64(pem)});
        })
    };
    let kind = |kind: &str| {
        Refused(Unsafe::KeyKind {
            kind: kind.to_owned(),
        })
    };
    vec![
        ("what k3s writes", honest.changed(|_| {}), Harmless(HERE)),
        ("a byte order mark", [b"\xef\xbb\xbf", &*honest.changed(|_| {})].concat(), Harmless(HERE)),
        ("what kubeadm writes", honest.changed(|config| {
            config["clusters"][0]["name"] = json!("kubernetes");
            config["users"][0]["name"] = json!("kubernetes-admin");
            config["contexts"] = json!([{"name": "kubernetes-admin@kubernetes", "context": {"cluster": "kubernetes", "user": "kubernetes-admin"}}]);
            config["current-context"] = json!("kubernetes-admin@kubernetes");
        }), Harmless(HERE)),
        ("exec", honest.user("exec", json!({"command": "/bin/EVIL", "apiVersion": "client.authentication.k8s.io/v1"})), refused("exec")),
        ("an empty exec", honest.user("exec", json!({})), refused("exec")),
        ("an auth provider", honest.user("auth-provider", json!({"name": "EVIL"})), refused("auth-provider")),
        ("tokenFile", honest.user("tokenFile", json!("/var/run/secrets/EVIL")), refused("tokenFile")),
        ("a password", honest.changed(|config| config["users"][0]["user"] = json!({"username": "EVIL", "password": "EVIL"})), refused("username")),
        ("a password alone", honest.user("password", json!("EVIL")), refused("password")),
        ("a proxy", honest.cluster("proxy-url", json!("http://EVIL:3128")), refused("proxy-url")),
        ("insecure TLS", honest.cluster("insecure-skip-tls-verify", json!(true)), refused("insecure-skip-tls-verify")),
        ("insecure TLS as text", honest.cluster("insecure-skip-tls-verify", json!("EVIL")), refused("insecure-skip-tls-verify")),
        ("impersonation", honest.user("as", json!("EVIL")), refused("as")),
        ("impersonation of a group", honest.user("as-groups", json!(["EVIL"])), refused("as-groups")),
        ("impersonation with extras", honest.user("as-user-extra", json!({"EVIL": ["x"]})), refused("as-user-extra")),
        ("plain http", server("http://127.0.0.1:6443/EVIL"), Refused(Unsafe::Server)),
        ("a file URL", server("file:///EVIL"), Refused(Unsafe::Server)),
        ("a password in the URL", server("https://EVIL:EVIL@10.0.0.9:6443"), Refused(Unsafe::Server)),
        ("a path in the URL", server("https://10.0.0.9:6443/EVIL"), Refused(Unsafe::Server)),
        ("a line break in the host", server("https://10.0.0.9\nEVIL: x"), Refused(Unsafe::Server)),
        ("a quote in the host", server("https://EVIL\"x:6443"), Refused(Unsafe::Server)),
        ("an address in disguise", server("https://2130706433:6443"), Refused(Unsafe::Server)),
        ("no server", honest.cluster("server", json!(null)), Refused(Unsafe::Server)),
        ("a number for a server", honest.cluster("server", json!(7)), Refused(Unsafe::WrongType { field: "server" })),
        ("an odd TLS server name", honest.cluster("tls-server-name", json!("EVIL\"\nx")), Refused(Unsafe::TlsServerName)),
        ("no authority", honest.cluster("certificate-authority-data", json!(null)), Refused(Unsafe::NoAuthority)),
        ("an authority that is no base64", honest.cluster("certificate-authority-data", json!("EVIL!")), Refused(Unsafe::NotPem { field: Field::Authority })),
        ("an authority that is no PEM", honest.cluster("certificate-authority-data", json!(base64("EVIL"))), Refused(Unsafe::NotPem { field: Field::Authority })),
        ("a key for an authority", honest.cluster("certificate-authority-data", json!(base64(&honest.client.key))), Refused(Unsafe::NotCertificate { field: Field::Authority })),
        ("an authority of garbage", honest.cluster("certificate-authority-data", json!(base64("-----BEGIN CERTIFICATE-----\nRVZJTEVWSUw=\n-----END CERTIFICATE-----\n"))), Refused(Unsafe::NotCertificate { field: Field::Authority })),
        ("text around the certificates", honest.cluster("certificate-authority-data", json!(base64(&format!("EVIL\n{}EVIL\n", honest.ca)))), Harmless(HERE)),
        ("a certificate for a key", honest.user("client-key-data", json!(base64(cert))), Refused(Unsafe::NotKey)),
        ("another's key", honest.user("client-key-data", json!(base64(&honest.other.key))), Refused(Unsafe::KeyMismatch)),
        ("a key of garbage", honest.user("client-key-data", json!(base64("-----BEGIN PRIVATE KEY-----\nRVZJTEVWSUw=\n-----END PRIVATE KEY-----\n"))), Refused(Unsafe::KeyUnusable)),
        ("an SSH key for a key", honest.user("client-key-data", json!(base64(&foreign_key))), Refused(Unsafe::NotPem { field: Field::ClientKey })),
        ("two keys", honest.user("client-key-data", json!(base64(&format!("{}{}", honest.client.key, honest.other.key)))), Refused(Unsafe::NotKey)),
        ("a key of a curve that ring does not know", with(include_str!("certificates/p521.pem")), kind("ECDSA P-521")),
        ("a key of Bitcoin's curve", with(include_str!("certificates/secp256k1.pem")), kind("ECDSA secp256k1")),
        ("a key of another Edwards curve", with(include_str!("certificates/ed448.pem")), kind("Ed448")),
        ("a short RSA key", with(include_str!("certificates/rsa1024.pem")), kind("RSA with 1024 bits")),
        ("a certificate of version 1", with(include_str!("certificates/version1.pem")), Refused(Unsafe::CertificateVersion)),
        ("an authority of version 1 after the certificate", honest.user("client-certificate-data", json!(base64(&format!("{cert}{}", certificate_of(include_str!("certificates/version1.pem")))))), Harmless(HERE)),
        ("a key without certificate", honest.user("client-certificate-data", json!(null)), Refused(Unsafe::NoCredential)),
        ("no credential", honest.changed(|config| config["users"][0]["user"] = json!({})), Refused(Unsafe::NoCredential)),
        ("a token", honest.changed(|config| config["users"][0]["user"] = json!({"token": "abc.DEF-123_~+/="})), Harmless(HERE)),
        ("a token with a line break", honest.changed(|config| config["users"][0]["user"] = json!({"token": "EVIL\nEVIL: x"})), Refused(Unsafe::Token)),
        ("a relative path", honest.changed(|config| config["clusters"][0]["cluster"] = json!({"server": HERE, "certificate-authority": "EVIL/ca.crt"})), Refused(Unsafe::Path { field: Field::Authority })),
        ("a path upwards", honest.changed(|config| config["clusters"][0]["cluster"] = json!({"server": HERE, "certificate-authority": "/EVIL/../ca.crt"})), Refused(Unsafe::Path { field: Field::Authority })),
        ("a path with a command", honest.changed(|config| config["clusters"][0]["cluster"] = json!({"server": HERE, "certificate-authority": "/EVIL;id"})), Refused(Unsafe::Path { field: Field::Authority })),
        ("a path to nowhere", honest.changed(|config| config["clusters"][0]["cluster"] = json!({"server": HERE, "certificate-authority": "/EVIL"})), Refused(Unsafe::FileMissing { field: Field::Authority })),
        ("a path to the passwords", honest.changed(|config| config["clusters"][0]["cluster"] = json!({"server": HERE, "certificate-authority": "/etc/shadow"})), Refused(Unsafe::NotPem { field: Field::Authority })),
        ("empty", vec![], Refused(Unsafe::Empty)),
        ("blank", b" \n\n".to_vec(), Refused(Unsafe::Empty)),
        ("no UTF-8", b"EVIL\xff\xfe".to_vec(), Refused(Unsafe::NotText)),
        ("a NUL", b"EVIL\0".to_vec(), Refused(Unsafe::NotText)),
        ("terminal escapes", format!("# \u{1b}[31mEVIL\n{text}").into_bytes(), Refused(Unsafe::NotText)),
        ("more than 64 KiB", format!("{text}# {}\n", "EVIL".repeat(20_000)).into_bytes(), Refused(Unsafe::TooLarge)),
        ("not YAML", b"{EVIL: [".to_vec(), Refused(Unsafe::NotYaml)),
        ("HTML", b"<html>EVIL</html>".to_vec(), Refused(Unsafe::NotKubeconfig)),
        ("a list", b"- EVIL".to_vec(), Refused(Unsafe::NotKubeconfig)),
        ("another kind", honest.changed(|config| config["kind"] = json!("EVIL")), Refused(Unsafe::NotKubeconfig)),
        ("another version", honest.changed(|config| config["apiVersion"] = json!("EVIL/v2")), Refused(Unsafe::NotKubeconfig)),
        ("two documents", format!("{text}---\n{text}").into_bytes(), Refused(Unsafe::NotYaml)),
        ("a key twice", format!("{text}current-context: EVIL\n").into_bytes(), Refused(Unsafe::NotYaml)),
        ("a bomb of aliases", bomb().into_bytes(), Refused(Unsafe::Anchors)),
        ("a merge key", format!("EVIL: &x {{exec: {{}}}}\n{text}").into_bytes(), Refused(Unsafe::Anchors)),
        ("deep nesting", "[".repeat(60_000).into_bytes(), Refused(Unsafe::Nested)),
        ("deep nesting in blocks", "- ".repeat(30_000).into_bytes(), Refused(Unsafe::NotYaml)),
        ("deep nesting of keys", "? ".repeat(30_000).into_bytes(), Refused(Unsafe::NotYaml)),
        ("deep nesting by indentation", lines(340, |depth| format!("{}a:", " ".repeat(depth))).into_bytes(), Refused(Unsafe::NotYaml)),
        ("many entries", "a\n: \n".repeat(10_000).into_bytes(), Refused(Unsafe::NotYaml)),
        ("many distinct entries", lines(8_000, |n| format!("{n}: 1")).into_bytes(), Refused(Unsafe::Context)),
        ("a long line", format!("a: {}", "b: ".repeat(20_000)).into_bytes(), Refused(Unsafe::NotYaml)),
        ("many quotes", "'".repeat(60_000).into_bytes(), Refused(Unsafe::NotKubeconfig)),
        ("many tags", "!a ".repeat(20_000).into_bytes(), Refused(Unsafe::NotYaml)),
        ("many directives", format!("{}--- a", "%TAG !a! b\n".repeat(5_000)).into_bytes(), Refused(Unsafe::NotYaml)),
        ("many tag handles", format!("{}\n--- a", lines(3_500, |n| format!("%TAG !a{n}! b"))).into_bytes(), Refused(Unsafe::NotKubeconfig)),
        ("a tag", b"!EVIL {a: b}".to_vec(), Refused(Unsafe::Context)),
        ("a context that is not there", honest.changed(|config| config["current-context"] = json!("EVIL")), Refused(Unsafe::Context)),
        ("a cluster that is not there", honest.changed(|config| config["contexts"][0]["context"]["cluster"] = json!("EVIL")), Refused(Unsafe::Context)),
        ("a user twice", honest.changed(|config| {
            let evil = json!({"name": "default", "user": {"token": "EVIL"}});
            config["users"].as_array_mut().unwrap().push(evil);
        }), Refused(Unsafe::Context)),
        ("no current context, and one context", honest.changed(|config| config["current-context"] = json!("")), Harmless(HERE)),
        ("no contexts, one cluster and one user", honest.changed(|config| {
            config["contexts"] = json!([]);
            config["current-context"] = json!("");
        }), Harmless(HERE)),
        ("no current context, and two contexts", honest.changed(|config| {
            config["current-context"] = json!(null);
            config["contexts"] = json!([{"name": "EVIL", "context": {}}, {"name": "b", "context": {}}]);
        }), Refused(Unsafe::Context)),
        ("another user with exec beside", honest.changed(|config| {
            let evil = json!({"name": "EVIL", "user": {"exec": {"command": "EVIL"}}});
            config["users"].as_array_mut().unwrap().push(evil);
        }), Harmless(HERE)),
        ("extensions and fields from elsewhere", honest.changed(|config| {
            config["extensions"] = json!([{"name": "EVIL", "extension": {"EVIL": "EVIL"}}]);
            config["clusters"][0]["cluster"]["extensions"] = json!([{"name": "EVIL"}]);
            config["users"][0]["user"]["EVIL"] = json!("EVIL");
            config["contexts"][0]["context"]["namespace"] = json!("EVIL");
            config["preferences"] = json!({"colors": true});
        }), Harmless(HERE)),
        ("names that break out", honest.changed(|config| {
            let name = "EVIL\"\nusers: []\n";
            config["clusters"][0]["name"] = json!(name);
            config["contexts"][0] = json!({"name": name, "context": {"cluster": name, "user": "default"}});
            config["current-context"] = json!(name);
        }), Harmless(HERE)),
        ("a comment", format!("# EVIL & *EVIL\n{text}").into_bytes(), Harmless(HERE)),
        ("line breaks of Windows", text.replace('\n', "\r\n").into_bytes(), Harmless(HERE)),
        ("harmless false values", honest.cluster("insecure-skip-tls-verify", json!(false)), Harmless(HERE)),
        ("localhost", server("https://LocalHost:6443/"), Harmless(HERE)),
        ("loopback in IPv6", server("https://[::1]:6443"), Harmless(HERE)),
        ("no address at all", server("https://0.0.0.0:6443"), Harmless(HERE)),
        ("a load balancer", server("https://api.example.org"), Harmless("https://api.example.org:443")),
    ]
}

fn lines(count: usize, line: impl Fn(usize) -> String) -> String {
    (0..count).map(line).collect::<Vec<_>>().join("\n")
}

fn bomb() -> String {
    let mut lines = vec![format!("a: &a [{}]", [MARKER; 9].join(","))];
    for pair in ["ab", "bc", "cd", "de", "ef", "fg", "gh", "hi"] {
        let (of, name) = pair.split_at(1);
        let aliases = vec![format!("*{of}"); 9].join(",");
        lines.push(format!("{name}: &{name} [{aliases}]"));
    }
    lines.join("\n")
}

/// The certificate alone of a text that has its key too.
fn certificate_of(pem: &str) -> &str {
    let (begin, end) = ("-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----\n");
    let at = pem.find(begin).unwrap();
    let length = pem[at..].find(end).unwrap() + end.len();
    &pem[at..at + length]
}
