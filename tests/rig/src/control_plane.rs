//! A real control plane for tests: etcd, kube-apiserver and, where asked for, controllers of the
//! kube-controller-manager, on loopback, with certificates of its own. It is ready in seconds, lives as long as the
//! value that stands for it, and leaves neither a process nor a file behind.
//!
//! Nothing here hangs on a tokio runtime: a control plane may be started in one test's runtime and used from
//! another's. A client may not: each test takes its own.

mod error;
mod kubeconfig;
mod options;
mod process;
mod run_dir;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::{Namespace, ServiceAccount},
};
use kube::{
    Api, Client,
    api::PostParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::{
    net::TcpStream,
    sync::OnceCell,
    task::spawn_blocking,
    time::{sleep, timeout},
};

pub(crate) use self::run_dir::free_port;
pub use self::{
    error::Error,
    options::{GARBAGE_COLLECTOR, NAMESPACES, Options},
};
use self::{
    kubeconfig::Identity,
    options::{LOOPBACK, api_server_flags, controller_manager_flags, etcd_flags},
    process::{Process, Programs, resident_bytes},
    run_dir::RunDir,
};
use crate::pki::{Authority, Validity};

/// How long a start may take: about 3 seconds on an idle machine.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// How long one answer may take before it is asked again.
const ANSWER: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(25);
const TOKEN_LIFETIME_SECONDS: i64 = 24 * 60 * 60;

/// A running control plane. Dropping it ends its processes and removes its files.
pub struct ControlPlane {
    // Before `directory`: fields are dropped in this order.
    running: Mutex<Running>,
    options: Options,
    programs: Programs,
    authority: Authority,
    url: String,
    kubeconfig: String,
    config: kube::Config,
    api_server_flags: BTreeMap<&'static str, String>,
    directory: RunDir,
}

/// In the order in which they end.
#[derive(Default)]
struct Running {
    controllers: Option<Process>,
    api_server: Option<Process>,
    etcd: Option<Process>,
}

impl Running {
    fn all(&mut self) -> impl Iterator<Item = &mut Process> {
        [&mut self.etcd, &mut self.api_server, &mut self.controllers]
            .into_iter()
            .flatten()
    }
}

impl ControlPlane {
    /// Starts a control plane and returns when it is ready. The first start of all builds it, which takes minutes
    /// (see `go_build`).
    pub async fn start(options: Options) -> Result<Self, Error> {
        let controllers = !options.controllers.is_empty();
        let programs = spawn_blocking(move || Programs::find(controllers))
            .await
            .map_err(|_| Error::Interrupted)??;
        let mut attempts_left = 3;
        loop {
            attempts_left -= 1;
            match Self::try_start(options.clone(), programs.clone()).await {
                // Somebody else took the port between our look and the server's.
                Err(Error::Ended { log, .. })
                    if attempts_left > 0 && log.contains("address already in use") => {}
                outcome => return outcome,
            }
        }
    }

    async fn try_start(options: Options, programs: Programs) -> Result<Self, Error> {
        let directory = RunDir::create()?;
        let authority = Authority::new("rig")?;
        let administrator =
            authority.client("rig-admin", Some("system:masters"), Validity::default())?;
        let port = match options.port {
            Some(port) => port,
            None => free_port(options.bind_address)?,
        };
        let host = if options.bind_address.is_unspecified() {
            LOOPBACK
        } else {
            options.bind_address
        };
        let url = format!("https://{}", SocketAddr::new(host, port));
        let kubeconfig = kubeconfig::text(
            &url,
            authority.certificate(),
            &Identity::Certificate(&administrator),
        )?;
        directory.write("kubeconfig", &kubeconfig)?;
        let config = config(&kubeconfig).await?;

        let etcd_address = SocketAddr::new(LOOPBACK, free_port(LOOPBACK)?);
        let api_server_flags =
            api_server_flags(&options, &directory, &authority, port, etcd_address)?;
        let etcd = Process::start(
            &programs,
            "etcd",
            &etcd_flags(etcd_address),
            directory.path(),
            true,
        )?;
        let running = Mutex::new(Running {
            etcd: Some(etcd),
            ..Running::default()
        });
        let this = Self {
            running,
            options,
            programs,
            authority,
            url,
            kubeconfig,
            config,
            api_server_flags,
            directory,
        };

        let deadline = Instant::now() + START_DEADLINE;
        while let Err(error) = TcpStream::connect(etcd_address).await {
            this.check()?;
            if Instant::now() > deadline {
                return Err(this.not_ready(format!("etcd: {error}")));
            }
            sleep(POLL).await;
        }
        this.start_api_server().await?;
        this.start_controllers()?;
        Ok(this)
    }

    /// Starts the API server after [`Self::stop_api_server`], at the same address, and returns when it is ready. Does
    /// nothing while it runs.
    pub async fn start_api_server(&self) -> Result<(), Error> {
        {
            let mut running = self.lock();
            if running.api_server.is_none() {
                let directory = self.directory.path();
                running.api_server = Some(Process::start(
                    &self.programs,
                    "kube-apiserver",
                    &self.api_server_flags,
                    directory,
                    false,
                )?);
            }
        }
        let deadline = Instant::now() + START_DEADLINE;
        let client = self.client();
        loop {
            self.check()?;
            let why = match timeout(ANSWER, answers(&client)).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => error.to_string(),
                Err(late) => late.to_string(),
            };
            if Instant::now() > deadline {
                return Err(self.not_ready(why));
            }
            sleep(POLL).await;
        }
    }

    /// Ends the API server at once, as a crash does; etcd keeps what was written. Watches break, and calls are
    /// refused until it is started again.
    pub fn stop_api_server(&self) {
        let stopped = self.lock().api_server.take();
        drop(stopped);
    }

    /// Starts the controllers again. The garbage collector learns of new kinds every 30 seconds alone, and of all that
    /// exist when it starts: a test that has just installed CRDs need not wait.
    pub fn restart_controllers(&self) -> Result<(), Error> {
        let stopped = self.lock().controllers.take();
        drop(stopped);
        self.start_controllers()
    }

    fn start_controllers(&self) -> Result<(), Error> {
        if self.options.controllers.is_empty() {
            return Ok(());
        }
        let flags = controller_manager_flags(&self.options, &self.admin_kubeconfig_path());
        let process = Process::start(
            &self.programs,
            "kube-controller-manager",
            &flags,
            self.directory.path(),
            false,
        )?;
        self.lock().controllers = Some(process);
        Ok(())
    }

    /// The API server's address, `https://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The certificate of the authority that signed the API server's, PEM.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        self.authority.certificate()
    }

    /// The authority of this control plane, for certificates of other servers and clients.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// A client that may do everything, for the runtime that this is called in.
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

    /// The administrator's configuration of kube's client, to be changed (a proxy's address, say) before a client is
    /// made of it.
    #[must_use]
    pub fn config(&self) -> kube::Config {
        self.config.clone()
    }

    /// The administrator's kubeconfig, YAML.
    #[must_use]
    pub fn admin_kubeconfig(&self) -> &str {
        &self.kubeconfig
    }

    /// A file with [`Self::admin_kubeconfig`].
    #[must_use]
    pub fn admin_kubeconfig_path(&self) -> PathBuf {
        self.directory.path().join("kubeconfig")
    }

    /// A kubeconfig with a bearer token. `server_override` is an address to go through instead of [`Self::url`]; the
    /// certificate has to name it ([`Options::extra_sans`]).
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

    /// A client for who bears `token`, of the runtime in which it is called.
    pub async fn token_client(&self, token: &str) -> Result<Client, Error> {
        let config = config(&self.token_kubeconfig(None, token)?).await?;
        Ok(Client::try_from(config)?)
    }

    /// A kubeconfig with a client certificate of this user and group, as short-lived as wanted.
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

    /// kubectl as the administrator, to be given arguments and run.
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

    /// The words with which a command line of kubectl begins: a program, and for our own binary `kubectl`.
    #[must_use]
    pub fn kubectl_words(&self) -> Vec<OsString> {
        self.programs.words("kubectl").0
    }

    /// One JSON object a request, in the order in which they ended ([`Options::audit_log`]).
    #[must_use]
    pub fn audit_log_path(&self) -> Option<PathBuf> {
        self.options
            .audit_log
            .then(|| self.directory.path().join("audit.log"))
    }

    /// The directory with the data, the logs (`<program>.log`) and the keys. It ends with the control plane; with
    /// `RIG_KEEP` in the environment it stays.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The running processes, by name.
    #[must_use]
    pub fn pids(&self) -> Vec<(&'static str, u32)> {
        self.lock()
            .all()
            .map(|process| (process.name, process.pid()))
            .collect()
    }

    /// Resident memory of the running processes in bytes, where the system tells (Linux).
    #[must_use]
    pub fn rss(&self) -> Vec<(&'static str, u64)> {
        self.pids()
            .into_iter()
            .filter_map(|(name, pid)| Some((name, resident_bytes(pid)?)))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self) -> Result<(), Error> {
        self.lock().all().try_for_each(Process::check)
    }

    fn not_ready(&self, why: String) -> Error {
        let log = self
            .lock()
            .api_server
            .as_ref()
            .map(Process::last_lines)
            .unwrap_or_default();
        Error::NotReady { why, log }
    }
}

