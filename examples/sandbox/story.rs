//! What happens, told as it happens: one line with the seconds since the start for each thing that a person would want to know,
//! read off the clusters and configurations as they change. It runs as long as the session, so that it also tells what comes of
//! the commands that somebody tries.

use std::collections::HashMap;
use std::io::Write;
use std::pin::Pin;
use std::time::Instant;

use futures::{Stream, StreamExt};
use kube::ResourceExt;
use kube::api::{Api, DynamicObject};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use nico::api::conditions::Attention;
use nico::api::names::{CLUSTER_LABEL, CONFIRMED_ANNOTATION, ROLE_LABEL};
use rig::crds;
use rig::nio::Nio;
use serde_json::Value;

use crate::management::Management;

/// The time since the start, and the voice.
#[derive(Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Default for Clock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock {
    /// Says one thing, with the time.
    pub(crate) fn tell(&self, what: &str) {
        say(&format!(
            "{:>6.1} s  {what}",
            self.0.elapsed().as_secs_f64()
        ));
    }

    /// Adds a line to what was just told.
    #[allow(clippy::unused_self, reason = "it follows a line of the same clock")]
    pub(crate) fn add(&self, what: &str) {
        say(&format!("            {what}"));
    }
}

/// One line on standard output, whoever reads it or not.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

type Events = Pin<Box<dyn Stream<Item = watcher::Result<Event<DynamicObject>>> + Send>>;

/// What was told of a cluster.
#[derive(Default)]
struct Cluster {
    ready: bool,
    secret: Option<String>,
    stalled: Option<String>,
    /// Why it is not Ready, once it was, or where more is amiss than that machines are still to come.
    why: Option<String>,
    ending: bool,
}

/// What was told of a configuration.
#[derive(Default)]
struct Configuration {
    applied: Option<String>,
    confirmed: Option<String>,
    ending: bool,
}

/// What was told of a Machine.
#[derive(Default)]
struct Machine {
    /// What is played of it.
    is: Option<String>,
    /// Whether NIO reaches it.
    reached: bool,
}

/// The annotation of a Machine by which somebody plays that it is `off`, or `broken`: every configuration fails on it.
pub(crate) const PLAY: &str = "sandbox/is";

/// The teller.
pub(crate) struct Story<'a> {
    clock: Clock,
    nio: &'a Nio,
    machine_events: Events,
    cluster_events: Events,
    configuration_events: Events,
    machines: HashMap<String, Machine>,
    clusters: HashMap<String, Cluster>,
    configurations: HashMap<String, Configuration>,
}

impl<'a> Story<'a> {
    /// Begins to look at the sandbox's namespace.
    pub(crate) fn new(management: &Management, nio: &'a Nio, clock: Clock) -> Self {
        let (client, namespace) = (management.client(), management.namespace());
        let events = |api: Api<DynamicObject>| -> Events {
            Box::pin(watch(api, watcher::Config::default()).default_backoff())
        };
        Self {
            clock,
            nio,
            machine_events: events(crds::machines(client, namespace)),
            machines: HashMap::new(),
            cluster_events: events(crds::clusters(client, namespace)),
            configuration_events: events(crds::configurations(client, namespace)),
            clusters: HashMap::new(),
            configurations: HashMap::new(),
        }
    }

    /// Whether a cluster was told to be Ready.
    pub(crate) fn is_ready(&self, cluster: &str) -> bool {
        self.clusters.get(cluster).is_some_and(|told| told.ready)
    }

