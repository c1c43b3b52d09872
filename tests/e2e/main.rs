//! The whole program on a real API server, with the shipped rights. All stories run side by side in one process, on one control
//! plane, each in a namespace of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

mod bringup;
mod crash;
mod deletion;
mod faults;
mod figures;
mod gitops;
mod kubeconfig_works;
mod leader;
mod leaving;
mod races;
mod restored;
mod rights;
mod rolling;
mod rollout_faults;
mod secrets;
mod stolen_token;
