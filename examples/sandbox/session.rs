//! One session: everything is started and told in order, and taken away again in `end`, however far it came.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rig::machines::MachinePool;
use rig::nio::{Nio, NioOptions};
use rig::process::{Nico, NicoOptions};
use rig::wait::try_wait_for;
use rig::workload::{Flake, Tenancy, Workload};
use rig::{control_plane, deploy};
use serde_json::{Value, json};

use crate::commands;
use crate::existing::Existing;
use crate::home::Home;
use crate::machines::{self, Machines};
use crate::management::Management;
use crate::story::{Clock, Story};
use crate::{Arguments, Failure};

/// The cluster that the sandbox applies.
pub(crate) const DEMO: &str = include_str!("demo.yaml");
/// Its name.
pub(crate) const DEMO_NAME: &str = "demo";

/// Where `kubectl apply` keeps what it applied last.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// How long NICO's start may take.
const START_DEADLINE: Duration = Duration::from_secs(30);
/// How long NICO's end may take: ten seconds are its own promise.
const END_DEADLINE: Duration = Duration::from_secs(12);
/// How long `--once` waits for the cluster.
const READY_DEADLINE: Duration = Duration::from_secs(120);
/// How long NIO's stand-in takes for a machine: long enough to be seen.
pub(crate) const APPLY: Duration = Duration::from_millis(1500);
/// The same with `--once`, where nobody looks.
const APPLY_ONCE: Duration = Duration::from_millis(200);
/// How often NIO's stand-in looks without an event.
const NIO_TICK: Duration = Duration::from_secs(2);

/// What was made so far; in the order in which it ends.
pub(crate) struct Session {
    clock: Clock,
    nico: Option<Nico>,
    nio: Option<Nio>,
    machines: Option<Machines>,
    management: Option<Management>,
    workload: Option<Arc<Workload>>,
    home: Option<Home>,
}

