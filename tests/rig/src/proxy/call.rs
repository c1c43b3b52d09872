//! One request as the API server interprets it: verb and resource, and whether it counts as a write.

use std::time::Duration;

use serde_json::Value;

/// A request that went through the proxy.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// The number of the write, from 1; 0 for other calls.
    pub n: usize,
    /// When it arrived, since the proxy's start.
    pub at: Duration,
    /// The HTTP method.
    pub method: String,
    /// The verb as in RBAC rules: get, list, watch, create, update, patch, delete, deletecollection.
    pub verb: String,
    /// The path without the query.
    pub path: String,
    /// The query.
    pub query: String,
    /// The API group, empty for the core.
    pub group: String,
    /// The plural; empty if the path names no resource (`/version`, `/readyz`).
    pub resource: String,
    /// The namespace; empty for other objects.
    pub namespace: String,
    /// The object's name; empty for a collection (the name of a POST is in its body).
    pub name: String,
    /// The subresource (`status`), else empty.
    pub subresource: String,
    /// The request body, if it is JSON. It may contain secret bytes, so it is only for checks.
    pub body: Option<Value>,
    /// The status code from the API server; `None` if there is none yet, or the call did not reach it.
    pub code: Option<u16>,
    /// The annotation `confirmed` of the configuration in the response, if there is one.
    pub confirmed: Option<String>,
    /// Whether a fault applied to it, or it arrived while the API server was starting.
    pub faulted: bool,
}

impl Call {
    /// Parses method, path and query.
    #[must_use]
    pub fn parse(method: &str, path: &str, query: &str) -> Self {
        let mut call = Self {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            ..Self::default()
        };
        let mut words = path.split('/').filter(|word| !word.is_empty());
        let found = match words.next() {
            Some("api") => words.next().is_some(),
            Some("apis") => {
                words.next().unwrap_or_default().clone_into(&mut call.group);
                words.next().is_some()
            }
            _ => false,
        };
        let mut words: Vec<&str> = if found { words.collect() } else { vec![] };
        if words.len() > 2
            && words[0] == "namespaces"
            && !["status", "finalize"].contains(&words[2])
        {
            words[1].clone_into(&mut call.namespace);
            words.drain(..2);
        }
        let word = |index: usize| words.get(index).copied().unwrap_or_default().to_owned();
        (call.resource, call.name, call.subresource) = (word(0), word(1), word(2));
        let one = !call.name.is_empty();
        let verb = match method {
            "GET" if call.is_watch() => "watch",
            "GET" if !one && found => "list",
            "POST" => "create",
            "PUT" => "update",
            "PATCH" => "patch",
            "DELETE" if !one => "deletecollection",
            "DELETE" => "delete",
            _ => "get",
        };
        verb.clone_into(&mut call.verb);
        call
    }

    /// Whether it is a watch.
    #[must_use]
    pub fn is_watch(&self) -> bool {
        self.method == "GET"
            && self
                .query
                .split('&')
                .any(|pair| pair == "watch=true" || pair == "watch=1")
    }

    /// Whether it counts as a write: it changes an object that is not a Lease, an Event or a review.
    #[must_use]
    pub fn is_write(&self) -> bool {
        let uncounted = self.resource == "leases"
            || self.resource == "events"
            || self.resource.ends_with("reviews")
            || self.resource.is_empty();
        !uncounted && ["POST", "PUT", "PATCH", "DELETE"].contains(&self.method.as_str())
    }

    /// Resource and subresource as in RBAC rules.
    #[must_use]
    pub fn rule_resource(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }

    /// The name of the object, including that of a creation.
    #[must_use]
    pub fn object_name(&self) -> &str {
        let in_body = || self.body.as_ref()?["metadata"]["name"].as_str();
        if self.name.is_empty() {
            in_body().unwrap_or_default()
        } else {
            &self.name
        }
    }

    /// One line: number, verb, resource, name, and status code.
    #[must_use]
    pub fn line(&self) -> String {
        let (n, verb, resource, name) =
            (self.n, &self.verb, self.rule_resource(), self.object_name());
        match self.code {
            Some(code) => format!("{n:3} {verb} {resource} {name} -> {code}"),
            None => format!("{n:3} {verb} {resource} {name} -> no answer"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Call;

    fn parse(method: &str, path: &str) -> (String, String, String, bool) {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let call = Call::parse(method, path, query);
        let write = call.is_write();
        (call.verb.clone(), call.rule_resource(), call.name, write)
    }

    #[test]
    fn paths_of_the_api() {
        let of = |verb: &str, resource: &str, name: &str, write| {
            (verb.into(), resource.into(), name.into(), write)
        };
        assert_eq!(
            parse("GET", "/api/v1/namespaces/a/secrets/s"),
            of("get", "secrets", "s", false)
        );
        assert_eq!(
            parse("POST", "/api/v1/namespaces/a/secrets"),
            of("create", "secrets", "", true)
        );
        assert_eq!(
            parse("GET", "/api/v1/namespaces/a"),
            of("get", "namespaces", "a", false)
        );
        assert_eq!(
            parse("GET", "/api/v1/namespaces"),
            of("list", "namespaces", "", false)
        );
        assert_eq!(
            parse(
                "PATCH",
                "/apis/nio.homystack.com/v1alpha1/namespaces/a/nixosconfigurations/m/status"
            ),
            of("patch", "nixosconfigurations/status", "m", true)
        );
        assert_eq!(
            parse(
                "GET",
                "/apis/nio.homystack.com/v1alpha1/machines?limit=5&watch=true"
            ),
            of("watch", "machines", "", false)
        );
        assert_eq!(
            parse(
                "PATCH",
                "/apis/coordination.k8s.io/v1/namespaces/a/leases/l"
            ),
            of("patch", "leases", "l", false)
        );
        assert_eq!(
            parse(
                "POST",
                "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
            ),
            of("create", "selfsubjectaccessreviews", "", false)
        );
        assert_eq!(parse("GET", "/readyz"), of("get", "", "", false));
        assert_eq!(
            parse("DELETE", "/api/v1/namespaces/a/secrets"),
            of("deletecollection", "secrets", "", true)
        );
    }
}
