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

/// The next step after reading the Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// There is no Lease: create it.
    Create,
    /// The Lease is free, held by this process, or expired: write it.
    Take,
    /// Another process holds it.
    Follow,
}

/// The next step of `me`, which has seen the Lease unchanged for this long.
pub(super) fn step(lease: Option<&Lease>, me: &str, unchanged: Duration) -> Step {
    let Some(lease) = lease else {
        return Step::Create;
    };
    match holder(lease) {
        None => Step::Take,
        Some(holder) if holder == me => Step::Take,
        Some(_) if unchanged >= duration(lease) => Step::Take,
        Some(_) => Step::Follow,
    }
}

/// Who holds it.
pub(super) fn holder(lease: &Lease) -> Option<&str> {
    let holder = lease.spec.as_ref()?.holder_identity.as_deref();
    holder.filter(|holder| !holder.is_empty())
}

/// The duration of the Lease. Another version of NICO may use a longer one than this; a user may write anything.
fn duration(lease: &Lease) -> Duration {
    let seconds = lease
        .spec
        .as_ref()
        .and_then(|spec| spec.lease_duration_seconds);
    let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok());
    Duration::from_secs(seconds.unwrap_or_default()).clamp(LEASE_DURATION, LONGEST_LEASE_DURATION)
}

/// The last seen spec of the Lease, and since when it is unchanged.
#[derive(Debug, Default)]
pub(super) struct Seen(Option<(LeaseSpec, Instant)>);

impl Seen {
    /// How long the Lease has been unchanged. Metadata do not count: an annotation does not renew it.
    pub(super) fn unchanged(&mut self, lease: Option<&Lease>, now: Instant) -> Duration {
        let spec = lease.and_then(|lease| lease.spec.clone());
        match (&self.0, spec) {
            (Some((known, since)), Some(spec)) if *known == spec => {
                now.saturating_duration_since(*since)
            }
            (_, spec) => {
                self.0 = spec.map(|spec| (spec, now));
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
        LEASE_CALL_TIMEOUT, LEASE_RENEW_DEADLINE, LEASE_RENEW_PAUSE, LEASE_RETRY_PAUSE,
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
    fn a_lease_is_taken_only_where_it_is_free_ones_own_or_expired() {
        let short = LEASE_DURATION.checked_sub(SECOND).unwrap_or_default();
        assert_eq!(step(None, "me", Duration::ZERO), Step::Create);
        for (lease, unchanged, expected) in [
            (lease("", 10), Duration::ZERO, Step::Take),
            (Lease::default(), Duration::ZERO, Step::Take),
            (lease("me", 10), Duration::ZERO, Step::Take),
            (lease("other", 10), Duration::ZERO, Step::Follow),
            (lease("other", 10), short, Step::Follow),
            (lease("other", 10), LEASE_DURATION, Step::Take),
            // A shorter duration, or none, was written by hand. The holder still uses its own.
            (lease("other", 1), short, Step::Follow),
            (lease("other", -7), short, Step::Follow),
            (lease("other", 30), 29 * SECOND, Step::Follow),
            (lease("other", 30), 30 * SECOND, Step::Take),
            // So was one of years. It must not block followers.
            (lease("other", i32::MAX), LONGEST_LEASE_DURATION, Step::Take),
        ] {
            assert_eq!(step(Some(&lease), "me", unchanged), expected, "{lease:?}");
        }
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
        assert_eq!(after(Some(&lease), 16), Duration::ZERO);
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
        // After SIGTERM, once the Lease is released.
        assert!(LEASE_RETRY_PAUSE + usual_call <= 2 * SECOND);
    }
}
