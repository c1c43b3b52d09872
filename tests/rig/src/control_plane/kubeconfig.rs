//! Kubeconfigs as text, in the order and with the fields that `kubectl config view --raw` shows.

use k8s_openapi::ByteString;
use serde_json::{Value, json};

use super::Error;
use crate::pki::Pair;

/// How the user of a kubeconfig authenticates.
pub(super) enum Identity<'a> {
    Certificate(&'a Pair),
    Token(&'a str),
}

pub(super) fn text(
    server: &str,
    authority: &str,
    identity: &Identity<'_>,
) -> Result<String, Error> {
    let data = |pem: &str| json!(ByteString(pem.as_bytes().to_vec()));
    let user: Value = match identity {
        Identity::Certificate(pair) => {
            json!({ "client-certificate-data": data(&pair.certificate), "client-key-data": data(&pair.key) })
        }
        Identity::Token(token) => json!({ "token": token }),
    };
    Ok(serde_yaml::to_string(&json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "rig", "cluster": { "server": server, "certificate-authority-data": data(authority) } }],
        "users": [{ "name": "rig", "user": user }],
        "contexts": [{ "name": "rig", "context": { "cluster": "rig", "user": "rig" } }],
        "current-context": "rig",
    }))?)
}
