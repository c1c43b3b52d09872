//! All pauses, limits and timeouts of the shell. Those of the planner are in [`crate::plan::patience`].

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

/// Most passes that the runtime's queue starts at the same time: as many as it allows. With fewer, waiting passes of one namespace could
/// block all others. Each waits in its own task, which is cheap.
pub const STARTED_PASSES: u16 = u16::MAX;
/// Passes that work at the same time. Outside of the reserved ones, one namespace gets at most 12 of them.
pub const CONCURRENT_PASSES: usize = 32;
/// How many of these are reserved for clusters whose current generation was not yet observed.
pub const PASSES_KEPT_FOR_FIRST_LOOKS: usize = 8;
/// Events that arrive within this time become one pass.
pub const DEBOUNCE: Duration = Duration::from_millis(20);
/// How long a pass may keep its turn. A pass that takes longer, because the API server is slow, continues beside others.
pub const LONGEST_TURN: Duration = Duration::from_secs(60);
/// Timeout of a pass, in request timeouts. It is at least [`SHORTEST_PASS_TIMEOUT`].
pub const PASS_TIMEOUT_IN_REQUESTS: u32 = 10;
/// See [`PASS_TIMEOUT_IN_REQUESTS`].
pub const SHORTEST_PASS_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a mistake is in the status before a Warning event reports it. Objects that are applied together arrive one after the other, so
/// a missing one may follow at once.
pub const MISTAKE_TOLD_AFTER: Duration = Duration::from_secs(5);
/// The same for trouble that may pass by itself: a machine that is updated may be away for this long.
pub const TROUBLE_TOLD_AFTER: Duration = Duration::from_secs(60);
/// How long the status waits for the event that tells of it.
pub const EVENT_GOES_FIRST_FOR: Duration = Duration::from_secs(2);

/// Pause before a pass that checks again whether the first lists are complete.
pub const LIST_CHECK_PAUSE: Duration = Duration::from_millis(250);
/// How long the first lists may take before the status reports that they are not complete.
pub const LIST_PATIENCE: Duration = Duration::from_secs(30);
/// When a pass begins without an event, in resyncs. Each cluster has its own time in this range, so that passes that began together do not
/// repeat together. Reads by name are remembered for the shortest time of the range.
pub const LOOK_IN_RESYNCS: Range<f64> = 0.75..1.0;
/// Lifetime of a watch after its first list, in resyncs. Each lifetime is chosen at random, so that the watches do not list at the same
/// time.
pub const WATCH_LIFE_IN_RESYNCS: Range<f64> = 1.0..2.0;
/// How often NIO is looked up while none is installed.
pub const NIO_CHECK_PAUSE: Duration = Duration::from_secs(1);
/// How often the process looks whether NIO's definitions have changed, whatever `--resync` is. An unchanged document is not sent again.
pub const DEFINITIONS_CHECK_PAUSE: Duration = Duration::from_secs(10);
/// Lookups in a row that must miss NIO before it counts as uninstalled. A starting API server publishes its schemas late.
pub const NIO_MISSES: u8 = 3;

/// Pause after a pass that failed since another write made it stale, and the shortest pause between two passes.
pub const STALE_PAUSE: Duration = Duration::from_millis(50);
/// Stale passes in a row before the cluster object is read directly: its watch may be silent.
pub const STALE_PASSES_BEFORE_DIRECT_READ: u32 = 2;
/// Stale passes in a row before they count as failures.
pub const STALE_PASSES_BEFORE_BACKOFF: u32 = 5;
/// Failed passes in a row before the status reports why.
pub const FAILURES_BEFORE_REPORT: u32 = 3;
/// First and longest pause after a failed pass. The pause doubles with each failure.
pub const FAILURE_BACKOFF: RangeInclusive<Duration> =
    Duration::from_millis(250)..=Duration::from_secs(60);
/// Caps the failure count while consecutive errors differ (a pause of two seconds): the passes are making progress.
pub const FAILURES_WHILE_ERRORS_DIFFER: u32 = 4;
/// Changes of the status that are not urgent are batched, and written at most this often.
pub const STATUS_BATCH: Duration = Duration::from_secs(5);
/// First and longest pause before writing a status again that another program has overwritten. The pause doubles each time.
pub const STATUS_CONTEST_BACKOFF: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(60);
/// After this time without overwriting, the pauses start again from the first.
pub const STATUS_CONTEST_MEMORY: Duration = Duration::from_secs(600);
/// How often the status must be overwritten before an event reports it. A user who edits it once is not reported.
pub const STATUS_CONTESTS_BEFORE_EVENT: u32 = 3;

