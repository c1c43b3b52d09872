#![doc = include_str!("README.md")]

pub mod api;
pub mod cli;
pub mod controller;
pub mod plan;
pub mod remote;
