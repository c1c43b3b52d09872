//! Machines over SSH, the kubeconfigs that lie on them, and the API of workload clusters. All of it is hostile input; nothing here
//! knows of reconciling.

mod answer;
pub mod deadlines;
pub mod known_hosts;
pub mod kubeconfig;
pub mod offload;
pub mod secret;
pub mod ssh;
pub mod workload;
