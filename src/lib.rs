//! NICO turns NixOS machines managed by NIO into Kubernetes clusters.

pub mod api;
pub mod cli;
pub mod controller;
pub mod plan;
pub mod remote;
