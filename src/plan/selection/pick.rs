//! The machines of the roles: who stays, leaves and joins.

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
    pub fn of(&self, role: Role) -> &Pick {
        match role {
            Role::ControlPlane => &self.control_plane,
            Role::Worker => &self.workers,
        }
    }

    /// Whether a machine is to get its first configuration, in either role.
    #[must_use]
    pub fn joins(&self, machine: &MachineName) -> bool {
        self.any(|pick| &pick.joining, machine)
    }

    /// Whether a member stays, in either role.
    #[must_use]
    pub fn stays(&self, machine: &MachineName) -> bool {
        self.any(|pick| &pick.staying, machine)
    }

    /// Whether a member is to leave, in either role.
    #[must_use]
    pub fn leaves(&self, machine: &MachineName) -> bool {
        self.any(|pick| &pick.leaving, machine)
    }

    /// Whether some machine lacks an SSH key that can be used.
    #[must_use]
    pub fn lacks_keys(&self) -> bool {
        let mut roles = Role::ALL.into_iter();
        roles.any(|role| {
            self.of(role)
                .obstacles
                .iter()
                .any(|it| it.kind == ObstacleKind::UnusableKey)
        })
    }

    fn any(&self, of: fn(&Pick) -> &BTreeSet<MachineName>, machine: &MachineName) -> bool {
        let mut roles = Role::ALL.into_iter();
        roles.any(|role| of(self.of(role)).contains(machine))
    }

    /// Every machine that has a configuration of ours or is to get one now, with its role.
    pub fn present(&self) -> impl Iterator<Item = (&MachineName, Role)> {
        Role::ALL.into_iter().flat_map(|role| {
            let pick = self.of(role);
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
    /// How many the spec asks for.
    pub total: usize,
    /// Members that the spec still asks for.
    pub staying: BTreeSet<MachineName>,
    /// Members that it no longer asks for, and those being deleted.
    pub leaving: BTreeSet<MachineName>,
    /// Free machines that it asks for.
    pub joining: BTreeSet<MachineName>,
    /// Why machines are missing; by machine where it is about one.
    pub obstacles: Vec<Obstacle>,
    /// Uids of the clusters that hold machines which could be taken otherwise.
    pub rivals: BTreeSet<String>,
}

impl Pick {
    /// How many machines cannot be had now.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.total
            .saturating_sub(self.staying.len() + self.joining.len())
    }
}
