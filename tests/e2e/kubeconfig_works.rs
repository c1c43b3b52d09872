//! Trying a kubeconfig against a real API server: what works, and what each failure is told as.
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nico::remote::kubeconfig::rebuild::Unsafe;
use nico::remote::kubeconfig::verify::{VerifyError, verify};
use nico::remote::secret::SecretText;
use rig::control_plane::{self, ControlPlane, Options};
use rig::pki::{Authority, Validity};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// How long a server is given.
const DEADLINE: Duration = Duration::from_secs(10);

async fn api() -> &'static ControlPlane {
    control_plane::shared(Options::default())
        .await
        .unwrap_or_else(|error| panic!("{error}"))
}

async fn tried(text: &str) -> Result<(), VerifyError> {
    verify(&SecretText::new(text.to_owned()), DEADLINE).await
}

fn with_server(text: &str, server: &str) -> String {
    let mut config: Value = serde_yaml::from_str(text).unwrap();
    config["clusters"][0]["cluster"]["server"] = json!(server);
    serde_yaml::to_string(&config).unwrap()
}

#[tokio::test]
async fn the_administrators_works() {
    let api = api().await;
    assert_eq!(tried(api.admin_kubeconfig()).await, Ok(()));
}

#[tokio::test]
async fn those_who_may_not_list_nodes_are_told_apart() {
    let api = api().await;
    let nobody = api
        .client_cert_kubeconfig(None, "nobody", None, Validity::default())
        .unwrap();
    let error = tried(&nobody).await.unwrap_err();
    assert!(
        matches!(error, VerifyError::Unauthorised { status: 403, .. }),
        "{error}"
    );
    let stranger = api.token_kubeconfig(None, "CANARY-token").unwrap();
    let error = tried(&stranger).await.unwrap_err();
    assert!(
        matches!(error, VerifyError::Unauthorised { status: 401, .. }),
        "{error}"
    );
    assert!(!format!("{error} {error:?}").contains("CANARY"));
}

#[tokio::test]
async fn a_server_that_another_authority_signed_is_not_trusted() {
    let api = api().await;
    let mut config: Value = serde_yaml::from_str(api.admin_kubeconfig()).unwrap();
    let other = Authority::new("kubernetes").unwrap();
    let data = k8s_openapi::ByteString(other.certificate().as_bytes().to_vec());
    config["clusters"][0]["cluster"]["certificate-authority-data"] = json!(data);
    let error = tried(&serde_yaml::to_string(&config).unwrap())
        .await
        .unwrap_err();
    assert!(matches!(error, VerifyError::Tls { .. }), "{error}");
    assert!(
        error.to_string().contains("authority in the kubeconfig"),
        "{error}"
    );
}

/// The server only says 401, or ends the handshake; the certificate says why.
#[tokio::test]
async fn a_client_certificate_that_is_not_valid_now_is_named() {
    let api = api().await;
    let now = Timestamp::now();
    let hour = Duration::from_secs(3600);
    for (from, to, cause) in [
        (now - 2 * hour, now - hour, "it expired on"),
        (now + hour, now + 2 * hour, "it is not valid before"),
    ] {
        let validity = Validity {
            not_before: from,
            not_after: to,
        };
        let text = api.client_cert_kubeconfig(None, "admin", Some("system:masters"), validity);
        let error = tried(&text.unwrap()).await.unwrap_err();
        assert!(
            matches!(error, VerifyError::ClientCertificate { .. }),
            "{error}"
        );
        let message = error.to_string();
        assert!(
            message.contains(cause) && message.contains("NICO's clock says"),
            "{message}"
        );
    }
}

#[tokio::test]
async fn an_authority_that_is_none_is_named() {
    let api = api().await;
    let mut config: Value = serde_yaml::from_str(api.admin_kubeconfig()).unwrap();
    let other = Authority::new("kubernetes").unwrap();
    let leaf = other.client("admin", None, Validity::default()).unwrap();
    let data = k8s_openapi::ByteString(leaf.certificate.into_bytes());
    config["clusters"][0]["cluster"]["certificate-authority-data"] = json!(data);
    let error = tried(&serde_yaml::to_string(&config).unwrap())
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("is no certificate authority"),
        "{error}"
    );
}

#[tokio::test]
async fn an_address_that_the_certificate_does_not_cover_is_told() {
    let api = api().await;
    let mut config: Value = serde_yaml::from_str(api.admin_kubeconfig()).unwrap();
    config["clusters"][0]["cluster"]["tls-server-name"] = json!("elsewhere.example.org");
    let error = tried(&serde_yaml::to_string(&config).unwrap())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("does not cover"), "{error}");
}

#[tokio::test]
async fn a_closed_port_and_one_that_hangs() {
    let api = api().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let text = with_server(api.admin_kubeconfig(), &format!("https://{address}"));
    let start = Instant::now();
    let error = verify(&SecretText::new(text.clone()), Duration::from_millis(300))
        .await
        .unwrap_err();
    assert!(matches!(error, VerifyError::Unreachable { .. }), "{error}");
    assert!(start.elapsed() < DEADLINE);
    drop(listener);
    let error = tried(&text).await.unwrap_err();
    assert!(matches!(error, VerifyError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn what_is_not_harmless_is_not_tried() {
    let api = api().await;
    let mut config: Value = serde_yaml::from_str(api.admin_kubeconfig()).unwrap();
    config["users"][0]["user"]["exec"] = json!({"command": "false"});
    let error = tried(&serde_yaml::to_string(&config).unwrap())
        .await
        .unwrap_err();
    assert_eq!(
        error,
        VerifyError::Unsafe(Unsafe::Refused { field: "exec" })
    );
    let mut config: Value = serde_yaml::from_str(api.admin_kubeconfig()).unwrap();
    config["clusters"][0]["cluster"] =
        json!({"server": api.url(), "certificate-authority": "/etc/ssl/cert.pem"});
    let error = tried(&serde_yaml::to_string(&config).unwrap())
        .await
        .unwrap_err();
    assert!(
        matches!(error, VerifyError::Unsafe(Unsafe::FileMissing { .. })),
        "{error}"
    );
}

/// Names the kubeconfig to the process that [`a_proxy_of_the_environment_is_not_asked`] starts.
const CHILD: &str = "NICO_TEST_KUBECONFIG";

/// A variable cannot be set for a part of a process, so this test is run once more in one that has it.
#[tokio::test]
async fn a_proxy_of_the_environment_is_not_asked() {
    if let Ok(path) = std::env::var(CHILD) {
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(tried(&text).await, Ok(()));
        return;
    }
    let mut again = std::process::Command::new(std::env::current_exe().unwrap());
    again.args([
        "--exact",
        "kubeconfig_works::a_proxy_of_the_environment_is_not_asked",
    ]);
    again.env(CHILD, api().await.admin_kubeconfig_path());
    for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "HTTP_PROXY"] {
        again.env(name, "http://127.0.0.1:1");
    }
    let output = again.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && told.contains("1 passed"),
        "{told}"
    );
}
