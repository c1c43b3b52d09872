//! Whether NIO applied exactly the attempt that a configuration contains.

use crate::api::names::{CONFIRMED_ANNOTATION, Marker, WITHDRAWN};

use super::nio;
use super::observed::Member;

pub use super::nio::Proof;

impl Member<'_> {
    /// The marker in the configuration: the path of its last additional file.
    #[must_use]
    pub fn marker(&self) -> Option<Marker> {
        Marker::from_path(self.last_path()?)
    }

    fn last_path(&self) -> Option<&str> {
        self.held.spec.files().last()?.path()
    }

    /// Whether the current attempt is confirmed: the annotation equals the marker.
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        let marker = self.last_path().and_then(Marker::text_in);
        marker.is_some() && self.annotation(CONFIRMED_ANNOTATION) == marker
    }

    /// Whether any attempt was ever confirmed: the annotation exists, whatever its value.
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
        nio::for_generation(self.nio?).proof(self)
    }

    /// NIO's error for the configuration, for users; `None` if there is none.
    #[must_use]
    pub fn complaint(&self) -> Option<String> {
        nio::for_generation(self.nio?).complaint(self)
    }
}
