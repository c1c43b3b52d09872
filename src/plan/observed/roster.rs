//! The members of one pass. A plan goes over them many times, so their Machines and their owner are looked up once.

use std::sync::Arc;

use super::{Member, Observed};
use crate::api::names::MachineName;
use crate::api::nio::{Machine, NixosConfiguration};
use crate::api::status::Role;

/// A member, and what was looked up about it.
#[derive(Clone, Debug)]
struct Listed {
    name: MachineName,
    role: Role,
    held: Arc<NixosConfiguration>,
    machine: Option<Arc<Machine>>,
    controlled: bool,
}

/// Members in name order.
#[derive(Clone, Debug, Default)]
pub struct Roster(Vec<Listed>);

impl Observed {
    /// Lists the members again, after `cluster`, `configurations` or `machines` were changed.
    pub fn list_members(&mut self) {
        let configurations = self.configurations.members();
        let ours = configurations.filter(|(_, _, held)| self.belongs(held));
        let listed = ours.map(|(name, role, held)| Listed {
            name: name.clone(),
            role,
            controlled: self.controls(held),
            held: Arc::clone(held),
            machine: self.machines.get(name).cloned(),
        });
        self.roster = Roster(listed.collect());
    }

    /// The members: every configuration of the cluster that has a valid machine name, including those that are being deleted.
    pub fn members(&self) -> impl Iterator<Item = Member<'_>> {
        self.roster.0.iter().map(|listed| self.listed(listed))
    }

    /// The members of a role.
    pub fn members_of(&self, role: Role) -> impl Iterator<Item = Member<'_>> {
        let of_role = self
            .roster
            .0
            .iter()
            .filter(move |listed| listed.role == role);
        of_role.map(|listed| self.listed(listed))
    }

    /// The control plane.
    pub fn control_plane(&self) -> impl Iterator<Item = Member<'_>> {
        self.members_of(Role::ControlPlane)
    }

    /// The member with this name.
    #[must_use]
    pub fn member(&self, name: &MachineName) -> Option<Member<'_>> {
        let members = &self.roster.0;
        let at = members
            .binary_search_by(|listed| listed.name.cmp(name))
            .ok()?;
        Some(self.listed(&members[at]))
    }

    fn listed<'a>(&'a self, listed: &'a Listed) -> Member<'a> {
        Member {
            name: listed.name.clone(),
            role: listed.role,
            machine: listed.machine.as_deref(),
            held: &listed.held,
            controlled: listed.controlled,
            nio: self.nio,
            jobs: self.jobs_of(&listed.held),
        }
    }
}
