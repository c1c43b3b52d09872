//! When a stored kubeconfig is read again, and when it is replaced.

use jiff::Timestamp;
use nico::api::conditions::{
    Cause,
    ConditionType::{KubeconfigReady, Ready},
    Reason,
};
use nico::api::names::MachineName;
use nico::plan::action::{Action, KubeconfigWork};
use nico::plan::observed::{AtHand, KubeconfigView, SecretView, Stored, Works};
use nico::plan::writes::Precondition;
use serde_json::json;

use crate::given::{Given, PROD, Seen, cluster, given, not_working, planned};
use crate::world::World;

const DAY: i64 = 24 * 3600;

/// A Ready cluster of three; its kubeconfig leads to `b`, with a client certificate of so many days.
fn stored(days: i64) -> Given {
    stored_for(days * DAY)
}

/// The same, of so many seconds.
fn stored_for(seconds: i64) -> Given {
    given(cluster().control_plane(["a", "b", "c"]))
        .machines(["a", "b", "c"])
        .and(|world| {
            world.settle();
            assert!(world.ready(PROD), "{}", world.story());
            let now = world.now;
            let ends = now.as_second() + seconds;
            let kubeconfig = kubeconfig(world);
            kubeconfig.stored = Some(Stored {
                version: Precondition {
                    uid: "kubeconfig".to_owned(),
                    resource_version: "7".to_owned(),
                },
                host: Some("ip-of-b".to_owned()),
                endpoint: String::new(),
                port: None,
                client_certificate: Some((now, Timestamp::from_second(ends).unwrap())),
                stored: Some(now),
            });
        })
}

fn kubeconfig(world: &mut World) -> &mut KubeconfigView {
    &mut world.cluster(PROD).kubeconfig
}

/// The stored one did not work so many times in a row.
fn fails(times: u32) -> impl FnOnce(&mut World) {
    move |world| {
        let kubeconfig = kubeconfig(world);
        kubeconfig.works = Works::No(not_working(true));
        kubeconfig.failures = times;
    }
}

fn fetched_from(seen: &Seen) -> Vec<&str> {
    let mut actions = seen.plan.actions.iter();
    let found = actions.find_map(|action| match action {
        Action::Kubeconfig(KubeconfigWork::Fetch(machines, _)) => Some(machines),
        _ => None,
    });
    let machines = found.into_iter().flatten();
    machines.map(MachineName::as_str).collect()
}

fn carried_out(world: &mut World) {
    world.pass(PROD);
}

fn another_at_hand(works: bool) -> impl FnOnce(&mut World) {
    move |world| {
        let fetch = &mut kubeconfig(world).fetch;
        fetch.running = false;
        let verified = if works {
            Ok(())
        } else {
            Err(not_working(true))
        };
        fetch.at_hand = Some(AtHand {
            verified,
            ends: None,
        });
    }
}

fn fetch_ended(world: &mut World) {
    kubeconfig(world).fetch.running = false;
}

#[test]
fn three_failures_in_a_row_have_it_read_anew_and_each_minute_again() {
    stored(365)
        .when(fails(2))
        .then(|seen| assert_eq!(seen.kinds(), Vec::<&str>::new()))
        .when(fails(3))
        .then(|seen| assert_eq!(fetched_from(seen), ["a", "b", "c"]))
        .when(carried_out)
        .then(|seen| assert_eq!(fetched_from(seen), Vec::<&str>::new()))
        .when(fetch_ended)
        .when(|world| world.wait(59))
        .then(|seen| assert_eq!(fetched_from(seen), Vec::<&str>::new()))
        .when(|world| world.wait(1))
        .then(|seen| assert_eq!(fetched_from(seen).len(), 3));
}

#[test]
fn it_is_replaced_by_one_that_works_alone() {
    stored(365)
        .when(fails(3))
        .when(another_at_hand(false))
        .when(|world| world.wait(100_000))
        .then(|seen| assert!(!seen.kinds().contains(&"StoreKubeconfig")))
        .when(another_at_hand(true))
        .then(|seen| {
            let version = seen.plan.actions.iter().find_map(|action| match action {
                Action::Kubeconfig(KubeconfigWork::Store(version)) => version.clone(),
                _ => None,
            });
            assert_eq!(version.unwrap().resource_version, "7");
        });
}

/// What was read while the stored one did not work is of no use once it does.
#[test]
fn one_that_works_again_is_kept() {
    stored(365)
        .when(another_at_hand(true))
        .then(|seen| assert_eq!(seen.kinds(), ["DropFetched"]));
}

#[test]
fn one_that_is_half_way_through_its_life_is_read_anew_daily_where_it_came_from() {
    stored(100)
        .when(|world| world.wait(50 * DAY - 1))
        .then(|seen| {
            assert_eq!(seen.kinds(), Vec::<&str>::new());
            assert_eq!(seen.plan.look_again.unwrap().as_secs(), 1);
        })
        .when(|world| world.wait(1))
        .then(|seen| assert_eq!(fetched_from(seen), ["b", "a", "c"]))
        .when(carried_out)
        .when(fetch_ended)
        .when(|world| world.wait(DAY - 1))
        .then(|seen| assert_eq!(fetched_from(seen), Vec::<&str>::new()))
        .when(|world| world.wait(1))
        .then(|seen| assert_eq!(fetched_from(seen), ["b", "a", "c"]));
}

