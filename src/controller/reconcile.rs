//! One pass for one cluster: observe, plan, act, status.

mod changes;
mod entered;
mod failure;
mod report;

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use kube::runtime::controller::Action as Next;
use tracing::{Instrument as _, info_span};

use super::act::together::Together;
use super::act::{ActError, Executor, Outcome};
use super::aside::aside;
use super::calls::CallError;
use super::clock::now;
use super::context::Context;
use super::live::Sources;
use super::observe::{at_hand, observe, read_ledger, read_live, view};
use super::pass::Pass;
use super::schedule::{LONGEST_TURN, STALE_PASSES_BEFORE_BACKOFF, STALE_PAUSE};
use crate::api::cluster::RawCluster;
use crate::api::conditions::ConditionType;
use crate::api::status::Role;
use crate::plan::action::{Action, FinalizerWrite, NodeWork, Plan};
use crate::plan::nio;
use crate::plan::observed::Observed;
use crate::plan::prerequisites::add_finalizer;
use crate::plan::selection::is_short;
use crate::plan::status::{Refusal, status};
use crate::plan::{Settings, plan};
use crate::remote::offload::of_namespace;
use entered::write_under_entries;
use failure::{PassError, failed};
use report::{emit_troubles, keep_status, write_status};

/// The Controller's entry point. Failed passes are handled here, so it never returns an error.
pub async fn reconcile(
    cluster: Arc<RawCluster>,
    context: Arc<Context>,
) -> Result<Next, Infallible> {
    let mut pass = Pass::new(&context, cluster);
    if !pass.begin().await {
        return Ok(Next::await_change());
    }
    let span = info_span!("pass", cluster = pass.name(), namespace = pass.namespace());
    let reconciled = async {
        let began = Instant::now();
        let ended = Box::pin(bounded(&pass)).await;
        let outcome = ended
            .as_ref()
            .map_or_else(PassError::outcome, |_| "success");
        context.metrics.reconciled(outcome, began.elapsed());
        match ended {
            Ok(next) => {
                pass.memory().succeeded();
                next
            }
            Err(error) => failed(&pass, error).await,
        }
    };
    // On the heap, so that waiting passes need little memory.
    let reconciled = of_namespace(&pass.namespace(), reconciled);
    Ok(Box::pin(reconciled).instrument(span).await)
}

/// Runs the steps with a timeout, and catches panics, so that a defect that one cluster triggers does not affect others.
async fn bounded(pass: &Pass<'_>) -> Result<Next, PassError> {
    let steps = AssertUnwindSafe(steps(pass)).catch_unwind();
    let longest = pass.context.settings.pass_timeout();
    tokio::select! {
        ended = tokio::time::timeout(longest, steps) => match ended {
            Ok(ended) => ended.unwrap_or(Err(PassError::Panicked)),
            Err(_) => Err(PassError::Timeout(longest)),
        },
        never = pass.end_turns(LONGEST_TURN) => match never {},
    }
}

