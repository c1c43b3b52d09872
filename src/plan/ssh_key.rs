//! Whether the SSH key of a machine can be used: its Secret is in the cluster's namespace, and NIO gives that key to the machine.

use crate::api::conditions::{Cause, Reason};
use crate::api::names::MachineName;
use crate::api::nio::{Generation, Machine, SSH_KEY};
use crate::api::parsed::Parsed;

use super::facts::SecretFacts;
use super::nio;
use super::observed::SshKeyView;

/// The Secret in the cluster's namespace that a Machine names, or why it cannot be used. One of another namespace is not read.
pub fn secret_of<'a>(
    name: &MachineName,
    machine: &'a Machine,
    nio: Option<Generation>,
    namespace: &'a str,
) -> Result<&'a str, SshKeyView> {
    let named = named_secret(machine, nio, namespace).map_err(|field| {
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

/// Namespace and name of the Secret that a Machine in this namespace names; `None` if it names none. The error is the field with an invalid
/// name.
fn named_secret<'a>(
    machine: &'a Machine,
    nio: Option<Generation>,
    own: &'a str,
) -> Result<Option<(&'a str, &'a str)>, &'static str> {
    let Some(reference) = &machine.spec.ssh_key_secret_ref else {
        return Ok(None);
    };
    let namespace = match nio {
        Some(nio) => nio::for_generation(nio).key_namespace(reference.namespace.as_ref(), own)?,
        None => own,
    };
    match &reference.name {
        Some(Parsed::Good(name)) => Ok(Some((namespace, name.as_str()))),
        Some(Parsed::Malformed) => Err("spec.sshKeySecretRef.name"),
        None => Ok(None),
    }
}

/// Whether the key in the Secret that a Machine names can be used, also by the machine itself if `given`.
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
    let gives_first_key = nio
        .map(nio::for_generation)
        .filter(|nio| nio.gives_first_key() && given);
    match (found.keys.keys().next(), gives_first_key) {
        (Some(first), Some(nio)) if first != SSH_KEY => unusable(
            Reason::SSHKeyUnusable,
            format!(
                "Secret {secret} of Machine {name} holds the key {first} before {SSH_KEY}, and {} NIO gives machines the first one: move {first} into a Secret of its own",
                nio.name()
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::nio::Generation::{Classic, V1};

    #[test]
    fn a_name_that_no_secret_can_have_is_refused_by_its_field() {
        let asked = |reference: Value, nio| {
            let machine = Machine {
                spec: serde_json::from_value(json!({ "sshKeySecretRef": reference })).unwrap(),
                ..Machine::default()
            };
            let secret = named_secret(&machine, Some(nio), "team");
            secret.map(|it| it.map(|(namespace, name)| format!("{namespace}/{name}")))
        };
        for name in [
            "a b",
            "../x",
            "a/b",
            "A",
            "x?y=z",
            "\u{1b}[31m",
            &"a".repeat(254),
        ] {
            assert_eq!(
                asked(json!({ "name": name }), V1),
                Err("spec.sshKeySecretRef.name")
            );
            let reference = json!({ "name": "w", "namespace": name });
            assert_eq!(
                asked(reference.clone(), Classic),
                Err("spec.sshKeySecretRef.namespace")
            );
            assert_eq!(asked(reference, V1), Ok(Some("team/w".to_owned())));
        }
        assert_eq!(
            asked(json!({ "name": "w.ssh" }), Classic),
            Ok(Some("default/w.ssh".to_owned()))
        );
        assert_eq!(asked(json!({ "name": "" }), V1), Ok(None));
    }
}
