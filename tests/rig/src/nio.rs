//! A simulator of NIO in both generations: a task on the rig's own runtime that handles NixosConfigurations and Machines field by field as
//! the real program does, with hours shortened to milliseconds, and with knobs for everything that can go wrong.

mod apply;
mod classic;
pub mod hash;
mod history;
mod knobs;
mod options;
mod remove;
mod ticks;
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

/// The finalizer that kopf adds to objects that it handles.
pub const KOPF_FINALIZER: &str = "kopf.zalando.org/KopfFinalizerMarker";
/// The annotation in which kopf stores the state that it handled last.
pub const KOPF_ANNOTATION: &str = "kopf.zalando.org/last-handled-configuration";

/// The finalizer that v1 adds to configurations.
pub const V1_FINALIZER: &str = "nio.homystack.com/finalizer";

/// The finalizer by which a generation holds its configurations.
#[must_use]
pub fn finalizer(generation: Generation) -> &'static str {
    match generation {
        Generation::Classic => KOPF_FINALIZER,
        Generation::V1 => V1_FINALIZER,
    }
}

/// What the rig does instead of the flake when a configuration was applied to a machine or removed from it.
pub type Hook = Arc<dyn Fn(Applied) -> BoxFuture<'static, Aftermath> + Send + Sync>;

/// The effect of a configuration on its machine that NIO notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aftermath {
    /// NIO has finished, whatever the machine's units do.
    Done,
    /// The machine can no longer be reached: the apply fails, and the machine stays unreachable until the knob is reset.
    CutOff,
}

/// A running simulator. Clones share it. It ends with [`Nio::stop`] or when the last clone is dropped.
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
    /// Objects for which a handler runs: kopf handles one change of an object at a time.
    handling: HashSet<Key>,
    /// Objects for which a timer runs.
    timing: HashSet<Key>,
    /// Timers run beside handlers, but a deletion waits for them.
    busy: HashMap<Key, Arc<RwLock<()>>>,
    ticks: u64,
    /// When the simulator released a deleted configuration, or saw that one is gone.
    let_go: Vec<(Duration, String)>,
    v1: v1::Memory,
}

impl Nio {
    /// Starts the simulator. `client` must be an administrator's, and created on the rig's runtime.
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

    /// The simulated generation of NIO.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.shared.options.generation
    }

    /// Stops it, and starts one of another generation instead, which keeps knobs and history.
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

    /// Stops it.
    pub fn stop(&self) {
        self.stop.0.send_replace(true);
    }

    /// Pauses or resumes it. While paused it does nothing, as if its pod was gone. v1's `CronJob`s continue, since Kubernetes runs them.
    pub fn pause(&self, paused: bool) {
        self.shared.state().paused = paused;
    }

    /// Changes the knobs of one machine.
    pub fn set(&self, machine: &str, change: impl FnOnce(&mut Knobs)) {
        change(
            self.shared
                .state()
                .knobs
                .entry(machine.to_owned())
                .or_default(),
        );
    }

    /// Simulates a push to the default branch. Configurations that follow it are applied again within a tick. Returns the new head.
    #[allow(clippy::must_use_candidate, reason = "the push is the point")]
    pub fn push(&self) -> String {
        self.shared.state().pushes += 1;
        self.head()
    }

    /// v1: deletes every Job that has ended, as Kubernetes does after some time.
    pub async fn prune_jobs(&self) {
        let namespace = self.shared.options.namespace.clone().unwrap_or_default();
        let _ = self.shared.prune(&namespace).await;
    }

    /// The head of the default branch.
    #[must_use]
    pub fn head(&self) -> String {
        self.shared.head()
    }

    /// All attempts, in the order in which they ended.
    #[must_use]
    pub fn history(&self) -> Vec<Attempt> {
        self.shared.state().history.clone()
    }

    /// When deleted configurations were gone, by machine, since the simulator's start. The time is noted before the removal is visible.
    #[must_use]
    pub fn let_go(&self) -> Vec<(Duration, String)> {
        self.shared.state().let_go.clone()
    }

    /// When it was started, from which its times count.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.shared.started
    }

    /// The time since its start, to check what happens after this point.
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

    /// Clears the status of a configuration and of its machine, as a `kubectl edit` or a restored backup would.
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

    /// The outcome of an attempt. Even if nothing else makes it fail, the applied configuration may cut off its machine.
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

    /// Handles a possible change of a configuration.
    fn react(self: &Arc<Self>, key: &Key) {
        match self.options.generation {
            Generation::Classic => self.handle(key),
            Generation::V1 => self.reconcile(key),
        }
    }
}

/// The name of a configuration's machine.
fn machine_of(configuration: &DynamicObject) -> &str {
    let name = configuration.data["spec"]["machineRef"]["name"].as_str();
    name.unwrap_or_default()
}

/// The namespace and the name of a configuration's machine.
fn machine_key_of(configuration: &DynamicObject) -> Key {
    let namespace = configuration.namespace().unwrap_or_default();
    (namespace, machine_of(configuration).to_owned())
}

fn key_of(object: &DynamicObject) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}
