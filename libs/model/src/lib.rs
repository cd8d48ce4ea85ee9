//! Data model: how runs, params, series, entities, and indexes are stored. This is the only
//! crate that knows the key layout. It deliberately does no I/O: every function reads a
//! `Snapshot` or fills a `Batch`.

pub mod ids;
pub mod keys;

mod rows;

pub mod position;

pub mod params;
pub mod run;

pub mod artifact;
pub mod logs;
pub mod metric;
pub mod object;

pub mod entity;
pub mod project;

pub mod parked;
pub mod producer;

pub mod index;

pub mod change;
pub mod events;
pub mod lock;

#[cfg(test)]
mod testing;

pub mod series;
