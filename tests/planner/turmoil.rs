//! Histories of a living cluster: edits, faults, hands and lost writes in any order, with I3, I4, I14 and I15 judged at every write
//! (`shell.rs`, `rules.rs`). Left alone it comes to rest with a word (L4); once the faults stop it ends Ready (L1).

use nico::api::nio::Generation;
use nico::api::status::ClusterStatus;
use proptest::prelude::*;
use serde_json::json;

use crate::given::{PROD, cluster, given};
use crate::rollout::name;
use crate::sequences::assert_explained;
use crate::source::cases;
use crate::world::{World, edit, rotated_key, unusable_key, usable_key};

const CONTROL_PLANE: [&str; 3] = ["a", "b", "c"];
const WORKERS: [&str; 2] = ["v", "w"];
const ALL: [&str; 8] = ["a", "b", "c", "d", "e", "v", "w", "x"];

fn ready() -> World {
    ready_of(Generation::Classic)
}

/// Three control plane machines and two workers, Ready, and three more machines.
pub fn ready_of(generation: Generation) -> World {
    let mut world = given(cluster().control_plane(CONTROL_PLANE).workers(WORKERS))
        .machines(ALL)
        .and(|world| world.nio = Some(generation))
        .0;
    world.settle();
    assert!(world.ready(PROD), "{}", world.story());
    world
}

/// Whether what happens sets `nodeChecks: false`: no Node is deleted then.
pub fn turns_node_checks_off(what: u8, which: usize) -> bool {
    what % 20 == 3 && which.is_multiple_of(5)
}

/// One thing that happens; `which` chooses of what there is.
pub fn happens(world: &mut World, what: u8, which: usize) {
    let machine = ALL[which % ALL.len()];
    match what % 20 {
        0 => world.edit(PROD, |spec| {
            spec["gitRepo"] = json!(format!("https://example.com/{}.git", which % 3));
        }),
        1 => {
            let lists: [&[&str]; 5] = [
                &["a", "b", "c"],
                &["a", "b", "d"],
                &["a", "b", "c", "d", "e"],
                &["a"],
                &["d", "e", "b"],
            ];
            world.edit(PROD, |spec| {
                spec["controlPlane"] = json!({ "machines": lists[which % 5] });
            });
        }
        2 => {
            let lists: [&[&str]; 3] = [&["v", "w"], &["v"], &["v", "w", "x"]];
            world.edit(PROD, |spec| {
                spec["dataPlane"] = json!({ "machines": lists[which % 3] });
            });
        }
        3 => world.edit(PROD, |spec| {
            spec["rollout"] = json!({
                "order": if which.is_multiple_of(2) { "WorkersFirst" } else { "ControlPlaneFirst" },
                "maxUnavailable": 1 + which % 3,
                "nodeChecks": !turns_node_checks_off(what, which),
            });
        }),
        4 => drop(world.mute.insert(name(machine))),
        5 => drop(world.mute.remove(&name(machine))),
        6 => drop(world.broken.insert(name(machine))),
        7 => drop(world.broken.remove(&name(machine))),
        8 => {
            let reaches = which.is_multiple_of(2);
            let machine = world.machines.get_mut(&name(machine)).unwrap();
            machine.status.get_or_insert_default().discoverable = reaches;
        }
        9 => {
            if let Some(node) = world.nodes.get_mut(machine) {
                node.ready = which.is_multiple_of(2);
            }
        }
        10 => {
            if world.configurations.contains_key(machine) {
                world.edit_configuration(machine, |held| {
                    edit(&mut held.spec, |it| {
                        it["gitRepo"] = json!("https://example.com/by-hand.git");
                    });
                });
            }
        }
        11 => {
            // NIO wipes or fades its status.
            if world.configurations.contains_key(machine) {
                world.configuration(machine).status = None;
            }
        }
        12 => world.cluster(PROD).view.status = ClusterStatus::default(),
        13 => drop(world.apply_configuration(machine)),
        14 => drop(world.work()),
        15 => world.wait(i64::try_from(which).unwrap() * 60),
        // A pass that dies between two of its writes.
        16 => {
            if let Some((_, plan)) = world.plan(PROD) {
                for action in plan.actions.iter().take(which % 3) {
                    if world.apply(PROD, action).is_err() {
                        break;
                    }
                }
            }
        }
        17 => {
            // A key is rotated, and back.
            let machine = name(machine);
            let key = match which % 3 {
                0 => usable_key(&machine),
                _ => rotated_key(&machine, &format!("SHA256:{}", which % 4)),
            };
            world.ssh_keys.insert(machine, key);
        }
        18 => {
            // A key is of no use, or is mended.
            let machine = name(machine);
            let key = if which.is_multiple_of(2) {
                unusable_key(&machine)
            } else {
                usable_key(&machine)
            };
            world.ssh_keys.insert(machine, key);
        }
        _ => drop(world.pass(PROD)),
    }
}

