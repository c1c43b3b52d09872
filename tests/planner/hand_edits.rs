//! What people do by hand, and what a backup brings back: nothing that lives is ever given back for it.

use nico::api::conditions::{
    ConditionType::{self, Stalled},
    Reason,
};
use nico::api::names::ClusterId;
use nico::plan::observed::SecretView;
use serde_json::json;

use crate::given::{Given, PROD, cluster, given, machine, planned, settled, stranger};
use crate::rollout::{new_repository, ready, rolled};
use crate::world::World;

fn three() -> Given {
    given(cluster().control_plane(["a", "b", "c"]).workers(["w"]))
        .machines(["a", "b", "c", "d", "w"])
}

#[test]
fn a_control_plane_confirmed_while_paused_is_founded_whatever_the_list_says_next() {
    three()
        .when(|world| {
            world.pass(PROD);
            world.edit(PROD, |spec| spec["paused"] = json!(true));
            for name in ["a", "b", "c", "w"] {
                world.apply_configuration(name);
            }
            world.pass(PROD);
            world.edit(PROD, |spec| {
                spec["paused"] = json!(false);
                spec["controlPlane"] = json!({ "machines": ["b", "c", "d"] });
            });
        })
        .then(|seen| {
            assert_eq!(seen.given_back(), Vec::<&str>::new());
            assert!(seen.kinds().contains(&"UpdateLedger"), "{:?}", seen.kinds());
        });
}

/// A ledger of another founding, restored beside the living cluster or written by another operator between a ledger and its claims.
fn ledger_of_another_founding(world: &mut World, founded: bool) {
    let cluster = world.cluster(PROD);
    let (_, ledger) = cluster.ledger.as_mut().unwrap();
    ledger.founded = founded;
    ledger.id = ClusterId::from_bits(99);
    cluster.kubeconfig.secret = SecretView::Absent;
    world.edit(PROD, |spec| {
        spec["controlPlane"] = json!({ "machines": ["b", "c", "d"] });
    });
}

#[test]
fn a_ledger_of_a_founding_that_came_to_nothing_takes_the_living_id_and_gives_nothing_back() {
    three()
        .when(settled)
        .when(|world| ledger_of_another_founding(world, false))
        .then(|seen| {
            let living = seen.held("a").id;
            let written = seen.ledger_written().expect("the ledger is mended");
            assert_eq!(seen.kinds()[0], "UpdateLedger");
            assert!(written.id == living && written.founded && written.slot.fencing);
            assert_eq!(seen.given_back(), Vec::<&str>::new());
        });
}

#[test]
fn a_founded_ledger_of_another_founding_stops_the_cluster_and_gives_nothing_back() {
    three()
        .when(settled)
        .when(|world| ledger_of_another_founding(world, true))
        .then(|seen| {
            assert_eq!(seen.kinds(), Vec::<&str>::new());
            seen.says(
                Stalled,
                "True",
                Reason::LedgerUnreadable,
                "another cluster id",
            );
        });
}

#[test]
fn what_is_given_back_is_not_marked_as_applied() {
    three()
        .when(|world| {
            world.pass(PROD);
            let cluster = world.cluster(PROD);
            cluster.ledger.as_mut().unwrap().1.id = ClusterId::from_bits(99);
            world.work();
        })
        .then(|seen| {
            assert_eq!(seen.given_back(), ["a", "b", "c", "w"]);
            assert!(!seen.kinds().contains(&"Confirm"), "{:?}", seen.kinds());
        });
}

#[test]
fn a_member_that_a_foreign_configuration_names_is_told_and_not_written() {
    three()
        .when(settled)
        .when(|world| {
            world.post(&stranger("legacy", "a")).unwrap();
            world.configuration("a").metadata.labels = None;
        })
        .then(|seen| {
            assert_eq!(seen.kinds(), Vec::<&str>::new());
            seen.says(
                ConditionType::MachinesAvailable,
                "False",
                Reason::MachineInUse,
                "legacy",
            );
        });
}

