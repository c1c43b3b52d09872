//! Checks that nothing is left of a deleted cluster, and that NIO had everything that it needed meanwhile.

use std::time::Duration;

use kube::ResourceExt;
use kube::api::ListParams;
use rig::nio::Outcome;

use super::case::Case;

impl Case {
    /// Asserts that there is no configuration, and no object with NICO's label.
    pub(crate) async fn nothing_is_left(&self) {
        let configurations = self.configurations().await;
        assert!(configurations.is_empty(), "{configurations:?}");
        let children = self.children().await;
        let lines = self.proxy.write_lines();
        assert!(children.is_empty(), "{children:?}\n{lines}");
    }

    /// Asserts that nothing is left of one cluster. Objects of others may exist.
    pub(crate) async fn nothing_is_left_of(&self, cluster: &str, uid: &str) {
        let lines = self.proxy.write_lines();
        let all = ListParams::default();
        let configurations = self.world.configurations().list(&all).await.unwrap();
        let owned = configurations.iter().filter(|configuration| {
            let owners = configuration.owner_references();
            owners.iter().any(|owner| owner.uid == uid)
        });
        let owned: Vec<String> = owned.map(ResourceExt::name_any).collect();
        assert!(owned.is_empty(), "{owned:?}\n{lines}");
        let mut children = self.children().await;
        children.retain(|child| child.starts_with(&format!("{cluster}-")));
        assert!(children.is_empty(), "{children:?}\n{lines}");
    }

    /// Asserts that the configuration was removed from each of these machines since then, and that all of its files still existed at that
    /// time: NIO needs the Secrets until then.
    pub(crate) fn removed_with_all_files(&self, machines: &[&str], since: Duration) {
        let lines = self.proxy.write_lines();
        let mut removals = self.world.nio().history();
        removals.retain(|attempt| attempt.applied.removal && attempt.began >= since);
        for machine in machines {
            let done = removals.iter().any(|attempt| {
                attempt.applied.machine == *machine && attempt.outcome == Outcome::Success
            });
            assert!(done, "nothing was taken off {machine}\n{lines}");
        }
        for attempt in removals {
            let machine = attempt.applied.machine;
            let skipped = attempt.applied.skipped;
            assert!(skipped.is_empty(), "{machine}: {skipped:?}\n{lines}");
        }
    }

    /// The uid of a cluster.
    pub(crate) async fn uid(&self, cluster: &str) -> String {
        let found = self.world.clusters().get(cluster).await.unwrap();
        found.uid().unwrap()
    }
}
