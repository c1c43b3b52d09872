//! The rules of leader election: when the Lease may be acquired, and what is written into it.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::ObjectMeta;
use serde_json::{Value, json};

use crate::controller::schedule::{LEASE_DURATION, LONGEST_LEASE_DURATION};

/// The Lease's name.
pub(super) const LEASE: &str = "nico-leader";
/// The duration of a Lease that its holder released, in seconds: the shortest that the API server takes. client-go writes the same.
const RELEASED_SECONDS: i32 = 1;

/// Whether `me` may write the Lease now, which it has seen unchanged for this long. `leads`: its own term has not ended.
///
/// A Lease that is missing or has no holder was deleted or edited by hand, unless it says that its holder released it: somebody may lead
/// until the end of a term. The one who leads may write it again at once.
pub(super) fn may_claim(lease: Option<&Lease>, me: &str, leads: bool, unchanged: Duration) -> bool {
    match lease.and_then(holder) {
        Some(holder) if holder == me => true,
        None if leads => true,
        _ => unchanged >= lease.map_or(LEASE_DURATION, duration),
    }
}

/// Who holds it.
pub(super) fn holder(lease: &Lease) -> Option<&str> {
    let holder = lease.spec.as_ref()?.holder_identity.as_deref();
    holder.filter(|holder| !holder.is_empty())
}

/// The duration of the Lease. Another version of NICO may use a longer one than this; a user may write anything.
fn duration(lease: &Lease) -> Duration {
    let spec = lease.spec.as_ref();
    let seconds = spec.and_then(|spec| spec.lease_duration_seconds);
    if holder(lease).is_none() && seconds == Some(RELEASED_SECONDS) {
        return Duration::ZERO;
    }
    let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok());
    Duration::from_secs(seconds.unwrap_or_default()).clamp(LEASE_DURATION, LONGEST_LEASE_DURATION)
}

/// The last seen spec of the Lease, `None` if there was no Lease, and since when it is unchanged.
#[derive(Debug, Default)]
pub(super) struct Seen(Option<(Option<LeaseSpec>, Instant)>);

impl Seen {
    /// How long the Lease has been unchanged. Metadata do not count: an annotation does not renew it.
    pub(super) fn unchanged(&mut self, lease: Option<&Lease>, now: Instant) -> Duration {
        let spec = lease.map(|lease| lease.spec.clone().unwrap_or_default());
        match &self.0 {
            Some((known, since)) if *known == spec => now.saturating_duration_since(*since),
            _ => {
                self.0 = Some((spec, now));
                Duration::ZERO
            }
        }
    }
}

/// The merge patch that acquires or renews the Lease.
pub(super) fn claim(before: Option<&Lease>, me: &str, now: Timestamp) -> Value {
    let now = json!(MicroTime(now));
    let seconds = LEASE_DURATION.as_secs();
    let mut spec =
        json!({"holderIdentity": me, "leaseDurationSeconds": seconds, "renewTime": now.clone()});
    if before.and_then(holder) != Some(me) {
        let transitions = before.and_then(|lease| lease.spec.as_ref()?.lease_transitions);
        spec["acquireTime"] = now;
        spec["leaseTransitions"] = transitions
            .map_or(0, |count| count.saturating_add(1))
            .into();
    }
    json!({ "spec": spec })
}

/// The merge patch that releases the Lease. It says that the holder has stopped, so that nobody has to wait.
pub(super) fn release() -> Value {
    json!({"spec": {"holderIdentity": null, "leaseDurationSeconds": RELEASED_SECONDS}})
}

