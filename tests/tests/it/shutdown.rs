//! SIGTERM under load: every frame and batch is either acknowledged and stored, or refused and
//! not stored; the exit code is 0. Three writers use JSON, three the binary protocol, and two
//! gRPC, whose streams would stay open forever if the server did not end them.

use std::{collections::VecDeque, time::Duration};

use matyan_proto::ingest::v1::{
    IngestionBatch, Points, SeriesDef, StreamBatch, StreamOpen, StreamRequest,
    ingest_service_client::IngestServiceClient, stream_request::Message,
};
use matyan_tests::{Reader, Server, eventually, load::Load};
use prost::Message as _;
use rand::Rng;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

const ROUNDS: usize = 4;
const GRPC_WRITERS: usize = 2;
const OUTSTANDING: usize = 16;

fn message(message: Message) -> StreamRequest {
    StreamRequest { message: Some(message) }
}

/// A point without a step.
fn batch(sequence: u64) -> Message {
    let series = SeriesDef { name: "automatic".into(), ..SeriesDef::default() };
    #[expect(clippy::cast_precision_loss, reason = "sequences are small")]
    let points = Points { series: vec![0], values: vec![sequence as f64], ..Points::default() };
    let batch = IngestionBatch {
        series: if sequence == 1 { vec![series] } else { Vec::new() },
        series_base: 0,
        points: vec![points],
        ..IngestionBatch::default()
    };
    Message::Batch(StreamBatch { sequence, batch: batch.encode_to_vec().into(), ..StreamBatch::default() })
}

/// Writes over one stream until the server ends it. Returns the last acknowledged sequence and
/// the final status.
async fn write_grpc(ingest: String, run_id: String) -> (u64, Code) {
    let mut client = IngestServiceClient::connect(ingest).await.expect("the server listens");
    let (requests, receiver) = mpsc::channel(OUTSTANDING + 1);
    let open = StreamOpen { run_id, ..StreamOpen::default() };
    requests.send(message(Message::Open(open))).await.expect("the receiver is alive");
    let mut answers =
        client.stream(ReceiverStream::new(receiver)).await.expect("the stream opens").into_inner();
    let mut sent = 0;
    let mut acknowledged = 0;
    let mut outstanding = VecDeque::new();
    loop {
        while outstanding.len() < OUTSTANDING {
            sent += 1;
            outstanding.push_back(sent);
            // Sending may fail after the server has ended the stream; its responses
            // show the reason.
            requests.send(message(batch(sent))).await.ok();
        }
        match answers.message().await {
            Ok(Some(answer)) => acknowledged = answer.sequence,
            Ok(None) => return (acknowledged, Code::Ok),
            Err(status) => return (acknowledged, status.code()),
        }
        outstanding.retain(|sequence| *sequence > acknowledged);
    }
}

/// Compares what is stored for a run with what was acknowledged to its writer.
async fn compare_grpc(reader: &Reader, run_id: &str, acknowledged: u64) {
    let stored = eventually("everything acknowledged is applied", async || {
        let points = reader.points(run_id, "automatic", "").await.map_err(|status| status.to_string())?;
        if points.len() as u64 >= acknowledged { Ok(points) } else { Err(points.len().to_string()) }
    })
    .await;
    let values: Vec<f64> = stored.iter().map(|point| point.value).collect();
    #[expect(clippy::cast_precision_loss, reason = "sequences are small")]
    let expected: Vec<f64> = (1..=acknowledged).map(|sequence| sequence as f64).collect();
    assert_eq!(values, expected, "{run_id}: acknowledged and stored differ");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_acknowledges_or_refuses_everything() {
    let mut server = Server::up().await;
    let load = Load::start(&server.ingest, 3);
    let mut batches = 0;
    for round in 0..ROUNDS {
        let runs: Vec<String> = (0..GRPC_WRITERS).map(|number| format!("grpc-{round}-{number}")).collect();
        let writers: Vec<JoinHandle<_>> =
            runs.iter().map(|run| tokio::spawn(write_grpc(server.ingest.clone(), run.clone()))).collect();
        // A random moment under load.
        load.wait_for_acks(100).await;
        tokio::time::sleep(Duration::from_millis(rand::rng().random_range(0..300))).await;
        let status = server.terminate().await;
        assert!(status.success(), "{status}: {}", server.log());
        assert!(!server.log().contains("in time; "), "{}", server.log());
        server.start().await;
        load.set_address(&server.ingest);
        let reader = Reader::connect(&server.query).await;
        for (run_id, writer) in runs.iter().zip(writers) {
            let (acknowledged, end) = writer.await.expect("the writer does not panic");
            assert_eq!(end, Code::Unavailable, "{run_id}");
            compare_grpc(&reader, run_id, acknowledged).await;
            batches += acknowledged;
        }
    }
    load.wait_for_acks(100).await;
    let compared = load.finish(&Reader::connect(&server.query).await).await;
    assert_eq!((compared.refused, compared.applied_without_ack), (0, 0), "stored without an acknowledgment");
    println!(
        "{ROUNDS} times SIGTERM; {} JSON frames, {} binary and {batches} gRPC batches acknowledged, all stored once; \
         {} frames unacknowledged at the close, none of them stored",
        compared.frames, compared.batches, compared.unknown
    );
}
