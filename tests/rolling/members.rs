//! Who joins and who is replaced: at each moment a quorum of the control plane's members is confirmed (SPEC 4.3).

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::{Api, PostParams};
use rig::judge::rollout::{Evidence, Rules};
use rig::proxy::Call;
use rig::wait::wait_describing;
use rig::world::condition;
use serde_json::{Value, json};

use crate::common::DEADLINE;
use crate::common::case::{Case, in_flight, names, took_effect};
use crate::{THREE, ready_with};

/// A member as NICO's writes tell.
#[derive(Default)]
struct Member {
    marker: String,
    confirmed: bool,
    once_confirmed: bool,
}

/// The control plane after a write that changed who is confirmed.
struct Moment {
    at: Duration,
    what: String,
    /// Members, those ever confirmed (etcd has them), and those confirmed.
    members: usize,
    joined: usize,
    confirmed: usize,
}

/// How many of `n` are a quorum.
fn quorum(n: usize) -> usize {
    n / 2 + 1
}

/// Every moment at which it changed who of the control plane is confirmed.
fn moments(evidence: &Evidence) -> Vec<Moment> {
    let mut members: BTreeMap<String, Member> = BTreeMap::new();
    let mut moments = Vec::new();
    let writes = evidence.writes.iter();
    for call in writes.filter(|call| call.resource == "nixosconfigurations" && took_effect(call)) {
        let machine = call.object_name().to_owned();
        if !machine.starts_with("cp-") {
            continue;
        }
        let Some(deed) = change(&mut members, &machine, call) else {
            continue;
        };
        let count = |which: fn(&&Member) -> bool| members.values().filter(which).count();
        moments.push(Moment {
            at: call.at,
            what: format!("{machine} {deed}"),
            members: members.len(),
            joined: count(|member| member.once_confirmed),
            confirmed: count(|member| member.confirmed),
        });
    }
    moments
}

/// What a write makes of a member.
fn change(
    members: &mut BTreeMap<String, Member>,
    machine: &str,
    call: &Call,
) -> Option<&'static str> {
    if call.verb == "delete" {
        members.remove(machine);
        return Some("leaves");
    }
    let body = call.body.as_ref()?;
    if let Some(files) = body["spec"]["additionalFiles"].as_array() {
        let member = members.entry(machine.to_owned()).or_default();
        let marker = files.last()?["path"].as_str()?;
        marker
            .trim_start_matches(".nico/")
            .clone_into(&mut member.marker);
        member.confirmed = false;
        return Some(if call.verb == "create" {
            "is claimed"
        } else {
            "is written"
        });
    }
    let mark = body["metadata"]["annotations"]["nico.homystack.com/confirmed"].as_str()?;
    let member = members.get_mut(machine)?;
    member.confirmed = member.marker == mark;
    member.once_confirmed = true;
    Some("is confirmed")
}

