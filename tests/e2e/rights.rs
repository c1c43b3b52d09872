//! The shipped RBAC rules are enough for the life of a cluster, and none of them is superfluous (I12).

use std::collections::BTreeSet;

use rig::crds::Generation;
use rig::world::World;
use serde_json::{Value, json};

use crate::common::case::Case;
use crate::common::traffic::RESYNC;
use crate::common::{DEADLINE, five, listed, nico};

/// As verb, group, resource and name. A rule for all objects has an empty name, and so has a request for a collection.
type Rights = BTreeSet<[String; 4]>;

/// What rules allow.
fn allowed(roles: &[Value]) -> Rights {
    let words = |rule: &Value, field: &str| -> Vec<String> {
        serde_json::from_value(rule[field].clone()).expect("a list of words")
    };
    let names = |rule: &Value| match rule.get("resourceNames") {
        Some(_) => words(rule, "resourceNames"),
        None => vec![String::new()],
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
                    for name in names(rule) {
                        let (verb, group) = (verb.clone(), group.clone());
                        allowed.insert([verb, group, resource.clone(), name]);
                    }
                }
            }
        }
    }
    allowed
}

/// Whether a right allows a request.
fn needs(request: &[String; 4], right: &[String; 4]) -> bool {
    request[..3] == right[..3] && (right[3].is_empty() || request[3] == right[3])
}

/// What NICO asked for, and may ask for, in the life of a cluster beside this NIO.
async fn life(generation: Generation) -> (Rights, Rights) {
    let world = World::of(generation, |_| ()).await;
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
    case.cluster("prod", listed(&["cp-01"], &["w-01"])).await;
    case.world.wait_ready("prod", DEADLINE).await;
    // Twice, so that the same events come again.
    for repository in ["new", "flakes", "new"] {
        let repository = format!("https://git.example.com/{repository}.git");
        case.edit("prod", json!({"gitRepo": repository})).await;
        case.rolled_out("prod").await;
    }
    case.delete("prod").await;
    case.wait_gone("prod").await;
    let mut used: Rights = case.proxy.used().into_iter().collect();
    used.retain(|[_, _, resource, _]| !resource.is_empty());
    case.finish().await;
    (used, allowed(&roles))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_rule_is_needed_in_the_life_of_a_cluster() {
    let mut superfluous = Rights::new();
    let mut used = Rights::new();
    for generation in [Generation::Classic, Generation::V1] {
        let (asked, allowed) = life(generation).await;
        superfluous.extend(allowed);
        used.extend(asked);
    }
    superfluous.retain(|right| !used.iter().any(|request| needs(request, right)));
    assert!(superfluous.is_empty(), "superfluous: {superfluous:?}");
}
