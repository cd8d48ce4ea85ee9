//! A log that is slow or fails: nothing acknowledged is lost, nothing is doubled once a worker has applied its rule, and
//! nobody takes more than there is room for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use matyan_log::{
    RecordFormat,
    layers::{AppendFault, Faults, Rates},
};
use matyan_proto::{
    ingest::v1::{self as pb, stream_request::Message},
    log::v1::LogEntry,
};
use prost::Message as _;
use tonic::Code;

use super::harness::*;
use crate::Settings;

/// A hold time in which the log of a busy machine still answers.
const LONG_ENOUGH: Duration = Duration::from_secs(3);

/// What a worker would apply: a record counts if it continues its producer's sequence.
fn applied(entries: &[LogEntry]) -> Vec<u64> {
    let mut applied = Vec::new();
    for entry in entries {
        if entry.sequence == applied.last().copied().unwrap_or(0) + 1 {
            applied.push(entry.sequence);
        }
    }
    applied
}

async fn send_and_finish(world: &World, batches: u64) {
    let stream = world.stream_open(open_producer(0), &[]).await;
    for sequence in 1..=batches {
        stream.send(sequence, &tag(&sequence.to_string())).await;
    }
    let (last, ended) = stream.finish().await;
    ended.unwrap();
    assert_eq!(last, batches);
}

#[tokio::test]
async fn a_refused_append_is_tried_again() {
    let world = World::new().await;
    world.faults.script_appends([Some(AppendFault::ErrorBefore), Some(AppendFault::ErrorBefore)]);
    send_and_finish(&world, 1).await;
    assert_eq!(world.entries().await.len(), 1);
    assert_eq!(world.metric("matyan_ingest_append_failures_total"), 2.0);
}

#[tokio::test]
async fn after_a_failure_in_the_middle_the_log_ends_with_all_in_order() {
    let world = World::new().await;
    world.faults.script_appends([None, Some(AppendFault::ErrorBefore), None, Some(AppendFault::ErrorAfter)]);
    send_and_finish(&world, 6).await;
    let entries = world.entries().await;
    assert_eq!(applied(&entries), [1, 2, 3, 4, 5, 6]);
}

#[tokio::test]
async fn a_batch_that_is_under_way_is_not_appended_again() {
    const UNDER_WAY: Duration = Duration::from_secs(2);
    let world = World::new().await;
    // While the first is awaited the others come, however slow the machine is.
    let faults = [AppendFault::Delay(3 * UNDER_WAY), AppendFault::ErrorBefore, AppendFault::Delay(UNDER_WAY)];
    world.faults.script_appends(faults.map(Some));
    let start = tokio::time::Instant::now();
    send_and_finish(&world, 3).await;
    assert!(start.elapsed() >= UNDER_WAY, "{:?}", start.elapsed());
    let sequences: Vec<_> = world.entries().await.iter().map(|entry| entry.sequence).collect();
    assert_eq!(sequences, [1, 3, 2, 3], "what came past the gap comes again");
}

#[tokio::test]
async fn a_lost_answer_doubles_nothing() {
    let world = World::new().await;
    world.faults.script_appends([Some(AppendFault::ErrorAfter)]);
    send_and_finish(&world, 1).await;
    let entries = world.entries().await;
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[0], entries[1], "the repeat has the same ids, and is dropped");
}

#[tokio::test]
async fn a_log_that_often_fails_loses_and_doubles_nothing() {
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
        let world =
            World::build(settings, true, Faults::seeded(seed, rates, Duration::from_secs(3_600))).await;
        send_and_finish(&world, BATCHES).await;
        let entries = world.entries().await;
        assert_eq!(applied(&entries), (1..=BATCHES).collect::<Vec<_>>());
        let names = |entry: &LogEntry| pb::IngestionBatch::decode(entry.batch.clone()).unwrap();
        assert!(entries.iter().all(|entry| names(entry) == tag(&entry.sequence.to_string())));
    }
}

#[tokio::test]
async fn a_log_that_stays_away_ends_the_stream_and_its_client_goes_on_later() {
    let settings = Settings { hold: LONG_ENOUGH, ..Settings::default() };
    let world = World::build(settings, true, Faults::scripted(Duration::ZERO)).await;
    let mut stream = world.stream_open(open_producer(0), &[]).await;
    stream.send(1, &tag("a")).await;
    stream.acknowledged(1).await;
    world.faults.stop();
    stream.send(2, &tag("b")).await;
    stream.send(3, &tag("c")).await;
    let status = stream.finish().await.1.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "UNAVAILABLE"));
    assert!(world.metric("matyan_ingest_append_failures_total") > 1.0);
    assert_eq!(world.metric("matyan_ingest_in_flight_bytes"), 0.0);

    world.faults.resume();
    let mut stream = world.stream_open(open_producer(1), &[]).await;
    stream.send(2, &tag("b")).await;
    stream.send(3, &tag("c")).await;
    stream.acknowledged(3).await;
    assert_eq!(applied(&world.entries().await), [1, 2, 3]);
}