impl Session {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            clock,
            nico: None,
            nio: None,
            machines: None,
            management: None,
            workload: None,
            home: None,
        }
    }

    /// Starts everything, applies the cluster, and tells what happens until the session is told to stop, or until the cluster is
    /// Ready with `--once`.
    pub(crate) async fn play(&mut self, arguments: &Arguments) -> Result<(), Failure> {
        let clock = self.clock;
        // Where the cluster may not be used, nothing is built and started first.
        let existing = match &arguments.context {
            Some(context) => Some(Existing::find(context).await?),
            None => None,
        };
        control_plane::prepare().await?;

        let workload = if let Some(existing) = existing {
            existing.say_what_is_installed(&clock);
            clock.tell("starting an API server for the cluster that NICO will make");
            let workload = Workload::try_start().await?;
            self.management = Some(Management::Existing(Box::new(existing)));
            workload
        } else {
            clock.tell(
                "starting two API servers: that of the management cluster, and that of the cluster that NICO will make",
            );
            let (own, workload) = tokio::try_join!(Management::own(), async {
                Ok(Workload::try_start().await?)
            })?;
            self.management = Some(own);
            workload
        };
        let workload = Arc::clone(self.workload.insert(Arc::new(workload)));
        let management = self.management.as_ref().ok_or("no management cluster")?;
        clock.tell(if arguments.context.is_some() {
            "it answers"
        } else {
            "both answer"
        });
        management.install(&clock).await?;
        let home = &*self.home.insert(Home::new(management, &workload)?);

        let flake = Flake::new(Arc::clone(&workload), Tenancy::Clusters);
        let mut options = NioOptions::namespace(management.namespace());
        options.tick = NIO_TICK;
        options.delay = if arguments.once { APPLY_ONCE } else { APPLY };
        let stand_in = &*self.nio.insert(Nio::start(
            management.client().clone(),
            options,
            flake.hook(),
        ));
        let pool = MachinePool::start(workload.address()).await;
        let made = machines::make(management, &pool, &flake, stand_in, !arguments.once).await?;
        let made = self.machines.insert(made);
        clock.tell(&made.line());
        clock.tell("a NIO simulator manages them; starting NICO");

        let options = NicoOptions {
            binary: std::env::current_exe()?,
            kubeconfig: management.nico_kubeconfig().await?,
            namespace: management.watched_namespace(),
            ssh_port: pool.ssh_port(),
            log: arguments.log.clone(),
            args: vec![],
        };
        let nico = self.nico.insert(Nico::start_in(options, home.path()).await);
        wait_ready(nico, home).await?;
        clock.tell(&format!(
            "NICO runs (process {}) as ServiceAccount {}",
            nico.pid(),
            management.service_account()
        ));

        let mut story = Story::new(management, stand_in, clock);
        let applied = Instant::now();
        for object in deploy::documents(DEMO) {
            let object = as_applied_by_kubectl(object)?;
            deploy::apply_value(management.client(), management.namespace(), object).await?;
        }
        if arguments.once {
            let told = tokio::time::timeout(READY_DEADLINE, tell(&mut story, nico, home, true));
            told.await.map_err(|_| {
                format!(
                    "the cluster was not Ready within {} s",
                    READY_DEADLINE.as_secs()
                )
            })??;
            let ready = applied.elapsed();
            commands::check_nodes(home, management).await?;
            commands::print_figures(ready, nico, management, &workload);
            return Ok(());
        }
        tell(&mut story, nico, home, true).await?;
        commands::print(home);
        tell(&mut story, nico, home, false).await
    }

    /// Takes everything away, in order: what stands in another's cluster first, while NICO and NIO's stand-in are there to let
    /// go of it.
    pub(crate) async fn end(mut self) -> Result<(), Failure> {
        let clock = self.clock;
        if self.workload.is_none() && self.management.is_none() {
            return Ok(());
        }
        clock.tell("ending");
        let mut removed = Ok(());
        if let Some(Management::Existing(existing)) = &self.management {
            removed = existing.release(&clock, self.nico.is_some()).await;
        }
        if let Some(nico) = self.nico.take() {
            nico.terminate().await;
            if nico.wait_exit(END_DEADLINE).await.is_none() {
                clock.tell("NICO does not end and is killed");
            }
        }
        if let Some(nio) = self.nio.take() {
            nio.stop();
        }
        if let Some(Management::Existing(existing)) = &self.management {
            removed = removed.and(existing.remove(&clock).await);
        }
        let Self {
            machines,
            management,
            workload,
            home,
            ..
        } = self;
        drop((machines, management, workload));
        let path = home.as_ref().map(|home| home.path().to_owned());
        let kept = home.map(Home::remove).unwrap_or_default();
        let mut left = "nothing";
        if let (Some(path), false) = (path, kept.is_empty()) {
            let (path, kept) = (path.display(), kept.join(", "));
            clock.tell(&format!("kept, since they are yours: {kept} in {path}"));
            left = "nothing else";
        }
        if removed.is_ok() {
            clock.tell(&format!("{left} is left behind"));
        }
        removed
    }
}

/// An object as `kubectl apply` would have made it, so that a later `kubectl apply` of the same file warns of nothing.
fn as_applied_by_kubectl(mut object: Value) -> Result<Value, Failure> {
    let applied = serde_json::to_string(&object)? + "\n";
    object["metadata"]["annotations"] = json!({ LAST_APPLIED: applied });
    Ok(object)
}

/// Tells what happens; with `until_ready` it returns when the sandbox's cluster is Ready.
async fn tell(
    story: &mut Story<'_>,
    nico: &Nico,
    home: &Home,
    until_ready: bool,
) -> Result<(), Failure> {
    let mut look = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            () = story.next() => {}
            _ = look.tick() => {
                if let Some(status) = nico.exit_status() {
                    return Err(format!("NICO ended ({status}): {}", home.last_log_line()).into());
                }
            }
        }
        if until_ready && story.is_ready(DEMO_NAME) {
            return Ok(());
        }
    }
}

async fn wait_ready(nico: &Nico, home: &Home) -> Result<(), Failure> {
    let ready = || async {
        if nico.exit_status().is_some() {
            return Some(false);
        }
        (nico.get("/readyz").await?.0 == 200).then_some(true)
    };
    match try_wait_for(START_DEADLINE, ready).await {
        Some(true) => Ok(()),
        _ => Err(format!("NICO does not start: {}", home.last_log_line()).into()),
    }
}
