//! `nico run`: flags, client, HTTP server and signals, then the controller until a signal stops it.

use std::{
    net::SocketAddr, num::NonZeroU16, ops::RangeInclusive, panic::resume_unwind, pin::pin,
    process::ExitCode, sync::Arc, time::Duration,
};

use clap::{
    Args,
    builder::{PossibleValue, PossibleValuesParser},
    error::ErrorKind,
};
use kube::{Client, Config};
use tokio::{sync::watch, time::sleep};
use tracing::{info, warn};

use super::{
    api_server::{causes, host_and_port, wait_for_api_server},
    duration, finish,
    handover::until_handed_over,
    http::{BindError, HttpServer},
    kubeconfig::{self, ConfigError},
    logging::{self, LogFormat},
    panics,
    signals::Signals,
};
use crate::{
    api::{names::is_dns_label, rules},
    controller::{
        self, RunError,
        client::bounded,
        leader::{Elector, Lost, term::Term},
        metrics::Metrics,
        readiness::Readiness,
        schedule::LEASE_CALL_TIMEOUT,
        settings::OperatorSettings,
        writes::Writes,
    },
    plan::nio,
    remote::git::Reach,
};

/// How long the controller may take to finish its writes and to give up the Lease after the first signal.
const WORK_DEADLINE: Duration = Duration::from_secs(8);
/// How long the runtime then waits for its tasks. Together with [`WORK_DEADLINE`] it is less than 10 s.
const RUNTIME_DEADLINE: Duration = Duration::from_secs(1);
/// Shortest and longest `--resync`.
const RESYNC: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);
/// Shortest and longest `--request-timeout`.
const REQUEST_TIMEOUT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(300);

/// Flags of `nico run`. Each has an environment twin; the flag wins.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// Work in this namespace alone, with a Role in place of the ClusterRole [default: all namespaces]
    #[arg(long, env = "NICO_WATCH_NAMESPACE", hide_env_values = true, value_name = "NAMESPACE", value_parser = parse_namespace)]
    watch_namespace: Option<String>,

    /// gitRepo of clusters whose spec names none
    #[arg(
        long,
        env = "NICO_DEFAULT_GIT_REPO",
        hide_env_values = true,
        value_name = "URL"
    )]
    default_git_repo: Option<String>,

    /// Which NIO is installed: `auto` looks at the API server's schema of Machine
    #[arg(
        long,
        env = "NICO_NIO",
        hide_env_values = true,
        value_name = "NIO",
        default_value = "auto",
        value_parser = generations()
    )]
    nio: String,

    /// How often each cluster is checked without an event, and Secrets are read again; 1s to 24h
    #[arg(long, env = "NICO_RESYNC", hide_env_values = true, value_name = "DURATION", default_value = "300s", value_parser = parse_resync)]
    resync: Duration,

    /// Bounds each call to the API server; where NICO waits for requests that may still arrive, it waits four times as long; 1s to 5m
    #[arg(long, env = "NICO_REQUEST_TIMEOUT", hide_env_values = true, value_name = "DURATION", default_value = "30s", value_parser = parse_request_timeout)]
    request_timeout: Duration,

    /// Address of /healthz, /readyz and /metrics; port 0 takes a free one, which the log names
    #[arg(
        long,
        env = "NICO_HTTP_ADDR",
        hide_env_values = true,
        value_name = "IP:PORT",
        default_value = "0.0.0.0:8080"
    )]
    http_addr: SocketAddr,

    /// Port of the machines' SSH servers
    #[arg(
        long,
        env = "NICO_SSH_PORT",
        hide_env_values = true,
        value_name = "PORT",
        default_value = "22"
    )]
    ssh_port: NonZeroU16,

    /// Of several replicas, let only the holder of the Lease nico-leader write; needed with more than one
    #[arg(long, env = "NICO_LEADER_ELECT", hide_env_values = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", value_parser = parse_switch)]
    leader_elect: bool,

    /// Namespace of that Lease [default: the pod's, or that of the kubeconfig's context]
    #[arg(long, env = "NICO_LEASE_NAMESPACE", hide_env_values = true, value_name = "NAMESPACE", value_parser = parse_namespace)]
    lease_namespace: Option<String>,

    /// Form of the log lines on stderr
    #[arg(
        long,
        env = "NICO_LOG_FORMAT",
        hide_env_values = true,
        value_name = "FORMAT",
        default_value = "text"
    )]
    log_format: LogFormat,

    /// What is logged: a level, or a tracing filter such as info,nico=debug
    #[arg(long, env = "NICO_LOG", hide_env_values = true, value_name = "FILTER", default_value = "info", value_parser = logging::parse_filter)]
    log: String,
}