/// Builds what control planes consist of where need be, so that starts at the same time need not wait for one another.
pub async fn prepare() -> Result<(), Error> {
    spawn_blocking(|| Programs::find(true))
        .await
        .map_err(|_| Error::Interrupted)??;
    Ok(())
}

/// The control plane that all tests of a binary share; the first that asks starts it. It ends with the process. All
/// have to ask for the same options.
pub async fn shared(options: Options) -> Result<&'static ControlPlane, Error> {
    static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
    let shared = SHARED
        .get_or_try_init(|| ControlPlane::start(options.clone()))
        .await?;
    if shared.options == options {
        Ok(shared)
    } else {
        Err(Error::OtherOptions)
    }
}

async fn config(kubeconfig: &str) -> Result<kube::Config, Error> {
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig)?;
    let mut config =
        kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.connect_timeout = Some(Duration::from_secs(30));
    // kube takes HTTPS_PROXY for every address, loopback's included.
    config.proxy_url = None;
    Ok(config)
}

/// Ready, and past its first writes: the namespace that everybody relies on is there.
async fn answers(client: &Client) -> Result<(), Error> {
    let request = hyper::Request::get("/readyz")
        .body(Vec::new())
        .map_err(kube::Error::HttpError)?;
    client.request_text(request).await?;
    Api::<Namespace>::all(client.clone()).get("default").await?;
    Ok(())
}
