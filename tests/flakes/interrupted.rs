//! A start or a release that was cut short, and peers that are slow.
use std::fs;

use serde_json::Value;

use super::changes::each_founding;
use super::evaluated::Flake;
use super::machine::Machine;
use super::release::leaves;

pub(crate) fn machine(flake: Flake, test: &str, evaluated: &Value, data: bool) -> Machine {
    Machine::new(&format!("{test}-{}", flake.directory()), evaluated, data)
}

/// One that takes the connection may be a member that is too busy to answer.
#[test]
fn a_machine_does_not_found_beside_a_slow_one() {
    each_founding("slow", |flake, found| {
        let founder = &found["cp-01"];
        for (connected, expected) in [("0.000000", Some("found")), ("0.000321", None)] {
            let machine = machine(flake, "slow", founder, false);
            machine.command("curl", &format!("printf {connected}; exit 28"));
            let how = machine.start(flake.starts(founder));
            assert_eq!(how.as_deref(), expected, "{flake:?}: {connected}");
        }
    });
}

/// One that starts again right now is silent for moments, and the cluster exists.
#[test]
fn a_founder_asks_each_machine_three_times() {
    each_founding("thrice", |flake, found| {
        let founder = &found["cp-01"];
        for (answers_at, expected, asked) in [(5, None, 5), (6, None, 6), (9, Some("found"), 6)] {
            let machine = machine(flake, "thrice", founder, false);
            // It was noted before it counts.
            let calls = machine.path("calls");
            machine.command(
                "curl",
                &format!(
                    "[ \"$(grep -c ^curl {})\" -ge {answers_at} ] || exit 7",
                    calls.display()
                ),
            );
            let how = machine.start(flake.starts(founder));
            assert_eq!(how.as_deref(), expected, "{flake:?}: {answers_at}");
            assert_eq!(machine.calls(&["curl"]).len(), asked, "{flake:?}");
        }
    });
}

/// kubeadm takes minutes between etcd's first data and its end. Another machine may have joined by then.
#[test]
fn a_founder_ends_what_it_began_also_where_another_one_has_joined() {
    each_founding("begun", |flake, found| {
        let founder = &found["cp-01"];
        let cases = [
            (
                "of this cluster",
                founder["state"]["id"].as_str().unwrap(),
                true,
                true,
            ),
            ("of an earlier cluster", "0123456789abcdef", true, false),
            (
                "without etcd",
                founder["state"]["id"].as_str().unwrap(),
                false,
                false,
            ),
        ];
        for (what, id, etcd, founds) in cases {
            let machine = machine(flake, "begun", founder, false);
            machine.write("etc/kubernetes/nico-begun", id);
            if etcd {
                machine.write("var/lib/etcd/member/wal/0", "");
            }
            machine.answering(&["https://10.0.0.13:6443"]);
            let how = machine.start(flake.starts(founder));
            let expected = flake == Flake::Kubeadm && founds;
            assert_eq!(how.is_some(), expected, "{flake:?}: {what}: {how:?}");
        }
    });
}

/// k0s takes a CA in place as a proof that it has joined, and would found a cluster of its own with it.
#[test]
fn a_k0s_machine_joins_without_the_ca_of_an_earlier_attempt() {
    each_founding("attempt", |flake, found| {
        if flake != Flake::K0s {
            return;
        }
        let (founder, joiner) = (&found["cp-01"], &found["cp-02"]);
        let join = joiner["state"]["join"].as_str().unwrap();
        for (evaluated, data, stays) in [
            (joiner, false, false),
            (joiner, true, true),
            (founder, false, true),
        ] {
            let machine = machine(flake, "attempt", evaluated, data);
            machine.write(
                "var/lib/k0s/nico-begun",
                evaluated["state"]["id"].as_str().unwrap(),
            );
            machine.write("var/lib/k0s/pki/ca.key", "a key");
            if evaluated == joiner {
                machine.answering(&[join]);
            }
            machine.start(flake.starts(evaluated)).unwrap();
            assert_eq!(machine.read("var/lib/k0s/pki/ca.key").is_some(), stays);
        }
    });
}

