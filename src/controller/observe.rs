//! Stores, named reads and live reads become one `Observed`. No decision is made here.

mod keys;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kube::{Api, ResourceExt as _};

use super::calls::{self, CallError};
use super::context::Context;
use super::named::{self, MapFacts};
use super::schedule::SECRET_AGE_AT_WRITE;
use super::stores::{Stores, label_key, machine_key, owner_key};
use super::views::Views;
use crate::api::cluster::RawCluster;
use crate::api::names::{
    ACCEPT_QUORUM_LOSS_ANNOTATION, ClusterId, FORCE_RELEASE_ANNOTATION, MachineName,
    join_token_name, kubeconfig_name, ledger_name, worker_token_name,
};
use crate::api::nio::{Generation, Machine, NixosConfiguration};
use crate::api::spec::{Pool, ValidSpec};
use crate::api::workload::Answer;
use crate::plan::observed::{
    ClusterView, Fetch, KnownHostsView, KubeconfigView, LedgerView, Observed, Rival, SecretView,
    Word, Works, controller,
};
use crate::plan::selection;
use crate::plan::writes::Child;
use crate::remote::kubeconfig::facts::VALUE_KEY;
use crate::remote::workload::{Member, Question};
use keys::ssh_keys;

/// Port of every member's API server, where the spec names an endpoint whose port may be another (SPEC 4.4).
const API_PORT: u16 = 6443;

/// What a pass looks at.
pub struct Look<'a> {
    /// The operator.
    pub context: &'a Context,
    /// The cluster object, cached or just read.
    pub cluster: &'a RawCluster,
    /// Machines and configurations, cached or just listed.
    pub stores: &'a Stores,
    /// Whether both were read just now.
    pub live: bool,
    /// The ledger's ConfigMap as it was read before the lists, where it was: then it is not read again.
    pub ledger: Option<Option<MapFacts>>,
    /// Machines whose configurations are to be written: what these refer to is looked at afresh.
    pub writes: &'a BTreeSet<MachineName>,
    /// Which NIO is there.
    pub nio: Option<Generation>,
    /// Whether the cluster is asked now how its machines are; else what it said last is good enough.
    pub ask: bool,
}

/// Reads the cluster and both lists from the API server, now. `None` where the cluster is gone or another of its name.
pub async fn read_live(
    context: &Context,
    cluster: &RawCluster,
) -> Result<Option<(RawCluster, Stores)>, CallError> {
    let namespace = cluster.namespace().unwrap_or_default();
    let clusters: Api<RawCluster> = Api::namespaced(context.client.clone(), &namespace);
    let machines: Api<Machine> = Api::namespaced(context.client.clone(), &namespace);
    let configurations: Api<NixosConfiguration> =
        Api::namespaced(context.client.clone(), &namespace);
    // The cluster first: what is listed after it cannot be older than the spec that it is judged by.
    let Some(live) = calls::get_opt(&clusters, &cluster.name_any()).await? else {
        return Ok(None);
    };
    if live.metadata.uid != cluster.metadata.uid {
        return Ok(None);
    }
    let machines = calls::list(&machines).await?;
    let configurations = calls::list(&configurations).await?;
    Ok(Some((live, Stores::of(machines, configurations))))
}

/// The ledger's ConfigMap, now; for a plan from live reads before the lists. Whoever writes it later makes the plan's compare-and-swap
/// fail. Read after the lists, it could be that of another operator which has begun to bring the cluster up, and whose claims the
/// lists do not show.
pub async fn read_ledger(
    context: &Context,
    cluster: &ClusterView,
) -> Result<Option<MapFacts>, CallError> {
    let name = ledger_name(&cluster.name);
    let Context { client, named, .. } = context;
    let now = Duration::ZERO;
    named
        .map(client, &cluster.namespace, &name, now, |_| true)
        .await
}