/// kubeadm dates a client certificate back to the birth of its authority: what remained when it was stored counts.
#[test]
fn one_that_is_dated_back_is_not_read_again_every_day() {
    let given = stored(100).when(|world| {
        let born = world.now - std::time::Duration::from_secs(900 * DAY.unsigned_abs());
        let stored = kubeconfig(world).stored.as_mut().unwrap();
        stored.client_certificate.as_mut().unwrap().0 = born;
    });
    given
        .when(|world| world.wait(50 * DAY - 1))
        .then(|seen| assert_eq!(fetched_from(seen), Vec::<&str>::new()))
        .when(|world| world.wait(1))
        .then(|seen| assert!(!fetched_from(seen).is_empty()))
        // An older version did not note when it stored it.
        .when(|world| kubeconfig(world).stored.as_mut().unwrap().stored = None)
        .when(|world| world.wait(1))
        .then(|seen| assert!(!fetched_from(seen).is_empty()));
}

/// A day would be too late for one that lives shorter than ten.
#[test]
fn a_short_life_has_it_read_anew_often_enough() {
    stored(1)
        .when(|world| world.wait(DAY / 2))
        .when(carried_out)
        .when(fetch_ended)
        .when(|world| world.wait(DAY / 10 - 1))
        .then(|seen| assert_eq!(fetched_from(seen), Vec::<&str>::new()))
        .when(|world| world.wait(1))
        .then(|seen| assert_eq!(fetched_from(seen).len(), 3));
}

/// A machine whose certificates live for seconds would have the Secret rewritten again and again.
#[test]
fn a_life_of_seconds_is_not_renewed_ahead_of_its_end() {
    for seconds in [2, 20, 59] {
        stored_for(seconds)
            .when(|world| world.wait(seconds / 2))
            .then(|seen| assert_eq!(fetched_from(seen), Vec::<&str>::new()))
            .when(|world| world.wait(100))
            .then(|seen| assert_eq!(fetched_from(seen), Vec::<&str>::new()));
    }
    stored_for(60)
        .when(|world| world.wait(30))
        .then(|seen| assert_eq!(fetched_from(seen).len(), 3))
        .when(carried_out)
        .when(fetch_ended)
        .when(|world| world.wait(29))
        .then(|seen| assert_eq!(fetched_from(seen), Vec::<&str>::new()))
        .when(|world| world.wait(1))
        .then(|seen| assert_eq!(fetched_from(seen).len(), 3));
}

/// Each server of k3s has a certificate of its own: one that ends no later is no better.
#[test]
fn one_that_ends_no_later_does_not_replace_it() {
    let with_an_end_in = |days: i64| {
        move |world: &mut World| {
            let ends = world.now.as_second() + days * DAY;
            another_at_hand(true)(world);
            let at_hand = kubeconfig(world).fetch.at_hand.as_mut().unwrap();
            at_hand.ends = Some(Timestamp::from_second(ends).unwrap());
        }
    };
    stored(100)
        .when(|world| world.wait(60 * DAY))
        .when(with_an_end_in(40))
        .then(|seen| assert!(!seen.kinds().contains(&"StoreKubeconfig")))
        .when(with_an_end_in(41))
        .then(|seen| assert!(seen.kinds().contains(&"StoreKubeconfig")));
}

/// It works still: that it cannot be renewed is told, and no reason to call anything broken.
#[test]
fn a_renewal_that_fails_is_told_while_the_old_one_works() {
    stored(100)
        .when(|world| {
            world.wait(60 * DAY);
            let fetch = &mut kubeconfig(world).fetch;
            fetch.failure = Some(Cause::new(Reason::HostKeyChanged, "the key changed"));
        })
        .then(|seen| {
            let words = "it cannot be read again: the key changed";
            seen.says(KubeconfigReady, "True", Reason::HostKeyChanged, words);
            assert_eq!(seen.condition(Ready).status, "True");
        });
}

#[test]
fn what_hinders_the_renewal_of_a_broken_one_is_its_reason() {
    stored(100)
        .when(fails(3))
        .when(|world| {
            world.plan(PROD);
            world.wait(60);
            let fetch = &mut kubeconfig(world).fetch;
            fetch.failure = Some(Cause::new(Reason::HostKeyChanged, "the key changed"));
        })
        .then(|seen| {
            let words = "the key changed";
            seen.says(KubeconfigReady, "False", Reason::HostKeyChanged, words);
        });
}

#[test]
fn an_edited_one_is_read_anew() {
    for secret in [SecretView::Ours, SecretView::Unusable] {
        stored(365)
            .when(|world| {
                let kubeconfig = kubeconfig(world);
                kubeconfig.secret = secret;
                kubeconfig.stored.as_mut().unwrap().host = None;
            })
            .then(|seen| assert_eq!(fetched_from(seen).len(), 3))
            .when(another_at_hand(true))
            .then(|seen| assert!(seen.kinds().contains(&"StoreKubeconfig")));
    }
}

#[test]
fn another_endpoint_has_it_read_anew_and_kept_until_that_works() {
    stored(365)
        .when(|world| {
            world.edit(PROD, |spec| {
                spec["controlPlaneEndpoint"] = json!({"host": "vip.example.com"});
            });
            world.pass(PROD);
        })
        .then(|seen| assert_eq!(fetched_from(seen).len(), 0, "it was started"))
        .when(another_at_hand(false))
        .then(|seen| assert!(!seen.kinds().contains(&"StoreKubeconfig")))
        .when(another_at_hand(true))
        .then(|seen| assert!(seen.kinds().contains(&"StoreKubeconfig")));
}

#[test]
fn nothing_is_read_anew_while_paused() {
    stored(365)
        .when(|world| world.edit(PROD, |spec| spec["paused"] = true.into()))
        .when(fails(9))
        .then(|seen| assert_eq!(fetched_from(seen), Vec::<&str>::new()))
        .when(planned)
        .then(|seen| assert_eq!(seen.kinds(), Vec::<&str>::new()));
}
