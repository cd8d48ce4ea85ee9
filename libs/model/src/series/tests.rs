//! Tests of series as a whole: after any sequence of writes, folds, and partial folds, the points
//! must equal the points in a map.

mod folding;
mod harness;
mod histories;
mod reading;
