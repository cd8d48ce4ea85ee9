//! The route to which a run streams its history, the load of its machine, its summary, and its terminal.
//!
//! A request is published in the order of its lines, and answered once all of its data is durable. A client repeats a
//! request that was not answered, and sends a run again under other line numbers. So everything that is published
//! identifies its own place, and a repetition is equal to the first publication. Data that is too large is shortened
//! instead of refused, because an error ends the upload of the whole run.

use std::collections::HashMap;

use bytes::Bytes;
use matyan_proto::common::v1::{Outcome, OutcomeKind};
use matyan_proto::ingest::v1::FinishRun;
use matyan_proto::ingest::v1::event::Kind;
use matyan_value::{Map, Value};
use serde::Deserialize;

use crate::batch::{RunBatch, publish, wait_applied};
use crate::call::CallContext;
use crate::error::{Result, WandbError};
use crate::json_object::JsonObject;
use crate::json_text::check_values;
use crate::lines::{LineSource, add_history, add_system, add_terminal, row};
use crate::metric_goals::set_goals_of_summary;
use crate::names::{RunName, STATE, WANDB, file_path};
use crate::param_changes::ParamChanges;
use crate::run_view::{RunSnapshot, parts_to_change, parts_without_params};
use crate::runs::find_parts;
use crate::summary::set_fitting_summary;

const HISTORY: &str = "wandb-history.jsonl";
const EVENTS: &str = "wandb-events.jsonl";
const SUMMARY_FILE: &str = "wandb-summary.json";
const TERMINAL: &str = "output.log";

/// Files that a request may report as uploaded.
const MAX_UPLOADED: usize = 10_000;

