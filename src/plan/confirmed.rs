//! Has exactly the attempt that a configuration holds been applied to its machine?

use crate::api::names::{CONFIRMED_ANNOTATION, Marker, WITHDRAWN};

use super::nio;
use super::observed::Member;

pub use super::nio::Proof;

impl Member<'_> {
    /// The marker that it holds: the path of its last additional file.
    #[must_use]
    pub fn marker(&self) -> Option<Marker> {
        let path = self.held.spec.files().last()?.path()?;
        Marker::from_path(path)
    }

    /// Whether the held attempt is confirmed: the annotation equals the held marker.
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        self.marker()
            .is_some_and(|marker| self.annotation(CONFIRMED_ANNOTATION) == Some(marker.as_str()))
    }

    /// Whether some attempt was ever confirmed: the annotation is there, whatever its value.
    #[must_use]
    pub fn was_confirmed(&self) -> bool {
        self.annotation(CONFIRMED_ANNOTATION).is_some()
    }

    /// Whether NIO's proof was withdrawn.
    #[must_use]
    pub fn is_withdrawn(&self) -> bool {
        self.annotation(CONFIRMED_ANNOTATION) == Some(WITHDRAWN)
    }

    /// What NIO proves now.
    #[must_use]
    pub fn proof(&self) -> Option<Proof> {
        nio::of(self.nio?).proof(self)
    }

    /// What NIO has against it, for a person; `None` where it has nothing.
    #[must_use]
    pub fn complaint(&self) -> Option<String> {
        nio::of(self.nio?).complaint(self)
    }
}
