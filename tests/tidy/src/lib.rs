//! Reads this repository's own source so that tests can check how it is written.
//!
//! Everything here works on text and syntax trees; nothing is compiled or run. The checks are in `tests/`.

pub mod circles;
pub mod documents;
pub mod imports;
pub mod rules;
pub mod source;
