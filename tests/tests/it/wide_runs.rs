//! Many series that are logged at every step: in rows, with a number for each value, and as JSON messages in the same
//! order. All of them have the same points and charts, although the server is killed in between.

use bytes::Bytes;
use matyan_proto::{
    common::v1::SeriesKey,
    ingest::v1::{Event, FinishRun, IngestionBatch, Points, Rows, event::Kind},
    series::v1::SeriesBuckets,
};
use matyan_tests::{
    Reader, Server,
    binary::BinaryWriter,
    eventually,
    json::{Ack, JsonWriter, metric},
    reading::Point,
};
use serde_json::Value;

const SERIES: u32 = 250;
const STEPS: i64 = 60;
/// The step before which the server is killed.
const KILLED_AT: i64 = 31;
/// Messages of a JSON frame.
const FRAME: usize = 50;

fn name(series: u32) -> String {
    format!("metric {series}")
}

/// The value of a point, which fits into 32 bits.
#[expect(clippy::cast_precision_loss, reason = "the numbers are small")]
fn value(series: u32, step: i64) -> f32 {
    if (series, step) == (7, 11) { f32::NAN } else { series as f32 + step as f32 / 8.0 }
}

fn in_a_row(step: i64) -> Points {
    let bytes: Vec<u8> = (0..SERIES).flat_map(|series| value(series, step).to_le_bytes()).collect();
    let rows =
        Rows { first_series: 0, series_count: SERIES, narrow_values: Bytes::from(bytes), ..Rows::default() };
    Points { steps: vec![step], times_us: vec![1_000 + step], rows: Some(rows), ..Points::default() }
}

fn listed(step: i64) -> Points {
    Points {
        series: (0..SERIES).collect(),
        values: (0..SERIES).map(|series| f64::from(value(series, step))).collect(),
        steps: vec![step],
        times_us: vec![1_000 + step],
        ..Points::default()
    }
}

/// Adds the definitions of all series to the first batch of a writer.
fn define(writer: &mut BinaryWriter, batch: &mut IngestionBatch) {
    for series in 0..SERIES {
        assert_eq!(writer.series(batch, &name(series)), series);
    }
}

async fn send_step(writer: &mut BinaryWriter, step: i64, points: Points) {
    let mut batch = IngestionBatch::default();
    if step == 0 {
        define(writer, &mut batch);
    }
    batch.points = vec![points];
    if step + 1 == STEPS {
        batch.events = vec![Event { kind: Some(Kind::FinishRun(FinishRun::default())), ..Event::default() }];
    }
    writer.send(&batch).await.expect("the connection is open");
}

async fn send_messages(writer: &mut JsonWriter, step: i64) {
    let messages: Vec<Value> =
        (0..SERIES).map(|series| metric(&name(series), f64::from(value(series, step)), Some(step))).collect();
    for frame in messages.chunks(FRAME) {
        let frame = Value::Array(frame.to_vec());
        // JSON of this library has no NaN.
        let text = frame.to_string().replace("\"value\":null", "\"value\":NaN");
        assert_eq!(writer.send_text(text).await, Ok(Ack::Ok));
    }
}

async fn write(server: &mut Server) {
    let mut rows = BinaryWriter::new("rows");
    let mut list = BinaryWriter::new("list");
    rows.connect(&server.ingest).await.expect("the server listens");
    list.connect(&server.ingest).await.expect("the server listens");
    let mut json = JsonWriter::connect(&server.ingest, "json").await.expect("the server listens");
    for step in 0..STEPS {
        if step == KILLED_AT {
            // Batches that are not acknowledged are sent again.
            server.kill();
            server.start().await;
            rows.connect(&server.ingest).await.expect("the server listens");
            list.connect(&server.ingest).await.expect("the server listens");
            json = JsonWriter::connect(&server.ingest, "json").await.expect("the server listens");
        }
        send_step(&mut rows, step, in_a_row(step)).await;
        send_step(&mut list, step, listed(step)).await;
        send_messages(&mut json, step).await;
    }
    rows.wait_for_acks(0).await.expect("everything is acknowledged");
    list.wait_for_acks(0).await.expect("everything is acknowledged");
}

async fn points(reader: &Reader, run: &str, series: u32) -> Vec<Point> {
    reader.points(run, &name(series), "").await.expect("the server answers")
}

/// Comparable text: NaN is equal to itself.
fn text(points: &[Point], with_times: bool) -> Vec<String> {
    let time = |point: &Point| point.time_us.filter(|_| with_times);
    points
        .iter()
        .map(|point| {
            format!("{} {:x} {:?} {:?}", point.step, point.value.to_bits(), point.epoch, time(point))
        })
        .collect()
}

async fn chart(reader: &Reader, run: &str, series: u32) -> String {
    let key = SeriesKey { name: name(series), ..SeriesKey::default() };
    let chart = reader.chart(run, key, 20).await.expect("the server answers").expect("the series exists");
    let SeriesBuckets { width, origin, index, count, min, max, first, last, mean, nan, .. } = chart;
    format!("{width} {origin} {index:?} {count:?} {min:?} {max:?} {first:?} {last:?} {mean:?} {nan:?}")
}

#[tokio::test]
async fn rule_138_wide_runs_have_the_same_points_however_they_are_sent() {
    let mut server = Server::up().await;
    write(&mut server).await;
    let reader = Reader::connect(&server.query).await;
    let all = u64::from(SERIES) * u64::try_from(STEPS).expect("few steps");
    for run in ["rows", "list", "json"] {
        eventually("all points are applied", async || match reader.count(run).await {
            Ok(count) if count == all => Ok(()),
            other => Err(format!("{run}: {other:?}")),
        })
        .await;
    }
    for series in 0..SERIES {
        let rows = points(&reader, "rows", series).await;
        assert!(rows.iter().map(|point| point.step).eq(0..STEPS), "{series}: {rows:?}");
        let expected = |point: &Point| f64::from(value(series, point.step)).to_bits();
        assert!(rows.iter().all(|point| point.value.to_bits() == expected(point)), "{series}: {rows:?}");
        assert_eq!(text(&rows, true), text(&points(&reader, "list", series).await, true));
        assert_eq!(text(&rows, false), text(&points(&reader, "json", series).await, false));
    }
    for series in [0, 7, SERIES - 1] {
        let rows = chart(&reader, "rows", series).await;
        assert_eq!(rows, chart(&reader, "list", series).await);
        assert_eq!(rows, chart(&reader, "json", series).await);
    }
}
