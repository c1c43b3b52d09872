//! Which keys were pinned for a machine, to tell later whether any of them still is.

use std::collections::BTreeSet;

use russh::keys::HashAlg;
use russh::keys::ssh_key::Fingerprint;
use russh::keys::ssh_key::public::KeyData;

/// Most keys that are remembered of one host. The text can have more than a thousand.
const MOST_HELD: usize = 64;

/// The keys that lines hold for a host, and whether the line has a marker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeldKeys {
    keys: BTreeSet<(bool, Fingerprint)>,
    /// Whether there were more than are remembered.
    too_many: bool,
}

impl HeldKeys {
    pub(super) fn of<'a>(keys: impl Iterator<Item = (bool, &'a KeyData)>) -> Self {
        let mut held = Self::default();
        for (is_marked, key) in keys {
            held.add((is_marked, key.fingerprint(HashAlg::Sha256)));
            if held.too_many {
                break;
            }
        }
        held
    }

    /// Adds others.
    pub fn extend(&mut self, others: Self) {
        self.too_many |= others.too_many;
        for key in others.keys {
            self.add(key);
        }
    }

    /// Whether certainly none of these keys is among the others.
    #[must_use]
    pub fn is_disjoint(&self, others: &Self) -> bool {
        !self.too_many && !others.too_many && self.keys.is_disjoint(&others.keys)
    }

    fn add(&mut self, key: (bool, Fingerprint)) {
        self.too_many |= self.keys.len() >= MOST_HELD && !self.keys.contains(&key);
        if !self.too_many {
            self.keys.insert(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use russh::keys::ssh_key::public::Ed25519PublicKey;

    use super::*;

    /// A tenant can pin other keys again and again, and as many as a ConfigMap holds.
    #[test]
    fn few_keys_are_remembered() {
        let of = |range: Range<u8>| {
            let keys: Vec<KeyData> = range.map(|n| Ed25519PublicKey([n; 32]).into()).collect();
            HeldKeys::of(keys.iter().map(|key| (false, key)))
        };
        let mut kept = of(0..60);
        assert!(kept.is_disjoint(&of(100..160)) && !kept.is_disjoint(&of(59..100)));
        kept.extend(of(60..64));
        assert!(kept.is_disjoint(&of(100..160)));
        // With one more, nobody knows.
        kept.extend(of(64..65));
        assert!(!kept.is_disjoint(&of(100..160)));
        assert!(!of(0..10).is_disjoint(&of(100..200)));
        // One key may stand in any number of lines.
        let [first, last] = [0, 1].map(|n| KeyData::from(Ed25519PublicKey([n; 32])));
        let lines = std::iter::repeat_n(&first, 1000).chain([&last]);
        let both = HeldKeys::of(lines.map(|key| (false, key)));
        assert!(!both.is_disjoint(&of(1..2)) && both.is_disjoint(&of(2..3)));
        let before = kept.clone();
        kept.extend(of(200..250));
        assert_eq!(kept, before);
    }
}
