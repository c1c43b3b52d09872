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
    let (_, object) = object("nixosconfigurations", "a", "");
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
    sources.read_jobs(&client).await.unwrap();
    assert_eq!(names(&sources), OWN);
    // An owner is made before what it owns. If it was listed after, a Job that began in between would not be found.
    let asked = asked.lock().unwrap().clone();
    let kinds = ["nixcronjobs all", "nixjobs all", "cronjobs all", "jobs all"];
    assert_eq!(asked, kinds);
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
