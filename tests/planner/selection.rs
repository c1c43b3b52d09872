//! Which machines, and why not.

mod changes;

use std::sync::Arc;

use nico::api::conditions::{
    ConditionType::{MachinesAvailable, Stalled},
    Reason,
};
use nico::api::status::{MachineState, Role};
use serde_json::json;

use crate::given::{
    MachineBuilder, PROD, cluster, given, machine, of_rival, planned, selected, settled, stranger,
};
use crate::world::{World, usable_key};

#[test]
fn listed_machines_are_claimed_at_once_with_their_roles() {
    given(cluster().control_plane(["cp-1"]).workers(["w-1"]))
        .machines(["cp-1", "w-1", "other"])
        .when(planned)
        .then(|seen| {
            assert_eq!(seen.claimed(), ["cp-1", "w-1"]);
            let roles: Vec<Role> = seen.claims().iter().map(|claim| claim.role).collect();
            assert_eq!(roles, [Role::ControlPlane, Role::Worker]);
        });
}

#[test]
fn a_configuration_bears_the_name_of_its_machine() {
    given(cluster().control_plane(["cp-1"]))
        .machines(["cp-1"])
        .when(planned)
        .then(|seen| {
            let body = seen.claims()[0].body.render();
            assert_eq!(body["metadata"]["name"], "cp-1");
            assert_eq!(body["spec"]["machineRef"]["name"], "cp-1");
        });
}

#[test]
fn a_machine_that_does_not_exist_is_named_and_nothing_is_claimed() {
    given(cluster().control_plane(["cp-1", "cp-2"]))
        .machines(["cp-1"])
        .when(planned)
        .then(|seen| {
            assert!(seen.claimed().is_empty());
            let words = "Machine cp-2 does not exist in namespace default: create it, or correct spec.controlPlane.machines";
            seen.says(MachinesAvailable, "False", Reason::MachineMissing, words);
            assert_eq!(seen.state("cp-2"), MachineState::Unavailable);
        });
}

#[test]
fn an_undiscoverable_machine_is_not_claimed_and_is_when_it_comes() {
    given(cluster().control_plane(["cp-1"]))
        .with(machine("cp-1").undiscoverable())
        .when(planned)
        .then(|seen| {
            assert!(seen.claimed().is_empty());
            seen.says(
                MachinesAvailable,
                "False",
                Reason::MachineUndiscoverable,
                "cp-1",
            );
        })
        .when(|world| {
            world
                .machine("cp-1")
                .status
                .get_or_insert_default()
                .discoverable = true
        })
        .then(|seen| assert_eq!(seen.claimed(), ["cp-1"]));
}

#[test]
fn a_machine_without_an_address_is_not_claimed() {
    given(cluster().control_plane(["cp-1"]))
        .with(machine("cp-1").without_address())
        .when(planned)
        .then(|seen| assert!(seen.claimed().is_empty()));
}

#[test]
fn a_machine_that_a_foreign_configuration_names_is_not_claimed() {
    given(cluster().control_plane(["cp-1"]))
        .machines(["cp-1"])
        .and(|world| world.post(&stranger("odd-name", "cp-1")).unwrap())
        .when(planned)
        .then(|seen| {
            assert!(seen.claimed().is_empty());
            seen.says(MachinesAvailable, "False", Reason::MachineInUse, "odd-name");
        });
}

#[test]
fn a_foreign_configuration_counts_while_it_is_terminating() {
    given(cluster().control_plane(["cp-1"]))
        .machines(["cp-1"])
        .and(|world| {
            world.post(&stranger("cp-1", "cp-1")).unwrap();
            world.delete_configuration("cp-1");
        })
        .when(planned)
        .then(|seen| assert!(seen.claimed().is_empty() && seen.given_back().is_empty()));
}

#[test]
fn the_holder_is_named() {
    given(cluster().control_plane(["cp-1"]))
        .machines(["cp-1"])
        .and(|world| world.post(&of_rival("cp-1", "rival", "r")).unwrap())
        .when(planned)
        .then(|seen| {
            let words = "cp-1 is held by KubernetesCluster rival";
            seen.says(MachinesAvailable, "False", Reason::MachineInUse, words);
        });
}

#[test]
fn a_selector_takes_free_machines_in_name_order_up_to_its_count() {
    given(cluster().select_control_plane(2))
        .cp_machines(["c", "a", "b"])
        .with(machine("0-worker").worker())
        .when(planned)
        .then(|seen| assert_eq!(seen.claimed(), ["a", "b"]));
}

#[test]
fn match_expressions_are_understood_whole() {
    let selector = json!({ "matchExpressions": [
        { "key": "zone", "operator": "In", "values": ["a", "b"] },
        { "key": "old", "operator": "DoesNotExist" },
        { "key": "disk", "operator": "Exists" },
        { "key": "arch", "operator": "NotIn", "values": ["arm"] },
    ]});
    let good = |name| machine(name).label("zone", "a").label("disk", "x");
    given(cluster().set(
        "controlPlane",
        json!({ "machineSelector": selector, "count": 1 }),
    ))
    .with(machine("a").label("zone", "c").label("disk", "x"))
    .with(good("b").label("old", "yes"))
    .with(machine("c").label("zone", "a"))
    .with(good("d").label("arch", "arm"))
    .with(good("e"))
    .when(planned)
    .then(|seen| assert_eq!(seen.claimed(), ["e"]));
}

