//! The slot: takes entries, writes under them, and ends them. Each write has the version on which the plan is based as its precondition.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt as _};

use super::{ActError, Executor};
use crate::api::ledger::Ledger;
use crate::api::names::MachineName;
use crate::api::nio::Machine;
use crate::controller::calls::{self, CallError, STOPPING};
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

/// How many configurations are touched at the same time. With this many, a thousand entries end within one pass.
const TOUCHES_AT_A_TIME: usize = 16;

impl Executor<'_> {
    /// Creates or renews entries; returns the ledger's new version.
    pub(super) async fn take(
        &mut self,
        machines: &[MachineName],
        version: &Precondition,
        taken: &Ledger,
        without_quorum: Option<usize>,
    ) -> Result<Precondition, ActError> {
        self.update_ledger(version, taken).await?;
        for (machine, n) in machines.iter().zip(without_quorum) {
            // It was a choice. The status says so in each rollout, and a Warning is for what is new.
            if !self.pass.memory().is_first_without_quorum(n) {
                continue;
            }
            self.emit(&Happening::QuorumNotKept(machine.clone(), n));
        }
        let taken = self.ledger.clone();
        taken.ok_or(ActError::Lost(
            "the ConfigMap with NICO's lock was not read",
        ))
    }

    /// A disruptive write under the entry for which this executor's plan was made. Everything on which the plan is based was read just
    /// before.
    pub(in crate::controller) async fn disrupt(
        &self,
        disruptive: &Disruptive,
    ) -> Result<(), ActError> {
        // A process that was suspended meanwhile must not act on an old decision. The wait for late requests relies on this.
        if self.is_too_old() {
            return Err(TOO_OLD);
        }
        let machine = disruptive.machine().clone();
        match disruptive.write() {
            EnteredWrite::Rewrite(rewrite) => self.rewrite(rewrite).await,
            EnteredWrite::Join(claim) => {
                self.post(claim).await?;
                self.emit(&Happening::Claimed(vec![machine], claim.role));
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
                self.emit(&Happening::Draining(machine, name.clone()));
                Ok(())
            }
            EnteredWrite::Release(version) => {
                self.give_back(machine.as_str(), version).await?;
                let spec = self.observed.spec.as_ref();
                if spec.is_ok_and(|spec| !spec.rollout.node_checks) {
                    self.emit(&Happening::NodeStays(machine));
                }
                Ok(())
            }
            EnteredWrite::DeleteNode { name, uid } => {
                let api = self.workload_api().await?;
                let begin = || self.context.writes.begin();
                let delete = api.delete_node(name, uid, || self.time_left(), begin);
                match self.write_node(name, delete).await {
                    Ok(()) | Err(CallError::Gone(_)) => {}
                    Err(error) => return Err(error.into()),
                }
                self.emit(&Happening::NodeDeleted(machine, name.clone()));
                Ok(())
            }
        }
    }

    /// Removes NICO's marks from a Node whose machine stays after all.
    pub(super) async fn undrain(
        &self,
        machine: &MachineName,
        name: &str,
        uid: &str,
        cordoned: bool,
    ) -> Result<(), ActError> {
        // This stops the evictions from all Nodes. The next pass starts those again that are still needed.
        let cluster = &self.observed.cluster.uid;
        self.context
            .background
            .evict_only(cluster, &BTreeSet::new());
        self.mark_node(name, uid, &Marks::none(cordoned)).await?;
        self.emit(&Happening::Undrained(machine.clone(), name.to_owned()));
        Ok(())
    }

    async fn mark_node(&self, name: &str, uid: &str, marks: &Marks) -> Result<(), ActError> {
        let api = self.workload_api().await?;
        let begin = || self.context.writes.begin();
        let write = api.mark_node(name, uid, marks, || self.time_left(), begin);
        Ok(self.write_node(name, write).await?)
    }

    /// Sends a write to a Node, and waits for the HTTP status of the response.
    async fn write_node(
        &self,
        name: &str,
        write: impl Future<Output = Option<u16>>,
    ) -> Result<(), CallError> {
        let status = self.pass.wait_for(write).await;
        if status.is_none() && self.context.writes.begin().is_none() {
            return Err(CallError::Unanswered {
                what: format!("Node {name}"),
                why: STOPPING,
            });
        }
        written(name, status)
    }

    async fn workload_api(&self) -> Result<WorkloadApi, ActError> {
        let api = workload_api(&self.context.named, self.observed).await?;
        api.map_err(|_| ActError::Lost("the kubeconfig of the cluster cannot be used any more"))
    }

    /// Starts to evict the pods of a Node in the background.
    pub(super) fn evict(&self, node: &str) {
        let Context {
            background,
            named,
            writes,
            ..
        } = self.context;
        let cluster = &self.observed.cluster;
        if background.evicts(&cluster.uid, node) {
            return;
        }
        let (named, observed) = (Arc::clone(named), self.shared());
        let (evicted, writes) = (node.to_owned(), writes.clone());
        let evict = async move {
            let api = workload_api(&named, &observed).await;
            drop(observed);
            if let Ok(Ok(api)) = api {
                api.evict_all(&evicted, || writes.begin()).await;
            }
        };
        background.start_evict(cluster, node, evict);
    }

    /// The observed state, shared with background work.
    fn shared(&self) -> Arc<Observed> {
        let shared = || Arc::new(self.observed.clone());
        Arc::clone(self.shared.get_or_init(shared))
    }

    /// Whether the plan is too old to act on it.
    pub(super) fn is_too_old(&self) -> bool {
        self.time_left().is_zero()
    }

    fn time_left(&self) -> Duration {
        let longest = self.context.settings.request_timeout;
        longest.saturating_sub(self.taken_up.age())
    }

    /// Touches configurations, and removes the entries of those that the responses show as settled, with the ledger's version from before
    /// the touches. A configuration that cannot be touched, or is in flight again, keeps only its own entry. Those for which there is no
    /// time left are handled by the next pass.
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

    /// Touches the configuration of an entry; an error if the response does not show it as settled.
    async fn touch(&self, machine: &MachineName, child: &Precondition) -> Result<(), ActError> {
        let answer = self.mark(machine.as_str(), child, &Mark::Touched).await?;
        let mut answer = self.observed.as_member(&answer);
        let machine;
        if let Some(answer) = &mut answer
            && answer.rewritten().is_some()
        {
            // NIO's proof is partly in the Machine, so the Machine must be read after the touch.
            machine = calls::list_one::<Machine>(&self.api(), answer.name.as_str()).await?;
            answer.machine = machine.as_ref();
        }
        if answer.is_some_and(|answer| answer.controlled && answer.is_settled(now())) {
            Ok(())
        } else {
            Err(ActError::Lost("the machine is in flight again"))
        }
    }

    /// Starts to probe the cluster in the background.
    pub(super) fn ask(&self) {
        let (named, observed) = (Arc::clone(&self.context.named), self.shared());
        let probe = async move { workload_health(&named, &observed).await.ok() };
        self.context
            .background
            .start_probe(&self.observed.cluster, probe);
    }
}

/// The outcome of a write to a Node, by the HTTP status of the response.
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
