//! Compilation of a request's query. It is checked completely before anything is streamed;
//! errors give their position in the text as sent, because that is the text its author sees.

use std::sync::Arc;

use matyan_proto::search::v1::{self as pb};
use matyan_ql::{Endpoint, Plan, Query, QueryError, QueryOptions, compile};

use crate::server::{
    deps::Deps,
    error::{Error, Result},
    evaluation::Evaluation,
    text_position::TextPosition,
};

/// A compiled query.
pub(crate) struct CompiledQuery {
    pub(crate) query: Arc<Query>,
    pub(crate) plan: Plan,
    pub(crate) warnings: Vec<pb::Warning>,
    pub(crate) report_progress: bool,
}

pub(crate) async fn compile_query(
    deps: &Deps,
    query: Option<pb::Query>,
    endpoint: Endpoint,
) -> Result<CompiledQuery> {
    compile_query_at(&deps.evaluation, (deps.clock)(), query, endpoint).await
}

/// Compiles a query for which `now_us` is the current time. Without a text there is nothing to
/// compute; any other text is left to the threads of queries, because it can take milliseconds.
pub(crate) async fn compile_query_at(
    evaluation: &Evaluation,
    now_us: i64,
    query: Option<pb::Query>,
    endpoint: Endpoint,
) -> Result<CompiledQuery> {
    let query = query.unwrap_or_default();
    if query.text.is_empty() {
        compile_text(now_us, query, endpoint)
    } else {
        evaluation.run(move || compile_text(now_us, query, endpoint)).await?
    }
}

fn compile_text(now_us: i64, query: pb::Query, endpoint: Endpoint) -> Result<CompiledQuery> {
    let pb::Query { text, timezone_offset_min, report_progress } = query;
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
    Ok(CompiledQuery {
        plan: query.plan(),
        warnings: warnings.collect(),
        query: Arc::new(query),
        report_progress,
    })
}

fn invalid_query(text: &str, error: QueryError) -> Error {
    Error::InvalidQuery { position: TextPosition::locate(text, &error.typed), error: Box::new(error) }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures::poll;

    use super::*;

    #[tokio::test]
    async fn only_threads_of_queries_compile_texts() {
        let evaluation = Evaluation::start(1).unwrap();
        let (unblock, blocked) = mpsc::channel::<()>();
        let mut busy = Box::pin(evaluation.run(move || blocked.recv()));
        assert!(poll!(&mut busy).is_pending());
        let query = |text: &str| Some(pb::Query { text: text.to_owned(), ..pb::Query::default() });
        let mut waiting = Box::pin(compile_query_at(&evaluation, 0, query("run.active"), Endpoint::Run));
        assert!(poll!(&mut waiting).is_pending());
        let all = compile_query_at(&evaluation, 0, query(""), Endpoint::Run).await.unwrap();
        assert_eq!(all.plan.to_string(), "archived = false; exact");
        unblock.send(()).unwrap();
        busy.await.unwrap().unwrap();
        assert_eq!(waiting.await.unwrap().query.statement(), "run.active");
    }
}
