//! What Weir is told to do, as checked data. Pure: no files, sockets, clocks or randomness.

pub mod filter;
pub mod gateway;
pub mod secret;
