//! What a change of cluster.nix changes on a machine, and what it restarts.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use nico::api::names::ClusterId;
use nico::api::spec::Endpoint;
use nico::plan::cluster_nix::{ClusterNix, Lists, NixNode};
use serde_json::Value;

use super::evaluated::{self, Evaluated, Flake, evaluate};

pub(crate) fn node(name: &str, last: u8) -> NixNode {
    NixNode {
        name: name.to_owned(),
        ip: format!("10.0.0.{last}"),
    }
}

/// Three control plane machines and two workers, founded, behind an endpoint.
pub(crate) fn founded() -> ClusterNix {
    let control_plane = [node("cp-01", 11), node("cp-02", 12), node("cp-03", 13)];
    let workers = [node("worker-01", 21), node("worker-02", 22)];
    ClusterNix {
        namespace: "clusters".to_owned(),
        name: "prod".to_owned(),
        id: ClusterId::from_bits(7),
        bootstrap: None,
        join: Some(node("cp-02", 12)),
        endpoint: Some(Endpoint {
            host: "10.0.0.10".to_owned(),
            port: 6443,
        }),
        lists: Arc::new(Lists::new(&control_plane, &workers)),
    }
}

/// While it is being founded.
pub(crate) fn founding() -> ClusterNix {
    ClusterNix {
        bootstrap: Some("cp-01".to_owned()),
        join: Some(node("cp-01", 11)),
        ..founded()
    }
}

/// Each flake while its cluster is founded.
pub(crate) fn each_founding(test: &str, check: impl Fn(Flake, &Evaluated)) {
    let Some(nix) = evaluated::nix_or_skip(test) else {
        return;
    };
    for flake in Flake::ALL {
        let found = evaluate(&nix, flake, test, true, &[founding().render()]);
        check(flake, &found[0]);
    }
}

/// The services that differ, which NixOS restarts.
fn restarted(before: &Evaluated, after: &Evaluated, machine: &str) -> BTreeSet<String> {
    let units = |of: &Evaluated| of[machine]["units"].as_object().unwrap().clone();
    let (before, after) = (units(before), units(after));
    let names = before.keys().chain(after.keys());
    names
        .filter(|name| before.get(*name) != after.get(*name))
        .cloned()
        .collect()
}

/// What differs on a machine at all: of its state, each file.
fn differing(before: &Evaluated, after: &Evaluated, machine: &str) -> BTreeSet<String> {
    let parts = |of: &Evaluated| -> BTreeMap<String, Value> {
        let mut parts: BTreeMap<String, Value> =
            serde_json::from_value(of[machine].clone()).unwrap();
        for (file, text) in parts.remove("state").unwrap().as_object().unwrap() {
            parts.insert(format!("state/{file}"), text.clone());
        }
        parts
    };
    let (before, after) = (parts(before), parts(after));
    let names = before.keys().chain(after.keys());
    names
        .filter(|name| before.get(*name) != after.get(*name))
        .cloned()
        .collect()
}

/// What each change must change on a machine, and what it may change besides.
#[test]
fn a_change_changes_what_it_must_and_nothing_else() {
    let Some(nix) = evaluated::nix_or_skip("a_change_changes_what_it_must_and_nothing_else") else {
        return;
    };
    let three = [node("cp-01", 11), node("cp-02", 12), node("cp-03", 13)];
    let two = [node("worker-01", 21), node("worker-02", 22)];
    let lists = |control_plane: &[NixNode], workers: &[NixNode]| ClusterNix {
        lists: Arc::new(Lists::new(control_plane, workers)),
        ..founded()
    };
    let endpoint = Some(Endpoint {
        host: "10.0.0.9".to_owned(),
        port: 6443,
    });
    let joining: &[&str] = &["state/join.yaml", "state/join.json", "state/member.yaml"];
    // Who founds joins nobody.
    let founds: &[&str] = &[
        "state/found.yaml",
        "state/join",
        "state/join.json",
        "state/join.yaml",
        "state/member.yaml",
    ];
    let members: &[&str] = &["activation", "hosts", "state/peers"];
    let renewed: &[&str] = &["activation", "units"];
    let files: &[&str] = &[
        "others",
        "state/endpoint",
        "state/found.yaml",
        "state/init.yaml",
        "state/join.yaml",
        "state/k0s.yaml",
        "state/member.yaml",
        "state/sans",
    ];
    let cluster = |change: &dyn Fn(&mut ClusterNix)| {
        let mut cluster = founded();
        change(&mut cluster);
        cluster
    };
    // The machine, the cluster afterwards, what must change, and what may.
    let cases: Vec<(&str, ClusterNix, &[&str], &[&str])> = vec![
        (
            "cp-01",
            cluster(&|it| it.bootstrap = Some("cp-01".to_owned())),
            &["activation", "state/founds"],
            founds,
        ),
        (
            "worker-01",
            cluster(&|it| it.bootstrap = Some("cp-01".to_owned())),
            &[],
            &[],
        ),
        (
            "worker-01",
            cluster(&|it| it.join = Some(node("cp-03", 13))),
            &["activation", "state/join"],
            joining,
        ),
        (
            "cp-01",
            cluster(&|it| it.join = None),
            &["activation", "state/join"],
            joining,
        ),
        ("cp-01", lists(&three, &two[..1]), &["hosts"], &[]),
        ("worker-01", lists(&three, &two[..1]), &["hosts"], &[]),
        ("cp-01", lists(&three[..2], &two), members, &[]),
        ("worker-01", lists(&three[..2], &two), members, &[]),
        (
            "cp-01",
            cluster(&|it| it.endpoint.clone_from(&endpoint)),
            renewed,
            files,
        ),
        (
            "worker-01",
            cluster(&|it| it.endpoint.clone_from(&endpoint)),
            &[],
            &["activation", "others", "state/endpoint"],
        ),
    ];
    let mut texts = vec![founded().render()];
    texts.extend(cases.iter().map(|(_, cluster, _, _)| cluster.render()));
    for flake in Flake::ALL {
        let found = evaluate(&nix, flake, "differing", true, &texts);
        for ((machine, cluster, must, may), after) in cases.iter().zip(&found[1..]) {
            let changed = differing(&found[0], after, machine);
            let text = cluster.render();
            for part in *must {
                assert!(
                    changed.contains(*part),
                    "{flake:?}: {machine}: {part} of {changed:?}: {text}"
                );
            }
            for part in &changed {
                assert!(
                    must.contains(&&**part) || may.contains(&&**part),
                    "{flake:?}: {machine}: {part}: {text}"
                );
            }
        }
    }
}

