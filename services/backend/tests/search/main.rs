//! Searching, through the generated client, over runs in an embedded store of each test's own.

#![cfg(test)]

mod naive;
mod world;

mod align;
mod large;
mod paging;
mod random;
mod short;
mod streaming;
mod vectors;