/// Adds a row of a file.
type AddRow = fn(&mut RunBatch, &LineSource<'_>, i64, &Map);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct StreamBody {
    files: Option<HashMap<String, JsonObject<Chunk>>>,
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

impl StreamBody {
    fn chunk(&self, file: &str) -> Option<&Chunk> {
        self.files.as_ref()?.get(file).map(|JsonObject(chunk)| chunk)
    }

    /// The last summary of the request, which replaces earlier summaries.
    fn summary(&self) -> Result<Option<Map>> {
        let line = self.chunk(SUMMARY_FILE).and_then(|chunk| chunk.content.last());
        line.map(|line| row(SUMMARY_FILE, 0, line)).transpose()
    }

    fn is_preempting(&self) -> bool {
        self.preempting == Some(true)
    }

    fn is_complete(&self) -> bool {
        self.complete == Some(true)
    }
}

/// Stores the lines that a run streams. `writer` is set if the run has several writers.
pub(crate) async fn append(
    context: &CallContext,
    name: &RunName,
    writer: Option<&str>,
    body: Bytes,
) -> Result<serde_json::Value> {
    let bytes = body.len();
    let (body, summary) = context.large_work.run(bytes, move || parsed_body(&body)).await?;
    let changes_params = summary.is_some() || body.is_preempting();
    let parts = if changes_params { parts_to_change() } else { parts_without_params() };
    let RunSnapshot { run_id, params, params_bytes, .. } =
        find_parts(context, name, parts).await?.ok_or_else(|| {
            WandbError::missing("the run does not exist, or was deleted: call `wandb.init` again")
        })?;
    let is_complete = body.is_complete();
    // Everything is read and checked before anything is stored.
    let source_id = run_id.clone();
    let writer = writer.map(str::to_owned);
    let collect = move || {
        let source = LineSource { run_id: &source_id, writer: writer.as_deref() };
        stored_batch(&body, summary, &source, ParamChanges::new(params))
    };
    let batch = context.large_work.run(bytes + params_bytes, collect).await?;
    let last = publish(&context.channels, &run_id, batch).await?;
    if is_complete && let Some(position) = last {
        wait_applied(&context.channels, &run_id, position).await?;
    }
    Ok(serde_json::json!({"exitcode": null, "limits": {}}))
}

/// The parts of a request, and its summary.
fn parsed_body(body: &[u8]) -> Result<(StreamBody, Option<Map>)> {
    check_values("the body", body)?;
    let JsonObject(body): JsonObject<StreamBody> = serde_json::from_slice(body).map_err(|error| {
        WandbError::invalid(format!("the body does not have the form of a file stream: {error}"))
    })?;
    let summary = body.summary()?;
    Ok((body, summary))
}

/// The data to store for a request, in the order in which it is published.
fn stored_batch(
    body: &StreamBody,
    summary: Option<Map>,
    source: &LineSource<'_>,
    mut params: ParamChanges,
) -> Result<RunBatch> {
    let mut batch = RunBatch::default();
    let row_files: [(&str, AddRow); 2] = [(HISTORY, add_history), (EVENTS, add_system)];
    for (file, add) in row_files {
        if let Some(chunk) = body.chunk(file) {
            check_offset(file, chunk)?;
            for (number, line) in chunk.numbered() {
                add(&mut batch, source, number, &row(file, number, line)?);
            }
        }
    }
    if let Some(chunk) = body.chunk(TERMINAL) {
        check_offset(TERMINAL, chunk)?;
        for (number, line) in chunk.numbered() {
            add_terminal(&mut batch, source, number, line);
        }
    }
    if let Some(summary) = summary {
        set_goals_of_summary(&mut params, &mut batch, &summary);
        set_fitting_summary(&mut params, &mut batch, summary, source.writer.is_some());
    }
    let uploaded = body.uploaded.as_deref().unwrap_or_default();
    if uploaded.len() > MAX_UPLOADED {
        let message = format!("`uploaded` has more than {MAX_UPLOADED} files: name them in several requests");
        return Err(WandbError::invalid(message));
    }
    for file in uploaded {
        batch.announce(source.run_id, &file_path(file)?);
    }
    if body.is_preempting() {
        params.set(&mut batch, "preempting", &[WANDB, STATE], Value::Text("preempting".to_owned()))?;
    }
    if body.is_complete() {
        batch.add(Kind::FinishRun(FinishRun { outcome: Some(outcome(body.exitcode)) }), None);
    }
    Ok(batch)
}

fn check_offset(file: &str, chunk: &Chunk) -> Result<()> {
    if chunk.offset < 0 {
        return Err(WandbError::invalid(format!(
            "`offset` of {file} is negative: lines are numbered from 0"
        )));
    }
    Ok(())
}

fn outcome(exit_code: Option<i64>) -> Outcome {
    match exit_code {
        None | Some(0) => Outcome { kind: OutcomeKind::Finished.into(), message: String::new() },
        Some(code) => Outcome { kind: OutcomeKind::Failed.into(), message: format!("exit code {code}") },
    }
}

#[cfg(test)]
mod tests {
    use matyan_proto::ingest::v1::{Event, IngestionBatch};
    use matyan_value::json::{self, JsonStyle};
    use prost::Message;

    use super::*;
    use crate::test_context::empty_context;

    fn stored(body: &str, params: &str) -> Result<RunBatch> {
        let body: StreamBody = serde_json::from_str(body).unwrap();
        let source = LineSource { run_id: "r:p", writer: None };
        let params = json::parse(params).unwrap().as_map().unwrap().clone();
        stored_batch(&body, body.summary()?, &source, ParamChanges::new(params))
    }

    #[test]
    fn repeated_lines_are_equal_under_other_numbers() {
        let parts = |file: &str, offset: i64, line: &str| -> Vec<Bytes> {
            let body = serde_json::json!({"files": {file: {"offset": offset, "content": [line]}}});
            stored(&body.to_string(), "{}").unwrap().into_parts().collect()
        };
        let row = r#"{"_step": 3, "_timestamp": 9.5, "loss": NaN, "deep": {"text": "x"}}"#;
        assert_eq!(parts(HISTORY, 0, row).len(), 1);
        assert_eq!(parts(HISTORY, 0, row), parts(HISTORY, 500, row));
        let sample = r#"{"_runtime": 15.04, "_timestamp": 9.5, "system.cpu": 1}"#;
        assert_eq!(parts(EVENTS, 0, sample).len(), 1);
        assert_eq!(parts(EVENTS, 0, sample), parts(EVENTS, 500, sample));
        assert_ne!(parts(HISTORY, 0, row), parts(HISTORY, 0, &row.replace('3', "4")));
    }

    #[test]
    fn a_summary_replaces_the_earlier_summary() {
        let sent = |summary: &str| -> Vec<String> {
            let body = serde_json::json!({"files": {SUMMARY_FILE: {"offset": 0, "content": [summary]}}});
            let parts =
                stored(&body.to_string(), r#"{"summary": {"acc": 1, "loss": 2}}"#).unwrap().into_parts();
            let events = parts.flat_map(|part| IngestionBatch::decode(part).unwrap().events);
            let text = |event: Event| match event.kind {
                Some(Kind::LogParams(params)) => json::cbor_text(&params.value, JsonStyle::BARE).unwrap(),
                other => panic!("{other:?}"),
            };
            events.map(text).collect()
        };
        let step = r#"{"wandb":{"summary":{"_step":3}}}"#;
        // The server merges a map of one entry, unless the stored map is empty.
        let one = sent(r#"{"acc": Infinity, "_step": 3}"#);
        let cleared = r#"{"wandb":{"summary":{}}}"#;
        assert_eq!(one, [r#"{"summary":{}}"#, r#"{"summary":{"acc":Infinity}}"#, cleared, step]);
        assert_eq!(sent(r#"{"_step": 3}"#), [r#"{"summary":{}}"#, cleared, step]);
        assert_eq!(sent(r#"{"a": 1, "b": 2}"#), [r#"{"summary":{"a":1,"b":2}}"#]);
    }

    #[test]
    fn a_metric_of_a_pattern_has_its_goal_when_it_is_logged() {
        let body = serde_json::json!({
            "files": {SUMMARY_FILE: {"offset": 0, "content": [r#"{"val/acc": 1}"#]}},
        });
        let definitions = r#"{"config": {"m": [{"1": "epoch"}, {"2": "val/*", "5": 1}]}}"#;
        let goal = r#"{"__metrics__":{"val/acc":{"x_axis":"epoch"}}}"#;
        let has_goal = |params: &str| {
            let parts = stored(&body.to_string(), params).unwrap().into_parts();
            let mut events = parts.flat_map(|part| IngestionBatch::decode(part).unwrap().events);
            events.any(|event| match event.kind {
                Some(Kind::LogParams(params)) => {
                    json::cbor_text(&params.value, JsonStyle::BARE).unwrap() == goal
                }
                other => panic!("{other:?}"),
            })
        };
        assert!(has_goal(&format!(r#"{{"wandb": {definitions}}}"#)));
        let known = &goal[1..goal.len() - 1];
        assert!(!has_goal(&format!(r#"{{"wandb": {definitions}, {known}}}"#)), "it is there");
    }

    #[tokio::test]
    async fn lines_of_an_unknown_run_are_refused_with_advice() {
        let (context, _) = empty_context();
        let name = RunName::new("p", "r").unwrap();
        for body in
            [r#"{"complete": true}"#.to_owned(), format!(r#"{{"complete": "{}"}}"#, "x".repeat(1 << 20))]
        {
            let is_broken = body.len() > 1_000;
            let error = append(&context, &name, None, body.into()).await.unwrap_err();
            let advice = if is_broken { "the form of a file stream" } else { "call `wandb.init` again" };
            assert!(error.message.contains(advice), "{error}");
        }
    }

    #[test]
    fn broken_requests_are_refused_as_a_whole() {
        for body in [
            r#"{"files": {"wandb-history.jsonl": {"offset": 0, "content": ["{\"a\": 1}", "{"]}}}"#,
            r#"{"files": {"wandb-history.jsonl": {"offset": -1, "content": ["{}"]}}}"#,
            r#"{"files": {"output.log": {"offset": -1, "content": ["x"]}}}"#,
            r#"{"files": {"wandb-summary.json": {"offset": 0, "content": ["{"]}}}"#,
            r#"{"uploaded": ["../a"]}"#,
        ] {
            assert!(stored(body, "{}").is_err(), "{body}");
        }
        assert!(stored("{}", "{}").unwrap().is_empty());
    }
}
