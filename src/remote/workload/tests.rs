#![allow(clippy::expect_used, reason = "a test")]

use std::io::Read;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rig::pki::{Authority, Validity};

use super::*;
use crate::remote::test_server;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";

/// A cluster whose one member tells of each request, with what `told` says then.
fn cluster<T: Send + 'static>(
    told: impl Fn() -> T + Send + 'static,
) -> (WorkloadApi, mpsc::Receiver<(String, T)>) {
    let authority = Authority::new("kubernetes").expect("an authority");
    let own = [IpAddr::from([127, 0, 0, 1])];
    let pair = authority.serving(&["kubernetes"], &own, Validity::default());
    let (tell, requests) = mpsc::channel();
    let answer = move |stream: &mut dyn Read| {
        let mut request = [0; 4096];
        let length = stream.read(&mut request)?;
        let line = String::from_utf8_lossy(&request[..length]);
        let line = line.lines().next().unwrap_or_default().to_owned();
        let _ = tell.send((line, told()));
        Ok(OK.to_vec())
    };
    let at = test_server::answer(&pair.expect("a certificate"), answer);
    let authority = STANDARD.encode(authority.certificate());
    let kubeconfig = SecretText::new(format!(
        "clusters: [{{name: c, cluster: {{server: \"https://{at}\", certificate-authority-data: {authority}}}}}]\n\
         users: [{{name: u, user: {{token: t}}}}]\n"
    ));
    let members = vec![ApiServer {
        machine: MachineName::parse("cp-01").expect("a name"),
        address: at.ip().to_string(),
    }];
    let api = WorkloadApi {
        kubeconfig,
        members,
        port: None,
    };
    (api, requests)
}

/// A member that does not answer has no write on its way. A process that stops need not wait for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_to_a_node_is_on_its_way_only_while_it_is_sent() {
    let under_way = Arc::new(());
    let (shown, begun) = (Arc::clone(&under_way), Arc::new(AtomicUsize::new(0)));
    let (api, requests) = cluster(move || Arc::strong_count(&shown) - 2);
    let longest = || Duration::from_secs(60);
    let begin = || {
        begun.fetch_add(1, SeqCst);
        Some(Arc::clone(&under_way))
    };
    let status = api.delete_node("w-01", "u", longest, begin).await;
    assert_eq!(status, Some(200));
    assert_eq!(begun.load(SeqCst), 1);
    let seen: Vec<_> = requests.try_iter().collect();
    let expected = [
        ("GET /readyz HTTP/1.1", 0),
        ("DELETE /api/v1/nodes/w-01 HTTP/1.1", 1),
    ];
    assert_eq!(seen, expected.map(|(line, count)| (line.to_owned(), count)));
    assert_eq!(Arc::strong_count(&under_way), 2, "it has ended");

    let stopping = || None::<()>;
    let marks = Marks::none(false);
    let status = api.mark_node("w-01", "u", &marks, longest, stopping).await;
    assert_eq!(status, None);
    let seen: Vec<_> = requests.try_iter().map(|(line, _)| line).collect();
    assert_eq!(seen, ["GET /readyz HTTP/1.1"]);
}
