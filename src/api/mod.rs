#![doc = include_str!("README.md")]

pub mod cluster;
pub mod cluster_nix;
pub mod conditions;
pub mod digest;
mod errors;
pub mod files;
pub mod files_hash;
pub mod form;
pub mod host;
pub mod kubeconfig;
pub mod ledger;
pub mod metadata;
pub mod names;
pub mod nio;
pub mod parsed;
mod read;
pub mod rules;
mod schema;
pub mod spec;
pub mod status;
pub mod text;
pub mod validate;
pub mod workload;
