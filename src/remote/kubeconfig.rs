//! The admin kubeconfig: fetched from a control plane machine, built again from what is harmless in it, and tried.
//! What a machine sends is hostile input: nothing of it gets into an error, a log or a Secret unchecked.

mod cause;
pub mod facts;
pub mod fetch;
pub mod member;
mod pem_text;
pub mod rebuild;
pub mod refusal;
mod server;
pub mod verify;
mod yaml;
