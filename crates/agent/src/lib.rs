//! The side of Weir that touches the kernel: loads programs, owns maps, drains rings, applies
//! what was decided.

pub mod object;
pub mod programs;
pub mod sys;
pub mod trial;
