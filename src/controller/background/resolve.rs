//! Resolves the ref of a cluster once a minute, as long as the cluster pins commits.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use serde::Deserialize;

use super::Notes;
use super::task::Task;
use crate::api::names::Commit;
use crate::controller::calls;
use crate::controller::schedule::RESOLVE_PAUSES;
use crate::plan::observed::{ClusterView, GitAnswer, GitQuestion};
use crate::plan::prerequisites::credentials_missing;
use crate::remote::gate::{Class, Gate};
use crate::remote::git::{Credentials, DEADLINE, Reach, resolve};
use crate::remote::lock::lock;
use crate::remote::offload::of_namespace;
use crate::remote::secret::SecretText;

/// The resolution for one cluster.
#[derive(Default)]
pub(super) struct Resolution {
    pub(super) asking: Task,
    pub(super) asked: Option<GitQuestion>,
    pub(super) answer: Option<GitAnswer>,
}

/// Resolves repeatedly, until the future is dropped.
async fn resolve_repeatedly(
    client: kube::Client,
    namespace: String,
    name: String,
    notes: Notes,
    (resolving, reach): (Arc<Gate>, Reach),
) {
    let mut class = Class::First;
    loop {
        let (question, answer) = {
            let _turn = resolving.enter(&namespace, &name, class).await;
            // Asked with what the ledger says by now.
            let Some(question) = notes.git_question() else {
                return;
            };
            let answer = ask(&client, &namespace, &question, reach).await;
            (question, answer)
        };
        class = if answer.is_ok() {
            Class::First
        } else {
            Class::Other
        };
        notes.note(|work| {
            let resolution = &mut work.resolution;
            if !resolution.asking.is_current() {
                return false;
            }
            let answer = GitAnswer { question, answer };
            let asked = resolution.asked.as_ref();
            let answer = asked.and_then(|asked| answer.to(asked));
            let news = resolution.answer != answer;
            resolution.answer = answer;
            news
        });
        tokio::time::sleep(rand::random_range(RESOLVE_PAUSES)).await;
    }
}

async fn ask(
    client: &kube::Client,
    namespace: &str,
    question: &GitQuestion,
    reach: Reach,
) -> Result<Commit, String> {
    let credentials = match &question.credentials {
        None => Credentials::default(),
        Some(secret) => {
            let api: Api<GitSecret> = Api::namespaced(client.clone(), namespace);
            let read = calls::get_opt(&api, secret).await;
            let read = read.map_err(|error| error.to_string())?;
            read.ok_or_else(|| credentials_missing(secret))?
                .credentials()
        }
    };
    let git_ref = question.git_ref.as_deref();
    let began = Instant::now();
    let answer = resolve(&question.git_repo, git_ref, &credentials, reach, DEADLINE).await;
    tracing::debug!(ok = answer.is_ok(), took = ?began.elapsed(), "asked the git server");
    answer.map_err(|error| error.to_string())
}

/// A credentials Secret, with the keys that NIO reads.
#[derive(kube::Resource, Clone, Deserialize)]
#[resource(inherit = Secret)]
struct GitSecret {
    metadata: ObjectMeta,
    #[serde(default)]
    data: GitData,
}

#[derive(Clone, Default, Deserialize)]
struct GitData {
    #[serde(rename = "ssh-privatekey")]
    ssh_key: Option<ByteString>,
    known_hosts: Option<ByteString>,
    username: Option<ByteString>,
    password: Option<ByteString>,
    token: Option<ByteString>,
}

impl fmt::Debug for GitSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GitSecret").finish_non_exhaustive()
    }
}

impl GitSecret {
    fn credentials(self) -> Credentials {
        let GitData {
            ssh_key,
            known_hosts,
            username,
            password,
            token,
        } = self.data;
        let (password, token) = (text(password), text(token));
        Credentials {
            ssh_key: text(ssh_key),
            known_hosts: text(known_hosts),
            username: text(username).as_ref().map(first_line),
            password: password.or(token).as_ref().map(first_line),
        }
    }
}

/// A value as text. Empty values and values that are not UTF-8 count as absent.
fn text(value: Option<ByteString>) -> Option<SecretText> {
    let text = SecretText::from_bytes(value?.0)?;
    (!text.expose().trim().is_empty()).then_some(text)
}

