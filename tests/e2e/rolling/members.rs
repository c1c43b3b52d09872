//! Who joins: at each moment a quorum of the control plane's members is confirmed.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use rig::crds::Generation;
use rig::judge::rollout::{Evidence, Rules};
use rig::proxy::Call;
use rig::wait::wait_describing;
use serde_json::json;

use crate::common::shown::{names, took_effect};
use crate::common::{DEADLINE, over_both};
use crate::rolling::ready_with;

over_both![on demand: one_becomes_three_and_three_become_five_with_a_quorum_at_each_moment];

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

async fn one_becomes_three_and_three_become_five_with_a_quorum_at_each_moment(
    generation: Generation,
) {
    let (case, _host) = ready_with(generation, &["cp-01"], &["w-01"], json!({})).await;
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
    let rules = Rules::of(vec![first, second]);
    case.finish_rolled(&rules).await;
}