/// The faults stop, and a person takes back what no operator can mend: shrinking below three, and decisions about Nodes.
pub fn heal(world: &mut World) {
    world.mute.clear();
    world.broken.clear();
    world.unwell.clear();
    for machine in world.machines.values_mut() {
        machine.status.get_or_insert_default().discoverable = true;
    }
    for (machine, key) in &mut world.ssh_keys {
        *key = usable_key(machine);
    }
    let members: Vec<String> = world.configurations.keys().cloned().collect();
    for member in &members {
        if let Some(node) = world.nodes.get_mut(member) {
            node.ready = true;
        }
    }
    world.edit(PROD, |spec| {
        spec["rollout"] = json!({ "nodeChecks": true });
    });
}

/// Whether the spec asks for fewer than three: then a person has to say who may go.
fn asks_for_fewer_than_three(world: &World) -> bool {
    let asked = world.clusters[PROD].spec["controlPlane"]["machines"]
        .as_array()
        .map_or(0, Vec::len);
    asked < 3
}

/// Whether a world whose faults have stopped ends Ready. `unchecked`: `nodeChecks` was off for a while.
pub fn ends_ready(world: &mut World, unchecked: bool) -> bool {
    if unchecked {
        // NICO names the Nodes that are left then, and a person deletes them.
        let members = &world.configurations;
        world.nodes.retain(|node, _| members.contains_key(node));
    }
    for _ in 0..6 {
        world.settle();
        // An older attempt of NIO's may run for an hour.
        world.wait(3600);
    }
    world.settle();
    world.ready(PROD) || asks_for_fewer_than_three(world)
}

/// `b` was written again over an attempt that NIO may still be at, and is out of date once more: it is the workers' turn, and its entry
/// stays until the attempt cannot run any more.
#[test]
fn an_entry_that_waits_for_an_older_attempt_says_so() {
    let mut world = ready();
    for (what, which) in [(10, 57), (19, 0), (0, 0), (16, 1), (0, 1), (14, 57)] {
        happens(&mut world, what, which);
    }
    world.settle();
    assert_explained(&world);
    let status = &world.clusters[PROD].view.status;
    let told = status.conditions.iter().find(|it| it.kind == "RollingOut");
    let told = told.unwrap();
    assert_eq!(told.reason, "InFlight", "{told:?}");
    let words = "waiting for an older attempt of NIO's that may still run, until ";
    assert!(told.message.contains(words), "{told:?}");
    assert!(
        !told.message.contains("Machine b waits until v"),
        "{told:?}"
    );
    world.wait(3600);
    world.settle();
    assert!(world.ready(PROD), "{}", world.story());
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn a_living_cluster_comes_to_rest_with_a_word_and_ends_ready_once_faults_stop(
        history in prop::collection::vec((any::<u8>(), 0_usize..60), 1..40)
    ) {
        let mut world = ready();
        for (what, which) in &history {
            happens(&mut world, *what, *which);
        }
        world.settle();
        assert_explained(&world);
        heal(&mut world);
        let unchecked = history.iter().any(|(what, which)| turns_node_checks_off(*what, *which));
        prop_assert!(
            ends_ready(&mut world, unchecked),
            "{history:?}: {}",
            world.story()
        );
    }
}
