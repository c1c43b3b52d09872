//! The slot: entries are taken, written under, and ended. Each write insists on the version that the plan rests on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt as _};

use super::{ActError, Executor};
use crate::api::ledger::Ledger;
use crate::api::names::MachineName;
use crate::api::nio::Machine;
use crate::controller::calls::{self, CallError};
use crate::controller::clock::now;
use crate::controller::context::Context;
use crate::controller::events::Happening;
use crate::controller::observe::{workload_api, workload_health};
use crate::plan::action::Mark;
use crate::plan::entered::{Disruptive, EnteredWrite};
use crate::plan::observed::Observed;
use crate::plan::writes::Precondition;
use crate::remote::workload::{Marks, WorkloadApi};

const TOO_OLD: ActError = ActError::Lost("too much time passed since it was decided");

/// So that a thousand entries end within one pass.
const TOUCHES_AT_A_TIME: usize = 16;

impl Executor<'_> {
    /// Makes or renews entries; returns the ledger as that left it.
    pub(super) async fn take(
        &mut self,
        machines: &[MachineName],
        version: &Precondition,
        taken: &Ledger,
        without_quorum: Option<usize>,
    ) -> Result<Precondition, ActError> {
        self.update_ledger(version, taken).await?;
        for (machine, n) in machines.iter().zip(without_quorum) {
            self.tell(&Happening::QuorumNotKept(machine.clone(), n));
        }
        let taken = self.ledger.clone();
        taken.ok_or(ActError::Lost("the ledger was not read"))
    }

    /// A write under the entry that this executor's plan was made with; everything that the plan rests on was read just before.
    pub(in crate::controller) async fn disrupt(
        &self,
        disruptive: &Disruptive,
    ) -> Result<(), ActError> {
        // A process that slept meanwhile must not act on what it decided before: the wait for late requests counts on it.
        if self.is_too_old() {
            return Err(TOO_OLD);
        }
        let machine = disruptive.machine().clone();
        match disruptive.write() {
            EnteredWrite::Rewrite(rewrite) => self.rewrite(rewrite).await,
            EnteredWrite::Join(claim) => {
                self.post(claim).await?;
                self.tell(&Happening::Claimed(vec![machine], claim.role));
                Ok(())
            }
            EnteredWrite::Drain {
                name,
                uid,
                since,
                cordon,
            } => {
                let marks = Marks::drained(*since, *cordon);
                self.mark_node(name, uid, &marks).await?;
                self.tell(&Happening::Draining(machine, name.clone()));
                Ok(())
            }
            EnteredWrite::Release(version) => {
                self.give_back(machine.as_str(), version).await?;
                let spec = self.observed.spec.as_ref();
                if spec.is_ok_and(|spec| !spec.rollout.node_checks) {
                    self.tell(&Happening::NodeStays(machine));
                }
                Ok(())
            }
            EnteredWrite::DeleteNode { name, uid } => {
                let api = self.workload_api().await?;
                let delete = api.delete_node(name, uid, || self.time_left());
                let status = self.pass.wait_for(delete).await;
                match written(name, status) {
                    Ok(()) | Err(CallError::Gone(_)) => {}
                    Err(error) => return Err(error.into()),
                }
                self.tell(&Happening::NodeDeleted(machine, name.clone()));
                Ok(())
            }
        }
    }

    /// Takes NICO's marks off a Node whose machine stays after all.
    pub(super) async fn undrain(
        &self,
        machine: &MachineName,
        name: &str,
        uid: &str,
        cordoned: bool,
    ) -> Result<(), ActError> {
        // What goes on elsewhere is taken up again by the next pass.
        let cluster = &self.observed.cluster.uid;
        self.context
            .background
            .evict_only(cluster, &BTreeSet::new());
        self.mark_node(name, uid, &Marks::none(cordoned)).await?;
        self.tell(&Happening::Undrained(machine.clone(), name.to_owned()));
        Ok(())
    }

    async fn mark_node(&self, name: &str, uid: &str, marks: &Marks) -> Result<(), ActError> {
        let api = self.workload_api().await?;
        let write = api.mark_node(name, uid, marks, || self.time_left());
        let status = self.pass.wait_for(write).await;
        Ok(written(name, status)?)
    }

    async fn workload_api(&self) -> Result<WorkloadApi, ActError> {
        let api = workload_api(&self.context.named, self.observed).await?;
        api.map_err(|_| ActError::Lost("the cluster cannot be asked any more"))
    }

    /// Evicts the pods of a Node, in the background.
    pub(super) fn evict(&self, node: &str) {
        let Context {
            background, named, ..
        } = self.context;
        let cluster = &self.observed.cluster;
        if background.evicts(&cluster.uid, node) {
            return;
        }
        let (named, observed) = (Arc::clone(named), self.shared());
        let evicted = node.to_owned();
        let evict = async move {
            let api = workload_api(&named, &observed).await;
            drop(observed);
            if let Ok(Ok(api)) = api {
                api.evict_all(&evicted).await;
            }
        };
        background.start_evict(cluster, node, evict);
    }

    /// What the plan was made from, for all that is started in the background.
    fn shared(&self) -> Arc<Observed> {
        let shared = || Arc::new(self.observed.clone());
        Arc::clone(self.shared.get_or_init(shared))
    }

    /// Whether so much time has passed since the plan was taken up that nothing may rest on it any more.
    pub(super) fn is_too_old(&self) -> bool {
        self.time_left().is_zero()
    }

    fn time_left(&self) -> Duration {
        let longest = self.context.settings.request_timeout;
        longest.saturating_sub(self.taken_up.age())
    }

    /// Touches children; where the answers show them settled, their entries go, by the ledger of before the touches. One that cannot
    /// be touched, or is in flight again, holds up its own entry alone. Those that there was no time for are left to the next pass.
    pub(super) async fn end_entries(
        &mut self,
        children: &BTreeMap<MachineName, Precondition>,
        ledger: &Precondition,
        before: &Ledger,
    ) -> Result<(), ActError> {
        let mut after = before.clone();
        let mut failed = None;
        let touches = stream::iter(children.clone()).map(async |(machine, child)| {
            let touched = if self.is_too_old() {
                Err(TOO_OLD)
            } else {
                self.touch(&machine, &child).await
            };
            (machine, touched)
        });
        let touched: Vec<_> = touches.buffered(TOUCHES_AT_A_TIME).collect().await;
        for (machine, touched) in touched {
            match touched {
                Ok(()) => after.slot = after.slot.without(&machine),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        if after != *before {
            self.update_ledger(ledger, &after).await?;
        }
        failed.map_or(Ok(()), Err)
    }

    /// Touches the child of an entry; an error where the answer does not show it settled.
    async fn touch(&self, machine: &MachineName, child: &Precondition) -> Result<(), ActError> {
        let answer = self.mark(machine.as_str(), child, &Mark::Touched).await?;
        let mut answer = self.observed.as_member(&answer);
        let machine;
        if let Some(answer) = &mut answer
            && answer.rewritten().is_some()
        {
            // NIO's proof counts here, and half of it is in the Machine: that has to be as new as the touch.
            machine = calls::list_one::<Machine>(&self.api(), answer.name.as_str()).await?;
            answer.machine = machine.as_ref();
        }
        if answer.is_some_and(|it| it.controlled && it.is_settled(now())) {
            Ok(())
        } else {
            Err(ActError::Lost("the machine is in flight again"))
        }
    }

    /// Asks the cluster how its machines are, in the background.
    pub(super) fn ask(&self) {
        let (named, observed) = (Arc::clone(&self.context.named), self.shared());
        let probe = async move { workload_health(&named, &observed).await.ok() };
        self.context
            .background
            .start_probe(&self.observed.cluster, probe);
    }
}

/// How a write to a Node went, by the HTTP status of the answer.
fn written(node: &str, status: Option<u16>) -> Result<(), CallError> {
    let what = format!("Node {node}");
    match status {
        Some(200..300) => Ok(()),
        Some(code) => Err(CallError::refused(what, code, "")),
        None => Err(CallError::Unanswered {
            what,
            why: "no API server of the cluster answered in time",
        }),
    }
}
