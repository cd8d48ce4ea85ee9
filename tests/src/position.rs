//! A line of a run with its acknowledged position, and the lines that a reader with this position
//! sees.

use matyan_proto::{
    common::v1::LogPosition,
    ingest::v1::{
        Event, IngestionBatch, LogTerminalLine, PublishRequest, event::Kind,
        ingest_service_client::IngestServiceClient,
    },
    logs::v1::{LinesRequest, log_service_client::LogServiceClient},
};
use prost::Message as _;
use tonic::{Request, Status};

use crate::channel;

/// The only run of these tests.
const RUN: &str = "run";

/// Publishes a line, and returns its position in the log.
pub async fn publish(ingest: &str, step: i64) -> LogPosition {
    let kind = Kind::LogTerminalLine(LogTerminalLine { line: step.to_string(), step });
    let event = Event { client_time_us: None, kind: Some(kind) };
    let batch = IngestionBatch { events: vec![event], ..IngestionBatch::default() }.encode_to_vec().into();
    let request = PublishRequest { run_id: RUN.into(), batch, ..PublishRequest::default() };
    let mut client = IngestServiceClient::new(channel(ingest).await);
    client.publish(request).await.expect("the line is accepted").into_inner().position.expect("a position")
}

/// Number of lines that can be read once the record at this position is applied.
pub async fn lines_after(query: &str, position: LogPosition) -> Result<usize, String> {
    let mut request = Request::new(LinesRequest { run_id: RUN.into(), ..LinesRequest::default() });
    let LogPosition { log, partition, offset } = position;
    let after = format!("{log}/{partition}/{offset}").parse().expect("the position is ASCII");
    request.metadata_mut().insert("matyan-after", after);
    let mut client = LogServiceClient::new(channel(query).await);
    let to_text = |status: Status| status.to_string();
    let mut pieces = client.lines(request).await.map_err(to_text)?.into_inner();
    let mut lines = 0;
    while let Some(piece) = pieces.message().await.map_err(to_text)? {
        lines += piece.lines.len();
    }
    Ok(lines)
}
