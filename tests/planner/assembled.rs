//! What is made of the objects that were read: whose they are, whether they are of use, and what has to be read besides.

mod needs;

use std::collections::BTreeMap;
use std::sync::Arc;

use nico::api::names::ledger_name;
use nico::api::workload::{NodeList, NodesOf};
use nico::plan::assemble::{assemble, nodes_of};
use nico::plan::facts::{Facts, MapFacts, Needs, ObjectFacts, Read};
use nico::plan::observed::{
    KnownHostsView, LedgerView, NodeView, Observed, SecretView, Workload, WorkloadHealth,
    force_release_names,
};
use nico::plan::parting::{Parting, parting};
use nico::plan::writes::{Child, Precondition};

use crate::facts::{self, live};
use crate::given::{PROD, cluster, given};
use crate::rollout::name;
use crate::world::World;

const JOIN_TOKEN: &str = "prod-join-token";
const KUBECONFIG: &str = "prod-kubeconfig";

fn world() -> World {
    given(cluster().control_plane(["a"])).machines(["a"]).0
}

/// All facts of a cluster that is up.
fn complete(world: &mut World) -> Facts {
    world.settle();
    let mut facts = world.facts(PROD).expect("the cluster is there");
    world.assemble(&mut facts);
    facts
}

/// What is made of facts; the background work says the same of every kubeconfig.
fn observed(facts: &Facts) -> Observed {
    facts::complete(&mut facts.clone(), |needs, facts| {
        let question = needs.kubeconfig.expect("all else was read");
        let (_, answer) = facts.kubeconfig.take().expect("it was asked before");
        facts.kubeconfig = Some((question, answer));
    })
}

fn needs(facts: &Facts) -> Needs {
    *assemble(facts).expect_err("something is to be read")
}

/// Whose an object is: the metadata that say so.
struct Meta {
    controller: Option<&'static str>,
    deleting: bool,
    held: bool,
    adopt: Option<&'static str>,
}

const OURS: Meta = Meta {
    controller: Some("ours"),
    deleting: false,
    held: true,
    adopt: None,
};
const NOBODYS: Meta = Meta {
    controller: None,
    deleting: false,
    held: false,
    adopt: None,
};
/// Of a cluster that is gone; `busy` still controls a configuration, `gone` does not.
const FORMER: Meta = Meta {
    controller: Some("gone"),
    deleting: true,
    held: true,
    adopt: None,
};

impl Meta {
    fn apply(&self, object: &mut ObjectFacts, own: &str) {
        let controller = self
            .controller
            .map(|uid| if uid == "ours" { own } else { uid });
        object.controller = controller.map(str::to_owned);
        (object.deleting, object.in_use) = (self.deleting, self.held);
        object.adopt = self.adopt.map(str::to_owned);
    }
}

#[test]
fn a_token_is_ours_adopted_left_over_or_foreign() {
    use SecretView::{Adopted, Foreign, Leftover, Ours, Terminating, Unusable};
    let usable = [("token", true)].as_slice();
    let (empty, two) = (
        [("token", false)].as_slice(),
        [("a", true), ("token", true)].as_slice(),
    );
    #[rustfmt::skip]
    let table = [
        (OURS, usable, Ours),
        (Meta { held: false, ..OURS }, usable, Ours),
        (OURS, empty, Unusable),
        (OURS, two, Unusable),
        (OURS, &[], Unusable),
        (Meta { deleting: true, ..OURS }, usable, Terminating),
        (Meta { deleting: true, ..OURS }, empty, Terminating),
        (Meta { adopt: Some("prod"), ..NOBODYS }, usable, Adopted),
        (Meta { adopt: Some("prod"), ..NOBODYS }, two, Unusable),
        (Meta { adopt: Some("prod"), deleting: true, ..NOBODYS }, usable, Terminating),
        (Meta { adopt: Some("another"), ..NOBODYS }, usable, Foreign),
        (NOBODYS, usable, Foreign),
        (Meta { held: true, ..NOBODYS }, usable, Foreign),
        (Meta { deleting: true, ..NOBODYS }, usable, Foreign),
        (Meta { deleting: true, held: true, ..NOBODYS }, usable, Leftover),
        (FORMER, usable, Leftover),
        (Meta { deleting: false, ..FORMER }, usable, Foreign),
        (Meta { held: false, ..FORMER }, usable, Foreign),
        (Meta { controller: Some("busy"), ..FORMER }, usable, Foreign),
    ];
    let mut all = complete(&mut world());
    all.controllers = BTreeMap::from([("gone".to_owned(), false), ("busy".to_owned(), true)]);
    for (row, (meta, keys, view)) in table.into_iter().enumerate() {
        let mut facts = all.clone();
        let own = facts.cluster.uid.clone();
        let secret = facts.secrets.get_mut(JOIN_TOKEN).unwrap();
        let secret = secret.found.as_mut().expect("it was made");
        meta.apply(&mut secret.object, &own);
        let keys = keys.iter();
        secret.keys = keys
            .map(|(key, has)| ((*key).to_owned(), has.then(|| "digest".to_owned())))
            .collect();
        assert_eq!(observed(&facts).join_token, view, "row {row}");
    }
    all.secrets.insert(JOIN_TOKEN.to_owned(), live(None));
    assert_eq!(observed(&all).join_token, SecretView::Absent);
}

