//! Every pause, limit and patience of the shell, in one table. Those of the planner stand in [`crate::plan::patience`].

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

/// Passes that the runtime's queue starts at the same time: as many as it can, since those of one namespace that wait would keep all
/// others out. Each waits in a task of its own, and to look whether a task has ended is cheap.
pub const STARTED_PASSES: u16 = u16::MAX;
/// Passes at work at the same time. One namespace gets at most 12 of them for work.
pub const CONCURRENT_PASSES: usize = 32;
/// Of these, how many are kept for clusters of which nobody has looked at the current generation.
pub const PASSES_KEPT_FOR_FIRST_LOOKS: usize = 8;
/// Events that arrive within this time become one pass.
pub const DEBOUNCE: Duration = Duration::from_millis(20);
/// How long one pass keeps its turn at most. One that takes longer, because the API server is slow, goes on beside others.
pub const LONGEST_TURN: Duration = Duration::from_secs(60);
/// Bounds one pass: it is ended after so many request timeouts, but never before [`SHORTEST_PASS_TIMEOUT`].
pub const PASS_TIMEOUT_IN_REQUESTS: u32 = 10;
/// See [`PASS_TIMEOUT_IN_REQUESTS`].
pub const SHORTEST_PASS_TIMEOUT: Duration = Duration::from_secs(60);

/// How long something that calls for a person stands in the status before an event tells it: objects that are applied together come
/// one after the other.
pub const MISTAKE_TOLD_AFTER: Duration = Duration::from_secs(5);
/// The same of what may pass by itself: a machine that is updated is away for as long.
pub const TROUBLE_TOLD_AFTER: Duration = Duration::from_secs(60);

/// Pause before a pass that looks whether the first lists have ended.
pub const LIST_CHECK_PAUSE: Duration = Duration::from_millis(250);
/// How long the first lists may take before the status says that they have not ended.
pub const LIST_PATIENCE: Duration = Duration::from_secs(30);
/// When a cluster is looked at again though nothing happens, in resyncs: at a time of its own in this range, so that clusters that
/// began together do not look together. What was read by name is remembered for the shortest of these.
pub const LOOK_IN_RESYNCS: Range<f64> = 0.75..1.0;
/// Lifetime of a watch after its first list, in resyncs. Each is drawn again, so that the watches do not list at the same time.
pub const WATCH_LIFE_IN_RESYNCS: Range<f64> = 1.0..2.0;
/// How often an absent NIO is looked for.
pub const NIO_CHECK_PAUSE: Duration = Duration::from_secs(1);
/// Lookups in a row that must miss NIO before it counts as uninstalled. A starting API server publishes its schemas late.
pub const NIO_MISSES: u8 = 3;

/// Pause after a pass that was outdated by another write, and the shortest pause between two passes.
pub const STALE_PAUSE: Duration = Duration::from_millis(50);
/// Stale passes in a row before the cluster object is read directly: its watch may be silent.
pub const STALE_PASSES_BEFORE_DIRECT_READ: u32 = 2;
/// Stale passes in a row before they count as failures.
pub const STALE_PASSES_BEFORE_BACKOFF: u32 = 5;
/// Failed passes in a row before the status reports why.
pub const FAILURES_BEFORE_REPORT: u32 = 3;
/// First and longest pause after a failed pass. It doubles with each failure.
pub const FAILURE_BACKOFF: RangeInclusive<Duration> =
    Duration::from_millis(250)..=Duration::from_secs(60);
/// Caps the failure count while consecutive errors differ (a pause of two seconds): the passes are making progress.
pub const FAILURES_WHILE_ERRORS_DIFFER: u32 = 4;
/// Changes of the status that nobody waits for are written together, at most this often.
pub const STATUS_BATCH: Duration = Duration::from_secs(5);
/// First and longest pause before a status is written again that another program has overwritten. It doubles each time.
pub const STATUS_CONTEST_BACKOFF: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(60);
/// How long nobody else must have overwritten the status before the pauses begin again.
pub const STATUS_CONTEST_MEMORY: Duration = Duration::from_secs(600);
/// How often the status must be overwritten before an event says so: a person who edits it once is no other program.
pub const STATUS_CONTESTS_BEFORE_EVENT: u32 = 3;

