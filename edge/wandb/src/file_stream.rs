//! The route to which a run streams its history, the load of its machine, its summary, and its terminal.
//!
//! A request is published in the order of its lines, and answered once all of it is durable. A client repeats a request
//! that was not answered, and sends a run again under other line numbers: so everything that is published says itself
//! where it belongs, and is the same if it comes twice.

use std::collections::HashMap;

use matyan_proto::common::v1::{LogPosition, Outcome, OutcomeKind};
use matyan_proto::ingest::v1::FinishRun;
use matyan_proto::ingest::v1::event::Kind;
use matyan_proto::runs::v1::GetRequest;
use matyan_value::{Map, Value};
use serde::Deserialize;
use tonic::Code;

use crate::batch::{RunBatch, publish, wait_applied};
use crate::call::CallContext;
use crate::error::{Result, WandbError, is_missing};
use crate::lines::{LineSource, add_history, add_system, add_terminal, row};
use crate::names::{INTERNAL_MEMBER, INTERNAL_SUMMARY, RunName, STATE, SUMMARY, WANDB, file_path};

const HISTORY: &str = "wandb-history.jsonl";
const EVENTS: &str = "wandb-events.jsonl";
const SUMMARY_FILE: &str = "wandb-summary.json";
const TERMINAL: &str = "output.log";

/// Files that a request may say are uploaded.
const MAX_UPLOADED: usize = 10_000;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct StreamBody {
    files: Option<HashMap<String, Chunk>>,
    uploaded: Option<Vec<String>>,
    complete: Option<bool>,
    exitcode: Option<i64>,
    preempting: Option<bool>,
}

/// Consecutive lines of a file.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Chunk {
    /// Number of the first line.
    offset: i64,
    content: Vec<String>,
}

impl Chunk {
    fn numbered(&self) -> impl Iterator<Item = (i64, &str)> {
        self.content.iter().enumerate().map(|(index, line)| {
            (self.offset.saturating_add(i64::try_from(index).unwrap_or(i64::MAX)), line.as_str())
        })
    }
}

/// Batches in the order in which they are published.
struct Plan {
    batches: Vec<RunBatch>,
}

/// Stores what a run streams. `writer` is one of several writers of the run.
pub(crate) async fn append(
    context: &CallContext,
    name: &RunName,
    writer: Option<&str>,
    body: &[u8],
) -> Result<serde_json::Value> {
    let body: StreamBody = serde_json::from_slice(body)
        .map_err(|error| WandbError::invalid(format!("the body is not what a run streams: {error}")))?;
    let run_id = name.run_id();
    // Everything is read before anything is stored.
    let plan = Plan::of(&body, &LineSource { run_id: &run_id, writer })?;
    check_exists(context, &run_id).await?;
    let mut last: Option<LogPosition> = None;
    for batch in plan.batches {
        last = publish(&context.channels, &run_id, batch).await?.or(last);
    }
    if body.complete == Some(true)
        && let Some(position) = last
    {
        wait_applied(&context.channels, &run_id, position).await?;
    }
    Ok(serde_json::json!({"exitcode": null, "limits": {}}))
}

/// Refuses data of a run that was deleted, or never begun.
async fn check_exists(context: &CallContext, run_id: &str) -> Result<()> {
    let request = GetRequest { run_id: run_id.to_owned(), parts: None };
    match context.channels.runs().get(request).await {
        Ok(_) => Ok(()),
        Err(status) if is_missing(&status) => {
            Err(WandbError::missing("the run does not exist, or was deleted: call `wandb.init` again"))
        }
        // The token only writes.
        Err(status) if status.code() == Code::PermissionDenied => Ok(()),
        Err(status) => Err(status.into()),
    }
}

impl Plan {
    fn of(body: &StreamBody, source: &LineSource<'_>) -> Result<Self> {
        let mut plan = Self { batches: Vec::new() };
        let chunk = |file: &str| body.files.as_ref().and_then(|files| files.get(file));
        if let Some(chunk) = chunk(HISTORY) {
            plan.add_rows(source, HISTORY, chunk, add_history)?;
        }
        if let Some(chunk) = chunk(EVENTS) {
            plan.add_rows(source, EVENTS, chunk, add_system)?;
        }
        if let Some(chunk) = chunk(TERMINAL) {
            plan.add_terminal(source, chunk)?;
        }
        let mut rest = RunBatch::default();
        if let Some(line) = chunk(SUMMARY_FILE).and_then(|chunk| chunk.content.last()) {
            add_summary(&mut rest, row(SUMMARY_FILE, 0, line)?);
        }
        let uploaded = body.uploaded.as_deref().unwrap_or_default();
        if uploaded.len() > MAX_UPLOADED {
            return Err(WandbError::invalid(format!("`uploaded` has more than {MAX_UPLOADED} files")));
        }
        for file in uploaded {
            rest.announce(source.run_id, &file_path(file)?);
        }
        if body.preempting == Some(true) {
            rest.set(&[WANDB, STATE], Value::Text("preempting".to_owned()));
        }
        if body.complete == Some(true) {
            rest.add(Kind::FinishRun(FinishRun { outcome: Some(outcome(body.exitcode)) }), None);
        }
        plan.batches.push(rest);
        Ok(plan)
    }

