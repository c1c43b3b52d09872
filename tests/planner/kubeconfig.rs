//! When the kubeconfig is read, pinned, stored and tried.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use nico::api::conditions::{
    Cause,
    ConditionType::{KubeconfigReady, Ready},
    Reason,
};
use nico::api::names::MachineName;
use nico::plan::action::{Action, ConfigurationWrite, KubeconfigWork, Mark};
use nico::plan::observed::{AtHand, KnownHostsView, NotWorking, SecretView, Stored, Works};
use serde_json::json;

use crate::given::{Given, PROD, Seen, cluster, given, not_working, planned, settled};
use crate::rollout::name;
use crate::world::World;

/// Three members, of which these are confirmed.
pub fn confirmed<const N: usize>(names: [&str; N]) -> Given {
    given(cluster().control_plane(["a", "b", "c"]))
        .machines(["a", "b", "c"])
        .and(|world| {
            world.pass(PROD);
            for name in names {
                world.apply_configuration(name);
            }
            let (_, plan) = world.plan(PROD).unwrap();
            for action in plan.actions.iter().filter(|it| {
                matches!(
                    it,
                    Action::Configuration(ConfigurationWrite::Mark(_, _, Mark::Confirmed(_)))
                )
            }) {
                world.apply(PROD, action).unwrap();
            }
        })
}

fn fetched_from(seen: &Seen) -> Vec<&str> {
    let mut actions = seen.plan.actions.iter();
    actions
        .find_map(|action| match action {
            Action::Kubeconfig(KubeconfigWork::Fetch(machines, _)) => {
                Some(machines.iter().map(MachineName::as_str).collect())
            }
            _ => None,
        })
        .unwrap_or_default()
}

fn at_hand(verified: Result<(), NotWorking>) -> impl FnOnce(&mut World) {
    |world| {
        let fetch = &mut world.cluster(PROD).kubeconfig.fetch;
        fetch.at_hand = Some(AtHand {
            verified,
            ends: None,
        });
        fetch.new_host_key = true;
    }
}

#[test]
fn it_is_read_when_one_is_confirmed_and_all_first_configurations_exist_from_the_founder_first() {
    confirmed([])
        .when(planned)
        .then(|seen| assert!(fetched_from(seen).is_empty()));
    confirmed(["c", "a"]).when(planned).then(|seen| {
        assert_eq!(fetched_from(seen), ["a", "c"]);
        seen.says(KubeconfigReady, "False", Reason::Fetching, "");
    });
    confirmed(["b"])
        .and(|world| {
            world.configurations.remove("c");
            world.machine("c").status = None;
        })
        .when(planned)
        .then(|seen| assert!(fetched_from(seen).is_empty()));
}

#[test]
fn one_fetch_at_a_time_and_its_failure_is_told() {
    confirmed(["a"])
        .and(|world| {
            let fetch = &mut world.cluster(PROD).kubeconfig.fetch;
            fetch.running = true;
            fetch.failure = Some(Cause::new(Reason::HostKeyChanged, "the key changed"));
        })
        .when(planned)
        .then(|seen| {
            assert!(fetched_from(seen).is_empty());
            seen.says(
                KubeconfigReady,
                "False",
                Reason::HostKeyChanged,
                "the key changed",
            );
        });
}

#[test]
fn a_host_key_is_pinned_before_what_came_by_it_is_stored() {
    confirmed(["a"])
        .when(at_hand(Ok(())))
        .then(|seen| assert_eq!(seen.kinds(), ["PinHostKey", "StoreKubeconfig"]));
}

/// What a person is told of these machines.
fn changed(machines: &[&str]) -> impl FnOnce(&mut World) {
    let each = machines.iter().map(|machine| {
        let cause = Cause::new(
            Reason::HostKeyChanged,
            format!("the key of {machine} changed"),
        );
        (name(machine), cause)
    });
    let told = each.collect();
    |world| world.cluster(PROD).kubeconfig.fetch.hosts.to_decide = told
}

