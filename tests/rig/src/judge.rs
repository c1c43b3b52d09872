//! Checks the writes that NICO made through the proxy against invariants that their sequence shows. It knows only the objects' wire format,
//! and uses none of NICO's code.

pub mod rollout;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::proxy::Call;

/// The invariants that the writes violated, as sentences. `writes` must be those of all NICO processes that worked in the namespace, merged
/// by time.
#[must_use]
pub fn broken_rules(writes: &[Call]) -> Vec<String> {
    let mut judge = Judge::default();
    for call in writes {
        judge.look(call);
    }
    judge.broken
}

#[derive(Default)]
struct Judge {
    broken: Vec<String>,
    /// Clusters that are founded according to their ledger.
    founded: BTreeSet<String>,
    /// Token Secrets that exist.
    tokens: BTreeSet<String>,
    /// All markers of a configuration since its creation, by its name.
    markers: BTreeMap<String, BTreeSet<String>>,
}

impl Judge {
    fn say(&mut self, rule: &str, call: &Call, why: &str) {
        self.broken.push(format!("{rule}: {why}: {}", call.line()));
    }

    fn look(&mut self, call: &Call) {
        if call.code == Some(403) && !call.faulted {
            self.say("I12", call, "a request outside the shipped rights");
        }
        // Refused writes change nothing. A deletion without an answer may have been carried out.
        let may_be_done = call.verb == "delete" && call.code.is_none();
        if !may_be_done && !call.code.is_some_and(|code| (200..300).contains(&code)) {
            return;
        }
        match call.resource.as_str() {
            "machines" => self.say("I2", call, "a Machine was written"),
            "configmaps" => self.ledger(call),
            "secrets" => self.secret(call),
            "nixosconfigurations" => self.configuration(call),
            _ => {}
        }
    }

    fn ledger(&mut self, call: &Call) {
        let Some(cluster) = call.object_name().strip_suffix("-nico") else {
            return;
        };
        if call.verb == "delete" {
            self.founded.remove(cluster);
        } else if data(call)["founded"] == "true" {
            self.founded.insert(cluster.to_owned());
        }
    }

    fn secret(&mut self, call: &Call) {
        let name = call.object_name().to_owned();
        if !name.ends_with("-join-token") && !name.ends_with("-worker-token") {
            return;
        }
        match call.verb.as_str() {
            "create" if !self.tokens.insert(name.clone()) => {
                self.say("I5", call, "a token was made twice");
            }
            "delete" => drop(self.tokens.remove(&name)),
            "patch" | "update" if writes_data(call) => {
                self.say("I5", call, "a token was changed");
            }
            _ => {}
        }
    }

    fn configuration(&mut self, call: &Call) {
        let name = call.object_name().to_owned();
        if !call.subresource.is_empty() {
            self.say("I2", call, "the status of a configuration is NIO's");
        }
        if call.verb == "delete" {
            self.markers.remove(&name);
            return;
        }
        let spec = call
            .body
            .as_ref()
            .map_or(&Value::Null, |body| &body["spec"]);
        if call.verb == "create" && spec["machineRef"]["name"].as_str() != Some(&name) {
            self.say("I1", call, "a configuration is not named after its machine");
        }
        let Some(files) = spec["additionalFiles"].as_array() else {
            return;
        };
        let marker = files
            .last()
            .and_then(|file| file["path"].as_str())
            .unwrap_or_default();
        if rollout::reading::marker(marker).is_none() {
            self.say("I15", call, "the last file is no marker");
        }
        if !self
            .markers
            .entry(name.clone())
            .or_default()
            .insert(marker.to_owned())
        {
            self.say("I15", call, "a marker was used again");
        }
        self.cluster_nix(call, &name, files);
    }

