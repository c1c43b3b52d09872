//! Which host keys are pinned, and which are not while another key has changed.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rig::machines::{HostOptions, KeyPair, MachineHost, MachinePool};
use russh::keys::PublicKey;
use tokio::sync::mpsc;

use super::fetch::Pins;
use super::hosts::{Changed, Hosts, Met};
use super::search_tests::{Held, client, spec_of};
use super::{Background, MeetSpec};
use crate::api::conditions::{Cause, Reason};
use crate::api::names::MachineName;
use crate::controller::metrics::Metrics;
use crate::controller::schedule::UNPINNED_PAUSE;
use crate::plan::observed::{ClusterView, ControlPlaneHosts, HostKeys};
use crate::remote::known_hosts::{HeldKeys, KnownHosts, Policy, line_for};
use crate::remote::ssh::SshError;

fn name(name: &str) -> MachineName {
    MachineName::parse(name).unwrap()
}

fn asked(machines: &[(&str, &str)]) -> ControlPlaneHosts {
    let each = machines.iter();
    ControlPlaneHosts {
        confirmed: each
            .clone()
            .map(|(it, host)| (name(it), (*host).to_owned()))
            .collect(),
        all: Some(each.map(|(_, host)| (*host).to_owned()).collect()),
    }
}

fn round<const N: usize>(met: [(&str, Met); N]) -> BTreeMap<MachineName, Met> {
    met.into_iter()
        .map(|(machine, met)| (name(machine), met))
        .collect()
}

fn new(line: &str) -> Met {
    Met::New(line.to_owned())
}

/// Two lines that pin keys for `1.1.1.1`.
const ONE: &str =
    "1.1.1.1 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMPVPDA40Ivsb6Rw+cwwO9TW0tLFVmtbIvRnCW2vEkHj";
const TWO: &str =
    "1.1.1.1 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBj6K8fVVPVY0/W8YhH1SUUc02jqc1eR5nLzpCxMIYM8";

/// The keys that known hosts hold for `1.1.1.1`.
fn held(text: &str) -> Option<HeldKeys> {
    let known = KnownHosts::parse("c", text, Policy::TrustOnFirstUse);
    Some(known.pins("1.1.1.1", 22)?.keys())
}

fn changed(machine: &str) -> Met {
    let error = SshError::HostKeyChanged {
        at: machine.to_owned(),
        fingerprint: "SHA256:x".to_owned(),
        mend: "mend it".to_owned(),
    };
    Met::Failed(error, held(ONE))
}

/// It does not answer, and these are the known hosts.
fn silent(machine: &str, text: &str) -> Met {
    let error = SshError::Unreachable {
        at: machine.to_owned(),
        why: "no answer",
    };
    Met::Failed(error, held(text))
}

fn to_decide(keys: &HostKeys) -> Vec<&str> {
    keys.to_decide.keys().map(MachineName::as_str).collect()
}

#[test]
fn each_machine_is_met_once_and_pinned() {
    let mut hosts = Hosts::default();
    let asked = asked(&[("a", "10.0.0.1"), ("b", "10.0.0.2")]);
    assert!(hosts.state(&asked).meet);
    assert!(hosts.note_round(round([("a", new("line a")), ("b", new("line b"))]), false));
    assert!(
        hosts.is_done() && !hosts.state(&asked).meet,
        "they are to be pinned"
    );
    assert_eq!(hosts.lines(), ["line a", "line b"]);
    hosts.note_pinned();
    assert!(!hosts.to_write() && !hosts.state(&asked).meet);
    // A machine joins, and another has a new address.
    let later =
        super::hosts_tests::asked(&[("a", "10.0.0.1"), ("b", "10.0.0.3"), ("c", "10.0.0.4")]);
    assert!(hosts.state(&later).meet);
    assert_eq!(hosts.met(), [name("a")].into());
    assert!(!hosts.note_round(round([("b", Met::Known), ("c", Met::Known)]), false));
    assert!(hosts.is_done() && !hosts.state(&later).meet);
}

/// A machine that is not due again yet is in no round.
#[test]
fn the_end_of_the_first_round_is_news_though_it_met_nobody() {
    let mut hosts = Hosts::default();
    assert!(hosts.state(&asked(&[("a", "10.0.0.1")])).pending);
    assert!(hosts.note_round(round([]), false));
    assert!(!hosts.state(&asked(&[("a", "10.0.0.1")])).pending);
    assert!(!hosts.note_round(round([]), false));
}

