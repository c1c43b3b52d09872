//! Writes of one kind to several configurations. They depend on the same reads and not on each other, so they are sent side by side: a
//! cluster of a thousand machines does not wait for a thousand answers, one after the other.

use futures::future::join_all;

use super::{ActError, Executor, Outcome};
use crate::api::ledger::Ledger;
use crate::plan::action::{Action, ChildWrite, ConfigurationWrite, LedgerWrite, Mark};
use crate::plan::writes::{Child, Claim, Precondition, Token};

/// How many writes of a pass are sent side by side. The API server serves all clients at least some dozens at a time, and this many passes
/// may do the same.
const SIDE_BY_SIDE: usize = 4;

/// The actions at the front of a plan that are carried out together.
pub enum Together<'a> {
    /// The ledger and the tokens of a new cluster.
    Births(Vec<Birth<'a>>),
    /// First configurations.
    Claims(Vec<&'a Claim>),
    /// Configurations that NIO has applied, by name.
    Marks(Vec<(&'a str, &'a Precondition, &'a Mark)>),
    /// One action, which is carried out alone.
    One(&'a Action),
}

impl<'a> Together<'a> {
    /// Takes them from the front of `actions`; `None` if there are no more.
    pub fn take_from(actions: &mut &'a [Action]) -> Option<Self> {
        let first = actions.first()?;
        let alike: Vec<_> = actions.iter().take(SIDE_BY_SIDE).collect();
        let births: Vec<_> = alike.iter().map_while(|action| birth(action)).collect();
        let claims: Vec<_> = alike.iter().map_while(|action| joins(action)).collect();
        let marks: Vec<_> = alike.iter().map_while(|action| confirms(action)).collect();
        let taken = births.len().max(claims.len()).max(marks.len()).max(1);
        *actions = &actions[taken..];
        Some(if !births.is_empty() {
            Self::Births(births)
        } else if !claims.is_empty() {
            Self::Claims(claims)
        } else if !marks.is_empty() {
            Self::Marks(marks)
        } else {
            Self::One(first)
        })
    }

    /// Whether another pass must follow, because no watch shows the result.
    #[must_use]
    pub fn wakes(&self) -> bool {
        match self {
            Self::Births(births) => births.iter().any(|it| matches!(it, Birth::Ledger(_))),
            Self::Claims(_) | Self::Marks(_) => false,
            Self::One(action) => action.wakes(),
        }
    }
}

/// A child that each new cluster has.
#[derive(Clone, Copy)]
pub enum Birth<'a> {
    /// The ledger.
    Ledger(&'a Ledger),
    /// A token.
    Token(Token),
}

fn birth(action: &Action) -> Option<Birth<'_>> {
    match action {
        Action::Ledger(LedgerWrite::Create(ledger)) => Some(Birth::Ledger(ledger)),
        Action::Child(ChildWrite::CreateToken(token)) => Some(Birth::Token(*token)),
        _ => None,
    }
}

/// A first configuration. The founder's is created alone and before the others: those that name it without it would be released.
fn joins(action: &Action) -> Option<&Claim> {
    match action {
        Action::Configuration(ConfigurationWrite::Claim(claim)) => {
            (!claim.founds()).then_some(claim)
        }
        _ => None,
    }
}

fn confirms(action: &Action) -> Option<(&str, &Precondition, &Mark)> {
    match action {
        Action::Configuration(ConfigurationWrite::Mark(
            name,
            version,
            mark @ Mark::Confirmed(_),
        )) => Some((name, version, mark)),
        _ => None,
    }
}

impl Executor<'_> {
    /// Creates the ledger and tokens. Afterwards one read shows for all of them whether the cluster is still there.
    pub(in crate::controller) async fn create_together(
        &mut self,
        births: &[Birth<'_>],
    ) -> Result<Outcome, ActError> {
        let (mut tried, mut outcome) = (Vec::new(), Ok(Outcome::Done));
        for birth in births {
            let (child, created) = match *birth {
                Birth::Ledger(ledger) => (Child::Ledger, self.create_ledger(ledger).await),
                Birth::Token(token) => (token.into(), self.create_token(token).await),
            };
            // It may exist although the answer says otherwise, or never came. One that existed before is another operator's.
            if !created.as_ref().is_err_and(ActError::is_stale) {
                tried.push(child);
            }
            if let Err(error) = created {
                outcome = Err(error);
                break;
            }
        }
        self.unless_gone(&tried).await?;
        outcome
    }

    /// Creates configurations. The ledger is read immediately before, so that it is as fresh for the last as for the first.
    pub(in crate::controller) async fn claim_together(
        &mut self,
        claims: &[&Claim],
    ) -> Result<Outcome, ActError> {
        self.ledger_stands().await?;
        let posted = join_all(claims.iter().map(|claim| self.post(claim))).await;
        for (claim, _) in claims.iter().zip(&posted).filter(|(_, it)| it.is_ok()) {
            let claimed = self.claimed.entry(claim.role).or_default();
            claimed.push(claim.machine.clone());
        }
        posted.into_iter().collect::<Result<(), _>>()?;
        Ok(Outcome::Done)
    }

    /// Notes that NIO has applied configurations.
    pub(in crate::controller) async fn mark_together(
        &self,
        marks: &[(&str, &Precondition, &Mark)],
    ) -> Result<Outcome, ActError> {
        let marks = marks.iter();
        let marked = join_all(marks.map(|(name, version, mark)| self.mark(name, version, mark)));
        marked.await.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(Outcome::Done)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use super::*;
    use crate::api::names::{ClusterId, Marker};

    fn confirmed(name: &str, marker: &Marker) -> Action {
        let version = Precondition {
            uid: "uid".to_owned(),
            resource_version: "1".to_owned(),
        };
        let mark = Mark::Confirmed(marker.clone());
        Action::Configuration(ConfigurationWrite::Mark(name.to_owned(), version, mark))
    }

    /// How many actions of each group there are, and whether they are marks.
    fn groups(mut actions: &[Action]) -> Vec<(usize, bool)> {
        let mut groups = Vec::new();
        while let Some(together) = Together::take_from(&mut actions) {
            groups.push(match together {
                Together::Claims(claims) => (claims.len(), false),
                Together::Marks(marks) => (marks.len(), true),
                Together::Births(births) => (births.len(), false),
                Together::One(_) => (1, false),
            });
        }
        groups
    }

    #[test]
    fn a_few_of_one_kind_that_follow_each_other_are_carried_out_together() {
        let names = ["a", "b", "c", "d", "e", "f"];
        let marker = Marker::from_path(".nico/0123456789ab-7").unwrap();
        let mut actions: Vec<Action> = names.map(|name| confirmed(name, &marker)).into();
        assert_eq!(groups(&actions), [(4, true), (2, true)]);
        actions.insert(1, Action::ProbeWorkload);
        assert_eq!(
            groups(&actions),
            [(1, true), (1, false), (4, true), (1, true)]
        );
        assert_eq!(groups(&[]), []);
    }

    /// One read afterwards is enough for all of them.
    #[test]
    fn the_first_children_are_created_together() {
        let ledger = Ledger::new(ClusterId::from_bits(1), false);
        let token = |token| Action::Child(ChildWrite::CreateToken(token));
        let births = [
            Action::Ledger(LedgerWrite::Create(ledger)),
            token(Token::Join),
            token(Token::Worker),
            Action::ProbeWorkload,
        ];
        assert_eq!(groups(&births), [(3, false), (1, false)]);
    }
}
