//! A real control plane for tests: etcd, kube-apiserver and, if requested, controllers of the kube-controller-manager. It runs on loopback
//! with its own certificates, and is ready in seconds. Dropping its handle ends its processes and removes its files.
//!
//! A control plane does not depend on a tokio runtime: it may be started in one test's runtime and used from another's. A client does, so
//! each test creates its own.

mod access;
mod error;
mod kubeconfig;
mod options;
mod process;
mod run_dir;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client};
use tokio::{
    net::TcpStream,
    sync::OnceCell,
    task::spawn_blocking,
    time::{sleep, timeout},
};

pub(crate) use self::run_dir::free_port;
use self::{
    access::config,
    kubeconfig::Identity,
    options::{LOOPBACK, api_server_flags, controller_manager_flags, etcd_flags},
    process::{Process, Programs, resident_bytes},
    run_dir::RunDir,
};
pub use self::{
    error::Error,
    options::{GARBAGE_COLLECTOR, NAMESPACES, Options},
};
use crate::pki::{Authority, Validity};

/// How long a start may take: about 3 seconds on an idle machine.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// Timeout of one request before it is retried.
const ANSWER: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(25);

/// A running control plane. Dropping it ends its processes and removes its files.
pub struct ControlPlane {
    // Dropped before `directory`: fields are dropped in the order of their declaration.
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

/// The processes, in the order in which they are stopped.
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
    /// Starts a control plane and returns when it is ready. The very first start builds its binary, which takes minutes (see `go_build`).
    pub async fn start(options: Options) -> Result<Self, Error> {
        let controllers = !options.controllers.is_empty();
        let programs = spawn_blocking(move || Programs::find(controllers))
            .await
            .map_err(|_| Error::Interrupted)??;
        let mut attempts_left = 3;
        loop {
            attempts_left -= 1;
            match Self::try_start(options.clone(), programs.clone()).await {
                // Another process took the port after it was found free.
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

    /// Stops the API server at once, as in a crash. etcd keeps its data. Watches break, and connections are refused until it is started
    /// again.
    pub fn stop_api_server(&self) {
        let stopped = self.lock().api_server.take();
        drop(stopped);
    }

    /// Restarts the controllers. The garbage collector discovers new kinds only every 30 seconds, and at its start. So a test that has just
    /// installed CRDs need not wait.
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

    /// The path of the audit log ([`Options::audit_log`]): one JSON object for each request, in the order in which they ended.
    #[must_use]
    pub fn audit_log_path(&self) -> Option<PathBuf> {
        self.options
            .audit_log
            .then(|| self.directory.path().join("audit.log"))
    }

    /// The directory with data, logs (`<program>.log`) and keys. It is removed with the control plane, unless `RIG_KEEP` is set in the
    /// environment.
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

    /// Resident memory of the running processes in bytes, if the system reports it (Linux).
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

/// Builds the control plane's binary if needed, so that parallel starts need not wait for one another.
pub async fn prepare() -> Result<(), Error> {
    spawn_blocking(|| Programs::find(true))
        .await
        .map_err(|_| Error::Interrupted)??;
    Ok(())
}

/// The control plane that all tests of a binary share. The first call starts it, and it ends with the process. All calls must have the same
/// options.
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

/// Checks that the API server is ready and past its first writes: the namespace `default` exists.
async fn answers(client: &Client) -> Result<(), Error> {
    let request = hyper::Request::get("/readyz")
        .body(Vec::new())
        .map_err(kube::Error::HttpError)?;
    client.request_text(request).await?;
    Api::<Namespace>::all(client.clone()).get("default").await?;
    Ok(())
}
