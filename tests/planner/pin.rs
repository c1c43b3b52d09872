//! Which commit is pinned, by what the ledger says and what the git server answered.

use std::sync::Arc;

use nico::api::conditions::{ConditionType, Reason};
use nico::api::form::Form as _;
use nico::api::ledger::{Ledger, Pinned};
use nico::api::names::Commit;
use nico::api::nio::Generation;
use nico::plan::action::{Action, LedgerWrite};
use nico::plan::desired::{Compared, Difference};
use nico::plan::observed::{GitAnswer, LedgerView, Observed};
use nico::plan::pin::{Pin, pin};
use nico::plan::writes::Precondition;
use nico::plan::{founding, prerequisites, selection, targets};
use serde_json::{Value, json};

use crate::given::{cluster, given, planned, settled};

/// A cluster under NIO v1, as one operator sees it.
struct Operator {
    observed: Observed,
    now: jiff::Timestamp,
    settings: nico::plan::Settings,
}

fn commit(digit: char) -> Commit {
    Commit::parse(&digit.to_string().repeat(40)).unwrap()
}

fn operator(git_ref: Value) -> Operator {
    let cluster = cluster().control_plane(["a"]);
    let cluster = match git_ref {
        Value::Null => cluster,
        git_ref => cluster.set("ref", git_ref),
    };
    let given = given(cluster).machines(["a"]);
    let seen = given
        .and(|world| world.nio = Some(Generation::V1))
        .when(planned);
    let mut operator = Operator {
        observed: seen.observed,
        now: seen.world.now,
        settings: seen.world.settings,
    };
    let ledger = Ledger::new(operator.observed.fresh_id.clone(), true);
    operator.observed.ledger = LedgerView::Ours(version(0), ledger);
    operator
}

fn version(number: u32) -> Precondition {
    Precondition {
        uid: "ledger".to_owned(),
        resource_version: number.to_string(),
    }
}

impl Operator {
    fn pin(&self) -> Pin {
        let spec = self.observed.spec.as_ref().unwrap();
        pin(&self.observed, spec, &self.settings, self.now)
    }

    fn set(&mut self, change: impl FnOnce(&mut nico::api::spec::ValidSpec)) {
        let mut spec = (**self.observed.spec.as_ref().unwrap()).clone();
        change(&mut spec);
        self.observed.spec = Ok(spec.into());
    }

    /// The git server answers what it is asked now.
    fn answers(&mut self, answer: Result<Commit, &str>) {
        let question = self.pin().question.expect("the server is asked");
        let answer = answer.map_err(str::to_owned);
        self.observed.resolved = Some(GitAnswer { question, answer });
    }

    /// What is pinned is noted in the ledger; whether that took a write.
    fn notes(&mut self) -> bool {
        match self.pin().noted(&self.observed, None) {
            Some(LedgerWrite::Update(_, ledger)) => {
                self.observed.ledger = LedgerView::Ours(version(1), ledger);
                true
            }
            Some(LedgerWrite::Create(_)) => panic!("it exists"),
            None => false,
        }
    }

    fn target(&self) -> Option<Commit> {
        self.pin().target.map(|pinned| pinned.commit)
    }

    fn noted(&self) -> Option<&Pinned> {
        self.observed.ledger.ours().unwrap().commit.as_ref()
    }
}

#[test]
fn nothing_is_sent_before_the_first_resolution() {
    let mut operator = operator(json!("main"));
    let spec = || operator.observed.spec.clone().unwrap();
    let cause = operator.pin().git_ref(&spec()).unwrap_err();
    assert_eq!(cause.reason, Reason::RefUnresolved);
    operator.answers(Err("the server hangs"));
    let spec = operator.observed.spec.clone().unwrap();
    let cause = operator.pin().git_ref(&spec).unwrap_err();
    assert!(
        cause.message.contains("the server hangs"),
        "{}",
        cause.message
    );
    operator.answers(Ok(commit('a')));
    let sent = operator.pin().git_ref(&spec);
    assert_eq!(sent, Ok(Some(commit('a').to_string())));
}

