//! Kills NICO repeatedly at chosen writes, and restarts it each time.

use rig::process::KillSwitch;
use rig::wait::wait_describing;
use rig::world::{NicoSetup, RunningNico, World};

use super::DEADLINE;
use super::case::Case;

/// Arms all switches with this process, so that the next one that is pressed kills it.
pub(crate) fn arm(switches: &[KillSwitch], nico: &RunningNico) {
    for switch in switches {
        switch.arm(nico);
    }
}

/// Restarts NICO each time one of `switches` has killed it, and arms them with the new process, until one of the processes sees what is
/// wanted `reached`. `since`: the number of writes before the first process could be killed. Returns how many were killed.
pub(crate) async fn lives(
    case: Case,
    setup: &NicoSetup,
    switches: &[KillSwitch],
    since: usize,
    what: &str,
    reached: impl AsyncFn(&World) -> bool,
) -> (Case, usize) {
    let Case {
        world,
        proxy,
        mut nico,
    } = case;
    let (mut written, mut killed) = (since, 0);
    loop {
        let over = || async {
            if nico.exit_status().is_some() {
                return Some(true);
            }
            let reached = reached(&world).await;
            // The goal may be reached by the same write at which the process is being killed.
            let met = proxy.writes()[written..].iter().any(|call| call.faulted);
            (reached && !met).then_some(false)
        };
        let state = || async {
            format!(
                "{what}, after {killed} kills\n{}\n{}",
                proxy.write_lines(),
                world.describe().await
            )
        };
        if !wait_describing("a kill or the end", DEADLINE, over, state).await {
            return (Case { world, proxy, nico }, killed);
        }
        killed += 1;
        written = proxy.writes().len();
        nico = world.nico_unready(setup, &proxy).await;
        arm(switches, &nico);
    }
}
