//! The shipped RBAC rules are enough for the life of a cluster, and none of them is superfluous (I12).

use std::collections::BTreeSet;

use rig::world::World;
use serde_json::{Value, json};

use crate::common::case::{Case, at_rest};
use crate::common::traffic::RESYNC;
use crate::common::{DEADLINE, five, listed, nico};

/// What rules allow, as (verb, group, resource).
fn allowed(roles: &[Value]) -> BTreeSet<(String, String, String)> {
    let words = |rule: &Value, field: &str| -> Vec<String> {
        serde_json::from_value(rule[field].clone()).expect("a list of words")
    };
    let mut allowed = BTreeSet::new();
    for rule in roles
        .iter()
        .filter_map(|role| role["rules"].as_array())
        .flatten()
    {
        for verb in words(rule, "verbs") {
            for group in words(rule, "apiGroups") {
                for resource in words(rule, "resources") {
                    allowed.insert((verb.clone(), group.clone(), resource));
                }
            }
        }
    }
    allowed
}

#[tokio::test(flavor = "multi_thread")]
async fn each_rule_is_needed_in_the_life_of_a_cluster() {
    let world = World::new().await;
    let leading = ["--leader-elect", "--lease-namespace", world.namespace()];
    let setup = nico().args(&RESYNC).args(&leading);
    let environment = world.environment();
    let is_role = |object: &&Value| object["kind"] == "Role";
    let roles = environment
        .rights
        .iter()
        .chain(&environment.namespace_rights);
    let roles: Vec<Value> = roles.filter(is_role).cloned().collect();
    let case = Case::in_world(world, &setup).await;
    five(&case.world).await;
    case.world
        .cluster("prod", listed(&["cp-01"], &["w-01"]))
        .await
        .unwrap();
    case.world.wait_ready("prod", DEADLINE).await;
    // Twice, so that the same events come again.
    for repository in ["new", "flakes", "new"] {
        let repository = format!("https://git.example.com/{repository}.git");
        case.edit("prod", json!({"gitRepo": repository})).await;
        let generation = case
            .world
            .clusters()
            .get("prod")
            .await
            .unwrap()
            .metadata
            .generation;
        let what = "rolled out";
        case.world
            .wait_status("prod", what, DEADLINE, |status| at_rest(status, generation))
            .await;
    }
    case.delete("prod").await;
    case.wait_gone("prod").await;
    let used = case.proxy.used().into_iter();
    let used: BTreeSet<_> = used
        .filter(|(_, _, resource)| !resource.is_empty())
        .collect();
    let allowed = allowed(&roles);
    let superfluous: Vec<_> = allowed.difference(&used).collect();
    assert!(superfluous.is_empty(), "superfluous: {superfluous:?}");
    case.finish().await;
}
