//! SPEC 3.1: keys that classic NIO cannot hand out alone are mirrored, and kept in step.

use nico::api::names::ssh_mirror_name;
use nico::plan::action::Action;
use nico::plan::desired::key_secret;
use serde_json::json;

use crate::given::{Given, PROD, Seen, cluster, given, machine, planned, settled};
use crate::rollout::{name, rolled};
use crate::world::{Refused, World, mirrored_key, usable_key};

/// The key of a machine is to be given to it by a mirror.
fn mirrored(world: &mut World, machine: &str, fingerprint: &str) {
    let machine = name(machine);
    let key = mirrored_key(&machine, fingerprint);
    world.ssh_keys.insert(machine, key);
}

fn two_mirrored() -> Given {
    given(cluster().control_plane(["a"]).workers(["v", "w"]))
        .machines(["a", "v", "w"])
        .and(|world| {
            mirrored(world, "a", "SHA256:first");
            mirrored(world, "v", "SHA256:v");
        })
}

fn mirrors(world: &World) -> Vec<(&str, &str)> {
    let all = world.mirrors.iter();
    all.map(|(machine, (_, key))| (machine.as_str(), key.as_str()))
        .collect()
}

fn told(seen: &Seen) -> Vec<String> {
    let (_, ledger) = seen.world.clusters[PROD].ledger.as_ref().unwrap();
    ledger.mirrors.iter().cloned().collect()
}

#[test]
fn a_mirror_is_named_then_made_then_referred_to() {
    two_mirrored()
        .when(planned)
        .then(|seen| {
            assert_eq!(
                seen.kinds(),
                [
                    "AddFinalizer",
                    "CreateLedger",
                    "CreateToken",
                    "CreateToken",
                    "WriteMirror",
                    "WriteMirror"
                ]
            );
        })
        .when(|world| {
            world.pass(PROD);
        })
        .then(|seen| {
            // Once more just before: what was decided about them earlier fails.
            let claims = ["WriteMirror", "Claim", "WriteMirror", "Claim", "Claim"];
            assert_eq!(seen.kinds()[1..], claims);
        })
        .when(settled)
        .then(|seen| {
            assert!(seen.world.ready(PROD), "{}", seen.world.story());
            assert_eq!(
                mirrors(&seen.world),
                [("a", "SHA256:first"), ("v", "SHA256:v")]
            );
            assert_eq!(told(seen), ["nico-ssh-a", "nico-ssh-v"]);
            let held = &seen.observed.configurations["a"];
            assert_eq!(key_secret(held), Some(ssh_mirror_name(&name("a")).as_str()));
            assert_eq!(
                key_secret(&seen.observed.configurations["w"]),
                Some("ssh-w")
            );
        });
}

#[test]
fn a_rotated_key_reaches_the_mirror_before_the_machine_is_written() {
    two_mirrored()
        .when(settled)
        .when(|world| mirrored(world, "v", "SHA256:rotated"))
        .then(|seen| assert_eq!(seen.kinds(), ["WriteMirror"]))
        .when(settled)
        .then(|seen| {
            assert!(seen.world.ready(PROD), "{}", seen.world.story());
            assert_eq!(mirrors(&seen.world)[1], ("v", "SHA256:rotated"));
            assert_eq!(rolled(&seen.world), ["v"]);
        });
}

#[test]
fn a_mirror_that_somebody_deletes_is_made_anew_and_nothing_rolls() {
    two_mirrored()
        .when(settled)
        .when(|world| drop(world.mirrors.remove(&name("a"))))
        .then(|seen| assert_eq!(seen.kinds(), ["WriteMirror"]))
        .when(settled)
        .then(|seen| {
            assert_eq!(mirrors(&seen.world).len(), 2);
            assert_eq!(rolled(&seen.world), Vec::<String>::new());
        });
}

/// The key may be moved to where it needs no mirror; the mirror stays until the machine is written anew.
#[test]
fn a_mirror_goes_once_nothing_refers_to_it() {
    two_mirrored()
        .when(settled)
        .when(|world| {
            let machine = name("v");
            world.ssh_keys.insert(machine.clone(), usable_key(&machine));
        })
        .then(|seen| assert!(!seen.kinds().contains(&"DropMirror"), "{:?}", seen.kinds()))
        .when(settled)
        .then(|seen| {
            assert!(seen.world.ready(PROD), "{}", seen.world.story());
            assert_eq!(mirrors(&seen.world).len(), 1);
            assert_eq!(told(seen), ["nico-ssh-a"]);
        });
}

