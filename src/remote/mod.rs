//! Machines over SSH, the kubeconfigs that lie on them, the API of workload clusters, and git servers. All of it is hostile input;
//! nothing here knows of reconciling.

mod answer;
pub mod deadlines;
pub mod git;
pub mod known_hosts;
pub mod kubeconfig;
pub mod offload;
pub mod secret;
pub mod ssh;
#[cfg(test)]
mod test_server;
mod tls;
pub mod workload;
