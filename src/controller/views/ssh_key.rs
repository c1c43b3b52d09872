//! The SSH key of a machine (SPEC 3.1).

use super::Views;
use crate::api::conditions::Reason;
use crate::api::names::MachineName;
use crate::api::nio::{Generation, Machine, SSH_KEY};
use crate::controller::calls::CallError;
use crate::controller::named::SecretFacts;
use crate::plan::observed::SshKeyView;

impl Views<'_> {
    /// The SSH key of a machine. Only a Secret of the cluster's own namespace is read.
    pub(in crate::controller) async fn ssh_key(
        &self,
        nio: Option<Generation>,
        name: &MachineName,
        machine: &Machine,
        given: bool,
    ) -> Result<SshKeyView, CallError> {
        let namespace = &self.cluster.namespace;
        let unusable = |reason, message: String| Ok(SshKeyView::Unusable(reason, message));
        let Some((key_namespace, secret)) = machine.ssh_key_secret(nio, namespace) else {
            return unusable(
                Reason::SSHKeyMissing,
                format!(
                    "Machine {name} names no Secret in spec.sshKeySecretRef: set it, or set injectSSHKey: false on the cluster"
                ),
            );
        };
        if key_namespace != namespace {
            return unusable(
                Reason::SSHKeyUnusable,
                format!(
                    "the SSH key of Machine {name} is in Secret {secret} of namespace {key_namespace}: copy it into a Secret of namespace {namespace}, and set spec.sshKeySecretRef.namespace of the Machine to {namespace}"
                ),
            );
        }
        let as_hoped = |facts: &SecretFacts| matches!(facts.fingerprint, Some(Ok(_)));
        let Some(facts) = self.secret(secret, as_hoped).await? else {
            return unusable(
                Reason::SSHKeyMissing,
                format!(
                    "Secret {secret} with the SSH key of Machine {name} does not exist: create it with the key {SSH_KEY}"
                ),
            );
        };
        let fingerprint = match &facts.fingerprint {
            None => {
                return unusable(
                    Reason::SSHKeyMissing,
                    format!("Secret {secret} of Machine {name} has no key {SSH_KEY}: add it"),
                );
            }
            Some(Err(why)) => {
                return unusable(
                    Reason::SSHKeyMissing,
                    format!("Secret {secret} of Machine {name}, key {SSH_KEY}: {why}"),
                );
            }
            Some(Ok(fingerprint)) => fingerprint.clone(),
        };
        // Classic hands out the first key of a Secret in byte order, whichever that is.
        if let Some(first) = facts.keys.keys().next()
            && first != SSH_KEY
            && given
            && nio == Some(Generation::Classic)
        {
            return unusable(
                Reason::SSHKeyUnusable,
                format!(
                    "Secret {secret} of Machine {name} holds the key {first} before {SSH_KEY}, and classic NIO gives machines the first one: move {first} into a Secret of its own"
                ),
            );
        }
        Ok(SshKeyView::Usable {
            secret: secret.to_owned(),
            fingerprint,
        })
    }
}
