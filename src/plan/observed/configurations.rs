//! The configurations that one pass looks at: by name, and by the machine that each names.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::sync::Arc;

use crate::api::nio::NixosConfiguration;

/// Configurations by name.
#[derive(Clone, Debug, Default)]
pub struct Configurations {
    by_name: BTreeMap<String, Arc<NixosConfiguration>>,
    /// By machine: those that name it and bear another name. There are few.
    misnamed: BTreeMap<String, BTreeSet<String>>,
}

impl Deref for Configurations {
    type Target = BTreeMap<String, Arc<NixosConfiguration>>;

    fn deref(&self) -> &Self::Target {
        &self.by_name
    }
}

impl Configurations {
    /// Takes one in, in the place of another of its name.
    pub fn insert(&mut self, name: String, configuration: Arc<NixosConfiguration>) {
        self.remove(&name);
        if let Some(machine) = configuration.spec.machine().filter(|it| *it != name) {
            let names = self.misnamed.entry(machine.to_owned()).or_default();
            names.insert(name.clone());
        }
        self.by_name.insert(name, configuration);
    }

    /// Takes the one of that name out.
    pub fn remove(&mut self, name: &str) -> Option<Arc<NixosConfiguration>> {
        let removed = self.by_name.remove(name)?;
        let machine = removed.spec.machine().unwrap_or_default();
        if let Some(names) = self.misnamed.get_mut(machine) {
            names.remove(name);
        }
        Some(removed)
    }

    /// Those that name a machine, or bear its name, in the order of their names.
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
