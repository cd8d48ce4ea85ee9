//! Tests with a log that is slow or fails: no acknowledged batch is lost, nothing is duplicated
//! once a worker has applied its rule, and no stream exceeds its memory budget.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use matyan_log::layers::{AppendFault, Faults, Rates};
use matyan_proto::{
    ingest::v1::{self as pb, stream_request::Message},
    log::v1::LogEntry,
};
use matyan_wire::ingestion::RecordFormat;
use prost::Message as _;
use tonic::Code;

use super::harness::*;
use crate::Settings;

/// A hold time within which the log of a busy machine still responds.
const LONG_ENOUGH: Duration = Duration::from_secs(3);

/// Sequence numbers that a worker would apply, because they continue the sequence of their producer.
fn applied(entries: &[LogEntry]) -> Vec<u64> {
    let mut applied = Vec::new();
    for entry in entries {
        if entry.sequence == applied.last().copied().unwrap_or(0) + 1 {
            applied.push(entry.sequence);
        }
    }
    applied
}

async fn send_and_finish(env: &TestEnv, batches: u64) {
    let stream = env.stream_open(open_producer(0), &[]).await;
    for sequence in 1..=batches {
        stream.send(sequence, &tag(&sequence.to_string())).await;
    }
    let (last, ended) = stream.finish().await;
    ended.unwrap();
    assert_eq!(last, batches);
}

#[tokio::test]
async fn a_failed_append_is_retried() {
    let env = TestEnv::new().await;
    env.faults.script_appends([Some(AppendFault::ErrorBefore), Some(AppendFault::ErrorBefore)]);
    send_and_finish(&env, 1).await;
    assert_eq!(env.entries().await.len(), 1);
    assert_eq!(env.metric("matyan_ingest_append_failures_total"), 2.0);
}

/// The first of six batches becomes durable last.
#[tokio::test]
async fn batches_that_are_durable_together_are_acknowledged_together() {
    let env = TestEnv::new().await;
    // Shorter than the hold time, and longer than anything below takes.
    env.faults.script_appends([Some(AppendFault::Delay(Duration::from_secs(25)))]);
    let mut stream = env.stream_open(open_producer(0), &[]).await;
    for sequence in 1..=5 {
        stream.send(sequence, &tag("t")).await;
    }
    let written = async |count| {
        while env.record_count().await < count {
            tokio::task::yield_now().await;
        }
    };
    written(5).await;
    // The log completes the appends of a sync before the next sync.
    stream.send(6, &tag("t")).await;
    written(6).await;
    tokio::time::pause();
    let first = stream.answer().await.unwrap().unwrap();
    assert!(first.sequence >= 5, "{first:?}");
}

#[tokio::test]
async fn after_a_failed_append_in_between_the_log_still_ends_in_order() {
    let env = TestEnv::new().await;
    env.faults.script_appends([None, Some(AppendFault::ErrorBefore), None, Some(AppendFault::ErrorAfter)]);
    send_and_finish(&env, 6).await;
    let entries = env.entries().await;
    assert_eq!(applied(&entries), [1, 2, 3, 4, 5, 6]);
}

#[tokio::test]
async fn a_batch_in_flight_is_not_appended_again_after_a_failure() {
    const UNDER_WAY: Duration = Duration::from_secs(2);
    let env = TestEnv::new().await;
    // The other batches arrive while the first is in flight, no matter how slow the machine
    // is.
    let faults = [AppendFault::Delay(3 * UNDER_WAY), AppendFault::ErrorBefore, AppendFault::Delay(UNDER_WAY)];
    env.faults.script_appends(faults.map(Some));
    let start = tokio::time::Instant::now();
    send_and_finish(&env, 3).await;
    assert!(start.elapsed() >= UNDER_WAY, "{:?}", start.elapsed());
    let sequences: Vec<_> = env.entries().await.iter().map(|entry| entry.sequence).collect();
    assert_eq!(sequences, [1, 3, 2, 3], "the batch after the gap is appended again");
}

