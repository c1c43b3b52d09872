//! What was used: CPU and memory of processes from `/proc`, and requests from the API server's own metrics.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use kube::Client;
use rig::process::Nico;

use crate::Failure;

/// Of Linux's `/proc/<pid>/stat`.
const TICKS_A_SECOND: f64 = 100.0;
/// The requests of service accounts, which only NICO and the bare client are; administrators are exempt.
const BY_FLOW: &str = "apiserver_flowcontrol_dispatched_requests_total{";
const FLOW: &str = "flow_schema=\"service-accounts\"";
/// All requests, by verb and resource.
const BY_KIND: &str = "apiserver_request_total{";

/// What was used from one moment to another.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usage {
    /// Time between the two.
    pub(crate) wall: Duration,
    /// CPU of the API server, in seconds.
    pub(crate) api_server: f64,
    /// CPU of NICO, in seconds.
    pub(crate) nico: f64,
    /// Requests of NICO, or of the bare client.
    pub(crate) requests: f64,
    /// Requests of everybody, as `VERB resource`.
    pub(crate) kinds: BTreeMap<String, f64>,
}

impl Usage {
    /// Writes of everybody.
    pub(crate) fn writes(&self) -> f64 {
        let writes = |kind: &str| {
            ["POST ", "PUT ", "PATCH ", "DELETE "]
                .iter()
                .any(|verb| kind.starts_with(verb))
        };
        let writes = self
            .kinds
            .iter()
            .filter(|(kind, _)| writes(kind) && !kind.ends_with(" leases"));
        writes.fold(0.0, |sum, (_, count)| sum + count)
    }
}

/// The counters at the beginning.
pub(crate) struct Meter {
    at: Instant,
    api_server: (u32, f64),
    nico: f64,
    requests: f64,
    kinds: BTreeMap<String, f64>,
}

impl Meter {
    /// Begins to count. What the reading costs is not counted.
    pub(crate) async fn start(
        client: &Client,
        api_server: u32,
        nico: Option<&Nico>,
    ) -> Result<Self, Failure> {
        let (requests, kinds) = requests(client).await?;
        Ok(Self {
            at: Instant::now(),
            api_server: (api_server, cpu(api_server)),
            nico: nico.map_or(0.0, |nico| cpu(nico.pid())),
            requests,
            kinds,
        })
    }

    /// Ends counting.
    pub(crate) async fn stop(
        &self,
        client: &Client,
        nico: Option<&Nico>,
    ) -> Result<Usage, Failure> {
        let (wall, api_server) = (
            self.at.elapsed(),
            cpu(self.api_server.0) - self.api_server.1,
        );
        let used = nico.map_or(0.0, |nico| cpu(nico.pid())) - self.nico;
        let (requests, mut kinds) = requests(client).await?;
        for (kind, count) in &mut kinds {
            *count -= self.kinds.get(kind).copied().unwrap_or_default();
        }
        kinds.retain(|_, count| *count > 0.0);
        Ok(Usage {
            wall,
            api_server,
            nico: used,
            requests: requests - self.requests,
            kinds,
        })
    }
}

/// The requests so far of NICO and the bare client, and those of everybody by kind.
async fn requests(client: &Client) -> Result<(f64, BTreeMap<String, f64>), Failure> {
    let request = hyper::Request::get("/metrics").body(Vec::new())?;
    let text = client.request_text(request).await?;
    let mut kinds = BTreeMap::new();
    for (labels, value) in lines(&text, BY_KIND) {
        let of = |name| label(labels, name).unwrap_or_default();
        let mut kind = format!("{} {}", of("verb"), of("resource"));
        if !of("subresource").is_empty() {
            kind = format!("{kind}/{}", of("subresource"));
        }
        // Nothing of the cluster's own housekeeping.
        if !of("resource").is_empty() && of("verb") != "WATCH" {
            *kinds.entry(kind).or_default() += value;
        }
    }
    let ours = lines(&text, BY_FLOW).filter(|(labels, _)| labels.contains(FLOW));
    Ok((ours.map(|(_, value)| value).sum(), kinds))
}

/// The samples of a metric: labels and value.
fn lines<'a>(text: &'a str, metric: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
    text.lines().filter_map(move |line| {
        let (labels, value) = line.strip_prefix(metric)?.rsplit_once("} ")?;
        Some((labels, value.parse().ok()?))
    })
}

/// The value of a label.
fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    labels.split(',').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        (key == name).then(|| value.trim_matches('"'))
    })
}

/// CPU of a process so far, user and system, in seconds; that of a process that has ended is zero.
fn cpu(pid: u32) -> f64 {
    let read = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The program's name, in parentheses, may hold spaces.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
        let user: f64 = fields.next()?.parse().ok()?;
        let system: f64 = fields.next()?.parse().ok()?;
        Some((user + system) / TICKS_A_SECOND)
    };
    read().unwrap_or_default()
}

/// Resident memory of NICO in MB: now, and at the most since [`forget_peak`].
#[allow(clippy::cast_precision_loss, reason = "no memory is near 2^52 bytes")]
pub(crate) fn memory(nico: &Nico) -> (f64, f64) {
    let megabytes = |bytes: Option<u64>| bytes.unwrap_or_default() as f64 / 1e6;
    (
        megabytes(nico.rss_bytes()),
        megabytes(nico.peak_rss_bytes()),
    )
}

/// Lets the peak of NICO's memory begin again.
pub(crate) fn forget_peak(nico: &Nico) {
    let _ = fs::write(format!("/proc/{}/clear_refs", nico.pid()), "5");
}