/// This also holds for a machine that was met before the change was seen.
#[test]
fn nobody_is_trusted_on_first_use_while_a_key_has_changed() {
    let asked = asked(&[
        ("a", "1.1.1.1"),
        ("b", "1.1.1.2"),
        ("c", "1.1.1.3"),
        ("d", "1.1.1.4"),
    ]);
    for first in ["d", "a"] {
        let mut hosts = Hosts::default();
        hosts.state(&asked);
        if first == "d" {
            hosts.note_round(round([("d", new("line d"))]), false);
        }
        let seen = round([("a", changed("a")), ("b", changed("b")), ("c", Met::Known)]);
        assert!(hosts.note_round(seen, false));
        if first == "a" {
            hosts.note_round(round([("d", new("line d"))]), false);
        }
        assert!(hosts.lines().is_empty() && !hosts.to_write() && !hosts.is_done());
        assert_eq!(
            to_decide(&hosts.state(&asked)),
            ["a", "b", "d"],
            "each that has one, and who waits"
        );
        // The user accepts one key, then the other.
        assert!(hosts.note_round(round([("a", Met::Known)]), false));
        assert!(hosts.lines().is_empty());
        assert_eq!(to_decide(&hosts.state(&asked)), ["b", "d"]);
        assert!(hosts.note_round(round([("b", new("line b"))]), false));
        assert_eq!(hosts.lines(), ["line b", "line d"]);
        assert!(hosts.state(&asked).to_decide.is_empty());
    }
}

#[test]
fn machines_are_met_again_for_another_kubeconfig_and_where_one_left() {
    let mut hosts = Hosts::default();
    let two = asked(&[("a", "1.1.1.1"), ("b", "1.1.1.2")]);
    hosts.state(&two);
    hosts.note_round(round([("a", Met::Known), ("b", Met::Known)]), false);
    hosts.note_search();
    assert!(!hosts.state(&two).meet, "they were just met");
    hosts.note_stored();
    hosts.note_search();
    assert!(hosts.state(&two).meet && hosts.met().is_empty());
    hosts.note_round(round([("a", changed("a")), ("b", Met::Known)]), false);
    let one = asked(&[("b", "1.1.1.2")]);
    assert!(hosts.state(&one).meet && hosts.state(&one).to_decide.is_empty());
    assert!(hosts.note_round(BTreeMap::new(), true));
    assert!(
        hosts.to_write() && hosts.lines().is_empty(),
        "the pin of the one that left goes"
    );
    hosts.note_pinned();
    assert!(!hosts.to_write());
}

#[test]
fn a_held_key_is_not_taken_for_pinned_and_one_that_changes_later_has_all_met_again() {
    let mut hosts = Hosts::default();
    let two = asked(&[("a", "1.1.1.1"), ("b", "1.1.1.2")]);
    hosts.state(&two);
    hosts.note_round(round([("a", changed("a")), ("b", new("line b"))]), true);
    assert!(hosts.to_write() && hosts.lines().is_empty());
    hosts.note_pinned();
    assert!(hosts.state(&two).meet && hosts.met().is_empty());
    hosts.note_round(round([("a", Met::Known), ("b", Met::Known)]), false);
    hosts.note_changed(at_log_in("a", ONE));
    assert!(hosts.state(&two).meet && hosts.met().is_empty());
}

fn at_log_in(machine: &str, text: &str) -> BTreeMap<MachineName, Changed> {
    let changed = Changed {
        cause: Cause::new(Reason::HostKeyChanged, "another key"),
        refused_by: held(text).unwrap(),
    };
    BTreeMap::from([(name(machine), changed)])
}

