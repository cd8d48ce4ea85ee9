//! The workers: ingestion (log to store), control (events to blobs), and the jobs that keep the store in shape.
//! Deliberately absent: any API. What a worker did is seen in the store, and in its metrics.

mod deps;
mod record;

mod apply;

pub use deps::{Clock, Deps, Random};