#[tokio::test]
async fn a_lost_answer_duplicates_nothing() {
    let env = TestEnv::new().await;
    env.faults.script_appends([Some(AppendFault::ErrorAfter)]);
    send_and_finish(&env, 1).await;
    let entries = env.entries().await;
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[0], entries[1], "the repeat has the same ids, so a worker drops it");
}

#[tokio::test]
async fn a_log_that_often_fails_neither_loses_nor_duplicates_anything() {
    const BATCHES: u64 = 60;
    for seed in 0..4 {
        println!("seed {seed}");
        let rates = Rates {
            error_before: 0.02,
            error_after: 0.02,
            delay_up_to: Duration::from_millis(2),
            ..Rates::default()
        };
        let settings = Settings { hold: Duration::from_secs(3_600), ..Settings::default() };
        let env =
            TestEnv::build(settings, true, Faults::seeded(seed, rates, Duration::from_secs(3_600))).await;
        send_and_finish(&env, BATCHES).await;
        let entries = env.entries().await;
        assert_eq!(applied(&entries), (1..=BATCHES).collect::<Vec<_>>());
        let names = |entry: &LogEntry| pb::IngestionBatch::decode(entry.batch.clone()).unwrap();
        assert!(entries.iter().all(|entry| names(entry) == tag(&entry.sequence.to_string())));
    }
}

#[tokio::test]
async fn an_unavailable_log_ends_the_stream_and_its_client_continues_later() {
    let settings = Settings { hold: LONG_ENOUGH, ..Settings::default() };
    let env = TestEnv::build(settings, true, Faults::scripted(Duration::ZERO)).await;
    let mut stream = env.stream_open(open_producer(0), &[]).await;
    stream.send(1, &tag("a")).await;
    stream.acknowledged(1).await;
    env.faults.stop();
    stream.send(2, &tag("b")).await;
    stream.send(3, &tag("c")).await;
    let status = stream.finish().await.1.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "UNAVAILABLE"));
    assert!(env.metric("matyan_ingest_append_failures_total") > 1.0);
    assert_eq!(env.metric("matyan_ingest_in_flight_bytes"), 0.0);

    env.faults.resume();
    let mut stream = env.stream_open(open_producer(1), &[]).await;
    stream.send(2, &tag("b")).await;
    stream.send(3, &tag("c")).await;
    stream.acknowledged(3).await;
    assert_eq!(applied(&env.entries().await), [1, 2, 3]);
}

#[tokio::test]
async fn a_log_that_never_answers_ends_the_stream() {
    let env = TestEnv::with(Settings { hold: Duration::from_millis(100), ..Settings::default() }).await;
    env.faults.script_appends([Some(AppendFault::NoAnswer)]);
    let stream = env.stream().await;
    stream.send(1, &tag("a")).await;
    let (last, ended) = stream.finish().await;
    assert_eq!((last, ended.unwrap_err().code()), (0, Code::Unavailable));
}

