//! Budgets over a real file.

mod common;
mod faults;
mod laws;
mod limits;
