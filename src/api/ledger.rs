//! The ledger: state that must survive between two passes even if the status is wiped.
//!
//! It is the ConfigMap `<cluster>-nico`. Each key is read by itself: its value is plain text, or JSON for a structure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::names::{ClusterId, Commit, MachineName};
use super::status::Role;

const ID: &str = "id";
const FOUNDED: &str = "founded";
const SLOT: &str = "slot";
const COMMIT: &str = "commit";

/// Most bytes of the value of a key; `None`: the key is ignored. A slot of 1,100 entries has 165 kB, a commit with its repository 2.5 kB.
#[must_use]
pub fn longest_value(key: &str) -> Option<usize> {
    match key {
        ID | FOUNDED => Some(64),
        COMMIT => Some(4 * 1024),
        SLOT => Some(192 * 1024),
        _ => None,
    }
}

const ACTIVE: &str = "active";
const RELEASING: &str = "releasing";

/// Most entries: as many as a cluster can have machines.
const MOST_ENTRIES: usize = 1100;
/// Most characters of a state.
const LONGEST_STATE: usize = 32;

/// State of an entry of the slot.
///
/// A later version may add states, and may be rolled back while the ledger contains one. So a new state must be named by at most 32
/// lower-case letters, and it must be safe that versions which do not know it neither write the machine nor end the entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum EntryState {
    /// The machine may be written under this entry.
    Active,
    /// The entry is about to end; nothing is written under it.
    Releasing,
    /// A state that this version does not know. The machine counts as in flight; it is not written, and the entry stays as it is.
    Unknown(String),
}

impl TryFrom<String> for EntryState {
    type Error = &'static str;

    fn try_from(state: String) -> Result<Self, Self::Error> {
        match state.as_str() {
            ACTIVE => Ok(Self::Active),
            RELEASING => Ok(Self::Releasing),
            _ if (1..=LONGEST_STATE).contains(&state.len())
                && state.bytes().all(|c| c.is_ascii_lowercase()) =>
            {
                Ok(Self::Unknown(state))
            }
            _ => Err("no state of an entry"),
        }
    }
}

impl From<EntryState> for String {
    fn from(state: EntryState) -> Self {
        match state {
            EntryState::Active => ACTIVE.to_owned(),
            EntryState::Releasing => RELEASING.to_owned(),
            EntryState::Unknown(state) => state,
        }
    }
}

/// One machine that may be disrupted now.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Entry {
    /// The machine.
    pub machine: MachineName,
    /// Its role. The slot never has entries of both roles.
    pub role: Role,
    /// Whether it may be written.
    pub state: EntryState,
}

/// The slot: all entries.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Slot {
    /// One control plane machine, or up to `maxUnavailable` workers.
    #[serde(default)]
    pub entries: Vec<Entry>,
    /// The ledger of a founded cluster was created again: no entry is made until every child was touched.
    #[serde(default)]
    pub fencing: bool,
}

impl Slot {
    /// The entry of a machine.
    #[must_use]
    pub fn entry(&self, machine: &MachineName) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.machine == *machine)
    }

    /// The slot with this entry added or renewed.
    #[must_use]
    pub fn with(&self, entry: Entry) -> Self {
        let mut slot = self.without(&entry.machine);
        slot.entries.push(entry);
        slot.entries.sort();
        slot
    }

    /// The slot without the entry of a machine.
    #[must_use]
    pub fn without(&self, machine: &MachineName) -> Self {
        let mut slot = self.clone();
        slot.entries.retain(|entry| entry.machine != *machine);
        slot
    }
}

/// The last resolved commit, and what it was resolved from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pinned {
    /// The repository.
    pub git_repo: String,
    /// Branch, tag or commit; absent: the default branch.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub git_ref: Option<String>,
    /// The commit that the ref resolved to.
    pub commit: Commit,
    /// Since when the spec names that repository and that ref.
    pub since: Timestamp,
}

/// The content of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ledger {
    /// Id of this founding.
    pub id: ClusterId,
    /// Whether the cluster was founded.
    pub founded: bool,
    /// Who may be disrupted.
    pub slot: Slot,
    /// The last resolved commit; absent where NIO follows the ref.
    pub commit: Option<Pinned>,
}

