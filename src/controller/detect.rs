//! Finds the installed generation of NIO by the schema that the API server publishes.

use hyper::Request;
use serde_json::Value;

use super::calls::{self, CallError};
use crate::api::nio::Generation;
use crate::plan::nio;

const PATH: &str = "/openapi/v3/apis/nio.homystack.com/v1alpha1";

/// The generation of NIO whose resources are served; `chosen` if the flag sets it. `None` if no NIO is served.
pub async fn detect(
    client: &kube::Client,
    chosen: Option<Generation>,
) -> Result<Option<Generation>, CallError> {
    let Ok(request) = http_request() else {
        return Ok(None);
    };
    let document: Value =
        match calls::call("schema of NIO's resources", client.request(request)).await {
            Ok(document) => document,
            Err(CallError::Gone(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
    Ok(chosen.or_else(|| generation(&document)))
}

fn http_request() -> Result<Request<Vec<u8>>, hyper::http::Error> {
    Request::get(PATH).body(Vec::new())
}

/// The generation of NIO to which the schema of `Machine` belongs.
fn generation(document: &Value) -> Option<Generation> {
    let schemas = document.get("components")?.get("schemas")?.as_object()?;
    let machine = schemas.values().find(|schema| {
        let kinds = schema
            .get("x-kubernetes-group-version-kind")
            .and_then(Value::as_array);
        kinds
            .into_iter()
            .flatten()
            .any(|kind| kind.get("kind").and_then(Value::as_str) == Some("Machine"))
    })?;
    let spec = machine.get("properties")?.get("spec")?.get("properties")?;
    nio::detect(|property| spec.get(property).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document(field: &str) -> Value {
        json!({"components": {"schemas": {"com.homystack.nio.v1alpha1.Machine": {
            "x-kubernetes-group-version-kind": [{"group": "nio.homystack.com", "kind": "Machine", "version": "v1alpha1"}],
            "properties": {"spec": {"properties": {field: {"type": "string"}}}},
        }}}})
    }

    #[test]
    fn the_address_field_tells_the_generations_apart() {
        assert_eq!(generation(&document("hostname")), Some(Generation::Classic));
        assert_eq!(generation(&document("host")), Some(Generation::V1));
        assert_eq!(generation(&document("other")), None);
        assert_eq!(generation(&Value::Null), None);
    }
}
