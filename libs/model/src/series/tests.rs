//! Tests of series as a whole: whatever is written, folded, half folded, or read, the points
//! must equal those in a map.

mod folding;
mod harness;
mod histories;
mod reading;
