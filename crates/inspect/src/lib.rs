//! inspect

pub mod capfile;
