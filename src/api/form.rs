//! Texts in objects of others that must have a valid form.

/// The form of a text: it is parsed once, where it is read.
pub trait Form: Sized {
    /// The text, where it has the form.
    fn parse(text: &str) -> Option<Self>;
}
