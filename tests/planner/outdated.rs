//! What makes a machine outdated, and what is no difference.

use nico::api::names::MachineName;
use nico::api::nio::NixosConfiguration;
use nico::api::parsed::Parsed;
use nico::plan::observed::SshKeyView;
use serde_json::{Map, Value, json};

use crate::given::{PROD, Seen, cluster, given, settled};
use crate::world::{World, edit};

/// A cluster at rest, of which one thing is changed.
pub fn changed(change: impl FnOnce(&mut World)) -> Seen {
    given(cluster().control_plane(["a"]).workers(["w"]))
        .machines(["a", "w"])
        .when(settled)
        .when(change)
}

#[test]
fn the_default_that_the_api_server_filled_in_is_no_difference() {
    changed(|_| {}).then(|seen| {
        assert_eq!(
            seen.observed.configurations["a"].spec.text("ref"),
            Some("main")
        );
        assert!(seen.plan.outdated.is_empty() && seen.world.ready(PROD));
    });
}

#[test]
fn a_change_of_the_spec_makes_outdated_and_names_the_field() {
    for (field, value, named) in [
        ("gitRepo", json!("https://example.com/b.git"), "gitRepo"),
        ("ref", json!("v2"), "ref"),
        ("configurationSubdir", json!("sub"), "configurationSubdir"),
        ("credentialsRef", json!({ "name": "git" }), "credentialsRef"),
        (
            "controlPlaneEndpoint",
            json!({ "host": "vip" }),
            "controlPlaneEndpoint",
        ),
        ("injectSSHKey", json!(false), "additionalFiles"),
    ] {
        let seen = changed(|world| world.edit(PROD, |spec| spec[field] = value));
        assert_eq!(seen.differences("a"), [named]);
        assert_eq!(seen.differences("w"), [named]);
    }
}

#[test]
fn a_rotated_ssh_key_makes_its_machine_outdated_and_an_unreadable_one_does_not() {
    let key = |view: SshKeyView| {
        changed(|world| {
            world
                .ssh_keys
                .insert(MachineName::parse("a").unwrap(), view);
        })
    };
    let rotated = SshKeyView::Usable {
        secret: "ssh-a".to_owned(),
        fingerprint: "SHA256:new".to_owned(),
    };
    assert_eq!(key(rotated).differences("a"), ["SSH key"]);
    let unreadable = crate::world::unusable_key(&MachineName::parse("a").unwrap());
    assert!(key(unreadable).plan.outdated.is_empty());
}

#[test]
fn a_new_address_makes_everyone_outdated() {
    let seen = changed(|world| world.machine("a").spec.ip_address = Some(Parsed::of("10.9.9.9")));
    assert_eq!(seen.differences("w"), ["list of control plane machines"]);
}

/// Where there is no room for whole texts.
#[test]
fn files_that_are_not_kept_whole_compare_as_whole_ones() {
    let changed = |change: fn(&mut World)| {
        changed(|world| {
            change(world);
            let configurations = world.configurations.values_mut();
            configurations.for_each(|held| held.spec.shorten_files());
        })
    };
    let same = changed(|_| ());
    assert!(same.plan.outdated.is_empty(), "{:?}", same.plan.outdated);
    assert!(same.plan.actions.is_empty(), "{:?}", same.plan.actions);
    let address =
        changed(|world| world.machine("a").spec.ip_address = Some(Parsed::of("10.9.9.9")));
    assert_eq!(address.differences("w"), ["list of control plane machines"]);
    // A machine without its object keeps the address in its own file.
    let gone = changed(|world| world.machines.clear());
    assert_eq!(gone.differences("a"), Vec::<String>::new());
    let edited = changed(|world| {
        let lab = |nix: &str| nix.replace("\"prod\"", "\"lab\"");
        world.edit_configuration("w", |it| text(it, lab));
    });
    assert_eq!(edited.differences("w"), ["cluster name"]);
}

