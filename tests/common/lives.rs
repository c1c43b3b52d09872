//! NICO's lives: one is ended at a write, the next one goes on.

use rig::process::KillSwitch;
use rig::proxy::{Call, Effect, Fault, Moment, Proxy};
use rig::wait::wait_describing;
use rig::world::{NicoSetup, RunningNico, World};

use super::DEADLINE;
use super::traffic::Write;

/// One life is ended at `write`; the next one goes on.
#[derive(Clone)]
pub(crate) struct Kill {
    pub(crate) write: Write,
    pub(crate) moment: Moment,
}

impl Kill {
    /// Before and after every one of these writes.
    pub(crate) fn all(writes: &[Write]) -> Vec<Self> {
        let both = [Moment::Before, Moment::After];
        let kills = writes.iter().flat_map(|write| {
            both.map(|moment| Self {
                write: write.clone(),
                moment,
            })
        });
        kills.collect()
    }

    /// What it is, for the message of a failure.
    pub(crate) fn name(&self) -> String {
        let Write {
            verb,
            resource,
            name,
            nth,
        } = &self.write;
        format!("{:?} {verb} {resource} {name} #{nth}", self.moment)
    }

    /// Whether the write is one of a status.
    pub(crate) fn is_of_status(&self) -> bool {
        self.write.resource.ends_with("/status")
    }

    /// How often the status is written depends on what comes together; every other write must have been met.
    pub(crate) fn may_be_missed(&self) -> bool {
        self.is_of_status() && self.write.nth > 1
    }

    /// The fault that presses the switch.
    pub(crate) fn fault(&self, switch: &KillSwitch) -> Fault {
        self.write.fault(self.moment, Effect::Kill(switch.clone()))
    }
}

/// Waits for the end of `nico` by the switch, or for `reached`; then starts another. True: it was killed. `since`: how many
/// writes there were before the kill was laid.
pub(crate) async fn next_life<T>(
    (world, proxy, setup): (&World, &Proxy, &NicoSetup),
    since: usize,
    switch: &KillSwitch,
    first: RunningNico,
    reached: impl AsyncFn() -> Option<T>,
) -> (bool, RunningNico) {
    let ended = || async {
        let over = first.exit_status().is_some();
        if over {
            return Some(true);
        }
        // The goal may be reached by the very write at which the kill is under way.
        let reached = reached().await.is_some();
        let writes = proxy.writes();
        let met = writes[since..].iter().any(|call: &Call| call.faulted);
        (reached && !met && !switch.pressed()).then_some(false)
    };
    let told = || async { format!("{}\n{}", proxy.write_lines(), world.describe().await) };
    if wait_describing("the kill or the goal", DEADLINE, ended, told).await {
        drop(first);
        (true, world.nico(setup, proxy).await)
    } else {
        (false, first)
    }
}
