//! What each fault does to a call.

use std::io;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde_json::json;

use super::{Body, Effect};

/// What the client gets instead of the response `body` (`None`: the API server did not get the call).
pub(super) async fn strike(effect: &Effect, body: Option<&Bytes>) -> io::Result<Response<Body>> {
    let answer = |code: StatusCode, kind: &str, text: Vec<u8>| {
        let mut answer = Response::new(BodyExt::boxed(Full::new(Bytes::from(text))));
        *answer.status_mut() = code;
        let kind = kind.parse().map_err(io::Error::other)?;
        answer.headers_mut().insert(CONTENT_TYPE, kind);
        Ok(answer)
    };
    let cut = || Err(io::Error::from(io::ErrorKind::ConnectionReset));
    match effect {
        Effect::Status(code) => {
            let (code, status) = failure(*code, "a fault of the rig")?;
            let mut answer = answer(code, "application/json", status)?;
            if code == StatusCode::TOO_MANY_REQUESTS {
                answer.headers_mut().insert(RETRY_AFTER, 1.into());
            }
            Ok(answer)
        }
        Effect::Reset => cut(),
        Effect::Hang => std::future::pending().await,
        Effect::Truncated => {
            let whole = body.map_or(b"{\"kind\":\"Status\"".as_slice(), |body| body.as_ref());
            let mut answer = answer(
                StatusCode::OK,
                "application/json",
                whole[..whole.len() / 2].to_vec(),
            )?;
            answer.headers_mut().remove(CONTENT_LENGTH);
            Ok(answer)
        }
        Effect::Html => answer(
            StatusCode::OK,
            "text/html",
            b"<html><body>Please log in</body></html>".to_vec(),
        ),
        Effect::Echo(code) => {
            let quoted = String::from_utf8_lossy(body.map_or(b"".as_slice(), AsRef::as_ref));
            let (code, status) = failure(*code, &format!("refused: {quoted}"))?;
            answer(code, "application/json", status)
        }
        Effect::Kill(switch) => {
            switch.press().await;
            cut()
        }
        Effect::Gate(gate) => {
            gate.hold().await;
            cut()
        }
        Effect::Call(call) => {
            call();
            cut()
        }
    }
}

/// A status code with its `Status` object.
fn failure(code: u16, message: &str) -> io::Result<(StatusCode, Vec<u8>)> {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "reason": reason(code), "code": code, "message": message});
    let code = StatusCode::from_u16(code).map_err(io::Error::other)?;
    Ok((code, status.to_string().into_bytes()))
}

fn reason(code: u16) -> &'static str {
    match code {
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        410 => "Expired",
        422 => "Invalid",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "InternalError",
    }
}
