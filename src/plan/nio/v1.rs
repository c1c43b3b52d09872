//! V1: kitsunoff/NIO 1.0, Go on controller-runtime.

use std::time::Duration;

use crate::api::names::{ObjectName, V1_FINALIZER};
use crate::api::parsed::Parsed;
use crate::plan::observed::Member;

use super::{Nio, Proof};

/// V1.
pub(super) struct V1;

impl Nio for V1 {
    fn name(&self) -> &'static str {
        "v1"
    }

    fn project(&self) -> &'static str {
        "kitsunoff/NIO 1.0"
    }

    fn address_property(&self) -> &'static str {
        "host"
    }

    fn unsupported(&self) -> Option<&'static str> {
        Some("this release of NICO works with classic NIO only; nothing is written beside NIO v1")
    }

    fn refuses_pin(&self) -> Option<&'static str> {
        None
    }

    fn refuses_full_install(&self) -> Option<&'static str> {
        None
    }

    /// Files are put into the repository's root.
    fn path(&self, subdir: Option<&str>, file: &str) -> String {
        match subdir {
            Some(subdir) => format!("{subdir}/{file}"),
            None => file.to_owned(),
        }
    }

    fn key_namespace<'a>(
        &self,
        _: Option<&'a Parsed<ObjectName>>,
        own: &'a str,
    ) -> Result<&'a str, &'static str> {
        Ok(own)
    }

    fn gives_first_key(&self) -> bool {
        false
    }

    /// It is made of Jobs, which this release does not read.
    fn proof(&self, _: &Member<'_>) -> Option<Proof> {
        None
    }

    fn complaint(&self, member: &Member<'_>) -> Option<String> {
        let status = member.held.status.as_ref()?;
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

    fn older_attempt_runs_for(&self) -> Option<Duration> {
        None
    }

    fn finalizer(&self) -> &'static str {
        V1_FINALIZER
    }

    fn keeps_without_machine(&self) -> Option<&'static str> {
        None
    }
}
