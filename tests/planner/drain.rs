//! What a drain waits for, and what it says of that.

use nico::api::conditions::{ConditionType::RollingOut, Reason};
use nico::api::workload::{Stuck, StuckPod};
use serde_json::json;

use crate::given::{Given, PROD};
use crate::rollout::{passes, ready, rolled};
use crate::world::World;

/// So many pods of w stay, and the drain begins.
fn draining() -> Given {
    let mut given = ready();
    given.0.pods.insert("w".to_owned(), 2);
    given.0.held_back.insert("w".to_owned(), 2);
    given.0.edit(PROD, |spec| {
        spec["dataPlane"] = json!({ "machines": ["v"] })
    });
    passes(&mut given.0, 3);
    assert_eq!(rolled(&given.0), ["w drains"]);
    given
}

#[test]
fn pods_that_do_not_go_are_told_with_what_holds_them() {
    let texts = |texts: &[&str]| texts.iter().map(|it| (*it).to_owned()).collect();
    let ends = |finalizers: &[&str]| Stuck::Terminates {
        since: "1970-01-01T00:00:00Z".parse().unwrap(),
        finalizers: texts(finalizers),
    };
    let webhook = "admission webhook \"guard.example.com\" denied the request";
    #[rustfmt::skip]
    let table = [
        (Stuck::Budgets(texts(&["web"])), "cannot be evicted: PodDisruptionBudget web allows no disruption now"),
        (Stuck::Budgets(texts(&["web", "all"])), "cannot be evicted: PodDisruptionBudgets web, all select it"),
        (Stuck::Refused(webhook.to_owned()), "cannot be evicted: admission webhook \"guard.example.com\" denied"),
        (ends(&[]), "was to be gone at 1970-01-01T00:00:00Z, and the kubelet of its Node has not ended it"),
        (ends(&["example.com/a"]), "was to be gone at 1970-01-01T00:00:00Z, and finalizer example.com/a holds it"),
        (ends(&["example.com/a", "b"]), "was to be gone at 1970-01-01T00:00:00Z, and finalizers example.com/a, b hold it"),
    ];
    for (why, words) in table {
        draining().when(|world| hold_pod(world, why)).then(|seen| {
            let pod = format!("Pod shop/web-0 {words}");
            for words in [&pod, "its pods are gone (2 left)"] {
                seen.says(RollingOut, "True", Reason::Draining, words);
            }
        });
    }
}

fn hold_pod(world: &mut World, why: Stuck) {
    let (namespace, name) = ("shop".to_owned(), "web-0".to_owned());
    world.nodes.get_mut("w").unwrap().stuck = vec![StuckPod {
        namespace,
        name,
        why,
    }];
}

/// Its kubelet may still end it.
#[test]
fn a_pod_that_has_just_begun_to_terminate_is_not_told() {
    draining()
        .when(|world| {
            let (since, finalizers) = (world.now, vec!["example.com/a".to_owned()]);
            hold_pod(world, Stuck::Terminates { since, finalizers });
        })
        .then(|seen| {
            let said = &seen.condition(RollingOut).message;
            assert!(!said.contains("web-0"), "{said}");
        })
        .when(|world| world.wait(61))
        .then(|seen| {
            let words = "Pod shop/web-0 was to be gone at ";
            seen.says(RollingOut, "True", Reason::Draining, words);
        });
}

#[test]
fn volumes_are_waited_for_within_the_time_of_the_drain() {
    draining()
        .when(|world| {
            world.held_back.clear();
            let volumes = ["pvc-1", "pvc-2", "pvc-3", "pvc-4"].map(str::to_owned);
            world.nodes.get_mut("w").unwrap().volumes = volumes.into();
            passes(world, 3);
        })
        .then(|seen| {
            assert_eq!(rolled(&seen.world), ["w drains"]);
            let words = "once its volumes are detached (pvc-1, pvc-2, pvc-3 and 1 more), at ";
            seen.says(RollingOut, "True", Reason::Draining, words);
        })
        .when(|world| {
            // Without an end of its own: the time of the drain ends it.
            world.wait(300);
            passes(world, 3);
        })
        .then(|seen| assert_eq!(rolled(&seen.world)[1], "w leaves"));
    draining()
        .when(|world| {
            world.held_back.clear();
            passes(world, 3);
        })
        .then(|seen| assert_eq!(rolled(&seen.world)[1], "w leaves"));
}