#[tokio::test]
async fn a_log_that_never_answers_ends_the_stream() {
    let world = World::with(Settings { hold: Duration::from_millis(100), ..Settings::default() }).await;
    world.faults.script_appends([Some(AppendFault::NoAnswer)]);
    let stream = world.stream().await;
    stream.send(1, &tag("a")).await;
    let (last, ended) = stream.finish().await;
    assert_eq!((last, ended.unwrap_err().code()), (0, Code::Unavailable));
}

/// The client has not taken its answers when the log fails; none of them may be merged.
#[tokio::test]
async fn what_is_durable_is_acknowledged_before_the_stream_fails() {
    const DURABLE: usize = 10;
    let world = World::with(Settings { hold: LONG_ENOUGH, ..Settings::default() }).await;
    let faults = std::iter::repeat_n(None, DURABLE).chain([Some(AppendFault::NoAnswer)]);
    world.faults.script_appends(faults);
    let mut stream = world.stream().await;
    for sequence in 1..=DURABLE as u64 + 1 {
        stream.send(sequence, &points(0, &[], &[7])).await;
    }
    world.until("matyan_ingest_batches_total", |batches| batches == DURABLE as f64).await;
    world.until("matyan_ingest_in_flight_bytes", |bytes| bytes == 0.0).await;
    for sequence in 1..=DURABLE as u64 {
        let answer = stream.answer().await.unwrap().unwrap();
        assert_eq!((answer.sequence, answer.rejected_items), (sequence, 1));
    }
    assert_eq!(stream.answer().await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn a_client_that_is_gone_loses_nothing_that_was_read() {
    let world = World::new().await;
    world.faults.script_appends([Some(AppendFault::ErrorBefore)]);
    let stream = world.stream().await;
    stream.send(1, &tag("a")).await;
    stream.send(2, &tag("b")).await;
    world.until("matyan_ws_messages_total", |messages| messages == 2.0).await;
    stream.hang_up();
    world.until("matyan_ingest_streams_active", |streams| streams == 0.0).await;
    assert_eq!(applied(&world.entries().await), [1, 2]);
}

#[tokio::test]
async fn a_batch_under_way_is_not_appended_again() {
    let world = World::new().await;
    world.faults.script_appends([Some(AppendFault::Delay(Duration::from_millis(50)))]);
    let stream = world.stream().await;
    stream.send(1, &tag("a")).await;
    stream.send(1, &tag("a")).await;
    stream.send(2, &tag("b")).await;
    let (last, ended) = stream.finish().await;
    ended.unwrap();
    assert_eq!(last, 2);
    assert!(world.entries().await.iter().map(|entry| entry.sequence).eq(1..=2));
}

/// Sends batches of `bytes` for ever, and counts them.
fn flood(stream: &Stream, bytes: usize) -> (Arc<AtomicUsize>, tokio::task::JoinHandle<()>) {
    let (sender, sent) = (stream.sender(), Arc::new(AtomicUsize::new(0)));
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

/// All tasks run on one thread and the log does not answer: after so many turns nothing moves any more.
async fn settle() {
    for _ in 0..10_000 {
        tokio::task::yield_now().await;
    }
}

const BATCH: usize = 100 << 10;

#[tokio::test]
async fn a_stream_is_not_read_beyond_its_bytes() {
    let world = World::with(Settings { stream_bytes: 10 * BATCH, ..Settings::default() }).await;
    world.faults.stop();
    let mut stream = world.stream().await;
    let (sent, task) = flood(&stream, BATCH);
    world.until("matyan_ingest_in_flight_bytes", |bytes| bytes >= (10 * BATCH) as f64).await;
    settle().await;
    let in_flight = world.metric("matyan_ingest_in_flight_bytes");
    assert!(in_flight < (11 * BATCH) as f64, "{in_flight}");
    // What else was sent waits in the channel and in the transport.
    let sent = sent.load(Ordering::Relaxed);
    assert!((10..20).contains(&sent), "{sent}");

    world.faults.resume();
    stream.reached(50).await;
    task.abort();
}

#[tokio::test]
async fn a_stream_is_not_read_beyond_its_batches() {
    let world = World::with(Settings { stream_batches: 7, ..Settings::default() }).await;
    world.faults.stop();
    let mut stream = world.stream().await;
    let (_, task) = flood(&stream, 10);
    world.until("matyan_ws_messages_total", |messages| messages >= 7.0).await;
    settle().await;
    assert_eq!(world.metric("matyan_ws_messages_total"), 7.0);
    world.faults.resume();
    stream.reached(50).await;
    task.abort();
}

#[tokio::test]
async fn all_streams_together_are_not_read_beyond_their_bytes() {
    const STREAMS: usize = 20;
    let total_bytes = 16 << 20;
    let world = World::with(Settings { total_bytes, stream_bytes: 2 << 20, ..Settings::default() }).await;
    world.faults.stop();
    let mut streams = Vec::new();
    let mut tasks = Vec::new();
    for _ in 0..STREAMS {
        let stream = world.stream().await;
        tasks.push(flood(&stream, 1 << 20).1);
        streams.push(stream);
    }
    world.until("matyan_ingest_in_flight_bytes", |bytes| bytes >= (15 << 20) as f64).await;
    settle().await;
    let in_flight = world.metric("matyan_ingest_in_flight_bytes");
    assert!(in_flight <= total_bytes as f64, "{in_flight}");
    // Decoded is only what has its share; a batch is one item.
    let decoded = world.metric("matyan_ws_messages_total");
    assert!(decoded <= (total_bytes >> 20) as f64, "{decoded}");

    // Each gets on when there is room.
    world.faults.resume();
    for stream in &mut streams {
        stream.reached(3).await;
    }
    tasks.iter().for_each(|task| task.abort());
}

/// As envelopes, points take a hundred times what the client has sent.
#[tokio::test]
async fn what_grows_as_json_is_counted_as_it_is_held() {
    const STREAMS: usize = 20;
    const POINTS: usize = 1_000;
    let total_bytes = 4 << 20;
    let settings = Settings { total_bytes, format: RecordFormat::Json, ..Settings::default() };
    let world = World::with(settings).await;
    world.faults.stop();
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        let stream = world.stream().await;
        stream.send(1, &points(0, &["loss"], &[0; POINTS])).await;
        streams.push(stream);
    }
    world.until("matyan_ingest_in_flight_bytes", |bytes| bytes > (total_bytes / 2) as f64).await;
    settle().await;
    let in_flight = world.metric("matyan_ingest_in_flight_bytes");
    assert!(in_flight <= total_bytes as f64, "{in_flight}");
    world.faults.resume();
    for stream in &mut streams {
        stream.reached(1).await;
    }
    assert_eq!(world.metric("matyan_ingest_in_flight_bytes"), 0.0);
}

/// What may grow beyond all that there is waits for room, and never for the end of everything else.
#[tokio::test]
async fn a_large_batch_as_json_goes_beside_others() {
    let total_bytes = 4 << 20;
    let world =
        World::with(Settings { total_bytes, format: RecordFormat::Json, ..Settings::default() }).await;
    world.faults.stop();
    let (mut small, mut large) = (world.stream().await, world.stream().await);
    small.send(1, &tag("small")).await;
    world.until("matyan_ingest_in_flight_bytes", |bytes| bytes > 0.0).await;
    large.send(1, &heavy(1 << 20)).await;
    world.until("matyan_ingest_in_flight_bytes", |bytes| bytes > (1 << 20) as f64).await;
    world.faults.resume();
    small.reached(1).await;
    large.reached(1).await;
}

#[tokio::test]
async fn a_run_that_sends_too_fast_gets_its_acknowledgements_late() {
    // The first batch uses up the burst; the second is due when it is paid for.
    let bytes = heavy(10_000).encoded_len() as u64;
    let world = World::with(Settings { run_bytes_per_second: bytes, ..Settings::default() }).await;
    let start = tokio::time::Instant::now();
    let mut stream = world.stream().await;
    stream.send(1, &heavy(10_000)).await;
    stream.acknowledged(1).await;
    assert_eq!(world.metric("matyan_ingest_delayed_acks_total"), 0.0);
    stream.send(2, &heavy(10_000)).await;
    stream.acknowledged(2).await;
    assert_eq!(world.metric("matyan_ingest_delayed_acks_total"), 1.0);
    assert!(start.elapsed() >= Duration::from_millis(990), "{:?}", start.elapsed());
}
