//! What comes from outside and may be hostile: specs, before the API server's check and NICO's own, and the kubeconfigs of machines.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod kubeconfig;
mod spec;
