//! Tests of one client's stream on a working log.

use std::{sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use matyan_proto::{
    common::v1::LogPosition,
    ingest::v1::{self as pb, ingest_service_client::IngestServiceClient, stream_request::Message},
};
use prost::Message as _;
use tonic::Code;

use super::harness::*;
use crate::{Frontier, Settings};

#[tokio::test]
async fn a_batch_is_written_to_the_log_unchanged() {
    let env = TestEnv::new().await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let metadata = [("matyan-project", "team"), ("matyan-caller", "ann"), ("traceparent", trace)];
    let mut stream = env.stream_open(open_producer(0), &metadata).await;
    let batch = points(0, &["loss", "acc"], &[0, 1, 1]);
    stream.send(1, &batch).await;
    let answer = stream.acknowledged(1).await;
    let position = answer.position.unwrap();
    assert_eq!((position.log, position.partition, position.offset), (LogPosition::UNKNOWN_LOG, 0, 0));

    let records = env.all_records().await;
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].key, "run");
    let content_type = "application/x-protobuf;type=matyan.log.v1.LogEntry";
    assert_eq!(
        records[0].headers,
        [
            ("content-type".to_owned(), Bytes::from(content_type)),
            ("traceparent".to_owned(), Bytes::from(trace)),
        ]
    );
    let entry = entry(&records[0]);
    assert_eq!(
        (entry.run_id.as_str(), entry.project.as_str(), entry.caller.as_str()),
        ("run", "team", "ann")
    );
    assert_eq!((entry.received_us, entry.sequence, entry.acknowledged), (NOW_US, 1, 0));
    assert_eq!((&entry.producer_id[..], entry.ephemeral_producer), (&[9; 16][..], false));
    assert_eq!(entry.batch, batch.encode_to_vec());
}

#[tokio::test]
async fn a_batch_with_rows_has_a_layout_that_older_workers_do_not_read() {
    let env = TestEnv::new().await;
    let mut stream = env.stream_open(open_producer(0), &[]).await;
    let mut batch = points(0, &["loss", "acc"], &[]);
    let rows = matyan_wire::rows::encode(0, 2, &[0.5, 1.0]);
    batch.points[0].rows = Some(rows);
    stream.send(1, &tag("t")).await;
    stream.send(2, &batch).await;
    // An older worker would skip it, because it does not count the sequence of a record that it parks.
    stream.send(3, &tag("t")).await;
    stream.acknowledged(3).await;
    stream.finish().await.1.unwrap();
    let mut stream = env.stream_open(open_producer(3), &[]).await;
    stream.send(4, &tag("t")).await;
    stream.acknowledged(4).await;
    let records = env.all_records().await;
    let layouts: Vec<u8> = records.iter().map(|record| record.value[0]).collect();
    assert_eq!(layouts, [1, 2, 2, 1]);
    let entry = matyan_wire::ingestion::decode(&records[1].value).unwrap();
    assert_eq!(entry.batch, batch.encode_to_vec());
}

#[tokio::test]
async fn rule_138_a_client_that_asks_learns_at_once_that_rows_are_taken() {
    let env = TestEnv::new().await;
    for acknowledged in [0, 3] {
        let open = pb::StreamOpen { asks_for_features: true, ..open_producer(acknowledged) };
        let mut stream = env.stream_open(open, &[]).await;
        let first = stream.answer().await.unwrap().unwrap();
        let expected = pb::StreamResponse { sequence: acknowledged, takes_rows: true, ..Default::default() };
        assert_eq!(first, expected);
        stream.send(acknowledged + 1, &tag("t")).await;
        assert!(stream.acknowledged(acknowledged + 1).await.takes_rows);
        stream.finish().await.1.unwrap();
    }
    // Other clients, such as earlier versions, get acknowledgements only.
    let mut stream = env.stream_open(open_producer(4), &[]).await;
    stream.send(5, &tag("t")).await;
    let first = stream.answer().await.unwrap().unwrap();
    assert_eq!((first.sequence, first.takes_rows), (5, true));
}

#[tokio::test]
async fn a_batch_may_have_its_own_trace() {
    let env = TestEnv::new().await;
    let trace = |digit: &str| format!("00-{}-{}-01", digit.repeat(32), digit.repeat(16));
    let mut stream = env.stream_open(open(), &[("traceparent", &trace("a"))]).await;
    for (sequence, traceparent) in [(1, String::new()), (2, trace("b")), (3, "nonsense".to_owned())] {
        let batch = tag("t").encode_to_vec().into();
        stream.send_message(Message::Batch(pb::StreamBatch { sequence, batch, traceparent })).await;
    }
    stream.acknowledged(3).await;
    let headers = |record: &matyan_log::Record| record.headers.get(1).map(|(_, value)| value.clone());
    let traces: Vec<_> = env.all_records().await.iter().map(headers).collect();
    assert_eq!(traces, [Some(trace("a").into()), Some(trace("b").into()), None]);
}

