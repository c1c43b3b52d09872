//! One pass for one cluster: observe, plan, act, status (STYLE, "Shape").

mod entered;
mod report;
mod tell;

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use kube::runtime::controller::Action as Next;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt as _};
use tracing::{debug, trace, warn};

use super::act::{ActError, Hand, Outcome};
use super::calls::{self, CallError};
use super::clock::now;
use super::context::Context;
use super::observe::{Look, observe, read_ledger, read_live};
use crate::api::cluster::RawCluster;
use crate::api::conditions::Reason;
use crate::api::status::Role;
use crate::plan::action::{Action, FinalizerWrite, NodeWork, Plan, SlotWrite};
use crate::plan::observed::Observed;
use crate::plan::status::{Refusal, status};
use crate::plan::{Settings, plan};
use entered::write_under_entry;
use report::{keep_status, write_status};
use tell::{tell, tell_unread, tell_unwritable};

/// Bounds a whole pass: one broken cluster never holds up another.
const PASS_TIMEOUT: Duration = Duration::from_secs(300);
/// So many failures in a row count at the most where the last two differ: a pause of two seconds.
const BRISK: u32 = 4;
/// After so many stale passes in a row the cluster is read by name.
const SILENCE: u32 = 2;
/// The first lists may take so long before status tells that they have not ended.
const LISTING_PATIENCE: Duration = Duration::from_secs(30);
/// Pause before the next look where something changed under a pass.
const STALE_PAUSE: Duration = Duration::from_millis(50);
/// How soon a pass looks again whether the first lists have ended.
const LISTING_PAUSE: Duration = Duration::from_millis(250);
/// Failed passes in a row before the status tells of them.
const PATIENCE: u32 = 3;
/// Passes in a row that something changed under: not told at once, but not kept for ever either.
const STALE_PATIENCE: u32 = 5;
/// How soon a missing Secret is looked for again: no watch tells that it came.
const SECRET_PAUSE: Duration = Duration::from_secs(5);
/// How soon a cluster is asked again on whose word a change waits: no watch tells of it.
const ASK_PAUSE: Duration = Duration::from_secs(2);
/// How soon it is asked again where nothing is in flight, and what stands in the way may stand there for days.
const STANDSTILL_PAUSE: Duration = Duration::from_secs(10);
/// First and longest pause after a failed pass.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(60));

/// Why a pass failed.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// What the pass needs could not be read.
    #[error(transparent)]
    Unread(CallError),
    /// The status could not be written.
    #[error(transparent)]
    Call(#[from] CallError),
    /// An action failed.
    #[error(transparent)]
    Act(#[from] ActError),
    /// The pass took too long.
    #[error("the pass took longer than {} s", PASS_TIMEOUT.as_secs())]
    Timeout,
    /// The pass panicked: a defect of NICO's.
    #[error("the pass ended in a defect of NICO's: see its log for `panicked`, and report it")]
    Panicked,
    /// The first lists have not ended.
    #[error(
        "the first lists of Machines and NixosConfigurations: they have not ended yet: see NICO's log, and whether it may list both"
    )]
    NotListed,
}

impl ReconcileError {
    /// Whether the next pass, from fresh reads, is all that is needed.
    fn is_stale(&self) -> bool {
        match self {
            Self::Act(error) => error.is_stale(),
            Self::Unread(error) | Self::Call(error) => error.is_stale(),
            Self::NotListed | Self::Timeout | Self::Panicked => false,
        }
    }
}

/// The Controller's entry.
pub async fn reconcile(
    cluster: Arc<RawCluster>,
    context: Arc<Context>,
) -> Result<Next, ReconcileError> {
    let cluster = context.newest(&cluster);
    // A defect that one cluster brings to light is no reason to leave the others.
    let pass = AssertUnwindSafe(pass(&cluster, &context)).catch_unwind();
    let outcome = match tokio::time::timeout(PASS_TIMEOUT, pass).await {
        Ok(Ok(outcome)) => Ok(outcome),
        Ok(Err(_)) => Ok(Err(ReconcileError::Panicked)),
        Err(late) => Err(late),
    };
    if let Ok(Err(error)) = &outcome
        && error.is_stale()
        && context.memory(&cluster, |memory| memory.failures) >= SILENCE
    {
        read_again(&cluster, &context).await;
    }
    match outcome {
        Ok(Ok(next)) => {
            context.succeeded(&cluster);
            Ok(next)
        }
        Ok(Err(ReconcileError::Unread(error))) => {
            tell_unread(&cluster, &context, &error).await;
            Err(ReconcileError::Unread(error))
        }
        Ok(Err(ReconcileError::Call(error))) => {
            tell_unwritable(&cluster, &context, &error);
            Err(ReconcileError::Call(error))
        }
        Ok(Err(error @ ReconcileError::NotListed)) => {
            if context.started.elapsed() >= LISTING_PATIENCE {
                tell(&cluster, &context, &error.to_string()).await;
            }
            Err(error)
        }
        Ok(Err(error @ ReconcileError::Panicked)) => {
            tell(&cluster, &context, &error.to_string()).await;
            Err(error)
        }
        Ok(Err(error)) => Err(error),
        Err(_) => Err(ReconcileError::Timeout),
    }
}

