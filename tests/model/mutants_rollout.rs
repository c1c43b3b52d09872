//! The planner with a rule of rolling updates broken (`mutants.rs`).

use crate::mutants::Mutant;

pub const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "quorum is one less",
        found_by: "searches::three_without_a_quorum",
        edits: &[("src/plan/quorum.rs", "    n / 2 + 1\n", "    n / 2\n")],
    },
    Mutant {
        name: "a sick one is changed with one healthy one too few",
        found_by: "searches::three_without_a_quorum",
        edits: &[(
            "src/plan/quorum.rs",
            "    healthy >= quorum(n)\n",
            "    healthy + 1 >= quorum(n)\n",
        )],
    },
    Mutant {
        name: "a newcomer does not count in the quorum that it joins",
        found_by: "searches::a_control_plane_that_grows",
        edits: &[(
            "src/plan/quorum.rs",
            "    healthy >= quorum(n + 1)\n",
            "    healthy >= quorum(n)\n",
        )],
    },
    Mutant {
        name: "a marker without generation",
        found_by: "searches::two_workers",
        edits: &[(
            "src/plan/desired.rs",
            "Marker::at_generation(&self.revision(), generation);",
            "Marker::at_generation(&self.revision(), generation - generation);",
        )],
    },
    Mutant {
        name: "the confirmation of an older attempt is accepted",
        found_by: "searches::three_and_one",
        edits: &[(
            "src/plan/confirmed.rs",
            "held_marker(configuration).is_some_and(|marker| kept(configuration) == Some(marker.as_str()))",
            "held_marker(configuration).is_some_and(|_| kept(configuration).is_some())",
        )],
    },
    Mutant {
        name: "NIO's proof of an older attempt is accepted",
        found_by: "searches::three_and_one",
        // `withdrawn` alone would keep the entry: both comparisons go.
        edits: &[
            (
                "src/plan/confirmed.rs",
                "    held_marker(configuration).is_some()
        && classics_proof(configuration, machine)
            .is_some_and(|applied| applied == additional_files_hash(configuration.spec.files()))",
                "    held_marker(configuration).is_some()
        && classics_proof(configuration, machine).is_some()",
            ),
            (
                "src/plan/confirmed.rs",
                ".is_some_and(|applied| applied != additional_files_hash(configuration.spec.files())),",
                ".is_some_and(str::is_empty),",
            ),
        ],
    },
    Mutant {
        name: "bootstrap is kept after the founding",
        found_by: "searches::two_workers",
        edits: &[(
            "src/plan/targets.rs",
            "                bootstrap: bootstrap.clone(),\n",
            "                bootstrap: bootstrap.clone().or(Some(machine.to_string())),\n",
        )],
    },
    Mutant {
        name: "a lost quorum touches healthy ones",
        found_by: "searches::three_without_a_quorum",
        edits: &[
            (
                "src/plan/rollout/scene/numbers.rs",
                "Health::Healthy => quorum::bears_loss_of_healthy(n, healthy),",
                "Health::Healthy => quorum::bears_loss_of_healthy(n, healthy) || self.leads_out(machine),",
            ),
            (
                "src/plan/rollout/scene.rs",
                "            && self.health(machine) == Health::Sick\n",
                "",
            ),
        ],
    },
    Mutant {
        name: "unknown counts as healthy",
        found_by: "searches::three_with_an_outage",
        edits: &[(
            "src/plan/health.rs",
            "            Health::Unknown => numbers.unknown += 1,",
            "            Health::Unknown => numbers.healthy += 1,",
        )],
    },
    Mutant {
        name: "unknown ones are as good as a lost quorum",
        found_by: "searches::three_with_an_outage",
        edits: &[(
            "src/plan/health.rs",
            "self.healthy + self.unknown < quorum::quorum(self.n)",
            "self.healthy < quorum::quorum(self.n)",
        )],
    },
    Mutant {
        name: "members that are not confirmed are not in flight",
        found_by: "searches::a_lost_ledger",
        edits: &[(
            "src/plan/slot.rs",
            "if counts && (!is_confirmed(configuration) || older_runs) {",
            "if counts && older_runs {",
        )],
    },
    Mutant {
        name: "an older attempt that lost its entry is not in flight",
        found_by: "searches::a_lost_ledger",
        edits: &[(
            "src/plan/slot.rs",
            "if counts && (!is_confirmed(configuration) || older_runs) {",
            "if counts && !is_confirmed(configuration) {",
        )],
    },
    Mutant {
        name: "a newcomer of the control plane is written anew without the slot",
        found_by: "searches::a_lost_ledger",
        edits: &[(
            "src/plan/rollout.rs",
            "let lives = founding.founded && target.role == Role::ControlPlane;",
            "let lives = false;",
        )],
    },
    Mutant {
        name: "a worker is written anew without the slot",
        found_by: "searches::three_and_one",
        edits: &[(
            "src/plan/rollout.rs",
            "            || once_confirmed(held)\n",
            "            || once_confirmed(held) && target.role == Role::ControlPlane\n",
        )],
    },
    Mutant {
        name: "one of two leaves though nobody said so",
        found_by: "searches::a_control_plane_that_shrinks",
        edits: &[(
            "src/plan/rollout/scene/numbers.rs",
            "(accepted != Some(machine.as_str())).then(",
            "(accepted == Some(machine.as_str())).then(",
        )],
    },
    Mutant {
        name: "workers and control plane at once",
        found_by: "searches::three_and_one",
        edits: &[(
            "src/plan/rollout/scene/turn.rs",
            "others().filter(|(_, flight)| stands_in_the_way(flight));",
            "others().filter(|(_, flight)| flight.role == role && stands_in_the_way(flight));",
        )],
    },
    Mutant {
        name: "the control plane goes before outdated workers",
        found_by: "searches::three_and_one",
        edits: &[(
            "src/plan/rollout/scene/turn.rs",
            "        if role == first {\n            return None;",
            "        if role == first || role == Role::ControlPlane {\n            return None;",
        )],
    },
    Mutant {
        name: "more workers than maxUnavailable",
        found_by: "searches::two_workers",
        edits: &[(
            "src/plan/rollout/scene/turn.rs",
            "            Some((other, _)) if full => Some(in_flight(machine, other)),",
            "            Some((other, _)) if full && entered > 1 => Some(in_flight(machine, other)),",
        )],
    },
    Mutant {
        name: "`rewritten` is ignored",
        found_by: "searches::three_whose_nio_forgets",
        edits: &[(
            "src/plan/slot.rs",
            "        && older_attempt(observed, configuration, now).is_none()\n",
            "        && (older_attempt(observed, configuration, now).is_none() || true)\n",
        )],
    },
    Mutant {
        name: "`rewritten` is not noted",
        found_by: "searches::three_whose_nio_forgets",
        edits: &[(
            "src/plan/rollout.rs",
            "                of_three && unfinished,\n",
            "                of_three && unfinished && !scene.founded,\n",
        )],
    },
    Mutant {
        name: "an entry is removed while its machine is in flight",
        found_by: "searches::five",
        edits: &[
            (
                "src/plan/slot.rs",
                "    is_confirmed(configuration)
        && configuration.metadata.deletion_timestamp.is_none()
",
                "    configuration.metadata.deletion_timestamp.is_none()\n",
            ),
            (
                "src/plan/slot.rs",
                "if counts && (!is_confirmed(configuration) || older_runs) {",
                "if counts && older_runs {",
            ),
        ],
    },
    Mutant {
        name: "an entry is in hand whatever the ledger says",
        found_by: "searches::two_operators",
        edits: &[(
            "src/plan/slot.rs",
            "(version == taken && active && !ledger.slot.fencing).then(|| Self {",
            "(version == taken && active || ledger.founded).then(|| Self {",
        )],
    },
    Mutant {
        name: "an entry ends without `releasing`",
        found_by: "searches::two_operators",
        edits: &[(
            "src/plan/slot.rs",
            "    if entry.state == EntryState::Active {\n        let releasing",
            "    if entry.state == EntryState::Active && owned(observed, &entry.machine).is_none() {\n        let releasing",
        )],
    },
    Mutant {
        name: "a ledger made anew opens at once",
        found_by: "searches::a_lost_ledger",
        edits: &[(
            "src/plan/founding.rs",
            "            ledger.slot.fencing = founding.founded;\n",
            "            ledger.slot.fencing = false;\n",
        )],
    },
    Mutant {
        name: "nobody waits where there is no child",
        found_by: "searches::a_control_plane_that_grows",
        edits: &[(
            "src/plan/slot.rs",
            "    if waited < LATE_REQUESTS {\n        plan.look_again_in(LATE_REQUESTS.saturating_sub(waited));\n    } else if",
            "    if waited < Duration::ZERO {\n        plan.look_again_in(LATE_REQUESTS.saturating_sub(waited));\n    } else if",
        )],
    },
];
