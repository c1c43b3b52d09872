//! NICO killed before and after every single write of a deletion: the next one takes it up, and the machines are
//! another cluster's at once.

use std::cell::Cell;

use kube::ResourceExt;
use kube::api::ListParams;
use rig::crds::Generation;
use rig::nio::Knobs;
use rig::process::KillSwitch;
use rig::proxy::{Call, Effect, Fault, Moment};
use rig::world::{NicoSetup, World, condition};

use crate::common::case::Case;
use crate::common::lives::{arm, lives};
use crate::common::traffic::{RESYNC, Write, named};
use crate::common::{DEADLINE, listed, nico, over_both};
use crate::leaving::passing;

over_both![on demand: a_deletion_survives_a_kill_at_every_write];

/// Worlds side by side; in each one cluster after the other is deleted.
const LANES: usize = 6;
const MACHINES: [&str; 3] = ["cp-01", "cp-02", "w-01"];
/// NIO lets go of this one last.
const LAST: &str = "w-01";
/// They take turns: while one is being deleted, the other waits for the same machines.
const NAMES: [&str; 2] = ["blue", "green"];

fn setup() -> NicoSetup {
    nico().args(&RESYNC)
}

/// A world in which clusters are deleted.
struct Lane {
    case: Case,
    deleted: usize,
}

impl Lane {
    async fn new(generation: Generation) -> Self {
        let case = Case::of(generation, &setup()).await;
        case.world.machines_named(&MACHINES).await;
        let lane = Self { case, deleted: 0 };
        lane.make(NAMES[0]).await;
        lane.case.ready(NAMES[0]).await;
        lane
    }

    async fn make(&self, cluster: &str) {
        let spec = listed(&MACHINES[..2], &MACHINES[2..]);
        self.case.cluster(cluster, spec).await;
    }

    /// The cluster of this turn, and the next one.
    fn names(&self) -> [&'static str; 2] {
        let now = self.deleted % 2;
        [NAMES[now], NAMES[1 - now]]
    }

    /// Deletes the cluster that holds the machines, while another waits for them; lives end by these faults. Returns the writes of
    /// the deletion, and how many lives ended.
    async fn delete(
        self,
        what: &str,
        faults: impl FnOnce(&str, &KillSwitch) -> Vec<Fault>,
    ) -> (Self, Vec<Write>, usize) {
        let [name, next] = self.names();
        self.make(next).await;
        let Self { case, deleted } = self;
        let waits = |status: &serde_json::Value| {
            condition(status, "MachinesAvailable")["reason"] == "MachineInUse"
        };
        let what = format!("{name}: {what}");
        case.world.wait_status(next, &what, DEADLINE, waits).await;
        let (uid, since) = (case.uid(name).await, case.world.nio().now());
        let before = case.proxy.writes().len();
        let switch = KillSwitch::default();
        case.proxy.clear_faults();
        for fault in faults(name, &switch) {
            case.proxy.fault(fault);
        }
        let switches = [switch];
        arm(&switches, &case.nico);
        // NIO is slow with the last one: whoever thinks that it is done has time to do harm.
        let slow = |slow: bool| move |knobs: &mut Knobs| knobs.never_reacts = slow;
        case.world.nio().set(LAST, slow(true));
        let (passes, alone) = (passing(&case), Cell::new(None));
        case.delete(name).await;
        let gone = async |world: &World| {
            let found = world.clusters().get_opt(name).await;
            if found.is_ok_and(|found| found.is_none()) {
                return true;
            }
            let held = world.configurations().list(&ListParams::default()).await;
            let mut held = held.map(|list| list.items).unwrap_or_default();
            held.retain(|it| it.metadata.deletion_timestamp.is_some());
            if held.len() == 1 && held[0].name_any() == LAST {
                let since = alone.get().unwrap_or_else(|| passes.get());
                alone.set(Some(since));
                if passes.get() > since + 2 {
                    world.nio().set(LAST, slow(false));
                }
            }
            false
        };
        let (case, killed) = lives(case, &setup(), &switches, before, &what, gone).await;
        case.nothing_is_left_of(name, &uid).await;
        case.removed_with_all_files(&MACHINES, since);
        // Every machine is another's at once.
        case.ready(next).await;
        let mut writes = case.proxy.writes().split_off(before);
        writes.retain(|call| is_of(call, name));
        let lane = Self {
            case,
            deleted: deleted + 1,
        };
        (lane, named(&writes), killed)
    }

    async fn finish(self) {
        let foundings = self.case.world.flake().foundings();
        let lines = self.case.proxy.write_lines();
        assert_eq!(foundings.len(), self.deleted + 1, "{foundings:?}\n{lines}");
        self.case.finish().await;
    }
}

/// Whether a write is of the deletion of this cluster.
fn is_of(call: &Call, cluster: &str) -> bool {
    let name = call.object_name();
    let released = call.resource == "nixosconfigurations" && call.verb == "delete";
    released || name == cluster || name.starts_with(&format!("{cluster}-"))
}

/// The same write of the deletion of another cluster.
fn of(write: &Write, cluster: &str) -> Write {
    let mut write = write.clone();
    if write.resource != "nixosconfigurations" {
        write.name = write.name.replacen(NAMES[0], cluster, 1);
    }
    write
}

/// How often the status is written depends on what comes together; every other write must have been met.
fn may_be_missed(write: &Write) -> bool {
    write.resource.ends_with("/status")
}

async fn a_deletion_survives_a_kill_at_every_write(generation: Generation) {
    let first = Lane::new(generation).await;
    let (first, writes, _) = first.delete("a clean one", |_, _| vec![]).await;
    let of_status = writes.iter().filter(|it| may_be_missed(it)).count();
    // Three configurations, three Secrets, known hosts and ledger, each of them deleted; three finalizers of children, and the last.
    assert_eq!(writes.len() - of_status, 8 + 3 + 1, "{writes:#?}");
    let both = [Moment::Before, Moment::After];
    let kills: Vec<_> = writes
        .iter()
        .flat_map(|write| both.map(|moment| (write, moment)))
        .collect();
    let kills = &kills;
    let mut first = Some(first);
    let lanes: Vec<_> = (0..LANES).map(|_| first.take()).collect();
    let lanes = lanes.into_iter().enumerate().map(async |(n, lane)| {
        let mut lane = match lane {
            Some(lane) => lane,
            None => Lane::new(generation).await,
        };
        let (mut of_deeds, mut of_status) = (0, 0);
        for (write, moment) in kills.iter().skip(n).step_by(LANES) {
            let what = format!("{moment:?} {write:?}");
            let killed;
            let fault = |name: &str, switch: &KillSwitch| {
                vec![of(write, name).fault(*moment, Effect::Kill(switch.clone()))]
            };
            (lane, _, killed) = lane.delete(&what, fault).await;
            if may_be_missed(write) {
                of_status += killed;
            } else {
                assert_eq!(killed, 1, "{what}\n{}", lane.case.proxy.write_lines());
                of_deeds += killed;
            }
        }
        lane.finish().await;
        (of_deeds, of_status)
    });
    let met = futures::future::join_all(lanes).await;
    let of_deeds: usize = met.iter().map(|met| met.0).sum();
    let of_statuses: usize = met.iter().map(|met| met.1).sum();
    assert_eq!(of_deeds, 2 * 12);
    println!(
        "{of_deeds} kills at the 12 writes of a deletion of 2+1, and {of_statuses} of {} at those of its status: each ended",
        2 * of_status
    );
}
