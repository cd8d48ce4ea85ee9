//! A line of a run as it is acknowledged, and what whoever brings the acknowledged position then reads.

use matyan_proto::{
    common::v1::LogPosition,
    ingest::v1::{
        Event, IngestionBatch, LogTerminalLine, PublishRequest, event::Kind,
        ingest_service_client::IngestServiceClient,
    },
    logs::v1::{LinesRequest, log_service_client::LogServiceClient},
};
use prost::Message as _;
use tonic::{Request, Status, transport::Channel};

/// Its only run.
const RUN: &str = "run";

async fn channel(base: &str) -> Channel {
    let endpoint = Channel::from_shared(base.to_owned()).expect("the base is a URL");
    endpoint.connect().await.expect("the server listens")
}

/// Writes a line, and tells where it stands.
pub async fn publish(ingest: &str, step: i64) -> LogPosition {
    let kind = Kind::LogTerminalLine(LogTerminalLine { line: step.to_string(), step });
    let event = Event { client_time_us: None, kind: Some(kind) };
    let batch = IngestionBatch { events: vec![event], ..IngestionBatch::default() }.encode_to_vec().into();
    let request = PublishRequest { run_id: RUN.into(), batch, ..PublishRequest::default() };
    let mut client = IngestServiceClient::new(channel(ingest).await);
    client.publish(request).await.expect("it is taken").into_inner().position.expect("it has a position")
}

/// How many lines there are once the record at this position is applied.
pub async fn lines_after(query: &str, position: LogPosition) -> Result<usize, String> {
    let mut request = Request::new(LinesRequest { run_id: RUN.into(), ..LinesRequest::default() });
    let LogPosition { log, partition, offset } = position;
    let after = format!("{log}/{partition}/{offset}").parse().expect("it is ASCII");
    request.metadata_mut().insert("matyan-after", after);
    let mut client = LogServiceClient::new(channel(query).await);
    let told = |status: Status| status.to_string();
    let mut pieces = client.lines(request).await.map_err(told)?.into_inner();
    let mut lines = 0;
    while let Some(piece) = pieces.message().await.map_err(told)? {
        lines += piece.lines.len();
    }
    Ok(lines)
}
