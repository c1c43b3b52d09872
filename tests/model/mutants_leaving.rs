//! The planner with a rule of deletion or of leaving broken (`mutants.rs`).

use crate::mutants::Mutant;

pub const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "the finalizer goes while configurations are waited for",
        found_by: "deletions::in_the_middle_of_a_roll",
        edits: &[(
            "src/plan/release.rs",
            "    strip_forced(observed, plan);\n    if",
            "    plan.actions.push(without_finalizer(observed));\n    strip_forced(observed, plan);\n    if",
        )],
    },
    Mutant {
        name: "the last configuration is not waited for",
        found_by: "deletions::in_the_middle_of_a_roll",
        edits: &[(
            "src/plan/release.rs",
            "    if !waiting_for.is_empty() {",
            "    if waiting_for.len() > 1 {",
        )],
    },
    Mutant {
        name: "the tokens go first",
        found_by: "deletions::in_the_middle_of_a_roll",
        edits: &[(
            "src/plan/release.rs",
            "    strip_forced(observed, plan);\n    if",
            "    plan.actions.extend(Child::ALL.map(Action::DeleteChild));\n    strip_forced(observed, plan);\n    if",
        )],
    },
    Mutant {
        name: "the ledger goes before the Secrets",
        found_by: "deletions::in_the_middle_of_a_roll",
        edits: &[(
            "src/plan/release.rs",
            "    plan.actions.extend(Child::ALL.map(Action::DeleteChild));\n",
            "    plan.actions.extend(Child::ALL.into_iter().rev().map(Action::DeleteChild));\n",
        )],
    },
    Mutant {
        name: "the ledger is left behind",
        found_by: "deletions::in_the_middle_of_a_roll",
        edits: &[(
            "src/plan/release.rs",
            "    plan.actions.extend(Child::ALL.map(Action::DeleteChild));\n",
            "    plan.actions.extend(Child::ALL.into_iter().take(4).map(Action::DeleteChild));\n",
        )],
    },
    Mutant {
        name: "a machine that is not confirmed is not given back",
        found_by: "deletions::while_it_comes_up",
        edits: &[(
            "src/plan/release.rs",
            "        if configuration.metadata.deletion_timestamp.is_none() {",
            "        if configuration.metadata.deletion_timestamp.is_none() && super::confirmed::is_confirmed(configuration) {",
        )],
    },
    Mutant {
        name: "it goes on as ever until the first machine is given back",
        found_by: "deletions::while_it_comes_up",
        edits: &[(
            "src/plan/mod.rs",
            "    if observed.cluster.deleting {",
            "    if observed.cluster.deleting && observed.owned().next().is_some() {",
        )],
    },
    Mutant {
        name: "the marks of a drain stay on who stays",
        found_by: "leaving::a_worker_is_drained",
        edits: &[(
            "src/plan/rollout.rs",
            "    if undrain(&scene, plan) || end_entries(&scene, plan) {",
            "    if end_entries(&scene, plan) {",
        )],
    },
    Mutant {
        name: "the mark of a drain is seen by nobody where it comes late",
        found_by: "leaving::a_worker_is_drained_by_two",
        edits: &[(
            "src/plan/rollout.rs",
            "asks && observed.kubeconfig.try_again;",
            "asks && observed.kubeconfig.try_again && pending;",
        )],
    },
    Mutant {
        name: "a Node is made schedulable that NICO did not make unschedulable",
        found_by: "leaving::a_worker_is_drained",
        edits: &[(
            "src/plan/rollout.rs",
            "                cordoned: node.cordoned,",
            "                cordoned: true,",
        )],
    },
    Mutant {
        name: "what a person made unschedulable is noted as NICO's",
        found_by: "leaving::a_worker_is_drained",
        edits: &[(
            "src/plan/rollout/scene/step.rs",
            "            cordon: !node.unschedulable || node.cordoned,",
            "            cordon: true,",
        )],
    },
    Mutant {
        name: "a machine leaves with its pods",
        found_by: "leaving::a_worker_is_drained",
        edits: &[(
            "src/plan/rollout/scene/step.rs",
            "        if node.pods_left == Some(0) ||",
            "        if node.pods_left.is_some() ||",
        )],
    },
    Mutant {
        name: "a mark of an earlier drain counts",
        found_by: "leaving::a_control_plane_machine_is_drained",
        edits: &[(
            "src/plan/rollout/scene/step.rs",
            "        if drained_for > patience.saturating_add(OLD_MARK) {",
            "        if drained_for > patience.saturating_mul(1000).saturating_add(OLD_MARK) {",
        )],
    },
    Mutant {
        name: "nobody waits for the Node of the one that left",
        found_by: "leaving::two_control_plane_machines_are_drained",
        edits: &[
            (
                "src/plan/rollout/scene/step.rs",
                "            if let Some(node) = health::node(self.observed, machine) {",
                "            if let Some(node) = health::node(self.observed, machine).filter(|_| joins) {",
            ),
            (
                "src/plan/slot.rs",
                "        || !asks_the_cluster(observed, founded)\n",
                "        || founded\n",
            ),
        ],
    },
    Mutant {
        name: "one leaves while another is in flight",
        found_by: "leaving::two_control_plane_machines_are_drained",
        edits: &[(
            "src/plan/rollout/scene.rs",
            "            .others(machine)\n",
            "            .others(machine)\n            .filter(|_| !matches!(step, Step::Drain { .. } | Step::Release))\n",
        )],
    },
    Mutant {
        name: "one of two is drained though nobody said so",
        found_by: "leaving::one_of_two_is_not_drained",
        edits: &[(
            "src/plan/rollout/scene/numbers.rs",
            "            Step::Drain { .. } | Step::Release if !quorum",
            "            Step::Release if !quorum",
        )],
    },
    Mutant {
        name: "a healthy one leaves whatever the numbers",
        found_by: "leaving::another_one_goes_down_meanwhile",
        edits: &[(
            "src/plan/rollout/scene/numbers.rs",
            "                    Health::Healthy => quorum::bears_loss_of_healthy(n, healthy),",
            "                    Health::Healthy => quorum::bears_loss_of_healthy(n, healthy) || *step == Step::Release,",
        )],
    },
];
