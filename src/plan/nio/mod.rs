//! What differs between the generations of NIO: the questions that the planner asks, answered in one file a generation. No other
//! file tells them apart.

mod classic;
mod v1;

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::api::names::ObjectName;
use crate::api::nio::Generation;
use crate::api::parsed::Parsed;

use super::observed::Member;

/// All generations.
pub const ALL: [Generation; 2] = [Generation::Classic, Generation::V1];

/// What the planner asks of a generation.
#[must_use]
pub fn for_generation(generation: Generation) -> &'static dyn Nio {
    match generation {
        Generation::Classic => &classic::Classic,
        Generation::V1 => &v1::V1,
    }
}

/// The generation whose published schema of `Machine.spec` has these properties.
#[must_use]
pub fn detect(has_property: impl Fn(&str) -> bool) -> Option<Generation> {
    let mut all = ALL.into_iter();
    all.find(|generation| has_property(for_generation(*generation).address_property()))
}

/// What NIO proves of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The held attempt was applied last.
    OfHeld,
    /// Another attempt was.
    OfAnother,
}

/// What the spec asks for that each generation writes in its own way.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Branch, tag or pinned commit.
    pub git_ref: Option<&'a str>,
    /// Whether the disks of a new machine are to be wiped.
    pub full_install: bool,
    /// Whether the cluster is paused.
    pub paused: bool,
}

/// One generation of NIO.
pub trait Nio: Sync {
    /// Its name: a part of every revision, and a value of `--nio`.
    fn name(&self) -> &'static str;

    /// The project that it comes from.
    fn project(&self) -> &'static str;

    /// The property of `Machine.spec` that no other generation has.
    fn address_property(&self) -> &'static str;

    /// The longest name of a machine from which it can make the names of its own objects.
    fn longest_name(&self) -> usize;

    /// Whether it applies by Jobs: these are part of its proof, and no write's precondition covers them.
    fn works_by_jobs(&self) -> bool;

    /// Why it cannot apply one commit alone; `None` where it can.
    fn refuses_pin(&self) -> Option<&'static str>;

    /// Why `fullInstall` is not to be asked of it; `None` where it may.
    fn refuses_full_install(&self) -> Option<&'static str>;

    /// The path of an additional file that is to lie beside the flake, which is in that directory of the repository.
    fn path(&self, subdir: Option<&str>, file: &str) -> String;

    /// Its own fields, beyond those that all generations share, in a machine's first configuration.
    fn first_fields(&self, full_install: bool) -> Map<String, Value>;

    /// The same where a member is written again, with that `ref`.
    fn rewritten_fields(&self, member: &Member<'_>, wanted: &Wanted<'_>) -> Map<String, Value>;

    /// Whether a held value of `fullInstall` is to be taken back by a write that it applies.
    fn full_install_differs(&self, held: Option<&Value>) -> bool;

    /// What is to be changed in a member's spec without being applied, null for a field that is given up; and when there may be more.
    fn quiet_fields(
        &self,
        member: &Member<'_>,
        wanted: &Wanted<'_>,
        now: Timestamp,
    ) -> (Map<String, Value>, Option<Duration>);

    /// The namespace of a machine's SSH Secret, by `sshKeySecretRef.namespace` and the Machine's own. `Err`: the field is no name.
    fn key_namespace<'a>(
        &self,
        named: Option<&'a Parsed<ObjectName>>,
        own: &'a str,
    ) -> Result<&'a str, &'static str>;

    /// Whether it hands out the first key of a Secret in place of the one that is named.
    fn gives_first_key(&self) -> bool;

    /// What it proves of a member now.
    fn proof(&self, member: &Member<'_>) -> Option<Proof>;

    /// What it has against a member, for a person; `None` where it has nothing.
    fn complaint(&self, member: &Member<'_>) -> Option<String>;

    /// How long an attempt may still run that was overwritten before it was confirmed; `None`: its proof excludes that.
    fn older_attempt_runs_for(&self) -> Option<Duration>;

    /// The finalizer that it puts on configurations.
    fn finalizer(&self) -> &'static str;

    /// Why it does not let go of a configuration whose Machine object is gone, and the mend; `None` where it does.
    fn keeps_without_machine(&self) -> Option<&'static str>;
}
