//! Reads what the planner needs. It makes no decisions: `plan::assemble` evaluates what was read.

use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};

use super::aside::aside;
use super::calls::{self, CallError};
use super::clock::now;
use super::context::Context;
use super::live::{READS_AT_A_TIME, Sources};
use super::named::NamedReads;
use super::pass::Pass;
use super::stores::{label_key, owner_key};
use crate::api::cluster::RawCluster;
use crate::api::names::{
    ACCEPT_QUORUM_LOSS_ANNOTATION, ClusterId, FORCE_RELEASE_ANNOTATION, kubeconfig_name,
    ledger_name,
};
use crate::api::nio::Generation;
use crate::api::workload::Answer;
use crate::plan::action::Scope;
use crate::plan::assemble::{assemble, nodes_of};
use crate::plan::facts::{
    ClusterFacts, Facts, Freshness, KubeconfigAnswer, KubeconfigQuestion, MapFacts, Needs,
};
use crate::plan::nio;
use crate::plan::observed::{
    ClusterView, KubeconfigView, Observed, SecretView, WorkloadHealth, Works, force_release_names,
};
use crate::remote::workload::{ApiServer, WorkloadApi};

/// Most rounds of reading for one snapshot. Usually five are needed: what is known at once, members, candidates, their keys, the
/// kubeconfig. One more is needed for each chosen candidate that differs from the watch's copy, and each time that the number of unusable
/// keys doubles.
const MOST_ROUNDS: usize = 64;

/// Reads the cluster and the configurations of this scope from the API server. `None` if the cluster is gone, or another has its name. If
/// NIO's resources are not served, no configurations are read.
pub async fn read_live<'a>(
    pass: &Pass<'a>,
    nio: Option<Generation>,
    scope: Scope,
) -> Result<Option<(RawCluster, Sources<'a>)>, CallError> {
    // The cluster is read first: the lists are then not older than the spec to which they are compared.
    let Some(live) = read_cluster(pass).await? else {
        return Ok(None);
    };
    let Context { client, stores, .. } = pass.context;
    let sources = match nio {
        None => Sources::none(stores, &pass.namespace()),
        Some(nio) => {
            let mut sources = Sources::live(client, stores, &view(&live), scope).await?;
            if nio::for_generation(nio).works_by_jobs() {
                sources.read_jobs(client).await?;
            }
            sources
        }
    };
    Ok(Some((live, sources)))
}

/// Reads the cluster object. `None` if it is gone, or another has its name.
pub async fn read_cluster(pass: &Pass<'_>) -> Result<Option<RawCluster>, CallError> {
    let live = calls::get_opt(&pass.api::<RawCluster>(), &pass.name()).await?;
    Ok(live.filter(|live| live.metadata.uid.as_deref() == Some(&pass.uid())))
}

/// Reads the ledger's ConfigMap. For a plan from live reads it must be read before the lists: then a later write by another operator makes
/// the plan's compare-and-swap fail. If it was read after the lists, another operator could have begun to bring the cluster up in between,
/// and the lists would not show its claims.
pub async fn read_ledger(
    context: &Context,
    cluster: &ClusterView,
) -> Result<Option<MapFacts>, CallError> {
    let name = ledger_name(&cluster.name);
    let named = &context.named;
    let read = named.map(&cluster.namespace, &name, Freshness::Live).await;
    Ok(read?.found)
}

/// What is available without a call: the cluster object, its configurations, and its memory.
pub fn at_hand(
    pass: &Pass<'_>,
    cluster: &RawCluster,
    sources: &Sources<'_>,
    nio: Option<Generation>,
) -> Facts {
    let (view, spec) = (view(cluster), pass.memory().spec(cluster));
    let fresh_id = ClusterId::from_bits(rand::random());
    let mut facts = Facts::new(view, spec, fresh_id);
    let view = &facts.cluster;
    facts.nio = nio;
    facts.since = pass.memory().clocks(now());
    (facts.workload, facts.workload_is_old) = pass.context.background.probed(&view.uid);
    facts.resolved = pass.context.background.resolved(&view.uid);
    let owned = sources.configurations(&owner_key(&view.uid));
    let labelled = sources.configurations(&label_key(&view.name));
    facts.add_configurations(owned.into_iter().chain(labelled));
    if nio::works_by_jobs(nio) {
        let configurations = facts.configurations.values();
        let jobs = configurations.filter_map(|held| {
            let jobs = sources.jobs(held);
            let uid = held.metadata.uid.clone()?;
            (!jobs.is_empty()).then_some((uid, jobs))
        });
        facts.jobs = Arc::new(jobs.collect());
    }
    facts
}

