use std::net::SocketAddr;

use rig::pki::{Authority, Validity};

use super::*;
use crate::remote::kubeconfig::pem_text;
use crate::remote::test_server;

const DEADLINE: Duration = Duration::from_secs(10);

/// A ready API server, with a certificate for these names and addresses.
fn server(authority: &Authority, names: &[&str], addresses: &[IpAddr]) -> SocketAddr {
    let pair = authority.serving(names, addresses, Validity::default());
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    test_server::serve(&pair.expect("a certificate"), answer)
}

/// A kubeconfig for this host, with this `tls-server-name` unless it is empty.
fn kubeconfig(authority: &Authority, server: &str, tls_server_name: &str) -> SecretText {
    let authority = pem_text::encode(authority.certificate());
    let name = if tls_server_name.is_empty() {
        String::new()
    } else {
        format!(", tls-server-name: {tls_server_name}")
    };
    SecretText::new(format!(
        "clusters: [{{name: c, cluster: {{server: \"https://{server}\", certificate-authority-data: {authority}{name}}}}}]\n\
         users: [{{name: u, user: {{token: t}}}}]\n"
    ))
}

async fn reach(kubeconfig: &SecretText, at: SocketAddr) -> Result<u16, Unreached> {
    reach_at(kubeconfig, &at.ip().to_string(), at.port()).await
}

async fn reach_at(kubeconfig: &SecretText, host: &str, port: u16) -> Result<u16, Unreached> {
    let addresses = vec![host.to_owned()];
    let members = members(kubeconfig, addresses, Some(port), DEADLINE).await;
    let [Some(member)] = members.as_slice() else {
        panic!("the kubeconfig is of no use");
    };
    Ok(member.reach().await?.1)
}

#[tokio::test]
async fn a_member_is_asked_under_a_name_that_its_certificate_has() {
    let authority = Authority::new("kubernetes").expect("an authority");
    let own = [IpAddr::from([127, 0, 0, 1])];
    for (names, addresses, leads_to, tls_server_name) in [
        (&["kubernetes"][..], &[][..], "vip.example", ""),
        (&["kubernetes.default.svc"], &[], "vip.example", ""),
        (
            &["kubernetes.default.svc.cluster.local"],
            &[],
            "10.0.0.10",
            "",
        ),
        (&["cp-01.lab"], &own, "vip.example", ""),
        (&["vip.example"], &[], "vip.example", ""),
        (&["odd.example"], &[], "10.0.0.10", "odd.example"),
    ] {
        let at = server(&authority, names, addresses);
        let kubeconfig = kubeconfig(&authority, leads_to, tls_server_name);
        assert_eq!(reach(&kubeconfig, at).await, Ok(200), "{names:?}");
    }
}

/// Name servers that do not answer take all threads that the runtime has for such lookups.
#[test]
fn a_member_is_reached_by_its_name_while_lookups_of_others_hang() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().max_blocking_threads(1).build();
    let runtime = runtime.expect("a runtime");
    let (hold, wait) = std::sync::mpsc::channel::<()>();
    runtime.spawn_blocking(move || wait.recv());
    let authority = Authority::new("kubernetes").expect("an authority");
    let at = server(&authority, &["kubernetes"], &[]);
    let kubeconfig = kubeconfig(&authority, "vip.example", "");
    let reached = runtime.block_on(reach_at(&kubeconfig, "localhost", at.port()));
    assert_eq!(reached, Ok(200));
    drop(hold);
}

#[tokio::test]
async fn a_certificate_of_no_fitting_name_is_told_with_the_names_it_has() {
    let authority = Authority::new("kubernetes").expect("an authority");
    let address = [IpAddr::from([10, 0, 0, 9])];
    let at = server(&authority, &["cp-01.lab"], &address);
    let kubeconfig = kubeconfig(&authority, "10.0.0.10", "");
    let tls = reach(&kubeconfig, at)
        .await
        .err()
        .and_then(|error| error.tls);
    let tls = tls.unwrap_or_default();
    let asked = "its certificate has none of the names kubernetes, 127.0.0.1, kubernetes.default.svc, kubernetes.default, kubernetes.default.svc.cluster.local, 10.0.0.10";
    assert!(tls.starts_with(asked), "{tls}");
    assert!(tls.contains("but cp-01.lab, 10.0.0.9;"), "{tls}");
}

#[tokio::test]
async fn what_else_is_wrong_with_tls_is_told_and_silence_is_not() {
    let authority = Authority::new("kubernetes").expect("an authority");
    let other = Authority::new("kubernetes").expect("an authority");
    let at = server(&other, &["kubernetes"], &[]);
    let text = kubeconfig(&authority, "10.0.0.10", "");
    let tls = reach(&text, at).await.err().and_then(|error| error.tls);
    let reason = "its certificate is not signed by the authority in the kubeconfig";
    assert_eq!(tls.as_deref(), Some(reason));
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = closed.local_addr().expect("its address");
    drop(closed);
    assert_eq!(reach(&text, at).await, Err(Unreached { tls: None }));
}

#[test]
fn names_of_a_certificate_are_shown_where_they_are_plain() {
    let many: Vec<String> = (0..20).map(|n| format!("IpAddress(10.0.0.{n})")).collect();
    assert_eq!(shown_names(&many).len(), MOST_SHOWN);
    let presented = [
        "DnsName(\"Kubernetes.default.svc\")",
        "DnsName(\"*.lab.example\")",
        "IpAddress(10.0.0.1)",
        "IpAddress(fd00::1)",
        "IpAddress(00:01)",
        "DnsName(\"\u{1b}[31m\")",
        "DnsName(\"a b\")",
        "DirectoryName",
        "UniformResourceIdentifier(\"spiffe://x\")",
    ];
    let shown = shown_names(&presented.map(str::to_owned));
    let plain = [
        "kubernetes.default.svc",
        "*.lab.example",
        "10.0.0.1",
        "fd00::1",
    ];
    assert_eq!(shown, plain);
}
