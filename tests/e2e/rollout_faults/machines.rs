//! A machine that is deleted in the middle of a roll.

use kube::api::DeleteParams;
use rig::crds::Generation;
use rig::judge::rollout::{Rules, order};
use rig::world::MachineSpec;

use crate::common::case::Case;
use crate::common::over_both;
use crate::rollout_faults::{ORDER, does_nothing, rolled_once, stands_at, three_and_one};

over_both![a_machine_deleted_in_flight_holds_the_roll_until_it_is_made_again];

async fn delete_machine(case: &Case, machine: &str) -> String {
    let machines = case.world.machines();
    let object = machines.get(machine).await.unwrap();
    let delete = DeleteParams::default();
    machines.delete(machine, &delete).await.unwrap();
    let spec = &object.data["spec"];
    let ip = spec["host"].as_str().or(spec["ipAddress"].as_str());
    ip.unwrap().to_owned()
}

/// The roll stands still with a machine that is gone, and goes on with its successor of the same name. One that was
/// done with is not written again for it.
async fn a_machine_deleted_in_flight_holds_the_roll_until_it_is_made_again(generation: Generation) {
    let case = three_and_one(generation).await;
    let mut rules = Rules::default();
    stands_at(&case, &mut rules, "cp-01", "b").await;
    let began = rules.rolls[0];
    let ip = delete_machine(&case, "cp-01").await;
    let message = case
        .told("prod", "MachinesAvailable", "False", "MachineMissing")
        .await;
    assert!(message.contains("cp-01"), "{message}");
    case.two_more_passes().await;
    assert_eq!(order(&case.evidence(), began), ORDER[..2]);
    assert_eq!(case.in_flight("prod").await, ["cp-01"]);
    let again = MachineSpec::new("cp-01");
    case.world.machine_objects(&again, &ip).await;
    let ip = delete_machine(&case, "w-01").await;
    let again = MachineSpec::new("w-01");
    case.world.machine_objects(&again, &ip).await;
    does_nothing(&case, "cp-01", false);
    rolled_once(&case, &rules, "b").await;
    case.finish_rolled(&rules).await;
}
