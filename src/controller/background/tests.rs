//! Background tasks run once at a time; and the state of the kubeconfig.

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::fetch::{Fetched, Round};
use super::hosts::Met;
use super::kubeconfig::Kubeconfig;
use super::task::Task;
use crate::api::conditions::{Cause, Reason};
use crate::api::digest::sha256;
use crate::api::names::MachineName;
use crate::controller::metrics::Metrics;
use crate::plan::observed::{AtHand, ControlPlaneHosts, NotWorking, Works};
use crate::remote::gate::Class;
use crate::remote::secret::SecretText;

/// Work that runs until its sender is used, and a receiver that fails once the work is dropped.
fn work() -> (
    impl Future<Output = ()> + Send,
    oneshot::Sender<()>,
    oneshot::Receiver<()>,
) {
    let (end, ended) = oneshot::channel::<()>();
    let (alive, dropped) = oneshot::channel();
    let work = async move {
        let _alive = alive;
        let _ = ended.await;
    };
    (work, end, dropped)
}

#[tokio::test]
async fn a_task_runs_once_at_a_time_and_ends_when_it_is_dropped() {
    let mut task = Task::default();
    assert!(!task.is_running());
    let (first, end, dropped) = work();
    assert!(task.start(first));
    let (second, _end, refused) = work();
    assert!(!task.start(second), "one is running");
    assert!(refused.await.is_err(), "the second is dropped, not queued");
    end.send(()).unwrap();
    assert!(dropped.await.is_err());
    while task.is_running() {
        tokio::task::yield_now().await;
    }
    let (third, _end, dropped) = work();
    assert!(task.start(third), "the first has ended");
    drop(task);
    assert!(dropped.await.is_err(), "dropping the task ends its work");
}

/// Work that was replaced must not note anything, although it may still be running when it tries to.
#[tokio::test]
async fn only_the_current_work_of_a_task_may_finish_it() {
    use std::sync::{Arc, Mutex};
    let task = Arc::new(Mutex::new(Task::default()));
    let finishes = |go: oneshot::Receiver<()>, said: oneshot::Sender<bool>| {
        let task = Arc::clone(&task);
        async move {
            let _ = go.await;
            let _ = said.send(task.lock().unwrap().finish());
        }
    };
    assert!(!task.lock().unwrap().finish(), "nobody's work");
    let ((go, may), (said, hears)) = (oneshot::channel(), oneshot::channel());
    assert!(task.lock().unwrap().start(finishes(may, said)));
    let stranger = tokio::spawn({
        let task = Arc::clone(&task);
        async move { task.lock().unwrap().finish() }
    });
    assert!(!stranger.await.unwrap(), "work of another task");
    assert!(task.lock().unwrap().is_running());
    go.send(()).unwrap();
    assert!(hears.await.unwrap());
    assert!(!task.lock().unwrap().is_running());
}

fn broken(why: &str) -> Result<(), NotWorking> {
    Err(NotWorking {
        unreachable: true,
        why: why.to_owned(),
    })
}

fn fetched(text: &str, verified: Result<(), NotWorking>) -> Fetched {
    let ends: Option<Timestamp> = None;
    Fetched {
        port: None,
        kubeconfig: SecretText::new(text.to_owned()),
        at_hand: AtHand { verified, ends },
        origin: String::new(),
    }
}

fn round(fetched: Fetched) -> Round {
    Round {
        fetched: Some(fetched),
        ..Round::default()
    }
}

fn failed(reason: Reason) -> Round {
    Round {
        failure: Some(Cause::new(reason, "why")),
        ..Round::default()
    }
}

#[test]
fn failures_of_the_stored_kubeconfig_are_counted_in_a_row_and_by_its_digest() {
    let mut known = Kubeconfig::default();
    let resync = Duration::from_secs(3600);
    assert_eq!(known.works("one", resync), (Works::Unknown, 0, true));
    for failures in 1..=3 {
        known.note_verified("one".to_owned(), broken("no route"));
        let (works, counted, due) = known.works("one", resync);
        assert!(matches!(works, Works::No(why) if why.why == "no route"));
        assert_eq!((counted, due), (failures, false));
    }
    assert_eq!(known.works("two", resync), (Works::Unknown, 0, true));
    assert!(known.verified_another("two") && !known.verified_another("one"));
    known.note_verified("one".to_owned(), Ok(()));
    assert_eq!(known.works("one", resync), (Works::Yes, 0, false));
    assert!(known.works("one", Duration::ZERO).2, "due once a resync");
    known.note_verified("one".to_owned(), broken("again"));
    assert_eq!(known.works("one", resync).1, 1, "counted again");
}

#[test]
fn what_was_fetched_under_other_circumstances_is_dropped() {
    let mut known = Kubeconfig::default();
    known.under("spec 1", &ControlPlaneHosts::default());
    known.next.note_round(round(fetched("config", Ok(()))));
    assert!(
        known
            .under("spec 1", &ControlPlaneHosts::default())
            .at_hand
            .is_some()
    );
    assert!(
        known
            .under("spec 2", &ControlPlaneHosts::default())
            .at_hand
            .is_none()
    );
    assert!(known.next.fetched.is_none());
}

