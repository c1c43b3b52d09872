//! Turns facts into the planner's snapshot: which objects belong to the cluster, are foreign, left over or unusable, and which machines are
//! relevant. If something must still be read for that, the result says so; nothing is assumed.

mod named;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use crate::api::names::MachineName;
use crate::api::spec::{Pool, ValidSpec};
use crate::api::status::Role;
use crate::api::workload::NodesOf;

use super::entered::Entered;
use super::facts::{Facts, KubeconfigQuestion, Needs};
use super::observed::{
    Fetch, KnownHostsView, KubeconfigView, LedgerView, Left, Observed, Rival, Roster, SecretView,
    SshKeyView, WorkloadHealth, Works, controller,
};
use super::writes::Token;
use super::{selection, ssh_key};
use named::NamedFacts;
pub use named::known_hosts;

/// Returns the snapshot. `Err` lists what must be read first. The caller adds it to the facts and calls again.
pub fn assemble(facts: &Facts) -> Result<Observed, Box<Needs>> {
    let mut observed = blank(facts);
    let mut named = NamedFacts::of(facts);
    if facts.cluster.deleting {
        // A deletion needs nothing else, and must not be delayed by a Secret that cannot be read.
        let held = observed.belongings().map(|(name, _)| name.as_str());
        let rows = facts.cluster.status.machines.iter();
        let names = held.chain(rows.map(|row| row.name.as_str()));
        look_up(
            facts,
            names.filter_map(MachineName::parse),
            &mut named.needs,
        );
        return met(named.needs).map(|()| observed);
    }
    observed.ledger = named.ledger();
    observed.join_token = named.token(Token::Join);
    observed.worker_token = named.token(Token::Worker);
    observed.known_hosts = named.known_hosts();
    let Ok(spec) = observed.spec.clone() else {
        observed.without_finalizer = std::mem::take(&mut named.without_finalizer);
        return met(named.needs).map(|()| observed);
    };
    let credentials = spec.credentials.as_deref();
    observed.credentials = credentials.map(|secret| named.credentials(secret));
    let stored = named.kubeconfig(&mut observed);
    observed.without_finalizer = std::mem::take(&mut named.without_finalizer);
    observed.left = std::mem::take(&mut named.left);
    look_up(facts, of_interest(&observed, &spec), &mut named.needs);
    met(std::mem::take(&mut named.needs))?;

    if Role::ALL.iter().any(|role| is_selected(&spec, *role)) {
        for role in selection::short_roles(&observed, &spec) {
            if let Pool::Selected { selector, .. } = selection::pool(&spec, role)
                && !facts.candidates.contains(&role)
            {
                named.needs.candidates.insert(role, selector.clone());
            }
        }
        met(std::mem::take(&mut named.needs))?;
        observed.misnamed.clone_from(&facts.misnamed);
    }

    rivals(facts, &mut observed, &mut named.needs);
    ssh_keys(facts, &mut observed, &spec, &mut named);
    let question = KubeconfigQuestion {
        circumstances: circumstances(&observed, &spec),
        hosts: observed.control_plane_hosts(),
        as_written: stored.is_some()
            && observed
                .kubeconfig
                .stored
                .as_ref()
                .is_some_and(|it| it.host.is_some()),
        stored,
    };
    match &facts.kubeconfig {
        Some((asked, answer)) if *asked == question => {
            let view = &mut observed.kubeconfig;
            view.works = answer.works.clone();
            (view.failures, view.try_again) = (answer.failures, answer.try_again);
            view.fetch = answer.fetch.clone();
        }
        _ => named.needs.kubeconfig = Some(question),
    }
    (observed.workload, observed.workload_is_old) = if nodes_are_of_others(facts) {
        (facts.workload.without_nodes(), true)
    } else {
        (facts.workload.clone(), facts.workload_is_old)
    };
    observed.control_plane_has_no_nodes = observed.finds_no_control_plane_node();
    if let Some((machines, taken)) = &facts.taken {
        let entered = machines
            .iter()
            .filter_map(|machine| Entered::new(machine, taken, &observed.ledger));
        observed.entered = entered.collect();
    }
    met(named.needs).map(|()| observed)
}

