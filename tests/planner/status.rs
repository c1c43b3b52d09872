//! Conditions, phases and counts.

mod patience;

use jiff::SignedDuration;
use nico::api::conditions::ConditionType::{
    ControlPlaneReady, DataPlaneReady, KubeconfigReady, MachinesAvailable, Paused, Ready,
    Reconciling, RollingOut, Stalled,
};
use nico::api::conditions::Reason;
use nico::api::status::{ClusterStatus, MachineState, Phase};
use nico::plan::observed::{SecretView, Works, force_release_names};
use nico::plan::status::{Refusal, is_significant, status, unread};
use serde_json::{Value, json};

use crate::given::{PROD, Seen, cluster, given, machine, planned, settled};
use crate::world::{World, usable_key};

/// A cluster at rest, Ready.
pub fn at_rest() -> Seen {
    given(cluster().control_plane(["a"]).workers(["w"]))
        .machines(["a", "w"])
        .when(settled)
        .then(|seen| assert!(seen.world.ready(PROD)))
}

/// A pass, so that clocks of patience run; then so many seconds.
fn after(seconds: i64) -> impl FnOnce(&mut World) {
    move |world| {
        world.pass(PROD);
        world.wait(seconds);
    }
}

#[test]
fn ready_says_so_with_its_counts() {
    at_rest().then(|seen| {
        seen.says(Ready, "True", Reason::AsExpected, "")
            .says(Reconciling, "False", Reason::AsExpected, "")
            .says(Stalled, "False", Reason::AsExpected, "")
            .says(ControlPlaneReady, "True", Reason::AsExpected, "1/1")
            .says(DataPlaneReady, "True", Reason::AsExpected, "1/1")
            .says(RollingOut, "False", Reason::AsExpected, "")
            .says(Paused, "False", Reason::NotPaused, "");
        assert_eq!(seen.status.phase, Some(Phase::Ready));
        assert_eq!(
            seen.status.kubeconfig_secret.as_deref(),
            Some("prod-kubeconfig")
        );
        let workers = seen.status.data_plane.as_ref().unwrap();
        assert_eq!((workers.ready, workers.total, workers.updated), (1, 1, 1));
        assert_eq!(workers.ready_machines, ["w"]);
        assert!(
            seen.status
                .machines
                .iter()
                .all(|row| row.state == MachineState::Confirmed)
        );
        assert!(
            seen.status
                .machines
                .iter()
                .all(|row| row.commit.as_deref() == Some("c0ffee"))
        );
    });
}

#[test]
fn total_is_what_the_spec_asks_for() {
    given(cluster().select_control_plane(3))
        .cp_machines(["a"])
        .when(planned)
        .then(|seen| {
            let role = seen.status.control_plane.as_ref().unwrap();
            assert_eq!(
                (role.ready, role.total, role.summary.as_str()),
                (0, 3, "0/3")
            );
            assert_eq!(seen.status.phase, Some(Phase::Provisioning));
            seen.says(DataPlaneReady, "True", Reason::NoneRequested, "");
        });
}

#[test]
fn a_machine_that_nio_is_at_is_applying() {
    given(cluster().control_plane(["a"]))
        .machines(["a"])
        .when(|world| {
            world.pass(PROD);
        })
        .then(|seen| {
            assert_eq!(seen.state("a"), MachineState::Applying);
            seen.says(Ready, "False", Reason::WaitingForMachines, "0/1")
                .says(KubeconfigReady, "False", Reason::WaitingForControlPlane, "");
            assert_eq!(seen.status.kubeconfig_secret, None);
        });
}

#[test]
fn the_first_word_on_a_new_generation_is_ready_only_where_live_reads_say_so() {
    let change = |spec: &mut Value| spec["rollout"] = json!({ "maxUnavailable": 2 });
    let mut seen = at_rest().when(|world| world.edit(PROD, change));
    seen.says(Ready, "True", Reason::AsExpected, "");
    assert_eq!(seen.status.observed_generation, Some(2));
    seen.observed.live = false;
    let cached = status(&seen.observed, &seen.plan, None, seen.world.now);
    let ready = cached.condition(Ready).unwrap();
    assert_eq!(
        (ready.status.as_str(), ready.reason.as_str()),
        ("False", "Progressing")
    );
    assert!(ready.message.contains("spec changed"), "{ready:?}");
    // A change that is to be rolled out is not Ready whatever was read.
    seen.when(|world| {
        world.edit(PROD, |spec| {
            spec["gitRepo"] = json!("https://example.com/new.git")
        })
    })
    .then(|seen| {
        let words = "a, w are out of date (gitRepo)";
        seen.says(Ready, "False", Reason::OutOfDate, words);
    });
}