/// The values of `--nio`.
fn generations() -> PossibleValuesParser {
    let auto =
        PossibleValue::new("auto").help("Found out from the API server's schema of `Machine`");
    let named = nio::ALL.map(nio::for_generation);
    let named = named.map(|nio| PossibleValue::new(nio.name()).help(nio.project()));
    PossibleValuesParser::new(std::iter::once(auto).chain(named))
}

/// Why the program could not start, or did not go on: one sentence with the mend.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("the kubeconfig's credentials or CA cannot be used: {0}")]
    Client(String),
    #[error(
        "the API server is to be reached through a proxy, which NICO cannot do: unset HTTPS_PROXY, or proxy-url in the kubeconfig"
    )]
    Proxy,
    #[error("--http-addr (NICO_HTTP_ADDR): {0}")]
    Http(#[from] BindError),
    #[error("cannot listen for signals: {0}")]
    Signals(#[source] std::io::Error),
    #[error("cannot start threads: {0}")]
    Runtime(#[source] std::io::Error),
    #[error(transparent)]
    Controller(#[from] RunError),
    #[error(transparent)]
    Lease(#[from] Lost),
    #[error("the controller ended by itself")]
    Ended,
}

/// Runs the operator. 0 after SIGTERM or SIGINT; 1 with one sentence on stderr where it could not start.
#[must_use]
pub fn main(args: RunArgs) -> ExitCode {
    logging::start(&args.log, args.log_format);
    panics::log_panics();
    let (http_addr, format) = (args.http_addr, args.log_format);
    let lease = args.leader_elect.then(|| LeaseFlags {
        namespace: given(args.lease_namespace.clone()),
    });
    let settings = match settings(args) {
        Ok(settings) => settings,
        Err(message) => {
            let message = format!("{message}\n\nFor more information, try '--help'.\n");
            super::refuse(&clap::Error::raw(ErrorKind::ValueValidation, message))
        }
    };
    let ended = start(settings, http_addr, lease);
    finish(ended.map_err(Into::into), format)
}

/// The flags of leader election.
struct LeaseFlags {
    /// Namespace of the Lease; `None`: the client's own.
    namespace: Option<String>,
}

fn start(
    settings: OperatorSettings,
    http_addr: SocketAddr,
    lease: Option<LeaseFlags>,
) -> Result<(), StartError> {
    // Two threads are enough whatever the node has: the work is mostly waiting for responses.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(StartError::Runtime)?;
    // As a task: in `block_on` itself, each event of the controller would first wake this thread.
    let running = runtime.spawn(run(settings, http_addr, lease));
    let result = runtime.block_on(running);
    runtime.shutdown_timeout(RUNTIME_DEADLINE);
    result.unwrap_or_else(|ended| match ended.try_into_panic() {
        Ok(panic) => resume_unwind(panic),
        Err(_) => Err(StartError::Ended),
    })
}

async fn run(
    mut settings: OperatorSettings,
    http_addr: SocketAddr,
    lease: Option<LeaseFlags>,
) -> Result<(), StartError> {
    let mut signals = Signals::listen().map_err(StartError::Signals)?;
    let (config, reach) = kubeconfig::find().await?;
    settings.reach = reach;
    let server = host_and_port(&config.cluster_url);
    let term = lease.is_some().then(Term::default);
    let metrics = Metrics::new(term.clone());
    let writes = Writes::within(term.clone());
    let longest = settings.request_timeout;
    let client = connect(&config, longest, term.clone(), writes.clone(), &metrics)?;
    let elector = match lease.zip(term) {
        Some((lease, term)) => {
            let own = connect(
                &config,
                LEASE_CALL_TIMEOUT,
                None,
                Writes::default(),
                &metrics,
            )?;
            let namespace = lease.namespace.unwrap_or(config.default_namespace);
            Some(Elector::new(own, &namespace, term))
        }
        None => None,
    };

    let namespaces = settings.watch_namespace.as_deref();
    let namespaces = namespaces.unwrap_or("all");
    if elector.is_some() {
        info!(namespaces, "watching KubernetesClusters once it leads");
    } else {
        info!(namespaces, "watching KubernetesClusters");
    }
    let health = Arc::new(Readiness::default());
    let http = HttpServer::bind(http_addr).await?;
    info!(address = %http.address(), "serving /healthz, /readyz and /metrics");
    tokio::spawn(http.serve(health.clone(), metrics.clone()));

    let (stop, stopped) = watch::channel(false);
    let mut work = pin!(async {
        let stop = stopped.clone();
        tokio::select! {
            () = wait_for_api_server(&client, &server, &health) => {}
            () = until_stopped(stop) => return Ok::<(), StartError>(()),
        }
        let stop = until_stopped(stopped.clone());
        let (stopping, writing) = (until_stopped(stopped.clone()), writes.clone());
        let work = controller::run(
            client.clone(),
            settings,
            health.clone(),
            metrics,
            writing,
            until_stopped(stopped),
        );
        // On the heap: it holds all streams of the controller.
        let work = Box::pin(work);
        let work = async { Ok(until_handed_over(work, stopping, &writes).await?) };
        match elector {
            Some(elector) => elector.lead(&health, stop, work).await,
            None => work.await,
        }
    });

    tokio::select! {
        result = &mut work => {
            result?;
            return Err(StartError::Ended);
        }
        name = signals.next() => info!("{name}: finishing the write in hand, then stopping"),
    }
    stop.send_replace(true);
    tokio::select! {
        result = &mut work => result?,
        () = sleep(WORK_DEADLINE) => warn!("stopping with work unfinished; the next start continues it"),
        name = signals.next() => warn!("{name} again: stopping at once; the next start takes up what is unfinished"),
    }
    info!("stopped");
    Ok(())
}

/// A client of the API server.
fn connect(
    config: &Config,
    longest: Duration,
    term: Option<Term>,
    writes: Writes,
    metrics: &Arc<Metrics>,
) -> Result<Client, StartError> {
    bounded(config.clone(), longest, term, writes, metrics.clone()).map_err(|error| match error {
        // kube's own message shows the proxy's URL, which may contain a password.
        kube::Error::ProxyProtocolUnsupported { .. }
        | kube::Error::ProxyProtocolDisabled { .. } => StartError::Proxy,
        other => StartError::Client(causes(&other)),
    })
}

/// Treats an empty value as none: manifests set empty environment variables.
fn given(value: Option<String>) -> Option<String> {
    value.filter(|value| !value.is_empty())
}

/// The settings that the flags ask for.
fn settings(args: RunArgs) -> Result<OperatorSettings, String> {
    let RunArgs {
        watch_namespace,
        default_git_repo,
        nio: chosen,
        resync,
        request_timeout,
        ssh_port,
        http_addr: _,
        leader_elect: _,
        lease_namespace: _,
        log_format: _,
        log: _,
    } = args;
    let default_git_repo = given(default_git_repo);
    if let Some(repository) = &default_git_repo {
        // Not checked by clap, whose message would show the value, which may contain a password.
        rules::GIT_REPO
            .check(repository)
            .map_err(|why| format!("--default-git-repo (NICO_DEFAULT_GIT_REPO) {why}"))?;
    }
    Ok(OperatorSettings {
        watch_namespace: given(watch_namespace),
        default_git_repo,
        nio: nio::ALL
            .into_iter()
            .find(|generation| nio::for_generation(*generation).name() == chosen),
        resync,
        request_timeout,
        ssh_port: ssh_port.get(),
        reach: Reach::default(),
    })
}

fn parse_namespace(text: &str) -> Result<String, String> {
    if text.is_empty() || is_dns_label(text) {
        Ok(text.to_owned())
    } else {
        Err("not the name of a namespace: at most 63 of a-z, 0-9 and -".to_owned())
    }
}

fn parse_switch(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "" | "false" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

fn parse_resync(text: &str) -> Result<Duration, String> {
    within(text, &RESYNC, "must be from 1s to 24h")
}

fn parse_request_timeout(text: &str) -> Result<Duration, String> {
    within(text, &REQUEST_TIMEOUT, "must be from 1s to 5m")
}

fn within(text: &str, bounds: &RangeInclusive<Duration>, why: &str) -> Result<Duration, String> {
    let duration = duration::parse(text)?;
    let allowed = bounds.contains(&duration).then_some(duration);
    allowed.ok_or_else(|| why.to_owned())
}

async fn until_stopped(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender is gone, and with it the program.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}
