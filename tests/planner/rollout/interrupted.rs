//! A rollout with a lost ledger, an older attempt of NIO, a withdrawn proof, a crash, or an entry of another version.

use std::collections::BTreeSet;

use nico::api::conditions::{ConditionType::RollingOut, Reason};
use nico::api::ledger::{Entry, EntryState};
use nico::api::status::{MachineState, Role};
use nico::plan::observed::Fetch;
use serde_json::json;

use super::{good_repository, name, new_repository, passes, ready, rolled};
use crate::given::{PROD, Seen, settled};

/// Whoever acted on the lost ledger is waited for before the slot opens.
#[test]
fn a_ledger_lost_in_mid_roll_is_fenced_first() {
    ready()
        .when(|world| {
            new_repository(world);
            passes(world, 3);
            world.cluster(PROD).ledger = None;
            world.cluster(PROD).since.clear();
            world.broken.insert(name("v"));
            passes(world, 6);
        })
        .then(|seen| {
            assert_eq!(rolled(&seen.world), ["v"]);
            seen.says(RollingOut, "True", Reason::InFlight, "120 seconds");
            assert!(seen.observed.ledger.ours().unwrap().slot.fencing);
        })
        .when(|world| world.wait(119))
        .then(|seen| assert!(!seen.kinds().contains(&"Touch")))
        .when(|world| world.wait(1))
        .then(|seen| {
            let touches = seen.kinds().iter().filter(|it| **it == "Touch").count();
            assert_eq!(touches, 5, "{:?}", seen.kinds());
        })
        .when(|world| world.broken.clear())
        .when(settled)
        .then(|seen| assert!(seen.world.ready(PROD), "{}", seen.world.story()));
}

/// What was rewritten over an attempt that may still run keeps its entry for an hour, and then NIO's own word counts.
#[test]
fn an_entry_over_an_older_attempt_is_kept_for_an_hour() {
    ready()
        .when(|world| {
            world.edit(PROD, |spec| {
                spec["rollout"] = json!({ "order": "ControlPlaneFirst" })
            });
            new_repository(world);
            passes(world, 3);
            good_repository(world);
            passes(world, 3);
            world.work();
            passes(world, 6);
        })
        .then(|seen| {
            assert_eq!(rolled(&seen.world), ["a", "a"]);
            assert_eq!(seen.state("a"), MachineState::Confirmed);
            seen.says(RollingOut, "True", Reason::InFlight, "older attempt");
        })
        .when(|world| {
            world.wait(3600);
            world.configuration("a").status = None;
            passes(world, 4);
        })
        .then(|seen| {
            let entries = &seen.observed.ledger.ours().unwrap().slot.entries;
            assert_eq!(entries.len(), 1, "the mark alone is not enough");
        })
        .when(settled)
        .then(|seen| {
            assert!(seen.world.ready(PROD), "{}", seen.world.story());
            let entries = &seen.observed.ledger.ours().unwrap().slot.entries;
            assert!(entries.is_empty(), "{entries:?}");
        });
}

/// Where NIO proves another attempt than the confirmed one, the mark goes, and comes again with NIO's proof.
#[test]
fn a_mark_is_withdrawn_where_nio_proves_another_attempt() {
    ready()
        .when(|world| {
            let status = &mut world.configuration("b").status;
            status.get_or_insert_default().additional_files_hash = Some("0".repeat(64));
        })
        .then(|seen| assert_eq!(seen.kinds(), ["Withdraw"]))
        .when(settled)
        .then(|seen| {
            assert!(seen.world.ready(PROD), "{}", seen.world.story());
            assert_eq!(rolled(&seen.world), Vec::<String>::new());
        });
}

#[test]
fn a_machine_made_anew_is_written_anew_after_five_minutes() {
    ready()
        .when(|world| {
            let status = &mut world.machine("w").status;
            *status = Some(nico::api::nio::MachineStatus {
                discoverable: true,
                ..Default::default()
            });
            world.pass(PROD);
            world.wait(299);
        })
        .then(|seen| assert_eq!(seen.differences("w"), Vec::<String>::new()))
        .when(|world| {
            world.pass(PROD);
            world.wait(1);
        })
        .then(|seen| assert_eq!(seen.differences("w"), ["Reapply"]))
        .when(settled)
        .then(|seen| assert_eq!(rolled(&seen.world), ["w"]));
}

/// A kill before and after every write of a roll; with a second operator's eyes nothing else is seen.
#[test]
fn a_crash_between_any_two_writes_of_a_roll_still_ends_ready() {
    let mut whole = ready().0;
    new_repository(&mut whole);
    whole.settle();
    let writes = whole.written.len();
    assert!(writes >= 5 * 5, "{writes}");
    for crash in 0..writes {
        let mut world = ready().0;
        new_repository(&mut world);
        while world.written.len() < crash {
            let Some((_, plan)) = world.plan(PROD) else {
                break;
            };
            let before = world.written.len();
            for action in &plan.actions {
                if world.apply(PROD, action).is_err() || world.written.len() >= crash {
                    break;
                }
            }
            if world.written.len() == before {
                world.work();
                world.wait(30);
            }
        }
        // What lived in memory alone is gone.
        let memory = world.cluster(PROD);
        memory.since.clear();
        memory.kubeconfig.fetch = Fetch::default();
        world.settle();
        assert!(
            world.ready(PROD),
            "crash after write {crash}: {}",
            world.story()
        );
        let rolled: BTreeSet<String> = rolled(&world).into_iter().collect();
        assert_eq!(rolled.len(), 5, "crash after write {crash}: {rolled:?}");
    }
}

/// The status answers who is in flight, and since when.
#[test]
fn the_status_mirrors_the_slot() {
    ready()
        .when(|world| {
            new_repository(world);
            passes(world, 3);
        })
        .then(|seen: &Seen| {
            let rollout = seen.status.rollout.clone().unwrap();
            assert_eq!(rollout.in_flight.len(), 1);
            let flight = &rollout.in_flight[0];
            assert!(flight.machine == "v" && flight.since.is_some());
            assert!(flight.waiting_for.contains("NIO"), "{flight:?}");
            let entries = &seen.observed.ledger.ours().unwrap().slot.entries;
            assert_eq!(entries[0].state, EntryState::Active);
        });
}

/// A later version of NICO made the entry, and was taken back: nothing is done to the machine, and its entry stays as it is.
#[test]
fn an_entry_in_an_unknown_state_is_held_as_in_flight() {
    let later = EntryState::Unknown("draining".to_owned());
    for machine in ["a", "v"] {
        ready()
            .when(|world| {
                new_repository(world);
                let role = if machine == "a" {
                    Role::ControlPlane
                } else {
                    Role::Worker
                };
                let (_, ledger) = world.cluster(PROD).ledger.as_mut().unwrap();
                ledger.slot.entries = vec![Entry {
                    machine: name(machine),
                    role,
                    state: later.clone(),
                }];
                world.settle();
            })
            .then(|seen| {
                assert_eq!(rolled(&seen.world), Vec::<String>::new());
                let entries = &seen.observed.ledger.ours().unwrap().slot.entries;
                assert_eq!(entries[0].state, later);
                let told = format!("Machine {machine} in the state draining");
                seen.says(RollingOut, "True", Reason::LedgerUnreadable, &told);
                assert_eq!(
                    seen.status.rollout.as_ref().unwrap().in_flight[0].machine,
                    machine
                );
            });
    }
}