#[test]
fn a_selector_skips_what_is_held_configured_released_or_unreachable() {
    given(cluster().select_control_plane(1))
        .cp_machines(["a", "f"])
        .with(machine("b").cp().configured())
        .with(machine("c").cp().released())
        .with(machine("d").cp().undiscoverable())
        .with(machine("e").cp().without_address())
        .and(|world| world.post(&of_rival("a", "rival", "r")).unwrap())
        .when(planned)
        .then(|seen| assert_eq!(seen.claimed(), ["f"]));
}

#[test]
fn a_list_takes_a_machine_that_says_configured_or_released() {
    given(cluster().control_plane(["a"]).workers(["b"]))
        .with(machine("a").configured())
        .with(machine("b").released())
        .when(planned)
        .then(|seen| assert_eq!(seen.claimed(), ["a", "b"]));
}

#[test]
fn lists_come_first_then_the_control_plane_then_workers() {
    given(cluster().select_control_plane(1).workers(["a"]))
        .cp_machines(["a", "b"])
        .when(planned)
        .then(|seen| assert_eq!(seen.claimed(), ["b", "a"]));
    given(
        cluster()
            .select_control_plane(1)
            .set("dataPlane", selected("cp", 1)),
    )
    .cp_machines(["a", "b"])
    .when(planned)
    .then(|seen| {
        assert_eq!(seen.claimed(), ["a", "b"]);
        assert_eq!(seen.claims()[0].role, Role::ControlPlane);
    });
}

#[test]
fn too_few_for_a_control_plane_claims_nothing_and_says_how_many_are_missing() {
    given(cluster().select_control_plane(3).select_workers(1))
        .cp_machines(["a", "b"])
        .with(machine("w").worker())
        .when(planned)
        .then(|seen| {
            assert!(seen.claimed().is_empty());
            let words =
                "1 of 3 control plane machines missing: no other free Machine in namespace ";
            seen.says(MachinesAvailable, "False", Reason::TooFewMachines, words);
        });
}

/// A machine of that name, with the label that the control plane's selector looks for.
fn misnamed(world: &mut World, name: &str, of: MachineBuilder) {
    let machine = Arc::new(of.object);
    world.misnamed.insert(name.to_owned(), machine);
}

#[test]
fn a_machine_whose_name_cannot_be_used_is_told() {
    given(cluster().select_control_plane(3).select_workers(1))
        .cp_machines(["a", "b"])
        .with(machine("kept").cp().released())
        .with(machine("w").worker())
        .when(|world| {
            misnamed(world, "cp-01.lab", machine("x").cp());
            misnamed(world, "w-01.lab", machine("x").worker());
            misnamed(world, "cp-02.lab", machine("x").cp().released());
        })
        .then(|seen| {
            assert!(seen.claimed().is_empty());
            for words in [
                "Machine cp-01.lab matches the selector, and its name cannot be used",
                "without a usable SSH key, 1 annotated release, 1 with a name that cannot be used)",
            ] {
                let reason = Reason::MachineNameUnusable;
                seen.says(MachinesAvailable, "False", reason, words);
            }
            let said = &seen.condition(MachinesAvailable).message;
            // The workers are all there.
            assert!(!said.contains("w-01") && !said.contains("cp-02"), "{said}");
        })
        .when(|world| {
            world.pass(PROD);
            world.wait(60);
        })
        .then(|seen| {
            let words = "Machine cp-01.lab";
            seen.says(Stalled, "True", Reason::MachineNameUnusable, words);
        })
        .when(|world| {
            let new = machine("c").cp();
            world.machines.insert(new.name.clone(), new.object);
            world
                .ssh_keys
                .insert(new.name.clone(), usable_key(&new.name));
        })
        .when(settled)
        .then(|seen| assert!(seen.world.ready(PROD), "{}", seen.world.story()));
}

/// NIO would apply the configuration of a released machine to it, for good.
#[test]
fn no_machine_has_the_name_of_the_output_for_released_machines() {
    let told = |cluster| {
        given(cluster)
            .cp_machines(["minimal"])
            .when(planned)
            .then(|seen| {
                assert!(seen.claimed().is_empty());
                let reason = Reason::MachineNameUnusable;
                seen.says(MachinesAvailable, "False", reason, "#minimal");
            });
    };
    told(cluster().control_plane(["minimal"]));
    told(cluster().select_control_plane(1));
}

#[test]
fn workers_are_taken_as_they_come() {
    given(cluster().control_plane(["cp"]).select_workers(3))
        .machines(["cp"])
        .with(machine("w-1").worker())
        .when(planned)
        .then(|seen| assert_eq!(seen.claimed(), ["cp", "w-1"]));
}

/// An empty selector matches every Machine: nobody has to look for labels.
#[test]
fn an_empty_selector_is_not_blamed() {
    let all = json!({ "machineSelector": {}, "count": 2 });
    given(
        cluster()
            .set("controlPlane", json!({ "machines": ["a"] }))
            .set("dataPlane", all),
    )
    .machines(["a", "b"])
    .when(|world| misnamed(world, "w-01.lab", machine("x")))
    .then(|seen| {
        for words in [
            "1 of 2 worker machines missing: no other free Machine is in namespace ",
            "Machine w-01.lab is matched by the empty selector, and its name cannot be used",
            "or give the selector labels that it does not have",
        ] {
            let said = &seen.condition(MachinesAvailable).message;
            assert!(said.contains(words), "{said}");
        }
    });
}