/// The watch of clusters may be silent, or may have lost an event: the object is read by name.
async fn read_again(cluster: &RawCluster, context: &Context) {
    let namespace = cluster.namespace().unwrap_or_default();
    let api: Api<RawCluster> = Api::namespaced(context.client.clone(), &namespace);
    if let Ok(Some(live)) = calls::get_opt(&api, &cluster.name_any()).await
        && live.metadata.uid == cluster.metadata.uid
    {
        context.saw(live);
    }
}

/// When to try again after a failed pass: at once where something only changed meanwhile, else with backoff per cluster.
// The signature is the Controller's.
#[allow(clippy::needless_pass_by_value)]
pub fn after_failure(
    cluster: Arc<RawCluster>,
    error: &ReconcileError,
    context: Arc<Context>,
) -> Next {
    if matches!(error, ReconcileError::NotListed) {
        trace!(cluster = %cluster.name_any(), %error, "nothing is done yet");
        return Next::requeue(LISTING_PAUSE);
    }
    let failures = context.memory(&cluster, |memory| {
        let why = Some(error.to_string());
        // A pass that fails elsewhere than the last one got further, or meets another trouble: no reason for a long pause.
        let most = if memory.last_failure == why {
            u32::MAX
        } else {
            BRISK
        };
        memory.last_failure = why;
        memory.failures = memory.failures.saturating_add(1).min(most);
        memory.failures
    });
    let stale = error.is_stale();
    let pause = BACKOFF
        .0
        .saturating_mul(1 << failures.saturating_sub(1).min(10))
        .min(BACKOFF.1);
    // Something that changes under every pass is no reason to spin.
    let pause = if stale && failures < STALE_PATIENCE {
        STALE_PAUSE
    } else {
        pause
    };
    if stale {
        debug!(cluster = %cluster.name_any(), %error, "the pass ends early");
    } else {
        warn!(cluster = %cluster.name_any(), namespace = cluster.namespace(), %error, retry_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX), "the pass failed");
    }
    Next::requeue(pause)
}