#[test]
fn what_is_stored_is_dropped_and_need_not_be_verified_again() {
    let mut known = Kubeconfig::default();
    known.next.note_round(round(fetched("config", Ok(()))));
    known.note_stored(&sha256(b"config"));
    assert!(known.next.fetched.is_none(), "its secret bytes are gone");
    let resync = Duration::from_secs(3600);
    let (works, ..) = known.works(&sha256(b"config"), resync);
    assert_eq!(works, Works::Yes);
}

/// A search that continues until a kubeconfig works may replace the one that is being stored.
#[test]
fn what_a_later_round_brought_goes_with_what_is_stored() {
    let mut known = Kubeconfig::default();
    known
        .next
        .note_round(round(fetched("first", broken("no route"))));
    known.next.note_round(round(fetched("second", Ok(()))));
    known.note_stored(&sha256(b"another's"));
    assert!(known.next.fetched.is_some(), "it may be stored yet");
    known.note_stored(&sha256(b"first"));
    assert!(known.next.fetched.is_none(), "its secret bytes are gone");
    let resync = Duration::from_secs(3600);
    let (works, ..) = known.works(&sha256(b"first"), resync);
    assert_eq!(works, Works::Unknown, "it was another that works");
}

#[test]
fn a_round_is_news_once() {
    let mut known = Kubeconfig::default();
    let next = &mut known.next;
    assert!(next.note_round(failed(Reason::KubeconfigUnreadable)));
    assert!(!next.note_round(failed(Reason::KubeconfigUnreadable)));
    assert!(next.note_round(round(fetched("config", broken("no route")))));
    assert!(!next.note_round(round(fetched("config", broken("no route")))));
    assert!(
        next.note_round(round(fetched("config", Ok(())))),
        "it works now"
    );
}

/// Searches are restarted repeatedly, and a machine that does not answer takes the full time each time.
#[test]
fn only_a_search_that_has_not_failed_goes_first() {
    let mut known = Kubeconfig::default();
    assert_eq!(known.next.class(), Class::First);
    known.next.note_round(failed(Reason::KubeconfigUnreadable));
    assert_eq!(known.next.class(), Class::Other);
    known.note_pinned();
    assert_eq!(known.next.class(), Class::Other);
    known.next.note_round(round(fetched("config", Ok(()))));
    assert_eq!(known.next.class(), Class::First);
}

/// What was fetched before may come from another host if the key has changed.
#[test]
fn a_changed_host_key_drops_what_was_fetched() {
    let mut known = Kubeconfig::default();
    known.next.note_round(round(fetched("config", Ok(()))));
    known.next.note_round(failed(Reason::KubeconfigUnreadable));
    assert!(known.next.fetched.is_some());
    assert!(known.next.note_round(failed(Reason::HostKeyChanged)));
    assert!(known.next.fetched.is_none());
}

/// A search that began before the pin skips that machine. It is stopped, and the next one uses the pin.
#[tokio::test]
async fn a_pinned_host_key_stops_the_search_and_keeps_what_it_brought() {
    let mut known = Kubeconfig::default();
    let (search, _end, dropped) = work();
    assert!(known.next.fetching.start(search));
    assert!(known.next.note_round(round(fetched("config", Ok(())))));
    let (nobody, machine) = (
        ControlPlaneHosts::default(),
        MachineName::parse("a").unwrap(),
    );
    let met = Met::New("host ssh-ed25519 AAAA".to_owned());
    assert!(known.hosts.note_round([(machine, met)].into(), false));
    assert!(known.under("", &nobody).new_host_key);
    known.note_pinned();
    assert!(dropped.await.is_err());
    let fetch = known.under("", &nobody);
    assert!(!fetch.new_host_key && !fetch.running && fetch.at_hand.is_some());
}

/// Secrets are not watched. The verification may be the first to notice that the kubeconfig is gone.
#[tokio::test]
async fn a_stored_kubeconfig_that_is_gone_is_news() {
    let service = tower::service_fn(|_: hyper::Request<kube::client::Body>| {
        let status = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}"#;
        let answer = hyper::Response::builder().status(404);
        let answer = answer.body(kube::client::Body::from(status.as_bytes().to_vec()));
        async move { Ok::<_, std::convert::Infallible>(answer.unwrap()) }
    });
    let (wake, mut woken) = tokio::sync::mpsc::unbounded_channel();
    let client = kube::Client::new(service, "default");
    let background =
        super::Background::new(client, Duration::from_secs(300), wake, &Metrics::new(None));
    let cluster = crate::plan::observed::ClusterView::default();
    background.start_verify(&cluster);
    assert!(woken.recv().await.is_some());
    assert!(background.verified_another(&cluster.uid, "what was stored"));
}
