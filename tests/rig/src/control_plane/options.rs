//! Options of a control plane, and the flags for its programs.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
};

use super::{Error, run_dir::RunDir};
use crate::pki::{Authority, Validity, signing_keys};

/// The controller that deletes objects whose owner is gone.
pub const GARBAGE_COLLECTOR: &str = "garbage-collector-controller";
/// The controller that empties namespaces under deletion.
pub const NAMESPACES: &str = "namespace-controller";

pub(super) const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Logs writes with request and response bodies, and reads with metadata only. Nothing is logged when a request arrives.
const AUDIT_POLICY: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: RequestResponse
  verbs: [create, update, patch, delete, deletecollection]
- level: Metadata
";

/// Options of a control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Additional addresses in the serving certificate besides 127.0.0.1; hundreds are fine.
    pub extra_sans: Vec<IpAddr>,
    /// The address on which the API server listens. With 0.0.0.0 these are all of 127.0.0.0/8, but also the network.
    pub bind_address: IpAddr,
    /// The API server's port; `None`: a free one.
    pub port: Option<u16>,
    /// Whether every request is written to `ControlPlane::audit_log_path`.
    pub audit_log: bool,
    /// Controllers of the kube-controller-manager, by the names of `--controllers`. If empty, it is not started.
    pub controllers: Vec<&'static str>,
    /// Additional flags of the API server, without dashes. They override the rig's own.
    pub api_server_flags: Vec<(&'static str, String)>,
}

impl Default for Options {
    /// An API server alone, without an audit log, on 127.0.0.1.
    fn default() -> Self {
        Self {
            extra_sans: Vec::new(),
            bind_address: LOOPBACK,
            port: None,
            audit_log: false,
            controllers: Vec::new(),
            api_server_flags: Vec::new(),
        }
    }
}

impl Options {
    /// With the two controllers that an operator relies on: garbage collection and the deletion of namespaces.
    #[must_use]
    pub fn management() -> Self {
        Self {
            controllers: vec![GARBAGE_COLLECTOR, NAMESPACES],
            ..Self::default()
        }
    }
}

pub(super) fn etcd_flags(address: SocketAddr) -> BTreeMap<&'static str, String> {
    let url = format!("http://{address}");
    BTreeMap::from([
        ("data-dir", "etcd".to_owned()),
        ("listen-client-urls", url.clone()),
        ("advertise-client-urls", url),
        ("listen-peer-urls", "http://127.0.0.1:0".to_owned()),
        // The data is only needed during the test, so etcd need not wait for the disk.
        ("unsafe-no-fsync", "true".to_owned()),
        ("log-level", "warn".to_owned()),
    ])
}

pub(super) fn controller_manager_flags(
    options: &Options,
    kubeconfig: &Path,
) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        ("kubeconfig", kubeconfig.display().to_string()),
        ("controllers", options.controllers.join(",")),
        ("leader-elect", "false".to_owned()),
        // It serves nothing, so it needs no port.
        ("secure-port", "0".to_owned()),
        // Its default limit of 20 requests per second would only slow down tests.
        ("kube-api-qps", "1000".to_owned()),
        ("kube-api-burst", "1000".to_owned()),
    ])
}

/// The flags of the API server. Also writes the files that they name.
pub(super) fn api_server_flags(
    options: &Options,
    directory: &RunDir,
    authority: &Authority,
    port: u16,
    etcd: SocketAddr,
) -> Result<BTreeMap<&'static str, String>, Error> {
    let mut addresses = vec![LOOPBACK];
    addresses.extend(&options.extra_sans);
    if !options.bind_address.is_unspecified() && options.bind_address != LOOPBACK {
        addresses.push(options.bind_address);
    }
    let names = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "localhost",
    ];
    let serving = authority.serving(&names, &addresses, Validity::default())?;
    let file = |name: &str, content: &str| {
        directory
            .write(name, content)
            .map(|path| path.display().to_string())
    };
    let (private, public) = signing_keys()?;
    let mut flags = BTreeMap::from([
        ("etcd-servers", format!("http://{etcd}")),
        ("bind-address", options.bind_address.to_string()),
        ("secure-port", port.to_string()),
        ("advertise-address", LOOPBACK.to_string()),
        // Endpoints on loopback are invalid, and nothing here uses the API server's Service.
        ("endpoint-reconciler-type", "none".to_owned()),
        ("tls-cert-file", file("serving.crt", &serving.certificate)?),
        ("tls-private-key-file", file("serving.key", &serving.key)?),
        ("client-ca-file", file("ca.crt", authority.certificate())?),
        (
            "service-account-key-file",
            file("service-accounts.pub", &public)?,
        ),
        (
            "service-account-signing-key-file",
            file("service-accounts.key", &private)?,
        ),
        (
            "service-account-issuer",
            "https://kubernetes.default.svc".to_owned(),
        ),
        ("service-cluster-ip-range", "10.96.0.0/16".to_owned()),
        ("authorization-mode", "Node,RBAC".to_owned()),
        // The controller for service accounts does not run, so with this plug-in no Pod could be created.
        ("disable-admission-plugins", "ServiceAccount".to_owned()),
        ("allow-privileged", "true".to_owned()),
    ]);
    if options.audit_log {
        flags.extend([
            (
                "audit-policy-file",
                file("audit-policy.yaml", AUDIT_POLICY)?,
            ),
            (
                "audit-log-path",
                directory.path().join("audit.log").display().to_string(),
            ),
            // One file of any length (MB).
            ("audit-log-maxsize", "100000".to_owned()),
        ]);
    }
    flags.extend(options.api_server_flags.iter().cloned());
    Ok(flags)
}
