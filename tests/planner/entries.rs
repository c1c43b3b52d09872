//! How an entry ends whose machine has no configuration that could be touched.

use nico::api::ledger::{Entry, EntryState};
use nico::api::status::Role;
use nico::plan::action::{Action, Notice, SlotWrite};

use crate::given::{PROD, Seen, cluster, given, machine, settled};
use crate::rollout::{name, new_repository, ready, rolled};
use crate::world::World;

/// A cluster at rest, but for the `releasing` entry of a machine that left, and that a pass has seen.
fn left(role: Role) -> Seen {
    ready().when(|world| {
        let (_, ledger) = world.cluster(PROD).ledger.as_mut().unwrap();
        ledger.slot.entries = vec![Entry {
            machine: name("d"),
            role,
            state: EntryState::Releasing,
        }];
        world.plan(PROD);
    })
}

fn ends(seen: &Seen) {
    let ledger = seen.ledger_written().expect("it ends");
    assert!(ledger.slot.entries.is_empty());
    assert!(!node_stays(seen), "the Nodes are known");
}

fn node_stays(seen: &Seen) -> bool {
    let told = Action::Notify(Notice::NodeStays(name("d")));
    seen.plan.actions.contains(&told)
}

/// Its Node is gone, and still a POST of an older take may land.
#[test]
fn it_outlasts_late_requests() {
    left(Role::ControlPlane)
        .when(|world| world.wait(119))
        .then(|seen| assert_eq!(seen.ledger_written(), None))
        .when(|world| world.wait(1))
        .then(ends);
}

/// A worker's POST that lands late makes its first configuration, which disrupts nothing: nobody waits for it.
#[test]
fn that_of_a_worker_ends_at_once() {
    left(Role::Worker).then(ends);
}

/// Whether a worker's Node is gone cannot be told, and a worker does not wait for that: a person is told.
#[test]
fn a_person_hears_of_a_node_that_may_stay() {
    left(Role::Worker)
        .when(|world| {
            world.mute = ["a", "b", "c"].map(name).into();
        })
        .then(|seen| {
            assert!(seen.ledger_written().is_some(), "{:?}", seen.plan);
            assert!(node_stays(seen));
        });
}

/// The numbers of the control plane hold up its own machines; workers go on while a quorum is healthy.
#[test]
fn workers_are_updated_beside_a_sick_control_plane_machine() {
    ready()
        .when(|world| {
            world.mute.insert(name("c"));
            world.nodes.get_mut("c").unwrap().ready = false;
            new_repository(world);
        })
        .when(settled)
        .then(|seen| {
            let rolled = rolled(&seen.world);
            assert!(
                rolled.contains(&"v".to_owned()) && rolled.contains(&"w".to_owned()),
                "{rolled:?}"
            );
            assert!(!rolled.contains(&"a".to_owned()), "{rolled:?}");
        });
}

/// A Node of the control plane that an earlier life of machine d left over.
fn left_over_node(world: &mut World) {
    let mut node = world.nodes["c"].clone();
    (node.name, node.uid) = ("d".to_owned(), "old".to_owned());
    (node.addresses, node.ready) = (Vec::new(), false);
    world.nodes.insert("d".to_owned(), node);
}

/// It goes under an entry of the control plane, also where its machine is to be a worker now.
#[test]
fn an_old_control_plane_node_of_a_worker_goes_by_the_rules_of_the_control_plane() {
    ready()
        .when(|world| {
            left_over_node(world);
            world.edit(PROD, |spec| {
                spec["dataPlane"]["machines"] = ["d", "v", "w"].into();
            });
        })
        .then(|seen| {
            let mut actions = seen.plan.actions.iter();
            let taken = actions.find_map(|action| match action {
                Action::Slot(SlotWrite::Take { taken, .. }) => Some(taken),
                _ => None,
            });
            let entries = &taken.expect("its entry is taken").slot.entries;
            assert_eq!(entries[0].machine, name("d"));
            assert_eq!(entries[0].role, Role::ControlPlane);
        })
        .when(settled)
        .then(|seen| assert!(seen.world.ready(PROD), "{}", seen.world.story()));
}

/// An old Node of the control plane may still be an etcd member: it goes before its machine joins again, as far as the numbers allow.
#[test]
fn an_old_control_plane_node_goes_only_as_the_numbers_allow() {
    for sick in [false, true] {
        ready()
            .when(|world| {
                left_over_node(world);
                if sick {
                    world.mute.insert(name("c"));
                    world.nodes.get_mut("c").unwrap().ready = false;
                }
                world.edit(PROD, |spec| {
                    spec["controlPlane"]["machines"] = ["a", "b", "c", "d"].into();
                });
            })
            .when(settled)
            .then(|seen| {
                let goes = rolled(&seen.world).contains(&"node d".to_owned());
                assert_eq!(goes, !sick, "{}", seen.world.story());
            });
    }
}

/// Labels change the role of a machine after its entry was taken for a worker. That entry would end without a wait for the POST.
#[test]
fn a_machine_joins_the_control_plane_only_under_an_entry_of_the_control_plane() {
    let joined = |seen: &Seen| seen.world.configurations.contains_key("d");
    let mut given = given(cluster().select_control_plane(3).select_workers(1))
        .cp_machines(["a", "b", "c"])
        .with(machine("w").worker());
    given.0.settle();
    given
        .with(machine("d").cp())
        .when(|world| {
            world.edit(PROD, |spec| spec["controlPlane"]["count"] = 4.into());
            world.plan(PROD);
            let (_, ledger) = world.cluster(PROD).ledger.as_mut().unwrap();
            ledger.slot.entries = vec![Entry {
                machine: name("d"),
                role: Role::Worker,
                state: EntryState::Active,
            }];
            let _ = world.enter(PROD, &[name("d")]);
        })
        .then(|seen| {
            assert!(!joined(seen));
            let mut actions = seen.plan.actions.iter();
            let taken = actions.find_map(|action| match action {
                Action::Slot(SlotWrite::Take { taken, .. }) => Some(&taken.slot.entries[0]),
                _ => None,
            });
            let renewed = taken.map(|entry| (&entry.machine, entry.role));
            assert_eq!(renewed, Some((&name("d"), Role::ControlPlane)));
        })
        .when(settled)
        .then(|seen| assert!(joined(seen)));
}