/// NIO applies `main` where `ref` is not set, and NICO pins what NIO would apply. A person who set neither field learns what they mean.
#[test]
fn fields_that_are_not_set_mean_what_they_mean_to_nio() {
    let mut operator = operator(Value::Null);
    let asked = operator.pin().question.expect("the server is asked");
    assert_eq!(asked.git_ref.as_deref(), Some("main"));
    operator.answers(Err("there is no branch main"));
    let message = |operator: &Operator| operator.pin().unresolved.unwrap().message;
    let told = message(&operator);
    for words in [
        "there is no branch main",
        "spec.ref is not set, which means main",
        "spec.refPolicy is not set, which means Pin",
    ] {
        assert!(told.contains(words), "{told}");
    }
    operator.set(|spec| {
        spec.git_ref = Some("main".to_owned());
        spec.ref_policy = Some(nico::api::spec::RefPolicy::Pin);
    });
    operator.answers(Err("there is no branch main"));
    assert!(!message(&operator).contains("is not set"));
    // To write `main` down, or to take it out, changes nothing.
    operator.answers(Ok(commit('a')));
    assert!(operator.notes());
    operator.set(|spec| spec.git_ref = None);
    assert_eq!(operator.target(), Some(commit('a')));
    assert!(!operator.notes());
}

#[test]
fn the_last_resolved_commit_stays_the_target_while_the_server_is_away() {
    let mut operator = operator(json!("main"));
    operator.answers(Ok(commit('a')));
    assert!(operator.notes());
    // A restart: nothing but the ledger is left.
    operator.observed.resolved = None;
    assert_eq!(operator.target(), Some(commit('a')));
    assert_eq!(operator.pin().report().waits, []);
    operator.answers(Err("gone"));
    assert_eq!(operator.target(), Some(commit('a')));
    let waits = operator.pin().report().waits;
    assert_eq!(waits.len(), 1);
    assert_eq!(waits[0].cause.reason, Reason::RefUnresolved);
    assert!(!operator.notes());
}

#[test]
fn a_push_is_noted_and_a_note_of_another_operator_is_not_undone() {
    let mut operator = operator(Value::Null);
    operator.answers(Ok(commit('a')));
    assert!(operator.notes());
    let since = operator.noted().unwrap().since;
    operator.now += std::time::Duration::from_secs(60);
    operator.answers(Ok(commit('b')));
    assert_eq!(operator.target(), Some(commit('b')));
    let before = operator.observed.ledger.clone();
    assert!(operator.notes());
    assert!(!operator.notes());
    assert_eq!(
        operator.noted().unwrap().since,
        since,
        "the spec is the same"
    );

    // The other operator has the same answer as before; meanwhile this one's next push was noted.
    let after = operator.observed.ledger.clone();
    operator.observed.ledger = before;
    operator.answers(Ok(commit('a')));
    operator.observed.ledger = after;
    assert_eq!(operator.target(), Some(commit('b')));
    assert!(!operator.notes());
}

#[test]
fn another_ref_or_repository_is_resolved_anew() {
    type Change = fn(&mut nico::api::spec::ValidSpec);
    let changes: [Change; 3] = [
        |spec| spec.git_ref = Some("other".to_owned()),
        |spec| spec.git_ref = Some("HEAD".to_owned()),
        |spec| spec.git_repo = Some("https://example.com/other.git".to_owned()),
    ];
    for change in changes {
        let mut operator = operator(json!("main"));
        operator.answers(Ok(commit('a')));
        operator.notes();
        operator.now += std::time::Duration::from_secs(60);
        operator.set(change);
        assert_eq!(operator.target(), None);
        operator.answers(Ok(commit('b')));
        assert!(operator.notes());
        let noted = operator.noted().unwrap();
        assert_eq!((&noted.commit, noted.since), (&commit('b'), operator.now));
    }
}

#[test]
fn credentials_that_changed_ask_anew_and_keep_the_target() {
    let mut operator = operator(json!("main"));
    operator.answers(Ok(commit('a')));
    operator.notes();
    operator.answers(Err("refused"));
    operator.set(|spec| spec.credentials = Some("git".to_owned()));
    assert_eq!(operator.target(), Some(commit('a')));
    assert_eq!(
        operator.pin().unresolved,
        None,
        "it was not asked with these"
    );
}

#[test]
fn a_commit_is_asked_of_nobody_and_replaces_what_was_noted() {
    let mut operator = operator(json!("main"));
    operator.answers(Ok(commit('b')));
    operator.notes();
    operator.set(|spec| spec.git_ref = Some(commit('a').as_str().to_ascii_uppercase()));
    assert_eq!(operator.pin().question, None);
    assert_eq!(operator.target(), Some(commit('a')));
    assert!(operator.notes());
    assert!(!operator.notes());
    // Back to the branch: what it named once is no target any more. Where nothing is asked, an answer is forgotten.
    operator.observed.resolved = None;
    operator.set(|spec| spec.git_ref = Some("main".to_owned()));
    assert_eq!(operator.target(), None);
}

