//! The SSH keys of machines.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};

use crate::api::names::MachineName;
use crate::api::nio::{Generation, Machine};
use crate::api::spec::ValidSpec;
use crate::controller::calls::CallError;
use crate::controller::views::Views;
use crate::plan::observed::{Observed, SshKeyView};
use crate::plan::selection;

/// SSH Secrets read at the same time.
const KEYS_AT_A_TIME: usize = 16;

/// Looks at the SSH keys of the machines that are members or may become members now, a few at a time.
pub(super) async fn ssh_keys(
    views: &Views<'_>,
    nio: Option<Generation>,
    observed: &mut Observed,
    spec: &ValidSpec,
    age: impl Fn(&MachineName) -> Duration,
) -> Result<(), CallError> {
    // A selector passes over a machine whose key is of no use: then the next one's is looked at.
    loop {
        let selection = selection::select(observed, spec);
        let machines: Vec<(MachineName, Arc<Machine>)> = selection
            .present()
            .filter(|(name, _)| !observed.ssh_keys.contains_key(*name))
            .filter_map(|(name, _)| Some((name.clone(), Arc::clone(observed.machines.get(name)?))))
            .collect();
        if machines.is_empty() {
            return Ok(());
        }
        let keys: Vec<(MachineName, SshKeyView)> = futures::stream::iter(machines)
            .map(|(name, machine)| (age(&name), name, machine))
            .map(|(age, name, machine)| async move {
                let given = spec.inject_ssh_key;
                let view = views.ssh_key(nio, &name, &machine, given, age).await?;
                Ok::<_, CallError>((name, view))
            })
            .buffered(KEYS_AT_A_TIME)
            .try_collect()
            .await?;
        observed.ssh_keys.extend(keys);
    }
}
