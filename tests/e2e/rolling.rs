//! A living cluster is changed, on a real API server with the shipped rights: the order, the intervals judged from NIO's side, and
//! what happens when machines, NIO or NICO fail meanwhile.

mod dead;
mod edits;
mod failures;
mod full_install;
mod hand;
pub(crate) mod leaving;
mod members;
mod nio_v1;
mod pinned;
mod turns;
mod without_nodes;

use std::time::Duration;

use crate::common::case::Case;
use crate::common::shown::in_flight;
use crate::common::traffic::{RESYNC, resyncs};
use crate::common::{DEADLINE, listed, nico};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use rig::crds::Generation;
use rig::judge::rollout::order;
use rig::machines::MachineHost;
use rig::wait::wait_describing;
use rig::world::condition;
use serde_json::{Value, json};

/// The repository with which every cluster begins.
const OLD: &str = "https://git.example.com/flakes.git";
/// The repository that a test changes to.
const NEW: &str = "https://git.example.com/new.git";
/// One that is no good.
const BAD: &str = "https://git.example.com/bad.git";

const THREE: [&str; 3] = ["cp-01", "cp-02", "cp-03"];
const TWO: [&str; 2] = ["w-01", "w-02"];
/// The order in which a roll takes them.
const IN_TURN: [&str; 5] = ["w-01", "w-02", "cp-01", "cp-02", "cp-03"];

/// Three control plane machines and two workers, Ready, with this NIO and a workload API server of their own.
async fn ready(generation: Generation) -> Case {
    let (case, _hosts) = ready_with(generation, &THREE, &TWO, json!({})).await;
    case
}

/// These machines, Ready, with more in the spec; and the hosts, the control plane's first.
async fn ready_with(
    generation: Generation,
    control_plane: &[&str],
    workers: &[&str],
    more: Value,
) -> (Case, Vec<MachineHost>) {
    let case = Case::alone_of(generation, &nico().args(&RESYNC), |_| ()).await;
    bring_up(case, control_plane, workers, more).await
}

/// These machines, Ready, in this world.
async fn bring_up(
    case: Case,
    control_plane: &[&str],
    workers: &[&str],
    more: Value,
) -> (Case, Vec<MachineHost>) {
    let hosts = case
        .world
        .machines_named(&[control_plane, workers].concat())
        .await;
    let mut spec = listed(control_plane, workers);
    for (field, value) in more.as_object().unwrap() {
        spec[field] = value.clone();
    }
    case.cluster("prod", spec).await;
    case.ready("prod").await;
    (case, hosts)
}

/// A spec with another repository.
fn repository(url: &str) -> Value {
    json!({ "gitRepo": url })
}

/// A spec with another repository whose machines have two seconds each.
fn hurried(url: &str) -> Value {
    json!({ "gitRepo": url, "rollout": { "progressDeadlineSeconds": 2 } })
}

/// A question of these tests to a [`Case`] whose cluster is `prod`.
impl Case {
    /// Edits the spec; the time just before, on NIO's clock.
    async fn roll(&self, spec: Value) -> Duration {
        let before = self.world.nio().now();
        self.edit("prod", spec).await;
        before
    }

    /// The machines that were written since then, in order.
    fn written(&self, since: Duration) -> Vec<String> {
        order(&self.evidence(), since)
    }

    /// NIO does nothing for a machine, or does again.
    fn deaf(&self, machine: &str, deaf: bool) {
        self.world
            .nio()
            .set(machine, |knobs| knobs.never_reacts = deaf);
    }

    /// Whether NIO reaches a machine.
    fn unreachable(&self, machine: &str, unreachable: bool) {
        self.world
            .nio()
            .set(machine, |knobs| knobs.unreachable = unreachable);
    }

    /// Waits for a condition with this reason and text in its message; returns the status.
    async fn says(&self, kind: &str, reason: &str, text: &str) -> Value {
        let what = format!("{kind}, {reason}: {text}");
        let said = |status: &Value| {
            let found = condition(status, kind);
            let message = found["message"].as_str().unwrap_or_default();
            found["status"] == "True" && found["reason"] == reason && message.contains(text)
        };
        self.world.wait_status("prod", &what, DEADLINE, said).await
    }

    /// Waits until the roll stands still because of a machine that was not confirmed in time; returns the status.
    async fn stuck_at(&self, machine: &str) -> Value {
        let status = self
            .says(
                "Stalled",
                "ProgressDeadlineExceeded",
                &format!("Machine {machine} "),
            )
            .await;
        assert_eq!(status["phase"], "Failed", "{status}");
        assert_eq!(condition(&status, "Ready")["status"], "False", "{status}");
        assert!(
            in_flight(&status).contains(&machine.to_owned()),
            "it keeps its entry: {status}"
        );
        status
    }

    /// Waits until exactly these machines are in flight, as the status tells; returns it.
    async fn flying(&self, machines: &[&str]) -> Value {
        let what = format!("{machines:?} are in flight");
        let these = |status: &Value| in_flight(status) == machines;
        self.world.wait_status("prod", &what, DEADLINE, these).await
    }

    /// Two more resyncs pass; what was written since then is this and no more.
    async fn nothing_but(&self, since: Duration, machines: &[&str]) {
        let counter = resyncs(&self.proxy, "prod");
        counter.more("two resyncs", 2, DEADLINE).await;
        self.proxy.clear_faults();
        assert_eq!(
            self.written(since),
            machines,
            "{}",
            self.proxy.write_lines()
        );
    }

    /// Waits until this and no more was written since then, the cluster is Ready, and the slot is empty.
    async fn ends_with(&self, since: Duration, machines: &[&str]) -> Value {
        let goal = || async {
            let empty = self.entries().await.is_empty();
            (self.written(since) == machines && empty).then_some(())
        };
        let what = format!("these are written: {machines:?}");
        let seen = || async {
            format!(
                "{:?}\n{}\n{}",
                self.written(since),
                self.proxy.write_lines(),
                self.world.describe().await
            )
        };
        wait_describing(&what, DEADLINE, goal, seen).await;
        let status = self.rolled_out("prod").await;
        assert_eq!(
            self.written(since),
            machines,
            "{}",
            self.proxy.write_lines()
        );
        status
    }

    /// The machines with an entry in the slot, as the ledger tells.
    async fn entries(&self) -> Vec<String> {
        let slot = &self.map("prod-nico").await["slot"];
        let slot: Value = serde_json::from_str(slot).unwrap();
        let entries = slot["entries"].as_array().unwrap().iter();
        entries
            .map(|entry| entry["machine"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Waits until a machine is confirmed with what it holds.
    async fn confirmed(&self, machine: &str) {
        let done = || async {
            let held = self.configuration(machine).await;
            let mark = held.annotations().get("nico.homystack.com/confirmed");
            let marker = format!(".nico/{}", mark?);
            (marker == self.marker(machine).await).then_some(())
        };
        let what = format!("{machine} is confirmed");
        wait_describing(&what, DEADLINE, done, || self.world.describe()).await;
    }

    /// Changes a configuration by hand.
    async fn patch_configuration(&self, machine: &str, patch: Value) {
        let configurations = self.world.configurations();
        configurations
            .patch(machine, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
    }
}
