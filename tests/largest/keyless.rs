//! Many Machines that match a selector and name no SSH key: what one snapshot of them costs.

use std::sync::Arc;

use nico::api::cluster::RawCluster;
use nico::api::names::{ClusterId, MachineName};
use nico::api::nio::Generation;
use nico::api::status::Role;
use nico::api::validate::validate;
use nico::plan::assemble::assemble;
use nico::plan::facts::{Facts, Freshness, KubeconfigAnswer, Read};
use nico::plan::observed::{ClusterView, Fetch, Works};
use serde_json::json;

use crate::life::discoverable;

/// All is read, and that many candidates are at hand.
pub fn facts(candidates: usize) -> Facts {
    let selector = json!({"count": 1, "machineSelector": {"matchLabels": {"a": "b"}}});
    let spec = json!({"gitRepo": "https://example.com/a.git", "controlPlane": selector});
    let raw = json!({
        "apiVersion": "nico.homystack.com/v1alpha1", "kind": "KubernetesCluster",
        "metadata": {"name": "prod", "namespace": "default"}, "spec": spec,
    });
    let raw: RawCluster = serde_json::from_value(raw).unwrap();
    let valid = validate("prod", &raw.spec).unwrap();
    let view = ClusterView {
        namespace: "default".to_owned(),
        name: "prod".to_owned(),
        uid: "u".to_owned(),
        ..ClusterView::default()
    };
    let mut facts = Facts::new(view, Ok(Arc::new(valid)), ClusterId::from_bits(1));
    facts.nio = Some(Generation::Classic);
    for number in 0..candidates {
        let name = MachineName::parse(&format!("m-{number:05}")).unwrap();
        let mut machine = discoverable(name.as_str(), "10.0.0.1");
        machine.metadata.labels = Some([("a".to_owned(), "b".to_owned())].into());
        facts.machines.insert(name, Some(Arc::new(machine)));
    }
    facts.candidates.insert(Role::ControlPlane);
    while let Err(needs) = assemble(&facts) {
        assert!(needs.machines.is_empty() && needs.candidates.is_empty());
        let freshness = Freshness::Live;
        for name in needs.maps.into_keys() {
            let found = None;
            facts.maps.insert(name, Read { found, freshness });
        }
        for name in needs.secrets.into_keys() {
            let found = None;
            facts.secrets.insert(name, Read { found, freshness });
        }
        let answer = KubeconfigAnswer {
            works: Works::Unknown,
            failures: 0,
            try_again: false,
            fetch: Fetch::default(),
        };
        facts.kubeconfig = needs.kubeconfig.map(|asked| (asked, answer));
    }
    facts
}