/// The steps of a pass: observe, plan, act, status.
async fn steps(pass: &Pass<'_>) -> Result<Next, PassError> {
    let context = pass.context;
    let nio = context.nio().await.map_err(PassError::Unread)?;
    let by_jobs = nio::works_by_jobs(nio);
    if nio.is_some() {
        let missing = context.stores.not_listed(by_jobs);
        if !missing.is_empty() {
            return Err(PassError::NotListed(missing));
        }
    }
    // Changes that arrive during this pass trigger the next one.
    pass.note_interest(true);
    let now = now();
    let settings = Settings {
        default_git_repo: context.settings.default_git_repo.clone(),
        request_timeout: context.settings.request_timeout,
    };
    let mut sources = Sources::cached(&context.stores, &pass.namespace());
    let mut facts = at_hand(pass, &pass.cluster(), &sources, nio);
    let cached = observe(pass, &mut sources, &mut facts, false)
        .await
        .map_err(PassError::Unread)?;
    let stored = cached.kubeconfig.stored.as_ref();
    let valid = stored.and_then(|stored| stored.client_certificate);
    pass.memory().kubeconfig_ends = valid.map(|(_, ends)| ends);
    let first_plan = aside(cached.machines.len(), || plan(&cached, now, &settings));
    pass.memory().keep_clocks(&first_plan.clocks, now);
    let evicts = first_plan.actions.iter().filter_map(|action| match action {
        Action::Node(NodeWork::Evict(node)) => Some(node.as_str()),
        _ => None,
    });
    // Stops evictions of drains that were paused or cancelled.
    context
        .background
        .evict_only(&pass.uid(), &evicts.collect());
    let question = first_plan.question.as_ref();
    context.background.keep_resolving(&cached.cluster, question);
    let new_generation =
        cached.cluster.status.observed_generation != Some(cached.cluster.generation);
    if new_generation && !cached.cluster.deleting {
        report_new_generation(pass, (cached, first_plan), now, &settings).await?;
        return Ok(Next::requeue(context.settings.resync));
    }
    let (observed, plan) = if first_plan.needs_live_reads() {
        let live = plan_from_live_reads(pass, (cached, first_plan), now, &settings);
        let Some(planned) = Box::pin(live).await.map_err(PassError::Unread)? else {
            pass.forget();
            return Ok(Next::requeue(context.settings.resync));
        };
        planned
    } else {
        (cached, first_plan)
    };
    let spec = observed.spec.as_ref();
    let wants_more = spec.is_ok_and(|spec| {
        let mut roles = Role::ALL.into_iter();
        !observed.cluster.deleting
            && roles.any(|role| is_short(&observed, spec, &plan.selection, role))
    });
    pass.note_interest(wants_more);
    let failure = carry_out(pass, &observed, &plan, &settings).await;
    if observed.cluster.deleting && removes_finalizer(&plan) && failure.is_none() {
        pass.forget();
        return Ok(Next::await_change());
    }
    let again = pass.memory().failures() >= STALE_PASSES_BEFORE_BACKOFF;
    let refusal = failure
        .as_ref()
        .filter(|error| again || !error.is_stale())
        .map(|error| Refusal(error.to_string()));
    let later = keep_status(pass, &observed, &plan, refusal.as_ref(), now).await?;
    if let Some(error) = failure {
        return Err(error.into());
    }
    Ok(Next::requeue(next_look(pass, &plan, later)))
}

/// Writes the status for a new generation before anything is done for it: a `GitOps` tool must never see an old `Ready` with a new spec. It
/// is Ready at once only if live reads, and not caches, confirm that.
async fn report_new_generation(
    pass: &Pass<'_>,
    (mut observed, mut planned): (Observed, Plan),
    now: jiff::Timestamp,
    settings: &Settings,
) -> Result<(), PassError> {
    let status_of = |observed: &Observed, plan: &Plan| {
        let machines = observed.machines.len();
        aside(machines, || status(observed, plan, None, now))
    };
    observed.live = true;
    if status_of(&observed, &planned).holds(ConditionType::Ready) {
        let live = plan_from_live_reads(pass, (observed, planned), now, settings);
        let Some(read) = Box::pin(live).await.map_err(PassError::Unread)? else {
            pass.forget();
            return Ok(());
        };
        (observed, planned) = read;
    } else {
        observed.live = false;
    }
    let wanted = status_of(&observed, &planned);
    emit_troubles(pass, &observed.cluster, &wanted).await;
    write_status(pass, &observed.cluster, &wanted).await?;
    pass.wake();
    let adds = |action: &Action| matches!(action, Action::Finalizer(FinalizerWrite::Add(..)));
    let is_planned = planned.actions.iter().any(adds);
    observed.cluster = view(&pass.cluster());
    if !is_planned || observed.cluster.deleting {
        return Ok(());
    }
    // A plan that adds the finalizer does nothing else, and depends on no more than this pass has read: it needs no pass of its own.
    let plan = Plan {
        actions: add_finalizer(&observed).actions,
        ..Plan::default()
    };
    let failure = carry_out(pass, &observed, &plan, settings).await;
    failure.map_or(Ok(()), |error| Err(error.into()))
}

