//! Random choices from a list of bytes that proptest draws and shrinks: an empty list chooses the first of everything.

use proptest::prelude::*;

/// Choices still to be made.
#[derive(Clone, Debug)]
pub struct Source {
    bytes: Vec<u8>,
    next: usize,
}

/// Lists of up to `length` bytes.
pub fn sources(length: usize) -> impl Strategy<Value = Source> {
    proptest::collection::vec(any::<u8>(), 0..length).prop_map(|bytes| Source { bytes, next: 0 })
}

/// How many cases a property is tried with; `PROPTEST_CASES` says otherwise.
pub fn cases(default: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok();
    ProptestConfig {
        cases: asked
            .and_then(|cases| cases.parse().ok())
            .unwrap_or(default),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

impl Source {
    fn byte(&mut self) -> usize {
        let byte = self.bytes.get(self.next).copied().unwrap_or_default();
        self.next += 1;
        byte.into()
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        self.byte() % n.max(1)
    }

    /// True once in `n` times; never where nothing is left.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.byte() % n == n - 1
    }

    pub fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())].clone()
    }

    /// Whether all bytes were used.
    pub fn is_spent(&self) -> bool {
        self.next >= self.bytes.len()
    }
}