/// It may be a member of etcd already, and two of which one is gone have no quorum.
#[test]
fn a_machine_whose_join_did_not_end_leaves_etcd_too() {
    each_founding("joining", |flake, found| {
        if flake != Flake::Kubeadm {
            return;
        }
        let joiner = &found["cp-02"];
        for etcd in [true, false] {
            let machine = machine(flake, "joining", joiner, false);
            machine.write(
                "etc/kubernetes/nico-begun",
                joiner["state"]["id"].as_str().unwrap(),
            );
            if etcd {
                machine.write("var/lib/etcd/member/wal/0", "");
            }
            machine.answering(&["https://10.0.0.11:6443"]);
            machine.command(
                "etcdctl",
                "case \"$*\" in *list) echo 'a2, started, cp-02, x, y, false' ;; esac",
            );
            machine.must_run(&leaves(found));
            let calls = machine.calls(&["etcdctl"]);
            assert_eq!(
                calls.iter().any(|call| call.ends_with("member remove a2")),
                etcd,
                "{calls:?}"
            );
        }
    });
}

/// The unit has ten minutes: whoever is slow must not use them all up.
#[test]
fn a_release_ends_in_time_where_no_other_machine_helps() {
    each_founding("in-time", |flake, found| {
        let script = leaves(found);
        for (elapsed, asked) in [(0, 2), (400, 1)] {
            let machine = machine(flake, "in-time", &found["cp-02"], true);
            machine.answering(&["https://10.0.0.11:6443", "https://10.0.0.13:6443"]);
            machine.command("kubectl", "exit 1");
            machine.command("etcdctl", "exit 1");
            machine.must_run(&format!("SECONDS={elapsed}\n{script}"));
            assert_eq!(
                machine.calls(&["kubectl", "etcdctl"]).len(),
                asked,
                "{flake:?}"
            );
            assert!(!machine.path("var/lib/nico/member").exists());
        }
    });
}

/// Without the id, nothing says that the release has not ended: so it is the last to go.
#[test]
fn a_release_that_is_cut_short_anywhere_starts_again() {
    each_founding("anywhere", |flake, found| {
        let script = leaves(found);
        let (before, last) = script.rsplit_once("\ntake_off\n").unwrap();
        let lines: Vec<&str> = last.lines().collect();
        for cut in 0..=lines.len() {
            let machine = machine(flake, "anywhere", &found["worker-01"], true);
            let run = lines[..cut].join("\n");
            assert_eq!(
                machine
                    .run(&format!("{before}\ntake_off\n{run}\nexit 9\n"))
                    .status
                    .code(),
                Some(9)
            );
            let ended = !machine.path("var/lib/nico/member/id").exists();
            if ended {
                for gone in ["var/lib/nico/id", "var/lib/nico/joined", "run/nico"] {
                    assert!(
                        !machine.path(gone).exists(),
                        "{flake:?}: {gone} after line {cut}"
                    );
                }
            }
            machine.must_run(&script);
            assert!(!machine.path("var/lib/nico/member/id").exists());
        }
    });
}

/// A power cut right after a file was written may leave it empty: then data would seem another cluster's.
#[test]
fn a_note_is_on_disk_before_it_counts() {
    each_founding("notes", |flake, found| {
        let founder = &found["cp-01"];
        let machine = machine(flake, "notes", founder, false);
        let id = machine.path("var/lib/nico/id").display().to_string();
        machine.command("sync", "[ ! -e \"${1%.new}\" ]");
        assert!(machine.start(flake.starts(founder)).is_some());
        let calls = machine.calls(&["sync"]);
        assert!(calls.contains(&format!("sync {id}.new")), "{calls:?}");
        assert_eq!(
            machine.read("var/lib/nico/id").unwrap().trim(),
            founder["state"]["id"].as_str().unwrap()
        );
    });
}

