//! Laws of the parser and of flow rows, over generated input and over the seeds of the fuzz target.

mod invariants;
mod properties;
mod seeds;