#[test]
fn the_mirror_of_a_machine_that_left_goes_after_it_and_comes_back_with_it() {
    two_mirrored()
        .when(settled)
        .when(|world| world.edit(PROD, |spec| spec["dataPlane"] = json!({"machines": ["w"]})))
        .when(settled)
        .then(|seen| {
            assert!(!seen.world.configurations.contains_key("v"));
            assert_eq!(told(seen), ["nico-ssh-a"]);
            assert_eq!(mirrors(&seen.world).len(), 1);
        })
        .when(|world| {
            world.edit(PROD, |spec| {
                spec["dataPlane"] = json!({"machines": ["v", "w"]});
            });
        })
        .when(settled)
        .then(|seen| {
            assert!(seen.world.ready(PROD), "{}", seen.world.story());
            assert_eq!(told(seen), ["nico-ssh-a", "nico-ssh-v"]);
        });
}

/// A control plane machine joins through the slot: its mirror is named, then made, then its entry taken.
#[test]
fn a_control_plane_machine_that_joins_finds_its_mirror() {
    given(cluster().control_plane(["a", "b", "c"]))
        .machines(["a", "b", "c"])
        .with(machine("d"))
        .with(machine("e"))
        .and(|world| mirrored(world, "d", "SHA256:d"))
        .when(settled)
        .when(|world| {
            world.edit(PROD, |spec| {
                spec["controlPlane"] = json!({"machines": ["a", "b", "c", "d", "e"]});
            });
        })
        .when(settled)
        .then(|seen| {
            assert!(seen.world.ready(PROD), "{}", seen.world.story());
            assert_eq!(mirrors(&seen.world), [("d", "SHA256:d")]);
        });
}

/// A ledger that is lost is made anew with the mirrors that configurations refer to.
#[test]
fn a_ledger_made_anew_names_the_mirrors() {
    two_mirrored()
        .when(settled)
        .when(|world| world.cluster(PROD).ledger = None)
        .when(settled)
        .then(|seen| {
            assert!(seen.world.ready(PROD), "{}", seen.world.story());
            assert_eq!(told(seen), ["nico-ssh-a", "nico-ssh-v"]);
        });
}

/// In a deletion the mirror of a machine that is free goes at once, whoever else is waited for.
#[test]
fn the_mirror_of_a_machine_that_is_free_does_not_wait_for_the_others() {
    two_mirrored()
        .when(settled)
        .when(|world| {
            world.delete_cluster(PROD);
            world.pass(PROD);
            world.apply_configuration("v");
        })
        .then(|seen| assert_eq!(seen.kinds(), ["DeleteChild"]))
        .when(|world| {
            world.pass(PROD);
        })
        .then(|seen| {
            assert_eq!(mirrors(&seen.world), [("a", "SHA256:first")]);
            assert_eq!(seen.kinds(), Vec::<&str>::new());
        });
}

/// Two operators: what one decided before the machine was wanted again comes to nothing.
#[test]
fn a_deletion_that_was_decided_before_a_claim_fails_after_it() {
    let mut seen = two_mirrored()
        .when(settled)
        .when(|world| world.edit(PROD, |spec| spec["dataPlane"] = json!({"machines": ["w"]})))
        .when(|world| {
            let drops = |it: &Action| matches!(it, Action::DropMirror(..));
            while !world.plan(PROD).unwrap().1.actions.iter().any(drops) {
                world.pass(PROD);
                world.work();
                world.wait(30);
            }
        });
    let late = seen.plan.actions.clone();
    let world = &mut seen.world;
    world.edit(PROD, |spec| {
        spec["dataPlane"] = json!({"machines": ["v", "w"]});
    });
    while !world.configurations.contains_key("v") {
        world.pass(PROD);
        world.work();
        world.wait(30);
    }
    let drop = late.iter().find(|it| matches!(it, Action::DropMirror(..)));
    assert_eq!(world.apply(PROD, drop.unwrap()), Err(Refused));
    assert_eq!(mirrors(world).len(), 2);
}