/// The founder's shows the others' names alone.
#[test]
fn of_files_that_are_not_kept_whole_no_address_counts_as_an_empty_one() {
    let odd = given(cluster().control_plane(["a", "b", "c"]))
        .machines(["a", "b", "c"])
        .when(settled)
        .when(|world| {
            let odd = |nix: &str| nix.replace("\"ip-of-b\"", "\"no address\"");
            for name in ["a", "b", "c"] {
                world.edit_configuration(name, |it| text(it, odd));
            }
            let configurations = world.configurations.values_mut();
            configurations.for_each(|held| held.spec.shorten_files());
            world.machines.clear();
        });
    assert_eq!(odd.held("a").bootstrap.as_deref(), Some("a"));
    for machine in ["a", "b", "c"] {
        assert_eq!(odd.differences(machine), Vec::<String>::new(), "{machine}");
    }
}

/// Another text of cluster.nix.
fn text(held: &mut NixosConfiguration, change: fn(&str) -> String) {
    edit(&mut held.spec, |it| {
        let inline = &mut it["additionalFiles"][0]["inline"];
        *inline = json!(change(inline.as_str().unwrap()));
    });
}

#[test]
fn cluster_nix_is_compared_by_its_values_and_a_hand_edit_is_named() {
    let edited = |edit: fn(&mut NixosConfiguration)| {
        changed(|world| world.edit_configuration("w", edit)).differences("w")
    };
    let stored = |change: fn(&mut Map<String, Value>)| {
        let edit = |it: &mut NixosConfiguration| edit(&mut it.spec, change);
        changed(|world| world.edit_configuration("w", edit)).differences("w")
    };
    assert!(
        edited(|it| text(it, |nix| nix
            .replace("Generated", "Mine")
            .replace("  ", "\t")))
        .is_empty()
    );
    // A later version wrote attributes that this one does not know, and was taken back.
    assert!(
        edited(|it| text(it, |nix| nix
            .replace("\"name\":", "\"zone\": { \"a\": [1] }, \"name\":")
            .replace("\"workers\":", "\"taints\": null, \"workers\":")))
        .is_empty()
    );
    assert_eq!(edited(|it| text(it, |_| "{ }".to_owned())), ["cluster.nix"]);
    assert_eq!(
        edited(|it| text(it, |nix| nix.replace("ip-of-w", "10.6.6.6"))),
        ["list of workers"]
    );
    assert_eq!(stored(|it| it["flake"] = json!("#evil")), ["flake"]);
    assert_eq!(
        stored(|it| it["onRemoveFlake"] = json!("#x")),
        ["onRemoveFlake"]
    );
    assert_eq!(
        stored(|it| it["fullInstall"] = json!(true)),
        ["fullInstall"]
    );
    assert_eq!(
        stored(|it| it["machineRef"] = json!({ "name": "b" })),
        ["machineRef"]
    );
    assert_eq!(stored(|it| it["ref"] = json!("other")), ["ref"]);
    assert_eq!(
        stored(|it| it["additionalFiles"][1]["secretRef"]["name"] = json!("prod-join-token")),
        ["additionalFiles"]
    );
    assert_eq!(
        stored(|it| {
            it["additionalFiles"].as_array_mut().unwrap().pop();
        }),
        ["marker file"]
    );
    assert_eq!(
        stored(|it| it["additionalFiles"].as_array_mut().unwrap().swap(0, 1)),
        ["additionalFiles"]
    );
}

#[test]
fn a_field_that_nico_does_not_send_is_no_difference() {
    let seen = changed(|world| {
        world.edit_configuration("w", |held| {
            edit(&mut held.spec, |it| {
                it.insert("dayTwoSchedule".to_owned(), json!("* * * * *"))
            });
            held.metadata
                .labels
                .get_or_insert_default()
                .insert("mine".to_owned(), "1".to_owned());
        });
    });
    assert!(seen.plan.outdated.is_empty());
}
