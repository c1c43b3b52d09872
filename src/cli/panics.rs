//! What a panic says: where it was, and nothing that was put together at run time, since that may hold secret bytes.

use std::any::Any;
use std::panic;

use tracing::error;

/// Has every panic logged in this form.
pub(super) fn tell_where() {
    panic::set_hook(Box::new(|info| {
        let place = info
            .location()
            .map_or_else(|| "unknown".to_owned(), ToString::to_string);
        error!(%place, what = words(info.payload()), "panicked");
    }));
}

/// The words of a panic where the program itself holds them; what was formatted is not shown.
fn words(payload: &(dyn Any + Send)) -> &'static str {
    payload
        .downcast_ref::<&'static str>()
        .copied()
        .unwrap_or("(not shown)")
}

#[cfg(test)]
#[allow(clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn what_was_formatted_is_not_shown() {
        let canary = String::from("c4n4ry");
        let payload = panic::catch_unwind(|| panic!("bad token {canary}"));
        assert_eq!(payload.map_err(|it| words(&*it)), Err("(not shown)"));
        let payload = panic::catch_unwind(|| panic!("a bug"));
        assert_eq!(payload.map_err(|it| words(&*it)), Err("a bug"));
    }
}