/// The first line, which is what git uses of a user name or password. Many Secrets end with a line break.
fn first_line(text: &SecretText) -> SecretText {
    SecretText::new(text.expose().lines().next().unwrap_or_default().to_owned())
}

impl Notes {
    /// The current question to the git server; `None` if the cluster is gone.
    fn git_question(&self) -> Option<GitQuestion> {
        let work = self.work.upgrade()?;
        let work = lock(&work);
        work.get(&self.uid)?.resolution.asked.clone()
    }
}

impl super::Background {
    /// Keeps resolving this question. If the git server is to be asked something else, it is asked at once. A new commit in the ledger alone
    /// changes nothing for it: servers behind one name may differ, and each answer would lead to the next question.
    pub fn keep_resolving(&self, cluster: &ClusterView, question: Option<&GitQuestion>) {
        self.with(&cluster.uid, |work| {
            let resolution = &mut work.resolution;
            let Some(question) = question else {
                *resolution = Resolution::default();
                return;
            };
            let asked = resolution.asked.replace(question.clone());
            let same = asked.is_some_and(|asked| asked.asks_the_same(question));
            if same && resolution.asking.is_running() {
                let answer = resolution.answer.take();
                resolution.answer = answer.and_then(|answer| answer.to(question));
                return;
            }
            // The old answer is forgotten: it would be outdated if the same question is asked again later.
            *resolution = Resolution {
                asked: Some(question.clone()),
                ..Resolution::default()
            };
            let resolve = resolve_repeatedly(
                self.client.clone(),
                cluster.namespace.clone(),
                cluster.name.clone(),
                self.notes(cluster),
                (Arc::clone(&self.resolving), self.reach),
            );
            resolution
                .asking
                .start(of_namespace(&cluster.namespace, resolve));
        });
    }

