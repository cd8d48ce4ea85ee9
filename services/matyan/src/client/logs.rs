//! Terminal lines and log records of a run, as stored and as they arrive.

use clap::Args;
use matyan_proto::{
    logs::v1::{LinesRequest, Record, RecordsRequest, log_service_client::LogServiceClient},
    runs::v1::{GetRequest, run_service_client::RunServiceClient},
};
use matyan_value::json::{self, JsonStyle};
use serde_json::{Value, json};

use super::{
    Error, client,
    connection::Connection,
    flags::ClientFlags,
    output::{Output, cell, moment, readable, terminal_text},
    run_error, run_ids,
};

const LOGS_EXAMPLES: &str = "\
Examples:
  matyan logs 3fd1c0                the last 200 terminal lines
  matyan logs 3fd1c0 -f             also new lines, until the run ends
  matyan logs 3fd1c0 --records      what the script logged, with levels
  matyan logs 3fd1c0 --tail 5 --json";

#[derive(Debug, Args)]
#[command(after_help = LOGS_EXAMPLES)]
pub(crate) struct LogsFlags {
    /// Hash of the run, or its first characters, at least four
    run: String,
    /// Print new lines as they arrive, until the run ends
    #[arg(long, short)]
    follow: bool,
    /// Number of most recent steps to start with
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    tail: u32,
    /// Show log records instead of terminal lines
    #[arg(long)]
    records: bool,
    #[command(flatten)]
    client: ClientFlags,
}

pub(super) async fn run(flags: LogsFlags) -> Result<(), Error> {
    let out = &mut Output::new(flags.client.connection.json);
    let channel = flags.client.connect().await?;
    let flags = LogsFlags { run: run_ids::complete(&channel, flags.run).await?, ..flags };
    // An unknown run has an empty log; a misspelled one should not look like a silent one.
    let request = GetRequest { run_id: flags.run.clone(), parts: None };
    client!(RunServiceClient, channel.clone()).get(request).await.map_err(run_error(&flags.run))?;
    match flags.records {
        true => records(channel, flags, out).await,
        false => lines(channel, flags, out).await,
    }
}

async fn lines(channel: Connection, flags: LogsFlags, out: &mut Output) -> Result<(), Error> {
    let LogsFlags { run: run_id, follow, tail, .. } = flags;
    let request = LinesRequest { run_id, steps: None, tail, follow };
    let mut messages = client!(LogServiceClient, channel).lines(request).await?.into_inner();
    while let Some(message) = messages.message().await? {
        for line in message.lines {
            match out.json {
                true => out.object(&json!({"step": line.step, "text": line.text}))?,
                // As it appeared in the terminal, colors included.
                false => out.line(terminal_text(line.text.trim_end_matches(['\r', '\n'])))?,
            }
        }
    }
    Ok(())
}

async fn records(channel: Connection, flags: LogsFlags, out: &mut Output) -> Result<(), Error> {
    let LogsFlags { run: run_id, follow, tail, .. } = flags;
    let request = RecordsRequest { run_id, steps: None, tail, follow };
    let mut messages = client!(LogServiceClient, channel).records(request).await?.into_inner();
    while let Some(message) = messages.message().await? {
        for record in message.records {
            match out.json {
                true => out.object(&json!({
                    "step": record.step,
                    "level": level(&record),
                    "message": record.message,
                    "timestamp": record.timestamp,
                    "logger_info": value(&record.logger_info)?,
                    "args": value(&record.args)?,
                }))?,
                false => {
                    let time = moment((record.timestamp * 1e6) as i64);
                    let args = match value(&record.args)? {
                        Value::Object(args) if !args.is_empty() => format!("  {}", Value::from(args)),
                        _ => String::new(),
                    };
                    out.line(format!(
                        "{time}  {:<8}  {}{}",
                        level(&record),
                        cell(&record.message),
                        cell(&args)
                    ))?;
                }
            }
        }
    }
    Ok(())
}

/// Decodes a value of a record; null if it is absent.
fn value(cbor: &[u8]) -> Result<Value, Error> {
    if cbor.is_empty() {
        Ok(Value::Null)
    } else {
        readable(json::cbor_text(cbor, JsonStyle::STRICT).ok(), "a log record")
    }
}

/// Level names of Python's logging module.
fn level(record: &Record) -> &'static str {
    match record.level {
        10 => "DEBUG",
        30 => "WARNING",
        40 => "ERROR",
        50 => "CRITICAL",
        _ => "INFO",
    }
}
