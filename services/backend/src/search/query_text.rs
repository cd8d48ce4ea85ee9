//! Compilation of a request's query. It is checked completely before anything is streamed;
//! errors give their position in the text as sent, because that is the text its author sees.

use std::sync::Arc;

use matyan_proto::search::v1::{self as pb};
use matyan_ql::{Endpoint, Query, QueryError, QueryOptions, compile};

use super::text_position::TextPosition;
use crate::{
    Deps,
    error::{Error, Result},
};

/// A compiled query.
pub(crate) struct CompiledQuery {
    pub(crate) query: Arc<Query>,
    pub(crate) warnings: Vec<pb::Warning>,
    pub(crate) report_progress: bool,
}

pub(crate) fn compile_query(
    deps: &Deps,
    query: Option<pb::Query>,
    endpoint: Endpoint,
) -> Result<CompiledQuery> {
    compile_query_at((deps.clock)(), query, endpoint)
}

/// Compiles a query for which `now_us` is the current time.
pub(crate) fn compile_query_at(
    now_us: i64,
    query: Option<pb::Query>,
    endpoint: Endpoint,
) -> Result<CompiledQuery> {
    let pb::Query { text, timezone_offset_min, report_progress } = query.unwrap_or_default();
    let now = now_us as f64 / 1e6;
    let options = QueryOptions { endpoint, offset_minutes: timezone_offset_min, now };
    let query = compile(&text, options).map_err(|error| invalid_query(&text, error))?;
    let warnings = query.warnings().iter().map(|warning| {
        let TextPosition { line, column, end_column } = TextPosition::locate(&text, &warning.typed);
        pb::Warning {
            message: warning.message.clone(),
            line: Some(line),
            column: Some(column),
            end_column: Some(end_column),
        }
    });
    Ok(CompiledQuery { warnings: warnings.collect(), query: Arc::new(query), report_progress })
}

fn invalid_query(text: &str, error: QueryError) -> Error {
    Error::InvalidQuery { position: TextPosition::locate(text, &error.typed), error: Box::new(error) }
}
