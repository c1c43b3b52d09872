//! What classic NIO and the machines do, in memory.

use nico::api::names::MachineName;
use nico::api::nio::{Generation, NioCondition, NixosConfiguration, NixosConfigurationStatus};
use nico::api::status::Role;
use nico::plan::observed::{AtHand, KnownHostsView, NodeView};

use crate::given::member;
use crate::world::World;

impl World {
    /// NIO and the machines do what they have to do: apply, let go, answer to SSH. Whether anything changed.
    pub fn work(&mut self) -> bool {
        let names: Vec<String> = self.configurations.keys().cloned().collect();
        let mut changed = false;
        for name in &names {
            changed |= self.apply_configuration(name);
        }
        for cluster in self.clusters.values_mut() {
            let fetch = &mut cluster.kubeconfig.fetch;
            if std::mem::take(&mut fetch.running) {
                fetch.at_hand = Some(AtHand {
                    verified: Ok(()),
                    ends: None,
                });
                fetch.failure = None;
                fetch.new_host_key = cluster.known_hosts == KnownHostsView::Absent;
                changed = true;
            }
        }
        changed
    }

    /// NIO lets go of what is being deleted, and does nothing else.
    pub fn work_deletions(&mut self) {
        let held = self.configurations.iter();
        let deleted: Vec<String> = held
            .filter(|(_, held)| held.metadata.deletion_timestamp.is_some())
            .map(|(name, _)| name.clone())
            .collect();
        for name in deleted {
            self.apply_configuration(&name);
        }
    }

    /// A configuration goes. `#minimal` runs no kubelet; the Node stays until somebody deletes it.
    pub fn let_go(&mut self, name: &str) {
        self.configurations.remove(name);
        self.flying.retain(|machine, _| machine.as_str() != name);
        if let Some(node) = self.nodes.get_mut(name) {
            node.ready = false;
        }
    }

    /// NIO applies one configuration, or lets go of it. Whether anything changed.
    pub fn apply_configuration(&mut self, name: &str) -> bool {
        if self.nio == Some(Generation::V1) {
            return self.apply_as_v1(name);
        }
        let Some(configuration) = self.configurations.get_mut(name) else {
            return false;
        };
        let target = configuration.spec.machine().and_then(MachineName::parse);
        let machine = target
            .as_ref()
            .and_then(|machine| self.machines.get_mut(machine));
        if configuration.metadata.deletion_timestamp.is_some() {
            let Some(machine) = machine else {
                // Classic never lets go of a configuration whose Machine object is gone.
                return false;
            };
            let status = machine.status.get_or_insert_default();
            // A machine out of reach keeps saying that it is configured.
            if status.discoverable {
                status.has_configuration = false;
                status.applied_configuration = None;
            }
            self.let_go(name);
            return true;
        }
        let Some(status) = machine.and_then(|machine| machine.status.as_mut()) else {
            return false;
        };
        if !status.discoverable || target.is_some_and(|machine| self.broken.contains(&machine)) {
            return false;
        }
        let proof = Some(proof(configuration));
        if configuration.status == proof {
            return false;
        }
        status.has_configuration = true;
        status.applied_configuration = Some(name.to_owned());
        configuration.status = proof;
        self.flying.retain(|machine, _| machine.as_str() != name);
        self.runs_as_configured(name);
        true
    }

    /// The machine is what its configuration says: its Node registers, if it has a kubelet. The configuration is another version afterwards.
    pub fn runs_as_configured(&mut self, name: &str) {
        let control_plane = member(self.configuration(name)).role() == Role::ControlPlane;
        let version = self.count();
        let uid = format!("node-{}", self.count());
        self.configuration(name).metadata.resource_version = Some(version.to_string());
        if control_plane && self.without_kubelets {
            return;
        }
        let node = self
            .nodes
            .entry(name.to_owned())
            .or_insert_with(|| NodeView {
                name: name.to_owned(),
                uid,
                addresses: vec![format!("ip-of-{name}")],
                kubelet_minor: Some(37),
                ..NodeView::default()
            });
        node.control_plane = control_plane;
        node.ready = !self.unwell.iter().any(|machine| machine.as_str() == name);
    }
}

/// What classic writes after it applied a configuration.
pub fn proof(configuration: &NixosConfiguration) -> NixosConfigurationStatus {
    NixosConfigurationStatus {
        applied_commit: Some("c0ffee".to_owned()),
        additional_files_hash: Some(configuration.spec.files_hash().to_owned()),
        target_machine: configuration.spec.machine().map(str::to_owned),
        conditions: vec![NioCondition {
            kind: "Applied".to_owned(),
            status: "True".to_owned(),
            reason: "Success".to_owned(),
            message: String::new(),
        }],
        ..NixosConfigurationStatus::default()
    }
}
