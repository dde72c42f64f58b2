//! Layer 7: what the bytes of a flow say.
//!
//! Payloads go in packet by packet, in the order they were seen; records come out, and what is known of
//! the flow stays in its [`Insight`]. Each flow has a [`Conn`]; what all flows share (limits, names seen
//! in DNS, endpoints announced by other flows, counters) is the [`Engine`].
//!
//! A flow goes through three states. *Probing*: the first bytes of each direction are shown to every
//! [`Protocol`], until one is sure of them. *Following*: a [`Session`] of that protocol gets the bytes in
//! order. *Over*: nothing more is looked at, and a packet costs one branch.
//!
//! Ports never decide what a flow is: they break ties between protocols that are not sure.

pub mod conn;
pub mod cursor;
pub mod engine;
pub mod hello;
pub mod insight;
pub mod ja3;
pub mod ja4;
pub mod kit;
pub mod names;
pub mod proto;
pub mod protocol;
pub mod reader;
pub mod record;
pub mod segment;
pub mod stream;

pub use conn::Conn;
pub use engine::{Config, Counters, Engine};
pub use insight::Insight;
pub use protocol::{Earlier, Out, Protocol, Seen, Session, Side, Step, Sure, Transport, Verdict};
pub use reader::Reader;
pub use record::{Event, Record};
pub use segment::Segment;