/// One snapshot for the planner.
pub async fn observe(look: &Look<'_>) -> Result<Observed, CallError> {
    let Look {
        context,
        cluster,
        stores,
        live,
        ledger,
        writes,
        nio,
        ask,
    } = look;
    let resync = context.settings.resync;
    let of_a_write = |is_written: bool| {
        if is_written {
            SECRET_AGE_AT_WRITE.min(resync)
        } else {
            resync
        }
    };
    let of_any = of_a_write(!writes.is_empty());
    let view = view(cluster);
    let namespace = view.namespace.clone();
    let mut observed = blank(look, &view);
    own_configurations(&mut observed, stores, &view);
    let views = Views {
        context,
        stores,
        cluster: &view,
    };
    if view.deleting {
        // A deletion asks for nothing else, and must not be held up by a Secret that cannot be read.
        let held = observed.belongings().map(|(name, _)| name.clone());
        let told = view.status.machines.iter().map(|row| row.name.clone());
        for name in held.chain(told).collect::<BTreeSet<String>>() {
            if let Some(name) = MachineName::parse(&name) {
                add_machine(&mut observed, stores, &namespace, &name);
            }
        }
        return Ok(observed);
    }
    let (ledger, unheld_ledger) = match ledger {
        Some(map) => views.judge_ledger(map.clone()),
        None => views.ledger(resync).await?,
    };
    let (join_token, unheld_join) = views.token(&join_token_name(&view.name), of_any).await?;
    let (worker_token, unheld_worker) = views.token(&worker_token_name(&view.name), of_any).await?;
    observed.ledger = ledger;
    (observed.join_token, observed.worker_token) = (join_token, worker_token);
    observed.unheld = [
        (Child::JoinToken, unheld_join),
        (Child::WorkerToken, unheld_worker),
        (Child::Ledger, unheld_ledger),
    ]
    .into_iter()
    .filter_map(|(child, version)| Some((child, version?)))
    .collect();
    observed.known_hosts = views.known_hosts(resync).await?.0;
    let Ok(spec) = observed.spec.clone() else {
        return Ok(observed);
    };
    if let Some(secret) = &spec.credentials {
        observed.credentials = Some(views.credentials(secret, of_any).await?);
    }
    let held: Vec<MachineName> = observed.members().map(|it| it.name).collect();
    let listed = spec
        .control_plane
        .listed()
        .chain(spec.data_plane.listed())
        .cloned();
    // Of those that left, the Node is still to be found, by its address where it bears another name.
    let left: Vec<MachineName> = observed
        .entries()
        .iter()
        .map(|entry| entry.machine.clone())
        .chain(view.forced())
        .collect();
    for machine in held.into_iter().chain(listed).chain(left) {
        add_machine(&mut observed, stores, &namespace, &machine);
    }
    for role in selection::short_roles(&observed, &spec) {
        if let Pool::Selected { selector, .. } = selection::pool(&spec, role) {
            for machine in candidates(stores, &namespace, selector) {
                add_machine(&mut observed, stores, &namespace, &machine);
            }
        }
    }
    rivals(context, &mut observed, &namespace);
    let age = |machine: &MachineName| of_a_write(writes.contains(machine));
    ssh_keys(&views, *nio, &mut observed, &spec, age).await?;
    // Until the ledger says that the cluster is founded, a stored kubeconfig is what shows it: no memory of its absence will do.
    let founded = observed.ledger.ours().is_some_and(|ledger| ledger.founded);
    let age = if *live && !founded {
        Duration::ZERO
    } else {
        resync
    };
    let circumstances = circumstances(&observed, &spec);
    observed.kubeconfig = views.kubeconfig(&circumstances, age).await?;
    if *ask {
        let word = word(&context.client, &observed).await?;
        context.background.note_probe(&view.uid, word.clone());
        (observed.word, observed.word_is_old) = (word, false);
    } else {
        (observed.word, observed.word_is_old) = context.background.probed(&view.uid);
    }
    Ok(observed)
}

/// Whom to ask how the machines are, and with which kubeconfig; or why nobody can be asked.
pub(super) async fn question(
    client: &kube::Client,
    observed: &Observed,
) -> Result<Result<Question, &'static str>, CallError> {
    let Ok(spec) = &observed.spec else {
        return Ok(Err("the spec has to be mended first"));
    };
    let cluster = &observed.cluster;
    let none = Ok(Err("no kubeconfig is stored yet"));
    if observed.kubeconfig.secret != SecretView::Ours {
        return none;
    }
    let name = kubeconfig_name(&cluster.name);
    let Some(kubeconfig) =
        named::secret_value(client, &cluster.namespace, &name, VALUE_KEY).await?
    else {
        return none;
    };
    let members = observed.control_plane().filter_map(|member| {
        let address = member.machine?.address()?.to_owned();
        let machine = member.name;
        Some(Member { machine, address })
    });
    let mut members: Vec<Member> = members.collect();
    // A write goes through the first that answers, and its time is short.
    members
        .sort_by_key(|member| observed.word.answer(&member.machine) == Some(&Answer::Unreachable));
    Ok(Ok(Question {
        kubeconfig,
        members,
        port: spec.endpoint.is_some().then_some(API_PORT),
    }))
}

