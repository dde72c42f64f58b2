//! Budgets over a real file.

mod common;
mod faults;
mod limits;
