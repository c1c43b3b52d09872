//! A message of something that does not end by itself names a way out.

use nico::api::conditions::Attention;
use nico::api::status::ClusterStatus;

use super::must;

/// What messages ask of a person, and where they send a person to look.
const WAYS_OUT: [&str; 28] = [
    "add", "annotate", "bring", "check", "choose", "copy", "correct", "create", "delete", "fix",
    "free", "give", "install", "label", "lower", "move", "name", "remove", "rename", "repair",
    "restore", "rotate", "run", "see", "set", "take", "wait", "must",
];

/// The condition whose message has none, if any.
pub fn name_a_way_out(status: &ClusterStatus) -> Result<(), String> {
    for condition in &status.conditions {
        let is_amiss = match condition.kind.as_str() {
            "Stalled" | "RollingOut" | "Reconciling" => condition.status == "True",
            _ => condition.status == "False",
        };
        // The tests make up what is said of kubeconfigs and of keys.
        let is_made_up = [
            "KubeconfigUnsafe",
            "HostKeyChanged",
            "HostKeyUnknown",
            "SSHKeyMissing",
            "SSHKeyUnusable",
        ];
        let calls = Attention::of(&condition.reason) == Attention::Yes
            && !is_made_up.contains(&condition.reason.as_str());
        let mut words = condition.message.split(|c: char| !c.is_alphabetic());
        must(
            !is_amiss || !calls || words.any(|word| WAYS_OUT.contains(&word)),
            &format!(
                "L4: the message of {} names a way out: {}",
                condition.reason, condition.message
            ),
        )?;
    }
    Ok(())
}
