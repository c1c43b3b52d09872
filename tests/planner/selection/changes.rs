//! What becomes of members as machines, labels, specs and other clusters change.

use nico::api::conditions::{ConditionType::MachinesAvailable, Reason};
use nico::api::metadata::CUT;
use serde_json::json;

use crate::given::{PROD, cluster, given, machine, of_rival, planned, settled};
use crate::world::World;

#[test]
fn members_stay_when_a_machine_earlier_by_name_appears() {
    given(cluster().select_control_plane(1))
        .cp_machines(["b"])
        .when(settled)
        .when(|world| {
            let new = machine("a").cp();
            world.machines.insert(new.name, new.object);
        })
        .then(|seen| assert!(seen.plan.actions.is_empty() && seen.world.ready(PROD)));
}

#[test]
fn a_member_that_stops_matching_stays_and_is_reported() {
    given(cluster().select_control_plane(1))
        .cp_machines(["a", "b"])
        .when(settled)
        .when(|world| world.machine("a").metadata.labels = None)
        .then(|seen| {
            assert!(seen.plan.actions.is_empty());
            assert_eq!(
                seen.status.machines[0].reason,
                Reason::SelectorMismatch.to_string()
            );
            assert!(seen.world.ready(PROD));
        });
}

/// Without the labels that are not kept, it would match.
#[test]
fn no_selector_matches_a_machine_whose_labels_are_not_all_kept() {
    let selector = json!({ "matchExpressions": [{ "key": "old", "operator": "DoesNotExist" }] });
    let selected = json!({ "machineSelector": selector, "count": 1 });
    given(cluster().set("controlPlane", selected))
        .with(machine("a").label(CUT, ""))
        .machines(["b"])
        .when(settled)
        .then(|seen| {
            let held: Vec<&String> = seen.world.configurations.keys().collect();
            assert_eq!(held, ["b"]);
        })
        .when(|world| {
            let labels = [(CUT.to_owned(), String::new())];
            world.machine("b").metadata.labels = Some(labels.into());
        })
        .then(|seen| {
            assert!(seen.plan.actions.is_empty() && seen.world.ready(PROD));
            let row = &seen.status.machines[0];
            assert_eq!(row.reason, Reason::SelectorMismatch.to_string());
            assert!(
                row.message.contains("more labels than NICO reads"),
                "{row:?}"
            );
        });
}

#[test]
fn a_machine_that_disappears_is_reported_and_never_swapped() {
    given(cluster().select_control_plane(1))
        .cp_machines(["a", "b"])
        .when(settled)
        .when(|world| {
            let (name, _) = world.machines.pop_first().unwrap();
            assert_eq!(name.as_str(), "a");
        })
        .then(|seen| {
            assert!(seen.claimed().is_empty() && seen.given_back().is_empty());
            seen.says(MachinesAvailable, "False", Reason::MachineMissing, "a");
        });
}

#[test]
fn shrinking_takes_released_then_unhealthy_then_the_last_by_name() {
    let leaving = |prepare: fn(&mut World)| {
        let seen = given(cluster().select_control_plane(3))
            .cp_machines(["a", "b", "c"])
            .when(settled)
            .when(prepare)
            .when(|world| world.edit(PROD, |spec| spec["controlPlane"]["count"] = 2.into()));
        let names = &seen.plan.selection.control_plane.leaving;
        assert!(
            seen.given_back().is_empty(),
            "a founded cluster gives nothing back without the slot"
        );
        names.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(leaving(|_| {}), ["c"]);
    let sick = |world: &mut World| world.machine("b").status = None;
    assert_eq!(leaving(sick), ["b"]);
    assert_eq!(
        leaving(|world| {
            world.machine("b").status = None;
            world.machine("a").metadata.annotations =
                machine("a").released().object.metadata.annotations;
        }),
        ["a"]
    );
}

#[test]
fn a_machine_changes_its_role_only_after_it_is_free() {
    given(cluster().control_plane(["a"]).workers(["b"]))
        .machines(["a", "b", "c"])
        .when(settled)
        .when(|world| {
            world.edit(PROD, |spec| {
                *spec = cluster().control_plane(["a", "b"]).workers(["c"]).0;
            });
        })
        .then(|seen| {
            assert_eq!(seen.claimed(), ["c"]);
            assert!(
                seen.plan
                    .selection
                    .workers
                    .leaving
                    .iter()
                    .any(|it| it.as_str() == "b")
            );
        });
}

#[test]
fn the_younger_cluster_gives_its_claims_back_and_the_elder_holds_them_for_a_minute() {
    let partial = |created: i64| {
        given(cluster().control_plane(["a", "b"]))
            .machines(["a", "b"])
            .and(|world| {
                world.pass(PROD);
                world.configurations.remove("b");
                world.post(&of_rival("b", "rival", "r")).unwrap();
                world.create_cluster("rival", cluster().control_plane(["b"]).0);
                let rival = world.cluster("rival");
                rival.view.uid = "r".to_owned();
                let at = crate::world::START + created;
                rival.view.created = Some(jiff::Timestamp::from_second(at).unwrap());
            })
            .when(planned)
    };
    partial(-1).then(|seen| assert_eq!(seen.given_back(), ["a"]));
    partial(1)
        .then(|seen| assert!(seen.given_back().is_empty() && seen.claimed().is_empty()))
        .when(|world| {
            world.plan(PROD);
            world.wait(59);
        })
        .then(|seen| assert!(seen.given_back().is_empty()))
        .when(|world| world.wait(1))
        .then(|seen| assert_eq!(seen.given_back(), ["a"]));
    // Of the same age: the lesser uid stays.
    partial(0).then(|seen| assert!(seen.given_back().is_empty()));
}

#[test]
fn claims_that_were_confirmed_are_not_given_back_to_an_elder() {
    given(cluster().control_plane(["a", "b"]))
        .machines(["a", "b"])
        .and(|world| {
            world.pass(PROD);
            world.apply_configuration("a");
            world.pass(PROD);
            world.configurations.remove("b");
            world.post(&of_rival("b", "rival", "r")).unwrap();
            world.create_cluster("rival", cluster().control_plane(["b"]).0);
            let rival = world.cluster("rival");
            rival.view.uid = "r".to_owned();
            rival.view.created = Some(jiff::Timestamp::UNIX_EPOCH);
        })
        .when(planned)
        .then(|seen| assert!(seen.given_back().is_empty()));
}

#[test]
fn a_control_plane_put_together_after_a_lost_race_starts_anew() {
    given(cluster().select_control_plane(2))
        .cp_machines(["a", "b", "c"])
        .and(|world| {
            world.pass(PROD);
            world.configurations.remove("b");
            world.post(&of_rival("b", "rival", "r")).unwrap();
        })
        .when(planned)
        .then(|seen| assert_eq!(seen.given_back(), ["a"]))
        .when(settled)
        .then(|seen| {
            assert!(seen.world.ready(PROD));
            assert_eq!(seen.held("a").control_plane.len(), 2);
            assert_eq!(seen.held("a").control_plane, seen.held("c").control_plane);
        });
}
