//! Kubeconfigs as a hostile machine might send them: each is refused with `KubeconfigUnsafe` or rebuilt harmless, and
//! nothing of the machine's own gets into an error or the result.
mod over_ssh;
mod table;

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nico::api::spec::Endpoint;
use nico::remote::kubeconfig::rebuild::{Rebuilt, RebuiltFor, Unsafe, inspect};
use nico::remote::secret::SecretBytes;
use proptest::prelude::*;
use serde_json::json;

use self::table::{Fate, Honest, MARKER, table};

fn target(endpoint: Option<&Endpoint>) -> RebuiltFor<'_> {
    RebuiltFor {
        cluster: "prod",
        machine_address: "10.0.0.11",
        endpoint,
    }
}

/// The files that a machine has beside its kubeconfig.
fn file(path: &str) -> Option<&'static str> {
    (path == "/etc/shadow").then_some("root:$6$EVIL:19000:0:99999:7:::\n")
}

fn rebuild(bytes: &[u8], target: &RebuiltFor<'_>) -> Result<Rebuilt, Unsafe> {
    let parsed = inspect(bytes)?;
    let mut files = BTreeMap::new();
    for (field, path) in parsed.files() {
        if let Some(content) = file(path) {
            files.insert(field, SecretBytes::new(content.as_bytes().to_vec()));
        }
    }
    parsed.finish(&files, target)
}

/// That nothing of the machine's own is in a text, in plain or under base64.
fn assert_clean(name: &str, text: &str) {
    let mut texts = vec![text.to_owned()];
    let decoded = text
        .split('"')
        .filter_map(|word| STANDARD.decode(word).ok());
    texts.extend(decoded.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()));
    for text in texts {
        assert!(!text.contains(MARKER), "{name}: {text}");
    }
}

fn assert_rebuilt(name: &str, rebuilt: &Rebuilt, server: &str) {
    let text = rebuilt.text().expose();
    assert_clean(name, text);
    assert_eq!(rebuilt.server(), server, "{name}");
    let config =
        kube::config::Kubeconfig::from_yaml(text).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(
        config.current_context.as_deref(),
        Some("prod-admin@prod"),
        "{name}"
    );
    assert_eq!(
        (
            config.clusters.len(),
            config.auth_infos.len(),
            config.contexts.len()
        ),
        (1, 1, 1),
        "{name}"
    );
    assert_eq!(config.clusters[0].name, "prod", "{name}");
    assert_eq!(config.auth_infos[0].name, "prod-admin", "{name}");
    let cluster = config.clusters[0].cluster.clone().unwrap();
    assert_eq!(cluster.server.as_deref(), Some(server), "{name}");
    assert!(
        cluster.certificate_authority_data.is_some() && cluster.certificate_authority.is_none(),
        "{name}"
    );
    assert!(
        cluster.proxy_url.is_none() && cluster.insecure_skip_tls_verify.is_none(),
        "{name}"
    );
    let user = config.auth_infos[0].auth_info.clone().unwrap();
    assert!(
        user.exec.is_none() && user.auth_provider.is_none() && user.token_file.is_none(),
        "{name}"
    );
    assert!(
        user.client_key.is_none() && user.username.is_none() && user.impersonate.is_none(),
        "{name}"
    );
    assert!(
        user.token.is_some() != user.client_key_data.is_some(),
        "{name}"
    );
    // What NICO wrote it takes again, unchanged.
    let again =
        rebuild(text.as_bytes(), &target(None)).unwrap_or_else(|why| panic!("{name}: {why}"));
    assert_eq!(again.text().expose(), text, "{name}");
}

fn assert_fate(name: &str, outcome: Result<Rebuilt, Unsafe>, fate: &Fate) {
    match (outcome, fate) {
        (Ok(rebuilt), Fate::Harmless(server)) => assert_rebuilt(name, &rebuilt, server),
        (Err(why), Fate::Refused(expected)) => {
            assert_eq!(&why, expected, "{name}");
            assert_clean(name, &format!("{why} {why:?}"));
        }
        (Ok(_), fate) => panic!("{name}: rebuilt, and not {fate:?}"),
        (Err(why), fate) => panic!("{name}: refused ({why}), and not {fate:?}"),
    }
}

#[test]
fn each_is_refused_or_rebuilt_harmless() {
    let honest = Honest::new();
    let table = table(&honest);
    assert!(table.len() >= 20);
    for (name, bytes, fate) in &table {
        assert_fate(name, rebuild(bytes, &target(None)), fate);
    }
    let refused = table
        .iter()
        .filter(|(_, _, fate)| matches!(fate, Fate::Refused(_)))
        .count();
    println!(
        "{} kubeconfigs: {refused} refused, {} rebuilt harmless",
        table.len(),
        table.len() - refused
    );
}

