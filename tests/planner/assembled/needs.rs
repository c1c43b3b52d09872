//! What a plan has to read besides the watches, and how recently.

use std::collections::BTreeMap;

use nico::api::ledger::Ledger;
use nico::api::names::{ClusterId, known_hosts_name, ledger_name};
use nico::plan::action::Scope;
use nico::plan::assemble::assemble;
use nico::plan::facts::{Facts, Freshness, Needs, Read};
use nico::plan::observed::SecretView;
use serde_json::json;

use super::{JOIN_TOKEN, KUBECONFIG, complete, needs, observed, world};
use crate::facts;
use crate::given::{Given, PROD, cluster, given, kind, machine};
use crate::rollout::name;
use crate::world::World;

/// People mend what is missing, or of no use, and no watch tells: an old answer that says so is none.
#[test]
fn what_stops_the_plan_is_read_again_and_what_serves_is_not() {
    let mut world = world();
    let mut facts = complete(&mut world);
    for read in facts.secrets.values_mut() {
        read.freshness = Freshness::Remembered;
    }
    facts.live = false;
    assert!(assemble(&facts).is_ok());
    let token = facts.secrets.get_mut(JOIN_TOKEN).unwrap();
    token.found = None;
    let recent = BTreeMap::from([(JOIN_TOKEN.to_owned(), Freshness::Recent)]);
    assert_eq!(needs(&facts).secrets, recent);
    facts.secrets.get_mut(JOIN_TOKEN).unwrap().freshness = Freshness::Recent;
    assert_eq!(observed(&facts).join_token, SecretView::Absent);
}

/// NIO applies without a Secret that is missing: what a write refers to is read just before.
#[test]
fn what_a_write_refers_to_is_recent() {
    let mut world = given(cluster().control_plane(["a"]).workers(["w"]))
        .machines(["a", "w"])
        .0;
    let mut facts = complete(&mut world);
    for read in facts.secrets.values_mut() {
        read.freshness = Freshness::Remembered;
    }
    assert!(assemble(&facts).is_ok());
    facts.writes.insert(name("w"));
    let needed = needs(&facts).secrets;
    assert!(needed.values().all(|it| *it == Freshness::Recent));
    let tokens: Vec<_> = needed.into_keys().collect();
    assert_eq!(tokens, [JOIN_TOKEN, "prod-worker-token"]);
    for token in tokens {
        facts.secrets.get_mut(&token).unwrap().freshness = Freshness::Recent;
    }
    let needed: Vec<_> = needs(&facts).secrets.into_keys().collect();
    assert_eq!(needed, ["ssh-w"], "and the key of that machine alone");
}

/// A cluster that changes is looked at every few seconds. What was read before serves until the next resync, but for what is found not
/// to be as it should.
#[test]
fn what_was_not_looked_at_yet_is_not_doubted() {
    let mut world = world();
    let mut facts = complete(&mut world);
    let key = "ssh-a".to_owned();
    facts.secrets.remove(&key);
    assert_eq!(
        needs(&facts).secrets,
        BTreeMap::from([(key, Freshness::Remembered)])
    );
    let Needs { secrets, maps, .. } = needs(&world.facts(PROD).unwrap());
    let asked: Vec<_> = secrets.into_values().chain(maps.into_values()).collect();
    assert_eq!(asked, [Freshness::Remembered; 5]);
}

/// Both are missing for most of a bring-up, and are looked at again before they are written.
#[test]
fn the_absence_of_what_comes_last_is_remembered() {
    let mut facts = complete(&mut world());
    facts.secrets.insert(
        KUBECONFIG.to_owned(),
        Read {
            found: None,
            freshness: Freshness::Remembered,
        },
    );
    let known_hosts = known_hosts_name(PROD);
    facts.maps.insert(
        known_hosts.clone(),
        Read {
            found: None,
            freshness: Freshness::Remembered,
        },
    );
    facts.live = false;
    let cached = assemble(&facts).err().unwrap_or_default();
    assert!(!cached.secrets.contains_key(KUBECONFIG) && !cached.maps.contains_key(&known_hosts));
    facts.live = true;
    let live = needs(&facts);
    assert!(live.secrets[KUBECONFIG] >= Freshness::Recent);
    assert_eq!(live.maps[&known_hosts], Freshness::Recent);
}

/// A kubeconfig that another operator stored shows that the cluster is founded: before the founding no memory of its absence will do.
#[test]
fn before_the_founding_a_live_plan_reads_the_kubeconfig() {
    let mut facts = complete(&mut world());
    let mut found = |founded: bool, live: bool| {
        let ledger = Ledger::new(ClusterId::from_bits(1), founded);
        let version = facts::version("ledger", "1");
        facts.add_ledger(Some(facts::ledger(&ledger, &facts.cluster, version)));
        facts.live = live;
        facts.secrets.get_mut(KUBECONFIG).unwrap().freshness = Freshness::Recent;
        let needs = assemble(&facts).err();
        needs.and_then(|needs| needs.secrets.get(KUBECONFIG).copied())
    };
    assert_eq!(found(false, true), Some(Freshness::Live));
    assert_eq!(found(false, false), None);
    assert_eq!(found(true, true), None);
}