/// The new Lease with the content of a claim.
pub(super) fn new_lease(claim: &Value) -> Lease {
    Lease {
        metadata: ObjectMeta {
            name: Some(LEASE.to_owned()),
            ..ObjectMeta::default()
        },
        spec: serde_json::from_value(claim["spec"].clone()).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::schedule::{
        HANDOVER_PATIENCE, LEASE_CALL_TIMEOUT, LEASE_RENEW_DEADLINE, LEASE_RENEW_PAUSE,
        LEASE_RETRY_PAUSE,
    };

    const SECOND: Duration = Duration::from_secs(1);

    fn lease(holder: &str, seconds: i32) -> Lease {
        let mut lease = new_lease(&claim(None, holder, Timestamp::UNIX_EPOCH));
        if let Some(spec) = &mut lease.spec {
            spec.lease_duration_seconds = Some(seconds);
        }
        lease
    }

    #[test]
    fn a_lease_is_taken_only_where_it_is_released_ones_own_or_expired() {
        let short = LEASE_DURATION.checked_sub(SECOND).unwrap_or_default();
        for (lease, unchanged, expected) in [
            (lease("me", 10), Duration::ZERO, true),
            (lease("other", 10), Duration::ZERO, false),
            (lease("other", 10), short, false),
            (lease("other", 10), LEASE_DURATION, true),
            // A shorter duration, or none, was written by hand. The holder still uses its own.
            (lease("other", 1), short, false),
            (lease("other", -7), short, false),
            (lease("other", 30), 29 * SECOND, false),
            (lease("other", 30), 30 * SECOND, true),
            // So was one of years. It must not block followers.
            (lease("other", i32::MAX), LONGEST_LEASE_DURATION, true),
        ] {
            assert_eq!(
                may_claim(Some(&lease), "me", false, unchanged),
                expected,
                "{lease:?}"
            );
        }
        let mut released = lease("other", 10);
        let patch = release();
        released.spec = serde_json::from_value(patch["spec"].clone()).ok();
        assert!(may_claim(Some(&released), "me", false, Duration::ZERO));
    }

    /// Its holder may not know it yet, and write until the end of its term.
    #[test]
    fn a_lease_that_somebody_deleted_or_cleared_is_free_only_for_the_one_who_leads() {
        let short = LEASE_DURATION.checked_sub(SECOND).unwrap_or_default();
        for lease in [None, Some(Lease::default()), Some(lease("", 10))] {
            let claims = |leads, unchanged| may_claim(lease.as_ref(), "me", leads, unchanged);
            assert!(claims(true, Duration::ZERO), "{lease:?}");
            assert!(!claims(false, short), "{lease:?}");
            assert!(claims(false, LEASE_DURATION), "{lease:?}");
        }
        assert!(!may_claim(Some(&lease("other", 10)), "me", true, short));
    }

    #[test]
    fn a_follower_counts_from_when_it_saw_the_last_change() {
        let start = Instant::now();
        let mut seen = Seen::default();
        let mut after = |lease: Option<&Lease>, seconds| {
            let now = start + seconds * SECOND;
            seen.unchanged(lease, now)
        };
        let mut lease = lease("other", 10);
        assert_eq!(after(Some(&lease), 5), Duration::ZERO);
        assert_eq!(after(Some(&lease), 12), 7 * SECOND);
        lease.metadata.resource_version = Some("9".to_owned());
        assert_eq!(after(Some(&lease), 13), 8 * SECOND, "nobody renewed it");
        // The renew time is an hour in the past or in the future. Only its change counts.
        for seconds in [-3600, 3600] {
            let renewed = Timestamp::from_second(seconds).unwrap_or_default();
            if let Some(spec) = &mut lease.spec {
                spec.renew_time = Some(MicroTime(renewed));
            }
            assert_eq!(after(Some(&lease), 14), Duration::ZERO);
        }
        assert_eq!(after(None, 15), Duration::ZERO);
        assert_eq!(after(None, 17), 2 * SECOND, "it is still missing");
        assert_eq!(after(Some(&Lease::default()), 18), Duration::ZERO);
        assert_eq!(after(Some(&lease), 19), Duration::ZERO);
    }

    #[test]
    fn a_claim_counts_transitions_and_a_renewal_does_not() {
        let now = Timestamp::UNIX_EPOCH;
        let first = claim(None, "a", now);
        assert_eq!(first["spec"]["leaseTransitions"], 0);
        let held = new_lease(&first);
        assert_eq!(
            claim(Some(&held), "b", now)["spec"],
            json!({"holderIdentity": "b", "leaseDurationSeconds": 10, "leaseTransitions": 1,
                "acquireTime": "1970-01-01T00:00:00.000000Z", "renewTime": "1970-01-01T00:00:00.000000Z"})
        );
        let renewal = claim(Some(&held), "a", now);
        assert!(renewal["spec"]["acquireTime"].is_null(), "{renewal}");
        assert!(renewal["spec"]["leaseTransitions"].is_null(), "{renewal}");
    }

    /// The durations must leave a second for the end of the process, even if a call takes its full timeout.
    #[test]
    fn a_leader_ends_before_the_lease_expires_and_a_follower_takes_over_in_time() {
        assert!(LEASE_RENEW_DEADLINE + 2 * SECOND < LEASE_DURATION);
        let one_failure = LEASE_RENEW_PAUSE + LEASE_CALL_TIMEOUT + LEASE_RETRY_PAUSE;
        assert!(one_failure < LEASE_RENEW_DEADLINE, "one failure is no loss");
        // After kill -9, a follower may notice the last renewal one read late, and the end of the duration too.
        let usual_call = SECOND;
        let longest = LEASE_DURATION + 2 * (LEASE_RETRY_PAUSE + usual_call);
        assert!(longest <= 15 * SECOND, "{longest:?}");
        // After SIGTERM, unless a write takes longer. The release is one call, and the next claim takes a read and a write.
        let quick_call = SECOND / 10;
        let handover = HANDOVER_PATIENCE + LEASE_RETRY_PAUSE + 3 * quick_call;
        assert!(handover <= 2 * SECOND, "{handover:?}");
    }
}
