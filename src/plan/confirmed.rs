//! Has exactly the attempt that a configuration holds been applied to its machine?

use crate::api::names::{CONFIRMED_ANNOTATION, Marker, WITHDRAWN};
use crate::api::nio::Generation;

use super::observed::Member;

/// What NIO proves of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The held attempt was applied last.
    OfHeld,
    /// Another attempt was.
    OfAnother,
}

impl Member<'_> {
    /// The marker that it holds: the path of its last additional file.
    #[must_use]
    pub fn marker(&self) -> Option<Marker> {
        let path = self.held.spec.files().last()?.path()?;
        Marker::from_path(path)
    }

    /// Whether the held attempt is confirmed: the annotation equals the held marker.
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        self.marker()
            .is_some_and(|marker| self.annotation(CONFIRMED_ANNOTATION) == Some(marker.as_str()))
    }

    /// Whether some attempt was ever confirmed: the annotation is there, whatever its value.
    #[must_use]
    pub fn was_confirmed(&self) -> bool {
        self.annotation(CONFIRMED_ANNOTATION).is_some()
    }

    /// Whether NIO's proof was withdrawn.
    #[must_use]
    pub fn is_withdrawn(&self) -> bool {
        self.annotation(CONFIRMED_ANNOTATION) == Some(WITHDRAWN)
    }

    /// What NIO proves now.
    #[must_use]
    pub fn proof(&self) -> Option<Proof> {
        match self.nio? {
            Generation::Classic => {
                let applied = self.applied_by_classic()?;
                if applied == self.held.spec.files_hash() {
                    self.marker().map(|_| Proof::OfHeld)
                } else {
                    Some(Proof::OfAnother)
                }
            }
            // Its proof is made of Jobs, which this release does not read.
            Generation::V1 => None,
        }
    }

    /// The hash of the list that classic applied to this machine, where all else that proves it is there.
    fn applied_by_classic(&self) -> Option<&str> {
        let status = self.held.status.as_ref()?;
        let on = self.machine?.status.as_ref()?;
        let name = Some(self.name.as_str());
        let applied = status
            .condition("Applied")
            .is_some_and(|applied| applied.status == "True" && applied.reason == "Success");
        let says = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        let proves = !self.is_deleting()
            && applied
            && status.target_machine.as_deref() == name
            && says(&status.applied_commit)
            && says(&status.additional_files_hash)
            && self.held.spec.machine() == name
            && on.applied_configuration.as_deref() == name;
        status.additional_files_hash.as_deref().filter(|_| proves)
    }

    /// What NIO has against it, for a person; `None` where it has nothing.
    #[must_use]
    pub fn complaint(&self) -> Option<String> {
        let status = self.held.status.as_ref()?;
        match self.nio? {
            Generation::Classic => {
                let applied = status.condition("Applied")?;
                (applied.status == "False")
                    .then(|| format!("NIO says Applied=False ({})", word(&applied.reason)))
            }
            Generation::V1 => {
                let stalled = status
                    .condition("Stalled")
                    .is_some_and(|stalled| stalled.status == "True");
                let phase = status
                    .phase
                    .as_deref()
                    .filter(|phase| matches!(*phase, "Blocked" | "Degraded"));
                (stalled || phase.is_some())
                    .then(|| format!("NIO says {}", phase.unwrap_or("Stalled=True")))
            }
        }
    }
}

/// What NIO calls a reason, cut to one word: it goes into a status that people and tools read.
fn word(text: &str) -> String {
    text.chars()
        .filter(char::is_ascii_alphanumeric)
        .take(64)
        .collect()
}
