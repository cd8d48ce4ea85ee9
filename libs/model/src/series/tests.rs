//! The whole of it against a map: whatever is written, folded, left half folded or read, the points are those of the map.

mod folding;
mod harness;
mod histories;
mod reading;
