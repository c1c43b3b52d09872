//! The ledger, by compare-and-swap.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::json;

use super::{ActError, Executor};
use crate::api::ledger::Ledger;
use crate::api::names::ledger_name;
use crate::controller::calls;
use crate::plan::observed::LedgerView;
use crate::plan::writes::Precondition;

impl Executor<'_> {
    /// The caller sees to it that it does not stay behind: [`Self::unless_gone`].
    pub(super) async fn create_ledger(&mut self, ledger: &Ledger) -> Result<(), ActError> {
        let name = ledger_name(&self.observed.cluster.name);
        let map = ConfigMap {
            metadata: self.child_meta(&name, true)?,
            data: Some(ledger.to_data()),
            ..ConfigMap::default()
        };
        self.forget(&name);
        let created = calls::create(&self.api(), &map).await?;
        self.rest_on(created);
        Ok(())
    }

    /// Notes the version that this executor wrote, on which its following actions are based.
    fn rest_on(&mut self, ledger: ConfigMap) {
        self.ledger = Some(Precondition::of(&ledger.metadata));
        self.context.named.saw_map(ledger);
    }

    /// Fails if the ledger was written since it was read: another operator may have begun another founding.
    pub(super) async fn ledger_stands(&self) -> Result<(), ActError> {
        if self.ledger.is_none() {
            return Err(ActError::Lost(
                "the ConfigMap with NICO's lock was not read",
            ));
        }
        self.ledger_is_unchanged().await
    }

    /// The same, but a ledger that did not exist may still not exist.
    pub(super) async fn ledger_is_unchanged(&self) -> Result<(), ActError> {
        let name = ledger_name(&self.observed.cluster.name);
        let found = calls::get_opt(&self.api::<ConfigMap>(), &name)
            .await?
            .map(|map| Precondition::of(&map.metadata));
        if found != self.ledger || self.is_too_old() {
            self.forget(&name);
            return Err(ActError::Lost(
                "the ConfigMap with NICO's lock changed since the plan was made",
            ));
        }
        Ok(())
    }

    pub(super) async fn update_ledger(
        &mut self,
        version: &Precondition,
        ledger: &Ledger,
    ) -> Result<(), ActError> {
        let name = ledger_name(&self.observed.cluster.name);
        let mut data: BTreeMap<String, Option<String>> = ledger
            .to_data()
            .into_iter()
            .map(|(key, value)| (key, Some(value)))
            .collect();
        if let LedgerView::Ours(_, old) = &self.observed.ledger {
            for key in old.to_data().into_keys() {
                data.entry(key).or_insert(None);
            }
        }
        self.forget(&name);
        let api = self.api::<ConfigMap>();
        let patched = calls::patch(&api, &name, version, json!({ "data": data })).await?;
        self.rest_on(patched);
        Ok(())
    }
}
