//! Tests the check of rollouts with constructed histories.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Evidence, Order, Rules, broken_rolls, flights, order};
use crate::nio::{Applied, Attempt, Outcome};
use crate::proxy::Call;

/// A builder for a history. Each step takes a second.
#[derive(Default)]
struct History {
    evidence: Evidence,
    at: u64,
}

impl History {
    /// A founded cluster with three control plane machines and three workers, all confirmed.
    fn brought_up() -> Self {
        let mut history = Self::default();
        history.ledger("false", &[]);
        for machine in ["a", "b", "c", "x", "y", "z"] {
            history.write("POST", machine, "1");
            history.apply(machine, "1");
            history.confirm(machine, "1");
        }
        history.ledger("true", &[]);
        history
    }

    fn now(&self) -> Duration {
        Duration::from_secs(self.at)
    }

    fn call(&mut self, method: &str, path: &str, body: Value) {
        self.at += 1;
        let mut call = Call::parse(method, &format!("/apis/g/v1/namespaces/ns/{path}"), "");
        call.body = Some(body);
        call.code = Some(200);
        call.at = self.now();
        self.evidence.writes.push(call);
    }

    fn ledger(&mut self, founded: &str, active: &[&str]) {
        let entries = active
            .iter()
            .map(|machine| json!({"machine": machine, "state": "active"}));
        let slot = json!({"entries": entries.collect::<Vec<_>>(), "fencing": false}).to_string();
        let body = json!({"data": {"founded": founded, "slot": slot}});
        self.call("PATCH", "configmaps/prod-nico", body);
    }

    fn write(&mut self, method: &str, machine: &str, marker: &str) {
        let list = |names: &str| {
            let members = names.chars().map(|name| json!({ "name": name }));
            members.collect::<Vec<_>>()
        };
        let (members, workers) = (list("abcd"), list("xyz"));
        let text =
            crate::nix::text(&json!({"name": "prod", "controlPlane": members, "workers": workers}));
        let body = json!({"metadata": {"name": machine}, "spec": {"additionalFiles": [
            {"path": "cluster.nix", "inline": text}, {"path": format!(".nico/{marker}")}]}});
        let path = if method == "POST" {
            "nixosconfigurations".to_owned()
        } else {
            format!("nixosconfigurations/{machine}")
        };
        self.call(method, &path, body);
    }

    fn apply(&mut self, machine: &str, marker: &str) {
        self.at += 1;
        let applied = Applied {
            machine: machine.to_owned(),
            marker: Some(format!(".nico/{marker}")),
            ..Applied::default()
        };
        self.evidence.attempts.push(Attempt {
            began: self.now(),
            ended: self.now(),
            applied,
            outcome: Outcome::Success,
        });
    }

    fn confirm(&mut self, machine: &str, marker: &str) {
        let body = json!({"metadata": {"annotations": {"nico.homystack.com/confirmed": marker}}});
        self.call("PATCH", &format!("nixosconfigurations/{machine}"), body);
    }

    /// Sets the response to the last call: the status code, and the confirmed marker of the configuration.
    fn answer(&mut self, code: Option<u16>, confirmed: Option<&str>) {
        if let Some(call) = self.evidence.writes.last_mut() {
            (call.code, call.confirmed) = (code, confirmed.map(str::to_owned));
        }
    }

    fn delete(&mut self, machine: &str) {
        let path = format!("nixosconfigurations/{machine}");
        self.call("DELETE", &path, Value::Null);
    }

    fn gone(&mut self, machine: &str) {
        self.at += 1;
        let gone = (self.now(), machine.to_owned());
        self.evidence.gone.push(gone);
    }

    /// Adds an update under an entry, confirmed at its end.
    fn update(&mut self, machine: &str, marker: &str) {
        self.take_and_write(&[machine], machine, marker);
        self.apply(machine, marker);
        self.confirm(machine, marker);
    }

    fn take_and_write(&mut self, entries: &[&str], machine: &str, marker: &str) {
        self.ledger("true", entries);
        self.write("PATCH", machine, marker);
    }

    fn broken(&self) -> Vec<String> {
        broken_rolls(&self.evidence, &Rules::default())
    }

