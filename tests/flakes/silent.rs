//! A member without a Node whose etcd is silent for moments: k0s starts again while it joins, and one that was removed never comes back.
use super::changes::founded;
use super::evaluated::{self, Flake, evaluate};
use super::machine::Machine;
use super::members::{calls_to_remove, pretend_etcd, pretend_etcd_with_health_on};

const MEMBERS: [&str; 3] = [
    "a1, started, cp-01, https://10.0.0.11:2380, https://10.0.0.11:2379, false",
    "a2, started, cp-02, https://10.0.0.12:2380, https://10.0.0.12:2379, false",
    "a3, started, cp-03, https://10.0.0.13:2380, https://10.0.0.13:2379, false",
];

/// What etcdctl says of those that are healthy.
fn health() -> [String; 2] {
    ["11", "13"].map(|it| format!("https://10.0.0.{it}:2379 is healthy: took"))
}

#[test]
fn a_member_is_dead_when_it_was_silent_for_two_minutes() {
    let test = "a_member_is_dead_when_it_was_silent_for_two_minutes";
    let Some(nix) = evaluated::nix_or_skip(test) else {
        return;
    };
    let others = ["https://10.0.0.11:2380", "https://10.0.0.13:2380"];
    let all = [&others[..], &["https://10.0.0.12:2380"]].concat();
    for flake in [Flake::Kubeadm, Flake::K0s] {
        let found = evaluate(&nix, flake, "silent", true, &[founded().render()]);
        let evaluated = &found[0]["cp-01"];
        let script = evaluated["units"]["nico-dead-members"]["script"]
            .as_str()
            .unwrap();
        // When cp-02 is asked, and whether it answers; and whether it is removed then.
        let cases: [(&[(u64, bool)], bool); 5] = [
            (&[(0, true), (150, true), (180, false)], false),
            (&[(0, true), (150, true), (180, false), (269, false)], false),
            (&[(0, true), (150, true), (180, false), (270, false)], true),
            (
                &[
                    (0, true),
                    (150, true),
                    (180, false),
                    (210, true),
                    (300, false),
                ],
                false,
            ),
            (&[(0, false), (119, true), (200, false)], false),
        ];
        for (passes, removed) in cases {
            let machine = Machine::new(&format!("silent-{}", flake.directory()), evaluated, true);
            pretend_etcd(&machine, true, &MEMBERS, &health());
            machine.command("kubectl", "echo cp-01 10.0.0.11 cp-03 10.0.0.13");
            for (time, answers) in passes {
                machine.answering(if *answers { &all } else { &others });
                machine.write("proc/uptime", &format!("{time}.00 0.00\n"));
                machine.must_run(script);
            }
            let expected: &[&str] = if removed { &["a2"] } else { &[] };
            assert_eq!(calls_to_remove(&machine), expected, "{flake:?}: {passes:?}");
        }
    }
}

/// There are versions of etcdctl that say it on their standard error.
#[test]
fn members_count_as_healthy_wherever_etcdctl_says_so() {
    let test = "members_count_as_healthy_wherever_etcdctl_says_so";
    let Some(nix) = evaluated::nix_or_skip(test) else {
        return;
    };
    let found = evaluate(&nix, Flake::Kubeadm, test, false, &[founded().render()]);
    let evaluated = &found[0]["cp-01"];
    let script = evaluated["units"]["nico-dead-members"]["script"].as_str();
    let machine = Machine::new("healthy", evaluated, true);
    machine.command("kubectl", "echo cp-01 10.0.0.11 cp-03 10.0.0.13");
    machine.answering(&["https://10.0.0.11:2380", "https://10.0.0.13:2380"]);
    pretend_etcd_with_health_on(2, &machine, true, &MEMBERS, &health());
    for time in ["0.00 0.00\n", "120.00 0.00\n"] {
        machine.write("proc/uptime", time);
        machine.must_run(script.unwrap());
    }
    assert_eq!(calls_to_remove(&machine), ["a2"]);
}