/// I2: before its turn, and with an entry.
#[test]
fn a_roll_passes_by_a_member_that_a_foreign_configuration_names() {
    ready()
        .when(|world| {
            world.post(&stranger("legacy", "b")).unwrap();
            new_repository(world);
        })
        .when(settled)
        .then(|seen| {
            assert_eq!(rolled(&seen.world), ["v", "w", "a", "c"]);
            assert!(seen.taken().is_none());
        })
        .when(|world| drop(world.configurations.remove("legacy")))
        .when(settled)
        .then(|seen| {
            assert_eq!(rolled(&seen.world), ["v", "w", "a", "c", "b"]);
            assert!(seen.world.ready(PROD), "{}", seen.world.story());
        });
    ready()
        .when(|world| {
            new_repository(world);
            while rolled(world).is_empty() {
                world.pass(PROD);
            }
            world.post(&stranger("legacy", "v")).unwrap();
        })
        .when(settled)
        .then(|seen| {
            assert_eq!(rolled(&seen.world), ["v"]);
            let ledger = seen.observed.ledger.ours().unwrap();
            assert_eq!(ledger.slot.entries.len(), 1, "its entry stays");
        });
}

#[test]
fn a_selector_passes_over_a_machine_without_a_key() {
    given(cluster().select_control_plane(1))
        .with(machine("a").cp().without_key())
        .with(machine("b").cp())
        .when(planned)
        .then(|seen| assert_eq!(seen.claimed(), ["b"]));
}

#[test]
fn a_configuration_that_lost_its_owner_is_taken_back() {
    three()
        .when(settled)
        .when(|world| {
            let metadata = &mut world.configuration("a").metadata;
            metadata.owner_references = None;
        })
        .then(|seen| assert_eq!(seen.kinds(), ["TakeBack"]))
        .when(settled)
        .then(|seen| {
            assert_eq!(seen.kinds(), Vec::<&str>::new());
            assert!(seen.observed.controls(&seen.observed.configurations["a"]));
        });
}

#[test]
fn labels_that_were_stripped_come_back_and_the_role_with_them() {
    three()
        .when(settled)
        .when(|world| world.configuration("b").metadata.labels = None)
        .then(|seen| assert_eq!(seen.kinds(), ["TakeBack"]))
        .when(settled)
        .then(|seen| {
            let labels = seen.observed.configurations["b"]
                .metadata
                .labels
                .clone()
                .unwrap();
            assert_eq!(labels["nico.homystack.com/role"], "control-plane");
            assert_eq!(labels["nico.homystack.com/cluster"], PROD);
        });
}

#[test]
fn owners_stripped_before_the_founding_are_no_second_founding() {
    given(cluster().select_control_plane(3))
        .cp_machines(["a", "b", "c", "d", "e", "f"])
        .when(|world| {
            world.pass(PROD);
            for name in ["a", "b", "c"] {
                world.configuration(name).metadata.owner_references = None;
            }
        })
        .then(|seen| {
            assert_eq!(seen.claimed(), Vec::<&str>::new());
            assert_eq!(seen.given_back(), Vec::<&str>::new());
            assert_eq!(seen.kinds(), ["TakeBack"; 3]);
        });
}

#[test]
fn a_worker_without_a_key_holds_up_nobody_else() {
    given(cluster().control_plane(["a"]).workers(["v", "w"]))
        .machines(["a", "w"])
        .with(machine("v").without_key())
        .when(planned)
        .then(|seen| assert_eq!(seen.claimed(), ["a", "w"]));
}

/// NIO would clear the machine, which another party configures.
#[test]
fn a_claim_that_another_configuration_contests_is_given_back_once_that_is_gone() {
    given(cluster().control_plane(["a"]).workers(["v", "w"]))
        .machines(["a", "v", "w"])
        .when(|world| {
            world.pass(PROD);
            world.pass(PROD);
            assert!(world.configurations.contains_key("w"));
            world.post(&stranger("legacy", "w")).unwrap();
            world.edit(PROD, |spec| spec["dataPlane"]["machines"] = json!(["v"]));
            world.pass(PROD);
            world.pass(PROD);
        })
        .then(|seen| {
            let held = &seen.world.configurations["w"];
            assert!(held.metadata.deletion_timestamp.is_none());
        })
        .when(|world| {
            world.configurations.remove("legacy");
            world.settle();
        })
        .then(|seen| assert!(!seen.world.configurations.contains_key("w")));
}
