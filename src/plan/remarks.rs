//! Problems that the user should correct although the cluster works: they are reported beside `Ready`, and in the machine's row.

use crate::api::conditions::{Cause, ConditionType, Reason};

use jiff::Timestamp;

use super::known::Known;
use super::observed::{NodeView, elapsed};
use super::output::Output;
use super::patience::NODE_HELD_AFTER;

/// Reports machines that have more than one Node, and Nodes whose deletion a finalizer blocks.
pub fn remarks(known: &Known<'_>) -> Output {
    let mut output = Output::default();
    if !known.asks() {
        return output;
    }
    let nodes = known.observed.workload.nodes().into_iter();
    for node in nodes.flat_map(|nodes| nodes.iter()) {
        if let Some(held) = stuck_deletion(node, known.now) {
            let message = format!("Node {} is being deleted, and {held}", node.name);
            output.wait(ConditionType::Ready, Reason::NodeLeftOver, message);
        }
    }
    for member in known.observed.members() {
        if let [judged, others @ ..] = known.observed.nodes_of(&member.name).as_slice()
            && !others.is_empty()
        {
            let message = format!(
                "Machine {} has more than one Node, as after a change of its host name: Node {} counts, so {}",
                member.name,
                judged.name,
                what_of(others)
            );
            let cause = Cause::new(Reason::DuplicateNode, message);
            output.wait_for(member.name, ConditionType::Ready, cause);
        }
    }
    output
}

/// The message about a Node whose deletion is blocked for so long that the controller of its finalizer may be gone.
#[must_use]
pub fn stuck_deletion(node: &NodeView, now: Timestamp) -> Option<String> {
    let since = node.deleting_since?;
    let is_stuck = node.deleting && elapsed(since, now) >= NODE_HELD_AFTER;
    let (what, hold) = match node.finalizers.as_slice() {
        [] => return None,
        [one] => (format!("finalizer {one}"), "holds"),
        several => (format!("finalizers {}", several.join(", ")), "hold"),
    };
    is_stuck.then(|| {
        format!(
            "{what} {hold} it since {since}: if the controller that set it is gone, run kubectl patch node {} --type=merge --patch='{{\"metadata\":{{\"finalizers\":null}}}}' in that cluster",
            node.name
        )
    })
}

fn what_of(others: &[&NodeView]) -> String {
    let names = |ready| {
        let others = others.iter().filter(move |node| node.ready == ready);
        let names: Vec<&str> = others.map(|node| node.name.as_str()).collect();
        (!names.is_empty()).then(|| names.join(" "))
    };
    let gone = names(false).map(|names| format!("run kubectl delete node {names}"));
    let alive = names(true).map(|names| {
        format!("find out who runs {names}, which is Ready at the same address, and delete it or correct the address of the Machine")
    });
    let advice: Vec<String> = gone.into_iter().chain(alive).collect();
    advice.join(", and ")
}
