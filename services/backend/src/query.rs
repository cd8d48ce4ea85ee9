//! Queries: which runs match, in which order, and what clients get of them.
//!
//! From the bottom up: `params` merges the params of a project, `plan` compiles a query and reads the
//! indexes, `candidates` reads and evaluates the runs that the indexes propose, `row_stream` sends the
//! matches to a client, `table` keeps the sort values of a project in memory, `catalog` holds what
//! all queries share, and `search` and `export` are the services.

pub(crate) mod candidates;
pub(crate) mod catalog;
pub(crate) mod export;
pub(crate) mod params;
pub(crate) mod plan;
pub(crate) mod row_stream;
pub(crate) mod search;
pub(crate) mod table;
