//! What a release deletes, and what it leaves alone: other people's files are often mounted below a kubelet's directory.
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::changes::each_founding;
use super::evaluated::{Evaluated, Flake};
use super::interrupted::machine;
use super::machine::Machine;

/// The script of `minimal`.
pub(crate) fn leaves(found: &Evaluated) -> String {
    let unit = &found["minimal"]["units"]["nico-leave"];
    let services = unit["environment"]["NICO_SERVICES"].as_str().unwrap();
    let script = unit["script"].as_str().unwrap();
    format!("NICO_SERVICES='{services}'\n{script}")
}

/// Each flake with this machine for a test, and the script of `minimal`.
fn each(test: &str, name: &str, check: impl Fn(Flake, &Machine, &Value, &str)) {
    each_founding(test, |flake, found| {
        let machine = machine(flake, test, &found[name], true);
        check(flake, &machine, &found[name], &leaves(found));
    });
}

/// The kubelet's directory, which k0s has among its own.
fn kubelet(flake: Flake) -> &'static str {
    match flake {
        Flake::K0s => "var/lib/k0s/kubelet",
        Flake::K3s | Flake::Rke2 | Flake::Kubeadm => "var/lib/kubelet",
    }
}

/// Unmounts as the kernel does: afterwards, the files are no longer below the mount point.
fn unmounts(machine: &Machine) {
    let (table, elsewhere) = (machine.path("proc/self/mounts"), machine.path("elsewhere"));
    let script = format!(
        "for it; do :; done\nmkdir -p {elsewhere}\nmv \"$it\"/* {elsewhere}/\n\
         escaped=$(printf '%s' \"$it\" | sed 's/ /\\\\\\\\040/g')\n\
         awk -v it=\"$escaped\" '$2 != it' {table} > {table}.new; mv {table}.new {table}",
        elsewhere = elsewhere.display(),
        table = table.display(),
    );
    machine.command("umount", &script);
}

#[test]
fn a_release_unmounts_before_it_deletes() {
    each("unmounts", "worker-01", |flake, machine, _, script| {
        let volume = format!("{}/pods/1/volumes/local/my volume", kubelet(flake));
        let strangers = [
            "var/lib/kubelet-of-mine",
            "run/k3s-of-mine",
            "run/containerd/io.containerd.runtime.v2.task/moby/1",
            "run/netns/mine",
        ];
        machine.write(&format!("{volume}/photos"), "mine");
        machine.write("var/lib/cni/networks/cbr0/10.42.0.2", "");
        for stranger in strangers {
            machine.write(&format!("{stranger}/photos"), "mine");
        }
        let two = [volume.as_str(), "var/lib/cni/cache"];
        machine.write("var/lib/cni/cache/films", "mine too");
        machine.mounted(&[&two[..], &strangers[..]].concat());
        unmounts(machine);
        machine.must_run(script);
        assert_eq!(machine.read("elsewhere/photos").as_deref(), Some("mine"));
        assert!(machine.read("elsewhere/films").is_some());
        for gone in [kubelet(flake), "var/lib/cni"] {
            assert!(!machine.path(gone).exists(), "{flake:?}: {gone}");
        }
        for stranger in strangers {
            let photos = machine.read(&format!("{stranger}/photos"));
            assert_eq!(photos.as_deref(), Some("mine"), "{flake:?}: {stranger}");
        }
        assert_eq!(machine.calls(&["umount"]).len(), two.len(), "{flake:?}");
    });
}

#[test]
fn a_release_deletes_nothing_below_what_stays_mounted() {
    each("stays-mounted", "worker-01", |flake, machine, _, script| {
        let volume = format!("{}/pods/1/volumes/local", kubelet(flake));
        machine.write(&format!("{volume}/photos"), "mine");
        machine.mounted(&[&volume]);
        machine.command("umount", "exit 32");
        machine.write("var/lib/k0s/manifests/nico/tokens.yaml", "secret");
        let said = machine.must_run(script);
        assert_eq!(
            machine.read(&format!("{volume}/photos")).as_deref(),
            Some("mine"),
            "{flake:?}"
        );
        assert!(said.contains("still mounted"), "{said}");
        assert!(!machine.path("var/lib/nico/member").exists());
        assert!(!machine.path("run/nico").exists(), "tokens stay");
        let tokens = machine.path("var/lib/k0s/manifests/nico");
        assert_eq!(tokens.exists(), flake != Flake::K0s, "tokens stay");
    });
}

/// A disk of its own cannot be moved or deleted itself, and stays mounted.
#[test]
fn a_directory_that_is_a_disk_of_its_own_is_emptied() {
    each("own-disk", "worker-01", |flake, machine, _, script| {
        let disks = ["var/lib/etcd", kubelet(flake)];
        machine.write("var/lib/etcd/member/wal", "");
        machine.write("var/lib/etcd/lost+found/1", "");
        machine.write(&format!("{}/config.yaml", kubelet(flake)), "");
        machine.mounted(&disks);
        machine.must_run(script);
        assert!(
            machine
                .calls(&["umount"])
                .iter()
                .all(|it| it.contains("k0s/kubelet"))
        );
        // No other flake has anything there.
        let emptied = flake == Flake::Kubeadm;
        assert_eq!(machine.read("var/lib/etcd/member/wal").is_none(), emptied);
        assert!(machine.path("var/lib/etcd/lost+found").exists());
        let kept = machine.read("var/lib/nico/aside/released/etcd/member/wal");
        assert_eq!(kept.is_some(), emptied);
    });
}

