//! The kubeconfig, and the host keys of the machines from which it is read.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde_json::json;
use tracing::info;
use zeroize::Zeroize as _;

use super::{ActError, Executor};
use crate::api::kubeconfig::{KUBECONFIG_KEY, KUBECONFIG_LABEL, KUBECONFIG_TYPE, VALUE_KEY};
use crate::api::names::{
    DIGEST_ANNOTATION, ENDPOINT_ANNOTATION, MachineName, PORT_ANNOTATION, STORED_ANNOTATION,
    known_hosts_name, kubeconfig_name,
};
use crate::controller::background::{FetchSource, FetchSpec, MeetSpec, Pins};
use crate::controller::calls::{self, CallError};
use crate::controller::clock;
use crate::controller::events::Happening;
use crate::plan::action::KubeconfigWork;
use crate::plan::observed::{KnownHostsView, SshKeyView};
use crate::plan::writes::{Precondition, Wanted};
use crate::remote::known_hosts::{
    KNOWN_HOSTS_KEY, KnownHosts, Policy, own_line, with_added, without_former,
};
use crate::remote::offload::ANSWERS;

/// The user if a Machine names none: NIO v1's default.
const DEFAULT_USER: &str = "root";

impl Executor<'_> {
    pub(super) async fn kubeconfig(&self, work: &KubeconfigWork) -> Result<(), ActError> {
        match work {
            KubeconfigWork::Fetch(machines, wanted) => self.fetch(machines, *wanted),
            KubeconfigWork::Meet => {
                self.meet();
                Ok(())
            }
            KubeconfigWork::PinHostKey => self.pin_host_key().await,
            KubeconfigWork::Store(version) => self.store_kubeconfig(version.as_ref()).await,
            KubeconfigWork::Verify => {
                self.context.background.start_verify(&self.observed.cluster);
                Ok(())
            }
            KubeconfigWork::Drop => {
                let uid = &self.observed.cluster.uid;
                self.context.background.discard(uid);
                Ok(())
            }
        }
    }

    fn fetch(&self, machines: &[MachineName], wanted: Wanted) -> Result<(), ActError> {
        let cluster = &self.observed.cluster;
        let spec = self
            .observed
            .spec
            .as_ref()
            .map_err(|_| ActError::Lost("the spec is not valid"))?;
        let sources = machines.iter().filter_map(|name| {
            let machine = self.observed.machines.get(name)?;
            let Some(SshKeyView::Usable { secret, .. }) = self.observed.ssh_keys.get(name) else {
                return None;
            };
            Some(FetchSource {
                machine: name.clone(),
                host: machine.address()?.to_owned(),
                user: machine
                    .spec
                    .ssh_user
                    .clone()
                    .unwrap_or_else(|| DEFAULT_USER.to_owned()),
                key: secret.clone(),
            })
        });
        let spec = FetchSpec {
            pins: self.pins(),
            sources: sources.collect(),
            ssh_port: self.context.settings.ssh_port,
            path: spec.kubeconfig_path.clone(),
            endpoint: spec.endpoint.clone(),
            wanted,
        };
        self.context.background.start_fetch(cluster, spec);
        Ok(())
    }

    fn meet(&self) {
        let spec = MeetSpec {
            pins: self.pins(),
            hosts: self.observed.control_plane_hosts(),
            ssh_port: self.context.settings.ssh_port,
        };
        let cluster = &self.observed.cluster;
        self.context.background.start_meet(cluster, spec);
    }

    fn pins(&self) -> Pins {
        let cluster = &self.observed.cluster;
        Pins {
            namespace: cluster.namespace.clone(),
            cluster: cluster.name.clone(),
            uid: cluster.uid.clone(),
        }
    }

    async fn pin_host_key(&self) -> Result<(), ActError> {
        let cluster = &self.observed.cluster;
        let lines = self.context.background.host_key_lines(&cluster.uid);
        let lines = lines.ok_or(ActError::Lost("the host keys are no longer known"))?;
        let added = |text: String| {
            let lines = lines.iter().map(|line| own_line(line));
            lines.fold(text, |text, line| with_added(&text, &line))
        };
        let name = known_hosts_name(&cluster.name);
        let api = self.api::<ConfigMap>();
        // If there was no ConfigMap, the POST fails if there is one now.
        let current = match self.observed.known_hosts {
            KnownHostsView::Absent => None,
            _ => calls::get_opt(&api, &name).await?,
        };
        let written = match current {
            None if lines.is_empty() => {
                self.pinned();
                return Ok(());
            }
            None => {
                let map = ConfigMap {
                    metadata: self.child_meta(&name, false)?,
                    data: Some(BTreeMap::from([(
                        KNOWN_HOSTS_KEY.to_owned(),
                        added(String::new()),
                    )])),
                    ..ConfigMap::default()
                };
                calls::create(&api, &map).await
            }
            Some(map) if !self.controls(&map) => {
                self.context.background.discard_pins(&cluster.uid);
                return Err(ActError::Lost("the known hosts are no longer NICO's"));
            }
            Some(map) => {
                let text = map
                    .data
                    .as_ref()
                    .and_then(|data| data.get(KNOWN_HOSTS_KEY))
                    .map_or("", String::as_str);
                let all_stay = || text.to_owned();
                let hosts = self.observed.control_plane_hosts().all;
                let port = self.context.settings.ssh_port;
                let kept = hosts.map_or_else(all_stay, |hosts| without_former(text, &hosts, port));
                let are_pinned = {
                    let is_new = |line: &&String| {
                        let own = own_line(line);
                        !kept.lines().any(|known| known == own)
                    };
                    let lines: Vec<String> = lines.iter().filter(is_new).cloned().collect();
                    let text = kept.clone();
                    let length = text.len();
                    ANSWERS.run(length, move || {
                        let known = KnownHosts::parse("", &text, Policy::TrustOnFirstUse);
                        lines.iter().any(|line| known.pins_host_of(line))
                    })
                };
                if are_pinned.await {
                    self.context.background.discard_pins(&cluster.uid);
                    return Err(ActError::Lost("another key of that host is pinned"));
                }
                let new = added(kept);
                if new == text {
                    self.pinned();
                    return Ok(());
                }
                let version = Precondition::of(&map.metadata);
                let body = json!({"data": {KNOWN_HOSTS_KEY: new}});
                calls::patch(&api, &name, &version, body).await
            }
        };
        self.forget(&name);
        if written.as_ref().is_err_and(CallError::is_stale) {
            // Another process pinned a key meanwhile. What was read under other pins is not used.
            self.context.background.discard_pins(&cluster.uid);
        }
        self.context.named.saw_map(written?);
        self.pinned();
        Ok(())
    }

    /// Notes that the host keys are pinned. A fetch that this stops starts again in the next pass.
    fn pinned(&self) {
        self.context
            .background
            .note_pinned(&self.observed.cluster.uid);
        self.context.wake(self.cluster_ref());
    }

    /// Stores the fetched kubeconfig: in this version of the Secret, or in a new Secret if `version` is `None`.
    async fn store_kubeconfig(&self, version: Option<&Precondition>) -> Result<(), ActError> {
        let cluster = &self.observed.cluster;
        let fetched = self
            .context
            .background
            .fetched(&cluster.uid)
            .ok_or(ActError::Lost("the kubeconfig is no longer in memory"))?;
        let name = kubeconfig_name(&cluster.name);
        let mut metadata = self.child_meta(&name, false)?;
        if let Some(labels) = &mut metadata.labels {
            labels.insert(KUBECONFIG_LABEL.to_owned(), cluster.name.clone());
        }
        let (bytes, digest) = (fetched.kubeconfig.expose().as_bytes(), fetched.digest());
        let spec = self.observed.spec.as_ref().ok();
        let endpoint = spec.and_then(|spec| spec.endpoint.as_ref());
        metadata.annotations = Some(BTreeMap::from([
            (DIGEST_ANNOTATION.to_owned(), digest.clone()),
            (
                ENDPOINT_ANNOTATION.to_owned(),
                endpoint.map(ToString::to_string).unwrap_or_default(),
            ),
            (
                PORT_ANNOTATION.to_owned(),
                fetched
                    .port
                    .map_or_else(String::new, |port| port.to_string()),
            ),
            (STORED_ANNOTATION.to_owned(), clock::now().to_string()),
        ]));
        let value = || ByteString(bytes.to_vec());
        let mut secret = Secret {
            metadata,
            type_: Some(KUBECONFIG_TYPE.to_owned()),
            data: Some(BTreeMap::from([
                (VALUE_KEY.to_owned(), value()),
                (KUBECONFIG_KEY.to_owned(), value()),
            ])),
            ..Secret::default()
        };
        let api = self.api::<Secret>();
        let written = match version {
            None => calls::create(&api, &secret).await,
            Some(version) => {
                let own = &secret.metadata;
                let metadata = json!({"labels": own.labels, "annotations": own.annotations});
                let body = json!({"metadata": metadata, "data": secret.data});
                calls::patch(&api, &name, version, body).await
            }
        };
        for value in secret.data.iter_mut().flatten() {
            value.1.0.zeroize();
        }
        self.forget(&name);
        self.context.named.saw_secret(written?);
        self.context.background.note_stored(&cluster.uid, &digest);
        info!(from = fetched.origin, "kubeconfig stored");
        self.emit(&match version {
            None => Happening::KubeconfigStored(fetched.origin.clone()),
            Some(_) => Happening::KubeconfigRenewed(fetched.origin.clone()),
        });
        self.context.wake(self.cluster_ref());
        Ok(())
    }
}