/// The client has not read its responses when the log fails, and none of them can be merged.
#[tokio::test]
async fn durable_batches_are_acknowledged_before_the_stream_fails() {
    const DURABLE: usize = 10;
    let env = TestEnv::with(Settings { hold: LONG_ENOUGH, ..Settings::default() }).await;
    let faults = std::iter::repeat_n(None, DURABLE).chain([Some(AppendFault::NoAnswer)]);
    env.faults.script_appends(faults);
    let mut stream = env.stream().await;
    for sequence in 1..=DURABLE as u64 + 1 {
        stream.send(sequence, &points(0, &[], &[7])).await;
    }
    env.until("matyan_ingest_batches_total", |batches| batches == DURABLE as f64).await;
    env.until("matyan_ingest_in_flight_bytes", |bytes| bytes == 0.0).await;
    for sequence in 1..=DURABLE as u64 {
        let answer = stream.answer().await.unwrap().unwrap();
        assert_eq!((answer.sequence, answer.rejected_items), (sequence, 1));
    }
    assert_eq!(stream.answer().await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn a_client_that_disconnects_loses_nothing_that_was_read() {
    let env = TestEnv::new().await;
    env.faults.script_appends([Some(AppendFault::ErrorBefore)]);
    let stream = env.stream().await;
    stream.send(1, &tag("a")).await;
    stream.send(2, &tag("b")).await;
    env.until("matyan_ws_messages_total", |messages| messages == 2.0).await;
    stream.hang_up();
    env.until("matyan_ingest_streams_active", |streams| streams == 0.0).await;
    assert_eq!(applied(&env.entries().await), [1, 2]);
}

#[tokio::test]
async fn a_repeated_batch_in_flight_is_not_appended_again() {
    let env = TestEnv::new().await;
    env.faults.script_appends([Some(AppendFault::Delay(Duration::from_millis(50)))]);
    let stream = env.stream().await;
    stream.send(1, &tag("a")).await;
    stream.send(1, &tag("a")).await;
    stream.send(2, &tag("b")).await;
    let (last, ended) = stream.finish().await;
    ended.unwrap();
    assert_eq!(last, 2);
    assert!(env.entries().await.iter().map(|entry| entry.sequence).eq(1..=2));
}

/// Sends batches of the given size in an endless loop, and counts them.
fn flood(stream: &Stream, bytes: usize) -> (Arc<AtomicUsize>, tokio::task::JoinHandle<()>) {
    let sender = stream.sender();
    let sent = Arc::new(AtomicUsize::new(0));
    let count = sent.clone();
    let batch: bytes::Bytes = heavy(bytes).encode_to_vec().into();
    let task = tokio::spawn(async move {
        for sequence in 1.. {
            let batch = pb::StreamBatch { sequence, batch: batch.clone(), traceparent: String::new() };
            if sender.send(pb::StreamRequest { message: Some(Message::Batch(batch)) }).await.is_err() {
                break;
            }
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    (sent, task)
}

/// Lets all tasks run until nothing changes: they share one thread, and the log does not
/// respond.
async fn settle() {
    for _ in 0..10_000 {
        tokio::task::yield_now().await;
    }
}

const BATCH: usize = 100 << 10;

#[tokio::test]
async fn a_stream_is_not_read_beyond_its_byte_limit() {
    let env = TestEnv::with(Settings { stream_bytes: 10 * BATCH, ..Settings::default() }).await;
    env.faults.stop();
    let mut stream = env.stream().await;
    let (sent, task) = flood(&stream, BATCH);
    env.until("matyan_ingest_in_flight_bytes", |bytes| bytes >= (10 * BATCH) as f64).await;
    settle().await;
    let in_flight = env.metric("matyan_ingest_in_flight_bytes");
    assert!(in_flight < (11 * BATCH) as f64, "{in_flight}");
    // Other batches wait in the channel and in the transport.
    let sent = sent.load(Ordering::Relaxed);
    assert!((10..20).contains(&sent), "{sent}");

    env.faults.resume();
    stream.reached(50).await;
    task.abort();
}

#[tokio::test]
async fn a_stream_is_not_read_beyond_its_batch_limit() {
    let env = TestEnv::with(Settings { stream_batches: 7, ..Settings::default() }).await;
    env.faults.stop();
    let mut stream = env.stream().await;
    let (_, task) = flood(&stream, 10);
    env.until("matyan_ws_messages_total", |messages| messages >= 7.0).await;
    settle().await;
    assert_eq!(env.metric("matyan_ws_messages_total"), 7.0);
    env.faults.resume();
    stream.reached(50).await;
    task.abort();
}

#[tokio::test]
async fn all_streams_together_are_not_read_beyond_the_total_byte_limit() {
    const STREAMS: usize = 20;
    let total_bytes = 16 << 20;
    let env = TestEnv::with(Settings { total_bytes, stream_bytes: 2 << 20, ..Settings::default() }).await;
    env.faults.stop();
    let mut streams = Vec::new();
    let mut tasks = Vec::new();
    for _ in 0..STREAMS {
        let stream = env.stream().await;
        tasks.push(flood(&stream, 1 << 20).1);
        streams.push(stream);
    }
    env.until("matyan_ingest_in_flight_bytes", |bytes| bytes >= (15 << 20) as f64).await;
    settle().await;
    let in_flight = env.metric("matyan_ingest_in_flight_bytes");
    assert!(in_flight <= total_bytes as f64, "{in_flight}");
    // Only batches with a share are decoded; a batch has one item.
    let decoded = env.metric("matyan_ws_messages_total");
    assert!(decoded <= (total_bytes >> 20) as f64, "{decoded}");

    // Each stream makes progress once there is room.
    env.faults.resume();
    for stream in &mut streams {
        stream.reached(3).await;
    }
    for task in tasks {
        task.abort();
    }
}

/// As envelopes, points take a hundred times as many bytes as the client has sent.
#[tokio::test]
async fn batches_that_grow_as_json_are_counted_at_their_grown_size() {
    const STREAMS: usize = 20;
    const POINTS: usize = 1_000;
    let total_bytes = 4 << 20;
    let settings = Settings { total_bytes, format: RecordFormat::Json, ..Settings::default() };
    let env = TestEnv::with(settings).await;
    env.faults.stop();
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        let stream = env.stream().await;
        stream.send(1, &points(0, &["loss"], &[0; POINTS])).await;
        streams.push(stream);
    }
    env.until("matyan_ingest_in_flight_bytes", |bytes| bytes > (total_bytes / 2) as f64).await;
    settle().await;
    let in_flight = env.metric("matyan_ingest_in_flight_bytes");
    assert!(in_flight <= total_bytes as f64, "{in_flight}");
    env.faults.resume();
    for stream in &mut streams {
        stream.reached(1).await;
    }
    assert_eq!(env.metric("matyan_ingest_in_flight_bytes"), 0.0);
}

/// A batch that may outgrow the whole budget waits for some room, but not for all other batches
/// to finish.
#[tokio::test]
async fn a_large_batch_as_json_is_held_together_with_others() {
    let total_bytes = 4 << 20;
    let env =
        TestEnv::with(Settings { total_bytes, format: RecordFormat::Json, ..Settings::default() }).await;
    env.faults.stop();
    let mut small = env.stream().await;
    let mut large = env.stream().await;
    small.send(1, &tag("small")).await;
    env.until("matyan_ingest_in_flight_bytes", |bytes| bytes > 0.0).await;
    large.send(1, &heavy(1 << 20)).await;
    env.until("matyan_ingest_in_flight_bytes", |bytes| bytes > (1 << 20) as f64).await;
    env.faults.resume();
    small.reached(1).await;
    large.reached(1).await;
}

#[tokio::test]
async fn acknowledgements_of_a_run_that_sends_too_fast_are_delayed() {
    // The first batch uses up the burst; the second is acknowledged once the rate allows for
    // it.
    let bytes = heavy(10_000).encoded_len() as u64;
    let env = TestEnv::with(Settings { run_bytes_per_second: bytes, ..Settings::default() }).await;
    let start = tokio::time::Instant::now();
    let mut stream = env.stream().await;
    stream.send(1, &heavy(10_000)).await;
    stream.acknowledged(1).await;
    assert_eq!(env.metric("matyan_ingest_delayed_acks_total"), 0.0);
    stream.send(2, &heavy(10_000)).await;
    stream.acknowledged(2).await;
    assert_eq!(env.metric("matyan_ingest_delayed_acks_total"), 1.0);
    assert!(start.elapsed() >= Duration::from_millis(990), "{:?}", start.elapsed());
}