/// Reads everything again from the API server, and plans again. `None` if the cluster is gone.
async fn plan_from_live_reads(
    pass: &Pass<'_>,
    first: (Observed, Plan),
    now: jiff::Timestamp,
    settings: &Settings,
) -> Result<Option<(Observed, Plan)>, CallError> {
    let context = pass.context;
    let (mut observed, mut planned) = first;
    let mut writes = planned.writes();
    loop {
        let ledger = if observed.cluster.deleting {
            None
        } else {
            Some(read_ledger(context, &observed.cluster).await?)
        };
        let scope = planned.scope(observed.cluster.deleting);
        let read = read_live(pass, observed.nio, scope).await?;
        let Some((live, mut sources)) = read else {
            return Ok(None);
        };
        let mut facts = at_hand(pass, &live, &sources, observed.nio);
        facts.live = true;
        if let Some(ledger) = ledger {
            facts.add_ledger(ledger);
        }
        let mut ask = planned.needs_probe;
        loop {
            facts.writes.clone_from(&writes);
            let ask = std::mem::take(&mut ask);
            observed = observe(pass, &mut sources, &mut facts, ask).await?;
            planned = aside(observed.machines.len(), || plan(&observed, now, settings));
            // The new plan may write other machines than those whose Secrets were read.
            let more = planned.writes();
            if more.is_subset(&writes) {
                break;
            }
            writes.extend(more);
        }
        if sources.shows(planned.scope(observed.cluster.deleting)) {
            return Ok(Some((observed, planned)));
        }
    }
}

/// Carries out the plan up to the first action that fails, that writes the cluster, or that takes entries. After these, new reads are
/// needed.
async fn carry_out(
    pass: &Pass<'_>,
    observed: &Observed,
    plan: &Plan,
    settings: &Settings,
) -> Option<ActError> {
    let mut executor = Executor::new(pass, observed);
    let failure = act_in_order(pass, &mut executor, plan, settings).await;
    executor.emit_claims();
    failure
}

async fn act_in_order(
    pass: &Pass<'_>,
    executor: &mut Executor<'_>,
    plan: &Plan,
    settings: &Settings,
) -> Option<ActError> {
    let mut actions = plan.actions.as_slice();
    while let Some(together) = Together::take_from(&mut actions) {
        let outcome = match &together {
            Together::Births(births) => executor.create_together(births).await,
            Together::Claims(claims) => executor.claim_together(claims).await,
            Together::Marks(marks) => executor.mark_together(marks).await,
            Together::One(action) => executor.act(action).await,
        };
        match outcome {
            Ok(Outcome::Cluster(written)) => {
                pass.memory().saw(*written);
                // If a deletion has begun, the API server may still remove the object although the finalizer was added meanwhile. Nothing
                // would then delete the children that this pass creates. So the next pass checks again.
                pass.wake();
                return None;
            }
            Ok(Outcome::Taken(machines, taken)) => {
                let first = (executor.observed, plan);
                let written = write_under_entries(pass, first, settings, &machines, &taken);
                let written = Box::pin(written).await;
                if written.is_ok() {
                    // Neither the slot nor the cluster's own Nodes are watched.
                    pass.wake();
                }
                return written.err();
            }
            Ok(Outcome::Done) => {
                if together.wakes() {
                    pass.wake();
                }
            }
            Err(error) => return Some(error),
        }
    }
    None
}

fn removes_finalizer(plan: &Plan) -> bool {
    plan.actions
        .iter()
        .any(|action| matches!(action, Action::Finalizer(FinalizerWrite::Remove(..))))
}

/// When the next pass begins if no event triggers one.
fn next_look(pass: &Pass<'_>, plan: &Plan, later: Option<Duration>) -> Duration {
    [plan.look_again, later]
        .into_iter()
        .flatten()
        .fold(pass.context.settings.next_look(&pass.uid()), Duration::min)
        .max(STALE_PAUSE)
}