#[test]
fn a_ledger_is_ours_left_over_foreign_or_unreadable() {
    let mut all = complete(&mut world());
    all.controllers = BTreeMap::from([("gone".to_owned(), false), ("busy".to_owned(), true)]);
    let word = |view: &LedgerView| match view {
        LedgerView::Absent => "absent",
        LedgerView::Foreign => "foreign",
        LedgerView::Leftover => "left over",
        LedgerView::Unreadable(_) => "unreadable",
        LedgerView::Ours(..) => "ours",
    };
    #[rustfmt::skip]
    let table = [
        (OURS, true, "ours"),
        (OURS, false, "unreadable"),
        (Meta { deleting: true, ..OURS }, true, "left over"),
        (Meta { deleting: true, ..OURS }, false, "left over"),
        (NOBODYS, true, "foreign"),
        (FORMER, true, "left over"),
        (Meta { controller: Some("busy"), ..FORMER }, true, "foreign"),
        (Meta { deleting: false, ..FORMER }, true, "foreign"),
    ];
    for (row, (meta, readable, view)) in table.into_iter().enumerate() {
        let mut facts = all.clone();
        let own = facts.cluster.uid.clone();
        let map: &mut Read<MapFacts> = facts.maps.get_mut(&ledger_name(PROD)).unwrap();
        let map = map.found.as_mut().expect("it was made");
        meta.apply(&mut map.object, &own);
        if !readable {
            map.data.insert("id".to_owned(), "no id".to_owned());
        }
        assert_eq!(word(&observed(&facts).ledger), view, "row {row}");
    }
    all.add_ledger(None);
    assert_eq!(word(&observed(&all).ledger), "absent");
}

#[test]
fn what_is_ours_and_lost_its_finalizer_is_named() {
    let mut facts = complete(&mut world());
    assert!(observed(&facts).without_finalizer.is_empty());
    let held = facts.secrets.get_mut(JOIN_TOKEN).unwrap();
    held.found.as_mut().unwrap().object.in_use = false;
    let held = facts.maps.get_mut(&ledger_name(PROD)).unwrap();
    held.found.as_mut().unwrap().object.in_use = false;
    let without_finalizer = observed(&facts).without_finalizer;
    let children: Vec<_> = without_finalizer.keys().copied().collect();
    assert_eq!(children, [Child::JoinToken, Child::Ledger]);
    // What is going, or not ours, is not held.
    let token = facts.secrets.get_mut(JOIN_TOKEN).unwrap();
    token.found.as_mut().unwrap().object.deleting = true;
    let ledger = facts.maps.get_mut(&ledger_name(PROD)).unwrap();
    ledger.found.as_mut().unwrap().object.controller = None;
    assert!(observed(&facts).without_finalizer.is_empty());
}