/// Reads until nothing is missing, and returns the snapshot for the planner. If the planner needs the current health of the cluster, it is
/// probed last. Fails as the first read that does; a probe that fails is part of the snapshot.
pub async fn observe(
    pass: &Pass<'_>,
    sources: &mut Sources<'_>,
    facts: &mut Facts,
    ask: bool,
) -> Result<Observed, CallError> {
    let context = pass.context;
    let observed = complete(context, sources, facts).await?;
    let is_asked = ask && !observed.cluster.deleting && observed.spec.is_ok();
    if !is_asked {
        return Ok(observed);
    }
    let asking = Box::pin(workload_health(&context.named, &observed));
    let asked = context.background.ask(&observed.cluster, asking);
    (facts.workload, facts.workload_is_old) = (pass.wait_for(asked).await?, false);
    complete(context, sources, facts).await
}

async fn complete(
    context: &Context,
    sources: &mut Sources<'_>,
    facts: &mut Facts,
) -> Result<Observed, CallError> {
    let mut searches = false;
    for _ in 0..MOST_ROUNDS {
        match aside(facts.machines.len(), || assemble(facts)) {
            Ok(observed) => return Ok(observed),
            Err(needs) => {
                searches = !needs.machines.is_empty() || !needs.secrets.is_empty();
                read(context, sources, *needs, facts).await?;
            }
        }
    }
    if searches {
        // The next pass continues after the machines that this one has looked up, and remembers the Secrets that were read.
        return Err(CallError::Changed("what a selector matches".to_owned()));
    }
    Err(CallError::Unanswered {
        what: format!("KubernetesCluster {}", facts.cluster.name),
        why: "what is read never suffices, a defect of NICO's: report it",
    })
}

/// Reads everything in `needs`. A read that fails ends it: a failure must not count as an absent object.
async fn read(
    context: &Context,
    sources: &mut Sources<'_>,
    needs: Needs,
    facts: &mut Facts,
) -> Result<(), CallError> {
    let Needs {
        maps,
        secrets,
        machines,
        candidates,
        clusters,
        controllers,
        kubeconfig,
    } = needs;
    let (named, namespace) = (&context.named, facts.cluster.namespace.clone());
    let maps = futures::stream::iter(maps).map(async |(name, freshness)| {
        let read = named.map(&namespace, &name, freshness).await?;
        Ok::<_, CallError>((name, read))
    });
    let maps = maps.buffered(READS_AT_A_TIME).try_collect::<Vec<_>>();
    let secrets = futures::stream::iter(secrets).map(async |(name, freshness)| {
        let read = named.secret(&namespace, &name, freshness).await?;
        Ok::<_, CallError>((name, read))
    });
    let secrets = secrets.buffered(READS_AT_A_TIME).try_collect::<Vec<_>>();
    let machines = sources.look_up(machines, facts);
    // None of these depends on another.
    let (maps, secrets, ()) = futures::try_join!(maps, secrets, machines)?;
    facts.maps.extend(maps);
    facts.secrets.extend(secrets);
    for (role, selector) in candidates {
        sources.candidates(&selector, facts);
        facts.candidates.insert(role);
    }
    for name in clusters {
        let found = context
            .cluster(&namespace, &name)
            .map(|found| ClusterFacts {
                uid: found.metadata.uid.clone().unwrap_or_default(),
                created: found
                    .metadata
                    .creation_timestamp
                    .as_ref()
                    .map(|time| time.0),
            });
        facts.clusters.insert(name, found);
    }
    for uid in controllers {
        let controlled = sources.configurations(&owner_key(&uid));
        facts.controllers.insert(uid, !controlled.is_empty());
    }
    if let Some(question) = kubeconfig {
        let answer = ask_background(context, &facts.cluster, &question);
        facts.kubeconfig = Some((question, answer));
    }
    Ok(())
}

