//! Two processes: a small one that keeps its privileges and touches the kernel, and one without
//! any that reads untrusted bytes. They talk over a socket pair, in typed requests.
//!
//! The worker can ask for exactly what [`protocol::Request`] names. It reads maps through
//! read-only descriptors of its own, so most of its work asks nobody.

mod client;
mod drop;
pub mod protocol;
mod server;
mod sockets;

pub use client::Client;
pub use drop::{DropError, NOBODY, drop_privileges};
pub use server::{Broker, Databases, ServeEnd, sampling_packet};
