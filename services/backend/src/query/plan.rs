//! The plan of a query: its compiled text, and the runs that indexes propose for it.

mod ascending;
pub(crate) mod index;
mod index_reader;
mod param_counter;
mod probed_param;
pub(crate) mod query_text;
mod renewed_snapshot;

pub(crate) use {
    index::seconds,
    index_reader::{find_matches, propose_runs},
    query_text::{CompiledQuery, compile_query},
    renewed_snapshot::RenewedSnapshot,
};
