//! A TLS server for tests.

#![allow(clippy::expect_used, reason = "a test")]

use std::io::{Read, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;

use rig::pki::Pair;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Serves on a free port with this certificate. Every client that sends anything gets this response.
pub(super) fn serve(pair: &Pair, answer: &'static [u8]) -> SocketAddr {
    self::answer(pair, |stream| {
        let read = stream.read(&mut [0; 4096])?;
        Ok(if read > 0 {
            answer.to_vec()
        } else {
            Vec::new()
        })
    })
}

/// Serves on a free port with this certificate. Every client gets one response.
pub(super) fn answer(
    pair: &Pair,
    answer: impl Fn(&mut dyn Read) -> std::io::Result<Vec<u8>> + Send + 'static,
) -> SocketAddr {
    let certificate = CertificateDer::from_pem_slice(pair.certificate.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.expect("PEM")], key.expect("PEM"));
    let config = Arc::new(config.expect("a server"));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let server = rustls::ServerConnection::new(Arc::clone(&config));
            let mut server = server.expect("a connection");
            let mut stream = rustls::Stream::new(&mut server, &mut stream);
            if let Ok(answer) = answer(&mut stream) {
                let _ = stream.write_all(&answer);
            }
        }
    });
    at
}