#[test]
fn a_kubeconfig_is_ours_where_nico_may_write_it() {
    use SecretView::{Foreign, Ours, Unusable};
    let all = complete(&mut world());
    let seen = |change: fn(&mut nico::plan::facts::SecretFacts)| {
        let mut facts = all.clone();
        let secret = facts.secrets.get_mut(KUBECONFIG).unwrap();
        change(secret.found.as_mut().expect("it was stored"));
        observed(&facts).kubeconfig
    };
    let as_written = seen(|_| {});
    assert_eq!(as_written.secret, Ours);
    assert!(
        as_written
            .stored
            .is_some_and(|stored| stored.host.is_some())
    );
    let edited = seen(|it| it.kubeconfig = None);
    assert_eq!(edited.secret, Ours);
    assert!(edited.stored.is_some_and(|stored| stored.host.is_none()));
    let copied = seen(|it| it.kubeconfig.as_mut().unwrap().cluster = "another".to_owned());
    assert!(copied.stored.is_some_and(|stored| stored.host.is_none()));
    assert_eq!(seen(|it| it.keys.clear()).secret, Unusable);
    assert_eq!(seen(|it| it.is_kubeconfig = false).secret, Foreign);
    // There is no adopting of a kubeconfig.
    let adopted = seen(|it| {
        (it.object.controller, it.object.adopt) = (None, Some(PROD.to_owned()));
    });
    assert_eq!(adopted.secret, Foreign);
    assert!(adopted.stored.is_none());
}

#[test]
fn known_hosts_without_our_owner_are_the_users() {
    let facts = complete(&mut world());
    for view in [
        KnownHostsView::Ours,
        KnownHostsView::Foreign,
        KnownHostsView::Absent,
    ] {
        let mut facts = facts.clone();
        let found = facts::known_hosts(view, &facts.cluster);
        facts
            .maps
            .insert("prod-known-hosts".to_owned(), live(found));
        assert_eq!(observed(&facts).known_hosts, view);
    }
}

/// What is taken off or deleted is ours, or was left behind by one that is gone; nothing of anybody else's is touched.
#[test]
fn what_goes_is_ours_or_left_behind() {
    use Parting::{Deleted, Freed, Untouched};
    let uid = "ours";
    let [ours, theirs] = [Some(uid), Some("another")];
    for (controller, deleting, held, living, dying) in [
        (ours, false, true, Deleted, Deleted),
        (ours, false, false, Deleted, Deleted),
        (ours, true, true, Freed, Freed),
        (None, false, true, Untouched, Freed),
        (None, true, true, Freed, Freed),
        (None, true, false, Untouched, Untouched),
        (theirs, false, true, Untouched, Untouched),
        (theirs, true, true, Freed, Untouched),
    ] {
        let object = ObjectFacts {
            version: Precondition {
                uid: "object".to_owned(),
                resource_version: "1".to_owned(),
            },
            deleting,
            controller: controller.map(str::to_owned),
            in_use: held,
            adopt: None,
            left_by: None,
        };
        for (lives, expected) in [(true, living), (false, dying)] {
            assert_eq!(
                parting(&object, uid, lives),
                expected,
                "{lives}: {object:?}"
            );
        }
    }
}

/// An annotation can hold 256 kB of names; each costs a lookup.
#[test]
fn no_more_machines_are_force_released_than_a_cluster_can_have() {
    let mut view = world().facts(PROD).unwrap().cluster;
    let names: Vec<String> = (0..45_000).map(|number| format!("m-{number}")).collect();
    view.force_release = force_release_names(&names.join(","));
    assert_eq!(view.forced().count(), 1100);
    assert!(view.forces("m-1099") && !view.forces("m-1100"));
}

#[test]
fn nodes_that_were_listed_for_other_machines_count_as_not_listed() {
    let mut facts = complete(&mut world());
    let settled = observed(&facts);
    let of_all = nodes_of(&settled, settled.spec.as_ref().unwrap());
    let address = settled.machines[&name("a")].address().unwrap().to_owned();
    assert!(of_all.names.contains("a") && of_all.addresses.contains(&address));
    let node = |name: &str| NodeView {
        name: name.to_owned(),
        addresses: vec![address.clone()],
        ..NodeView::default()
    };
    for (of, node_name, listed) in [
        (&of_all, "a", true),
        (&of_all, "node-of-a", true),
        (&NodesOf::default(), "a", false),
        (&NodesOf::default(), "node-of-a", false),
    ] {
        let mut list = NodeList::new(of);
        list.add(node(node_name)).unwrap();
        facts.workload = WorkloadHealth::Answered(Arc::new(Workload {
            nodes: Some(list.into()),
            ..Workload::default()
        }));
        facts.workload_is_old = false;
        let seen = observed(&facts);
        let found = seen.node(&name("a")).is_some();
        assert_eq!(seen.workload.nodes().is_some(), listed, "{node_name}");
        assert_eq!((found, seen.workload_is_old), (listed, !listed));
    }
}
