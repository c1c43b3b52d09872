//! SPEC 4.2: how an entry ends whose machine has no configuration that could be touched.

use nico::api::ledger::{Entry, EntryState};
use nico::api::status::Role;
use nico::plan::action::{Action, Notice};

use crate::given::{PROD, Seen};
use crate::rollout::{name, ready};

/// A cluster at rest, but for the `releasing` entry of a machine that left, and that a pass has seen.
fn left(role: Role) -> Seen {
    ready().when(|world| {
        let (_, ledger) = world.cluster(PROD).ledger.as_mut().unwrap();
        ledger.slot.entries = vec![Entry {
            machine: name("d"),
            role,
            state: EntryState::Releasing,
        }];
        world.pass(PROD);
    })
}

fn node_stays(seen: &Seen) -> bool {
    let told = Action::Tell(Notice::NodeStays(name("d")));
    seen.plan.actions.contains(&told)
}

/// Its Node is gone, and still a POST of an older take may land.
#[test]
fn it_outlasts_late_requests() {
    for role in Role::ALL {
        left(role)
            .when(|world| world.wait(119))
            .then(|seen| assert_eq!(seen.ledger_written(), None))
            .when(|world| world.wait(1))
            .then(|seen| {
                let ledger = seen.ledger_written().expect("it ends");
                assert!(ledger.slot.entries.is_empty());
                assert!(!node_stays(seen), "the Nodes are known");
            });
    }
}

/// Whether a worker's Node is gone cannot be told, and a worker does not wait for that: a person is told.
#[test]
fn a_person_hears_of_a_node_that_may_stay() {
    left(Role::Worker)
        .when(|world| {
            world.mute = ["a", "b", "c"].map(name).into();
            world.wait(120);
        })
        .then(|seen| {
            assert!(seen.ledger_written().is_some(), "{:?}", seen.plan);
            assert!(node_stays(seen));
        });
}
