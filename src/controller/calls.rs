//! API calls, and errors in words that hold nothing of what was sent.

use std::fmt::Debug;
use std::future::Future;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{ObjectList, Request};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::client::{NoAnswer, NotLeading, TooLong};
use super::schedule::{METADATA_PAGE, PAGE};
use crate::api::metadata::CUT;
use crate::api::names::FIELD_MANAGER;
use crate::api::nio::OnlyMetadata;
use crate::api::text::shown;
use crate::plan::writes::Precondition;

/// A call that did not do what it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// A precondition did not hold, or the object exists already: something changed since it was read.
    #[error("{0} changed since it was read")]
    Changed(String),
    /// The object is not there.
    #[error("{0} does not exist")]
    Gone(String),
    /// The API server refused.
    #[error("{what}: the API server answered {code} {reason}")]
    Refused {
        /// What was asked for.
        what: String,
        /// HTTP status.
        code: u16,
        /// The machine-readable reason, one word.
        reason: String,
    },
    /// No answer, or none that could be read. The write may or may not have taken effect.
    #[error("{what}: {why}")]
    Unanswered {
        /// What was asked for.
        what: String,
        /// What went wrong, in NICO's words.
        why: &'static str,
    },
}

impl CallError {
    /// The error for an answer of that HTTP status.
    #[must_use]
    pub fn refused(what: String, code: u16, reason: &str) -> Self {
        let is_plain = char::is_ascii_alphanumeric;
        match code {
            404 => Self::Gone(what),
            409 => Self::Changed(what),
            code => Self::Refused {
                what,
                code,
                reason: reason.chars().filter(is_plain).take(64).collect(),
            },
        }
    }

    /// Whether the next pass, from fresh reads, is all that is needed.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        matches!(self, Self::Changed(_) | Self::Gone(_))
    }
}

/// Runs a call.
pub async fn call<T>(
    what: impl Into<String>,
    call: impl Future<Output = kube::Result<T>>,
) -> Result<T, CallError> {
    call.await
        .map_err(|error| explain(shown(&what.into()), &error))
}

/// Only the status code and the reason are taken over: a message may quote what was sent.
fn explain(what: String, error: &kube::Error) -> CallError {
    let unanswered = |what, why| CallError::Unanswered { what, why };
    match error {
        kube::Error::Api(status) => CallError::refused(what, status.code, &status.reason),
        kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => {
            unanswered(what, "the answer could not be read")
        }
        kube::Error::Service(error) if error.is::<NoAnswer>() => {
            unanswered(what, "no answer in time")
        }
        kube::Error::Service(error) if error.is::<TooLong>() => {
            unanswered(what, "the answer is longer than NICO reads")
        }
        kube::Error::Service(error) if error.is::<NotLeading>() => {
            unanswered(what, "not sent: this process does not lead")
        }
        kube::Error::HyperError(_) | kube::Error::Service(_) => {
            unanswered(what, "the API server could not be reached")
        }
        kube::Error::Auth(_) => unanswered(what, "no credentials for the API server"),
        _ => unanswered(what, "the call failed"),
    }
}

/// Bound of every type that is read and written here.
pub trait Object: kube::Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned {}
impl<K: kube::Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned> Object for K {}

fn what<K: Object>(name: &str) -> String {
    format!("{} {name}", K::kind(&()))
}

/// GET; `None` where there is no such object.
pub async fn get_opt<K: Object>(api: &Api<K>, name: &str) -> Result<Option<K>, CallError> {
    call(what::<K>(name), api.get_opt(name)).await
}

/// LIST of one object, for what may be listed but not read by name; `None` where there is no such object.
pub async fn list_one<K: Object>(api: &Api<K>, name: &str) -> Result<Option<K>, CallError> {
    let of_that_name = ListParams::default().fields(&format!("metadata.name={name}"));
    Ok(list_where(api, &of_that_name).await?.pop())
}

/// LIST, not from the API server's cache. All pages show one moment.
pub async fn list_where<K: Object>(api: &Api<K>, which: &ListParams) -> Result<Vec<K>, CallError> {
    let mut all = Vec::new();
    let mut page = Some(which.clone().limit(PAGE));
    while let Some(asked) = page {
        let (items, next) = turned::<K, _>(asked.clone(), api.list(&asked).await)?;
        page = next;
        all.extend(items);
    }
    Ok(all)
}

