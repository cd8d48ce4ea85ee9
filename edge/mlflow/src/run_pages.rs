//! Pages of the runs that a search finds. A page has a maximum size, because a few runs with large params may take
//! more memory than a thousand others.

use matyan_proto::search::v1::{RunsRequest, RunsResponse};
use prost::Message;
use tonic::{Code, Streaming};

use crate::error::{ErrorCode, MlflowError, Result};
use crate::run_view::RunSnapshot;
use matyan_channels::Channels;

/// Some of the runs that a search finds.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunPage {
    pub(crate) runs: Vec<RunSnapshot>,
    /// The start of the next page; empty: no more runs match.
    pub(crate) next: String,
    /// Size of the data that was read, including a run that did not fit.
    pub(crate) bytes: usize,
}

/// Reads a page. A page has fewer runs than the request allows if these have more than `max_bytes`, but at least one.
pub(crate) async fn read_page(
    channels: &Channels,
    request: RunsRequest,
    max_bytes: usize,
) -> Result<RunPage> {
    let mut messages = search(channels, request.clone()).await?;
    let mut page = RunPage::default();
    let mut is_complete = false;
    while let Some(message) = messages.message().await? {
        page.bytes += message.encoded_len();
        for run in message.runs {
            match page.runs.last_mut().filter(|last| last.run_id == run.run_id) {
                // The rest of the metrics of a run that does not fit in one message.
                Some(last) => last.series.extend(run.series),
                None => page.runs.push(RunSnapshot::new(run)?),
            }
        }
        if message.done {
            is_complete = true;
            page.next = message.next_cursor;
        } else if page.bytes >= max_bytes && page.runs.len() > 1 {
            // The next message may have more metrics of the last run.
            page.runs.pop();
            drop(messages);
            // Only the last message of a request has a cursor, so the request is repeated, for ids only, with as
            // many runs as this page keeps.
            page.next = cursor_after(channels, request, &page.runs).await?;
            return Ok(page);
        }
    }
    if is_complete { Ok(page) } else { Err(MlflowError::broken("done")) }
}

/// The start of the page after these runs, which are the first runs of a request.
async fn cursor_after(channels: &Channels, request: RunsRequest, runs: &[RunSnapshot]) -> Result<String> {
    let limit = u32::try_from(runs.len()).unwrap_or(u32::MAX);
    let request = RunsRequest { limit, parts: None, ids_only: true, ..request };
    let mut messages = search(channels, request).await?;
    let mut last = None;
    while let Some(mut message) = messages.message().await? {
        last = message.run_ids.pop().or(last);
        if message.done && last.as_ref() == runs.last().map(|run| &run.run_id) {
            return Ok(message.next_cursor);
        }
    }
    let message = "the runs have changed during the search: try again";
    Err(MlflowError::new(ErrorCode::TemporarilyUnavailable, message))
}

async fn search(channels: &Channels, request: RunsRequest) -> Result<Streaming<RunsResponse>> {
    match channels.search().runs(request).await {
        Ok(response) => Ok(response.into_inner()),
        Err(status) if status.code() == Code::InvalidArgument => {
            Err(MlflowError::invalid(format!("invalid search: {}", status.message())))
        }
        Err(status) => Err(status.into()),
    }
}
