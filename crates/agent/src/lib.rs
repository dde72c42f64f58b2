//! The side of Weir that touches the kernel: loads programs, owns maps, drains rings, applies
//! what was decided.

pub mod broker;
pub mod doctor;
pub mod error;
pub mod instance;
pub mod interface;
pub mod kernel;
pub mod live;
pub mod load;
pub mod maps;
pub mod object;
pub mod programs;
pub mod ring;
pub mod sys;
pub mod trial;
pub mod worker;

pub use error::AgentError;