/// How old the answer to a read by name may be that counts as recent. People create and mend Secrets, and no watch reports it; NIO
/// applies without a Secret that is missing and reports success. Several writes in a row share one read.
pub const RECENT_READ_AGE: Duration = Duration::from_secs(5);
/// How long the kubeconfig is remembered through which a cluster is asked.
pub const KUBECONFIG_MEMORY: Duration = Duration::from_secs(30);
/// How old a probe of the cluster may be while a change depends on it.
pub const PROBE_AGE: Duration = Duration::from_secs(2);

/// Log-ins to machines at the same time, over all clusters. A dead machine takes a minute.
pub const CONCURRENT_LOGINS: usize = 64;
/// Of these, how many are kept for the first round of a search: those that failed before may be slow again.
pub const LOGINS_KEPT_FOR_FIRST_ROUNDS: usize = 32;
/// How long a pass waits for its turn to ask a cluster.
pub const ASK_PATIENCE: Duration = Duration::from_secs(10);
/// Clusters that are probed, or whose kubeconfig is verified, at the same time. Each may send a page of Nodes.
pub const CONCURRENT_PROBES: usize = 32;
/// Of these, how many are kept for clusters that answered the last time.
pub const PROBES_KEPT_FOR_THE_QUICK: usize = 16;

/// Git servers that are asked at the same time. One that hangs takes twenty seconds.
pub const CONCURRENT_RESOLUTIONS: usize = 16;
/// Of these, how many are kept for clusters whose server answered the last time.
pub const RESOLUTIONS_KEPT_FOR_THE_QUICK: usize = 8;
/// How long a git server is left alone: a minute, and not all clusters at the same time.
pub const RESOLVE_PAUSES: Range<Duration> = Duration::from_secs(50)..Duration::from_secs(70);

/// How long a search remembers a machine's private key and the pinned host keys. A person may mend them, and no watch tells.
pub const KEY_MEMORY: Duration = Duration::from_secs(5);
/// How long one search for a kubeconfig lasts before the planner names the machines again.
pub const SEARCH_TIMEOUT: Duration = Duration::from_secs(30);
/// First and longest pause before a machine is logged in to again that has no file yet, or whose API server does not answer.
pub const SEARCH_PAUSES: RangeInclusive<Duration> =
    Duration::from_millis(500)..=Duration::from_secs(10);
/// By what factor that pause grows with each connection. A machine so sees at most 20 connections in the first two minutes: `sshd` takes ten
/// at the same time that are not logged in yet (`MaxStartups`), and NIO and people log in there too.
pub const SEARCH_PAUSES_GROW: f64 = 1.5;
/// How long a port that is closed is tried with the first of these pauses, and then with the longest: no server sees that.
pub const SEARCH_EAGERNESS: Duration = Duration::from_secs(120);
/// First and longest pause after a key exchange or a log-in that failed, or a host key that was refused. It doubles each time. The first
/// is what one failed log-in costs an address with OpenSSH 9.8 (`PerSourcePenalties`).
pub const REFUSED_PAUSES: RangeInclusive<Duration> =
    Duration::from_secs(5)..=Duration::from_secs(300);

/// Objects on a page of a list. A page is decoded in one piece, and an object may be of 1.5 MB.
pub const PAGE: u32 = 50;
/// Objects on a page of metadata: of about 1 kB each, but a tenant may make them as long as whole objects.
pub const METADATA_PAGE: u32 = 250;
/// Machines on a page of their watch. They are small, and there may be ten thousand: fewer on a page would make many requests.
pub const MACHINES_PAGE: u32 = 200;

/// How long a Lease lasts that nobody renews: a follower takes over once it has seen it unchanged for so long.
pub const LEASE_DURATION: Duration = Duration::from_secs(10);
/// The longest duration that a follower believes of another one's Lease.
pub const LONGEST_LEASE_DURATION: Duration = Duration::from_secs(60);
/// How long after it sent its last renewal a leader stops writing.
pub const LEASE_RENEW_DEADLINE: Duration = Duration::from_secs(7);
/// How often a leader renews the Lease.
pub const LEASE_RENEW_PAUSE: Duration = Duration::from_secs(2);
/// How often a follower looks at the Lease, and a leader tries again after a failure.
pub const LEASE_RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Bounds each call for the Lease.
pub const LEASE_CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// How long giving the Lease up may hold up the end of the process.
pub const LEASE_RELEASE_TIMEOUT: Duration = Duration::from_secs(2);