#[test]
fn host_keys_that_changed_are_told_of_each_machine() {
    confirmed(["a", "b"])
        .and(changed(&["a", "b"]))
        .when(planned)
        .then(|seen| {
            for machine in ["a", "b"] {
                let words = format!("the key of {machine} changed");
                seen.says(KubeconfigReady, "False", Reason::HostKeyChanged, &words);
            }
        });
    // Also where another one has given a kubeconfig that works.
    given(cluster().control_plane(["a", "b", "c"]))
        .machines(["a", "b", "c"])
        .when(settled)
        .when(changed(&["b"]))
        .then(|seen| {
            assert!(seen.world.ready(PROD), "{}", seen.world.story());
            let words = "works; the key of b changed";
            seen.says(KubeconfigReady, "True", Reason::HostKeyChanged, words)
                .says(Ready, "True", Reason::AsExpected, "");
        });
}

#[test]
fn machines_are_met_once_confirmed_also_where_the_kubeconfig_works() {
    let due = |world: &mut World| world.cluster(PROD).kubeconfig.fetch.hosts.meet = true;
    confirmed(["a"])
        .and(due)
        .when(planned)
        .then(|seen| assert!(seen.kinds().contains(&"Meet")));
    given(cluster().control_plane(["a"]))
        .machines(["a"])
        .when(settled)
        .when(due)
        .then(|seen| {
            assert_eq!(seen.kinds(), ["Meet"]);
            let hosts = seen.observed.control_plane_hosts();
            assert_eq!(hosts.confirmed.into_keys().collect::<Vec<_>>(), [name("a")]);
        });
}

/// Before its key is pinned, nothing would be read from a machine.
#[test]
fn the_first_fetch_waits_for_the_first_pins() {
    let pending = |world: &mut World| {
        let hosts = &mut world.cluster(PROD).kubeconfig.fetch.hosts;
        (hosts.meet, hosts.pending) = (true, true);
    };
    let pinned = |world: &mut World| world.cluster(PROD).known_hosts = KnownHostsView::Ours;
    let without_address = |world: &mut World| {
        let a = world.machines.get_mut(&name("a")).unwrap();
        (a.spec.ip_address, a.spec.host, a.spec.hostname) = (None, None, None);
    };
    confirmed(["a"])
        .and(pending)
        .when(planned)
        .then(|seen| assert_eq!(seen.kinds(), ["Meet"]));
    confirmed(["a"])
        .and(pending)
        .and(pinned)
        .when(planned)
        .then(|seen| assert_eq!(seen.kinds(), ["Meet", "FetchKubeconfig"]));
    confirmed([])
        .and(pending)
        .when(planned)
        .then(|seen| assert_eq!(seen.kinds(), [""; 0], "there is no machine to meet"));
    // It says what is wrong with the Machine.
    confirmed(["a"])
        .and(pending)
        .and(without_address)
        .when(planned)
        .then(|seen| assert_eq!(seen.kinds(), ["FetchKubeconfig"]));
}

/// A machine whose configuration is not confirmed, or is being deleted, is not met; its pin stays until it is gone.
#[test]
fn hosts_are_those_of_the_control_plane() {
    confirmed(["a", "b"])
        .and(|world| {
            world
                .configurations
                .get_mut("b")
                .unwrap()
                .metadata
                .deletion_timestamp = Some(Time(world.now))
        })
        .when(planned)
        .then(|seen| {
            let hosts = seen.observed.control_plane_hosts();
            assert_eq!(hosts.confirmed.into_keys().collect::<Vec<_>>(), [name("a")]);
            assert_eq!(hosts.all.unwrap().len(), 3);
        });
}

#[test]
fn known_hosts_of_the_user_are_never_written() {
    confirmed(["a"])
        .when(at_hand(Ok(())))
        .when(|world| world.cluster(PROD).known_hosts = KnownHostsView::Foreign)
        .then(|seen| assert!(!seen.kinds().contains(&"PinHostKey")));
}

#[test]
fn what_the_api_server_refuses_is_never_stored() {
    confirmed(["a"])
        .when(at_hand(Err(not_working(false))))
        .then(|seen| assert!(!seen.kinds().contains(&"StoreKubeconfig")))
        .when(|world| {
            world.plan(PROD);
            world.wait(100_000);
        })
        .then(|seen| {
            assert!(!seen.kinds().contains(&"StoreKubeconfig"));
            seen.says(KubeconfigReady, "False", Reason::Unverified, "refused");
        });
}