#[tokio::test]
async fn a_client_without_ids_gets_a_producer_for_the_stream() {
    let env = TestEnv::new().await;
    for _ in 0..2 {
        let mut stream = env.stream().await;
        stream.send(1, &tag("t")).await;
        stream.acknowledged(1).await;
        assert_eq!(stream.finish().await.1.ok(), Some(()));
    }
    let entries = env.entries().await;
    assert!(entries.iter().all(|entry| entry.ephemeral_producer && entry.sequence == 1));
    assert_ne!(entries[0].producer_id, entries[1].producer_id);
}

#[tokio::test]
async fn acknowledgements_are_cumulative_and_in_order() {
    const BATCHES: u64 = 2_000;
    let env = TestEnv::new().await;
    let stream = env.stream().await;
    let sender = stream.sender();
    let send = tokio::spawn(async move {
        for sequence in 1..=BATCHES {
            let batch = pb::StreamBatch {
                sequence,
                batch: tag("t").encode_to_vec().into(),
                traceparent: String::new(),
            };
            sender.send(pb::StreamRequest { message: Some(Message::Batch(batch)) }).await.unwrap();
        }
    });
    let mut stream = stream;
    let mut last = pb::StreamResponse::default();
    while last.sequence < BATCHES {
        let answer = stream.answer().await.unwrap().unwrap();
        assert!(answer.sequence > last.sequence);
        let offset = answer.position.unwrap().offset;
        assert_eq!(offset + 1, answer.sequence);
        last = answer;
    }
    send.await.unwrap();
    let entries = env.entries().await;
    assert!(entries.iter().map(|entry| entry.sequence).eq(1..=BATCHES));
    assert!(entries.iter().all(|entry| entry.acknowledged < entry.sequence));
    assert!(entries.is_sorted_by_key(|entry| entry.acknowledged));
    assert!(entries.last().unwrap().acknowledged > 0);
}

#[tokio::test]
async fn bad_items_are_rejected_and_the_rest_is_published() {
    let env = TestEnv::new().await;
    let mut stream = env.stream().await;
    let long = "x".repeat(2_000);
    let mut batch = points(0, &["loss", &long], &[0, 1, 0]);
    batch.events = [tag(&long).events, tag("good").events].concat();
    stream.send(1, &batch).await;
    stream.send(2, &points(2, &[], &[0, 1])).await;

    let answer = stream.answer().await.unwrap().unwrap();
    assert_eq!((answer.sequence, answer.rejected_items), (1, 2));
    let places: Vec<_> = answer.rejections.iter().map(|entry| (entry.item, entry.field.as_str())).collect();
    assert_eq!(places, [(0, "name"), (3, "name")]);
    assert!(answer.rejections[1].reason.contains("series 1"), "{answer:?}");
    assert_eq!(stream.acknowledged(2).await.rejections[0].item, 1);

    let entries = env.entries().await;
    let first = pb::IngestionBatch::decode(entries[0].batch.clone()).unwrap();
    assert_eq!((first.events, first.points[0].series.as_slice()), (tag("good").events, &[0, 0][..]));
    assert_eq!(first.series, [series("loss"), pb::SeriesDef::default()]);
    assert_eq!(env.metric("matyan_ingest_rejected_items_total"), 3.0);
    assert_eq!(env.metric("matyan_ws_messages_total"), 4.0);
}

#[tokio::test]
async fn a_batch_rejected_as_a_whole_continues_the_sequence() {
    let env = TestEnv::new().await;
    let mut stream = env.stream().await;
    stream.send(1, &points(0, &["loss"], &[0])).await;
    stream.send_bytes(2, Bytes::from_static(b"{\"type\":\"create_run\"}")).await;
    stream.send_bytes(3, vec![0; (16 << 20) + 1].into()).await;
    stream.send(4, &points(1, &[], &[7])).await;
    stream.send(5, &points(1, &[], &[0])).await;
    for (sequence, field) in [(2, "batch"), (3, "batch"), (4, "series")] {
        let answer = stream.acknowledged(sequence).await;
        assert_eq!((answer.rejections[0].field.as_str(), answer.rejected_items), (field, 1));
    }
    stream.acknowledged(5).await;
    let entries = env.entries().await;
    assert!(entries.iter().map(|entry| entry.sequence).eq(1..=5));
    assert!(entries[1..4].iter().all(|entry| entry.batch.is_empty()));
}

