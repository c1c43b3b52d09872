//! Watches through the proxy: events can be held back or dropped, and a watch can be ended with 410.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use futures::stream::{self, Stream};
use http_body_util::BodyExt;
use hyper::body::{Bytes, Frame, Incoming};
use serde_json::Value;
use tokio::sync::watch;

/// Whether an event of a watch is dropped.
pub(super) type Drops = Arc<dyn Fn(&Value) -> bool + Send + Sync>;

/// The faults of watches, by resource (the plural).
#[derive(Clone, Default)]
pub(super) struct Rules {
    pub(super) held: Vec<String>,
    /// How often the watches of a resource were ended with 410.
    pub(super) ended: BTreeMap<String, u64>,
    pub(super) drops: Vec<(String, Drops)>,
}

/// The event for a watch whose resourceVersion is too old.
const GONE: &str = "{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\
    \"status\":\"Failure\",\"message\":\"too old resource version\",\"reason\":\"Expired\",\"code\":410}}\n";

struct Flow {
    body: Incoming,
    resource: String,
    rules: watch::Receiver<Rules>,
    ended: u64,
    buffer: Vec<u8>,
    over: bool,
}

/// The events of a watch, with these faults.
pub(super) fn events(
    body: Incoming,
    resource: String,
    rules: watch::Receiver<Rules>,
) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> {
    let ended = ended(&rules.borrow(), &resource);
    let flow = Flow {
        body,
        resource,
        rules,
        ended,
        buffer: Vec::new(),
        over: false,
    };
    stream::unfold(flow, |mut flow| async move {
        let bytes = flow.next().await?;
        Some((Ok(Frame::data(bytes)), flow))
    })
}

fn ended(rules: &Rules, resource: &str) -> u64 {
    rules.ended.get(resource).copied().unwrap_or_default()
}

impl Flow {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.over {
                return None;
            }
            if let Some(line) = self.line() {
                if self.wait_through_hold().await {
                    return Some(self.gone());
                }
                if !self.dropped(&line) {
                    return Some(line.into());
                }
                continue;
            }
            let (resource, mark) = (self.resource.clone(), self.ended);
            let frame = tokio::select! {
                frame = self.body.frame() => Some(frame),
                _ = self.rules.wait_for(|rules| ended(rules, &resource) > mark) => None,
            };
            match frame {
                None => return Some(self.gone()),
                Some(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                _ => self.over = true,
            }
        }
    }

    fn gone(&mut self) -> Bytes {
        self.over = true;
        Bytes::from_static(GONE.as_bytes())
    }

    /// Splits off one complete event, with its line ending.
    fn line(&mut self) -> Option<Vec<u8>> {
        let end = self.buffer.iter().position(|byte| *byte == b'\n')?;
        Some(self.buffer.drain(..=end).collect())
    }

    /// Waits while the resource is held back; returns whether the watch was ended meanwhile.
    async fn wait_through_hold(&mut self) -> bool {
        let (resource, mark) = (self.resource.clone(), self.ended);
        let free =
            |rules: &Rules| !rules.held.contains(&resource) || ended(rules, &resource) > mark;
        match self.rules.wait_for(free).await {
            Ok(rules) => ended(&rules, &resource) > mark,
            Err(_) => false,
        }
    }

    fn dropped(&self, line: &[u8]) -> bool {
        let rules = self.rules.borrow();
        let mut wanted = rules
            .drops
            .iter()
            .filter(|(resource, _)| *resource == self.resource)
            .peekable();
        if wanted.peek().is_none() {
            return false;
        }
        let event = serde_json::from_slice(line).unwrap_or(Value::Null);
        wanted.any(|(_, drops)| drops(&event))
    }
}
