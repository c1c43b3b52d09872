//! A `GitOps` tool that applies the spec by server-side apply beside NICO: no field is fought over, in either direction.

use kube::ResourceExt;
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use crate::common::case::Case;
use crate::common::traffic::RESYNC;
use crate::common::{DEADLINE, listed, nico};

/// Applies the cluster with this spec as a tool of this name does, without force: a conflict is an error.
async fn apply(case: &Case, tool: &str, spec: &Value) -> DynamicObject {
    let cluster = json!({
        "apiVersion": "nico.homystack.com/v1alpha1", "kind": "KubernetesCluster",
        "metadata": {"name": "prod", "labels": {"example.com/tool": "yes"}}, "spec": spec,
    });
    let (params, patch) = (PatchParams::apply(tool), Patch::Apply(cluster));
    let applied = case.world.clusters().patch("prod", &params, &patch).await;
    applied.unwrap_or_else(|error| panic!("{tool}: {error}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_applies_the_spec_again_and_again_meets_no_conflict_and_moves_nothing() {
    let case = Case::with(&nico().args(&RESYNC)).await;
    case.world.machine("cp-01").await;
    let mut spec = listed(&["cp-01"], &[]);
    apply(&case, "flux", &spec).await;
    case.ready("prod").await;
    case.settled("prod").await;

    // Its own field, changed by it alone.
    spec["rollout"] = json!({"maxUnavailable": 2});
    let edited = apply(&case, "flux", &spec).await;
    assert_eq!(edited.metadata.generation, Some(2));
    let is_seen = |status: &Value| status["observedGeneration"] == 2;
    case.world
        .wait_status("prod", "the edit is seen", DEADLINE, is_seen)
        .await;
    case.ready("prod").await;
    case.settled("prod").await;

    let (before, writes) = (
        case.world.clusters().get("prod").await.unwrap(),
        case.proxy.writes().len(),
    );
    assert_eq!(before.finalizers(), ["nico.homystack.com/cluster"]);
    for tool in ["flux", "argocd-controller", "flux"] {
        let after = apply(&case, tool, &spec).await;
        assert_eq!(after.metadata.generation, before.metadata.generation);
        assert_eq!(after.finalizers(), before.finalizers(), "{tool}");
        assert_eq!(after.data["spec"], spec, "no default is written");
        assert_eq!(after.data["status"], before.data["status"], "{tool}");
    }
    case.settled("prod").await;
    assert_eq!(
        case.proxy.writes().len(),
        writes,
        "{}",
        case.proxy.write_lines()
    );
    let owned = before.managed_fields().iter();
    let mut nicos = owned.filter(|it| it.manager.as_deref() == Some("nico"));
    let of_spec = nicos.any(|it| {
        let fields = it.fields_v1.as_ref();
        fields.is_some_and(|it| it.0.get("f:spec").is_some())
    });
    assert!(!of_spec, "{:?}", before.managed_fields());
    case.finish().await;
}
