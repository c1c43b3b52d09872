//! The configurations of one pass: by name, and by the machine that each refers to.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::sync::Arc;

use super::member::role;
use crate::api::names::MachineName;
use crate::api::nio::NixosConfiguration;
use crate::api::status::Role;

/// Configurations by name.
#[derive(Clone, Debug, Default)]
pub struct Configurations {
    by_name: BTreeMap<String, Arc<NixosConfiguration>>,
    /// Those with a valid machine name, in name order.
    members: BTreeMap<MachineName, (Role, Arc<NixosConfiguration>)>,
    /// By machine: those that refer to it and have another name. There are few.
    misnamed: BTreeMap<String, BTreeSet<String>>,
}

impl Deref for Configurations {
    type Target = BTreeMap<String, Arc<NixosConfiguration>>;

    fn deref(&self) -> &Self::Target {
        &self.by_name
    }
}

impl Configurations {
    /// Adds one, or replaces the one with its name.
    pub fn insert(&mut self, name: String, configuration: Arc<NixosConfiguration>) {
        // Most of those that a cluster owns also have its label.
        let held = self.by_name.get(&name);
        if held.is_some_and(|held| Arc::ptr_eq(held, &configuration)) {
            return;
        }
        self.remove(&name);
        if let Some(machine) = configuration.spec.machine().filter(|it| *it != name) {
            let names = self.misnamed.entry(machine.to_owned()).or_default();
            names.insert(name.clone());
        }
        if let Some(machine) = MachineName::parse(&name) {
            let member = (role(&name, &configuration), Arc::clone(&configuration));
            self.members.insert(machine, member);
        }
        self.by_name.insert(name, configuration);
    }

    /// Removes the one with that name.
    pub fn remove(&mut self, name: &str) -> Option<Arc<NixosConfiguration>> {
        let removed = self.by_name.remove(name)?;
        if let Some(machine) = MachineName::parse(name) {
            self.members.remove(&machine);
        }
        let machine = removed.spec.machine().unwrap_or_default();
        if let Some(names) = self.misnamed.get_mut(machine) {
            names.remove(name);
        }
        Some(removed)
    }

    /// Those with a valid machine name, in name order, with the role of each.
    pub fn members(&self) -> impl Iterator<Item = (&MachineName, Role, &Arc<NixosConfiguration>)> {
        let members = self.members.iter();
        members.map(|(name, (role, held))| (name, *role, held))
    }

    /// Those that refer to a machine or have its name, in name order.
    pub fn on(&self, machine: &str) -> impl Iterator<Item = (&String, &NixosConfiguration)> {
        let misnamed = || self.misnamed.get(machine).into_iter().flatten();
        let before = misnamed().filter(move |name| name.as_str() < machine);
        let after = misnamed().filter(move |name| name.as_str() > machine);
        let own = self.by_name.get_key_value(machine);
        let of = |name: &String| self.by_name.get_key_value(name);
        let all = before.filter_map(of).chain(own).chain(after.filter_map(of));
        all.map(|(name, held)| (name, &**held))
    }
}