#[test]
fn the_endpoint_wins_over_what_the_machine_says() {
    let honest = Honest::new();
    for (host, expected) in [
        ("10.0.0.10", "https://10.0.0.10:7443"),
        ("fd00::10", "https://[fd00::10]:7443"),
    ] {
        let endpoint = Endpoint {
            host: host.to_owned(),
            port: 7443,
        };
        let bytes = honest.cluster("server", json!("https://evil.example.org:6443"));
        let rebuilt =
            rebuild(&bytes, &target(Some(&endpoint))).unwrap_or_else(|why| panic!("{why}"));
        assert_rebuilt("endpoint", &rebuilt, expected);
        assert!(!rebuilt.text().expose().contains("evil"));
    }
}

#[test]
fn addresses_of_machines() {
    let honest = Honest::new();
    for (address, expected) in [
        ("fd00::11", Some("https://[fd00::11]:6443")),
        ("cp-01.lan", Some("https://cp-01.lan:6443")),
        ("a b", None),
        ("", None),
    ] {
        let target = RebuiltFor {
            machine_address: address,
            ..target(None)
        };
        let rebuilt = rebuild(&honest.changed(|_| {}), &target);
        assert_eq!(
            rebuilt.as_ref().ok().map(Rebuilt::server),
            expected,
            "{address}"
        );
        assert_eq!(
            rebuilt.err(),
            expected.is_none().then_some(Unsafe::MachineAddress)
        );
    }
}

/// Behind an endpoint, the members may listen on another port.
#[test]
fn the_port_of_the_machines_own_server_is_kept() {
    let honest = Honest::new();
    for (server, endpoint, expected) in [
        ("https://127.0.0.1:7443", None, Some(7443)),
        ("https://127.0.0.1:7443", Some("10.0.0.10"), Some(7443)),
        ("https://10.0.0.11:7443", Some("10.0.0.10"), Some(7443)),
        ("https://10.0.0.11:7443", Some("10.0.0.11"), Some(7443)),
        (
            "https://[::ffff:10.0.0.11]:7443",
            Some("10.0.0.11"),
            Some(7443),
        ),
        // That is the endpoint's own.
        ("https://10.0.0.10:7443", Some("10.0.0.10"), None),
    ] {
        let endpoint = endpoint.map(|host| Endpoint {
            host: host.to_owned(),
            port: 443,
        });
        let bytes = honest.cluster("server", json!(server));
        let rebuilt = rebuild(&bytes, &target(endpoint.as_ref()));
        let port = rebuilt.map(|it| it.member_port());
        assert_eq!(port.ok(), Some(expected), "{server} {endpoint:?}");
    }
}

#[test]
fn a_tls_server_name_is_kept() {
    let honest = Honest::new();
    let rebuilt = rebuild(
        &honest.cluster("tls-server-name", json!("Kubernetes")),
        &target(None),
    );
    let rebuilt = rebuilt.unwrap_or_else(|why| panic!("{why}"));
    assert!(
        rebuilt
            .text()
            .expose()
            .contains("tls-server-name: \"kubernetes\"\n")
    );
}

/// Failures are told, and not written beside the source.
fn cases() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn any_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
        prop_assert!(rebuild(&bytes, &target(None)).is_err());
    }

    #[test]
    fn any_text_is_refused(text in "\\PC{0,400}") {
        prop_assert!(rebuild(text.as_bytes(), &target(None)).is_err());
    }

    #[test]
    fn any_yaml_is_refused(text in "([a-z]{1,3}: |- |\\[|\\{|\\}|\\]|\"|'|\\||>|!|#|\n| ){0,200}") {
        prop_assert!(rebuild(text.as_bytes(), &target(None)).is_err());
    }
}

/// A kubeconfig with pieces changed at random is refused or rebuilt, and then taken again.
#[test]
fn any_damage_is_survived() {
    let honest = Honest::new();
    let good = honest.text().into_bytes();
    let pieces = proptest::collection::vec((0..good.len(), "[ -~\n]{0,12}", 0usize..40), 1..6);
    proptest!(cases(), |(pieces in pieces)| {
        let mut bytes = good.clone();
        for (at, with, instead_of) in pieces {
            let from = at.min(bytes.len());
            let to = (from + instead_of).min(bytes.len());
            bytes.splice(from..to, with.into_bytes());
        }
        if let Ok(rebuilt) = rebuild(&bytes, &target(None)) {
            prop_assert!(rebuild(rebuilt.text().expose().as_bytes(), &target(None)).is_ok());
        }
    });
}
