//! Keeps a status far below the limit of etcd (1.5 MiB), for any number of machines and any messages.

use serde::Serialize;

use crate::api::status::ClusterStatus;
use crate::api::text::{shown, shown_in};

/// Most bytes of a status as JSON.
const MOST_BYTES: usize = 512 * 1024;

/// Cuts the texts of the rows. If they are too long together, each gets the same share of the space, and if the names alone fill that, the
/// commits are left out.
pub(super) fn fit(mut status: ClusterStatus) -> ClusterStatus {
    for text in texts(&mut status) {
        *text = shown(text);
    }
    let whole = bytes(&status);
    if whole <= MOST_BYTES {
        return status;
    }
    let (count, bytes_of_texts) = texts(&mut status)
        .fold((0, 0), |(count, bytes_of_texts), text| {
            (count + 1, bytes_of_texts + bytes(text))
        });
    let room = MOST_BYTES.saturating_sub(whole - bytes_of_texts);
    // As JSON, a text may be twice as long.
    let share = room / (2 * count.max(1));
    for text in texts(&mut status) {
        *text = shown_in(text, share);
    }
    if bytes(&status) > MOST_BYTES {
        for row in &mut status.machines {
            row.commit = None;
        }
    }
    status
}

/// Every text whose length another party determines.
fn texts(status: &mut ClusterStatus) -> impl Iterator<Item = &mut String> {
    let flights = status.rollout.iter_mut().flat_map(|it| &mut it.in_flight);
    let rows = status.machines.iter_mut().map(|row| &mut row.message);
    rows.chain(flights.map(|flight| &mut flight.waiting_for))
}

fn bytes(part: &impl Serialize) -> usize {
    serde_json::to_string(part).map_or(0, |json| json.len())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::api::conditions::ConditionType;
    use crate::api::status::{
        ClusterCondition, InFlightRow, MachineRow, MachineState, Role, RoleStatus, RolloutStatus,
    };

    /// A cluster of 99 and 1000 machines with the longest names and messages.
    fn largest(text: &str) -> ClusterStatus {
        let name = |n: usize| format!("{n:a>63}");
        let ready = |machines| RoleStatus {
            ready_machines: (0..machines).map(name).collect(),
            ..RoleStatus::default()
        };
        let row = |n| MachineRow {
            name: name(n),
            role: Role::ControlPlane,
            state: MachineState::Unavailable,
            reason: "ProgressDeadlineExceeded".to_owned(),
            message: text.to_owned(),
            commit: Some("0".repeat(64)),
            since: Some(Timestamp::MAX),
        };
        let flight = |n| InFlightRow {
            machine: name(n),
            role: Role::Worker,
            since: Some(Timestamp::MAX),
            waiting_for: text.to_owned(),
        };
        let condition = |kind: ConditionType| ClusterCondition {
            kind: kind.to_string(),
            status: "Unknown".to_owned(),
            observed_generation: Some(i64::MAX),
            last_transition_time: Some(Timestamp::MAX),
            reason: "ProgressDeadlineExceeded".to_owned(),
            message: shown(text),
        };
        ClusterStatus {
            control_plane: Some(ready(99)),
            data_plane: Some(ready(1000)),
            rollout: Some(RolloutStatus {
                in_flight: (0..1000).map(flight).collect(),
            }),
            machines: (0..1099).map(row).collect(),
            conditions: ConditionType::ALL.map(condition).into(),
            ..ClusterStatus::default()
        }
    }

    #[test]
    fn the_largest_status_is_small_enough() {
        for text in [
            "",
            "waits",
            &"\u{1b}".repeat(3000),
            &"\"\\".repeat(3000),
            &"\u{1f980}".repeat(3000),
        ] {
            let largest = largest(text);
            let whole = bytes(&largest);
            let fitted = bytes(&fit(largest));
            println!("{whole} bytes become {fitted}");
            assert!(fitted <= MOST_BYTES, "{fitted}");
        }
    }

    #[test]
    fn what_is_said_of_few_machines_stays_whole() {
        let mut status = largest(&"x".repeat(1000));
        status.machines.truncate(10);
        status.rollout = None;
        assert_eq!(fit(status.clone()), status);
    }
}
