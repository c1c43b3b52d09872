//! A stand-in for NIO in both generations: a task on the rig's own runtime that treats NixosConfigurations and Machines field by
//! field as the real program does, with hours shortened to milliseconds, and with knobs for all that it does wrong.

mod apply;
mod classic;
pub mod hash;
mod history;
mod knobs;
mod options;
mod remove;
mod v1;

pub use history::{Applied, Attempt, Outcome};
pub use knobs::Knobs;
pub use options::NioOptions;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::{Stream, StreamExt};
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::ApiResource;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::{RwLock, watch};

use crate::crds::{Generation, configuration_resource, machine_resource};
use crate::runtime;

/// The finalizer that kopf puts on what it handles.
pub const KOPF_FINALIZER: &str = "kopf.zalando.org/KopfFinalizerMarker";
/// The annotation in which kopf keeps what it handled last.
pub const KOPF_ANNOTATION: &str = "kopf.zalando.org/last-handled-configuration";

/// The finalizer that v1 puts on configurations.
pub const V1_FINALIZER: &str = "nio.homystack.com/finalizer";

/// What the rig does in the place of the flake when a configuration was applied to a machine or taken off it.
pub type Hook = Arc<dyn Fn(Applied) -> BoxFuture<'static, Aftermath> + Send + Sync>;

/// What came of a configuration on its machine, as far as NIO notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aftermath {
    /// NIO's part is done, whatever the machine's units do.
    Done,
    /// The machine is not reached any more: the apply fails, and it stays unreachable until the knob is turned back.
    CutOff,
}

/// The running stand-in. Clones are the same one; it ends with [`Nio::stop`] or when the last clone is dropped.
#[derive(Clone)]
pub struct Nio {
    shared: Arc<Shared>,
    stop: Arc<StopOnDrop>,
}

struct StopOnDrop(watch::Sender<bool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

/// An object by namespace and name.
type Key = (String, String);

struct Shared {
    client: Client,
    options: NioOptions,
    started: Instant,
    hook: Hook,
    stopped: watch::Receiver<bool>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    knobs: HashMap<String, Knobs>,
    history: Vec<Attempt>,
    /// Commits of the default branch, the head last.
    pushes: u64,
    paused: bool,
    configurations: HashMap<Key, DynamicObject>,
    machines: HashMap<Key, DynamicObject>,
    /// Objects whose change or deletion is being handled: kopf handles one change of an object at a time.
    handling: HashSet<Key>,
    /// Objects at which a timer looks.
    timing: HashSet<Key>,
    /// Looks run beside handlers, but a deletion waits for them.
    busy: HashMap<Key, Arc<RwLock<()>>>,
    ticks: u64,
    /// When the stand-in let go of a configuration that is being deleted, or saw that one is gone.
    let_go: Vec<(Duration, String)>,
    v1: v1::Memory,
}

impl Nio {
    /// Starts the stand-in. `client` should have been made on the rig's runtime and may do everything.
    #[must_use]
    pub fn start(client: Client, options: NioOptions, hook: Hook) -> Self {
        Self::run(client, options, hook, Instant::now(), State::default())
    }

    fn run(
        client: Client,
        options: NioOptions,
        hook: Hook,
        started: Instant,
        state: State,
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let shared = Arc::new(Shared {
            client,
            options,
            started,
            hook,
            stopped,
            state: Mutex::new(state),
        });
        runtime().spawn(run(Arc::clone(&shared)));
        Self {
            shared,
            stop: Arc::new(StopOnDrop(stop)),
        }
    }

    /// Which NIO it stands in for.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.shared.options.generation
    }

    /// Ends it, and starts one of another generation in its place: what machines were told and did is known to it.
    #[must_use]
    pub fn replaced_by(&self, generation: Generation) -> Self {
        self.stop();
        let mut options = self.shared.options.clone();
        options.generation = generation;
        let old = self.shared.state();
        let state = State {
            knobs: old.knobs.clone(),
            history: old.history.clone(),
            pushes: old.pushes,
            let_go: old.let_go.clone(),
            ..State::default()
        };
        drop(old);
        let (started, hook) = (self.shared.started, Arc::clone(&self.shared.hook));
        Self::run(self.shared.client.clone(), options, hook, started, state)
    }

    /// Ends it for good.
    pub fn stop(&self) {
        self.stop.0.send_replace(true);
    }

    /// While paused it does nothing at all, as where its pod is gone. v1's `CronJob`s go on: they are Kubernetes' own.
    pub fn pause(&self, paused: bool) {
        self.shared.state().paused = paused;
    }

    /// Changes what NIO makes of one machine.
    pub fn set(&self, machine: &str, change: impl FnOnce(&mut Knobs)) {
        change(
            self.shared
                .state()
                .knobs
                .entry(machine.to_owned())
                .or_default(),
        );
    }

    /// A push to the default branch: everything that follows it is applied again within a tick. Returns the new head.
    #[allow(clippy::must_use_candidate, reason = "the push is the point")]
    pub fn push(&self) -> String {
        self.shared.state().pushes += 1;
        self.head()
    }

    /// v1: Kubernetes deletes every Job that has ended, as it does in time.
    pub async fn prune_jobs(&self) {
        let namespace = self.shared.options.namespace.clone().unwrap_or_default();
        let _ = self.shared.prune(&namespace).await;
    }

    /// The head of the default branch.
    #[must_use]
    pub fn head(&self) -> String {
        self.shared.head()
    }

    /// Everything that was tried, in the order in which it ended.
    #[must_use]
    pub fn history(&self) -> Vec<Attempt> {
        self.shared.state().history.clone()
    }

    /// When configurations that were being deleted went, by machine, since the stand-in's start: no later than anybody could see it.
    #[must_use]
    pub fn let_go(&self) -> Vec<(Duration, String)> {
        self.shared.state().let_go.clone()
    }

    /// When it was started: where its times begin.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.shared.started
    }

    /// The time since its start: a point for judges of what comes after it.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.shared.started.elapsed()
    }

    /// The successful applies of one machine, in order.
    #[must_use]
    pub fn applies(&self, machine: &str) -> Vec<Attempt> {
        let mut history = self.history();
        history.retain(|attempt| {
            attempt.applied.machine == machine
                && attempt.outcome == Outcome::Success
                && !attempt.applied.removal
        });
        history
    }

    /// Clears the status of a configuration and of its machine, as someone's `kubectl edit` or a restored backup would.
    pub async fn wipe_status(&self, namespace: &str, machine: &str) {
        let nothing = json!({"status": {"appliedCommit": null, "additionalFilesHash": null, "configurationHash": null,
            "targetMachine": null, "lastAppliedTime": null, "conditions": null, "phase": null,
            "resolvedRevision": null, "observedGeneration": null}});
        let _ = self
            .shared
            .patch_status(&configuration_resource(), namespace, machine, nothing)
            .await;
        let nothing = json!({"status": {"hasConfiguration": false, "appliedConfiguration": null, "appliedCommit": null}});
        let _ = self
            .shared
            .patch_status(&machine_resource(), namespace, machine, nothing)
            .await;
    }
}