    /// Asserts that there is exactly one sentence, which is about this rule and contains these words.
    fn one(&self, rules: &Rules, rule: &str, words: &str) {
        let broken = broken_rolls(&self.evidence, rules);
        assert!(
            broken.len() == 1 && broken[0].starts_with(rule) && broken[0].contains(words),
            "{rule}, {words}: {broken:#?}"
        );
    }
}

fn since(history: &History) -> Rules {
    Rules::of(vec![history.now()])
}

#[test]
fn a_roll_by_the_rules() {
    let mut history = History::brought_up();
    let rules = since(&history);
    assert!(flights(&history.evidence).is_empty());
    for machine in ["x", "y", "z", "a", "b", "c"] {
        history.update(machine, "2");
    }
    assert_eq!(broken_rolls(&history.evidence, &rules), [""; 0]);
    let flights = flights(&history.evidence);
    assert!(flights.iter().all(|flight| flight.until.is_some()));
    let machines: Vec<&str> = flights.iter().map(|flight| &*flight.machine).collect();
    assert_eq!(machines, ["x", "y", "z", "a", "b", "c"]);
    assert_eq!(order(&history.evidence, rules.rolls[0]), machines);
    assert_eq!(flights[0].marker.as_deref(), Some("2"));
    assert!(flights[3].control_plane && !flights[2].control_plane);
}

#[test]
fn before_the_founding_and_in_a_deletion_all_go_at_once() {
    let mut history = History::default();
    history.ledger("false", &[]);
    for machine in ["a", "b", "x"] {
        history.write("POST", machine, "1");
        history.delete(machine);
        history.write("POST", machine, "2");
    }
    history.ledger("true", &[]);
    let body = json!({"status": {"phase": "Deleting"}});
    history.call("PATCH", "kubernetesclusters/prod/status", body);
    for machine in ["a", "b", "x"] {
        history.delete(machine);
    }
    assert_eq!(history.broken(), [""; 0]);
    assert!(flights(&history.evidence).is_empty());
}

#[test]
fn two_of_the_control_plane() {
    let mut history = History::brought_up();
    history.take_and_write(&["a"], "a", "2");
    history.apply("a", "2");
    history.take_and_write(&["b"], "b", "2");
    history.one(&Rules::default(), "I3", "b is written while a is in flight");
    // A machine that joins counts as well.
    let mut history = History::brought_up();
    history.take_and_write(&["a"], "a", "2");
    history.ledger("true", &["d"]);
    history.write("POST", "d", "2");
    history.one(&Rules::default(), "I3", "d is written while a is in flight");
}

#[test]
fn a_deletion_lasts_until_the_configuration_is_gone() {
    let deleted = |gone: bool| {
        let mut history = History::brought_up();
        history.ledger("true", &["c"]);
        history.delete("c");
        if gone {
            history.gone("c");
        }
        history.take_and_write(&["a"], "a", "2");
        history
    };
    assert_eq!(deleted(true).broken(), [""; 0]);
    let until = flights(&deleted(true).evidence)[0].until;
    assert!(until.is_some());
    deleted(false).one(&Rules::default(), "I3", "a is written while c is in flight");
}

#[test]
fn too_many_workers() {
    let mut history = History::brought_up();
    history.take_and_write(&["x"], "x", "2");
    history.take_and_write(&["x", "y"], "y", "2");
    history.one(&Rules::default(), "I4", "y is written while x is in flight");
    let two = Rules {
        max_unavailable: 2,
        ..Rules::default()
    };
    assert_eq!(broken_rolls(&history.evidence, &two), [""; 0]);
    history.take_and_write(&["x", "y", "z"], "z", "2");
    history.one(&two, "I4", "z is written while x, y is in flight");
}

#[test]
fn both_kinds_at_once() {
    for (first, second) in [("x", "a"), ("a", "x")] {
        let mut history = History::brought_up();
        history.take_and_write(&[first], first, "2");
        history.take_and_write(&[second], second, "2");
        let words = format!("while {first} of the other kind");
        history.one(&Rules::default(), "I4", &words);
    }
}

#[test]
fn a_machine_in_flight_that_is_rewritten_stays_in_flight() {
    let mut history = History::brought_up();
    history.take_and_write(&["a"], "a", "2");
    history.take_and_write(&["a"], "a", "3");
    history.apply("a", "2");
    history.apply("a", "3");
    assert_eq!(history.broken(), [""; 0]);
    history.take_and_write(&["b"], "b", "3");
    assert_eq!(history.broken().len(), 1);
    assert_eq!(flights(&history.evidence)[0].marker.as_deref(), Some("3"));
}

