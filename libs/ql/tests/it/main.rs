//! Tests of the query language through its public functions.

#![cfg(test)]

mod indexes;
mod memory;

mod contract;
mod document;
mod hostile;
mod plans;
mod python;
mod vectors;
