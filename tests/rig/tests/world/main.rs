//! The rig judged by itself: NIO's stand-in, machines, the workload and the proxy together on a real API server, with the test in
//! the place of NICO.

#![allow(clippy::expect_used, clippy::panic, missing_docs)]

mod machines;
mod nio;
mod proxy;
mod v1;

use std::time::Duration;

/// Longer than anything takes that goes well.
const SOON: Duration = Duration::from_secs(10);
