//! Responses of workload clusters' API servers. They are untrusted: each is limited in size and held in memory once.

use http_body_util::BodyExt as _;
use hyper::Response;
use kube::client::Body;
use serde::de::DeserializeOwned;

use super::offload::ANSWERS;

/// Longest body that is decoded on the async thread. Handing a short one to another thread takes longer than decoding it.
const SHORT: usize = 16 * 1024;

/// The body of a response; `None` if it ended early or is longer than `most`. Each frame is copied and dropped at once: a server that sends
/// single bytes would otherwise make NICO keep a buffer for each.
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

/// Decodes a body, a long one off the async threads.
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

/// Decodes a JSON body; see [`decoded`].
pub(super) async fn json<T: DeserializeOwned + Send + 'static>(body: Vec<u8>) -> Option<T> {
    decoded(body, |body| serde_json::from_slice(body).ok()).await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;

    #[tokio::test]
    async fn no_answer_is_longer_than_it_may_be() {
        for (length, most, expected) in [(0, 0, Some(0)), (9, 9, Some(9)), (10, 9, None)] {
            let response = Response::new(Body::from(vec![b'x'; length]));
            assert_eq!(body(response, most).await.map(|body| body.len()), expected);
        }
    }

    #[tokio::test]
    async fn long_answers_are_decoded_as_short_ones_are() {
        for length in [1, SHORT, 2 * SHORT] {
            let text = "x".repeat(length);
            let answer = json::<String>(format!("\"{text}\"").into_bytes()).await;
            assert_eq!(answer.as_deref(), Some(text.as_str()));
            assert_eq!(json::<String>(vec![b'['; length]).await, None);
        }
    }
}