#[test]
fn who_follows_pins_nothing_and_forgets() {
    use nico::api::spec::RefPolicy::{Follow, Pin as Pins};
    for (nio, policy, pins) in [
        (Generation::V1, None, true),
        (Generation::V1, Some(Pins), true),
        (Generation::V1, Some(Follow), false),
        (Generation::Classic, None, false),
        (Generation::Classic, Some(Follow), false),
    ] {
        let mut operator = operator(json!("main"));
        operator.answers(Ok(commit('a')));
        operator.notes();
        operator.observed.nio = Some(nio);
        operator.set(|spec| spec.ref_policy = policy);
        let pin = operator.pin();
        assert_eq!(
            (pin.pins(), pin.target.is_some()),
            (pins, pins),
            "{nio:?} {policy:?}"
        );
        assert_eq!(pin.question.is_some(), pins);
        assert_eq!(operator.notes(), !pins);
        assert_eq!(operator.noted().is_some(), pins);
        if !pins {
            let spec = operator.observed.spec.clone().unwrap();
            assert_eq!(pin.git_ref(&spec), Ok(Some("main".to_owned())));
        }
    }
}

/// What was written for another ref in the second in which the spec changed is not taken for a push, which would wait.
#[test]
fn the_ledger_says_to_the_millisecond_since_when_a_ref_is_named() {
    let mut operator = operator(json!("main"));
    operator.now += jiff::SignedDuration::from_millis(700);
    operator.answers(Ok(commit('a')));
    assert!(operator.notes());
    assert_eq!(operator.noted().unwrap().since, operator.now);
    operator.set(|spec| spec.git_ref = Some("other".to_owned()));
    operator.answers(Ok(commit('b')));
    let planned = nico::plan::plan(&operator.observed, operator.now, &operator.settings);
    let since = planned.actions.iter().find_map(|it| match it {
        Action::Ledger(LedgerWrite::Update(_, ledger)) => ledger.commit.as_ref(),
        _ => None,
    });
    assert_eq!(since.map(|it| it.since), Some(operator.now));
}

/// Classic fails at a commit in `ref`: it is refused before the first machine is written.
#[test]
fn classic_is_given_no_commit() {
    let refused = |spec: &[(&str, Value)]| {
        let cluster = spec
            .iter()
            .fold(cluster().control_plane(["a"]), |it, (field, value)| {
                it.set(field, value.clone())
            });
        let seen = given(cluster).machines(["a"]).when(settled);
        let told = seen.condition(ConditionType::Stalled).clone();
        (told.reason == "PinNotSupported").then_some(told.message)
    };
    let one = json!(commit('a').as_str());
    assert_eq!(refused(&[("ref", json!("main"))]), None);
    let told = refused(&[("ref", one.clone())]).unwrap();
    assert!(
        told.contains("spec.ref: ") && told.contains("name a branch"),
        "{told}"
    );
    assert!(refused(&[("ref", one.clone()), ("refPolicy", json!("Follow"))]).is_some());
    let told = refused(&[("ref", one), ("refPolicy", json!("Pin"))]).unwrap();
    assert!(told.contains("spec.refPolicy: "), "{told}");
}

/// A new commit by itself waits for the confirmation of what is being applied; one that the spec asks for does not.
#[test]
fn a_pushed_commit_is_told_from_one_that_the_spec_asks_for() {
    let held = commit('a');
    given(
        cluster()
            .control_plane(["a"])
            .set("ref", json!(held.as_str())),
    )
    .machines(["a"])
    .and(|world| world.nio = Some(Generation::V1))
    .when(settled)
    .then(|seen| {
        let observed = &seen.observed;
        let spec = prerequisites::spec(observed).unwrap();
        let selection = selection::choose(observed, spec);
        let none = Pin::default();
        let prerequisites =
            prerequisites::check(observed, spec, &seen.world.settings, &none).unwrap();
        let founding = founding::founding(observed, &selection).unwrap();
        let targets = targets::targets(observed, &prerequisites, &founding, &selection);
        let (machine, target) = targets.first_key_value().unwrap();
        let member = observed.member(machine).unwrap();
        let written = member.written().unwrap();
        let later = written + std::time::Duration::from_secs(1);
        let differences = |since, git_ref: &Commit| {
            let mut target = target.clone();
            let common = Arc::make_mut(&mut target.common);
            common.git_ref = Some(git_ref.to_string());
            common.pinned_since = since;
            let revision = target.revision();
            target.differences(&member, Some(&revision), &mut Compared::default())
        };
        assert_eq!(differences(Some(written), &held), []);
        for (since, expected, waits) in [
            (None, Difference::Ref, false),
            (Some(later), Difference::Ref, false),
            (Some(written), Difference::Commit, true),
        ] {
            assert_eq!(differences(since, &commit('b')), [expected]);
            assert_eq!(expected.comes_by_itself(), waits);
        }
    });
}