    fn cluster_nix(&mut self, call: &Call, machine: &str, files: &[Value]) {
        let inline = files
            .iter()
            .find(|file| rollout::reading::is_cluster_nix(file));
        let text = inline
            .and_then(|file| file["inline"].as_str())
            .unwrap_or_default();
        let cluster = match crate::nix::parse(text) {
            Ok(cluster) => cluster,
            Err(error) => return self.say("cluster.nix", call, &error.to_string()),
        };
        let founded = cluster["name"]
            .as_str()
            .is_some_and(|name| self.founded.contains(name));
        if founded && cluster["bootstrap"] == machine {
            self.say(
                "I14",
                call,
                "a founded cluster's machine is told to found it",
            );
        }
        let listed = ["controlPlane", "workers"]
            .iter()
            .flat_map(|role| cluster[*role].as_array().into_iter().flatten())
            .filter(|member| member["name"] == machine)
            .count();
        if listed != 1 {
            self.say(
                "cluster.nix",
                call,
                "a machine is not listed once in its own cluster",
            );
        }
    }
}

fn data(call: &Call) -> &Value {
    call.body
        .as_ref()
        .map_or(&Value::Null, |body| &body["data"])
}

fn writes_data(call: &Call) -> bool {
    let body = call.body.as_ref();
    body.is_some_and(|body| !body["data"].is_null() || !body["stringData"].is_null())
}

#[cfg(test)]
mod tests {
    use super::broken_rules;
    use crate::proxy::Call;
    use serde_json::{Value, json};

    fn call(method: &str, path: &str, body: Value) -> Call {
        let mut call = Call::parse(method, &format!("/apis/g/v1/namespaces/ns/{path}"), "");
        call.body = Some(body);
        call.code = Some(200);
        call
    }

    fn configuration(machine: &str, bootstrap: Option<&str>, marker: &str) -> Value {
        let text = crate::nix::text(
            &json!({"name": "prod", "bootstrap": bootstrap, "controlPlane": [{"name": machine}], "workers": []}),
        );
        json!({"metadata": {"name": machine}, "spec": {"machineRef": {"name": machine}, "additionalFiles": [
            {"path": "cluster.nix", "valueType": "Inline", "inline": text}, {"path": marker, "valueType": "Inline"}]}})
    }

    #[test]
    fn a_bring_up_is_fine() {
        let writes = [
            call(
                "POST",
                "configmaps",
                json!({"metadata": {"name": "prod-nico"}, "data": {"founded": "false"}}),
            ),
            call(
                "POST",
                "secrets",
                json!({"metadata": {"name": "prod-join-token"}, "data": {"token": "eA=="}}),
            ),
            call(
                "POST",
                "nixosconfigurations",
                configuration("a", Some("a"), ".nico/1"),
            ),
            call(
                "PATCH",
                "configmaps/prod-nico",
                json!({"data": {"founded": "true"}}),
            ),
            call(
                "POST",
                "nixosconfigurations",
                configuration("b", None, ".nico/1"),
            ),
        ];
        assert_eq!(broken_rules(&writes), Vec::<String>::new());
    }

    #[test]
    fn what_is_broken_is_named() {
        let token = || {
            call(
                "POST",
                "secrets",
                json!({"metadata": {"name": "prod-join-token"}}),
            )
        };
        let one = |writes: &[Call], rule: &str| {
            let broken = broken_rules(writes);
            assert!(
                broken.len() == 1 && broken[0].starts_with(rule),
                "{rule}: {broken:?}"
            );
        };
        one(&[call("PATCH", "machines/a", json!({}))], "I2");
        one(&[token(), token()], "I5");
        let made = || {
            call(
                "POST",
                "nixosconfigurations",
                configuration("a", Some("a"), ".nico/1"),
            )
        };
        one(
            &[
                made(),
                call(
                    "PATCH",
                    "nixosconfigurations/a",
                    configuration("a", Some("a"), ".nico/1"),
                ),
            ],
            "I15",
        );
        let founded = call(
            "PATCH",
            "configmaps/prod-nico",
            json!({"data": {"founded": "true"}}),
        );
        one(&[founded, made()], "I14");
        let mut refused = made();
        refused.code = Some(403);
        one(&[refused], "I12");
    }
}
