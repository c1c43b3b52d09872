//! The SSH keys of machines, and their mirrors.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};

use crate::api::names::{MachineName, mirrored_machine};
use crate::api::nio::{Generation, Machine};
use crate::api::spec::ValidSpec;
use crate::controller::calls::CallError;
use crate::controller::views::Views;
use crate::plan::desired::key_secret;
use crate::plan::observed::{MirrorView, Observed, SshKeyView};
use crate::plan::selection;

/// SSH Secrets read at the same time.
const KEYS_AT_A_TIME: usize = 16;

/// Looks at the SSH keys of the machines that are members or may become members now, a few at a time.
pub(super) async fn ssh_keys(
    views: &Views<'_>,
    nio: Option<Generation>,
    observed: &mut Observed,
    spec: &ValidSpec,
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
        let keys: Vec<(MachineName, SshKeyView, Option<MirrorView>)> =
            futures::stream::iter(machines)
                .map(|(name, machine)| async move {
                    let (view, mirror) = views
                        .ssh_key(nio, &name, &machine, spec.inject_ssh_key)
                        .await?;
                    Ok::<_, CallError>((name, view, mirror))
                })
                .buffered(KEYS_AT_A_TIME)
                .try_collect()
                .await?;
        for (name, view, mirror) in keys {
            observed
                .mirrors
                .extend(mirror.map(|mirror| (name.clone(), mirror)));
            observed.ssh_keys.insert(name, view);
        }
    }
}

/// Looks at the mirrors that the ledger names or a configuration refers to, and that no machine's key was looked at for.
pub(super) async fn left_mirrors(
    views: &Views<'_>,
    observed: &mut Observed,
) -> Result<(), CallError> {
    let named = observed.ledger.ours().into_iter().flat_map(|ledger| {
        let names = ledger.mirrors.iter();
        names.filter_map(|name| mirrored_machine(name))
    });
    let referred = observed
        .owned()
        .filter_map(|(_, held)| mirrored_machine(key_secret(held)?));
    let mut machines: BTreeSet<MachineName> = named.chain(referred).collect();
    machines.retain(|machine| !observed.mirrors.contains_key(machine));
    for machine in machines {
        let mirror = views.mirror(&machine, None).await?;
        let mirror = mirror.unwrap_or(MirrorView::Absent);
        observed.mirrors.insert(machine, mirror);
    }
    Ok(())
}
