//! An index of the clusters that a change of a Machine may affect. An event costs the same with ten clusters and with ten thousand.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;

use kube::ResourceExt as _;
use kube::core::{Selector, SelectorExt as _};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher::Event;

use crate::api::cluster::RawCluster;
use crate::api::names::MachineName;
use crate::api::spec::{Pool, ValidSpec};
use crate::remote::lock::lock;

/// Namespace and name of a cluster.
type Key = (String, String);

/// Which Machines each cluster waits for.
#[derive(Default)]
pub struct Interests(Mutex<Index>);

#[derive(Default)]
struct Index {
    clusters: HashMap<Key, Interest>,
    /// The clusters that list a Machine, by namespace and Machine.
    listing: HashMap<Key, BTreeSet<String>>,
    /// The clusters that select Machines by labels and may want more, by namespace.
    selecting: HashMap<String, BTreeSet<String>>,
    /// Clusters seen so far in a list that has not ended.
    relisted: BTreeSet<Key>,
}

/// The Machines for which one cluster waits.
#[derive(Default)]
struct Interest {
    listed: BTreeSet<MachineName>,
    selectors: Vec<Selector>,
}

impl Interest {
    fn of(spec: &ValidSpec) -> Self {
        let mut interest = Self::default();
        for pool in [&spec.control_plane, &spec.data_plane] {
            match pool {
                Pool::None => {}
                Pool::Listed(machines) => interest.listed.extend(machines.iter().cloned()),
                Pool::Selected { selector, .. } => interest.selectors.push(selector.clone()),
            }
        }
        interest
    }
}

impl Interests {
    /// Applies a watch event of a cluster. `spec` returns its spec if that is valid.
    pub fn apply<S: AsRef<ValidSpec>>(
        &self,
        event: &Event<RawCluster>,
        spec: impl Fn(&RawCluster) -> Option<S>,
    ) {
        let interest = |cluster: &RawCluster| {
            spec(cluster).map_or_else(Interest::default, |spec| Interest::of(spec.as_ref()))
        };
        // The spec is validated before the lock is taken.
        let shown = match event {
            Event::InitApply(cluster) | Event::Apply(cluster) => Some(interest(cluster)),
            Event::Init | Event::InitDone | Event::Delete(_) => None,
        };
        let mut inner = lock(&self.0);
        match (event, shown) {
            (Event::Init, _) => inner.relisted.clear(),
            (Event::InitApply(cluster), Some(interest)) => {
                inner.relisted.insert(key(cluster));
                inner.put(key(cluster), interest);
            }
            (Event::Apply(cluster), Some(interest)) => inner.put(key(cluster), interest),
            (Event::Delete(cluster), _) => inner.remove(&key(cluster)),
            (Event::InitDone, _) => {
                let relisted = std::mem::take(&mut inner.relisted);
                let known: Vec<Key> = inner.clusters.keys().cloned().collect();
                for gone in known.iter().filter(|key| !relisted.contains(*key)) {
                    inner.remove(gone);
                }
            }
            (Event::InitApply(_) | Event::Apply(_), None) => {}
        }
    }

    /// Notes whether a cluster wants more of the Machines that its selectors match. It counts as wanting more until a pass has found
    /// otherwise.
    pub fn note(&self, cluster: &RawCluster, wants_more: bool) {
        let (namespace, name) = key(cluster);
        let mut inner = lock(&self.0);
        let interest = inner.clusters.get(&(namespace.clone(), name.clone()));
        let selects = interest.is_some_and(|interest| !interest.selectors.is_empty());
        if selects && wants_more {
            inner.selecting.entry(namespace).or_default().insert(name);
        } else {
            forget(&mut inner.selecting, &namespace, &name);
        }
    }

    /// The clusters that list a Machine, and those that want more and whose selector matches its labels. If its labels are unknown, every
    /// selector counts as matching.
    pub fn concerned(
        &self,
        namespace: &str,
        machine: &str,
        labels: Option<&BTreeMap<String, String>>,
    ) -> Vec<ObjectRef<RawCluster>> {
        let inner = lock(&self.0);
        let listing = inner
            .listing
            .get(&(namespace.to_owned(), machine.to_owned()));
        let selects = |cluster: &&String| {
            let interest = inner
                .clusters
                .get(&(namespace.to_owned(), (*cluster).clone()));
            let mut selectors = interest
                .into_iter()
                .flat_map(|interest| &interest.selectors);
            selectors.any(|selector| labels.is_none_or(|labels| selector.matches(labels)))
        };
        let selecting = inner.selecting.get(namespace).into_iter().flatten();
        let names: BTreeSet<&String> = listing
            .into_iter()
            .flatten()
            .chain(selecting.filter(selects))
            .collect();
        names
            .into_iter()
            .map(|name| ObjectRef::new(name).within(namespace))
            .collect()
    }
}