/// Until then, others wait, although the machine does not answer.
#[test]
fn the_user_has_decided_once_no_key_is_pinned_that_refused_the_machines() {
    let two = asked(&[("a", "1.1.1.1"), ("b", "1.1.1.2")]);
    let line = |text: &str| format!("{text}\n");
    for (present, is_decided) in [
        (line(ONE), false),
        (format!("# it has moved\n\n{ONE} mine\n"), false),
        (line(ONE) + TWO, false),
        (line(ONE).repeat(2000), false),
        (String::new(), true),
        (line(TWO), true),
        (format!("@revoked {ONE}\n"), true),
    ] {
        let mut hosts = Hosts::default();
        hosts.state(&two);
        hosts.note_round(round([("a", changed("a")), ("b", new("line b"))]), false);
        let shown = present.get(..100).unwrap_or(&present);
        assert!(hosts.note_round(round([("a", silent("a", &present))]), false));
        assert_eq!(hosts.to_write(), is_decided, "{shown}");
        let waiting = to_decide(&hosts.state(&two)).is_empty();
        assert_eq!(waiting, is_decided, "{shown}");
        assert!(hosts.failure().is_some(), "{shown}");
    }
}

/// A search may know other pins than the meeting that runs.
#[test]
fn a_key_that_was_refused_under_several_pins_is_decided_on_under_others() {
    let one = asked(&[("a", "1.1.1.1")]);
    let mut hosts = Hosts::default();
    hosts.state(&one);
    hosts.note_round(round([("a", changed("a"))]), false);
    hosts.note_changed(at_log_in("a", TWO));
    hosts.note_round(round([("a", changed("a"))]), false);
    for text in [ONE, TWO] {
        hosts.note_round(round([("a", silent("a", text))]), false);
        assert_eq!(to_decide(&hosts.state(&one)), ["a"]);
    }
    hosts.note_round(round([("a", silent("a", ""))]), false);
    assert!(hosts.state(&one).to_decide.is_empty());
}

/// One machine has its pin, the other does not answer yet: the meeting still runs when the first presents another key at log-in.
#[tokio::test]
async fn a_key_that_changes_during_a_meeting_keeps_others_from_being_trusted() {
    let mut hosts = Hosts::default();
    let two = asked(&[("a", "1.1.1.1"), ("b", "1.1.1.2")]);
    hosts.state(&two);
    hosts.note_round(round([("a", Met::Known)]), false);
    hosts.meeting.start(std::future::pending::<()>());
    hosts.note_changed(at_log_in("a", ONE));
    hosts.note_round(round([("b", new("line b"))]), false);
    let state = hosts.state(&two);
    assert!(hosts.lines().is_empty() && state.meet);
    assert_eq!(to_decide(&state), ["a", "b"]);
    hosts.meeting.start(std::future::pending::<()>());
    hosts.note_changed(at_log_in("a", ONE));
    assert!(
        !hosts.state(&two).meet,
        "each change has all met again once"
    );
    hosts.note_round(round([("a", Met::Known)]), false);
    assert_eq!(hosts.lines(), ["line b"]);
}

async fn machines<const N: usize>() -> [MachineHost; N] {
    let pool = MachinePool::start(SocketAddr::from(([127, 0, 0, 1], 9))).await;
    let mut hosts = Vec::new();
    for _ in 0..N {
        hosts.push(pool.host(HostOptions::new(&KeyPair::generate())).await);
    }
    hosts
        .try_into()
        .unwrap_or_else(|_| unreachable!("there are so many"))
}

fn line(host: &MachineHost, key: &PublicKey) -> String {
    format!(
        "{}\n",
        line_for(&host.ip().to_string(), host.ssh_port(), key)
    )
}

/// A user may remove the lines of machines that were met long ago, or the whole ConfigMap.
#[tokio::test]
async fn a_machine_whose_pin_was_removed_is_met_again_once() {
    let mut hosts = Hosts::default();
    let two = asked(&[("a", "1.1.1.1"), ("b", "1.1.1.2")]);
    hosts.state(&two);
    hosts.note_round(round([("a", Met::Known)]), false);
    hosts.meeting.start(std::future::pending::<()>());
    let unpinned = [name("a"), name("b")].into();
    let now = Instant::now();
    assert!(hosts.note_unpinned(&unpinned, now));
    assert!(
        hosts.state(&two).meet && hosts.met().is_empty(),
        "the meeting that ran would not have met it"
    );
    hosts.meeting.start(std::future::pending::<()>());
    let later = now + UNPINNED_PAUSE;
    assert!(!hosts.note_unpinned(&unpinned, later), "both are being met");
    assert!(!hosts.state(&two).meet);
    hosts.note_round(round([("a", new("line a")), ("b", Met::Known)]), false);
    let a = [name("a")].into();
    assert!(!hosts.note_unpinned(&a, later), "it is due");
    assert_eq!(hosts.lines(), ["line a"]);
    hosts.note_pinned();
    // Something may remove each pin as soon as it is made.
    assert!(!hosts.note_unpinned(&a, now), "not again and again");
    assert!(hosts.note_unpinned(&a, later) && hosts.met().is_empty());
}

