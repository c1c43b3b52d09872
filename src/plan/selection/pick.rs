//! The machines of each role: which stay, leave and join.

use std::collections::BTreeSet;

use crate::api::names::MachineName;
use crate::api::status::Role;

use super::obstacle::{Obstacle, ObstacleKind};

/// The machines of both roles.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selection {
    /// The control plane's.
    pub control_plane: Pick,
    /// The workers'.
    pub workers: Pick,
}

impl Selection {
    /// The pick of a role.
    #[must_use]
    pub fn for_role(&self, role: Role) -> &Pick {
        match role {
            Role::ControlPlane => &self.control_plane,
            Role::Worker => &self.workers,
        }
    }

    /// Whether a machine joins in either role: it gets its first configuration.
    #[must_use]
    pub fn joins(&self, machine: &MachineName) -> bool {
        self.any(|pick| &pick.joining, machine)
    }

    /// Whether a member stays, in either role.
    #[must_use]
    pub fn stays(&self, machine: &MachineName) -> bool {
        self.any(|pick| &pick.staying, machine)
    }

    /// Whether a member leaves, in either role.
    #[must_use]
    pub fn leaves(&self, machine: &MachineName) -> bool {
        self.any(|pick| &pick.leaving, machine)
    }

    /// Whether a machine lacks a usable SSH key.
    #[must_use]
    pub fn lacks_keys(&self) -> bool {
        let mut roles = Role::ALL.into_iter();
        roles.any(|role| {
            self.for_role(role)
                .obstacles
                .iter()
                .any(|it| it.kind == ObstacleKind::UnusableKey)
        })
    }

    fn any(&self, set: fn(&Pick) -> &BTreeSet<MachineName>, machine: &MachineName) -> bool {
        let mut roles = Role::ALL.into_iter();
        roles.any(|role| set(self.for_role(role)).contains(machine))
    }

    /// Every machine that has a configuration of this cluster or gets one now, with its role.
    pub fn present(&self) -> impl Iterator<Item = (&MachineName, Role)> {
        Role::ALL.into_iter().flat_map(|role| {
            let pick = self.for_role(role);
            pick.staying
                .iter()
                .chain(&pick.leaving)
                .chain(&pick.joining)
                .map(move |machine| (machine, role))
        })
    }
}

/// The machines of one role.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pick {
    /// How many machines the spec asks for.
    pub total: usize,
    /// Members that the spec still asks for.
    pub staying: BTreeSet<MachineName>,
    /// Members for which the spec no longer asks, and those that are being deleted.
    pub leaving: BTreeSet<MachineName>,
    /// Free machines for which the spec asks.
    pub joining: BTreeSet<MachineName>,
    /// Why machines are missing.
    pub obstacles: Vec<Obstacle>,
    /// Uids of other clusters that use machines which could be chosen otherwise.
    pub rivals: BTreeSet<String>,
}

impl Pick {
    /// How many machines are missing.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.total
            .saturating_sub(self.staying.len() + self.joining.len())
    }
}