#[test]
fn against_the_order() {
    let mut history = History::brought_up();
    let rules = since(&history);
    history.update("x", "2");
    history.update("a", "2");
    history.update("y", "2");
    history.one(&rules, "I4", "y is updated after a");
    let control_plane_first = Rules {
        order: Order::ControlPlaneFirst,
        ..rules.clone()
    };
    history.one(&control_plane_first, "I4", "a is updated after x");
    let passed_over = Rules {
        passed_over: ["y".to_owned()].into(),
        ..rules.clone()
    };
    assert_eq!(broken_rolls(&history.evidence, &passed_over), [""; 0]);
    // The order starts again with the next rollout.
    let mut two = rules;
    let y = history.evidence.writes.len() - 3;
    two.rolls.push(history.evidence.writes[y].at);
    assert_eq!(broken_rolls(&history.evidence, &two), [""; 0]);
}

#[test]
fn the_machine_that_failed_is_mended_first() {
    let mut history = History::brought_up();
    let mut rules = since(&history);
    for machine in ["x", "y", "z"] {
        history.update(machine, "2");
    }
    history.take_and_write(&["a"], "a", "2");
    rules.rolls.push(history.now());
    history.update("a", "3");
    history.update("x", "3");
    history.update("b", "3");
    assert_eq!(broken_rolls(&history.evidence, &rules), [""; 0]);
    history.update("y", "3");
    history.one(&rules, "I4", "y is updated after b");
}

/// The API server goes away after it has stored a confirmation, and before it responds.
#[test]
fn a_confirmation_whose_answer_was_lost_counts_once_it_shows() {
    for shows in [false, true] {
        let mut history = History::brought_up();
        history.take_and_write(&["x"], "x", "2");
        history.apply("x", "2");
        history.confirm("x", "2");
        history.answer(None, None);
        let touch = json!({"metadata": {"annotations": {"nico.homystack.com/touched": "1"}}});
        history.call("PATCH", "nixosconfigurations/x", touch);
        history.answer(Some(200), shows.then_some("2"));
        history.update("a", "2");
        if shows {
            assert_eq!(history.broken(), Vec::<String>::new());
        } else {
            history.one(&Rules::default(), "I4", "while x of the other kind");
        }
    }
}

#[test]
fn no_write_without_an_entry() {
    let words = "did not take an entry";
    let mut history = History::brought_up();
    history.write("PATCH", "x", "2");
    history.one(&Rules::default(), "the slot", words);
    let mut history = History::brought_up();
    history.ledger("true", &["y"]);
    history.delete("x");
    history.one(&Rules::default(), "the slot", words);
    // The entry exists, but the ledger was written since.
    let mut history = History::brought_up();
    history.ledger("true", &["x"]);
    history.call(
        "PATCH",
        "configmaps/prod-nico",
        json!({"data": {"commit": "1"}}),
    );
    history.write("PATCH", "x", "2");
    history.one(&Rules::default(), "the slot", words);
    let mut history = History::brought_up();
    let slot = json!({"entries": [{"machine": "x", "state": "releasing"}]}).to_string();
    history.call(
        "PATCH",
        "configmaps/prod-nico",
        json!({"data": {"slot": slot}}),
    );
    history.write("PATCH", "x", "2");
    history.one(&Rules::default(), "the slot", words);
    // A worker that was never confirmed, or joins, needs no entry.
    let mut history = History::brought_up();
    history.write("POST", "w", "2");
    history.write("PATCH", "w", "3");
    assert_eq!(history.broken(), [""; 0]);
}

#[test]
fn nothing_is_confirmed_that_nio_did_not_apply() {
    let mut history = History::brought_up();
    history.take_and_write(&["x"], "x", "2");
    history.confirm("x", "2");
    history.one(&Rules::default(), "I3", "NIO has not applied");
    let mut history = History::brought_up();
    history.take_and_write(&["x"], "x", "2");
    history.confirm("x", "1");
    history.one(&Rules::default(), "I3", "does not hold");
}
