//! What confirms an attempt, and what is remembered of it.

use nico::api::names::CONFIRMED_ANNOTATION;
use nico::api::nio::Generation;
use nico::plan::action::{Action, ConfigurationWrite, Mark};
use serde_json::json;

use crate::given::{PROD, cluster, given, member, planned};
use crate::outdated::changed;
use crate::world::{World, edit};

/// A configuration that NIO proved and NICO has not marked yet, of which one thing is changed.
fn marks(change: impl FnOnce(&mut World)) -> bool {
    let seen = given(cluster().control_plane(["a"]))
        .machines(["a"])
        .and(|world| {
            world.pass(PROD);
            world.apply_configuration("a");
            change(world);
        })
        .when(planned);
    seen.plan.actions.iter().any(|action| {
        matches!(
            action,
            Action::Configuration(ConfigurationWrite::Mark(_, _, Mark::Confirmed(_)))
        )
    })
}

#[test]
fn each_part_of_classics_proof_is_needed() {
    use nico::api::nio::NixosConfigurationStatus as Status;
    fn status(world: &mut World) -> &mut Status {
        world.configuration("a").status.as_mut().unwrap()
    }
    assert!(marks(|_| {}));
    assert!(!marks(|world| world.configuration("a").status = None));
    assert!(!marks(|world| status(world).conditions.clear()));
    assert!(!marks(
        |world| status(world).conditions[0].status = "False".to_owned()
    ));
    assert!(!marks(
        |world| status(world).conditions[0].reason = "Removed".to_owned()
    ));
    assert!(!marks(
        |world| status(world).target_machine = Some("b".to_owned())
    ));
    assert!(!marks(|world| status(world).target_machine = None));
    assert!(!marks(|world| status(world).applied_commit = None));
    assert!(!marks(
        |world| status(world).applied_commit = Some(String::new())
    ));
    assert!(!marks(|world| status(world).additional_files_hash = None));
    assert!(!marks(
        |world| status(world).additional_files_hash = Some("0".repeat(64))
    ));
    assert!(!marks(|world| world.delete_configuration("a")));
    assert!(!marks(|world| {
        world
            .machine("a")
            .status
            .as_mut()
            .unwrap()
            .applied_configuration = Some("b".to_owned());
    }));
    assert!(!marks(|world| world.machine("a").status = None));
    assert!(!marks(|world| world.machines.clear()));
    assert!(!marks(|world| world.nio = Some(Generation::V1)));
    // The list is not the one that NIO hashed.
    assert!(!marks(|world| {
        world.edit_configuration("a", |held| {
            edit(&mut held.spec, |it| {
                it["additionalFiles"][0]["inline"] = json!("{ }")
            })
        });
    }));
}

#[test]
fn confirmed_is_kept_when_the_proof_fades_and_ends_with_another_marker() {
    changed(|world| world.configuration("w").status = None)
        .then(|seen| assert!(member(&seen.observed.configurations["w"]).is_confirmed()));
    changed(|world| {
        world.edit_configuration("w", |held| {
            let marker = member(held).marker().unwrap();
            let path = format!(".nico/{}-7", marker.revision());
            edit(&mut held.spec, |it| {
                let files = it["additionalFiles"].as_array_mut().unwrap();
                files.last_mut().unwrap()["path"] = json!(path);
            });
        });
    })
    .then(|seen| {
        let held = &seen.observed.configurations["w"];
        assert!(!member(held).is_confirmed() && member(held).was_confirmed());
        assert!(seen.plan.actions.is_empty(), "another hash proves nothing");
    });
}

#[test]
fn an_annotation_of_any_value_says_once_confirmed() {
    changed(|world| {
        world.edit_configuration("w", |held| {
            let annotations = held.metadata.annotations.as_mut().unwrap();
            annotations.insert(CONFIRMED_ANNOTATION.to_owned(), "withdrawn".to_owned());
            held.status = None;
        });
    })
    .then(|seen| {
        let held = &seen.observed.configurations["w"];
        assert!(!member(held).is_confirmed() && member(held).was_confirmed());
    });
}
