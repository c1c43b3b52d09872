//! Machines over SSH, their kubeconfig files, the API of workload clusters, and git servers. None of them is trusted. Nothing here knows
//! about reconciling.

mod answer;
pub mod deadlines;
pub mod gate;
pub mod git;
pub mod known_hosts;
pub mod kubeconfig;
pub mod lock;
pub mod offload;
pub mod secret;
pub mod ssh;
#[cfg(test)]
mod test_server;
mod tls;
pub mod workload;