#[tokio::test]
async fn a_batch_of_the_largest_size_passes() {
    let env = TestEnv::new().await;
    let mut stream = env.stream().await;
    let batch = heavy((16 << 20) - 128);
    stream.send(1, &batch).await;
    stream.acknowledged(1).await;
    assert_eq!(env.entries().await[0].batch, batch.encode_to_vec());
}

#[tokio::test]
async fn a_durable_batch_is_acknowledged_again_but_not_appended_again() {
    let env = TestEnv::new().await;
    let mut stream = env.stream_open(open_producer(0), &[]).await;
    stream.send(1, &tag("a")).await;
    stream.send(2, &tag("b")).await;
    let first = stream.acknowledged(2).await;
    stream.send(1, &tag("a")).await;
    assert_eq!(stream.answer().await.unwrap().unwrap(), first);
    stream.send(3, &tag("c")).await;
    stream.acknowledged(3).await;
    assert!(env.entries().await.iter().map(|entry| entry.sequence).eq(1..=3));
}

#[tokio::test]
async fn a_reopened_stream_continues_where_its_client_is() {
    let env = TestEnv::new().await;
    let mut stream = env.stream_open(open_producer(0), &[]).await;
    stream.send(1, &points(0, &["a"], &[0])).await;
    stream.send(2, &points(1, &["b"], &[1])).await;
    stream.acknowledged(2).await;
    stream.hang_up();

    // The client has not seen the second acknowledgement, so it resends that batch
    // unchanged.
    let open = pb::StreamOpen { dictionary: dictionary(&["a"]), ..open_producer(1) };
    let mut stream = env.stream_open(open, &[]).await;
    stream.send(1, &tag("long acknowledged")).await;
    assert_eq!(stream.answer().await.unwrap().unwrap().sequence, 1);
    stream.send(2, &points(1, &["b"], &[1])).await;
    stream.send(3, &points(2, &["c"], &[0, 1, 2])).await;
    stream.acknowledged(3).await;

    let entries = env.entries().await;
    let sequences: Vec<_> = entries.iter().map(|entry| (entry.sequence, entry.acknowledged)).collect();
    assert_eq!(sequences[2], (2, 1));
    assert_eq!(sequences.iter().map(|(sequence, _)| *sequence).collect::<Vec<_>>(), [1, 2, 2, 3]);
    // The first record of a stream defines what earlier streams defined, in case the store has lost it.
    let batches: Vec<_> =
        entries.iter().map(|entry| pb::IngestionBatch::decode(entry.batch.clone()).unwrap()).collect();
    assert_eq!(batches[2], points(0, &["a", "b"], &[1]));
    assert_eq!(batches[3], points(2, &["c"], &[0, 1, 2]));
}