/// The moments since then, as a table that is printed; every one of them had a quorum, of the members that etcd has, and, where
/// there can be one, with those that join.
fn judge_quorum(evidence: &Evidence, since: Duration) -> Vec<(String, usize, usize)> {
    let mut text =
        String::from("    at   write               confirmed  joined  members  quorum\n");
    let mut missing = Vec::new();
    let mut seen = Vec::new();
    for moment in moments(evidence) {
        let Moment {
            at,
            what,
            members,
            joined,
            confirmed,
        } = moment;
        if at < since {
            continue;
        }
        let needed = quorum(joined).max(if members > 2 { quorum(members) } else { 0 });
        let at = at.as_secs_f64();
        let _ = writeln!(
            text,
            "{at:6.2} s {what:<20}{confirmed:>9}{joined:>8}{members:>9}{needed:>8}"
        );
        if confirmed < needed {
            missing.push(what.clone());
        }
        seen.push((what, confirmed, members));
    }
    println!("{text}");
    assert_eq!(
        missing,
        Vec::<String>::new(),
        "no quorum after these:\n{text}"
    );
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn one_becomes_three_and_three_become_five_with_a_quorum_at_each_moment() {
    let (case, _host) = ready_with(&["cp-01"], &["w-01"], json!({})).await;
    case.world
        .machines_named(&["cp-02", "cp-03", "cp-04", "cp-05", "w-02"])
        .await;
    let three = ["cp-01", "cp-02", "cp-03"];
    let first = case
        .roll(json!({"controlPlane": {"machines": three}}))
        .await;
    // The last that joined was told of all; one roll carries the lists to the others.
    let status = case
        .ends_with(first, &["cp-02", "cp-03", "w-01", "cp-01", "cp-02"])
        .await;
    assert_eq!(status["controlPlane"]["summary"], "3/3", "{status}");
    let seen = judge_quorum(&case.evidence(), first);
    let sizes: Vec<usize> = seen.iter().map(|(_, _, members)| *members).collect();
    assert_eq!(sizes, [2, 2, 3, 3, 3, 3, 3, 3], "{seen:?}");

    let five = ["cp-01", "cp-02", "cp-03", "cp-04", "cp-05"];
    let spec =
        json!({"controlPlane": {"machines": five}, "dataPlane": {"machines": ["w-01", "w-02"]}});
    let second = case.roll(spec).await;
    let seen = || async { case.proxy.write_lines() };
    let lists = || async {
        let empty = case.entries().await.is_empty();
        let mut told = 0;
        for machine in five.iter().chain(&["w-01", "w-02"]) {
            if case.configurations().await.contains(&(*machine).to_owned()) {
                let nix = case.cluster_nix(machine).await;
                let both = [names(&nix["controlPlane"]), names(&nix["workers"])];
                told += usize::from(both == [five.to_vec(), vec!["w-01", "w-02"]]);
            }
        }
        (told == 7 && empty).then_some(())
    };
    wait_describing("all lists reach all", DEADLINE, lists, seen).await;
    let status = case.rolled_out("prod").await;
    assert_eq!(status["controlPlane"]["summary"], "5/5", "{status}");
    assert_eq!(status["dataPlane"]["summary"], "2/2", "{status}");
    let seen = judge_quorum(&case.evidence(), second);
    let largest: Vec<&(String, usize, usize)> = seen
        .iter()
        .filter(|(_, _, members)| *members == 5)
        .collect();
    assert!(largest.len() > 8, "{seen:?}");
    assert_eq!(seen.last().map(|it| (it.1, it.2)), Some((5, 5)), "{seen:?}");
    let rules = Rules {
        rolls: vec![first, second],
        ..Rules::default()
    };
    case.finish_rolled(&rules).await;
}

/// A Pod on a Node, which somebody who drains it would evict.
async fn pod(case: &Case, node: &str) -> Api<Pod> {
    let client = case.world.workload().control_plane().client();
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
    let account = serde_json::from_value(json!({"metadata": {"name": "default"}})).unwrap();
    // Where no controller made it, and no test before.
    let _ = accounts.create(&PostParams::default(), &account).await;
    let pods: Api<Pod> = Api::namespaced(client, "default");
    let pod = json!({"metadata": {"name": "app"}, "spec": {"nodeName": node,
        "containers": [{"name": "app", "image": "registry.example.com/app:1"}]}});
    let pod = serde_json::from_value(pod).unwrap();
    pods.create(&PostParams::default(), &pod).await.unwrap();
    pods
}

/// When a machine's first write since then came.
fn first_write(evidence: &Evidence, machine: &str, since: Duration) -> Duration {
    let mut writes = evidence.writes.iter().filter(|call| {
        call.at > since && call.resource == "nixosconfigurations" && took_effect(call)
    });
    let found = writes.find(|call| call.object_name() == machine);
    found.unwrap().at
}

/// SPEC 4.3, 4.6: the dead one leaves first, undrained, its Node after it, and then another joins. Its entry, of which no child is
/// left, stands for two minutes (SPEC 4.2).
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_control_plane_machine_is_released_with_its_node_before_another_joins() {
    let (case, _hosts) = ready_with(&THREE, &[], json!({})).await;
    case.world.machine("cp-04").await;
    let pods = pod(&case, "cp-03").await;
    case.world.flake().dead("cp-03", true);
    case.unreachable("cp-03", true);
    let before = case
        .roll(json!({"controlPlane": {"machines": ["cp-01", "cp-02", "cp-04"]}}))
        .await;
    let node_gone = || async {
        let found = case.world.nodes().get_opt("cp-03").await.ok()?;
        found.is_none().then_some(())
    };
    let seen = || async {
        format!(
            "{}\n{}",
            case.proxy.write_lines(),
            case.world.describe().await
        )
    };
    wait_describing("its Node goes", DEADLINE, node_gone, seen).await;
    assert_eq!(case.written(before), ["cp-03"]);
    assert!(!case.configurations().await.contains(&"cp-03".to_owned()));
    let status = case.flying(&["cp-03"]).await;
    let waits_for = &status["rollout"]["inFlight"][0]["waitingFor"];
    assert!(
        waits_for.as_str().unwrap().contains("the end of its entry"),
        "{status}"
    );
    case.nothing_but(before, &["cp-03"]).await;

    let patience = Duration::from_secs(360);
    let replaced = |status: &Value| {
        status["controlPlane"]["updated"] == 3
            && condition(status, "Ready")["status"] == "True"
            && in_flight(status).is_empty()
            && !status["machines"].to_string().contains("cp-03")
    };
    case.world
        .wait_status("prod", "cp-04 replaces it", patience, replaced)
        .await;
    // The newcomer was told of all at once.
    assert_eq!(case.written(before), ["cp-03", "cp-04", "cp-01", "cp-02"]);
    let evidence = case.evidence();
    let gone = evidence.gone.iter().find(|(_, machine)| machine == "cp-03");
    let joined = first_write(&evidence, "cp-04", before);
    assert!(
        joined.saturating_sub(gone.unwrap().0) >= Duration::from_secs(120),
        "a late POST could still have landed: {joined:?}"
    );
    let pod = pods.get("app").await.unwrap();
    assert!(pod.metadata.deletion_timestamp.is_none(), "it was evicted");
    let nodes = case.nodes("prod").await;
    assert_eq!(nodes, ["cp-01", "cp-02", "cp-04"]);
    for machine in ["cp-01", "cp-02", "cp-04"] {
        let nix = case.cluster_nix(machine).await;
        assert_eq!(names(&nix["controlPlane"]), ["cp-01", "cp-02", "cp-04"]);
    }
    let rules = Rules {
        rolls: vec![before],
        ..Rules::default()
    };
    case.finish_rolled(&rules).await;
}