    /// Adds rows of a file, in batches of a limited size.
    fn add_rows(
        &mut self,
        source: &LineSource<'_>,
        file: &str,
        chunk: &Chunk,
        add: fn(&mut RunBatch, &LineSource<'_>, i64, &Map),
    ) -> Result<()> {
        check_offset(file, chunk)?;
        let mut batch = RunBatch::default();
        for (number, line) in chunk.numbered() {
            add(&mut batch, source, number, &row(file, number, line)?);
            if batch.is_full() {
                self.batches.push(std::mem::take(&mut batch));
            }
        }
        self.batches.push(batch);
        Ok(())
    }

    /// Adds lines of the terminal.
    fn add_terminal(&mut self, source: &LineSource<'_>, chunk: &Chunk) -> Result<()> {
        check_offset(TERMINAL, chunk)?;
        let mut batch = RunBatch::default();
        for (number, line) in chunk.numbered() {
            add_terminal(&mut batch, source, number, line);
            if batch.is_full() {
                self.batches.push(std::mem::take(&mut batch));
            }
        }
        self.batches.push(batch);
        Ok(())
    }
}

fn check_offset(file: &str, chunk: &Chunk) -> Result<()> {
    if chunk.offset < 0 {
        return Err(WandbError::invalid(format!("`offset` of {file} is negative")));
    }
    Ok(())
}

/// Adds a summary, which replaces the one before. Clients read the members of W&B itself back, but people do not.
pub(crate) fn add_summary(batch: &mut RunBatch, summary: Map) {
    let (internal, shown): (Map, Map) = summary.into_iter().partition(|(name, _)| name.starts_with('_'));
    if !shown.is_empty() {
        batch.set(&[SUMMARY], Value::Map(shown));
    }
    let internal: Map = internal.into_iter().filter(|(name, _)| name != INTERNAL_MEMBER).collect();
    if !internal.is_empty() {
        batch.set(&[WANDB, INTERNAL_SUMMARY], Value::Map(internal));
    }
}

fn outcome(exit_code: Option<i64>) -> Outcome {
    match exit_code {
        None | Some(0) => Outcome { kind: OutcomeKind::Finished.into(), message: String::new() },
        Some(code) => Outcome { kind: OutcomeKind::Failed.into(), message: format!("exit code {code}") },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(body: &str) -> Result<Plan> {
        let body: StreamBody = serde_json::from_str(body).unwrap();
        Plan::of(&body, &LineSource { run_id: "r:p", writer: None })
    }

    #[test]
    fn lines_that_come_again_are_the_same_under_other_numbers() {
        let stored = |file: &str, offset: i64, line: &str| {
            let body = serde_json::json!({"files": {file: {"offset": offset, "content": [line]}}});
            let plan = plan(&body.to_string()).unwrap();
            plan.batches
                .into_iter()
                .filter(|batch| !batch.is_empty())
                .map(RunBatch::encode)
                .collect::<Vec<_>>()
        };
        let row = r#"{"_step": 3, "_timestamp": 9.5, "loss": NaN, "deep": {"text": "x"}}"#;
        assert_eq!(stored(HISTORY, 0, row).len(), 1);
        assert_eq!(stored(HISTORY, 0, row), stored(HISTORY, 500, row));
        let sample = r#"{"_runtime": 15.04, "_timestamp": 9.5, "system.cpu": 1}"#;
        assert_eq!(stored(EVENTS, 0, sample).len(), 1);
        assert_eq!(stored(EVENTS, 0, sample), stored(EVENTS, 500, sample));
        assert_ne!(stored(HISTORY, 0, row), stored(HISTORY, 0, &row.replace('3', "4")));
    }

    #[test]
    fn a_summary_replaces_the_one_before() {
        let summary = r#"{"files": {"wandb-summary.json": {"offset": 0, "content": ["{\"acc\": Infinity, \"_step\": 3}"]}}}"#;
        assert!(plan(summary).unwrap().batches.iter().any(|batch| !batch.is_empty()));
    }

    #[test]
    fn broken_requests_are_refused_as_a_whole() {
        for body in [
            r#"{"files": {"wandb-history.jsonl": {"offset": 0, "content": ["{\"a\": 1}", "{"]}}}"#,
            r#"{"files": {"wandb-history.jsonl": {"offset": -1, "content": ["{}"]}}}"#,
            r#"{"files": {"output.log": {"offset": -1, "content": ["x"]}}}"#,
            r#"{"uploaded": ["../a"]}"#,
        ] {
            assert!(plan(body).is_err(), "{body}");
        }
        assert!(plan("{}").unwrap().batches.iter().all(RunBatch::is_empty));
    }
}