/// Why a ledger cannot be read. NICO does not guess: the user corrects the key or deletes the ledger.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// A key that every ledger has is missing.
    #[error("key {0} is missing")]
    Missing(&'static str),
    /// NICO did not write the value of a key.
    #[error("key {0} does not hold what NICO writes there")]
    Malformed(&'static str),
}

impl Ledger {
    /// The ledger of a cluster that has written nothing else yet.
    #[must_use]
    pub fn new(id: ClusterId, founded: bool) -> Self {
        Self {
            id,
            founded,
            slot: Slot::default(),
            commit: None,
        }
    }

    /// The ConfigMap's data.
    #[must_use]
    pub fn to_data(&self) -> BTreeMap<String, String> {
        let Self {
            id,
            founded,
            slot,
            commit,
        } = self;
        let json = |value: serde_json::Result<String>| value.unwrap_or_default();
        let mut data = BTreeMap::from([
            (ID.to_owned(), id.to_string()),
            (FOUNDED.to_owned(), founded.to_string()),
            (SLOT.to_owned(), json(serde_json::to_string(slot))),
        ]);
        if let Some(commit) = commit {
            data.insert(COMMIT.to_owned(), json(serde_json::to_string(commit)));
        }
        data
    }

    /// Reads the ConfigMap's data. Fails if `id` or `founded` is missing, or if a key does not hold what NICO writes there. The rest is empty
    /// where its key is missing.
    pub fn from_data(data: &BTreeMap<String, String>) -> Result<Self, LedgerError> {
        let id = data.get(ID).ok_or(LedgerError::Missing(ID))?;
        let founded = data.get(FOUNDED).ok_or(LedgerError::Missing(FOUNDED))?;
        let slot: Slot = json_or_default(data, SLOT)?;
        if slot.entries.len() > MOST_ENTRIES {
            return Err(LedgerError::Malformed(SLOT));
        }
        Ok(Self {
            id: ClusterId::parse(id).ok_or(LedgerError::Malformed(ID))?,
            founded: founded
                .parse()
                .map_err(|_| LedgerError::Malformed(FOUNDED))?,
            slot,
            commit: json_or_default(data, COMMIT)?,
        })
    }
}

fn json_or_default<T: Default + serde::de::DeserializeOwned>(
    data: &BTreeMap<String, String>,
    key: &'static str,
) -> Result<T, LedgerError> {
    data.get(key).map_or(Ok(T::default()), |text| {
        serde_json::from_str(text).map_err(|_| LedgerError::Malformed(key))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crate::api::form::Form as _;

    use super::*;

    #[test]
    fn a_ledger_is_read_back_as_it_was_written() {
        let mut ledger = Ledger::new(ClusterId::from_bits(7), true);
        ledger.slot.entries.push(Entry {
            machine: MachineName::parse("cp-01").unwrap(),
            role: Role::ControlPlane,
            state: EntryState::Releasing,
        });
        ledger.commit = Some(Pinned {
            git_repo: "https://example.com/fleet.git".to_owned(),
            git_ref: Some("main".to_owned()),
            commit: Commit::parse(&"0".repeat(40)).unwrap(),
            since: Timestamp::UNIX_EPOCH,
        });
        assert_eq!(Ledger::from_data(&ledger.to_data()), Ok(ledger));
    }

    #[test]
    fn a_key_that_is_not_of_the_ledger_is_passed_over() {
        let ledger = Ledger::new(ClusterId::from_bits(7), true);
        let mut data = ledger.to_data();
        data.insert("mirrors".to_owned(), "[\"nico-ssh-cp-01\"".to_owned());
        assert_eq!(Ledger::from_data(&data), Ok(ledger));
    }

    #[test]
    fn a_pin_that_is_no_commit_is_an_error() {
        let mut data = Ledger::new(ClusterId::from_bits(7), true).to_data();
        let pin = |commit: &str| {
            format!(
                r#"{{"gitRepo":"https://h/x","commit":"{commit}","since":"1970-01-01T00:00:00Z"}}"#
            )
        };
        data.insert(COMMIT.to_owned(), pin(&"a".repeat(40)));
        let read = Ledger::from_data(&data).unwrap();
        assert_eq!(read.to_data(), data);
        for bad in [
            pin(""),
            pin("main"),
            pin(&"A".repeat(40)),
            pin(&"a".repeat(64)),
            "a".repeat(40),
        ] {
            data.insert(COMMIT.to_owned(), bad);
            assert_eq!(
                Ledger::from_data(&data),
                Err(LedgerError::Malformed(COMMIT))
            );
        }
    }

    #[test]
    fn an_entry_in_a_state_of_a_later_version_is_kept_as_it_is() {
        let mut data = Ledger::new(ClusterId::from_bits(7), true).to_data();
        let entry = |state: &str| format!(r#"{{"machine":"w","role":"worker","state":"{state}"}}"#);
        let slot = |entries: &str| format!(r#"{{"entries":[{entries}],"fencing":false}}"#);
        let text = slot(&entry("draining"));
        data.insert(SLOT.to_owned(), text.clone());
        let ledger = Ledger::from_data(&data).unwrap();
        assert_eq!(
            ledger.slot.entries[0].state,
            EntryState::Unknown("draining".to_owned())
        );
        assert_eq!(ledger.to_data()[SLOT], text);
        let many = vec![entry("active"); MOST_ENTRIES + 1].join(",");
        for text in [
            slot(&many),
            slot(&entry("")),
            slot(&entry("a b")),
            slot(&entry(&"a".repeat(33))),
        ] {
            data.insert(SLOT.to_owned(), text);
            assert_eq!(Ledger::from_data(&data), Err(LedgerError::Malformed(SLOT)));
        }
    }

    #[test]
    fn a_ledger_with_a_key_that_nico_did_not_write_is_an_error_that_names_it() {
        let mut data = Ledger::new(ClusterId::from_bits(7), false).to_data();
        data.insert(FOUNDED.to_owned(), "maybe".to_owned());
        assert_eq!(
            Ledger::from_data(&data),
            Err(LedgerError::Malformed(FOUNDED))
        );
        data.remove(ID);
        assert_eq!(Ledger::from_data(&data), Err(LedgerError::Missing(ID)));
    }
}
