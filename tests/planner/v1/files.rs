//! What NICO writes beside NIO v1 about disks, files and names, and after a change from classic.

use nico::api::conditions::{
    ConditionType::{MachinesAvailable, Ready, Reconciling, RollingOut},
    Reason,
};
use nico::api::names::{CLASSIC_FINALIZER, V1_FINALIZER};
use nico::plan::observed::force_release_names;
use serde_json::{Map, json};

use super::{claimed, passes_until, ready, settles, v1};
use crate::given::{PROD, cluster, given, planned, settled};
use crate::rollout::{new_repository, rolled};
use crate::world::World;

#[test]
fn disks_are_wiped_once_and_never_after_a_confirmation() {
    let asked = Map::from_iter([("fullInstall".to_owned(), json!(true))]);
    let installs = |world: &World| world.configurations["a"].spec.get("fullInstall").cloned();
    claimed(asked)
        .when(planned)
        .then(|seen| assert_eq!(installs(&seen.world), Some(json!(true))))
        .when(settled)
        .then(|seen| {
            assert!(seen.world.ready(PROD), "{}", seen.world.story());
            assert_eq!(installs(&seen.world), Some(json!(false)));
        })
        .when(new_repository)
        .when(settled)
        .then(|seen| {
            assert!(seen.world.ready(PROD), "{}", seen.world.story());
            assert_eq!(installs(&seen.world), Some(json!(false)));
        });
    ready()
        .when(|world| world.edit(PROD, |spec| spec["fullInstall"] = true.into()))
        .when(settled)
        .then(|seen| assert_eq!(rolled(&seen.world), [""; 0]));
}

#[test]
fn a_wipe_that_is_no_longer_asked_for_is_taken_back_before_it_is_confirmed() {
    let asked = Map::from_iter([("fullInstall".to_owned(), json!(true))]);
    claimed(asked)
        .when(|world| world.edit(PROD, |spec| spec["fullInstall"] = false.into()))
        .then(|seen| assert_eq!(settles(seen), [("a", json!({"fullInstall": false}))]));
}

#[test]
fn files_lie_beside_the_flake_and_name_the_keys_of_their_secrets() {
    let cluster = cluster()
        .control_plane(["a"])
        .set("configurationSubdir", json!("clusters/prod"));
    given(cluster)
        .machines(["a"])
        .and(v1)
        .and(|world| {
            world.pass(PROD);
        })
        .when(planned)
        .then(|seen| {
            let body = seen.claims()[0].body.render();
            let files = body["spec"]["additionalFiles"].as_array().unwrap();
            for file in files {
                assert_ne!(file["valueType"], "NixosFacter");
                let path = file["path"].as_str().unwrap();
                assert!(path.starts_with("clusters/prod/"), "{path}");
                let secret = &file["secretRef"];
                assert!(secret.is_null() || secret["key"].is_string(), "{file}");
            }
            assert_eq!(files[1]["secretRef"]["key"], "token");
        });
}

#[test]
fn a_name_from_which_v1_can_make_no_names_is_refused() {
    let name = |length: usize| "m".repeat(length);
    for (length, taken) in [(36, 1), (37, 0)] {
        let name = name(length);
        let seen = given(cluster().control_plane([&name]))
            .machines([&name])
            .and(v1)
            .and(|world| {
                world.pass(PROD);
            })
            .when(planned);
        assert_eq!(seen.claims().len(), taken, "{length}");
        if taken == 0 {
            seen.says(
                MachinesAvailable,
                "False",
                Reason::MachineNameTooLong,
                "36 characters",
            );
        }
    }
}

#[test]
fn after_a_change_from_classic_every_machine_is_written_once_in_order() {
    let mut given = crate::rollout::ready();
    v1(&mut given.0);
    given
        .when(settled)
        .then(|seen| {
            assert!(seen.world.ready(PROD), "{}", seen.world.story());
            assert_eq!(rolled(&seen.world), ["v", "w", "a", "b", "c"]);
        })
        .when(|world| world.edit(PROD, |spec| spec["dataPlane"]["machines"] = json!(["v"])))
        .when(|world| {
            finalizers(world, "w", &[V1_FINALIZER, CLASSIC_FINALIZER]);
            let leaves = |world: &World| {
                let w = &world.configurations["w"].metadata;
                w.deletion_timestamp.is_some()
            };
            passes_until(world, leaves);
        })
        .then(|seen| {
            let told = seen.condition(RollingOut);
            assert_ne!(told.reason, "OldFinalizer", "v1 is at work: {told:?}");
        })
        .when(|world| finalizers(world, "w", &[CLASSIC_FINALIZER]))
        .then(|seen| {
            let told = seen.condition(RollingOut);
            assert_eq!(told.reason, "OldFinalizer", "{told:?}");
            assert!(told.message.contains("force-release: w"), "{told:?}");
        });
}

pub fn finalizers(world: &mut World, machine: &str, finalizers: &[&str]) {
    let finalizers = finalizers.iter().map(|it| (*it).to_owned());
    let meta = &mut world.configuration(machine).metadata;
    meta.finalizers = Some(finalizers.collect());
}

#[test]
fn a_deletion_says_which_finalizers_nobody_removes() {
    let seen = ready()
        .when(|world| {
            world.delete_cluster(PROD);
            world.pass(PROD);
            finalizers(world, "a", &[CLASSIC_FINALIZER]);
        })
        .then(|seen| {
            let words = "a (only the finalizer of another generation";
            seen.says(Reconciling, "True", Reason::Deleting, words);
            seen.says(Ready, "False", Reason::OldFinalizer, words);
        });
    let mut world = seen.world;
    world.cluster(PROD).view.force_release = force_release_names("a");
    world.settle();
    assert!(world.clusters.is_empty() && world.configurations.is_empty());
}
