//! Finds the installed generation of NIO, and changes of its definitions, by the schemas that the API server publishes. Every client may
//! read these: a watch of the CustomResourceDefinitions would need a right of its own, which no Role for one namespace can give.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::{Duration, Instant};

use http_body_util::BodyExt as _;
use hyper::header::{ETAG, HeaderValue, IF_NONE_MATCH};
use hyper::{Request, StatusCode};
use kube::client::Body;
use serde_json::Value;

use super::calls::{self, CallError};
use super::schedule::{NIO_CHECK_PAUSE, NIO_MISSES};
use crate::api::nio::Generation;
use crate::plan::nio;

const GROUP: &str = "nio.homystack.com";
const PATH: &str = "/openapi/v3/apis/nio.homystack.com/v1alpha1";
const WHAT: &str = "schema of NIO's resources";

/// The definitions of NIO's resources that are served.
#[derive(Clone, Debug)]
pub struct Definitions {
    /// The generation of NIO that works with them.
    pub generation: Generation,
    /// Differs if any of their schemas does.
    digest: u64,
    /// The version of the document: only another one is sent again.
    etag: Option<HeaderValue>,
}

/// The definitions that are served, with the generation that the flag sets, if it sets one. `None` if they are no known NIO's.
pub async fn detect(
    client: &kube::Client,
    chosen: Option<Generation>,
    known: Option<&Definitions>,
) -> Result<Option<Definitions>, CallError> {
    let mut request = Request::get(PATH);
    if let Some(etag) = known.and_then(|known| known.etag.as_ref()) {
        request = request.header(IF_NONE_MATCH, etag);
    }
    let Ok(request) = request.body(Body::empty()) else {
        return Ok(None);
    };
    let answer = calls::call(WHAT, client.send(request)).await?;
    match answer.status() {
        StatusCode::NOT_MODIFIED => return Ok(known.cloned()),
        StatusCode::NOT_FOUND => return Ok(None),
        status if !status.is_success() => {
            let reason = status.canonical_reason().unwrap_or_default();
            return Err(CallError::refused(WHAT.to_owned(), status.as_u16(), reason));
        }
        _ => {}
    }
    let etag = answer.headers().get(ETAG).cloned();
    let body = answer.into_body().collect();
    let document = async {
        let bytes = body.await?.to_bytes();
        serde_json::from_slice(&bytes).map_err(kube::Error::SerdeError)
    };
    let document: Value = calls::call(WHAT, document).await?;
    let generation = served(&document, chosen);
    Ok(generation.map(|generation| Definitions {
        generation,
        digest: digest(&document),
        etag,
    }))
}

/// The schemas of NIO's kinds.
fn schemas(document: &Value) -> impl Iterator<Item = (&Value, &str)> {
    let schemas = document["components"]["schemas"].as_object();
    schemas.into_iter().flatten().filter_map(|(_, schema)| {
        let kinds = schema.get("x-kubernetes-group-version-kind")?.as_array()?;
        let own = kinds.iter().find(|kind| kind["group"] == GROUP)?;
        Some((schema, own["kind"].as_str()?))
    })
}

/// A digest of the schemas of NIO's kinds alone: those of Kubernetes differ between API servers of two versions, as in an upgrade.
fn digest(document: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    for (schema, _) in schemas(document) {
        schema.to_string().hash(&mut hasher);
    }
    hasher.finish()
}

/// The generation of NIO to which the schema of `Machine` belongs, or the chosen one. `None` if the schema is plainly that of another than
/// was chosen: each would misread what NICO writes for the other, and classic could wipe disks for it.
fn served(document: &Value, chosen: Option<Generation>) -> Option<Generation> {
    let machine = schemas(document).find(|(_, kind)| *kind == "Machine");
    let spec = machine.map(|(machine, _)| &machine["properties"]["spec"]["properties"]);
    let has = |property: &str| spec.is_some_and(|spec| spec.get(property).is_some());
    let Some(chosen) = chosen else {
        return nio::detect(has);
    };
    let is_of_chosen = has(nio::for_generation(chosen).address_property());
    (is_of_chosen || nio::detect(has).is_none()).then_some(chosen)
}

/// What was found, and when.
#[derive(Clone, Debug, Default)]
pub(super) struct Detected {
    at: Option<Instant>,
    pub(super) definitions: Option<Definitions>,
    /// Lookups in a row that found none.
    misses: u8,
    /// When the last lookup failed, and why.
    failed: Option<(Instant, CallError)>,
    /// Whether the watches are to restart at the next lookup as well.
    restart_again: bool,
}

/// What a lookup has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// There is another generation of NIO, or none any more.
    pub(super) generation: bool,
    /// The watches have to restart: what they have shown was decoded by other definitions.
    pub(super) restart: bool,
}

impl Detected {
    /// The generation that was found.
    pub(super) fn generation(&self) -> Option<Generation> {
        let definitions = self.definitions.as_ref();
        definitions.map(|definitions| definitions.generation)
    }

    /// The result, if it is not older than this, and not older than a second where NIO was missed; or why the last lookup failed.
    pub(super) fn recent(
        &self,
        longest: Duration,
    ) -> Option<Result<Option<Generation>, CallError>> {
        let longest = if self.definitions.is_some() && self.misses == 0 {
            longest
        } else {
            NIO_CHECK_PAUSE.min(longest)
        };
        if self.at.is_some_and(|at| at.elapsed() < longest) {
            return Some(Ok(self.generation()));
        }
        let (at, error) = self.failed.as_ref()?;
        (at.elapsed() < NIO_CHECK_PAUSE).then(|| Err(error.clone()))
    }

