//! Where the SSH key of a machine lies, and how it is read (SPEC 3.1; NIO.md).

use std::time::Duration;

use super::calls::CallError;
use super::context::Context;
use super::named::{SecretFacts, secret_value};
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

    /// Its facts, as clusters of the namespace `by` may see them: `None` where there is no such Secret, and where it lies
    /// elsewhere and does not let them.
    pub(super) async fn facts(
        &self,
        context: &Context,
        by: &str,
        age: Duration,
        as_hoped: impl Fn(&SecretFacts) -> bool,
    ) -> Result<Option<SecretFacts>, CallError> {
        let Context { client, named, .. } = context;
        if is_out_of_reach(context, &self.namespace) {
            return Ok(None);
        }
        named.secret(client, self.place(), by, age, as_hoped).await
    }

    /// The private key, read now, where its namespace is within reach.
    pub(super) async fn read(
        &self,
        client: &kube::Client,
        by: &str,
    ) -> Result<Option<SecretText>, CallError> {
        secret_value(client, self.place(), by, SSH_KEY).await
    }

    fn place(&self) -> (&str, &str) {
        (&self.namespace, &self.name)
    }
}

/// Whether NICO works in one namespace, and this is another: there it may read nothing (SPEC 7).
pub(super) fn is_out_of_reach(context: &Context, namespace: &str) -> bool {
    let only = context.settings.watch_namespace.as_deref();
    only.is_some_and(|only| only != namespace)
}