/// LIST of the metadata of objects, not from the API server's cache. It goes by pages, of which nothing is kept here. All pages
/// show one moment.
pub async fn list_metadata<K: Object>(
    api: &Api<K>,
    which: &ListParams,
    mut take: impl FnMut(ObjectMeta),
) -> Result<(), CallError> {
    let mut page = Some(which.clone().limit(METADATA_PAGE));
    while let Some(asked) = page {
        let answer: kube::Result<ObjectList<OnlyMetadata>> = metadata_page(api, &asked).await;
        let (items, next) = turned::<K, _>(asked, answer)?;
        page = next;
        for item in items {
            take(item.metadata);
        }
    }
    Ok(())
}

/// What a page shows, and what asks for the next one, if there is one. One that is longer than an answer may be shows nothing, and is
/// asked for again with fewer objects.
fn turned<K: Object, T: Clone>(
    asked: ListParams,
    answer: kube::Result<ObjectList<T>>,
) -> Result<(Vec<T>, Option<ListParams>), CallError> {
    if answer.as_ref().is_err_and(is_too_long)
        && let Some(fewer) = asked.limit.and_then(fewer)
    {
        return Ok((Vec::new(), Some(asked.limit(fewer))));
    }
    let list = listed::<K, _>(answer)?;
    let next = next_page(&asked, &list);
    Ok((list.items, next))
}

/// Whether a call failed because its answer is longer than NICO reads.
#[must_use]
pub fn is_too_long(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Service(error) if error.is::<TooLong>())
}

/// How many objects a page has that is asked for again since it was too long; `None` where it had one alone. Five of the largest
/// objects that etcd stores are shorter than an answer may be.
#[must_use]
pub fn fewer(limit: u32) -> Option<u32> {
    (limit > 1).then(|| (limit / 10).max(1))
}

/// What asks for the page behind this one; `None` where it is the last.
fn next_page<T: Clone>(asked: &ListParams, list: &ObjectList<T>) -> Option<ListParams> {
    let token = list.metadata.continue_.as_ref();
    let token = token.filter(|token| !token.is_empty())?;
    Some(asked.clone().continue_token(token))
}

async fn metadata_page<K: Object>(
    api: &Api<K>,
    which: &ListParams,
) -> kube::Result<ObjectList<OnlyMetadata>> {
    let request = Request::new(api.resource_url()).list_metadata(which);
    let request = request.map_err(kube::Error::BuildRequest)?;
    api.clone().into_client().request(request).await
}

/// How many objects there are, in one short LIST that is not from the API server's cache; `None` where the answer does not say.
pub async fn count<K: Object>(api: &Api<K>) -> Result<Option<usize>, CallError> {
    let one = ListParams::default().limit(1);
    let list = listed::<K, _>(metadata_page(api, &one).await)?;
    let is_whole = next_page(&one, &list).is_none();
    let others = list.metadata.remaining_item_count;
    let others = others.or_else(|| is_whole.then_some(0));
    Ok(others
        .and_then(|others| usize::try_from(others).ok())
        .map(|others| others + list.items.len()))
}

/// What is not served at all is no empty list, nor a sign that something changed.
fn listed<K: Object, T>(list: kube::Result<T>) -> Result<T, CallError> {
    let what = format!("list of {}", K::plural(&()));
    list.map_err(|error| match explain(what, &error) {
        CallError::Gone(what) => CallError::Refused {
            what,
            code: 404,
            reason: "NotFound".to_owned(),
        },
        error => error,
    })
}

/// POST.
pub async fn create<K: Object + Serialize>(api: &Api<K>, object: &K) -> Result<K, CallError> {
    let name = object.meta().name.clone().unwrap_or_default();
    call(
        what::<K>(&name),
        api.create(
            &PostParams {
                field_manager: Some(FIELD_MANAGER.to_owned()),
                ..PostParams::default()
            },
            object,
        ),
    )
    .await
}