#[test]
fn a_change_restarts_what_it_must_and_nothing_else() {
    let Some(nix) = evaluated::nix_or_skip("a_change_restarts_what_it_must_and_nothing_else")
    else {
        return;
    };
    let base = founded();
    let lists = |control_plane: &[NixNode], workers: &[NixNode]| ClusterNix {
        lists: Arc::new(Lists::new(control_plane, workers)),
        ..founded()
    };
    let three = [node("cp-01", 11), node("cp-02", 12), node("cp-03", 13)];
    let two = [node("worker-01", 21), node("worker-02", 22)];
    let clusters = [
        base.clone(),
        founding(),
        ClusterNix {
            join: Some(node("cp-03", 13)),
            ..founded()
        },
        lists(&three, &[&two[..], &[node("worker-03", 23)]].concat()),
        lists(&[&three[..], &[node("cp-04", 14)]].concat(), &two),
        lists(
            &[three[0].clone(), node("cp-02", 99), three[2].clone()],
            &two,
        ),
        ClusterNix {
            endpoint: Some(Endpoint {
                host: "10.0.0.9".to_owned(),
                port: 6443,
            }),
            ..founded()
        },
        ClusterNix {
            id: ClusterId::from_bits(8),
            ..founded()
        },
    ];
    let texts: Vec<String> = clusters.iter().map(ClusterNix::render).collect();
    for flake in Flake::ALL {
        let found = evaluate(&nix, flake, "changes", true, &texts);
        let [
            base,
            founding,
            join,
            worker,
            control_plane,
            address,
            endpoint,
            id,
        ] = &found[..]
        else {
            panic!("as many results as shapes");
        };
        // The founder goes on, whatever becomes of `bootstrap`, of `join`, and of the others.
        for (what, after) in [
            ("bootstrap", founding),
            ("join", join),
            ("a worker", worker),
            ("a control plane machine", control_plane),
            ("another's address", address),
        ] {
            for machine in ["cp-01", "cp-03", "worker-01"] {
                let units = restarted(base, after, machine);
                assert!(
                    units.is_empty(),
                    "{flake:?}: {what} restarts {units:?} of {machine}"
                );
                let changed = base[machine]["hosts"] != after[machine]["hosts"];
                assert_eq!(changed, what.starts_with('a'), "{flake:?}: {what}");
                assert_eq!(base[machine]["ports"], after[machine]["ports"]);
                assert_eq!(
                    base[machine]["others"], after[machine]["others"],
                    "{flake:?}: {what}"
                );
            }
        }
        // A new endpoint makes new certificates, which is the control plane's matter.
        assert_eq!(
            restarted(base, endpoint, "cp-01"),
            flake.services(true),
            "{flake:?}"
        );
        assert_eq!(
            restarted(base, endpoint, "worker-01"),
            BTreeSet::new(),
            "{flake:?}"
        );
        // Another cluster of the same machines is another cluster, and each machine has to become a Node of it.
        for (machine, control_plane) in [("cp-01", true), ("worker-01", false)] {
            let mut expected = flake.services(control_plane);
            if flake != Flake::Kubeadm {
                expected.insert("nico-joined".to_owned());
            }
            assert_eq!(restarted(base, id, machine), expected, "{flake:?}");
        }
        // The machine whose own address changed.
        assert_eq!(restarted(base, address, "cp-02"), flake.services(true));
        // `minimal` is the same for all clusters.
        assert!(
            found.iter().all(|it| it["minimal"] == base["minimal"]),
            "{flake:?}"
        );
    }
}

impl Flake {
    /// The services of a machine that run the cluster.
    fn services(self, control_plane: bool) -> BTreeSet<String> {
        let name = match (self, control_plane) {
            (Self::Kubeadm, _) => "nico-kubeadm",
            (Self::K0s, true) => "k0scontroller",
            (Self::K0s, false) => "k0sworker",
            (Self::K3s, _) => "k3s",
            (Self::Rke2, true) => "rke2-server",
            (Self::Rke2, false) => "rke2-agent",
        };
        BTreeSet::from([name.to_owned()])
    }
}
