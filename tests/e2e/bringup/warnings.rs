//! Warning events: one for each mistake of a first apply.

use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, DeleteParams, ListParams};
use rig::wait::wait_describing;
use serde_json::json;

use crate::common::case::Case;
use crate::common::traffic::RESYNC;
use crate::common::{DEADLINE, listed, nico};

/// The Warning events of a cluster: reason and note, as often as each was told.
pub(crate) async fn warnings(case: &Case, cluster: &str) -> Vec<(String, String)> {
    let events: Api<Event> = Api::namespaced(case.world.client().clone(), case.world.namespace());
    let found = events.list(&ListParams::default()).await.unwrap().items;
    let of_it = found.into_iter().filter(|event| {
        let about = event.regarding.as_ref();
        let about = about.and_then(|about| about.name.as_deref());
        event.type_.as_deref() == Some("Warning") && about == Some(cluster)
    });
    let told = of_it.flat_map(|event| {
        let times = event.series.map_or(1, |series| series.count.max(1));
        let what = (
            event.reason.unwrap_or_default(),
            event.note.unwrap_or_default(),
        );
        std::iter::repeat_n(what, usize::try_from(times).unwrap())
    });
    told.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_mistake_of_a_first_apply_raises_one_warning() {
    let case = Case::with(&nico().args(&RESYNC)).await;
    case.world
        .machines_named(&["cp-01", "cp-02", "cp-03"])
        .await;
    let no_key = DeleteParams::default();
    case.world
        .secrets()
        .delete("ssh-cp-02", &no_key)
        .await
        .unwrap();
    case.cluster("prod", listed(&["cp-01"], &[])).await;
    case.ready("prod").await;
    let selector = json!({"machineSelector": {"matchLabels": {"site": "nowhere"}}, "count": 1});
    let repository = "https://git.example.com/flakes.git";
    let mistakes = [
        (
            "misspelt",
            listed(&["pc-03"], &[]),
            "MachineMissing",
            "create it, or correct spec.controlPlane.machines",
        ),
        (
            "rival",
            listed(&["cp-01"], &[]),
            "MachineInUse",
            "choose another one, or remove it from prod",
        ),
        (
            "nobody",
            json!({"gitRepo": repository, "controlPlane": selector}),
            "TooFewMachines",
            "site=nowhere",
        ),
        (
            "keyless",
            listed(&["cp-02"], &[]),
            "SSHKeyMissing",
            "create it with the key ssh-privatekey",
        ),
    ];
    for (cluster, spec, ..) in &mistakes {
        case.cluster(cluster, spec.clone()).await;
    }
    for (cluster, _, reason, mend) in &mistakes {
        let is_told = || async {
            let told = warnings(&case, cluster).await;
            let of_it = |(told, note): &(String, String)| told == reason && note.contains(mend);
            told.iter().any(of_it).then_some(())
        };
        let told = || async { format!("{:?}", warnings(&case, cluster).await) };
        let what = format!("a Warning {reason} of {cluster}");
        wait_describing(&what, DEADLINE, is_told, told).await;
    }
    case.two_more_passes().await;
    for (cluster, ..) in &mistakes {
        let told = warnings(&case, cluster).await;
        assert_eq!(told.len(), 1, "{cluster}: {told:?}");
    }
    let told = warnings(&case, "prod").await;
    assert_eq!(told, [], "nothing is wrong with it");
    case.finish().await;
}
