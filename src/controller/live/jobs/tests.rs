//! Which Jobs are a configuration's: by the uids of all objects between them.

use super::super::tests::{NAMESPACE, Objects, client};
use super::super::*;
use super::*;
use serde_json::{Value, json};

/// An object, with its controller; empty: none.
fn object(plural: &'static str, name: &str, owner: &str) -> (&'static str, Value) {
    let mut object = json!({"metadata": {"namespace": NAMESPACE, "name": name, "uid": name}});
    if !owner.is_empty() {
        let owner =
            json!({"apiVersion": "x", "kind": "X", "name": "x", "uid": owner, "controller": true});
        object["metadata"]["ownerReferences"] = json!([owner]);
    }
    (plural, object)
}

/// Configuration `a` with each kind of Job that it may have, and Jobs that are not its own.
fn objects() -> Objects {
    let mut only_owned = object("jobs", "not-controlled", "a-cron");
    only_owned.1["metadata"]["ownerReferences"][0]["controller"] = json!(false);
    vec![
        object("nixcronjobs", "a-day2", "a"),
        object("cronjobs", "a-cron", "a-day2"),
        object("jobs", "a-scheduled", "a-cron"),
        object("jobs", "a-new-commit", "a-day2"),
        object("nixjobs", "a-install", "a"),
        object("jobs", "a-installs", "a-install"),
        object("nixcronjobs", "b-day2", "b"),
        object("cronjobs", "b-cron", "b-day2"),
        object("jobs", "b-scheduled", "b-cron"),
        // A configuration of that name that is gone had another uid.
        object("nixcronjobs", "old-day2", "a-old"),
        object("jobs", "of-old", "old-day2"),
        object("cronjobs", "users-cron", ""),
        object("jobs", "of-a-user", "users-cron"),
        object("jobs", "of-nobody", ""),
        only_owned,
    ]
}

fn configuration() -> NixosConfiguration {
    let (_, mut object) = object("nixosconfigurations", "a", "");
    object["metadata"]["labels"] = json!({ CLUSTER_LABEL: "prod" });
    serde_json::from_value(object).unwrap()
}

fn names(sources: &Sources<'_>) -> Vec<String> {
    let jobs = sources.jobs(&configuration());
    let mut names: Vec<String> = jobs.iter().map(|job| job.name_any()).collect();
    names.sort();
    names
}

const OWN: [&str; 3] = ["a-installs", "a-new-commit", "a-scheduled"];

#[tokio::test]
async fn the_jobs_of_a_configuration_are_found_by_the_chain_of_owners() {
    let (client, asked) = client(objects());
    let stores = Stores::default();
    // The watch still shows a Job that is gone.
    let (_, gone) = object("jobs", "a-gone", "a-day2");
    let (_, recurring) = object("nixcronjobs", "a-day2", "a");
    stores
        .work
        .jobs
        .saw(serde_json::from_value::<Job>(gone).unwrap());
    let recurring = serde_json::from_value::<NixCronJob>(recurring).unwrap();
    stores.work.nix_cron_jobs.saw(recurring);
    let mut sources = Sources::cached(&stores, NAMESPACE);
    assert_eq!(names(&sources), ["a-gone"]);
    stores.configurations.saw(configuration());
    sources.own = vec![label_key("prod")];
    sources.read_jobs(&client).await.unwrap();
    assert_eq!(names(&sources), OWN);
    // An owner is made before what it owns. If it was listed after, a Job that began in between would not be found.
    let asked = asked.lock().unwrap().clone();
    let kinds = ["nixcronjobs all", "nixjobs all", "cronjobs all", "jobs all"];
    assert_eq!(asked, kinds);
}

/// Ten thousand Jobs of others, of which each changes all the time.
#[tokio::test]
async fn jobs_of_others_are_neither_kept_nor_read_one_by_one() {
    let version = |(plural, mut object): (&'static str, Value), version: &str| {
        object["metadata"]["resourceVersion"] = json!(version);
        (plural, object)
    };
    let others = (0..600).map(|n| object("jobs", &format!("other-{n}"), "users-cron"));
    let objects = objects().into_iter().chain(others);
    let objects: Objects = objects.map(|object| version(object, "2")).collect();
    let stores = Stores::default();
    for (plural, object) in &objects {
        // One of the cluster's own is as the watch has shown it.
        let is_old = object["metadata"]["name"] != "a-scheduled";
        let shown = version((plural, object.clone()), if is_old { "1" } else { "2" });
        if *plural == "jobs" {
            let job = serde_json::from_value::<Job>(shown.1).unwrap();
            stores.work.jobs.saw(job);
        }
    }
    let (client, asked) = client(objects);
    let mut sources = Sources::cached(&stores, NAMESPACE);
    let own = BTreeSet::from(["a".to_owned()]);
    sources.jobs.read(&client, own).await.unwrap();
    assert_eq!(names(&sources), OWN);
    let asked = asked.lock().unwrap().clone();
    let small = ["nixcronjobs all", "nixjobs all", "cronjobs all"];
    let pages = ["jobs page"; 3];
    let changed = ["jobs a-installs", "jobs a-new-commit"];
    assert_eq!(asked, [&small[..], &pages, &changed].concat());
    assert_eq!(sources.jobs.jobs.store.count(NAMESPACE), OWN.len());
}

#[tokio::test]
async fn a_cluster_without_configurations_reads_no_jobs() {
    let (client, asked) = client(objects());
    let stores = Stores::default();
    let mut sources = Sources::cached(&stores, NAMESPACE);
    sources.read_jobs(&client).await.unwrap();
    assert!(asked.lock().unwrap().is_empty());
}

#[test]
fn the_watches_show_the_same_and_whose_job_has_changed() {
    let stores = Stores::default();
    for (plural, object) in objects() {
        match plural {
            "jobs" => stores
                .work
                .jobs
                .saw(serde_json::from_value::<Job>(object).unwrap()),
            "cronjobs" => {
                let object = serde_json::from_value::<CronJob>(object).unwrap();
                stores.work.cron_jobs.saw(object);
            }
            "nixcronjobs" => {
                let object = serde_json::from_value::<NixCronJob>(object).unwrap();
                stores.work.nix_cron_jobs.saw(object);
            }
            _ => {
                let object = serde_json::from_value::<NixJob>(object).unwrap();
                stores.work.nix_jobs.saw(object);
            }
        }
    }
    assert_eq!(names(&Sources::cached(&stores, NAMESPACE)), OWN);
    let over = |uid: &str| stores.work.configuration_over(NAMESPACE, uid);
    for owner in ["a-cron", "a-day2", "a-install", "a"] {
        assert_eq!(over(owner), "a", "{owner}");
    }
    assert_eq!(over("b-cron"), "b");
    assert_eq!(over("users-cron"), "users-cron");
}
