//! The admin kubeconfig: fetched from a control plane machine, rebuilt from its harmless parts, and verified. What a machine sends is not
//! trusted: none of it gets into an error, a log or a Secret unchecked.

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
