//! The log line of a panic: its place, and its message only if that is a constant. A formatted message may hold secret bytes.

use std::any::Any;
use std::panic;

use tracing::error;

/// Logs every panic in this form.
pub(super) fn log_panics() {
    panic::set_hook(Box::new(|info| {
        let place = info
            .location()
            .map_or_else(|| "unknown".to_owned(), ToString::to_string);
        error!(%place, what = constant_message(info.payload()), "panicked");
    }));
}

/// The message of a panic if it is a constant; a formatted one is not shown.
fn constant_message(payload: &(dyn Any + Send)) -> &'static str {
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
        assert_eq!(
            payload.map_err(|payload| constant_message(&*payload)),
            Err("(not shown)")
        );
        let payload = panic::catch_unwind(|| panic!("a bug"));
        assert_eq!(
            payload.map_err(|payload| constant_message(&*payload)),
            Err("a bug")
        );
    }
}