/// While an apply replaces what the start rests on, a start must not take the data for another cluster's.
#[test]
fn data_stay_where_the_id_cannot_be_read() {
    each_founding("unreadable", |flake, found| {
        let founder = &found["cp-01"];
        for missing in ["id", "role"] {
            let machine = machine(flake, "unreadable", founder, true);
            machine.write("var/lib/nico/id", founder["state"]["id"].as_str().unwrap());
            machine.write("var/lib/nico/role", "control-plane\n");
            fs::remove_file(machine.path("var/lib/nico/member").join(missing)).unwrap();
            let output = machine.run(flake.starts(founder));
            assert!(
                !output.status.success(),
                "{flake:?} starts without {missing}"
            );
            assert!(machine.calls(&["pkill", "kubeadm", "systemctl"]).is_empty());
            let data = founder["state"]["data"].as_str().unwrap();
            assert!(
                machine.read(data.trim_start_matches('/')).is_some(),
                "{flake:?}"
            );
        }
    });
}

/// A control plane machine that was given up comes back as a worker, of whose etcd nothing may start, or a worker as one of those.
#[test]
fn data_of_another_role_are_set_aside() {
    each_founding("role", |flake, found| {
        let unit = match flake {
            Flake::K3s => "k3s",
            Flake::Rke2 => "rke2-agent",
            Flake::Kubeadm => "nico-kubeadm",
            Flake::K0s => "k0sworker",
        };
        let key = if flake == Flake::Kubeadm {
            "script"
        } else {
            "preStart"
        };
        let worker = found["worker-01"]["units"][unit][key].as_str().unwrap();
        let server = flake.starts(&found["cp-02"]);
        let (control_plane, worker) = (("cp-02", server), ("worker-01", worker));
        for ((name, script), role, expected) in [
            (worker, "control-plane", "join"),
            (worker, "worker", "member"),
            (control_plane, "worker", "join"),
            (control_plane, "control-plane", "member"),
        ] {
            let after = &found[name];
            let machine = machine(flake, "role", after, true);
            let id = after["state"]["id"].as_str().unwrap();
            machine.write("var/lib/nico/id", id);
            machine.write("var/lib/nico/role", &format!("{role}\n"));
            machine.write("etc/kubernetes/manifests/etcd.yaml", "");
            machine.write("var/lib/k0s/etcd/member/snap/0", "");
            machine.answering(&[after["state"]["join"].as_str().unwrap()]);
            // k0s takes a CA that is beside the flake.
            let how = machine.start(script);
            assert_eq!(
                how.as_deref(),
                Some(expected),
                "{flake:?}: {name} was {role}"
            );
            let stays = expected == "member";
            match flake {
                Flake::K3s | Flake::Rke2 => {
                    let data = after["state"]["data"].as_str().unwrap();
                    assert_eq!(machine.read(data.trim_start_matches('/')).is_some(), stays);
                }
                Flake::Kubeadm => {
                    assert_eq!(
                        machine.path("etc/kubernetes/manifests/etcd.yaml").exists(),
                        stays
                    );
                }
                Flake::K0s => assert_eq!(machine.path("var/lib/k0s/etcd").exists(), stays),
            }
            let role = machine.read("var/lib/nico/role").unwrap();
            assert_eq!(role.trim(), after["state"]["role"].as_str().unwrap());
        }
    });
}

/// A disk of its own that is not mounted looks like a machine without data, and a founder would found again.
#[test]
fn nothing_starts_while_the_disk_of_its_data_is_missing() {
    each_founding("disks", |flake, found| {
        let founder = &found["cp-01"];
        let data = founder["state"]["data"].as_str().unwrap();
        let (unit, disks) = match flake {
            Flake::K3s => ("k3s", vec![data]),
            Flake::Rke2 => ("rke2-server", vec![data]),
            Flake::Kubeadm => ("nico-kubeadm", vec![data, "/var/lib/etcd"]),
            Flake::K0s => ("k0scontroller", vec![data]),
        };
        let required = &founder["units"][unit]["unitConfig"]["RequiresMountsFor"];
        for disk in disks {
            let paths = required.as_array().into_iter().flatten();
            let mut paths = paths.filter_map(Value::as_str);
            assert!(
                paths.any(|path| disk.starts_with(path)),
                "{disk}: {required}"
            );
        }
    });
}
