//! The program from outside: its command line, its definition, its manifests, its pages and its sandbox.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod cli;
mod crd;
mod deploy;
mod gitops;
mod install;
mod json_log;
mod monitoring;
mod nix;
mod operating;
mod panels;
mod readme;
mod sandbox;
mod ten_steps;
mod users;
