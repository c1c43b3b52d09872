//! Ways in: clients, kubeconfigs and kubectl, of the administrator and of others.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client};

use super::kubeconfig::{self, Identity};
use super::{ControlPlane, Error};
use crate::pki::Validity;

const TOKEN_LIFETIME_SECONDS: i64 = 24 * 60 * 60;

impl ControlPlane {
    /// An administrator's client for the current runtime.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    #[allow(
        clippy::expect_used,
        reason = "its own kubeconfig was read when it started"
    )]
    pub fn client(&self) -> Client {
        Client::try_from(self.config.clone())
            .expect("the control plane's own kubeconfig makes a client")
    }

    /// The administrator's client configuration, which can be changed (a proxy's address, for example) before a client is created from it.
    #[must_use]
    pub fn config(&self) -> kube::Config {
        self.config.clone()
    }

    /// The administrator's kubeconfig, YAML.
    #[must_use]
    pub fn admin_kubeconfig(&self) -> &str {
        &self.kubeconfig
    }

    /// The path of a file with [`Self::admin_kubeconfig`].
    #[must_use]
    pub fn admin_kubeconfig_path(&self) -> PathBuf {
        self.directory.path().join("kubeconfig")
    }

    /// A kubeconfig with a bearer token. `server_override` is an address to use instead of [`Self::url`]; the certificate must contain it
    /// ([`super::Options::extra_sans`]).
    pub fn token_kubeconfig(
        &self,
        server_override: Option<&str>,
        token: &str,
    ) -> Result<String, Error> {
        kubeconfig::text(
            server_override.unwrap_or(&self.url),
            self.ca_pem(),
            &Identity::Token(token),
        )
    }

    /// A client with this bearer token, for the current runtime.
    pub async fn token_client(&self, token: &str) -> Result<Client, Error> {
        let config = config(&self.token_kubeconfig(None, token)?).await?;
        Ok(Client::try_from(config)?)
    }

    /// A kubeconfig with a client certificate for this user and group, valid for this time.
    pub fn client_cert_kubeconfig(
        &self,
        server_override: Option<&str>,
        user: &str,
        group: Option<&str>,
        validity: Validity,
    ) -> Result<String, Error> {
        let pair = self.authority.client(user, group, validity)?;
        kubeconfig::text(
            server_override.unwrap_or(&self.url),
            self.ca_pem(),
            &Identity::Certificate(&pair),
        )
    }

    /// A token of an existing service account, valid for 24 hours.
    pub async fn service_account_token(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<String, Error> {
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                expiration_seconds: Some(TOKEN_LIFETIME_SECONDS),
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client(), namespace);
        let answer = accounts
            .create_token_request(name, &PostParams::default(), &request)
            .await?;
        answer
            .status
            .and_then(|status| status.token)
            .ok_or(Error::NoToken)
    }

    /// Runs kubectl as the administrator.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<Output, Error> {
        let mut command = tokio::process::Command::from(self.kubectl_command());
        command
            .args(arguments)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command.output().await.map_err(|source| Error::Start {
            name: "kubectl",
            source,
        })
    }

    /// A command that runs kubectl as the administrator, without arguments yet.
    #[must_use]
    pub fn kubectl_command(&self) -> std::process::Command {
        let (words, _) = self.programs.words("kubectl");
        let mut command = std::process::Command::new(&words[0]);
        command
            .args(&words[1..])
            .arg(format!(
                "--kubeconfig={}",
                self.admin_kubeconfig_path().display()
            ))
            .arg(format!(
                "--cache-dir={}",
                self.directory.path().join("kubectl").display()
            ));
        command
    }

    /// The beginning of a kubectl command line: the program, and for the rig's own binary the subcommand `kubectl`.
    #[must_use]
    pub fn kubectl_words(&self) -> Vec<OsString> {
        self.programs.words("kubectl").0
    }
}

pub(super) async fn config(kubeconfig: &str) -> Result<kube::Config, Error> {
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig)?;
    let mut config =
        kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.connect_timeout = Some(Duration::from_secs(30));
    // kube takes HTTPS_PROXY for every address, loopback's included.
    config.proxy_url = None;
    Ok(config)
}
