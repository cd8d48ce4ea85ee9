//! Terminal lines and log records of a run.

use std::borrow::Cow;

use matyan_proto::logs::v1::{LinesRequest, LinesResponse, Record, RecordsRequest, RecordsResponse};
use schemars::JsonSchema;
use serde::Deserialize;

use super::call::{Call, Dialect};
use super::operation::Operation;
use super::shared::step_range;
use super::stream_response::{self, Entries, EntryWriter};
use super::values;
use crate::error::ApiResult;
use crate::html;
use crate::stream::Encoder;

pub(crate) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/runs/{id}/logs", "Terminal lines of a run, as a stream", lines),
        Operation::get("/runs/{id}/log-records", "Log records of a run, as a stream", records),
    ]
}

#[derive(Deserialize, JsonSchema)]
struct LogParameters {
    id: String,
    #[serde(default)]
    record_range: String,
}

async fn lines(call: Call<LogParameters>) -> ApiResult<Entries> {
    let LogParameters { id: run_id, record_range } = call.parameters;
    let request = LinesRequest { run_id, steps: step_range(&record_range)?, ..Default::default() };
    let messages = call.services.backend().logs().lines(request).await?.into_inner();
    stream_response::answer(messages, LineWriter { dialect: call.dialect }).await
}

struct LineWriter {
    dialect: Dialect,
}

impl EntryWriter for LineWriter {
    type Message = LinesResponse;

    fn write(&mut self, message: LinesResponse, encoder: &mut Encoder) {
        for line in &message.lines {
            let text = match self.dialect {
                Dialect::Matyan => Cow::Borrowed(line.text.as_str()),
                Dialect::Aim => Cow::Owned(html::escape(&line.text)),
            };
            encoder.element(line.step, |it| it.text(&text));
        }
    }

    fn finish(&mut self, _: &mut Encoder) -> bool {
        true
    }
}

async fn records(call: Call<LogParameters>) -> ApiResult<Entries> {
    let LogParameters { id: run_id, record_range } = call.parameters;
    let request = RecordsRequest { run_id, steps: step_range(&record_range)?, ..Default::default() };
    let messages = call.services.backend().logs().records(request).await?.into_inner();
    stream_response::answer(messages, LogRecordWriter { has_count: false }).await
}

struct LogRecordWriter {
    /// Whether the number of records has been written, which happens first and only once.
    has_count: bool,
}

impl EntryWriter for LogRecordWriter {
    type Message = RecordsResponse;

    fn write(&mut self, message: RecordsResponse, encoder: &mut Encoder) {
        if !std::mem::replace(&mut self.has_count, true) {
            encoder.member("log_records_count", |it| it.int(message.count as i64));
        }
        for record in &message.records {
            encoder.element(record.step, |it| write_record(record, it));
        }
    }

    fn finish(&mut self, encoder: &mut Encoder) -> bool {
        // Without any message, the count has not been written yet.
        if !self.has_count {
            encoder.member("log_records_count", |it| it.int(0));
        }
        true
    }
}

fn write_record(record: &Record, encoder: &mut Encoder) {
    encoder.member("message", |it| it.text(&record.message));
    encoder.member("log_level", |it| it.text(level_name(record.level)));
    encoder.member("timestamp", |it| match record.timestamp {
        0.0 => it.int(0),
        time => it.float(time),
    });
    if !record.logger_info.is_empty() {
        encoder.member("logger_info", |it| write_value(&record.logger_info, it));
    }
    encoder.member("args", |it| {
        if record.args.is_empty() {
            it.null();
        } else {
            write_value(&record.args, it);
        }
    });
    encoder.member("is_notified", |it| it.bool(true));
}

fn write_value(cbor: &[u8], encoder: &mut Encoder) {
    if let Err(error) = values::stream(cbor, encoder) {
        tracing::error!(error = &error as &dyn std::error::Error, "failed to convert part of a log record");
    }
}

fn level_name(level: i64) -> &'static str {
    match level {
        10 => "DEBUG",
        30 => "WARNING",
        40 => "ERROR",
        50 => "CRITICAL",
        _ => "INFO",
    }
}