/// JSON merge patch that insists on uid and resourceVersion.
pub async fn patch<K: Object>(
    api: &Api<K>,
    name: &str,
    version: &Precondition,
    mut body: serde_json::Value,
) -> Result<K, CallError> {
    if is_cut(&body) {
        return Err(CallError::Unanswered {
            what: what::<K>(name),
            why: "not written: it has more finalizers or owners than NICO keeps, and a write would remove them",
        });
    }
    insist(&mut body, version);
    call(
        what::<K>(name),
        api.patch(name, &PatchParams::apply_manager(), &Patch::Merge(body)),
    )
    .await
}

/// JSON merge patch of the status, under the same preconditions.
pub async fn patch_status<K: Object>(
    api: &Api<K>,
    name: &str,
    version: &Precondition,
    mut body: serde_json::Value,
) -> Result<K, CallError> {
    insist(&mut body, version);
    call(
        what::<K>(name),
        api.patch_status(name, &PatchParams::apply_manager(), &Patch::Merge(body)),
    )
    .await
}

/// DELETE of exactly this version; gone already is as good.
pub async fn delete<K: Object>(
    api: &Api<K>,
    name: &str,
    version: &Precondition,
) -> Result<(), CallError> {
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some(version.uid.clone()),
            resource_version: Some(version.resource_version.clone()),
        }),
        ..DeleteParams::default()
    };
    match call(what::<K>(name), api.delete(name, &params)).await {
        Ok(_) | Err(CallError::Gone(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether a list that a patch writes as a whole is not all of what was read.
fn is_cut(body: &serde_json::Value) -> bool {
    ["finalizers", "ownerReferences"]
        .iter()
        .any(|list| body["metadata"][list].to_string().contains(CUT))
}

fn insist(body: &mut serde_json::Value, version: &Precondition) {
    body["metadata"]["uid"] = version.uid.clone().into();
    body["metadata"]["resourceVersion"] = version.resource_version.clone().into();
}

/// The field manager, without the forms that only server-side apply takes.
trait Manager {
    fn apply_manager() -> Self;
}

impl Manager for PatchParams {
    fn apply_manager() -> Self {
        Self {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..Self::default()
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_page_that_is_too_long_is_asked_for_again_with_fewer_objects() {
        let mut asked = ListParams::default().limit(METADATA_PAGE);
        asked = asked.continue_token("token");
        for limit in [25, 2, 1] {
            let too_long = Err(kube::Error::Service(TooLong.into()));
            let turned = turned::<ConfigMap, ConfigMap>(asked, too_long).unwrap();
            assert!(turned.0.is_empty());
            asked = turned.1.unwrap();
            assert_eq!(asked.limit, Some(limit));
            assert_eq!(asked.continue_token.as_deref(), Some("token"));
        }
        let list = json!({"metadata": {"continue": "next"}, "items": [{"metadata": {}}]});
        let list: ObjectList<ConfigMap> = serde_json::from_value(list).unwrap();
        let (items, next) = turned::<ConfigMap, _>(asked.clone(), Ok(list)).unwrap();
        assert_eq!((items.len(), next.unwrap().limit), (1, Some(1)));
        let too_long = Err(kube::Error::Service(TooLong.into()));
        let error = turned::<ConfigMap, ConfigMap>(asked, too_long).unwrap_err();
        assert_eq!(
            error.to_string(),
            "list of configmaps: the answer is longer than NICO reads"
        );
    }

    #[tokio::test]
    async fn a_list_of_which_a_part_was_not_kept_is_not_written() {
        let service = tower::service_fn(|_: hyper::Request<kube::client::Body>| async move {
            Err::<hyper::Response<kube::client::Body>, _>(tower::BoxError::from("asked"))
        });
        let api = Api::<ConfigMap>::all(kube::Client::new(service, "default"));
        let version = Precondition::of(&ObjectMeta::default());
        for (metadata, is_written) in [
            (
                json!({"finalizers": ["nico.homystack.com/in-use", CUT]}),
                false,
            ),
            (json!({"ownerReferences": [{"uid": CUT}]}), false),
            (json!({"finalizers": ["nico.homystack.com/in-use"]}), true),
            (json!({"annotations": {"a": "b"}}), true),
        ] {
            let body = json!({ "metadata": metadata });
            let error = patch(&api, "a", &version, body).await.unwrap_err();
            let asked = error.to_string().contains("could not be reached");
            assert_eq!(asked, is_written, "{metadata}: {error}");
        }
    }
}
