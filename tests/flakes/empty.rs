//! A power cut may leave empty what kubeadm wrote right before.
use super::changes::each_founding;
use super::evaluated::Flake;
use super::interrupted::machine;

/// The file system may know of a file that kubeadm wrote right before a power cut, and not of what is in it.
#[test]
fn kubeadm_begins_again_without_the_files_that_a_power_cut_left_empty() {
    each_founding("empty", |flake, found| {
        if flake != Flake::Kubeadm {
            return;
        }
        let all = [
            "admin.conf",
            "kubelet.conf",
            "manifests/etcd.yaml",
            "pki/apiserver.crt",
            "pki/apiserver.key",
            "pki/ca.crt",
            "pki/ca.key",
            "pki/etcd/ca.crt",
            "pki/etcd/ca.key",
            "pki/etcd/server.crt",
            "pki/etcd/server.key",
            "pki/sa.key",
            "pki/sa.pub",
        ];
        let every: &[&str] = &["pki/", "admin.conf", "kubelet.conf"];
        // What is empty, and what kubeadm does not find then.
        let cases: [(&[&str], &[&str]); 7] = [
            (&[], &[]),
            (
                &["pki/apiserver.key"],
                &["pki/apiserver.crt", "pki/apiserver.key"],
            ),
            (&["pki/sa.pub"], &["pki/sa.key", "pki/sa.pub"]),
            (
                &["admin.conf", "manifests/etcd.yaml"],
                &["admin.conf", "manifests/etcd.yaml"],
            ),
            (&["pki/ca.crt"], every),
            (&["pki/etcd/ca.key"], every),
            (&["pki/ca.key", "pki/apiserver.crt"], every),
        ];
        for name in ["cp-01", "cp-02", "worker-01"] {
            let evaluated = &found[name];
            for (empty, dropped) in cases {
                let machine = machine(flake, "empty", evaluated, false);
                for file in all {
                    let text = if empty.contains(&file) { "" } else { "whole" };
                    machine.write(&format!("etc/kubernetes/{file}"), text);
                }
                let id = evaluated["state"]["id"].as_str().unwrap();
                machine.write("etc/kubernetes/nico-begun", id);
                machine.write("etc/kubernetes/mine", "");
                machine.write("var/lib/kubelet/pki/kubelet-client-1.pem", "");
                machine.write("var/lib/kubelet/pki/kubelet.key", "whole");
                if let Some(join) = evaluated["state"]["join"].as_str() {
                    machine.answering(&[join]);
                }
                let (etc, seen) = (machine.path("etc/kubernetes"), machine.path("seen"));
                let kubelet = machine.path("var/lib/kubelet/pki");
                let list = format!(
                    "[ -e {seen} ] || {{ cd {etc}; find . -type f -printf '%P\\n' > {seen}; ls {kubelet} >> {seen}; }}",
                    seen = seen.display(),
                    etc = etc.display(),
                    kubelet = kubelet.display(),
                );
                machine.command("kubeadm", &list);
                machine.start(flake.starts(evaluated)).unwrap();
                let seen = machine.read("seen").unwrap();
                let mut seen: Vec<&str> = seen.lines().collect();
                seen.sort_unstable();
                let stays = |file: &&str| !dropped.iter().any(|it| file.starts_with(it));
                let mut expected: Vec<&str> = all.into_iter().filter(stays).collect();
                expected.extend(["kubelet.key", "mine", "nico-begun"]);
                expected.sort_unstable();
                assert_eq!(seen, expected, "{name}: {empty:?}");
            }
        }
        // A member's files are on disk before it counts as one, and are left alone then.
        let (founder, data) = (&found["cp-01"], &found["cp-01"]["state"]["data"]);
        let machine = machine(flake, "empty", founder, false);
        let data = data.as_str().unwrap().trim_start_matches('/');
        let count = machine.path(data).display().to_string();
        machine.command(
            "sync",
            &format!("case \"$1\" in --file-system) [ ! -e {count} ] ;; esac"),
        );
        machine.start(flake.starts(founder)).unwrap();
        assert!(!machine.calls(&["sync"]).is_empty() && machine.path(data).exists());
        machine.write("etc/kubernetes/pki/ca.crt", "");
        assert_eq!(
            machine.start(flake.starts(founder)).as_deref(),
            Some("member")
        );
        assert!(machine.path("etc/kubernetes/pki/ca.crt").exists());
    });
}
