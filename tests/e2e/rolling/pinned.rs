//! NICO resolves a branch to a commit and rolls that out, beside NIO v1.

use rig::crds::Generation;
use rig::git::{Repo, serve};
use rig::judge::rollout::Rules;
use serde_json::{Value, json};

use crate::common::case::Case;
use crate::common::traffic::RESYNC;
use crate::common::{DEADLINE, listed, nico};
use crate::rolling::{IN_TURN, THREE, TWO, bring_up};

/// What every machine holds.
async fn held(case: &Case) -> Vec<String> {
    let mut held = Vec::new();
    for machine in IN_TURN {
        let spec = &case.configuration(machine).await.data["spec"];
        held.push(spec["ref"].as_str().unwrap_or_default().to_owned());
    }
    held
}

/// Workers first, one control plane machine at a time. A commit that a machine cannot apply gets no further, and an older commit leads
/// out.
#[tokio::test(flavor = "multi_thread")]
async fn a_push_is_rolled_out_and_a_commit_that_fails_stops_at_its_first_machine() {
    let Some(git) = Repo::new() else {
        return;
    };
    let Some(server) = serve(&git).await else {
        return;
    };
    let url = format!("git://{}/repo/.git", server.at);
    git.commit("the first");
    let case = Case::alone_of(Generation::V1, &nico().args(&RESYNC), |_| ()).await;
    let spec = json!({"gitRepo": url, "ref": "main", "refPolicy": "Pin"});
    let (case, _hosts) = bring_up(case, &THREE, &TWO, spec).await;
    let first = held(&case).await;
    assert!(
        first.iter().all(|it| it.len() == 40 && *it == first[0]),
        "{first:?}"
    );

    let before = case.world.nio().now();
    let good = git.commit("good");
    let status = case.ends_with(before, &IN_TURN).await;
    assert_eq!(status["commit"], *good, "{status}");
    assert_eq!(held(&case).await, vec![good.clone(); 5]);

    case.world.nio().set("w-01", |knobs| knobs.fails = true);
    case.roll(json!({"rollout": {"progressDeadlineSeconds": 2}}))
        .await;
    let pushed = case.world.nio().now();
    let bad = git.commit("bad");
    case.stuck_at("w-01").await;
    case.nothing_but(pushed, &["w-01"]).await;
    let mut expected = vec![good.clone(); 5];
    expected[0] = bad;
    assert_eq!(held(&case).await, expected);

    case.world.nio().set("w-01", |knobs| knobs.fails = false);
    let back = json!({"ref": good, "rollout": null});
    let returned = case.roll(back).await;
    case.ends_with(returned, &["w-01"]).await;
    assert_eq!(held(&case).await, vec![good; 5]);
    let rules = Rules::of(vec![before, pushed, returned]);
    case.finish_rolled(&rules).await;
}

/// A mistake in `ref` is told with the name, and a corrected one is asked for at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_branch_that_is_missing_is_told_of_and_nothing_is_written_before() {
    let Some(git) = Repo::new() else {
        return;
    };
    let Some(server) = serve(&git).await else {
        return;
    };
    let commit = git.commit("the first");
    let case = Case::of(Generation::V1, &nico().args(&RESYNC)).await;
    let _host = case.world.machine("cp-01").await;
    let mut spec = listed(&["cp-01"], &[]);
    spec["gitRepo"] = json!(format!("git://{}/repo/.git", server.at));
    spec["refPolicy"] = json!("Pin");
    spec["ref"] = json!("mian");
    case.cluster("prod", spec).await;
    let told = |status: &Value| {
        let conditions = status["conditions"].as_array().into_iter().flatten();
        let mut of_it = conditions.filter(|it| it["reason"] == "RefUnresolved");
        of_it.any(|it| it["message"].to_string().contains("branch or tag mian"))
    };
    let what = "the missing branch is named";
    case.world.wait_status("prod", what, DEADLINE, told).await;
    assert_eq!(case.configurations().await, [""; 0]);
    case.edit("prod", json!({"ref": "main"})).await;
    case.ready("prod").await;
    let held = case.configuration("cp-01").await;
    assert_eq!(held.data["spec"]["ref"], *commit);
    case.finish().await;
}
