//! Where the SSH key of a machine lies, and how it is read (SPEC 3.1; NIO.md).

use super::calls::CallError;
use super::named::secret_value;
use crate::api::nio::{CLASSIC_DEFAULT_NAMESPACE, Generation, Machine, SSH_KEY};
use crate::remote::secret::SecretText;

/// The Secret that a Machine names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySource {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl KeySource {
    /// The Secret that a Machine of this namespace names; `None` where it names none.
    #[must_use]
    pub fn of(machine: &Machine, nio: Option<Generation>, namespace: &str) -> Option<Self> {
        let reference = machine.spec.ssh_key_secret_ref.as_ref()?;
        let lies_in = match nio {
            Some(Generation::Classic) => reference
                .namespace
                .as_deref()
                .unwrap_or(CLASSIC_DEFAULT_NAMESPACE),
            Some(Generation::V1) | None => namespace,
        };
        (!reference.name.is_empty()).then(|| Self {
            namespace: lies_in.to_owned(),
            name: reference.name.clone(),
        })
    }

    /// The private key, read now, where its namespace is within reach.
    pub(super) async fn read(
        &self,
        client: &kube::Client,
        by: &str,
    ) -> Result<Option<SecretText>, CallError> {
        secret_value(client, (&self.namespace, &self.name), by, SSH_KEY).await
    }
}