#[tokio::test]
async fn a_stream_without_room_for_its_dictionary_is_refused_and_continues_later() {
    let env = TestEnv::with(Settings { dictionary_bytes: 100_000, ..Settings::default() }).await;
    let mut first = env.stream_open(open_producer(0), &[]).await;
    let name = "n".repeat(1_000);
    let names: Vec<String> = (0..120).map(|number| format!("{name}{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    first.send(1, &points(0, &names, &[0])).await;
    first.acknowledged(1).await;
    first.hang_up();

    // Both take more than half of the memory, and keep it until the first record repeats the dictionary.
    let open = pb::StreamOpen { dictionary: dictionary(&names), ..open_producer(1) };
    let mut holding = env.stream_open(open.clone(), &[]).await;
    holding.send(1, &tag("acknowledged")).await;
    holding.acknowledged(1).await;
    let refused = env.stream_open(open.clone(), &[]).await;
    check_end(refused.finish().await, 0, Code::Unavailable, "UNAVAILABLE", "names");
    let mut small =
        env.stream_open(pb::StreamOpen { dictionary: dictionary(&["a"]), ..open_producer(1) }, &[]).await;
    small.send(1, &tag("acknowledged")).await;
    small.acknowledged(1).await;

    holding.send(2, &tag("a")).await;
    holding.acknowledged(2).await;
    let mut again = env.stream_open(open, &[]).await;
    again.send(2, &points(120, &[], &[119])).await;
    again.acknowledged(2).await;
}

#[track_caller]
fn check_end(ended: (u64, Result<(), tonic::Status>), durable: u64, code: Code, why: &str, word: &str) {
    let status = ended.1.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (code, why), "{status}");
    assert!(status.message().contains(word), "{status}");
    assert_eq!(ended.0, durable);
}

#[tokio::test]
async fn a_gap_ends_the_stream_after_the_good_batches() {
    let env = TestEnv::new().await;
    let stream = env.stream().await;
    stream.send(1, &tag("a")).await;
    stream.send(3, &tag("c")).await;
    check_end(stream.finish().await, 1, Code::FailedPrecondition, "OUT_OF_SEQUENCE", "2 was expected");
    assert_eq!(env.record_count().await, 1);
}

#[tokio::test]
async fn a_mismatched_dictionary_ends_the_stream() {
    let env = TestEnv::new().await;
    let stream = env.stream().await;
    stream.send(1, &points(0, &["a"], &[0])).await;
    stream.send(2, &points(0, &["b"], &[0])).await;
    check_end(stream.finish().await, 1, Code::FailedPrecondition, "OUT_OF_SEQUENCE", "series_base");
    assert_eq!(env.record_count().await, 1);
}

#[tokio::test]
async fn wrong_messages_end_the_stream() {
    let env = TestEnv::new().await;
    let batch = |sequence| {
        Some(Message::Batch(pb::StreamBatch {
            sequence,
            batch: tag("a").encode_to_vec().into(),
            ..Default::default()
        }))
    };
    for (first, second, word) in [
        (batch(1), None, "open"),
        (None, None, "open"),
        (Some(Message::Open(pb::StreamOpen { run_id: "a/b".into(), ..open() })), None, "run_id"),
        (Some(Message::Open(pb::StreamOpen { run_id: ".projects".into(), ..open() })), None, "run_id"),
        (
            Some(Message::Open(pb::StreamOpen { producer_id: Bytes::from_static(&[1; 3]), ..open() })),
            None,
            "producer_id",
        ),
        (Some(Message::Open(open_producer(u64::MAX))), None, "acknowledged"),
        (Some(Message::Open(open())), Some(Message::Open(open())), "batch"),
        (Some(Message::Open(open())), batch(0), "sequence"),
    ] {
        let stream = env.stream_with(first, &[]).await;
        if let Some(second) = second {
            stream.send_message(second).await;
        }
        check_end(stream.finish().await, 0, Code::InvalidArgument, "INVALID_FIELD", word);
    }
    assert_eq!(env.record_count().await, 0);
}

#[tokio::test]
async fn bad_metadata_is_refused() {
    let env = TestEnv::new().await;
    let mut request = tonic::Request::new(tokio_stream::empty());
    request.metadata_mut().insert("matyan-project", "a/b".parse().unwrap());
    let status = env.client().stream(request).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "INVALID_FIELD"));
}

/// Data of an unknown project would be acknowledged, and could then never be applied.
#[tokio::test]
async fn rule_46_an_unknown_project_is_refused() {
    let env = TestEnv::new().await;
    let check = async |frontier: Frontier, project: &str, code: Code, reason_wanted: &str| {
        let mut client = IngestServiceClient::new(frontier.ingest_server());
        let of = |request| {
            let mut request = tonic::Request::new(request);
            request.metadata_mut().insert("matyan-project", project.parse().unwrap());
            request
        };
        let publish = pb::PublishRequest {
            run_id: "run".into(),
            batch: tag("t").encode_to_vec().into(),
            ..Default::default()
        };
        let published = client.publish(of(publish)).await.unwrap_err();
        assert_eq!((published.code(), reason(&published).as_str()), (code, reason_wanted), "{published:?}");
        let mut stream = tonic::Request::new(tokio_stream::empty());
        stream.metadata_mut().insert("matyan-project", project.parse().unwrap());
        assert_eq!(client.stream(stream).await.unwrap_err().code(), code);
        let mut presign = tonic::Request::new(pb::PresignRequest {
            run_id: "run".into(),
            artifact_path: "a".into(),
            ..Default::default()
        });
        presign.metadata_mut().insert("matyan-project", project.parse().unwrap());
        assert_eq!(client.presign(presign).await.unwrap_err().code(), code);
    };
    check(env.frontier.clone(), "tema", Code::NotFound, "NOT_FOUND").await;
    check(env.frontier.clone(), "unreadable", Code::Unavailable, "UNAVAILABLE").await;
    // Without a way to look projects up, only the default one is known.
    check(env.with_blobs(env.blobs.clone()), "team", Code::NotFound, "NOT_FOUND").await;
    assert_eq!(env.record_count().await, 0);
}

