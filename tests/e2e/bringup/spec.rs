//! A spec that leaves its repository to the operator.

use serde_json::Value;

use crate::common::case::Case;
use crate::common::{listed, nico};

fn without_repository() -> Value {
    let mut spec = listed(&["cp-01"], &[]);
    spec.as_object_mut().unwrap().remove("gitRepo");
    spec
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_repository_serves_clusters_that_name_none() {
    let setup = nico().args(&["--default-git-repo", "https://git.example.com/ours.git"]);
    let case = Case::with(&setup).await;
    case.world.machine("cp-01").await;
    case.cluster("prod", without_repository()).await;
    case.ready("prod").await;
    let configuration = case.configuration("cp-01").await;
    assert_eq!(
        configuration.data["spec"]["gitRepo"],
        "https://git.example.com/ours.git"
    );
    case.finish().await;
}
