//! The lines of a run's terminal.

use matyan_channels::is_missing;
use matyan_proto::common::v1::StepRange;
use matyan_proto::logs::v1::LinesRequest;
use serde_json::{Value, json};

use crate::call::CallContext;
use crate::error::Result;
use crate::files::{EDGES, edge, no_cursor};
use crate::node::{Arguments, Node};
use crate::run_view::RUN_ID;

/// Lines on a page.
const DEFAULT_PAGE: i64 = 200;
const MAX_PAGE: i64 = 10_000;

/// The first lines of a range, at most this number, and the highest step of all lines. Without a range, the last lines.
async fn lines(
    context: &CallContext,
    run_id: &str,
    steps: Option<StepRange>,
    tail: u32,
    most: usize,
) -> Result<(Vec<(i64, String)>, Option<i64>)> {
    let request = LinesRequest { run_id: run_id.to_owned(), steps, tail, follow: false };
    let mut messages = match context.channels.logs().lines(request).await {
        Ok(response) => response.into_inner(),
        Err(status) if is_missing(&status) => return Ok((Vec::new(), None)),
        Err(status) => return Err(status.into()),
    };
    let mut found = Vec::new();
    let mut last_step = None;
    while found.len() < most
        && let Some(message) = messages.message().await?
    {
        last_step = message.last_step.or(last_step);
        found.extend(message.lines.into_iter().map(|line| (line.step, line.text)));
    }
    found.truncate(most);
    Ok((found, last_step))
}

/// The number of the next line.
pub(crate) async fn line_count(context: &CallContext, run: &Node) -> Result<Value> {
    let (_, last_step) = lines(context, run.known(RUN_ID)?, None, 1, usize::MAX).await?;
    Ok(last_step.map_or(0, |last| last.saturating_add(1)).into())
}

/// A page of lines, or the last lines. Lines that are missing do not shorten a page: a client that gets an empty page
/// stops.
pub(crate) async fn page(context: &CallContext, run: &Node, arguments: &Arguments) -> Result<Value> {
    let run_id = run.known(RUN_ID)?;
    let mut start: i64 = 0;
    let (found, last_step) = match arguments.integer("last")? {
        Some(last) => {
            let tail = u32::try_from(last.clamp(1, MAX_PAGE)).unwrap_or(u32::MAX);
            lines(context, run_id, None, tail, usize::MAX).await?
        }
        None => {
            let first = arguments.integer("first")?.unwrap_or(DEFAULT_PAGE).clamp(1, MAX_PAGE);
            if let Some(after) = arguments.text("after")? {
                start = after.parse().map_err(|_| no_cursor())?;
            }
            let most = usize::try_from(first).unwrap_or(usize::MAX);
            lines(context, run_id, Some(StepRange { start: Some(start), stop: None }), 0, most).await?
        }
    };
    // A client that follows the terminal continues at the same place after a page without lines.
    let end = found.last().map_or(start, |(step, _)| step.saturating_add(1));
    let has_more = last_step.is_some_and(|last| end <= last) && !found.is_empty();
    let mut connection = json!({"pageInfo": {"endCursor": end.to_string(), "hasNextPage": has_more}});
    connection[EDGES] = found.into_iter().map(|(step, text)| line_edge(step, &text)).collect();
    Ok(connection)
}

fn line_edge(step: i64, text: &str) -> Value {
    let node = json!({"number": step, "line": text, "level": null, "label": null, "timestamp": null});
    edge(node, step.saturating_add(1).to_string())
}