    /// Takes the result of a lookup.
    pub(super) fn take(
        &mut self,
        found: Result<Option<Definitions>, CallError>,
    ) -> Result<Change, CallError> {
        let found = found.inspect_err(|error| {
            self.failed = Some((Instant::now(), error.clone()));
        })?;
        // A starting API server may publish its schemas late, so a single miss does not count.
        let misses = match found {
            Some(_) => 0,
            None => self.misses.saturating_add(1),
        };
        let before = self.definitions.take();
        let definitions = found.or_else(|| before.clone().filter(|_| misses < NIO_MISSES));
        let digest = |it: &Option<Definitions>| it.as_ref().map(|it| it.digest);
        let generation = |it: &Option<Definitions>| it.as_ref().map(|it| it.generation);
        let differs = definitions.is_some() && digest(&before) != digest(&definitions);
        let change = Change {
            generation: self.at.is_none() || generation(&before) != generation(&definitions),
            restart: differs || self.restart_again,
        };
        *self = Self {
            // Several API servers do not change at the same moment, and one publishes a schema beside serving it: a list that came between
            // is repeated once.
            restart_again: differs && self.at.is_some(),
            at: Some(Instant::now()),
            definitions,
            misses,
            failed: None,
        };
        Ok(change)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use std::sync::{Arc, Mutex};

    use hyper::Response;
    use serde_json::json;
    use tower::{BoxError, service_fn};

    use super::*;
    use crate::remote::lock::lock;

    fn document(field: &str) -> Value {
        json!({"components": {"schemas": {
            "com.homystack.nio.v1alpha1.Machine": {
                "x-kubernetes-group-version-kind": [{"group": GROUP, "kind": "Machine", "version": "v1alpha1"}],
                "properties": {"spec": {"properties": {field: {"type": "string"}}}},
            },
            "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta": {"description": "of one version"},
        }}})
    }

    #[test]
    fn the_address_field_tells_the_generations_apart_and_is_stronger_than_the_flag() {
        let (classic, v1) = (Some(Generation::Classic), Some(Generation::V1));
        for (field, chosen, found) in [
            ("hostname", None, classic),
            ("host", None, v1),
            ("other", None, None),
            ("hostname", classic, classic),
            ("host", v1, v1),
            ("other", classic, classic),
            ("other", v1, v1),
            ("hostname", v1, None),
            ("host", classic, None),
        ] {
            assert_eq!(
                served(&document(field), chosen),
                found,
                "{field} {chosen:?}"
            );
        }
        assert_eq!(served(&Value::Null, None), None);
        let mut both = document("host");
        let machine = &mut both["components"]["schemas"]["com.homystack.nio.v1alpha1.Machine"];
        machine["properties"]["spec"]["properties"]["hostname"] = json!({"type": "string"});
        assert_eq!(served(&both, v1), v1);
        assert_eq!(served(&both, classic), classic);
    }

    #[test]
    fn schemas_of_kubernetes_are_not_compared() {
        let mut of_another_version = document("host");
        of_another_version["components"]["schemas"]["io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"] =
            json!({"description": "of another"});
        assert_eq!(digest(&document("host")), digest(&of_another_version));
        assert_ne!(digest(&document("host")), digest(&document("hostname")));
    }

    /// An API server that sends the document only where the client does not have it; what it was asked.
    fn server(
        published: Arc<Mutex<Option<(&'static str, Value)>>>,
    ) -> (kube::Client, Arc<Mutex<Vec<u16>>>) {
        let answers = Arc::<Mutex<Vec<u16>>>::default();
        let told = Arc::clone(&answers);
        let service = service_fn(move |request: Request<Body>| {
            let published = lock(&published).clone();
            let held = request.headers().get(IF_NONE_MATCH).cloned();
            let (code, body) = match &published {
                None => (404, String::new()),
                Some((etag, _)) if held.is_some_and(|held| held == etag) => (304, String::new()),
                Some((_, document)) => (200, document.to_string()),
            };
            lock(&told).push(code);
            let mut answer = Response::builder().status(code);
            if let Some((etag, _)) = published {
                answer = answer.header(ETAG, etag);
            }
            let answer = answer.body(Body::from(body.into_bytes())).unwrap();
            async move { Ok::<_, BoxError>(answer) }
        });
        (kube::Client::new(service, "default"), answers)
    }

    #[tokio::test]
    async fn a_document_is_sent_once_and_a_change_of_it_restarts_the_watches_twice() {
        let published = Arc::new(Mutex::new(Some(("\"1\"", document("hostname")))));
        let (client, answers) = server(Arc::clone(&published));
        let mut detected = Detected::default();
        let mut look = async || {
            let found = detect(&client, None, detected.definitions.as_ref()).await;
            let change = detected.take(found).unwrap();
            (change.generation, change.restart, detected.generation())
        };
        let classic = Some(Generation::Classic);
        assert_eq!(look().await, (true, true, classic), "the watches begin");
        assert_eq!(look().await, (false, false, classic));
        *lock(&published) = Some(("\"2\"", document("host")));
        let v1 = Some(Generation::V1);
        assert_eq!(look().await, (true, true, v1));
        assert_eq!(look().await, (false, true, v1), "for a server that lagged");
        assert_eq!(look().await, (false, false, v1));
        assert_eq!(*lock(&answers), [200, 304, 200, 304, 304]);
        // A miss does not count, three do.
        *lock(&published) = None;
        assert_eq!(look().await, (false, false, v1));
        assert_eq!(look().await, (false, false, v1));
        assert_eq!(look().await, (true, false, None));
        *lock(&published) = Some(("\"2\"", document("host")));
        assert_eq!(look().await, (true, true, v1), "their objects are others");
    }
}
