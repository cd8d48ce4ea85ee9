//! What the bytes mean: runs, params, series, entities, indexes. The only crate that knows a key.
//! Deliberately absent: any I/O of its own. Everything here reads a `Snapshot` or fills a `Batch`.

pub mod ids;
pub mod keys;

mod rows;

pub mod value;

pub mod cbor;
pub mod context;
pub mod json;

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
