//! The commit that machines get if NICO pins it (`refPolicy: Pin`). A branch or tag is resolved in the background, and a new commit is
//! rolled out like any other change. The last resolved commit is in the ledger: it stays the target while the git server cannot be reached.

use jiff::Timestamp;

use crate::api::conditions::{Cause, ConditionType, Reason};
use crate::api::ledger::Pinned;
use crate::api::names::Commit;
use crate::api::spec::{RefPolicy, ValidSpec};

use super::action::LedgerWrite;
use super::nio;
use super::observed::{GitQuestion, LedgerView, Observed};
use super::output::Output;
use super::settings::Settings;

/// Default of `ref` in NIO's schema: NICO resolves the same.
pub const DEFAULT_REF: &str = "main";

/// The pinned commit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pin {
    /// The commit that machines get. If NICO pins and there is none yet, nothing is written.
    pub target: Option<Pinned>,
    /// The question to the git server.
    pub question: Option<GitQuestion>,
    /// Why the ref cannot be resolved now.
    pub unresolved: Option<Cause>,
}

/// Determines the pinned commit of a cluster.
#[must_use]
pub fn pin(observed: &Observed, spec: &ValidSpec, settings: &Settings, now: Timestamp) -> Pin {
    let git_repo = spec.git_repo.as_ref();
    let git_repo = git_repo.or(settings.default_git_repo.as_ref());
    let can = observed.nio.map(nio::for_generation);
    let can = can.is_some_and(|nio| nio.refuses_pin().is_none());
    let (Some(git_repo), true) = (git_repo, can && spec.ref_policy != Some(RefPolicy::Follow))
    else {
        return Pin::default();
    };
    let named = spec.git_ref.as_ref();
    let git_ref = Some(named.map_or(DEFAULT_REF, String::as_str).to_owned());
    // A commit of another repository or ref does not count.
    let ledger = observed.ledger.ours();
    let held = ledger.and_then(|ledger| ledger.commit.as_ref());
    let held = held.filter(|it| it.git_repo == *git_repo && it.git_ref == git_ref);
    let pinned = |commit: Commit| Pinned {
        git_repo: git_repo.clone(),
        git_ref: git_ref.clone(),
        commit,
        since: held.map_or(now, |held| held.since),
    };
    if let Some(commit) = named.and_then(|it| Commit::named_by(it)) {
        return Pin {
            target: Some(pinned(commit)),
            ..Pin::default()
        };
    }
    let question = GitQuestion {
        git_repo: git_repo.clone(),
        git_ref: git_ref.clone(),
        credentials: spec.credentials.clone(),
        held: held.map(|held| held.commit.clone()),
    };
    // An answer counts only if the commit in the ledger is unchanged since the question: another operator may have noted a newer one.
    let answer = observed.resolved.as_ref();
    let answer = answer.filter(|it| it.question == question);
    let answer = answer.map(|it| it.answer.clone());
    let defaults = defaults(spec);
    let (resolved, failure) = match answer {
        Some(Ok(commit)) => (Some(pinned(commit)), None),
        Some(Err(why)) => (None, Some(why)),
        None => (None, None),
    };
    let target = resolved.or_else(|| held.cloned());
    let unresolved = match (failure, &target) {
        (Some(why), Some(held)) => Some(format!(
            "{why}; the machines keep to {}{defaults}",
            held.commit
        )),
        (Some(why), None) => Some(format!("{why}; nothing is written before{defaults}")),
        (None, None) => Some(format!("spec.ref is being resolved to a commit{defaults}")),
        (None, Some(_)) => None,
    };
    Pin {
        target,
        question: Some(question),
        unresolved: unresolved.map(|message| Cause::new(Reason::RefUnresolved, message)),
    }
}

/// The defaults of fields that the spec does not set, as the end of a message.
fn defaults(spec: &ValidSpec) -> String {
    let fields = [
        ("ref", DEFAULT_REF, spec.git_ref.is_none()),
        ("refPolicy", "Pin", spec.ref_policy.is_none()),
    ];
    let fields = fields.into_iter().filter(|(_, _, absent)| *absent);
    let fields = fields.map(|(field, value, _)| {
        format!("; spec.{field} is not set, which means {value} with this NIO")
    });
    fields.collect()
}

impl Pin {
    /// Whether NICO pins. Otherwise NIO follows the ref.
    #[must_use]
    pub fn pins(&self) -> bool {
        self.target.is_some() || self.unresolved.is_some()
    }

    /// The `ref` in configurations. `Err` if it is not known yet.
    pub fn git_ref(&self, spec: &ValidSpec) -> Result<Option<String>, Cause> {
        match (&self.target, &self.unresolved) {
            (Some(target), _) => Ok(Some(target.commit.to_string())),
            (None, Some(cause)) => Err(cause.clone()),
            (None, None) => Ok(spec.git_ref.clone()),
        }
    }

    /// A cluster that has a target keeps working while the git server cannot be reached.
    pub fn report(&self) -> Output {
        let mut output = Output::default();
        if let (Some(_), Some(cause)) = (&self.target, &self.unresolved) {
            output.wait_because(ConditionType::Ready, cause.clone());
        }
        output
    }

    /// The write that notes the commit in the ledger; `None` if the ledger has it already. If there is no ledger yet, it is created just
    /// before the first claim.
    #[must_use]
    pub fn noted(&self, observed: &Observed, write: Option<LedgerWrite>) -> Option<LedgerWrite> {
        let update = || match &observed.ledger {
            LedgerView::Ours(version, ledger) if ledger.commit != self.target => {
                Some(LedgerWrite::Update(version.clone(), ledger.clone()))
            }
            _ => None,
        };
        let mut write = write.or_else(update)?;
        let (LedgerWrite::Create(ledger) | LedgerWrite::Update(_, ledger)) = &mut write;
        ledger.commit.clone_from(&self.target);
        Some(write)
    }
}