/// What k3s and RKE2 keep of their tokens is of use to whoever finds it while the cluster lives.
#[test]
fn no_token_is_kept_beside_the_data() {
    each("tokens", "cp-01", |flake, machine, evaluated, script| {
        let data = evaluated["state"]["data"].as_str().unwrap();
        let Some((directory, _)) = data.trim_start_matches('/').split_once("/server/") else {
            return;
        };
        let tokens = ["token", "agent-token", "node-token", "cred/passwd"];
        for token in tokens {
            machine.write(&format!("{directory}/server/{token}"), "secret");
        }
        machine.write(&format!("{directory}/server/tls/server-ca.key"), "key");
        machine.must_run(script);
        let kept = |file: &str| machine.read(&format!("{directory}.released/server/{file}"));
        assert_eq!(
            kept("tls/server-ca.key").as_deref(),
            Some("key"),
            "{flake:?}"
        );
        for token in tokens {
            assert_eq!(kept(token), None, "{flake:?}: {token}");
        }
        assert!(!machine.path(directory).exists(), "{flake:?}");
    });
}

/// The power fails after the last directory was moved, and the release starts again.
#[test]
fn a_release_that_is_cut_short_keeps_what_it_moved() {
    each("cut-short", "cp-01", |flake, machine, evaluated, script| {
        machine.write("var/lib/etcd/member/wal", "");
        // As a disk of its own, it is still there when all in it was moved.
        machine.mounted(&["var/lib/etcd"]);
        let data = evaluated["state"]["data"].as_str().unwrap();
        let kept = match flake {
            Flake::K3s | Flake::Rke2 => data
                .trim_start_matches('/')
                .replace("/server/", ".released/server/"),
            Flake::Kubeadm | Flake::K0s => "var/lib/nico/aside/released/etcd/member/wal".to_owned(),
        };
        let taken_off = script.replace("\ntake_off\n", "\ntake_off\nexit 9\n");
        assert_ne!(script, taken_off);
        assert_eq!(machine.run(&taken_off).status.code(), Some(9));
        assert!(machine.path(&kept).exists(), "{flake:?}: {kept}");
        machine.must_run(script);
        assert!(
            machine.path(&kept).exists(),
            "{flake:?}: the second attempt deletes {kept}"
        );
        // Another release of the same machine, later.
        let before = copies(&machine.path(""));
        machine.command("date", "echo 1764355200");
        let files = evaluated["state"].as_object().unwrap();
        for file in ["id", "name", "role", "data", "peers"] {
            machine.write(
                &format!("var/lib/nico/member/{file}"),
                files[file].as_str().unwrap(),
            );
        }
        machine.write(data.trim_start_matches('/'), "");
        machine.write("var/lib/etcd/member/wal", "");
        machine.must_run(script);
        assert!(
            copies(&machine.path("")) > before,
            "{flake:?}: the earlier copy is gone"
        );
    });
}

/// How many copies of etcd's data there are.
fn copies(directory: &Path) -> usize {
    let entries = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let count = |path: PathBuf| {
        if path.ends_with("member/wal") {
            1
        } else if path.is_dir() {
            copies(&path)
        } else {
            0
        }
    };
    entries.map(count).sum()
}

#[test]
fn containers_end_and_their_network_is_taken_off() {
    each("clear", "worker-01", |flake, machine, _, script| {
        for group in ["kubepods", "kubepods.slice", "user.slice"] {
            machine.write(&format!("sys/fs/cgroup/{group}/cgroup.kill"), "");
        }
        for table in ["iptables", "ip6tables"] {
            let rules = "-A INPUT -j KUBE-FIREWALL\\n-A INPUT -j nixos-fw\\n-A POSTROUTING -j CNI-1\\n-A FORWARD -j FLANNEL-FWD\\n-A FORWARD -m comment --comment cali:1 -j cali-FORWARD\\n";
            machine.command(&format!("{table}-save"), &format!("printf -- '{rules}'"));
            let restored = machine.path(table);
            let restored = restored.display();
            machine.command(&format!("{table}-restore"), &format!("cat > {restored}"));
        }
        machine.must_run(script);
        let killed = |group: &str| machine.read(&format!("sys/fs/cgroup/{group}/cgroup.kill"));
        assert_eq!(killed("kubepods").as_deref(), Some("1\n"), "{flake:?}");
        assert_eq!(killed("kubepods.slice").as_deref(), Some("1\n"));
        assert_eq!(killed("user.slice").as_deref(), Some(""));
        assert_eq!(
            machine.calls(&["pkill"]),
            ["pkill -9 -f containerd-shim.* -namespace k8s.io"]
        );
        for table in ["iptables", "ip6tables"] {
            assert_eq!(
                machine.read(table).as_deref(),
                Some("-A INPUT -j nixos-fw\n"),
                "{flake:?}: the firewall stays"
            );
        }
        let links = machine.calls(&["ip"]);
        for link in [
            "cni0",
            "flannel.1",
            "flannel-v6.1",
            "kube-bridge",
            "vxlan.calico",
        ] {
            assert!(
                links.contains(&format!("ip link delete {link}")),
                "{links:?}"
            );
        }
    });
}