/// What the cluster says of itself, now.
pub(super) async fn word(client: &kube::Client, observed: &Observed) -> Result<Word, CallError> {
    Ok(match question(client, observed).await? {
        Ok(question) if question.members.is_empty() => {
            Word::Silent("no control plane machine has an address to ask".to_owned())
        }
        Ok(question) => Word::Heard(question.ask().await),
        Err(why) => Word::Silent(why.to_owned()),
    })
}

/// A snapshot in which nothing was looked at yet.
fn blank(look: &Look<'_>, view: &ClusterView) -> Observed {
    Observed {
        spec: look.context.spec(look.cluster),
        nio: look.nio,
        ledger: LedgerView::Absent,
        join_token: SecretView::Absent,
        worker_token: SecretView::Absent,
        unheld: BTreeMap::new(),
        credentials: None,
        configurations: BTreeMap::new(),
        machines: BTreeMap::new(),
        ssh_keys: BTreeMap::new(),
        rivals: BTreeMap::new(),
        kubeconfig: KubeconfigView {
            secret: SecretView::Absent,
            stored: None,
            works: Works::Unknown,
            failures: 0,
            try_again: false,
            fetch: Fetch::default(),
        },
        known_hosts: KnownHostsView::Absent,
        word: Word::NotAsked,
        word_is_old: true,
        entered: None,
        since: look.context.clocks(&view.uid),
        fresh_id: ClusterId::from_bits(rand::random()),
        cluster: view.clone(),
    }
}

/// Under what a kubeconfig is read: the founding, what the spec says of it, and the machines that are asked.
fn circumstances(observed: &Observed, spec: &ValidSpec) -> String {
    let id = observed.ledger.ours().map(|ledger| &ledger.id);
    let machines: Vec<_> = observed
        .control_plane()
        .filter_map(|member| {
            let (name, machine) = (member.name, member.machine?);
            Some((name, machine.address(), machine.spec.ssh_user.as_deref()))
        })
        .collect();
    format!(
        "{id:?} {:?} {:?} {machines:?}",
        spec.endpoint, spec.kubeconfig_path
    )
}

/// The cluster object as the planner takes it, but for its spec.
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
        force_release: annotation(FORCE_RELEASE_ANNOTATION),
        status: cluster.status.clone().unwrap_or_default(),
    }
}

fn own_configurations(observed: &mut Observed, stores: &Stores, cluster: &ClusterView) {
    let namespace = &cluster.namespace;
    let owned = stores
        .configurations
        .find(namespace, &owner_key(&cluster.uid));
    let labelled = stores
        .configurations
        .find(namespace, &label_key(&cluster.name));
    for configuration in owned.into_iter().chain(labelled) {
        observed
            .configurations
            .insert(configuration.name_any(), configuration);
    }
}

/// The Machine, and every configuration that bears its name or names it.
fn add_machine(observed: &mut Observed, stores: &Stores, namespace: &str, name: &MachineName) {
    if let Some(machine) = stores.machines.get(namespace, name.as_str()) {
        observed.machines.insert(name.clone(), machine);
    }
    let of_its_name = stores.configurations.get(namespace, name.as_str());
    let that_name_it = stores
        .configurations
        .find(namespace, &machine_key(name.as_str()));
    for configuration in of_its_name.into_iter().chain(that_name_it) {
        observed
            .configurations
            .insert(configuration.name_any(), configuration);
    }
}

fn candidates(
    stores: &Stores,
    namespace: &str,
    selector: &kube::core::Selector,
) -> Vec<MachineName> {
    use kube::core::SelectorExt as _;
    stores
        .machines
        .filter(namespace, |machine| {
            selector.matches(machine.metadata.labels.as_ref().unwrap_or(&BTreeMap::new()))
        })
        .iter()
        .filter_map(|machine| MachineName::parse(&machine.name_any()))
        .collect()
}

fn rivals(context: &Context, observed: &mut Observed, namespace: &str) {
    let owners: BTreeSet<(String, String)> = observed
        .configurations
        .values()
        .filter(|configuration| !observed.belongs(configuration))
        .filter_map(|configuration| controller(&configuration.metadata))
        .filter(|owner| owner.kind == "KubernetesCluster")
        .map(|owner| (owner.uid.clone(), owner.name.clone()))
        .collect();
    for (uid, name) in owners {
        let rival = context.cluster(namespace, &name);
        let created = rival
            .filter(|rival| rival.metadata.uid.as_deref() == Some(&uid))
            .and_then(|rival| {
                rival
                    .metadata
                    .creation_timestamp
                    .as_ref()
                    .map(|time| time.0)
            });
        observed.rivals.insert(uid, Rival { name, created });
    }
}
