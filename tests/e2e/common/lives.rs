//! NICO killed again and again at chosen writes, and started again each time.

use rig::process::KillSwitch;
use rig::wait::wait_describing;
use rig::world::{NicoSetup, RunningNico, World};

use super::DEADLINE;
use super::case::Case;

/// Whoever runs now is killed by the next of them.
pub(crate) fn arm(switches: &[KillSwitch], nico: &RunningNico) {
    for switch in switches {
        switch.arm(nico);
    }
}

/// Lives end by `switches`, armed with the present one, and another begins each time, until one sees what is wanted `reached`.
/// `since`: how many writes there were before the first could be killed. Returns how many were.
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
            // The goal may be reached by the very write at which the kill is under way.
            let met = proxy.writes()[written..].iter().any(|call| call.faulted);
            (reached && !met).then_some(false)
        };
        let told = || async {
            format!(
                "{what}, after {killed} kills\n{}\n{}",
                proxy.write_lines(),
                world.describe().await
            )
        };
        if !wait_describing("a kill or the end", DEADLINE, over, told).await {
            return (Case { world, proxy, nico }, killed);
        }
        killed += 1;
        written = proxy.writes().len();
        nico = world.nico_unready(setup, &proxy).await;
        arm(switches, &nico);
    }
}