#[tokio::test]
async fn a_stream_ends_when_its_project_is_deleted() {
    let env = TestEnv::new().await;
    let mut of_team = env.stream_open(open(), &[("matyan-project", "team")]).await;
    let mut of_default = env.stream().await;
    for stream in [&mut of_team, &mut of_default] {
        stream.send(1, &tag("t")).await;
        stream.acknowledged(1).await;
    }
    env.has_team.store(false, Ordering::Relaxed);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(31)).await;
    tokio::time::resume();
    let ended = of_team.answer().await.unwrap_err();
    assert_eq!((ended.code(), reason(&ended).as_str()), (Code::NotFound, "NOT_FOUND"), "{ended:?}");
    of_default.send(2, &tag("t")).await;
    of_default.acknowledged(2).await;
}

#[tokio::test]
async fn all_batches_of_an_ended_stream_are_acknowledged() {
    let env = TestEnv::new().await;
    let stream = env.stream().await;
    for sequence in 1..=50 {
        stream.send(sequence, &tag("t")).await;
    }
    let (last, ended) = stream.finish().await;
    ended.unwrap();
    assert_eq!(last, 50);
    env.until("matyan_ingest_streams_active", |streams| streams == 0.0).await;
    assert_eq!(env.metric("matyan_ingest_in_flight_bytes"), 0.0);
}

#[tokio::test]
async fn an_empty_stream_ends_without_an_error() {
    let env = TestEnv::new().await;
    let stream = env.stream().await;
    assert_eq!(stream.finish().await.1.ok(), Some(()));
}

/// Responses with rejections are not merged, so a stream is not read while too many wait. A message
/// that it has read keeps its memory until then, and all streams share that memory.
#[tokio::test]
async fn a_stream_ends_when_its_client_does_not_make_room() {
    /// Capacity of the channel of a stream.
    const QUEUED: usize = 4;
    const WAITING: usize = 16;
    let env = TestEnv::new().await;
    let send_rejected = async |stream: &Stream, count: usize| {
        for sequence in 1..=count as u64 {
            stream.send_bytes(sequence, Bytes::from_static(b"{}")).await;
        }
    };
    let appended = async |batches: usize| {
        env.until("matyan_ingest_batches_total", |appended| appended >= batches as f64).await;
    };
    let is_closed = async |stream: &Stream, after: Duration| {
        tokio::time::timeout(after, stream.sender().closed()).await.is_ok()
    };
    let check_stalled = |ended: (u64, Result<(), tonic::Status>)| {
        let durable = ended.0;
        assert!(durable >= QUEUED as u64 && durable < WAITING as u64, "{durable}");
        check_end(ended, durable, Code::Aborted, "CLIENT_STALLED", "read responses");
    };
    let mut slow = env.stream().await;
    let stalled = env.stream().await;
    let has_room = env.stream().await;
    let ending = env.stream().await;
    // One response less is no reason to stop reading.
    send_rejected(&has_room, QUEUED + WAITING - 1).await;
    send_rejected(&stalled, QUEUED + WAITING).await;
    send_rejected(&ending, QUEUED + 1).await;
    ending.send(99, &tag("t")).await;
    let of_others = 3 * QUEUED + 2 * WAITING;
    appended(of_others).await;
    // More responses wait than the stream would continue reading with, because all batches were read before
    // the first response.
    env.faults.stop();
    send_rejected(&slow, QUEUED + WAITING + 10).await;
    env.faults.resume();
    appended(of_others + QUEUED + WAITING + 5).await;

    tokio::time::pause();
    assert!(!is_closed(&slow, Duration::from_secs(50)).await);
    // Too few responses are taken for the stream to continue reading.
    assert_eq!(slow.answer().await.unwrap().unwrap().sequence, 1);
    for stream in [&slow, &stalled, &ending] {
        assert!(is_closed(stream, Duration::from_secs(11)).await);
    }
    assert!(!is_closed(&has_room, Duration::from_secs(3_600)).await);
    tokio::time::resume();
    check_stalled(slow.finish().await);
    check_stalled(stalled.finish().await);
    check_end(ending.finish().await, QUEUED as u64, Code::FailedPrecondition, "OUT_OF_SEQUENCE", "99");
    let (last, ended) = has_room.finish().await;
    ended.unwrap();
    assert_eq!(last, (QUEUED + WAITING - 1) as u64);
    env.frontier.drain().await;
}

/// A client that never reads its responses blocks nothing: they are merged.
#[tokio::test]
async fn answers_that_are_not_read_are_merged() {
    let env = TestEnv::new().await;
    let stream = env.stream().await;
    for sequence in 1..=1_000 {
        stream.send(sequence, &tag("t")).await;
    }
    env.until("matyan_ingest_batches_total", |batches| batches == 1_000.0).await;
    let (last, ended) = stream.finish().await;
    ended.unwrap();
    assert_eq!(last, 1_000);
}
