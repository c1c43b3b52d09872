//! API calls, with errors whose messages contain nothing of the request bodies.

mod read;

use std::fmt::Debug;
use std::future::Future;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::ObjectList;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::client::{NoAnswer, NotLeading, Stopping, TooLong};
use super::schedule::{METADATA_PAGE, PAGE};
use crate::api::metadata::CUT;
use crate::api::names::FIELD_MANAGER;
use crate::api::nio::OnlyMetadata;
use crate::api::text::shown;
use crate::plan::writes::Precondition;

/// Why a process that is stopping sends no write.
pub const STOPPING: &str = "not sent: this process is stopping";

/// A failed API call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// A precondition failed, or the object exists already: something changed since it was read.
    #[error("{0} changed since it was read")]
    Changed(String),
    /// The object does not exist.
    #[error("{0} does not exist")]
    Gone(String),
    /// The API server refused the request.
    #[error("{what}: the API server answered {code} {reason}")]
    Refused {
        /// The request, for messages.
        what: String,
        /// HTTP status.
        code: u16,
        /// The machine-readable reason.
        reason: String,
    },
    /// There was no response, or it could not be decoded. A write may or may not have taken effect.
    #[error("{what}: {why}")]
    Unanswered {
        /// The request, for messages.
        what: String,
        /// What went wrong.
        why: &'static str,
    },
}

impl CallError {
    /// The error for a response with this HTTP status.
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

    /// Whether another pass from fresh reads is enough to recover.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        matches!(self, Self::Changed(_) | Self::Gone(_))
    }
}

/// Runs a call. Its error has neither the text of the API server nor what was sent.
pub async fn call<T>(
    what: impl Into<String>,
    call: impl Future<Output = kube::Result<T>>,
) -> Result<T, CallError> {
    call.await
        .map_err(|error| explain(shown(&what.into()), &error))
}

/// Translates an error. Only status code and reason are kept: the message may quote the request.
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
        kube::Error::Service(error) if error.is::<Stopping>() => unanswered(what, STOPPING),
        kube::Error::HyperError(_) | kube::Error::Service(_) => {
            unanswered(what, "the API server could not be reached")
        }
        kube::Error::Auth(_) => unanswered(what, "no credentials for the API server"),
        _ => unanswered(what, "the call failed"),
    }
}

/// Bounds for the types that are read and written here.
pub trait Object: kube::Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned {}
impl<K: kube::Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned> Object for K {}

fn what<K: Object>(name: &str) -> String {
    format!("{} {name}", K::kind(&()))
}

/// GET; `None` if the object does not exist.
pub async fn get_opt<K: Object>(api: &Api<K>, name: &str) -> Result<Option<K>, CallError> {
    call(what::<K>(name), read::get_opt(api, name)).await
}

/// LIST of one object, for kinds that NICO may list but not get; `None` if the object does not exist.
pub async fn list_one<K: Object>(api: &Api<K>, name: &str) -> Result<Option<K>, CallError> {
    let of_that_name = ListParams::default().fields(&format!("metadata.name={name}"));
    Ok(list_where(api, &of_that_name).await?.pop())
}

/// LIST, not from the API server's cache. All pages are from one snapshot; it fails if that is no longer there.
pub async fn list_where<K: Object>(api: &Api<K>, which: &ListParams) -> Result<Vec<K>, CallError> {
    let mut all = Vec::new();
    let mut page = Some(which.clone().limit(PAGE));
    while let Some(asked) = page {
        let (items, next) = turned::<K, _>(asked.clone(), read::page(api, &asked).await)?;
        page = next;
        all.extend(items);
    }
    Ok(all)
}

/// LIST of the metadata of objects, not from the API server's cache. It passes each object to `take` and keeps none. All pages are from one
/// snapshot.
pub async fn list_metadata<K: Object>(
    api: &Api<K>,
    which: &ListParams,
    mut take: impl FnMut(ObjectMeta),
) -> Result<(), CallError> {
    let mut page = Some(which.clone().limit(METADATA_PAGE));
    while let Some(asked) = page {
        let answer: kube::Result<ObjectList<OnlyMetadata>> = read::metadata_page(api, &asked).await;
        let (items, next) = turned::<K, _>(asked, answer)?;
        page = next;
        for item in items {
            take(item.metadata);
        }
    }
    Ok(())
}

/// The objects of a page, and the parameters for the next one, if there is one. A page that is longer than a response may be returns no
/// objects, and is requested again with fewer.
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

/// Whether a call failed because its response is longer than NICO reads.
#[must_use]
pub fn is_too_long(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Service(error) if error.is::<TooLong>())
}

/// How many objects to request instead of a page that was too long; `None` if it was only one. Five of the largest objects that etcd stores
/// fit into a response.
#[must_use]
pub fn fewer(limit: u32) -> Option<u32> {
    (limit > 1).then(|| (limit / 10).max(1))
}

/// Parameters for the next page; `None` if this is the last.
fn next_page<T: Clone>(asked: &ListParams, list: &ObjectList<T>) -> Option<ListParams> {
    let token = list.metadata.continue_.as_ref();
    let token = token.filter(|token| !token.is_empty())?;
    Some(asked.clone().continue_token(token))
}

/// How many objects there are, from one short LIST that is not from the API server's cache; `None` if the response does not say.
pub async fn count<K: Object>(api: &Api<K>) -> Result<Option<usize>, CallError> {
    let one = ListParams::default().limit(1);
    let list = listed::<K, _>(read::metadata_page(api, &one).await)?;
    let is_whole = next_page(&one, &list).is_none();
    let others = list.metadata.remaining_item_count;
    let others = others.or_else(|| is_whole.then_some(0));
    Ok(others
        .and_then(|others| usize::try_from(others).ok())
        .map(|others| others + list.items.len()))
}

/// A kind that is not served is an error, neither an empty list nor a sign that something changed.
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

/// POST. Fails with [`CallError::Changed`] if an object of that name exists.
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

/// JSON merge patch with uid and resourceVersion as preconditions.
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
    set_precondition(&mut body, version);
    call(
        what::<K>(name),
        api.patch(name, &PatchParams::apply_manager(), &Patch::Merge(body)),
    )
    .await
}

/// JSON merge patch of the status, with the same preconditions.
pub async fn patch_status<K: Object>(
    api: &Api<K>,
    name: &str,
    version: &Precondition,
    mut body: serde_json::Value,
) -> Result<K, CallError> {
    set_precondition(&mut body, version);
    call(
        what::<K>(name),
        api.patch_status(name, &PatchParams::apply_manager(), &Patch::Merge(body)),
    )
    .await
}

/// DELETE of exactly this version. An object that is gone already is no error.
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

/// Whether the patch replaces a list of which only a part was kept.
fn is_cut(body: &serde_json::Value) -> bool {
    ["finalizers", "ownerReferences"]
        .iter()
        .any(|list| body["metadata"][list].to_string().contains(CUT))
}

fn set_precondition(body: &mut serde_json::Value, version: &Precondition) {
    body["metadata"]["uid"] = version.uid.clone().into();
    body["metadata"]["resourceVersion"] = version.resource_version.clone().into();
}

/// Parameters with the field manager.
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
