//! The catalog: the state that queries are answered from, in addition to the store.

use std::sync::Arc;

use super::{params::ParamsCache, table::RunTables};
use crate::server::{Server, deps::Deps};

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Catalog {
    pub(crate) deps: Arc<Deps>,
    /// The merged params of projects.
    pub(crate) params: ParamsCache,
    /// The sort values of runs.
    pub(crate) tables: RunTables,
}

impl Catalog {
    /// `table_bytes` limits the memory of all tables.
    pub(crate) fn new(server: &Server, table_bytes: usize) -> Self {
        let used = server.deps.metrics.table_bytes.clone();
        Self {
            deps: server.deps.clone(),
            params: ParamsCache::new(server.clone()),
            tables: RunTables::new(server.streams.clone(), table_bytes, used),
        }
    }
}
