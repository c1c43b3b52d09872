//! The mark of a drain that lands after its entry has ended is seen, and undone.

use nico::plan::action::{Action, KubeconfigWork};
use nico::plan::observed::WorkloadHealth;
use nico::plan::plan;

use crate::given::{PROD, Seen, planned, settled};
use crate::rollout::{ready, rolled};

#[test]
fn a_settled_cluster_is_asked_as_often_as_its_kubeconfig_is_tried() {
    let mut seen = ready().when(planned);
    seen.observed.workload = WorkloadHealth::NotProbed;
    seen.observed.workload_is_old = true;
    let actions = |seen: &Seen| {
        let plan = plan(&seen.observed, seen.world.now, &seen.world.settings);
        assert!(!plan.needs_probe, "nothing is held up by it");
        plan.actions
    };
    assert_eq!(actions(&seen), []);
    seen.observed.kubeconfig.try_again = true;
    assert_eq!(
        actions(&seen),
        [
            Action::Kubeconfig(KubeconfigWork::Verify),
            Action::ProbeWorkload
        ]
    );
    seen.observed.workload_is_old = false;
    assert_eq!(actions(&seen), [Action::Kubeconfig(KubeconfigWork::Verify)]);
}

#[test]
fn a_late_mark_is_undone() {
    ready()
        .when(|world| {
            let now = world.now;
            let node = world.nodes.get_mut("w").unwrap();
            node.draining_since = Some(now);
            node.cordoned = true;
            node.unschedulable = true;
        })
        .when(settled)
        .then(|seen| {
            assert!(seen.world.ready(PROD), "{}", seen.world.story());
            assert_eq!(rolled(&seen.world), ["w stays"]);
            let node = &seen.world.nodes["w"];
            assert!(!node.unschedulable && !node.cordoned && node.draining_since.is_none());
        });
}