/// Maximum age of a read by name that counts as recent. It is short, since users create and fix Secrets, which are not watched, and since
/// NIO applies without a missing Secret and reports success. It is long enough for several writes in a row to share one read.
pub const RECENT_READ_AGE: Duration = Duration::from_secs(5);
/// How long the kubeconfig for probes of a cluster is remembered.
pub const KUBECONFIG_MEMORY: Duration = Duration::from_secs(30);
/// Maximum age of a probe while a change depends on it.
pub const PROBE_AGE: Duration = Duration::from_secs(2);

/// Log-ins to machines at the same time, over all clusters. One to a dead machine takes a minute.
pub const CONCURRENT_LOGINS: usize = 64;
/// How many of these are reserved for the first round of a search: machines that failed before may be slow again.
pub const LOGINS_KEPT_FOR_FIRST_ROUNDS: usize = 32;
/// How long a pass waits for its turn to probe a cluster.
pub const ASK_PATIENCE: Duration = Duration::from_secs(10);
/// Clusters that are probed, or whose kubeconfig is verified, at the same time. Each needs memory for a page of Nodes.
pub const CONCURRENT_PROBES: usize = 32;
/// How many of these are reserved for clusters that answered the last time.
pub const PROBES_KEPT_FOR_THE_QUICK: usize = 16;

/// Refs that are resolved at the same time. A git server that hangs takes twenty seconds.
pub const CONCURRENT_RESOLUTIONS: usize = 16;
/// How many of these are reserved for clusters whose git server answered the last time.
pub const RESOLUTIONS_KEPT_FOR_THE_QUICK: usize = 8;
/// Pause between two resolutions: about a minute, spread so that not all clusters ask at the same time.
pub const RESOLVE_PAUSES: Range<Duration> = Duration::from_secs(50)..Duration::from_secs(70);

/// How long a search remembers a machine's private key and the pinned host keys. Users may fix them, and they are not watched.
pub const KEY_MEMORY: Duration = Duration::from_secs(5);
/// Shortest pause before machines are met again since their pins are gone. Something may remove each pin as soon as it is made.
pub const UNPINNED_PAUSE: Duration = Duration::from_secs(10);
/// How long one search for a kubeconfig lasts before the planner names the machines again.
pub const SEARCH_TIMEOUT: Duration = Duration::from_secs(30);
/// First and longest pause before another log-in to a machine that has no file yet, or whose API server does not answer.
pub const SEARCH_PAUSES: RangeInclusive<Duration> =
    Duration::from_millis(500)..=Duration::from_secs(10);
/// Growth of that pause with each connection. With it, a machine sees at most 20 connections in the first two minutes. `sshd` accepts ten
/// unauthenticated connections at the same time (`MaxStartups`), and NIO and users log in too.
pub const SEARCH_PAUSES_GROW: f64 = 1.5;
/// How long a closed port is tried with the first of these pauses. After that, the longest is used. No server sees these attempts.
pub const SEARCH_EAGERNESS: Duration = Duration::from_secs(120);
/// First and longest pause after a failed key exchange or log-in, or a refused host key. The pause doubles each time. The first is the
/// penalty of an address for one failed log-in in OpenSSH 9.8 (`PerSourcePenalties`).
pub const REFUSED_PAUSES: RangeInclusive<Duration> =
    Duration::from_secs(5)..=Duration::from_secs(300);

/// Objects on a page of a list. A page is decoded in one piece, and an object may have 1.5 MB.
pub const PAGE: u32 = 50;
/// Objects on a page of metadata. Usually each has about 1 kB, but a tenant can make metadata as long as whole objects.
pub const METADATA_PAGE: u32 = 250;
/// Machines on a page of the watch's list. They are small, and there may be ten thousand: smaller pages would need many requests.
pub const MACHINES_PAGE: u32 = 200;

/// Duration of the Lease: a follower takes over once it has seen the Lease unchanged for this long.
pub const LEASE_DURATION: Duration = Duration::from_secs(10);
/// The longest duration that a follower accepts from another process's Lease.
pub const LONGEST_LEASE_DURATION: Duration = Duration::from_secs(60);
/// A leader stops writing this long after it sent its last renewal.
pub const LEASE_RENEW_DEADLINE: Duration = Duration::from_secs(7);
/// How often a leader renews the Lease.
pub const LEASE_RENEW_PAUSE: Duration = Duration::from_secs(2);
/// How often a follower reads the Lease, and a leader retries after a failure.
pub const LEASE_RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Timeout of each call for the Lease.
pub const LEASE_CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// How long passes may go on once the process was told to stop. Then those end that still wait for a machine, a cluster or an answer.
pub const HANDOVER_PATIENCE: Duration = Duration::from_millis(500);
/// How long releasing the Lease may delay the end of the process.
pub const LEASE_RELEASE_TIMEOUT: Duration = Duration::from_secs(2);
