//! Terminal lines and log records of a run: all stored lines, and new lines as they arrive.

use std::{collections::BTreeMap, error::Error as _, time::Duration};

use clap::Args;
use matyan_proto::{
    common::v1::StepRange,
    logs::v1::{Line, LinesRequest, Record, RecordsRequest, log_service_client::LogServiceClient},
    runs::v1::{GetRequest, run_service_client::RunServiceClient},
};
use matyan_value::json::{self, JsonStyle};
use serde_json::{Value, json};
use tokio::time::sleep;
use tonic::{Code, Status};

use super::{
    Error, Failure, client,
    connection::Connection,
    flags::ClientFlags,
    output::{Output, cell, moment, notice, readable},
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
    /// Hash of the run, or at least its first four characters
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
    if flags.records { records(channel, flags, out).await } else { lines(channel, flags, out).await }
}

/// Pause between two requests of a followed log.
const RECONNECT_PAUSE: Duration = Duration::from_secs(1);

/// Number of recent lines that are compared after a lost connection. Some may have been rewritten, like
/// the lines of a progress bar.
const KNOWN_LINES: usize = 200;

/// Prints a log until it ends; if it is followed, also after the connection was lost. `print` clears its flag with
/// each message, so that an outage is reported once.
async fn print_until_end(
    follow: bool,
    mut print: impl AsyncFnMut(&mut bool) -> Result<(), Failure>,
) -> Result<(), Error> {
    let mut is_lost = false;
    loop {
        match print(&mut is_lost).await {
            Err(Failure::Server(status)) if follow && is_temporary(&status) => {
                if !std::mem::replace(&mut is_lost, true) {
                    let reason = status.message();
                    notice(format!(
                        "matyan: lost the connection ({reason}): trying again until the server answers"
                    ));
                }
                sleep(RECONNECT_PAUSE).await;
            }
            outcome => return Ok(outcome?),
        }
    }
}

/// Whether a call has failed because the server was stopped, is not ready, or cannot be reached.
fn is_temporary(status: &Status) -> bool {
    // Proxies end a stream without a code; an answer of the server has no source.
    matches!(status.code(), Code::Unavailable | Code::Unknown) || status.source().is_some()
}

/// The most recent lines that were printed.
#[derive(Default)]
struct PrintedLines {
    has_started: bool,
    texts: BTreeMap<i64, String>,
}

impl PrintedLines {
    /// The steps to request: all unknown lines, and the lines that may have been rewritten.
    fn unread(&self) -> Option<StepRange> {
        let first = self.texts.keys().next().copied().unwrap_or(i64::MIN);
        self.has_started.then_some(StepRange { start: Some(first), stop: None })
    }

    /// Adds a line. Returns false if it is known already.
    fn add(&mut self, line: &Line) -> bool {
        let known = self.texts.insert(line.step, line.text.clone());
        if self.texts.len() > KNOWN_LINES {
            self.texts.pop_first();
        }
        known.is_none_or(|known| known != line.text)
    }
}

async fn lines(channel: Connection, flags: LogsFlags, out: &mut Output) -> Result<(), Error> {
    let LogsFlags { run: run_id, follow, tail, .. } = flags;
    let mut printed = PrintedLines::default();
    let print = async |is_lost: &mut bool| {
        let request = LinesRequest { run_id: run_id.clone(), steps: printed.unread(), tail, follow };
        let mut messages = client!(LogServiceClient, channel.clone()).lines(request).await?.into_inner();
        while let Some(message) = messages.message().await? {
            *is_lost = false;
            printed.has_started = true;
            for line in message.lines.iter().filter(|line| printed.add(line)) {
                print_line(line, out)?;
            }
        }
        Ok(())
    };
    print_until_end(follow, print).await
}

fn print_line(line: &Line, out: &mut Output) -> std::io::Result<()> {
    if out.json {
        out.object(&json!({"step": line.step, "text": line.text}))
    } else {
        out.terminal_line(line.text.trim_end_matches(['\r', '\n']))
    }
}

async fn records(channel: Connection, flags: LogsFlags, out: &mut Output) -> Result<(), Error> {
    let LogsFlags { run: run_id, follow, tail, .. } = flags;
    let mut next_step = None;
    let print = async |is_lost: &mut bool| {
        let steps = next_step.map(|start| StepRange { start: Some(start), stop: None });
        let request = RecordsRequest { run_id: run_id.clone(), steps, tail, follow };
        let mut messages = client!(LogServiceClient, channel.clone()).records(request).await?.into_inner();
        while let Some(message) = messages.message().await? {
            *is_lost = false;
            // The first message of an empty log has no records.
            next_step.get_or_insert(0);
            for record in message.records {
                print_record(&record, out)?;
                next_step = Some(record.step.saturating_add(1));
            }
        }
        Ok(())
    };
    print_until_end(follow, print).await
}

fn print_record(record: &Record, out: &mut Output) -> Result<(), Error> {
    let args = value(&record.args)?;
    if out.json {
        return Ok(out.object(&json!({
            "step": record.step,
            "level": level(record),
            "message": record.message,
            "timestamp": record.timestamp,
            "logger_info": value(&record.logger_info)?,
            "args": args,
        }))?);
    }
    let time = moment((record.timestamp * 1e6) as i64);
    let args = match args {
        Value::Object(args) if !args.is_empty() => format!("  {}", Value::from(args)),
        _ => String::new(),
    };
    out.line(format!("{time}  {:<8}  {}{}", level(record), cell(&record.message), cell(&args)))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unknown_and_rewritten_lines_are_printed() {
        let mut printed = PrintedLines::default();
        assert!(printed.unread().is_none());
        printed.has_started = true;
        assert_eq!(printed.unread().unwrap().start, Some(i64::MIN));
        let mut add = |step, text: &str| printed.add(&Line { step, text: text.to_owned() });
        let count = KNOWN_LINES as i64;
        assert!((0..count).all(|step| add(step, "a")));
        assert!(add(5, "b"));
        assert!(!add(5, "b") && !add(count - 1, "a"));
        assert!(add(count, "a"));
        assert_eq!(printed.unread().unwrap().start, Some(1));
    }

    #[test]
    fn errors_that_remain_end_a_followed_log() {
        let lost = Status::from_error(Box::new(std::io::Error::other("reset")));
        assert!([Status::unavailable(""), Status::unknown(""), lost].iter().all(is_temporary));
        let answers = [Status::not_found(""), Status::unauthenticated(""), Status::internal("")];
        assert!(!answers.iter().any(is_temporary));
    }
}