/// Nothing is asked for that the step before may make needless, and a deletion asks for machines alone.
#[test]
fn needs_come_in_order() {
    let built = given(cluster().select_control_plane(1)).with(machine("a").cp());
    let mut world = built.with(machine("b").cp()).0;
    let mut facts = world.facts(PROD).unwrap();
    let mut rounds = Vec::new();
    facts::complete(&mut facts, |needs, facts| {
        let secrets: Vec<_> = needs.secrets.keys().cloned().collect();
        rounds.push((secrets, needs.candidates.len(), needs.kubeconfig.is_some()));
        world.answer(needs, facts);
    });
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let by_name = names(&[JOIN_TOKEN, KUBECONFIG, "prod-worker-token"]);
    assert_eq!(
        rounds,
        [
            (by_name, 0, false),
            (Vec::new(), 1, false),
            (names(&["ssh-a"]), 0, true),
        ],
        "candidates before keys, and of two candidates the chosen one's key alone"
    );
    world.edit(PROD, |spec| {
        spec["controlPlane"] = json!({ "machines": ["b"] })
    });
    world.settle();
    world.delete_cluster(PROD);
    let needs = needs(&world.facts(PROD).unwrap());
    assert_eq!(needs.machines.into_iter().collect::<Vec<_>>(), [name("b")]);
    assert!(needs.secrets.is_empty() && needs.maps.is_empty() && needs.kubeconfig.is_none());
}

/// The watch chooses whom to try: what it shows of a candidate that is chosen is not believed, one after the other, and one that was
/// taken or lost meanwhile is passed over.
#[test]
fn candidates_of_the_watch_are_looked_up_before_they_are_claimed() {
    let built = given(cluster().select_control_plane(1)).with(machine("a").cp());
    let built = built.with(machine("b").cp()).with(machine("c").cp());
    let mut watch = built.with(machine("d").cp()).0;
    let mut facts = watch.facts(PROD).unwrap();
    let mut now = watch.clone();
    let taken = json!({"metadata": {"name": "else"}, "spec": {"machineRef": {"name": "a"}}});
    let taken = serde_json::from_value(taken).unwrap();
    now.configurations.insert("else".to_owned(), taken);
    now.machines.remove(&name("b"));
    let mut rounds: Vec<Vec<String>> = Vec::new();
    let observed = facts::complete(&mut facts, |needs, facts| {
        if !needs.machines.is_empty() {
            assert!(needs.secrets.is_empty(), "of no key before that: {needs:?}");
            rounds.push(needs.machines.iter().map(ToString::to_string).collect());
            facts.from_watch.retain(|it| !needs.machines.contains(it));
            now.answer(needs, facts);
        } else if needs.candidates.is_empty() {
            now.answer(needs, facts);
        } else {
            watch.answer(needs, facts);
            facts.from_watch = facts.machines.keys().cloned().collect();
        }
    });
    assert_eq!(rounds, [["a"], ["b"], ["c"]], "and of d nothing");
    let plan = nico::plan::plan(&observed, now.now, &now.settings);
    assert!(plan.selection.joins(&name("c")), "{:?}", plan.selection);
    assert_eq!(plan.scope(false), Scope::Namespace);
}

/// A person deleted the ledger: it is let go and made again, before anything is claimed.
#[test]
fn nothing_is_claimed_beside_a_ledger_that_is_left_over() {
    let mut world = world();
    world.settle();
    world.edit(PROD, |spec| {
        spec["dataPlane"] = json!({ "machines": ["w"] })
    });
    let mut world = Given(world).machines(["w"]).0;
    let mut facts = world.facts(PROD).unwrap();
    let kinds = |world: &World, facts: &mut Facts| {
        let observed = world.assemble(facts);
        let plan = nico::plan::plan(&observed, world.now, &world.settings);
        let kinds: Vec<_> = plan.actions.iter().map(kind).collect();
        (kinds, plan.look_again)
    };
    let (planned, _) = kinds(&world, &mut facts);
    assert!(planned.contains(&"Claim"), "{planned:?}");
    let ledger = facts.maps.get_mut(&ledger_name(PROD)).unwrap();
    ledger.found.as_mut().unwrap().object.deleting = true;
    let (planned, again) = kinds(&world, &mut facts);
    assert!(!planned.contains(&"Claim"), "{planned:?}");
    assert!(planned.contains(&"DeleteChild"), "{planned:?}");
    assert!(again.is_some_and(|again| again.as_secs() < 10));
}