async fn pass(cluster: &Arc<RawCluster>, context: &Context) -> Result<Next, ReconcileError> {
    let nio = context.nio().await.map_err(ReconcileError::Unread)?;
    if nio.is_some() && !context.stores.are_ready() {
        return Err(ReconcileError::NotListed);
    }
    let now = now();
    let settings = Settings {
        default_git_repo: context.settings.default_git_repo.clone(),
        request_timeout: context.settings.request_timeout,
    };
    let cached = observe(&Look {
        context,
        cluster,
        stores: &context.stores,
        live: false,
        ledger: None,
        writes: &BTreeSet::new(),
        nio,
        ask: false,
    })
    .await
    .map_err(ReconcileError::Unread)?;
    let first_plan = plan(&cached, now, &settings);
    context.keep_clocks(cluster, &first_plan.clocks, now);
    let evicts = first_plan.actions.iter().filter_map(|action| match action {
        Action::Node(NodeWork::Evict(node)) => Some(node.as_str()),
        _ => None,
    });
    // A drain that was paused, or given up, takes no more pods.
    let uid = cluster.uid().unwrap_or_default();
    context.background.evict_only(&uid, &evicts.collect());
    // A GitOps tool must never see the old green beside a new spec: this word comes before every deed.
    let new_generation =
        cached.cluster.status.observed_generation != Some(cached.cluster.generation);
    if new_generation && !cached.cluster.deleting {
        let wanted = status(&cached, &first_plan, None, now);
        write_status(context, cluster, &cached, &wanted).await?;
        context.wake(ObjectRef::from_obj(&**cluster));
        return Ok(Next::requeue(context.settings.resync));
    }
    let (observed, plan) = if first_plan.needs_live_reads() {
        let ledger = if cached.cluster.deleting {
            None
        } else {
            let read = read_ledger(context, &cached.cluster).await;
            Some(read.map_err(ReconcileError::Unread)?)
        };
        let Some((live, stores)) = read_live(context, cluster)
            .await
            .map_err(ReconcileError::Unread)?
        else {
            context.forget(cluster);
            return Ok(Next::requeue(context.settings.resync));
        };
        let mut writes = first_plan.writes();
        loop {
            let observed = observe(&Look {
                context,
                cluster: &live,
                stores: &stores,
                live: true,
                ledger: ledger.clone(),
                writes: &writes,
                nio,
                ask: first_plan.wants_word,
            })
            .await
            .map_err(ReconcileError::Unread)?;
            let plan = plan(&observed, now, &settings);
            // What is seen now may let others be written than those whose Secrets were looked at.
            let more = plan.writes();
            if more.is_subset(&writes) {
                break (observed, plan);
            }
            writes.extend(more);
        }
    } else {
        (cached, first_plan)
    };
    let failure = carry_out(context, cluster, &observed, &plan, &settings).await;
    if observed.cluster.deleting && removes_finalizer(&plan) && failure.is_none() {
        context.forget(cluster);
        return Ok(Next::await_change());
    }
    let again = context.memory(cluster, |memory| memory.failures) >= STALE_PATIENCE;
    let refusal = failure
        .as_ref()
        .filter(|error| again || !error.is_stale())
        .map(|error| Refusal(error.to_string()));
    let later = keep_status(context, cluster, &observed, &plan, refusal.as_ref(), now).await?;
    if let Some(error) = failure {
        return Err(error.into());
    }
    Ok(Next::requeue(next_look(context, &plan, later)))
}

/// Carries the plan out, up to the first action that fails, that writes the cluster, or that takes an entry: what follows rests
/// on reads made after it.
async fn carry_out(
    context: &Context,
    cluster: &Arc<RawCluster>,
    observed: &Observed,
    plan: &Plan,
    settings: &Settings,
) -> Option<ActError> {
    let mut hand = Hand::new(context, observed);
    for action in &plan.actions {
        match hand.act(action).await {
            Ok(Outcome::Cluster(written)) => {
                context.saw(*written);
                // The API server lets a deletion that had begun take the object away although the finalizer was written meanwhile:
                // what was made then, nobody would take away.
                context.wake(ObjectRef::from_obj(&**cluster));
                return None;
            }
            Ok(Outcome::Taken(machine, taken)) => {
                let first = (observed, plan);
                let written =
                    write_under_entry(context, cluster, first, settings, &machine, &taken).await;
                if written.is_ok() {
                    // No watch tells of the slot, nor of the cluster's own Nodes.
                    context.wake(ObjectRef::from_obj(&**cluster));
                }
                return written.err();
            }
            Ok(Outcome::Done) => {
                if action.wakes() {
                    context.wake(ObjectRef::from_obj(&**cluster));
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

/// Whether something goes on that the cluster's own word may end.
fn changes(plan: &Plan) -> bool {
    let is_taken = |action: &Action| matches!(action, Action::Slot(SlotWrite::Take { .. }));
    !plan.in_flight.is_empty() || plan.actions.iter().any(is_taken)
}

fn next_look(context: &Context, plan: &Plan, later: Option<Duration>) -> Duration {
    let obstacles = Role::ALL
        .into_iter()
        .flat_map(|role| &plan.selection.of(role).obstacles)
        .map(|obstacle| obstacle.cause.reason);
    let secret_missing = plan
        .waits
        .iter()
        .map(|wait| wait.cause.reason)
        .chain(obstacles)
        .any(|reason| {
            matches!(
                reason,
                Reason::SecretMissing
                    | Reason::SSHKeyMissing
                    | Reason::SSHKeyUnusable
                    | Reason::SecretConflict
                    | Reason::JoinTokenLost
                    | Reason::LedgerUnreadable
                    | Reason::NIOMissing
            )
        });
    [
        plan.look_again,
        later,
        secret_missing.then_some(SECRET_PAUSE),
        plan.wants_word.then_some(if changes(plan) {
            ASK_PAUSE
        } else {
            STANDSTILL_PAUSE
        }),
    ]
    .into_iter()
    .flatten()
    .fold(context.settings.resync, Duration::min)
    .max(STALE_PAUSE)
}