#[test]
fn what_lists_no_nodes_is_held_back_for_ten_minutes_and_then_stored() {
    confirmed(["a"])
        .when(at_hand(Err(not_working(true))))
        .then(|seen| {
            assert!(!seen.kinds().contains(&"StoreKubeconfig"));
            seen.says(KubeconfigReady, "False", Reason::Unverified, "refused");
        })
        .when(|world| {
            world.plan(PROD);
            world.wait(599);
        })
        .then(|seen| assert!(!seen.kinds().contains(&"StoreKubeconfig")))
        .when(|world| world.wait(1))
        .then(|seen| assert!(seen.kinds().contains(&"StoreKubeconfig")));
}

#[test]
fn a_foreign_secret_is_never_overwritten() {
    for view in [SecretView::Foreign, SecretView::Terminating] {
        confirmed(["a"])
            .when(at_hand(Ok(())))
            .when(|world| world.cluster(PROD).kubeconfig.secret = view)
            .then(|seen| {
                assert!(!seen.kinds().contains(&"StoreKubeconfig"));
                assert!(fetched_from(seen).is_empty());
                seen.says(
                    KubeconfigReady,
                    "False",
                    Reason::SecretConflict,
                    "prod-kubeconfig",
                );
            });
    }
}

#[test]
fn it_does_not_wait_for_workers() {
    given(cluster().control_plane(["a"]).workers(["w"]))
        .machines(["a", "w"])
        .and(|world| {
            world.pass(PROD);
            world.apply_configuration("a");
            world.pass(PROD);
        })
        .when(planned)
        .then(|seen| assert_eq!(fetched_from(seen), ["a"]));
}

#[test]
fn a_stored_one_is_tried_when_it_is_time_and_not_called_ready_before() {
    confirmed(["a", "b", "c"])
        .when(|world| {
            let kubeconfig = &mut world.cluster(PROD).kubeconfig;
            kubeconfig.secret = SecretView::Ours;
            (kubeconfig.works, kubeconfig.try_again) = (Works::Unknown, true);
        })
        .then(|seen| {
            assert!(seen.kinds().contains(&"VerifyKubeconfig"));
            seen.says(KubeconfigReady, "Unknown", Reason::Unknown, "tried");
            assert_eq!(seen.condition(Ready).status, "False");
        });
}

#[test]
fn a_kubeconfig_secret_that_was_deleted_is_read_again() {
    confirmed(["a", "b", "c"])
        .when(|world| {
            world.settle();
            world.cluster(PROD).kubeconfig.secret = SecretView::Absent;
        })
        .then(|seen| assert_eq!(fetched_from(seen), ["a", "b", "c"]))
        .when(|world| {
            world.settle();
        })
        .then(|seen| assert!(seen.world.ready(PROD)));
}

/// Behind an endpoint the members are asked at the port that their own kubeconfig named; the stored one leads to the endpoint.
#[test]
fn members_behind_an_endpoint_are_asked_at_their_own_port() {
    let asked_at = |endpoint: bool, port: Option<u16>| {
        let mut cluster = cluster().control_plane(["a"]);
        if endpoint {
            cluster = cluster.set("controlPlaneEndpoint", json!({"host": "vip", "port": 443}));
        }
        let mut given = given(cluster).machines(["a"]);
        given.0.settle();
        let stored = given.0.made(PROD);
        given.0.cluster(PROD).kubeconfig.stored = Some(Stored { port, ..stored });
        let observed = given.0.observe(PROD).unwrap();
        let stored = observed.kubeconfig.stored.clone().unwrap();
        stored.member_port(observed.spec.as_ref().unwrap())
    };
    assert_eq!(asked_at(true, Some(7443)), Some(7443));
    assert_eq!(asked_at(true, None), Some(6443));
    // The stored one leads to a member.
    assert_eq!(asked_at(false, Some(7443)), None);
}