async fn run(shared: Arc<Shared>) {
    let mut configurations = Box::pin(shared.watch(&configuration_resource()));
    let mut machines = Box::pin(shared.watch(&machine_resource()));
    let every = |time: Duration| {
        let mut interval = tokio::time::interval_at((Instant::now() + time).into(), time);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        interval
    };
    let mut tick = every(shared.options.tick);
    let mut minute = every(shared.options.minute);
    let mut half_hour = every(shared.options.half_hour);
    let mut stopped = shared.stopped.clone();
    loop {
        tokio::select! {
            Some(event) = configurations.next() => shared.configuration_event(event),
            Some(event) = machines.next() => shared.machine_event(event),
            _ = tick.tick() => shared.tick(),
            _ = minute.tick() => shared.start_due(v1::EVERY_MINUTE),
            _ = half_hour.tick() => shared.start_due(v1::EVERY_HALF_HOUR),
            _ = stopped.wait_for(|stopped| *stopped) => return,
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn head(&self) -> String {
        format!("{:040x}", 0xc0_ffee_u64 + self.state().pushes)
    }

    fn knobs(&self, machine: &str) -> Knobs {
        self.state().knobs.get(machine).cloned().unwrap_or_default()
    }

    /// What comes of an attempt: where nothing else makes it fail, what was applied may cut its machine off.
    async fn outcome(&self, machine: &str, applied: &Applied, fails: bool) -> Outcome {
        if fails {
            return Outcome::Failure;
        }
        if (self.hook)(applied.clone()).await == Aftermath::CutOff {
            let mut state = self.state();
            let knobs = state.knobs.entry(machine.to_owned()).or_default();
            knobs.unreachable = true;
            return Outcome::Failure;
        }
        Outcome::Success
    }

    fn api(&self, resource: &ApiResource, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, resource)
    }

    fn watch(
        &self,
        resource: &ApiResource,
    ) -> impl Stream<Item = watcher::Result<watcher::Event<DynamicObject>>> + use<> {
        let api = match &self.options.namespace {
            Some(namespace) => self.api(resource, namespace),
            None => Api::all_with(self.client.clone(), resource),
        };
        watcher(api, watcher::Config::default()).default_backoff()
    }

    async fn patch_status(
        &self,
        resource: &ApiResource,
        namespace: &str,
        name: &str,
        patch: Value,
    ) -> kube::Result<DynamicObject> {
        let api = self.api(resource, namespace);
        api.patch_status(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
    }

    fn configuration_event(
        self: &Arc<Self>,
        event: watcher::Result<watcher::Event<DynamicObject>>,
    ) {
        match event {
            Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => {
                let key = key_of(&object);
                self.state().configurations.insert(key.clone(), object);
                self.react(&key);
            }
            Ok(watcher::Event::Delete(object)) => {
                let (key, now) = (key_of(&object), self.started.elapsed());
                let mut state = self.state();
                state.configurations.remove(&key);
                state.let_go.push((now, key.1));
            }
            _ => {}
        }
    }

    fn machine_event(self: &Arc<Self>, event: watcher::Result<watcher::Event<DynamicObject>>) {
        match event {
            Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => {
                let key = key_of(&object);
                self.state().machines.insert(key.clone(), object);
                self.probe(&key);
                if self.options.generation == Generation::V1 {
                    self.reconcile_machine(&key);
                }
            }
            Ok(watcher::Event::Delete(object)) => {
                self.state().machines.remove(&key_of(&object));
            }
            _ => {}
        }
    }

    /// Time passes: look at everything again, and try again what failed.
    fn tick(self: &Arc<Self>) {
        let (configurations, machines): (Vec<DynamicObject>, Vec<Key>) = {
            let mut state = self.state();
            state.ticks += 1;
            (
                state.configurations.values().cloned().collect(),
                state.machines.keys().cloned().collect(),
            )
        };
        for key in machines {
            self.probe(&key);
        }
        for object in configurations {
            self.react(&key_of(&object));
            if self.options.generation == Generation::Classic {
                self.timer(&object);
            }
        }
    }

    /// Something about a configuration may ask for work.
    fn react(self: &Arc<Self>, key: &Key) {
        match self.options.generation {
            Generation::Classic => self.handle(key),
            Generation::V1 => self.reconcile(key),
        }
    }
}

fn key_of(object: &DynamicObject) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}
