//! Tells TLS errors from other connection errors.

use std::error::Error;
use std::io;

/// The TLS error among the causes of an error. Its text may quote certificates.
pub(super) fn error_of<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(tls);
        }
        let inner = error.downcast_ref::<io::Error>();
        if let Some(tls) = inner
            .and_then(io::Error::get_ref)
            .and_then(|inner| error_of(inner))
        {
            return Some(tls);
        }
        next = error.source();
    }
    None
}
