//! Acknowledged positions name the log that they belong to, also after it was made anew: a reader that brings one waits for
//! the record that stands there, and not for one of the log before.

use matyan_proto::{
    common::v1::LogPosition,
    ingest::v1::{
        Event, IngestionBatch, LogTerminalLine, PublishRequest, event::Kind,
        ingest_service_client::IngestServiceClient,
    },
    logs::v1::{LinesRequest, log_service_client::LogServiceClient},
};
use matyan_tests::Server;
use prost::Message as _;
use tonic::{Request, transport::Channel};

async fn channel(base: &str) -> Channel {
    let endpoint = Channel::from_shared(base.to_owned()).expect("the base is a URL");
    endpoint.connect().await.expect("the server listens")
}

async fn publish(server: &Server, step: i64) -> LogPosition {
    let kind = Kind::LogTerminalLine(LogTerminalLine { line: step.to_string(), step });
    let event = Event { client_time_us: None, kind: Some(kind) };
    let batch = IngestionBatch { events: vec![event], ..IngestionBatch::default() }.encode_to_vec().into();
    let request = PublishRequest { run_id: "run".into(), batch, ..PublishRequest::default() };
    let mut client = IngestServiceClient::new(channel(&server.ingest).await);
    client.publish(request).await.expect("it is taken").into_inner().position.expect("it has a position")
}

/// How many lines there are once the record at this position is applied.
async fn lines_after(server: &Server, position: LogPosition) -> usize {
    let mut request = Request::new(LinesRequest { run_id: "run".into(), ..LinesRequest::default() });
    let LogPosition { log, partition, offset } = position;
    let after = format!("{log}/{partition}/{offset}").parse().expect("it is ASCII");
    request.metadata_mut().insert("matyan-after", after);
    let mut client = LogServiceClient::new(channel(&server.query).await);
    let mut pieces = client.lines(request).await.expect("the position is applied").into_inner();
    let mut lines = 0;
    while let Some(piece) = pieces.message().await.expect("the answer is whole") {
        lines += piece.lines.len();
    }
    lines
}

#[tokio::test]
async fn rule_01_acknowledged_positions_name_their_log() {
    let mut server = Server::up().await;
    for number in 0..3 {
        // A started server has the log that it had.
        for start in 0..2_i64 {
            let step = i64::from(number) * 2 + start;
            let position = publish(&server, step).await;
            assert_eq!((position.log, position.offset), (number, start as u64));
            assert_eq!(lines_after(&server, position).await as i64, step + 1);
            assert!(server.terminate().await.success(), "{}", server.log());
            if start == 1 {
                std::fs::remove_dir_all(server.data_dir().join("log")).expect("the log can be removed");
            }
            server.start().await;
        }
    }
}
