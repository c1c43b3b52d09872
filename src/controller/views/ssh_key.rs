//! The SSH key of a machine, and its mirror (SPEC 3.1).

use super::Views;
use crate::api::conditions::Reason;
use crate::api::names::{MachineName, ssh_mirror_name};
use crate::api::nio::{Generation, Machine, SSH_KEY};
use crate::controller::calls::CallError;
use crate::controller::context::Context;
use crate::controller::key_source::KeySource;
use crate::controller::named::{Facts, SecretFacts};
use crate::plan::observed::{MirrorView, SshKeyView, controller};

impl Views<'_> {
    /// Whether NICO works in one namespace, and this is another: there it may read nothing (SPEC 7).
    fn is_out_of_reach(&self, namespace: &str) -> bool {
        let only = self.context.settings.watch_namespace.as_deref();
        only.is_some_and(|only| only != namespace)
    }

    /// The SSH key of a machine, and its mirror where it is to be given to the machine and only a mirror can do that.
    pub(in crate::controller) async fn ssh_key(
        &self,
        nio: Option<Generation>,
        name: &MachineName,
        machine: &Machine,
        given: bool,
    ) -> Result<(SshKeyView, Option<MirrorView>), CallError> {
        let unusable = |reason, message: String| Ok((SshKeyView::Unusable(reason, message), None));
        let namespace = &self.cluster.namespace;
        let Some(source) = KeySource::of(machine, nio, namespace) else {
            return unusable(
                Reason::SSHKeyMissing,
                format!(
                    "Machine {name} names no Secret in spec.sshKeySecretRef: set it, or set injectSSHKey: false on the cluster"
                ),
            );
        };
        let as_hoped = |facts: &SecretFacts| matches!(facts.fingerprint, Some(Ok(_)));
        let KeySource {
            namespace: lies_in,
            name: secret,
        } = &source;
        let Context { client, named, .. } = self.context;
        let found = if self.is_out_of_reach(lies_in) {
            None
        } else {
            let place = (lies_in.as_str(), secret.as_str());
            named
                .secret(client, place, namespace, self.age, as_hoped)
                .await?
        };
        let Some(facts) = found else {
            if lies_in == namespace {
                return unusable(
                    Reason::SSHKeyMissing,
                    format!(
                        "Secret {secret} with the SSH key of Machine {name} does not exist: create it with the key {SSH_KEY}"
                    ),
                );
            }
            let mend = format!(
                "put the key into namespace {namespace} and say so in spec.sshKeySecretRef.namespace of the Machine"
            );
            // Whether there is such a Secret is not told to those who may not use it.
            let message = if self.is_out_of_reach(lies_in) {
                format!(
                    "the SSH key of Machine {name} lies in namespace {lies_in}, and NICO works in another one alone: {mend}"
                )
            } else {
                format!(
                    "Secret {secret} in namespace {lies_in}, with the SSH key of Machine {name}, is not there or does not let namespace {namespace} use it: annotate it nico.homystack.com/allow-namespaces: {namespace}, or {mend}"
                )
            };
            return unusable(Reason::SSHKeyForbidden, message);
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
        // Classic hands out the first key of a Secret, and looks for it where the configuration lies (NIO.md).
        let alone = facts.keys.len() == 1 && lies_in == namespace;
        if alone || !given || nio != Some(Generation::Classic) {
            let secret = secret.clone();
            return Ok((
                SshKeyView::Usable {
                    secret,
                    fingerprint,
                },
                None,
            ));
        }
        match self.mirror(name, facts.keys.get(SSH_KEY)).await? {
            Some(mirror) => Ok((
                SshKeyView::Usable {
                    secret: ssh_mirror_name(name),
                    fingerprint,
                },
                Some(mirror),
            )),
            None => unusable(
                Reason::SecretConflict,
                format!(
                    "Secret {}, which is to mirror the SSH key of Machine {name}, exists and is not this cluster's: where no other cluster is giving the machine back, rename or delete it",
                    ssh_mirror_name(name)
                ),
            ),
        }
    }

    /// The mirror of a machine's key, beside the digest of what it should hold; `None` where one of that name is not ours.
    pub(in crate::controller) async fn mirror(
        &self,
        machine: &MachineName,
        digest: Option<&Option<String>>,
    ) -> Result<Option<MirrorView>, CallError> {
        let in_step = |facts: &SecretFacts| {
            facts.keys.len() == 1
                && digest.is_some_and(|digest| facts.keys.get(SSH_KEY) == Some(digest))
                && facts.facts.is_held()
        };
        let facts = self
            .secret(&ssh_mirror_name(machine), |facts| {
                self.is_ours(&facts.facts) && !facts.facts.deleting && in_step(facts)
            })
            .await?;
        let Some(facts) = facts else {
            return Ok(Some(MirrorView::Absent));
        };
        let version = facts.facts.version.clone();
        let ours = self.is_ours(&facts.facts);
        Ok(match (ours, facts.facts.deleting) {
            (true, true) => Some(MirrorView::Leftover(version)),
            (true, false) if in_step(&facts) => Some(MirrorView::InStep(version)),
            // It is made anew.
            (true, false) if facts.immutable => Some(MirrorView::Leftover(version)),
            (true, false) => Some(MirrorView::Behind(version)),
            (false, true) if self.is_let_go(&facts.facts, machine) => {
                Some(MirrorView::Leftover(version))
            }
            (false, _) => None,
        })
    }

    /// Whether nothing but NICO's finalizer holds a mirror that is being deleted: its owner holds the machine no more.
    fn is_let_go(&self, facts: &Facts, machine: &MachineName) -> bool {
        let namespace = &self.cluster.namespace;
        let held = self
            .stores
            .configurations
            .get(namespace, machine.as_str())
            .and_then(|held| controller(&held).map(|owner| owner.uid.clone()));
        facts.is_held() && (facts.controller.is_none() || facts.controller != held)
    }
}
