//! Reads this repository's own source so that tests can check how it is written and `make metrics` can measure it.
//!
//! Everything here works on text and syntax trees; nothing is compiled or run. The checks are in `tests/`, the table in
//! `src/bin/metrics.rs`, and the lists of rejected words in `words/`.

pub mod documents;
pub mod imports;
pub mod items;
pub mod lexer;
pub mod prose;
pub mod source;
pub mod words;
