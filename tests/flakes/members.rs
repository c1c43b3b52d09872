//! kubeadm and k0s do not remove a dead etcd member: a unit of the flake does.
use serde_json::Value;

use super::changes::founded;
use super::evaluated::{self, Flake, evaluate};
use super::machine::Machine;

/// A member of etcd as it stands: its name, whether it has a Node, and whether it answers.
type Member = (&'static str, bool, bool);

/// Puts etcd and the API server in place.
fn pretend(machine: &Machine, leads: bool, members: &[Member]) {
    let ip = |name: &str| format!("10.0.0.1{}", name.chars().last().unwrap());
    let list: Vec<String> = members
        .iter()
        .map(|(name, _, _)| {
            let (id, ip) = (name.replace("cp-0", "a"), ip(name));
            format!("{id}, started, {name}, https://{ip}:2380, https://{ip}:2379, false")
        })
        .collect();
    let answering: Vec<String> = members
        .iter()
        .filter(|(_, _, answers)| *answers)
        .map(|(name, _, _)| ip(name))
        .collect();
    let health: Vec<String> = answering
        .iter()
        .map(|ip| format!("https://{ip}:2379 is healthy: successfully committed proposal"))
        .collect();
    pretend_etcd(machine, leads, &list, &health);
    let nodes: Vec<String> = members
        .iter()
        .filter(|(_, node, _)| *node)
        .map(|(name, _, _)| format!("{name} {} {name} ", ip(name)))
        .collect();
    machine.command("kubectl", &format!("echo '{}'", nodes.concat()));
    let peers: Vec<String> = answering
        .iter()
        .map(|ip| format!("https://{ip}:2380"))
        .collect();
    machine.answering(&peers.iter().map(String::as_str).collect::<Vec<_>>());
}

/// What etcd answers: whether this member leads, its list, and who is healthy. As the real one, it fails where one is not.
pub(super) fn pretend_etcd<S: std::borrow::Borrow<str>>(
    machine: &Machine,
    leads: bool,
    list: &[S],
    health: &[String],
) {
    pretend_etcd_with_health_on(1, machine, leads, list, health);
}

/// The same, which says who is healthy on this descriptor.
pub(super) fn pretend_etcd_with_health_on<S: std::borrow::Borrow<str>>(
    descriptor: u8,
    machine: &Machine,
    leads: bool,
    list: &[S],
    health: &[String],
) {
    let leader = if leads { 1 } else { 2 };
    machine.command(
        "etcdctl",
        &format!(
            "case \"$*\" in\n'endpoint status'*) printf '\"MemberID\" : 1\\n\"Leader\" : {leader}\\n' ;;\n\
             'member list'*) cat << END\n{}\nEND\n;;\n'endpoint health'*) cat >&{descriptor} << END\n{}\nEND\nexit 1 ;;\nesac",
            list.join("\n"),
            health.join("\n"),
        ),
    );
}

/// The ids of the members that the machine has removed.
pub(super) fn calls_to_remove(machine: &Machine) -> Vec<String> {
    let calls = machine.calls(&["etcdctl"]);
    let calls = calls
        .iter()
        .filter_map(|call| call.strip_prefix("etcdctl member remove "));
    calls.map(str::to_owned).collect()
}

/// The members that are removed in passes at these times.
fn removed(evaluated: &Value, purpose: &str, passes: &[(u64, bool, &[Member])]) -> Vec<String> {
    let machine = Machine::new(purpose, evaluated, true);
    let script = evaluated["units"]["nico-dead-members"]["script"]
        .as_str()
        .unwrap();
    for (time, leads, members) in passes {
        pretend(&machine, *leads, members);
        machine.write("proc/uptime", &format!("{time}.99 1.00\n"));
        // A clock that jumps.
        machine.command("date", &format!("echo {}", time * 1000));
        machine.must_run(script);
    }
    calls_to_remove(&machine)
}

#[test]
fn dead_members_are_removed_one_at_a_time_while_the_rest_keeps_a_quorum() {
    let test = "dead_members_are_removed_one_at_a_time_while_the_rest_keeps_a_quorum";
    let Some(nix) = evaluated::nix_or_skip(test) else {
        return;
    };
    for flake in [Flake::Kubeadm, Flake::K0s] {
        let found = evaluate(&nix, flake, "members", true, &[founded().render()]);
        let evaluated = &found[0]["cp-01"];
        let purpose = format!("members-{}", flake.directory());
        let check = |what: &str, passes: &[(u64, bool, &[Member])], expected: &[&str]| {
            assert_eq!(
                removed(evaluated, &purpose, passes),
                expected,
                "{flake:?}: {what}"
            );
        };
        let all: &[Member] = &[
            ("cp-01", true, true),
            ("cp-02", true, true),
            ("cp-03", true, true),
        ];
        let gone: &[Member] = &[
            ("cp-01", true, true),
            ("cp-02", false, false),
            ("cp-03", true, true),
        ];
        check("nobody is gone", &[(0, true, all), (999, true, all)], &[]);
        check(
            "gone for two minutes",
            &[(0, true, gone), (119, true, gone)],
            &[],
        );
        check(
            "then removed",
            &[(0, true, gone), (60, true, gone), (120, true, gone)],
            &["a2"],
        );
        check(
            "back meanwhile",
            &[(0, true, gone), (60, true, all), (120, true, gone)],
            &[],
        );
        check(
            "only the leader acts",
            &[(0, false, gone), (500, false, gone)],
            &[],
        );
        check(
            "a new leader counts anew",
            &[(0, true, gone), (90, false, gone), (120, true, gone)],
            &[],
        );

        let sick: &[Member] = &[
            ("cp-01", true, true),
            ("cp-02", false, false),
            ("cp-03", true, false),
        ];
        check(
            "the rest has no quorum",
            &[(0, true, sick), (500, true, sick)],
            &[],
        );
        let two: &[Member] = &[
            ("cp-01", true, true),
            ("cp-02", false, false),
            ("cp-03", true, true),
            ("cp-04", false, false),
            ("cp-05", true, true),
        ];
        check(
            "one at a time",
            &[(0, true, two), (120, true, two)],
            &["a2"],
        );
        let none: &[Member] = &[("cp-01", false, true), ("cp-02", false, true)];
        check(
            "no Node is known",
            &[(0, true, none), (500, true, none)],
            &[],
        );
        let own: &[Member] = &[
            ("cp-01", false, true),
            ("cp-02", true, true),
            ("cp-03", true, true),
        ];
        check("not itself", &[(0, true, own), (500, true, own)], &[]);
        let without_kubelets: &[Member] = &[
            ("cp-01", false, true),
            ("cp-02", false, true),
            ("cp-03", true, true),
        ];
        check(
            "where it has no Node itself, Nodes tell nothing",
            &[(0, true, without_kubelets), (500, true, without_kubelets)],
            &[],
        );
    }
}

/// Each new machine joins after an old one has gone for good. Without the unit, three of six would answer in the end.
#[test]
fn three_replacements_in_a_row_keep_a_quorum() {
    let Some(nix) = evaluated::nix_or_skip("three_replacements_in_a_row_keep_a_quorum") else {
        return;
    };
    for flake in [Flake::Kubeadm, Flake::K0s] {
        let found = evaluate(&nix, flake, "replaced", true, &[founded().render()]);
        let evaluated = &found[0]["cp-01"];
        let script = evaluated["units"]["nico-dead-members"]["script"]
            .as_str()
            .unwrap();
        let machine = Machine::new(&format!("replaced-{}", flake.directory()), evaluated, true);
        let mut members: Vec<Member> = ["cp-01", "cp-02", "cp-03"]
            .map(|it| (it, true, true))
            .into();
        let mut time = 0;
        for (gone, new) in [("cp-02", "cp-04"), ("cp-03", "cp-05"), ("cp-04", "cp-06")] {
            members.push((new, true, true));
            for member in members.iter_mut().filter(|member| member.0 == gone) {
                *member = (gone, false, false);
            }
            let before = calls_to_remove(&machine);
            while calls_to_remove(&machine) == before {
                pretend(&machine, true, &members);
                machine.write("proc/uptime", &format!("{time}.00 0.00\n"));
                machine.must_run(script);
                time += 30;
                assert!(time < 1000, "{flake:?}: {members:?}");
            }
            members.retain(|member| member.0 != gone);
            let answer = members.iter().filter(|member| member.2).count();
            assert_eq!((answer, members.len()), (3, 3), "{flake:?}: {members:?}");
        }
        assert_eq!(calls_to_remove(&machine), ["a2", "a3", "a4"], "{flake:?}");
    }
}

/// Runs passes over members as etcd prints them; `nodes` and `answering` are the names and addresses, and the URLs for other members.
fn removed_of(
    machine: &Machine,
    script: &str,
    members: &[&str],
    nodes: &str,
    answering: &[&str],
    times: &[u64],
) -> Vec<String> {
    let health: Vec<String> = members
        .iter()
        .filter_map(|member| {
            let mut fields = member.split(", ").skip(3);
            let (peer, client) = (fields.next().unwrap(), fields.next().unwrap());
            answering
                .contains(&peer)
                .then(|| format!("{client} is healthy: took 1ms"))
        })
        .collect();
    pretend_etcd(machine, true, members, &health);
    machine.command("kubectl", &format!("echo '{nodes} '"));
    machine.answering(answering);
    for time in times {
        machine.write("proc/uptime", &format!("{time}.00 0.00\n"));
        machine.must_run(script);
    }
    calls_to_remove(machine)
}

/// Learners have no vote; a member that answers may be about to become a Node; one that has not started has no name yet.
#[test]
fn learners_and_members_that_begin_are_told_from_dead_ones() {
    let test = "learners_and_members_that_begin_are_told_from_dead_ones";
    let Some(nix) = evaluated::nix_or_skip(test) else {
        return;
    };
    let text = founded().render().replace("10.0.0.", "fd00::");
    for flake in [Flake::Kubeadm, Flake::K0s] {
        let found = evaluate(&nix, flake, "learners", true, std::slice::from_ref(&text));
        let evaluated = &found[0]["cp-01"];
        let script = evaluated["units"]["nico-dead-members"]["script"]
            .as_str()
            .unwrap();
        let member = |last: u8, name: &str, learner: bool| {
            let status = if name.is_empty() {
                "unstarted"
            } else {
                "started"
            };
            format!(
                "a{last}, {status}, {name}, https://[fd00::{last}]:2380, https://[fd00::{last}]:2379, {learner}"
            )
        };
        let peer = |last: u8| format!("https://[fd00::{last}]:2380");
        let check = |what: &str,
                     members: &[String],
                     nodes: &str,
                     answering: &[u8],
                     times: &[u64],
                     expected: &[&str]| {
            let machine = Machine::new(&format!("learners-{}", flake.directory()), evaluated, true);
            let members: Vec<&str> = members.iter().map(String::as_str).collect();
            let answering: Vec<String> = answering.iter().map(|last| peer(*last)).collect();
            let answering: Vec<&str> = answering.iter().map(String::as_str).collect();
            let removed = removed_of(&machine, script, &members, nodes, &answering, times);
            assert_eq!(removed, expected, "{flake:?}: {what}");
        };
        let (one, two, three) = (
            member(11, "cp-01", false),
            member(12, "cp-02", false),
            member(13, "cp-03", false),
        );
        let all = "cp-01 fd00::11 cp-03 fd00::13 cp-04 fd00::14";
        let with_learner = [
            one.clone(),
            two.clone(),
            three.clone(),
            member(14, "cp-04", true),
        ];
        check(
            "a learner that answers is no part of a quorum",
            &with_learner,
            all,
            &[11, 14],
            &[0, 500],
            &[],
        );
        check(
            "a learner that is silent takes none away",
            &with_learner,
            all,
            &[11, 13],
            &[0, 500],
            &["a12"],
        );
        let dead_learner = [one.clone(), three.clone(), member(12, "cp-02", true)];
        check(
            "a dead learner",
            &dead_learner,
            all,
            &[11, 13],
            &[0, 120],
            &["a12"],
        );
        let begins = [one.clone(), two.clone(), three.clone()];
        let early = [0, 120, 899];
        check("it answers", &begins, all, &[11, 12, 13], &early, &[]);
        let late = [0, 120, 899, 900];
        check(
            "it answers too long",
            &begins,
            all,
            &[11, 12, 13],
            &late,
            &["a12"],
        );
        let unstarted = [one.clone(), member(12, "", false), three.clone()];
        let known = "cp-01 fd00::11 cp-02 fd00::12 cp-03 fd00::13";
        check(
            "its Node is known by address",
            &unstarted,
            known,
            &[11, 13],
            &[0, 500],
            &[],
        );
        check(
            "it never started",
            &unstarted,
            all,
            &[11, 13],
            &[0, 120],
            &["a12"],
        );
    }
}
