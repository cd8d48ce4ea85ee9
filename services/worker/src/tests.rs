//! Tests of the workers on the embedded store, log and blobs: the recorded messages, and each rule by its scenario.

mod harness;
mod read;

mod control;
mod ingest;
mod rules;
mod vectors;
