//! What `Ready` tolerates for a minute, and what ends it at once.

use nico::api::conditions::ConditionType::{KubeconfigReady, Ready};
use nico::api::conditions::Reason;
use nico::api::status::{MachineState, Phase};
use nico::plan::observed::Works;
use serde_json::json;

use super::{after, at_rest};
use crate::given::{PROD, kubeconfig_works, not_working};
use crate::world::{World, edit};

/// Of a new generation, `Ready` bears nothing.
#[test]
fn what_ready_bears_for_a_minute_is_not_borne_of_a_new_generation() {
    at_rest()
        .when(|world| {
            world.machine("w").status.as_mut().unwrap().discoverable = false;
            world.edit(PROD, |spec| spec["paused"] = json!(true));
        })
        .then(|seen| {
            seen.says(Ready, "False", Reason::MachineUndiscoverable, "paused: ");
        });
}

#[test]
fn ready_bears_an_unreachable_machine_for_a_minute() {
    at_rest()
        .when(|world| world.machine("w").status.as_mut().unwrap().discoverable = false)
        .then(|seen| {
            assert_eq!(seen.state("w"), MachineState::Unavailable);
            assert!(seen.plan.look_again.is_some());
        })
        .when(after(59))
        .then(|seen| {
            seen.says(Ready, "True", Reason::AsExpected, "");
        })
        .when(|world| world.wait(1))
        .then(|seen| {
            seen.says(Ready, "False", Reason::MachineUndiscoverable, "w");
        });
}

#[test]
fn a_minute_of_patience_starts_anew_after_a_good_moment() {
    let flap =
        |world: &mut World, is: bool| world.machine("w").status.as_mut().unwrap().discoverable = is;
    at_rest()
        .when(|world| {
            for _ in 0..5 {
                flap(world, false);
                world.pass(PROD);
                world.wait(40);
                flap(world, true);
                world.pass(PROD);
                world.wait(40);
            }
            flap(world, false);
        })
        .then(|seen| {
            seen.says(Ready, "True", Reason::AsExpected, "");
        });
}

#[test]
fn ready_bears_nios_complaint_for_a_minute() {
    at_rest()
        .when(|world| {
            let status = world.configuration("w").status.as_mut().unwrap();
            status.conditions[0].status = "False".to_owned();
            status.conditions[0].reason = "Missing\u{202e}Credentials".to_owned();
        })
        .when(after(59))
        .then(|seen| {
            seen.says(Ready, "True", Reason::AsExpected, "");
        })
        .when(|world| world.wait(1))
        .then(|seen| {
            seen.says(Ready, "False", Reason::NIOComplains, "(MissingCredentials)");
        });
}

#[test]
fn ready_bears_a_broken_kubeconfig_for_a_minute() {
    at_rest()
        .when(|world| kubeconfig_works(world, Works::No(not_working(false))))
        .when(after(59))
        .then(|seen| {
            seen.says(Ready, "True", Reason::AsExpected, "").says(
                KubeconfigReady,
                "True",
                Reason::AsExpected,
                "",
            );
        })
        .when(|world| world.wait(1))
        .then(|seen| {
            seen.says(
                KubeconfigReady,
                "False",
                Reason::KubeconfigBroken,
                "refused",
            )
            .says(Ready, "False", Reason::KubeconfigBroken, "refused");
            assert_eq!(seen.status.phase, Some(Phase::Provisioning));
        });
}

#[test]
fn ready_is_given_up_at_once_for_a_machine_that_is_gone_unconfirmed_or_outdated() {
    at_rest()
        .when(|world| world.machines.retain(|name, _| name.as_str() != "w"))
        .then(|seen| {
            seen.says(Ready, "False", Reason::MachineMissing, "w");
        });
    at_rest()
        .when(|world| {
            world.edit_configuration("w", |held| {
                held.metadata.annotations = None;
                held.status = None;
            });
        })
        .then(|seen| {
            seen.says(Ready, "False", Reason::WaitingForMachines, "0/1 worker");
        });
    at_rest()
        .when(|world| {
            world.edit_configuration("w", |held| {
                edit(&mut held.spec, |it| it["flake"] = json!("#x"))
            })
        })
        .then(|seen| {
            seen.says(
                Ready,
                "False",
                Reason::OutOfDate,
                "w is out of date (flake)",
            );
            assert_eq!(seen.state("w"), MachineState::Outdated);
        });
}

#[test]
fn a_deleted_configuration_ends_ready_at_once() {
    at_rest()
        .when(|world| world.delete_configuration("w"))
        .then(|seen| {
            assert_eq!(seen.state("w"), MachineState::Leaving);
            assert_eq!(seen.condition(Ready).status, "False");
        });
}