/// From the moment at which another machine is to take its place until the end: `Ready` does not come back in between.
#[test]
fn a_cluster_is_not_ready_while_a_machine_is_replaced() {
    let mut seen = given(cluster().control_plane(["a"]).select_workers(1))
        .machines(["a"])
        .with(machine("w-1").worker())
        .when(settled)
        .then(|seen| assert!(seen.world.ready(PROD)))
        .when(|world| {
            let another = machine("w-2").worker();
            world
                .ssh_keys
                .insert(another.name.clone(), usable_key(&another.name));
            world.machines.insert(another.name, another.object);
            let annotations = &mut world.machine("w-1").metadata.annotations;
            *annotations = machine("w-1").released().object.metadata.annotations;
        });
    let mut changes = 0;
    for _ in 0..60 {
        changes += usize::from(seen.status.holds(Ready) != (changes % 2 == 1));
        let row = seen.status.machines.iter().find(|row| row.name == "w-2");
        let joined = row.is_some_and(|row| row.state == MachineState::Confirmed);
        assert!(joined || !seen.status.holds(Ready), "{:?}", seen.status);
        seen = seen.when(|world| {
            world.pass(PROD);
            world.work();
            world.wait(5);
        });
    }
    assert_eq!((changes, seen.status.holds(Ready)), (1, true));
}

/// A list wins, and a person who raises `count` beside it has to learn why nothing happens.
#[test]
fn fields_that_a_list_of_machines_overrules_are_named() {
    let both = json!({ "machines": ["w"], "count": 3, "machineSelector": {} });
    given(cluster().control_plane(["a"]).set("dataPlane", both))
        .machines(["a", "v", "w"])
        .when(planned)
        .then(|seen| {
            for field in ["machineSelector", "count"] {
                let words = format!("spec.dataPlane.{field} has no effect beside machines");
                seen.says(MachinesAvailable, "True", Reason::AsExpected, &words);
            }
        })
        .when(settled)
        .then(|seen| {
            let words = "works; spec.dataPlane.machineSelector has no effect";
            seen.says(Ready, "True", Reason::AsExpected, words);
            let rows = seen.status.machines.iter().map(|row| row.name.as_str());
            assert_eq!(rows.collect::<Vec<_>>(), ["a", "w"]);
        });
    at_rest().then(|seen| {
        let told = &seen.condition(MachinesAvailable).message;
        assert_eq!(told, "all machines are assigned");
    });
}

#[test]
fn a_paused_cluster_tells_the_truth_too() {
    at_rest()
        .when(|world| {
            world.edit(PROD, |spec| spec["paused"] = json!(true));
            world.settle();
        })
        .then(|seen| {
            seen.says(Paused, "True", Reason::PausedBySpec, "nothing would change")
                .says(Ready, "True", Reason::AsExpected, "paused: ");
        })
        .when(|world| world.machine("w").status.as_mut().unwrap().discoverable = false)
        .when(after(60))
        .then(|seen| {
            seen.says(Ready, "False", Reason::MachineUndiscoverable, "w");
        })
        .when(|world| {
            let kubeconfig = &mut world.cluster(PROD).kubeconfig;
            (kubeconfig.works, kubeconfig.try_again) = (Works::Unknown, true);
        })
        .then(|seen| assert_eq!(seen.kinds(), ["VerifyKubeconfig"]));
}

/// Nobody is at work, and what would be done is told.
#[test]
fn a_paused_cluster_says_that_it_waits_for_a_person_and_what_would_change() {
    at_rest()
        .when(|world| {
            let another = machine("v");
            world.machines.insert(another.name, another.object);
            world.edit(PROD, |spec| {
                spec["paused"] = json!(true);
                spec["gitRepo"] = json!("https://example.com/new.git");
                spec["dataPlane"] = json!({ "machines": ["v"] });
            });
            let key = machine("v").name;
            world.ssh_keys.insert(key.clone(), usable_key(&key));
            world.settle();
        })
        .then(|seen| {
            let would = "v would join, a would be updated, w would leave";
            seen.says(Paused, "True", Reason::PausedBySpec, would)
                .says(Reconciling, "False", Reason::PausedBySpec, would)
                .says(Stalled, "False", Reason::AsExpected, "");
            let ready = seen.condition(Ready);
            assert_eq!(ready.status, "False");
            assert!(ready.message.starts_with("paused: "), "{ready:?}");
            assert_eq!(seen.row("v"), "waits until spec.paused is false");
            assert_eq!(seen.status.phase, Some(Phase::Provisioning));
        });
}

/// What is said of a worker that is to join is true: it gets nothing while others are missing.
#[test]
fn a_worker_waits_for_what_it_waits_for() {
    given(cluster().control_plane(["a"]).workers(["w"]))
        .machines(["w"])
        .when(planned)
        .then(|seen| {
            let waits = "waits until all control plane machines are available";
            assert_eq!(seen.row("w"), waits);
        });
    given(
        cluster()
            .control_plane(["a"])
            .workers(["w"])
            .set("credentialsRef", json!({ "name": "git" })),
    )
    .machines(["a", "w"])
    .and(|world| world.cluster(PROD).credentials = Some(SecretView::Absent))
    .when(planned)
    .then(|seen| assert!(seen.row("w").contains("Secret git does not exist")));
    given(
        cluster()
            .control_plane(["a"])
            .workers(["w"])
            .set("gitRepo", Value::Null),
    )
    .machines(["a", "w"])
    .when(planned)
    .then(|seen| assert!(seen.row("w").contains("--default-git-repo")));
}

