//! The commands, one module each. Data goes to stdout, words to stderr; exit code 0 is done, 1 a
//! problem found, 2 wrong usage or input.

pub(crate) mod capture;
pub(crate) mod config;
pub(crate) mod doctor;
mod flow_story;
pub(crate) mod flows;
pub(crate) mod gateway;
pub(crate) mod help;
pub(crate) mod programs;
pub(crate) mod read;
mod rotate;
pub(crate) mod text;
pub(crate) mod watch;

/// Exit code for wrong usage or input.
pub(crate) const EXIT_USAGE: u8 = 2;