fn met(needs: Needs) -> Result<(), Box<Needs>> {
    if needs.are_met() {
        Ok(())
    } else {
        Err(Box::new(needs))
    }
}

/// A snapshot before any evaluation.
fn blank(facts: &Facts) -> Observed {
    let machines = facts.machines.iter();
    let machines = machines.filter_map(|(name, machine)| Some((name.clone(), machine.clone()?)));
    let mut observed = Observed {
        cluster: facts.cluster.clone(),
        spec: facts.spec.clone(),
        live: facts.live,
        nio: facts.nio,
        ledger: LedgerView::Absent,
        join_token: SecretView::Absent,
        worker_token: SecretView::Absent,
        without_finalizer: BTreeMap::new(),
        left: Left::default(),
        credentials: None,
        configurations: Arc::clone(&facts.configurations),
        jobs: Arc::clone(&facts.jobs),
        machines: machines.collect(),
        misnamed: BTreeMap::new(),
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
        resolved: facts.resolved.clone(),
        workload: WorkloadHealth::NotProbed,
        workload_is_old: true,
        control_plane_has_no_nodes: false,
        entered: Vec::new(),
        since: facts.since.clone(),
        fresh_id: facts.fresh_id.clone(),
        roster: Roster::default(),
        by_address: OnceLock::new(),
    };
    observed.list_members();
    observed
}

/// The machines whose Nodes the planner needs.
#[must_use]
pub fn nodes_of(observed: &Observed, spec: &ValidSpec) -> NodesOf {
    let names = of_interest(observed, spec);
    let machines = observed.machines.values();
    let addresses = machines.filter_map(|machine| machine.canonical_address());
    NodesOf {
        names: names
            .iter()
            .chain(observed.machines.keys())
            .map(ToString::to_string)
            .collect(),
        addresses: addresses.collect(),
    }
}

/// The machines that are relevant regardless of selectors: members, those that the spec lists, and those that left and whose Node must
/// still be found, by its address if it has another name.
fn of_interest(observed: &Observed, spec: &ValidSpec) -> Vec<MachineName> {
    let members = observed.members().map(|member| member.name);
    let listed = spec.control_plane.listed().chain(spec.data_plane.listed());
    let left = observed.entries().iter().map(|entry| &entry.machine);
    let known = listed.chain(left).cloned();
    members
        .chain(known)
        .chain(observed.cluster.forced())
        .collect()
}

/// Whether a relevant machine may have a Node that was not kept, because the Nodes were listed for other machines. Then they count as not
/// listed, and the next probe is due.
fn nodes_are_of_others(facts: &Facts) -> bool {
    let Some(nodes) = facts.workload.nodes() else {
        return false;
    };
    facts.machines.iter().any(|(name, machine)| {
        let address = machine.as_ref().and_then(|machine| machine.address());
        nodes.hide(name.as_str(), address)
    })
}

fn look_up(facts: &Facts, machines: impl IntoIterator<Item = MachineName>, needs: &mut Needs) {
    let machines = machines.into_iter();
    needs
        .machines
        .extend(machines.filter(|machine| !facts.machines.contains_key(machine)));
}

/// The clusters that control foreign configurations.
fn rivals(facts: &Facts, observed: &mut Observed, needs: &mut Needs) {
    let configurations = observed.configurations.values();
    let owners: BTreeSet<(String, String)> = configurations
        .filter(|configuration| !observed.belongs(configuration))
        .filter_map(|configuration| controller(&configuration.metadata))
        .filter(|owner| owner.kind == "KubernetesCluster")
        .map(|owner| (owner.uid.clone(), owner.name.clone()))
        .collect();
    for (uid, name) in owners {
        let Some(found) = facts.clusters.get(&name) else {
            needs.clusters.insert(name);
            continue;
        };
        let found = found.as_ref().filter(|found| found.uid == uid);
        let created = found.and_then(|found| found.created);
        observed.rivals.insert(uid, Rival { name, created });
    }
}

