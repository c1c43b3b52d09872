//! Evictions, and why one is refused.

use kube::Client;
use kube::client::Body;
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, timeout, timeout_at};

use super::json_request;
use super::pods::{PodView, of_node};
use crate::api::text::shown_in;
use crate::remote::answer;
use crate::remote::deadlines::EVICTION;
use crate::remote::offload::{namespace, of_namespace};

/// Most bytes of the response to an eviction, and of what is shown of it.
const MAX_REFUSAL: usize = 64 * 1024;
const LONGEST_REFUSAL: usize = 300;

/// Evicts each pod that is not terminating yet. Refusals are ignored: they come from a `PodDisruptionBudget` or are temporary, and the next
/// round tries again. An eviction that was sent goes on if this future is dropped: what `begin` returned is held until it has ended. No
/// eviction begins after `until`. Each round begins with another pod, so that those come last by turns.
pub(super) async fn evict_all<W: Send + 'static>(
    client: &Client,
    node: &str,
    until: Instant,
    begin: impl Fn() -> Option<W>,
) -> Option<()> {
    let pods = timeout_at(until, of_node(client, node)).await.ok()??;
    let mut stay = pods.evicted;
    stay.retain(|pod| pod.terminating.is_none());
    let first = rand::random_range(0..=stay.len());
    stay.rotate_left(first);
    for pod in stay {
        if Instant::now() >= until {
            break;
        }
        let request = eviction(&pod, false)?;
        let Some(begun) = begin() else {
            return Some(());
        };
        let client = client.clone();
        let send = async move {
            let _ = timeout(EVICTION, client.send(request)).await;
            drop(begun);
        };
        let _ = tokio::spawn(of_namespace(&namespace(), send)).await;
    }
    Some(())
}

/// The API server tells webhooks of a dry run by the query, and the storage by either.
fn eviction(pod: &PodView, dry_run: bool) -> Option<hyper::Request<Body>> {
    let PodView {
        namespace,
        name,
        uid,
        ..
    } = pod;
    let body = json!({
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": { "name": name, "namespace": namespace },
        "deleteOptions": { "preconditions": { "uid": uid }, "dryRun": if dry_run { &["All"][..] } else { &[] } },
    });
    let query = if dry_run { "?dryRun=All" } else { "" };
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/eviction{query}");
    json_request(hyper::Method::POST, &path, &body)
}

/// Why the eviction of a pod would be refused, by a dry run; `None` if it would not be, or this cannot be told.
pub(super) async fn refusal(client: &Client, pod: &PodView) -> Option<String> {
    let request = eviction(pod, true)?;
    let response = client.send(request).await.ok()?;
    let status = response.status().as_u16();
    let body = answer::body(response, MAX_REFUSAL).await?;
    why_refused(status, &body)
}

/// What a response to an eviction says. A pod that is gone, or another of its name, is no refusal. Of other texts than those of admission
/// nothing is shown.
fn why_refused(status: u16, body: &[u8]) -> Option<String> {
    if (200..300).contains(&status) || matches!(status, 404 | 409) {
        return None;
    }
    let sent = serde_json::from_slice::<SentStatus>(body).ok();
    let message = sent.map(|sent| sent.message).unwrap_or_default();
    // Such a webhook is not asked in a dry run: it may agree.
    if message.contains("does not support dry run") {
        return None;
    }
    let is_of_admission = ["webhook", "ValidatingAdmissionPolicy"]
        .iter()
        .any(|word| message.contains(word));
    Some(if is_of_admission {
        shown_in(&message, LONGEST_REFUSAL)
    } else {
        format!("the API server answers {status}")
    })
}

#[derive(Deserialize)]
struct SentStatus {
    message: String,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::time::Duration;

    use super::*;
    use crate::remote::deadlines::EVICTION_ROUND;
    use crate::remote::workload::pods::pods_of_page;

    #[test]
    fn a_dry_run_is_one_for_webhooks_too() {
        let list = json!({"kind": "PodList", "items": [{"metadata": {"namespace": "shop", "name": "web-0", "uid": "u"}}]});
        let list = list.to_string();
        let (pods, _) = pods_of_page(list.as_bytes()).unwrap();
        let path = |dry_run| eviction(&pods[0], dry_run).unwrap().uri().to_string();
        let real = "/api/v1/namespaces/shop/pods/web-0/eviction";
        assert_eq!(path(false), real);
        assert_eq!(path(true), format!("{real}?dryRun=All"));
    }

