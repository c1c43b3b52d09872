//! HTTP servers that answer in odd ways: each answer ends in an error, within bounded time and memory.

use super::servers::raw;
use super::{DEADLINE, SHORT, password};
use crate::remote::git::{GitError, Reach, resolve};

const TYPE: &str = "Content-Type: application/x-git-upload-pack-advertisement\r\n";

/// What a server is found to be that answers with `begin`, and then with `rest` without end.
async fn answered(begin: &str, rest: &str) -> GitError {
    let (begin, rest) = (begin.as_bytes().to_vec(), rest.as_bytes().to_vec());
    // Only what never ends may take until the deadline.
    let deadline = if rest.is_empty() { DEADLINE } else { 2 * SHORT };
    let at = raw(move |sent| match begin.get(sent..) {
        Some(begin) if !begin.is_empty() => Some(begin.to_vec()),
        _ => (!rest.is_empty()).then(|| rest.clone()),
    })
    .await;
    let url = format!("http://{at}/x");
    let found = resolve(
        &url,
        Some("main"),
        &password("a-secret"),
        Reach::Host,
        deadline,
    )
    .await;
    let error = found.expect_err("it is no git server");
    assert!(
        !format!("{error} {error:?}").contains("a-secret"),
        "{error}"
    );
    error
}

#[tokio::test]
async fn endless_answers_of_each_kind_end() {
    let ok = format!("HTTP/1.1 200 OK\r\n{TYPE}");
    let chunk = format!("1000\r\n{}\r\n", "0".repeat(0x1000));
    for (begin, rest) in [
        (format!("{ok}Transfer-Encoding: chunked\r\n\r\n"), chunk),
        (
            format!("{ok}Content-Length: 99999999999\r\n\r\n"),
            "0".repeat(4096),
        ),
        (ok, "X-More: of the same\r\n".repeat(100)),
        (String::new(), "HTTP/1.1 100 Continue\r\n\r\n".repeat(100)),
        ("HTTP/1.1 500 Oops\r\n\r\n".to_owned(), "0".repeat(4096)),
        ("HTTP/1.1 401 No\r\n\r\n".to_owned(), "0".repeat(4096)),
        (String::new(), "0".repeat(4096)),
    ] {
        let error = answered(&begin, &rest).await;
        let is_of_git = matches!(
            error,
            GitError::NotGit { .. }
                | GitError::Unreachable { .. }
                | GitError::Timeout { .. }
                | GitError::Refused { .. }
        );
        assert!(is_of_git, "{begin}: {error:?}");
    }
}

/// NICO does not ask for compressed answers: unpacked, a short one may be endless.
#[tokio::test]
async fn compressed_answers_and_other_types_are_not_read() {
    let length = "Content-Length: 4\r\n";
    for head in [
        format!("HTTP/1.1 200 OK\r\n{TYPE}Content-Encoding: gzip\r\n{length}"),
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n{length}"),
        format!("HTTP/1.1 200 OK\r\n{length}"),
        format!("HTTP/1.1 204 No\r\n{TYPE}"),
        format!("HTTP/1.1 206 Part\r\n{TYPE}{length}"),
        format!("HTTP/1.1 304 Same\r\n{TYPE}"),
        format!("HTTP/1.1 302 There\r\n{length}"),
    ] {
        let error = answered(&format!("{head}\r\n\u{1f}xxx"), "").await;
        assert!(
            matches!(error, GitError::NotGit { .. }),
            "{head}: {error:?}"
        );
    }
}
