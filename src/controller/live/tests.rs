//! The requests that a lookup costs, with an API server that contains the objects of one namespace.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use kube::client::Body;
use serde_json::{Value, json};
use tower::service_fn;

use super::*;
use crate::api::names::ClusterId;

/// Namespace of all objects.
pub(super) const NAMESPACE: &str = "default";

/// Objects in the API server, with the plural of their kind.
pub(super) type Objects = Vec<(&'static str, Value)>;

/// A client of an API server with these objects, and a record of its requests.
pub(super) fn client(objects: Objects) -> (Client, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let service = service_fn(move |request: hyper::Request<Body>| {
        let uri = request.uri().clone();
        let plural = uri.path().rsplit('/').next().unwrap().to_owned();
        let query = uri.query().unwrap_or_default().replace("%3D", "=");
        let query = query.replace("%2F", "/");
        let asks = |what: &str| {
            query
                .split('&')
                .find_map(|line| line.strip_prefix(what).map(str::to_owned))
        };
        let (name, label) = (asks("fieldSelector=metadata.name="), asks("labelSelector="));
        let bears = |object: &Value| {
            let label = label.as_ref().and_then(|label| label.split_once('='));
            label.is_none_or(|(key, value)| object["metadata"]["labels"][key] == value)
        };
        let is_asked = |object: &&Value| {
            name.as_ref()
                .is_none_or(|name| object["metadata"]["name"] == **name)
                && bears(object)
        };
        let of_kind = objects.iter().filter(|(of, _)| *of == plural);
        let found: Vec<&Value> = of_kind.map(|(_, it)| it).filter(is_asked).collect();
        let from: usize = asks("continue=").map_or(0, |token| token.parse().unwrap());
        let until =
            asks("limit=").map_or(found.len(), |limit| from + limit.parse::<usize>().unwrap());
        let page = &found[from.min(found.len())..until.min(found.len())];
        let more = (until < found.len()).then(|| until.to_string());
        let accept = request.headers().get("accept");
        let metadata = accept.is_some_and(|value| value.to_str().unwrap().contains("Partial"));
        let how = match (&name, &label) {
            (Some(name), _) => name.clone(),
            (_, Some(_)) if metadata => "metadata of the cluster".to_owned(),
            (_, Some(_)) => "of the cluster".to_owned(),
            _ if asks("limit=").as_deref() == Some("1") => "count".to_owned(),
            _ if metadata => "page".to_owned(),
            _ => "all".to_owned(),
        };
        log.lock().unwrap().push(format!("{plural} {how}"));
        let remaining = (until < found.len() && label.is_none()).then(|| found.len() - until);
        let list = json!({"metadata": {"continue": more, "remainingItemCount": remaining, "resourceVersion": "9"}, "items": page,
            "apiVersion": "nio.homystack.com/v1alpha1", "kind": "List"});
        let response = hyper::Response::new(Body::from(list.to_string().into_bytes()));
        async move { Ok::<_, Infallible>(response) }
    });
    (Client::new(service, NAMESPACE), asked)
}

fn meta(name: &str, version: u32) -> Value {
    json!({"namespace": NAMESPACE, "name": name, "uid": name, "resourceVersion": version.to_string()})
}

fn machine(name: &str, version: u32) -> Value {
    json!({"metadata": meta(name, version), "spec": {"hostname": name}})
}

fn configuration(name: &str, on: &str, labels: Value, owner: &str) -> Value {
    let mut object = json!({"metadata": meta(name, 1), "spec": {"machineRef": {"name": on}}});
    object["metadata"]["labels"] = labels;
    let owner = json!({"apiVersion": "v1", "kind": "KubernetesCluster", "name": owner, "uid": owner, "controller": true});
    object["metadata"]["ownerReferences"] = json!([owner]);
    object
}

fn labelled() -> Value {
    json!({ CLUSTER_LABEL: "prod" })
}

/// Stores that the watches have filled with these objects.
fn stores(objects: &Objects) -> Stores {
    let stores = Stores::default();
    for (kind, object) in objects {
        let object = object.clone();
        match *kind {
            "machines" => stores
                .machines
                .saw(serde_json::from_value::<Machine>(object).unwrap()),
            _ => stores
                .configurations
                .saw(serde_json::from_value::<NixosConfiguration>(object).unwrap()),
        }
    }
    stores
}

/// This many machines, each with a configuration of another cluster.
fn others(count: usize) -> Objects {
    let object = |n: usize| {
        let name = format!("other-{n:04}");
        let held = configuration(&name, &name, json!({}), "other");
        [
            ("machines", machine(&name, 1)),
            ("nixosconfigurations", held),
        ]
    };
    (0..count).flat_map(object).collect()
}

fn own(names: &[&str]) -> Objects {
    let object = |name: &&str| {
        let held = configuration(name, name, labelled(), "ours");
        [
            ("machines", machine(name, 1)),
            ("nixosconfigurations", held),
        ]
    };
    names.iter().flat_map(object).collect()
}

fn facts() -> Facts {
    let cluster = ClusterView {
        namespace: NAMESPACE.to_owned(),
        name: "prod".to_owned(),
        uid: "ours".to_owned(),
        ..ClusterView::default()
    };
    Facts::new(cluster, Err(Vec::new()), ClusterId::from_bits(1))
}

fn names(names: &[&str]) -> BTreeSet<MachineName> {
    names
        .iter()
        .map(|name| MachineName::parse(name).unwrap())
        .collect()
}

/// Looks up machines of the cluster; returns what was read, and the requests.
async fn look(
    objects: Objects,
    stores: &Stores,
    scope: Scope,
    machines: &[&str],
) -> (Facts, Vec<String>) {
    let (client, asked) = client(objects);
    let mut facts = facts();
    let mut sources = Sources::live(&client, stores, &facts.cluster, scope)
        .await
        .unwrap();
    assert!(sources.shows(scope));
    assert!(sources.configurations.all || scope < Scope::Namespace);
    facts.add_configurations(sources.configurations(&owner_key("ours")));
    sources.look_up(names(machines), &mut facts).await.unwrap();
    // What was read is not read again.
    sources.look_up(names(machines), &mut facts).await.unwrap();
    let asked = asked.lock().unwrap().clone();
    (facts, asked)
}

#[tokio::test]
async fn a_small_namespace_is_listed_in_two_requests() {
    let objects = [own(&["a", "b"]), others(20)].concat();
    let (facts, asked) = look(
        objects.clone(),
        &stores(&objects),
        Scope::Cluster,
        &["a", "b", "c"],
    )
    .await;
    assert_eq!(asked, ["nixosconfigurations all", "machines all"]);
    assert_eq!((facts.machines.len(), facts.configurations.len()), (3, 2));
    assert!(facts.from_watch.is_empty());
}

#[tokio::test]
async fn a_small_cluster_costs_the_same_among_hundreds_and_among_thousands() {
    let mut costs = Vec::new();
    for count in [300, 3000] {
        let objects = [own(&["a", "b"]), others(count)].concat();
        let (facts, asked) = look(
            objects.clone(),
            &stores(&objects),
            Scope::Cluster,
            &["a", "b"],
        )
        .await;
        assert_eq!((facts.machines.len(), facts.configurations.len()), (2, 2));
        costs.push(asked);
    }
    assert_eq!(
        costs[0],
        [
            "nixosconfigurations of the cluster",
            "machines a",
            "machines b"
        ]
    );
    assert_eq!(costs[0], costs[1]);
}

/// Configurations of a large cluster are long: each lists all machines.
#[tokio::test]
async fn of_a_large_cluster_only_what_the_watch_shows_otherwise_is_read_whole() {
    let many: Vec<String> = (0..80).map(|n| format!("own-{n:02}")).collect();
    let mut objects = own(&many.iter().map(String::as_str).collect::<Vec<_>>());
    let stores = stores(&objects);
    for (_, object) in &mut objects {
        if object["metadata"]["name"] == "own-07" {
            object["metadata"]["resourceVersion"] = json!("7");
        }
    }
    let (facts, asked) = look(objects, &stores, Scope::Cluster, &["own-00"]).await;
    assert_eq!(facts.configurations.len(), many.len());
    let changed = &facts.configurations["own-07"].metadata;
    assert_eq!(changed.resource_version.as_deref(), Some("7"));
    assert_eq!(
        asked,
        [
            "nixosconfigurations metadata of the cluster",
            "nixosconfigurations own-07",
            "machines own-00"
        ]
    );
}

/// Labels can be removed, objects in the store can be deleted, and other configurations can refer to the cluster's machines.
#[tokio::test]
async fn what_the_label_does_not_show_is_read_by_name() {
    let shown = [own(&["a", "bare", "gone"]), others(300)].concat();
    let stores = stores(&shown);
    let mut live = [own(&["a", "new"]), others(300)].concat();
    live.push((
        "nixosconfigurations",
        configuration("bare", "bare", json!({}), "ours"),
    ));
    let intruder = configuration("intruder", "a", json!({}), "other");
    stores
        .configurations
        .saw(serde_json::from_value::<NixosConfiguration>(intruder.clone()).unwrap());
    live.push(("nixosconfigurations", intruder));
    let (facts, asked) = look(live, &stores, Scope::Cluster, &["a"]).await;
    let held: Vec<_> = facts.configurations.keys().collect();
    assert_eq!(held, ["a", "bare", "intruder", "new"]);
    assert_eq!(
        asked,
        [
            "nixosconfigurations of the cluster",
            "nixosconfigurations bare",
            "nixosconfigurations gone",
            "machines a",
            "nixosconfigurations intruder"
        ]
    );
    assert!(stores.configurations.get(NAMESPACE, "gone").is_none());
}

/// A configuration that the stalled watch does not show still forbids a write (I2).
#[tokio::test]
async fn one_that_names_a_machine_of_ours_is_seen_though_the_watch_is_silent() {
    let shown = [own(&["a"]), others(300)].concat();
    let stores = stores(&shown);
    let (facts, asked) = look(shown.clone(), &stores, Scope::NoOthers, &["a"]).await;
    let own = [
        "nixosconfigurations of the cluster",
        "nixosconfigurations count",
        "machines a",
    ];
    assert_eq!(asked, own);
    assert_eq!(facts.configurations.len(), 1);
    let intruder = configuration("intruder", "a", json!({}), "other");
    let live = [shown, vec![("nixosconfigurations", intruder)]].concat();
    let (facts, _) = look(live, &stores, Scope::NoOthers, &["a"]).await;
    let held: Vec<_> = facts.configurations.keys().collect();
    assert_eq!(held, ["a", "intruder"]);
}

/// Each object may have 1.5 MB, and a page is decoded in one piece.
#[tokio::test]
async fn whole_objects_are_listed_by_pages() {
    let objects = others(FEW);
    let (facts, asked) = look(
        objects.clone(),
        &stores(&objects),
        Scope::Namespace,
        &["other-0063"],
    )
    .await;
    assert_eq!(
        asked,
        [
            "nixosconfigurations all",
            "nixosconfigurations all",
            "machines all",
            "machines all"
        ]
    );
    assert_eq!(
        facts.configurations.keys().collect::<Vec<_>>(),
        ["other-0063"]
    );
}

#[tokio::test]
async fn all_configurations_are_pages_of_metadata_and_what_the_watch_shows_otherwise() {
    let shown = [own(&["a"]), others(1200)].concat();
    let stores = stores(&shown);
    let mut live = [own(&["a"]), others(1199)].concat();
    live.iter_mut()
        .find(|it| it.1["metadata"]["name"] == "other-0007" && it.0 != "machines")
        .unwrap()
        .1["spec"] = json!({"machineRef": {"name": "a"}});
    live.iter_mut()
        .filter(|it| it.1["metadata"]["name"] == "other-0007")
        .for_each(|it| {
            it.1["metadata"]["resourceVersion"] = json!("7");
        });
    let (facts, asked) = look(live, &stores, Scope::Namespace, &["a"]).await;
    let pages = ["nixosconfigurations page"; 5];
    let rest = ["nixosconfigurations other-0007", "machines a"];
    assert_eq!(asked, [&pages[..], &rest].concat());
    let held: Vec<_> = facts.configurations.keys().collect();
    assert_eq!(
        held,
        ["a", "other-0007"],
        "one that names our machine now is seen"
    );
}

#[tokio::test]
async fn a_candidate_is_as_the_watch_shows_it_until_it_is_looked_up() {
    let mut objects = [own(&["a"]), others(300)].concat();
    objects.push(("machines", machine("cp-01.lab", 1)));
    let stores = stores(&objects);
    let (client, asked) = client(Vec::new());
    let mut facts = facts();
    let mut sources = Sources::live(&client, &stores, &facts.cluster, Scope::Cluster)
        .await
        .unwrap();
    sources.candidates(&Selector::default(), &mut facts);
    assert_eq!((facts.machines.len(), facts.from_watch.len()), (301, 301));
    let misnamed: Vec<_> = facts.misnamed.keys().collect();
    assert_eq!(misnamed, ["cp-01.lab"], "it is no machine, and is told of");
    assert_eq!(
        asked.lock().unwrap().len(),
        2,
        "{:?}",
        asked.lock().unwrap()
    );
    sources
        .look_up(names(&["other-0001"]), &mut facts)
        .await
        .unwrap();
    let one = MachineName::parse("other-0001").unwrap();
    assert_eq!(facts.machines[&one], None, "it is gone");
    assert!(!facts.from_watch.contains(&one));
    assert!(stores.machines.get(NAMESPACE, "other-0001").is_none());
}