    /// The work is dropped when a drain is undone, and when the controller ends.
    #[tokio::test]
    async fn an_eviction_that_was_sent_ends_though_the_work_is_dropped() {
        let (arrive, mut arrived) = tokio::sync::mpsc::unbounded_channel();
        let answers = tower::service_fn(move |request: hyper::Request<Body>| {
            let arrive = arrive.clone();
            async move {
                let list = json!({"kind": "PodList", "items": [
                    {"metadata": {"namespace": "shop", "name": "web-0", "uid": "u"}},
                    {"metadata": {"namespace": "shop", "name": "web-1", "uid": "v"}},
                ]});
                if request.method() == hyper::Method::POST {
                    let (answer, answered) = tokio::sync::oneshot::channel::<()>();
                    arrive.send((namespace(), answer)).unwrap();
                    answered.await.unwrap();
                }
                let body = Body::from(list.to_string().into_bytes());
                Ok::<_, Infallible>(hyper::Response::new(body))
            }
        });
        let client = Client::new(answers, "default");
        // A guard drops its end of a channel.
        let (guard, mut ended) = tokio::sync::oneshot::channel::<()>();
        let guard = std::sync::Mutex::new(Some(guard));
        let until = Instant::now() + EVICTION_ROUND;
        let begin = move || guard.lock().unwrap().take();
        let work = async move { evict_all(&client, "w", until, begin).await };
        let work = tokio::spawn(of_namespace("tenant", work));
        let (at_whose_expense, answer) = arrived.recv().await.unwrap();
        assert_eq!(*at_whose_expense, *"tenant");
        work.abort();
        assert!(work.await.unwrap_err().is_cancelled());
        tokio::task::yield_now().await;
        assert!(futures::poll!(&mut ended).is_pending());
        answer.send(()).unwrap();
        assert!(ended.await.is_err());
        assert!(arrived.recv().await.is_none(), "another one was sent");
    }

    /// It has a place that other clusters wait for.
    #[tokio::test]
    async fn a_round_ends_in_time_whatever_the_server_does() {
        const ROUND: Duration = Duration::from_millis(500);
        let round = async |pods: usize| {
            let sent = Arc::<AtomicUsize>::default();
            let count = Arc::clone(&sent);
            let answers = tower::service_fn(move |request: hyper::Request<Body>| {
                let count = Arc::clone(&count);
                async move {
                    if request.method() == hyper::Method::POST {
                        count.fetch_add(1, SeqCst);
                        tokio::time::sleep(2 * ROUND).await;
                    } else if pods == 0 {
                        std::future::pending::<()>().await;
                    }
                    let pod = |n| json!({"metadata": {"namespace": "shop", "name": format!("web-{n}"), "uid": "u"}});
                    let pods: Vec<_> = (0..pods).map(pod).collect();
                    let list = json!({"kind": "PodList", "items": pods}).to_string();
                    Ok::<_, Infallible>(hyper::Response::new(Body::from(list.into_bytes())))
                }
            });
            let client = Client::new(answers, "default");
            let evicted = evict_all(&client, "w", Instant::now() + ROUND, || Some(()));
            let ended = timeout(Duration::from_secs(30), evicted).await;
            assert!(ended.is_ok(), "a round over {pods} pods goes on");
            sent.load(SeqCst)
        };
        assert_eq!(round(0).await, 0, "the list never ends");
        assert!(round(10).await <= 1);
    }

    #[test]
    fn a_refusal_is_told_escaped_and_cut() {
        let said = |status, message: &str| {
            why_refused(status, json!({"message": message}).to_string().as_bytes())
        };
        let webhook = "admission webhook \"guard.example.com\" denied the request: \u{1b}not today";
        let shown = webhook.replace('\u{1b}', "\\u{1b}");
        assert_eq!(said(403, webhook), Some(shown));
        let cannot = "admission webhook \"guard.example.com\" does not support dry run";
        assert_eq!(said(400, cannot), None);
        for status in [201, 404, 409] {
            assert_eq!(said(status, webhook), None, "{status}");
        }
        let long = said(
            500,
            &format!("failed calling webhook: {}", "x".repeat(1000)),
        );
        assert!(long.is_some_and(|it| it.len() <= LONGEST_REFUSAL && it.ends_with('…')));
        // A server may repeat what it was sent.
        let other = said(401, "Bearer 0123");
        assert_eq!(other.as_deref(), Some("the API server answers 401"));
        assert_eq!(
            why_refused(502, b"<html>"),
            Some("the API server answers 502".to_owned())
        );
    }
}
