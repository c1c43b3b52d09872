//! What a person should put right though it takes nothing from the cluster: it is told beside `Ready`, and in the machine's row.

use crate::api::conditions::{Cause, ConditionType, Reason};

use super::known::Known;
use super::observed::NodeView;
use super::output::Output;

/// Tells of machines that have more than one Node.
pub fn remarks(known: &Known<'_>) -> Output {
    let mut output = Output::default();
    if !known.asks() {
        return output;
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
