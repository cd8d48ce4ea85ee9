//! Pages of the runs that a search finds. A page has a maximum size, because a few runs with large params may take
//! more memory than a thousand others.

use matyan_proto::runs::v1::{Run, SeriesInfo};
use matyan_proto::search::v1::{RunsRequest, RunsResponse};
use prost::Message;
use tonic::{Code, Streaming};

use crate::error::{ErrorCode, MlflowError, Result};
use crate::run_view::RunSnapshot;
use matyan_channels::{Channels, run_apart};

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
        let last_id = page.runs.last().map(|run| run.run_id.clone());
        let params_bytes: usize = message.runs.iter().map(|run| run.params.len()).sum();
        let read =
            run_apart(params_bytes, move || MessageRuns::new(message.runs, last_id.as_deref())).await?;
        if let Some(last) = page.runs.last_mut() {
            last.series.extend(read.more_series);
        }
        page.runs.extend(read.runs);
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

/// The runs of a message.
#[derive(Clone, Debug, Default)]
struct MessageRuns {
    /// More metrics of the last run of the messages before.
    more_series: Vec<SeriesInfo>,
    runs: Vec<RunSnapshot>,
}

impl MessageRuns {
    /// Reads the runs of a message. A run that does not fit in one message comes again, with the rest of its metrics only.
    fn new(runs: Vec<Run>, last_id: Option<&str>) -> Result<Self> {
        let mut read = Self::default();
        for run in runs {
            match read.runs.last_mut() {
                Some(last) if last.run_id == run.run_id => last.series.extend(run.series),
                None if last_id == Some(run.run_id.as_str()) => read.more_series.extend(run.series),
                _ => read.runs.push(RunSnapshot::new(run)?),
            }
        }
        Ok(read)
    }
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

#[cfg(test)]
mod tests {
    use matyan_proto::runs::v1::Props;

    use super::*;

    #[test]
    fn the_rest_of_a_run_is_added_to_it() {
        let series = |name: &str| SeriesInfo { name: name.to_owned(), ..SeriesInfo::default() };
        let first = |id: &str| Run { run_id: id.to_owned(), props: Some(Props::default()), ..Run::default() };
        let rest = |id: &str, name: &str| Run {
            run_id: id.to_owned(),
            series: vec![series(name)],
            ..Run::default()
        };
        let runs = vec![rest("a", "1"), rest("a", "2"), first("b"), rest("b", "3"), first("c")];
        let read = MessageRuns::new(runs, Some("a")).unwrap();
        let names = |series: &[SeriesInfo]| series.iter().map(|it| it.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&read.more_series), ["1", "2"]);
        let found: Vec<_> = read.runs.iter().map(|run| (run.run_id.as_str(), names(&run.series))).collect();
        assert_eq!(found, [("b", vec!["3".to_owned()]), ("c", vec![])]);
        assert!(MessageRuns::new(vec![rest("a", "1")], None).is_err(), "its first part is missing");
    }
}