    /// Waits for the next change and tells what is new about it. A watch that breaks begins again by itself.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            // Machines first: a cluster that becomes Ready does so because of them.
            biased;
            Some(Ok(event)) = self.machine_events.next() => match event {
                Event::Apply(object) | Event::InitApply(object) => self.machine(&object),
                Event::Delete(object) => {
                    self.machines.remove(&object.name_any());
                    self.clock.tell(&format!("Machine {} deleted", object.name_any()));
                }
                Event::Init | Event::InitDone => {}
            },
            Some(Ok(event)) = self.configuration_events.next() => match event {
                Event::Apply(object) | Event::InitApply(object) => self.configuration(&object),
                Event::Delete(object) => {
                    let machine = object.name_any();
                    self.configurations.remove(&machine);
                    let whose = whose(&object);
                    let is_free = match self.machines.get(&machine) {
                        Some(it) if it.reached => "is free again",
                        Some(_) => "is released without #minimal, since NIO could not reach it: what ran there may still run",
                        None => "is released without NIO: its Machine object is gone",
                    };
                    self.clock.tell(&format!("{whose}: {machine} {is_free}"));
                }
                Event::Init | Event::InitDone => {}
            },
            Some(Ok(event)) = self.cluster_events.next() => match event {
                Event::Apply(object) | Event::InitApply(object) => self.cluster(&object),
                Event::Delete(object) => {
                    self.clusters.remove(&object.name_any());
                    self.clock.tell(&format!("{}: deleted", object.name_any()));
                }
                Event::Init | Event::InitDone => {}
            },
            else => std::future::pending().await,
        }
    }

    /// Notes a Machine, and lets the stand-in for NIO play what is asked of it.
    fn machine(&mut self, object: &DynamicObject) {
        let name = object.name_any();
        let is = object.annotations().get(PLAY).cloned();
        let told = self.machines.entry(name.clone()).or_default();
        // NIO notices a little later what is played.
        told.reached =
            object.data["status"]["discoverable"] == true && is.as_deref() != Some("off");
        if is == told.is {
            return;
        }
        told.is.clone_from(&is);
        self.nio.set(&name, |knobs| {
            knobs.unreachable = is.as_deref() == Some("off");
            knobs.fails = is.as_deref() == Some("broken");
        });
        self.clock.tell(&match is.as_deref() {
            Some("off") => format!("Machine {name} goes away: NIO cannot reach it"),
            Some("broken") => format!("Machine {name} is broken: every configuration fails on it"),
            Some(other) => {
                format!("Machine {name} is {other}: the sandbox plays `off` and `broken` alone")
            }
            None => format!("Machine {name} works again"),
        });
    }

    fn configuration(&mut self, object: &DynamicObject) {
        let (machine, whose) = (object.name_any(), whose(object));
        let clock = self.clock;
        let released = match self.machines.get(&machine) {
            Some(it) if it.reached => "released, NIO applies #minimal",
            Some(_) => "is to be released, and NIO cannot reach it",
            None => "is to be released, and NIO cannot reach it: its Machine object is gone",
        };
        let told = self
            .configurations
            .entry(machine.clone())
            .or_insert_with(|| {
                let became = match object.labels().get(ROLE_LABEL).map(String::as_str) {
                    Some("worker") => "assigned as worker",
                    Some(_) => "assigned as control plane machine",
                    None => "gets a NixosConfiguration that is not NICO's",
                };
                clock.tell(&format!("{whose}: {machine} {became}"));
                Configuration::default()
            });
        if object.metadata.deletion_timestamp.is_some() {
            if !told.ending {
                told.ending = true;
                clock.tell(&format!("{whose}: {machine} {released}"));
            }
            return;
        }
        let status = &object.data["status"];
        let applied = status["appliedCommit"].as_str().map(|commit| {
            format!(
                "{commit} {}",
                status["additionalFilesHash"].as_str().unwrap_or_default()
            )
        });
        if applied.is_some() && told.applied != applied {
            told.applied = applied;
            clock.tell(&format!("{whose}: {machine} applied by NIO"));
        }
        let confirmed = object.annotations().get(CONFIRMED_ANNOTATION);
        if let Some(confirmed) = confirmed
            && told.confirmed.as_ref() != Some(confirmed)
        {
            told.confirmed = Some(confirmed.clone());
            clock.tell(&format!("{whose}: {machine} up to date"));
        }
    }

    fn cluster(&mut self, object: &DynamicObject) {
        let name = object.name_any();
        let clock = self.clock;
        let told = self.clusters.entry(name.clone()).or_insert_with(|| {
            clock.tell(&format!("{name}: KubernetesCluster applied"));
            Cluster::default()
        });
        if object.metadata.deletion_timestamp.is_some() && !told.ending {
            told.ending = true;
            clock.tell(&format!("{name}: is being deleted"));
        }
        let status = &object.data["status"];
        let secret = status["kubeconfigSecret"].as_str().map(str::to_owned);
        if told.secret != secret {
            if let Some(secret) = &secret {
                clock.tell(&format!(
                    "{name}: kubeconfig read over SSH and stored in Secret {secret}"
                ));
            }
            told.secret = secret;
        }
        let condition = |kind: &str| rig::world::condition(status, kind).clone();
        let ready = condition("Ready");
        let is_ready = ready["status"] == "True";
        // Before it is Ready for the first time, what its machines do tells more than its message, while they do what they should.
        let stalled = condition("Stalled");
        let stalls = stalled["status"] == "True";
        let (reason, message) = (text(&ready["reason"]), text(&ready["message"]));
        let calls = Attention::of(reason) != Attention::No && !stalls;
        // The next machine that something is wrong with is news; the next step of a roll is not.
        let what = if calls { message } else { reason };
        // That it is not Ready any more is no news of one that is being deleted.
        let was_told = !told.ending && (told.ready || told.why.is_some());
        let why = (!is_ready && (was_told || calls)).then(|| what.to_owned());
        if is_ready && !told.ready {
            clock.tell(&format!("{name}: Ready, {}", counts(status)));
        } else if why.is_some() && told.why != why && !stalls {
            clock.tell(&format!("{name}: not Ready: {message}"));
        }
        told.ready = is_ready;
        told.why = why;
        let stalled = stalls.then(|| {
            format!(
                "{name}: stalled, {}: {}",
                text(&stalled["reason"]),
                text(&stalled["message"])
            )
        });
        if told.stalled != stalled {
            if let Some(line) = &stalled {
                clock.tell(line);
            }
            told.stalled = stalled;
        }
    }
}

/// How many machines of each role are up to date.
fn counts(status: &Value) -> String {
    let count = |role: &str| text(&status[role]["summary"]);
    let mut counts = format!("control plane {}", count("controlPlane"));
    if status["dataPlane"]["total"] != 0 {
        counts = format!("{counts}, workers {}", count("dataPlane"));
    }
    counts
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The cluster that a configuration is of.
fn whose(object: &DynamicObject) -> &str {
    let cluster = object.labels().get(CLUSTER_LABEL);
    cluster.map_or("no KubernetesCluster", String::as_str)
}