/// The SSH keys of members and candidates. A selector skips a machine whose key cannot be used; then the key of the next candidate is read.
fn ssh_keys(facts: &Facts, observed: &mut Observed, spec: &ValidSpec, named: &mut NamedFacts<'_>) {
    let others_may_follow = Role::ALL.iter().any(|role| is_selected(spec, *role));
    let mut read_in_vain = 0;
    if others_may_follow && spec.inject_ssh_key {
        read_in_vain = pass_over_keyless(facts, observed, spec, named);
    }
    loop {
        let selection = selection::select(observed, spec);
        let present = || selection.present().map(|(name, _)| name);
        // The watch only proposes candidates. One that is in use meanwhile is skipped too.
        let from_watch = present().filter(|name| facts.from_watch.contains(*name));
        named.needs.machines.extend(from_watch.cloned());
        if !named.needs.machines.is_empty() {
            break;
        }
        let judged = judge_keys(present(), observed, spec, named);
        if judged.is_empty() && named.needs.secrets.is_empty() {
            return;
        }
        observed.ssh_keys.extend(judged);
        if !others_may_follow {
            return;
        }
        if !named.needs.secrets.is_empty() {
            break;
        }
    }
    if read_in_vain > 0 {
        // As many more candidates as failed so far, so that the number of rounds is logarithmic in the number of candidates.
        let ahead = selection::select_ahead(observed, spec, read_in_vain);
        judge_keys(ahead.present().map(|(name, _)| name), observed, spec, named);
    }
}

/// Evaluates the keys of machines that were not evaluated yet, as far as their Secrets were read.
fn judge_keys<'a>(
    machines: impl Iterator<Item = &'a MachineName>,
    observed: &Observed,
    spec: &ValidSpec,
    named: &mut NamedFacts<'_>,
) -> Vec<(MachineName, SshKeyView)> {
    let new = machines.filter(|name| !observed.ssh_keys.contains_key(*name));
    let judged = new.filter_map(|name| {
        let machine = observed.machines.get(name)?;
        let view = named.ssh_key(name, machine, spec.inject_ssh_key)?;
        Some((name.clone(), view))
    });
    judged.collect()
}

/// Evaluates all candidates whose keys are known to be unusable: they name no Secret, or it was read. Returns how many Secrets were read
/// for these.
fn pass_over_keyless(
    facts: &Facts,
    observed: &mut Observed,
    spec: &ValidSpec,
    named: &mut NamedFacts<'_>,
) -> usize {
    let mut in_vain = BTreeSet::new();
    let mut keyless = Vec::new();
    for (name, machine) in &observed.machines {
        let namespace = &facts.cluster.namespace;
        let secret = ssh_key::secret_of(name, machine, facts.nio, namespace).ok();
        let is_known = secret.is_none_or(|secret| facts.secrets.contains_key(secret));
        let selects = |role: &Role| selection::selects(spec, *role, machine);
        if !is_known || !Role::ALL.iter().any(selects) {
            continue;
        }
        let view = named.ssh_key(name, machine, true);
        if !matches!(view, Some(SshKeyView::Usable { .. })) {
            in_vain.extend(secret);
            keyless.extend(view.map(|view| (name.clone(), view)));
        }
    }
    let in_vain = in_vain.len();
    observed.ssh_keys.extend(keyless);
    in_vain
}

fn is_selected(spec: &ValidSpec, role: Role) -> bool {
    matches!(selection::pool(spec, role), Pool::Selected { .. })
}

/// The inputs of a kubeconfig fetch: the founding, the settings in the spec, and the machines to read it from.
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
