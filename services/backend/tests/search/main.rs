//! Tests of searches through the generated client, each over runs in an embedded store of its
//! own.

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