impl Index {
    fn put(&mut self, key: Key, interest: Interest) {
        self.remove(&key);
        let (namespace, name) = key.clone();
        for machine in &interest.listed {
            let machine = (namespace.clone(), machine.to_string());
            self.listing
                .entry(machine)
                .or_default()
                .insert(name.clone());
        }
        if !interest.selectors.is_empty() {
            self.selecting.entry(namespace).or_default().insert(name);
        }
        self.clusters.insert(key, interest);
    }

    fn remove(&mut self, key: &Key) {
        let Some(interest) = self.clusters.remove(key) else {
            return;
        };
        let (namespace, name) = key;
        for machine in interest.listed {
            forget(
                &mut self.listing,
                &(namespace.clone(), machine.to_string()),
                name,
            );
        }
        forget(&mut self.selecting, namespace, name);
    }
}

fn forget<K: std::hash::Hash + Eq>(
    index: &mut HashMap<K, BTreeSet<String>>,
    key: &K,
    cluster: &String,
) {
    if let Some(clusters) = index.get_mut(key) {
        clusters.remove(cluster);
        if clusters.is_empty() {
            index.remove(key);
        }
    }
}

fn key(cluster: &RawCluster) -> Key {
    (cluster.namespace().unwrap_or_default(), cluster.name_any())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::api::validate::validate;

    fn cluster(namespace: &str, name: &str, control_plane: &serde_json::Value) -> RawCluster {
        let mut cluster: RawCluster = serde_json::from_value(json!({
            "apiVersion": "nico.homystack.com/v1alpha1",
            "kind": "KubernetesCluster",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"controlPlane": control_plane},
        }))
        .unwrap();
        cluster.metadata.uid = Some(name.to_owned());
        cluster
    }

    fn listed(name: &str) -> RawCluster {
        cluster("a", name, &json!({"machines": ["m"]}))
    }

    fn selected(name: &str) -> RawCluster {
        let selector = json!({"matchLabels": {"disk": "big"}});
        cluster("a", name, &json!({"count": 1, "machineSelector": selector}))
    }

    fn spec(cluster: &RawCluster) -> Option<Arc<ValidSpec>> {
        validate(&cluster.name_any(), &cluster.spec)
            .ok()
            .map(Arc::new)
    }

    fn woken(interests: &Interests, namespace: &str, machine: &str, disk: &str) -> Vec<String> {
        let labels = BTreeMap::from([("disk".to_owned(), disk.to_owned())]);
        let concerned = interests.concerned(namespace, machine, Some(&labels));
        concerned.into_iter().map(|it| it.name).collect()
    }

    #[test]
    fn a_machine_concerns_those_that_list_it_and_those_that_may_take_it() {
        let interests = Interests::default();
        for shown in [listed("lists"), selected("selects")] {
            interests.apply(&Event::Apply(shown), spec);
        }
        assert_eq!(woken(&interests, "a", "m", "big"), ["lists", "selects"]);
        assert_eq!(woken(&interests, "a", "m", "small"), ["lists"]);
        assert_eq!(woken(&interests, "a", "other", "big"), ["selects"]);
        assert!(woken(&interests, "b", "m", "big").is_empty());
        assert_eq!(interests.concerned("a", "other", None).len(), 1);
    }

    #[test]
    fn one_that_has_enough_is_left_alone_until_it_wants_more_or_its_spec_changes() {
        let interests = Interests::default();
        let shown = selected("selects");
        interests.apply(&Event::Apply(shown.clone()), spec);
        interests.note(&shown, false);
        assert!(woken(&interests, "a", "m", "big").is_empty());
        interests.note(&shown, true);
        assert_eq!(woken(&interests, "a", "m", "big"), ["selects"]);
        interests.note(&shown, false);
        interests.apply(&Event::Apply(shown), spec);
        assert_eq!(woken(&interests, "a", "m", "big"), ["selects"]);
    }

    #[test]
    fn nothing_is_kept_of_what_is_gone_or_changed() {
        let interests = Interests::default();
        interests.apply(&Event::Apply(listed("one")), spec);
        interests.apply(&Event::Apply(listed("two")), spec);
        interests.apply(&Event::Apply(selected("two")), spec);
        assert_eq!(woken(&interests, "a", "m", "small"), ["one"]);
        interests.apply(&Event::Delete(listed("one")), spec);
        interests.apply(&Event::Init, spec);
        interests.apply(&Event::InitApply(listed("three")), spec);
        interests.apply(&Event::InitDone, spec);
        assert_eq!(woken(&interests, "a", "m", "big"), ["three"]);
        interests.apply(&Event::Delete(listed("three")), spec);
        let inner = lock(&interests.0);
        assert!(inner.clusters.is_empty() && inner.listing.is_empty());
        assert!(inner.selecting.is_empty() && inner.relisted.is_empty());
    }
}