/// Tells the background work which kubeconfig is stored and under which circumstances to fetch another, and gets its state.
fn ask_background(
    context: &Context,
    cluster: &ClusterView,
    question: &KubeconfigQuestion,
) -> KubeconfigAnswer {
    let Context {
        background, named, ..
    } = context;
    let uid = &cluster.uid;
    let (works, failures, try_again) = match &question.stored {
        Some(digest) => {
            if question.as_written {
                background.note_stored(uid, digest);
            }
            if background.verified_another(uid, digest) {
                // The kubeconfig was replaced since it was read.
                named.forget(&cluster.namespace, &kubeconfig_name(&cluster.name));
            }
            background.works(uid, digest)
        }
        None => (Works::Unknown, 0, false),
    };
    KubeconfigAnswer {
        works,
        failures,
        try_again,
        fetch: background.fetch(uid, &question.circumstances, &question.hosts),
    }
}

/// How to reach the cluster's API. The inner `Err` is its health if it cannot be probed.
pub(super) async fn workload_api(
    named: &NamedReads,
    observed: &Observed,
) -> Result<Result<WorkloadApi, WorkloadHealth>, CallError> {
    let Ok(spec) = &observed.spec else {
        let why = "the spec must be corrected first".to_owned();
        return Ok(Err(WorkloadHealth::NotReachable(why)));
    };
    let cluster = &observed.cluster;
    let none = Ok(Err(WorkloadHealth::NoKubeconfig));
    let KubeconfigView { secret, stored, .. } = &observed.kubeconfig;
    let Some(stored) = stored.as_ref().filter(|_| *secret == SecretView::Ours) else {
        return none;
    };
    let name = kubeconfig_name(&cluster.name);
    let kubeconfig = named.kubeconfig(&cluster.namespace, &name, &stored.version);
    let Some(kubeconfig) = kubeconfig.await? else {
        return none;
    };
    let members = observed.control_plane().filter_map(|member| {
        let address = member.machine?.address()?.to_owned();
        let machine = member.name;
        Some(ApiServer { machine, address })
    });
    let mut members: Vec<ApiServer> = members.collect();
    // A write goes through the first member that answers and has a short timeout, so unreachable members come last.
    members.sort_by_key(|member| {
        observed.workload.answer(&member.machine) == Some(&Answer::Unreachable)
    });
    Ok(Ok(WorkloadApi {
        kubeconfig,
        members,
        port: stored.member_port(spec),
    }))
}

/// Probes the cluster.
pub(super) async fn workload_health(
    named: &NamedReads,
    observed: &Observed,
) -> Result<WorkloadHealth, CallError> {
    Ok(match workload_api(named, observed).await? {
        Ok(api) if api.members.is_empty() => WorkloadHealth::NotReachable(
            "no control plane machine has an address to ask: set it in the Machines".to_owned(),
        ),
        Ok(api) => {
            let spec = observed.spec.as_ref();
            let of = spec.map(|spec| nodes_of(observed, spec));
            let answered = api.probe(&of.unwrap_or_default()).await;
            WorkloadHealth::Answered(Arc::new(answered))
        }
        Err(nobody) => nobody,
    })
}

/// The planner's view of the cluster object, without its spec.
pub(super) fn view(cluster: &RawCluster) -> ClusterView {
    let meta = &cluster.metadata;
    let annotation = |name| meta.annotations.as_ref()?.get(name).cloned();
    ClusterView {
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        resource_version: meta.resource_version.clone().unwrap_or_default(),
        generation: meta.generation.unwrap_or_default(),
        created: meta.creation_timestamp.as_ref().map(|time| time.0),
        deleting: meta.deletion_timestamp.is_some(),
        finalizers: meta.finalizers.clone().unwrap_or_default(),
        accept_quorum_loss: annotation(ACCEPT_QUORUM_LOSS_ANNOTATION),
        force_release: annotation(FORCE_RELEASE_ANNOTATION)
            .map(|value| force_release_names(&value))
            .unwrap_or_default(),
        status: cluster.status.clone().unwrap_or_default(),
    }
}