#[test]
fn ready_names_who_is_updated_and_how_many_are() {
    at_rest()
        .when(|world| {
            world.broken.insert(machine("w").name);
            world.edit(PROD, |spec| {
                spec["gitRepo"] = json!("https://example.com/new.git")
            });
            for _ in 0..4 {
                world.pass(PROD);
            }
        })
        .then(|seen| {
            let words =
                "updating w (0 of 2 machines updated): waiting for NIO to apply its configuration";
            seen.says(Ready, "False", Reason::WaitingForMachines, words);
            let ready = &seen.condition(Ready).message;
            assert!(ready.starts_with(words), "{ready}");
            assert!(!ready.contains("next"), "{ready}");
            let waits = "0/1 worker machines ready (waiting for w)";
            assert!(ready.ends_with(waits), "{ready}");
            assert_eq!(seen.status.updated.as_deref(), Some("0/2"));
        });
}

/// It is read again at once; that it is missing is no reason to switch a safety check off.
#[test]
fn a_kubeconfig_that_is_deleted_in_a_change_is_read_again() {
    at_rest()
        .when(|world| {
            world.edit(PROD, |spec| {
                spec["gitRepo"] = json!("https://example.com/new.git")
            });
            world.cluster(PROD).kubeconfig.secret = SecretView::Absent;
        })
        .then(|seen| {
            assert!(seen.kinds().contains(&"FetchKubeconfig"));
            let reading = "is being read from the control plane";
            seen.says(KubeconfigReady, "False", Reason::Fetching, reading);
            let words = "there is no kubeconfig to check the cluster with";
            for kind in [Ready, RollingOut] {
                let message = &seen.condition(kind).message;
                assert!(message.contains(words), "{message}");
                assert!(!message.contains("nodeChecks"), "{message}");
            }
        });
}

#[test]
fn a_declaration_that_is_left_over_is_told_of_a_ready_cluster() {
    at_rest()
        .when(|world| world.cluster(PROD).view.force_release = force_release_names("x"))
        .then(|seen| {
            let words = "remove the annotation nico.homystack.com/force-release";
            seen.says(Ready, "True", Reason::AsExpected, words);
        })
        .when(|world| world.cluster(PROD).view.accept_quorum_loss = Some("x".to_owned()))
        .then(|seen| {
            let words = "remove the annotation nico.homystack.com/accept-quorum-loss";
            seen.says(Ready, "True", Reason::AsExpected, words);
        });
}

#[test]
fn times_move_only_with_the_status_of_a_condition() {
    let seen = at_rest();
    let (before, start) = (seen.condition(Ready).last_transition_time, seen.world.now);
    seen.when(|world| world.wait(500))
        .then(|seen| assert_eq!(seen.condition(Ready).last_transition_time, before))
        .when(|world| world.delete_configuration("w"))
        .then(|seen| assert!(seen.condition(Ready).last_transition_time > Some(start)));
}

#[test]
fn only_what_people_wait_for_is_significant() {
    let seen = at_rest();
    let old = seen.status.clone();
    let mut new = old.clone();
    new.machines[0].message = "other".to_owned();
    new.conditions[0].message = "other".to_owned();
    assert!(!is_significant(&old, &new));
    new.conditions[0].status = "False".to_owned();
    assert!(is_significant(&old, &new));
    let mut new = old.clone();
    new.kubeconfig_secret = None;
    assert!(is_significant(&old, &new));
}

#[test]
fn a_refused_write_is_told() {
    let seen = at_rest();
    let refusal = Refusal("forbidden".to_owned());
    let told = status(&seen.observed, &seen.plan, Some(&refusal), seen.world.now);
    let found = told
        .conditions
        .iter()
        .find(|it| it.kind == "Reconciling")
        .unwrap();
    assert_eq!(
        (found.status.as_str(), found.reason.as_str()),
        ("True", "ApiRefused")
    );
}

/// A cluster that cannot be looked at keeps what was known of it; of a new generation nothing is known.
#[test]
fn what_keeps_nico_from_looking_is_told() {
    let seen = at_rest();
    let now = seen.world.now;
    let mut cluster = seen.observed.cluster.clone();
    cluster.status = status(&seen.observed, &seen.plan, None, now);
    cluster.status.observed_generation = Some(cluster.generation);
    let ready = |status: &ClusterStatus| status.holds(Ready);
    assert!(ready(&cluster.status));
    let later = now + SignedDuration::from_secs(60);
    let told = unread(&cluster, "forbidden", later);
    let reconciling = told.condition(Reconciling).unwrap();
    assert!(reconciling.is_true() && reconciling.message == "forbidden");
    assert_eq!(reconciling.last_transition_time, Some(later));
    assert!(ready(&told), "of a known generation");
    assert_eq!(told.machines, cluster.status.machines);
    cluster.status = told;
    let again = unread(&cluster, "forbidden", later + SignedDuration::from_secs(60));
    assert_eq!(again, cluster.status, "nothing changed");
    cluster.generation += 1;
    let told = unread(&cluster, "forbidden", later);
    assert!(!ready(&told), "of a new generation");
}