fn cluster() -> ClusterView {
    ClusterView {
        uid: "u".to_owned(),
        ..ClusterView::default()
    }
}

fn meet_spec(hosts: &ControlPlaneHosts, one: &MachineHost) -> MeetSpec {
    MeetSpec {
        pins: Pins {
            namespace: "default".to_owned(),
            cluster: "prod".to_owned(),
            uid: "u".to_owned(),
        },
        hosts: hosts.clone(),
        ssh_port: one.ssh_port(),
    }
}

#[tokio::test]
async fn machines_are_met_by_a_key_exchange_alone() {
    let [a, b, c] = machines().await;
    let pinned = line(&a, &a.host_key()) + &line(&b, &b.host_key());
    let held = Arc::new(Mutex::new(Held {
        key: String::new(),
        known_hosts: pinned,
    }));
    let accepted = line(&a, &a.host_key());
    drop(b.change_host_key());
    let (wake, mut woken) = mpsc::unbounded_channel();
    let metrics = Metrics::new(None);
    let background = Background::new(client(&held), Duration::from_secs(300), wake, &metrics);
    let ips = [&a, &b, &c].map(|host| host.ip().to_string());
    let asked = asked(&[("a", &ips[0]), ("b", &ips[1]), ("c", &ips[2])]);
    assert!(background.fetch("u", "", &asked).hosts.meet);
    background.start_meet(&cluster(), meet_spec(&asked, &a));
    woken.recv().await.unwrap();
    let seen = background.fetch("u", "", &asked);
    assert_eq!(to_decide(&seen.hosts), ["b", "c"]);
    assert!(!seen.new_host_key && !seen.hosts.meet);
    let none = "nico_ssh_failures_total{kind=\"host-key-changed\"} 0\n";
    assert!(!metrics.render().contains(none));
    // The changed line is removed, so the other machine's key can be pinned, even if this one no longer answers.
    b.refuse(true);
    held.lock().unwrap().known_hosts = accepted;
    woken.recv().await.unwrap();
    let seen = background.fetch("u", "", &asked);
    assert!(seen.new_host_key && seen.hosts.to_decide.is_empty());
    let new = line(&c, &c.host_key()).trim_end().to_owned();
    assert_eq!(background.host_key_lines("u"), Some(vec![new]));
    for host in [a, b, c] {
        assert_eq!(host.auths(), []);
    }
}

/// A search needs the pin of a machine that was met. The machine is met once for it, although the search goes on.
#[tokio::test]
async fn a_search_has_a_pin_made_again_that_a_user_removed() {
    let [host] = machines().await;
    let pinned = line(&host, &host.host_key());
    let held = Arc::new(Mutex::new(Held {
        key: KeyPair::generate().private_pem(),
        known_hosts: pinned.clone(),
    }));
    let (wake, mut woken) = mpsc::unbounded_channel();
    let metrics = Metrics::new(None);
    let background = Background::new(client(&held), Duration::from_secs(300), wake, &metrics);
    let asked = asked(&[("cp-01", &host.ip().to_string())]);
    let hosts = || background.fetch("u", "", &asked).hosts;
    let meet = || background.start_meet(&cluster(), meet_spec(&asked, &host));
    assert!(hosts().meet);
    meet();
    woken.recv().await.unwrap();
    assert!(!hosts().meet && !hosts().pending);
    held.lock().unwrap().known_hosts.clear();
    background.start_fetch(&cluster(), spec_of(&host, None));
    woken.recv().await.unwrap();
    assert!(hosts().meet);
    meet();
    woken.recv().await.unwrap();
    let seen = background.fetch("u", "", &asked);
    assert!(seen.new_host_key && seen.running && !seen.hosts.meet);
    assert_eq!(
        background.host_key_lines("u"),
        Some(vec![pinned.trim_end().to_owned()])
    );
    assert_eq!((host.connections(), host.auths()), (2, vec![]));
}
