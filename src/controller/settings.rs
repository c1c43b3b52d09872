//! The controller's settings, from the flags of `nico run`.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::Range;
use std::time::Duration;

use super::schedule::{LOOK_IN_RESYNCS, PASS_TIMEOUT_IN_REQUESTS, SHORTEST_PASS_TIMEOUT};
use crate::api::nio::Generation;
use crate::remote::git::Reach;

/// Settings of one run of the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorSettings {
    /// The only namespace to work in; `None`: all.
    pub watch_namespace: Option<String>,
    /// `gitRepo` of clusters that name none.
    pub default_git_repo: Option<String>,
    /// Which NIO is installed; `None`: found by the API server's schema of `Machine`.
    pub nio: Option<Generation>,
    /// How often every cluster is reconciled without an event, and Secrets are read again.
    pub resync: Duration,
    /// Timeout of every call to the API server.
    pub request_timeout: Duration,
    /// Port of the machines' SSH servers.
    pub ssh_port: u16,
    /// From where git servers are asked.
    pub reach: Reach,
}

impl OperatorSettings {
    /// When the next pass for this cluster begins if no event triggers one.
    #[must_use]
    pub fn next_look(&self, uid: &str) -> Duration {
        let mut hasher = DefaultHasher::new();
        uid.hash(&mut hasher);
        let share = u16::try_from(hasher.finish() % 1000).unwrap_or_default();
        let Range { start, end } = LOOK_IN_RESYNCS;
        self.resync
            .mul_f64(start + f64::from(share) / 1000.0 * (end - start))
    }

    /// How long reads by name are remembered: until the earliest pass that begins without an event.
    #[must_use]
    pub fn read_memory(&self) -> Duration {
        self.resync.mul_f64(LOOK_IN_RESYNCS.start)
    }

    /// How long one pass may take.
    #[must_use]
    pub fn pass_timeout(&self) -> Duration {
        let of_requests = self
            .request_timeout
            .saturating_mul(PASS_TIMEOUT_IN_REQUESTS);
        of_requests.max(SHORTEST_PASS_TIMEOUT)
    }
}

#[cfg(test)]
impl OperatorSettings {
    /// The defaults of the flags, with another `--resync`.
    pub(super) fn of_a_test(resync: Duration) -> Self {
        Self {
            watch_namespace: None,
            default_git_repo: None,
            nio: None,
            resync,
            request_timeout: Duration::from_secs(30),
            ssh_port: 22,
            reach: Reach::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The passes of four hundred clusters that began together spread evenly over the range.
    #[test]
    fn clusters_that_began_together_do_not_look_together() {
        let settings = OperatorSettings::of_a_test(Duration::from_secs(400));
        let mut looks = [0; 20];
        for cluster in 0..400 {
            let uid = format!("8c5ab95e-0b8c-4d2a-9d1f-{cluster:012}");
            let look = settings.next_look(&uid);
            assert_eq!(look, settings.next_look(&uid), "it stays its own");
            assert!(look >= settings.read_memory() && look <= settings.resync);
            let after = look.saturating_sub(settings.read_memory()).as_secs();
            looks[usize::try_from(after / 5).unwrap_or_default().min(19)] += 1;
        }
        assert!(looks.iter().all(|looks| *looks < 50), "{looks:?}");
    }
}
