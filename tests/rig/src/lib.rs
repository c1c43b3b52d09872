//! The rig: everything around NICO that tests, sandbox and benchmarks need.

pub mod argo_cd;
pub mod control_plane;
pub mod crds;
pub mod deploy;
pub mod environment;
pub mod git;
pub mod go_build;
pub mod judge;
pub mod machines;
pub mod nio;
pub mod nix;
pub mod openssh;
pub mod pages;
pub mod pki;
pub mod process;
pub mod proxy;
pub mod scratch;
pub mod tools;
pub mod wait;
pub mod workload;
pub mod world;

use std::sync::LazyLock;

use tokio::runtime::{Builder, Runtime};

#[allow(
    clippy::expect_used,
    reason = "without threads there is nothing to test"
)]
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("rig")
        .enable_all()
        .build()
        .expect("the rig's own threads start")
});

/// The rig's own runtime for its servers. Each `#[tokio::test]` has a runtime that ends with it, but control planes, machines and the
/// simulated NIO are shared by all tests of a binary.
#[must_use]
pub fn runtime() -> &'static Runtime {
    &RUNTIME
}
