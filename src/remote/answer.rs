//! Answers of API servers, which are whatever a machine said they are: bounded in size, and kept once.

use http_body_util::BodyExt as _;
use hyper::Response;
use kube::client::Body;
use serde::de::DeserializeOwned;

use super::offload::ANSWERS;

/// Longest answer that is decoded on an async thread: that takes less time than to give it to another.
const SHORT: usize = 16 * 1024;

/// The body of an answer; `None` where it broke off or is longer than `most`. Each piece is let go of as soon as it is copied: a server
/// that sends single bytes would have NICO keep a buffer for each.
pub(super) async fn body(response: Response<Body>, most: usize) -> Option<Vec<u8>> {
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.ok()?.into_data() else {
            continue;
        };
        if bytes.len() + piece.len() > most {
            return None;
        }
        bytes.extend_from_slice(&piece);
    }
    Some(bytes)
}

/// What `decode` makes of an answer, off the async threads where it is long.
pub(super) async fn decoded<T: Send + 'static>(
    body: Vec<u8>,
    decode: impl FnOnce(&[u8]) -> T + Send + 'static,
) -> T {
    if body.len() <= SHORT {
        decode(&body)
    } else {
        ANSWERS.offload(move || decode(&body)).await
    }
}

/// An answer in JSON.
pub(super) async fn json<T: DeserializeOwned + Send + 'static>(body: Vec<u8>) -> Option<T> {
    decoded(body, |body| serde_json::from_slice(body).ok()).await
}