    /// The last question to the git server for a cluster, with its answer.
    #[must_use]
    pub fn resolved(&self, uid: &str) -> Option<GitAnswer> {
        self.with(uid, |work| work.resolution.answer.clone())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::convert::Infallible;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use kube::client::Body;
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;
    use crate::api::form::Form as _;
    use crate::controller::background::Background;
    use crate::controller::metrics::Metrics;

    fn cluster() -> ClusterView {
        ClusterView {
            namespace: "default".to_owned(),
            name: "prod".to_owned(),
            uid: "uid".to_owned(),
            ..ClusterView::default()
        }
    }

    /// A question for a commit, which needs no server.
    fn question(digit: &str, credentials: Option<&str>) -> GitQuestion {
        GitQuestion {
            git_repo: "https://git.example/fleet".to_owned(),
            git_ref: Some(digit.repeat(40)),
            credentials: credentials.map(str::to_owned),
            held: None,
        }
    }

    #[tokio::test]
    async fn an_answer_wakes_the_cluster_and_is_forgotten_with_its_question() {
        let nobody = kube::Config::new("http://127.0.0.1:9".parse().unwrap());
        let client = kube::Client::try_from(nobody).unwrap();
        let (wake, mut woken) = unbounded_channel();
        let background =
            Background::new(client, Duration::from_secs(300), wake, &Metrics::new(None));
        let cluster = cluster();
        let mut answer = async |question: Option<&GitQuestion>| {
            background.keep_resolving(&cluster, question);
            assert_eq!(background.resolved("uid"), None, "it was not answered yet");
            question?;
            assert_eq!(woken.recv().await.unwrap().name, "prod");
            let answer = background.resolved("uid").unwrap();
            assert_eq!(Some(&answer.question), question);
            Some(answer.answer.map(|commit| commit.to_string()))
        };
        let (first, second) = (question("a", None), question("b", None));
        assert_eq!(answer(Some(&first)).await, Some(Ok("a".repeat(40))));
        assert_eq!(answer(Some(&second)).await, Some(Ok("b".repeat(40))));
        assert_eq!(answer(Some(&first)).await, Some(Ok("a".repeat(40))));
        assert_eq!(answer(None).await, None);
        let unread = answer(Some(&question("a", Some("git")))).await;
        assert!(
            unread.is_some_and(|it| it.is_err()),
            "the Secret cannot be read"
        );
        background.keep_resolving(&cluster, Some(&question("a", Some("git"))));
        assert!(
            background.resolved("uid").is_some(),
            "the same question goes on"
        );
    }

    #[tokio::test]
    async fn a_pod_does_not_ask_itself() {
        for (reach, told) in [(Reach::Pod, "loopback"), (Reach::Host, "does not answer")] {
            let nobody = kube::Config::new("http://127.0.0.1:9".parse().unwrap());
            let client = kube::Client::try_from(nobody).unwrap();
            let (wake, mut woken) = unbounded_channel();
            let resync = Duration::from_secs(300);
            let background = Background::new(client, resync, wake, &Metrics::new(None));
            let background = background.asking_from(reach);
            let question = GitQuestion {
                git_repo: "git://127.0.0.1:9/x".to_owned(),
                git_ref: Some("main".to_owned()),
                ..question("a", None)
            };
            background.keep_resolving(&cluster(), Some(&question));
            assert!(woken.recv().await.is_some());
            let answer = background.resolved("uid").unwrap().answer;
            assert!(answer.unwrap_err().contains(told));
        }
    }

    /// Two servers behind one name answer differently, or two operators note what they hear: each note must not lead to the next question.
    #[tokio::test]
    async fn a_git_server_is_asked_once_a_minute_however_often_the_ledger_changes() {
        let count = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&count);
        let service = tower::service_fn(move |_: hyper::Request<Body>| {
            counted.fetch_add(1, Ordering::SeqCst);
            let secret = serde_json::json!({ "metadata": { "name": "git" } });
            let answer = hyper::Response::new(Body::from(secret.to_string().into_bytes()));
            async move { Ok::<_, Infallible>(answer) }
        });
        let client = kube::Client::new(service, "default");
        let (wake, mut woken) = unbounded_channel();
        let background =
            Background::new(client, Duration::from_secs(300), wake, &Metrics::new(None));
        let (cluster, began) = (cluster(), Instant::now());
        let held = |digit: Option<&str>| GitQuestion {
            held: digit.and_then(|digit| Commit::parse(&digit.repeat(40))),
            ..question("a", Some("git"))
        };
        background.keep_resolving(&cluster, Some(&held(None)));
        assert!(woken.recv().await.is_some());
        for (digit, answered) in [("a", true), ("b", false), ("a", false)] {
            let question = held(Some(digit));
            background.keep_resolving(&cluster, Some(&question));
            let answer = background.resolved("uid");
            assert_eq!(
                answer.is_some(),
                answered,
                "it counts while the ledger has the same"
            );
            assert!(answer.is_none_or(|it| it.question == question));
        }
        for digit in ["b", "a"].into_iter().cycle().take(100) {
            background.keep_resolving(&cluster, Some(&held(Some(digit))));
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
        }
        let minutes = began.elapsed().as_secs() / RESOLVE_PAUSES.start.as_secs();
        assert!(u64::from(count.load(Ordering::SeqCst)) <= 1 + minutes);
        // Other credentials are another question.
        let other = GitQuestion {
            credentials: Some("other".to_owned()),
            ..held(Some("a"))
        };
        background.keep_resolving(&cluster, Some(&other));
        assert!(woken.recv().await.is_some());
        assert_eq!(background.resolved("uid").unwrap().question, other);
    }

    #[test]
    fn credentials_are_read_as_nio_reads_them() {
        let credentials = |data: serde_json::Value| {
            let secret = serde_json::json!({ "metadata": { "name": "git" }, "data": data });
            let secret: GitSecret = serde_json::from_value(secret).unwrap();
            let Credentials {
                ssh_key,
                known_hosts,
                username,
                password,
            } = secret.credentials();
            [ssh_key, known_hosts, username, password]
                .map(|it| it.map(|text| text.expose().to_owned()))
        };
        // "key", "hosts\n", "user\n", "word\nmore", "token", a byte that is no UTF-8, and a line break.
        let all = serde_json::json!({
            "ssh-privatekey": "a2V5", "known_hosts": "aG9zdHMK", "username": "dXNlcgo=",
            "password": "d29yZAptb3Jl", "token": "dG9rZW4=", "another": "eA==",
        });
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            credentials(all),
            [some("key"), some("hosts\n"), some("user"), some("word")]
        );
        let token =
            serde_json::json!({ "token": "dG9rZW4=", "username": "/w==", "password": "Cg==" });
        assert_eq!(credentials(token), [None, None, None, some("token")]);
        assert_eq!(credentials(serde_json::json!({})), [None, None, None, None]);
    }
}
