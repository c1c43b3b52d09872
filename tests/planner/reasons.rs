//! What only a person can end stalls, for each reason that says so, and what may pass by itself does not.

use std::sync::Arc;

use nico::api::conditions::ConditionType::{Ready, Stalled};
use nico::api::conditions::{Attention, Cause, Reason};
use nico::api::ledger::{Entry, EntryState};
use nico::api::names::CLASSIC_FINALIZER;
use nico::api::nio::Generation;
use nico::api::status::Role;
use nico::plan::observed::{SecretView, SshKeyView, Works};
use serde_json::{Value, json};

use crate::given::{
    ClusterBuilder, Given, PROD, cluster, given, kubeconfig_works, machine, not_working, stranger,
};
use crate::kubeconfig::confirmed;
use crate::rollout::{name, passes, ready};
use crate::status::at_rest;
use crate::world::{World, rotated_key};
use crate::{v1, v1_reported};

/// Default of `rollout.progressDeadlineSeconds`, and more than any other patience.
const DEADLINE: i64 = 4200;

/// A control plane of machine `a`, with this field of its spec.
fn with(field: &str, value: Value) -> ClusterBuilder {
    cluster().control_plane(["a"]).set(field, value)
}

fn rests(change: impl FnOnce(&mut World)) -> Given {
    Given(at_rest().world).and(change)
}

/// All are confirmed, and each kubeconfig that is read fails for this reason.
fn unread(reason: Reason) -> Given {
    confirmed(["a", "b", "c"]).and(|world| {
        let fetch = &mut world.cluster(PROD).kubeconfig.fetch;
        fetch.running = true;
        fetch.failure = Some(Cause::new(reason, "it fails"));
    })
}

/// A cluster in which nothing goes on for this reason alone, and for how many seconds it has to be so.
fn stuck(reason: Reason) -> (Given, i64) {
    let plain = || cluster().control_plane(["a"]);
    let made = match reason {
        Reason::InvalidSpec => given(cluster()),
        Reason::GitRepoMissing => given(with("gitRepo", Value::Null)).machines(["a"]),
        Reason::PinNotSupported => given(with("refPolicy", json!("Pin"))).machines(["a"]),
        Reason::FullInstallUnsafe => given(with("fullInstall", json!(true))).machines(["a"]),
        Reason::NIOMissing => given(plain()).machines(["a"]).and(|it| it.nio = None),
        Reason::BlockedByJob => return (v1::ready().and(v1_reported::hangs), DEADLINE),
        Reason::OldFinalizer => v1::ready().and(|world| {
            world.edit(PROD, |spec| spec["dataPlane"]["machines"] = json!(["v"]));
            v1::passes_until(world, |world| {
                let w = &world.configurations["w"].metadata;
                w.deletion_timestamp.is_some()
            });
            v1::files::finalizers(world, "w", &[CLASSIC_FINALIZER]);
        }),
        Reason::MachineNameTooLong => {
            let long = "m".repeat(37);
            given(cluster().control_plane([&long]))
                .machines([&long])
                .and(|world| world.nio = Some(Generation::V1))
        }
        Reason::JoinTokenLost => rests(|it| it.cluster(PROD).worker_token = SecretView::Absent),
        Reason::SecretConflict => given(plain())
            .machines(["a"])
            .and(|it| it.cluster(PROD).join_token = SecretView::Foreign),
        Reason::SecretMissing => given(with("credentialsRef", json!({ "name": "git" })))
            .machines(["a"])
            .and(|it| it.cluster(PROD).credentials = Some(SecretView::Absent)),
        Reason::SSHKeyMissing => given(plain()).with(machine("a").without_key()),
        Reason::SSHKeyUnusable => given(plain()).machines(["a"]).and(|world| {
            let cause = Cause::new(reason, "it is a public key");
            world
                .ssh_keys
                .insert(name("a"), SshKeyView::Unusable(cause));
        }),
        // The state of an entry that a later version wrote.
        Reason::LedgerUnreadable => rests(|world| {
            let (_, ledger) = world.cluster(PROD).ledger.as_mut().unwrap();
            ledger.slot.entries = vec![Entry {
                machine: name("w"),
                role: Role::Worker,
                state: EntryState::Unknown("moving".to_owned()),
            }];
        }),
        Reason::MachineInUse => rests(|it| it.post(&stranger("legacy", "w")).unwrap()),
        Reason::MachineMissing => rests(|it| {
            it.machines.remove(&name("w"));
        }),
        Reason::MachineNameUnusable => given(cluster().select_control_plane(1)).and(|world| {
            let machine = Arc::new(machine("x").cp().object);
            world.misnamed.insert("cp-01.lab".to_owned(), machine);
        }),
        Reason::MachineAddressMalformed => rests(|world| {
            let w = world.machine("w");
            w.spec = serde_json::from_value(json!({ "ipAddress": "a b" })).unwrap();
            w.status = None;
        }),
        Reason::TooFewMachines => given(cluster().select_control_plane(1)).machines(["a"]),
        Reason::KubeconfigUnsafe | Reason::HostKeyChanged | Reason::HostKeyUnknown => {
            unread(reason)
        }
        Reason::ProgressDeadlineExceeded => {
            let broken = given(plain()).machines(["a"]).and(|world| {
                world.broken.insert(name("a"));
                world.pass(PROD);
                world.pass(PROD);
            });
            return (broken, DEADLINE);
        }
        Reason::WouldLoseQuorum => {
            let mut two = given(cluster().control_plane(["a", "b"])).machines(["a", "b"]);
            two.0.settle();
            two.and(|world| {
                world.edit(PROD, |spec| {
                    spec["controlPlane"]["machines"] = json!(["a"]);
                });
            })
        }
        Reason::VersionSkew => ready().and(|world| {
            world.nodes.get_mut("v").unwrap().kubelet_minor = Some(38);
            world
                .ssh_keys
                .insert(name("a"), rotated_key(&name("a"), "SHA256:new"));
        }),
        Reason::NeverReachable => return (unread(Reason::KubeconfigUnreadable), 600),
        Reason::ControlPlaneLost => ready().and(|world| {
            for machine in ["a", "b", "c"] {
                world.delete_configuration(machine);
            }
            world.work_deletions();
        }),
        other => panic!("{other} calls for a person: say here how it comes about"),
    };
    (made, 60)
}

#[test]
fn what_only_a_person_can_end_stalls() {
    let all = Reason::ALL.iter().copied();
    for reason in all.filter(|it| it.attention() == Attention::Yes) {
        let (given, seconds) = stuck(reason);
        given
            .when(|world| {
                passes(world, 8);
                world.wait(seconds);
            })
            .then(|seen| {
                seen.says(Stalled, "True", reason, "");
            });
    }
}

/// A machine that NICO cannot reach, and a kubeconfig that fails, may come right without a person.
#[test]
fn what_may_pass_does_not_stall() {
    let unreachable = rests(|it| it.machine("w").status = None);
    let broken = rests(|it| {
        kubeconfig_works(it, Works::No(not_working(true)));
    });
    for given in [unreachable, broken] {
        given
            .when(|world| {
                passes(world, 8);
                world.wait(DEADLINE);
            })
            .then(|seen| {
                seen.says(Stalled, "False", Reason::AsExpected, "");
                assert!(!seen.status.holds(Ready));
            });
    }
}
