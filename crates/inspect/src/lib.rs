//! What is made of packets: capture files, the flow table, flow records and their formats.
//!
//! Pure: bytes, time stamps and random words come from the caller; there are no files, clocks or
//! sockets here. Offline and live give the same record: [`table`] fills a [`wire::FlowRow`] from a
//! capture, the kernel programs fill one from live traffic, and [`record::FlowRecord`] is made of
//! either.

pub mod capfile;
pub mod community_id;
pub mod defrag;
pub mod eve;
pub mod facts;
pub mod geo;
pub mod json;
pub mod layer7;
pub mod names;
pub mod record;
pub mod services;
pub mod signature;
pub mod syn_fingerprint;
pub mod table;
pub mod time;
