//! Whether the SSH key of a machine can be used: its Secret lies in the cluster's namespace, and NIO hands out that key.

use crate::api::conditions::{Cause, Reason};
use crate::api::names::MachineName;
use crate::api::nio::{Generation, Machine, SSH_KEY};

use super::facts::SecretFacts;
use super::observed::SshKeyView;

/// The Secret of the cluster's namespace that a Machine names; else why it is of no use. One of another namespace is not read.
pub fn secret_of<'a>(
    name: &MachineName,
    machine: &'a Machine,
    nio: Option<Generation>,
    namespace: &'a str,
) -> Result<&'a str, SshKeyView> {
    let named = machine.ssh_key_secret(nio, namespace).map_err(|field| {
        unusable(
            Reason::SSHKeyUnusable,
            format!("{field} of Machine {name} is not a name in Kubernetes: set it to the Secret with the machine's SSH key"),
        )
    })?;
    let Some((lies_in, secret)) = named else {
        return Err(unusable(
            Reason::SSHKeyMissing,
            format!(
                "Machine {name} names no Secret in spec.sshKeySecretRef: set it, or set injectSSHKey: false on the cluster"
            ),
        ));
    };
    if lies_in == namespace {
        return Ok(secret);
    }
    Err(unusable(
        Reason::SSHKeyUnusable,
        format!(
            "the SSH key of Machine {name} is in Secret {secret} of namespace {lies_in}: copy it into a Secret of namespace {namespace}, and set spec.sshKeySecretRef.namespace of the Machine to {namespace}"
        ),
    ))
}

/// Whether the key in the Secret that a Machine names can be used, and `given` to the machine where it is to be.
#[must_use]
pub fn judge(
    name: &MachineName,
    secret: &str,
    found: Option<&SecretFacts>,
    nio: Option<Generation>,
    given: bool,
) -> SshKeyView {
    let Some(found) = found else {
        return unusable(
            Reason::SSHKeyMissing,
            format!(
                "Secret {secret} with the SSH key of Machine {name} does not exist: create it with the key {SSH_KEY}"
            ),
        );
    };
    let fingerprint = match &found.fingerprint {
        None => {
            return unusable(
                Reason::SSHKeyMissing,
                format!("Secret {secret} of Machine {name} has no key {SSH_KEY}: add it"),
            );
        }
        Some(Err(why)) => {
            return unusable(
                Reason::SSHKeyUnusable,
                format!("Secret {secret} of Machine {name}, key {SSH_KEY}: {why}"),
            );
        }
        Some(Ok(fingerprint)) => fingerprint.clone(),
    };
    match found.keys.keys().next() {
        // Classic hands out the first key of a Secret, whichever that is.
        Some(first) if first != SSH_KEY && given && nio == Some(Generation::Classic) => unusable(
            Reason::SSHKeyUnusable,
            format!(
                "Secret {secret} of Machine {name} holds the key {first} before {SSH_KEY}, and classic NIO gives machines the first one: move {first} into a Secret of its own"
            ),
        ),
        _ => SshKeyView::Usable {
            secret: secret.to_owned(),
            fingerprint,
        },
    }
}

fn unusable(reason: Reason, message: String) -> SshKeyView {
    SshKeyView::Unusable(Cause::new(reason, message))
}
