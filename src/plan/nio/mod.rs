//! The differences between the generations of NIO, as one trait with one implementation per generation. No other file distinguishes
//! generations.

mod classic;
mod v1;

use std::borrow::Cow;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::api::names::ObjectName;
use crate::api::nio::Generation;
use crate::api::parsed::Parsed;

use super::observed::Member;

/// All generations.
pub const ALL: [Generation; 2] = [Generation::Classic, Generation::V1];

/// The behavior of a generation.
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

/// Whether the installed NIO applies by Jobs.
#[must_use]
pub fn works_by_jobs(installed: Option<Generation>) -> bool {
    installed.is_some_and(|it| for_generation(it).works_by_jobs())
}

/// What NIO proves about a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The current attempt was applied last.
    OfHeld,
    /// Another attempt was applied last.
    OfAnother,
}

/// Settings of the spec that each generation represents in its own way.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Branch, tag or pinned commit.
    pub git_ref: Option<&'a str>,
    /// Whether the disks of a new machine are wiped.
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

    /// A property of `Machine.spec` that no other generation has.
    fn address_property(&self) -> &'static str;

    /// What to check where it does not reach a machine.
    fn reach_hint(&self) -> &'static str;

    /// The longest machine name from which it can derive the names of its own objects.
    fn longest_name(&self) -> usize;

    /// Whether it applies by Jobs. These are part of its proof, and no write's precondition covers them.
    fn works_by_jobs(&self) -> bool;

    /// Why it cannot apply a single commit; `None` if it can.
    fn refuses_pin(&self) -> Option<&'static str>;

    /// What a push to the repository does where NICO does not pin and the spec has this `ref`; `None`: nothing.
    fn follows_pushes(&self, git_ref: Option<&str>) -> Option<&'static str>;

    /// Why `fullInstall` must not be set; `None` if it may.
    fn refuses_full_install(&self) -> Option<&'static str>;

    /// The path with which it writes an additional file beside the flake, which is in that directory of the repository.
    fn path<'a>(&self, subdir: Option<&str>, file: &'a str) -> Cow<'a, str>;

    /// Its own fields, beyond those that all generations share, in a machine's first configuration.
    fn first_fields(&self, full_install: bool) -> Map<String, Value>;

    /// Its own fields in the update of a member, with that `ref`.
    fn rewritten_fields(&self, member: &Member<'_>, wanted: &Wanted<'_>) -> Map<String, Value>;

    /// Whether `fullInstall` must be reset by a write that it applies.
    fn full_install_differs(&self, held: Option<&Value>) -> bool;

    /// Changes of a member's spec that it does not apply to the machine, with null for a field to remove; and when to check again.
    fn quiet_fields(
        &self,
        member: &Member<'_>,
        wanted: &Wanted<'_>,
        now: Timestamp,
    ) -> (Map<String, Value>, Option<Duration>);

    /// The namespace of a machine's SSH Secret, by `sshKeySecretRef.namespace` and the Machine's own. `Err` if the field is invalid.
    fn key_namespace<'a>(
        &self,
        named: Option<&'a Parsed<ObjectName>>,
        own: &'a str,
    ) -> Result<&'a str, &'static str>;

    /// Whether it uses the first key of a Secret instead of the named one.
    fn gives_first_key(&self) -> bool;

    /// What it proves about a member now.
    fn proof(&self, member: &Member<'_>) -> Option<Proof>;

    /// Its error for a member, for users; `None` if there is none.
    fn complaint(&self, member: &Member<'_>) -> Option<String>;

    /// How long an attempt may still run that was overwritten before it was confirmed; `None` if its proof excludes that.
    fn older_attempt_runs_for(&self) -> Option<Duration>;

    /// The finalizer that it adds to configurations.
    fn finalizer(&self) -> &'static str;

    /// Why it does not release a configuration whose Machine object does not exist, and what to do; `None` if it does.
    fn keeps_without_machine(&self) -> Option<&'static str>;
}
