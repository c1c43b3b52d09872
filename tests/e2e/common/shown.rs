//! What calls, statuses and cluster.nix show.

use rig::proxy::Call;
use rig::world::condition;
use serde_json::Value;

/// Whether the call succeeded.
pub(crate) fn took_effect(call: &Call) -> bool {
    call.code.is_some_and(|code| (200..300).contains(&code))
}

/// The row of a machine in a status.
pub(crate) fn row<'a>(status: &'a Value, machine: &str) -> &'a Value {
    let rows = status["machines"].as_array().into_iter().flatten();
    let mut found = rows.filter(|row| row["name"] == machine);
    found.next().unwrap_or(&Value::Null)
}

/// The machines that are in flight according to a status.
pub(crate) fn in_flight(status: &Value) -> Vec<String> {
    let rows = status["rollout"]["inFlight"]
        .as_array()
        .into_iter()
        .flatten();
    rows.filter_map(|row| row["machine"].as_str().map(str::to_owned))
        .collect()
}

/// Whether a status reports that this generation is Ready, and that no machine is in flight.
pub(crate) fn at_rest(status: &Value, generation: Option<i64>) -> bool {
    status["observedGeneration"].as_i64() == generation
        && condition(status, "Ready")["status"] == "True"
        && in_flight(status).is_empty()
}

/// The names in a list from cluster.nix.
pub(crate) fn names(list: &Value) -> Vec<&str> {
    let members = list.as_array().into_iter().flatten();
    members
        .filter_map(|member| member["name"].as_str())
        .collect()
}
