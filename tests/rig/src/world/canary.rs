//! Searches for secret bytes where there must be none (I7).

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use serde_json::Value;

use super::World;

impl World {
    /// Every secret text of the namespace, as `<secret>/<key>` and a text that must not appear anywhere: the value, its base64, and the
    /// secret parts of keys and kubeconfigs.
    pub async fn canaries(&self) -> Vec<(String, String)> {
        let secrets = self.secrets().list(&ListParams::default()).await;
        let mut found = Vec::new();
        for secret in secrets.map(|list| list.items).unwrap_or_default() {
            for (key, value) in secret.data.clone().unwrap_or_default() {
                let name = format!("{}/{key}", secret.name_any());
                let encoded = serde_json::to_value(&value).unwrap_or_default();
                let mut needles = secret_parts(&value);
                needles.extend(encoded.as_str().map(str::to_owned));
                found.extend(
                    needles
                        .into_iter()
                        .filter(|needle| needle.len() >= 16)
                        .map(|needle| (name.clone(), needle)),
                );
            }
        }
        found
    }

    /// The secrets of the namespace that `text` contains.
    pub async fn leaks(&self, text: &str) -> Vec<String> {
        let canaries = self.canaries().await;
        let mut leaks: Vec<String> = canaries
            .into_iter()
            .filter(|(_, needle)| text.contains(needle))
            .map(|(name, _)| name)
            .collect();
        leaks.dedup();
        leaks
    }

    /// Everything in the namespace that is not secret: clusters, configurations, machines, `ConfigMap`s and events, as JSON.
    pub async fn public_text(&self) -> String {
        let all = ListParams::default();
        let mut text = String::new();
        for api in [self.clusters(), self.configurations(), self.machines()] {
            text += &api
                .list(&all)
                .await
                .map(|list| json_of(&list.items))
                .unwrap_or_default();
        }
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        text += &maps
            .list(&all)
            .await
            .map(|list| json_of(&list.items))
            .unwrap_or_default();
        let events: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        text += &events
            .list(&all)
            .await
            .map(|list| json_of(&list.items))
            .unwrap_or_default();
        text
    }
}

fn json_of(items: &impl serde::Serialize) -> String {
    serde_json::to_string(items).unwrap_or_default()
}

/// The secret parts of a value: each line of a key, the credentials of a kubeconfig (its CA and server are public), else all.
fn secret_parts(value: &ByteString) -> Vec<String> {
    let text = String::from_utf8_lossy(&value.0).into_owned();
    if text.starts_with("-----BEGIN") {
        let lines = text.lines().filter(|line| !line.starts_with("-----"));
        return lines.map(str::to_owned).collect();
    }
    let config: Value = serde_yaml::from_str(&text).unwrap_or_default();
    let Some(users) = config["users"].as_array() else {
        return vec![text];
    };
    users
        .iter()
        .flat_map(|user| ["client-key-data", "token"].map(|field| &user["user"][field]))
        .filter_map(|secret| secret.as_str().map(str::to_owned))
        .collect()
}
