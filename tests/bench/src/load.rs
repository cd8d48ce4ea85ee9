//! Frames and batches for the writers, built before the clock starts, so that generating load
//! takes little CPU time from the server.

use matyan_proto::ingest::v1::{IngestionBatch, Points, SeriesDef};
use matyan_wire::rows;

/// A value such as a training run logs: a falling curve with noise, originally float32.
pub(crate) fn curve(step: i64) -> f64 {
    let at = step as f64;
    let noise = ((step.wrapping_mul(2_654_435_761) & 0xffff) as f64 / 65_536.0 - 0.5) * 0.1;
    f64::from((1.0 / (1.0 + at / 1000.0) + noise) as f32)
}

/// 2026-01-01 plus about 10 ms per step, in microseconds.
pub(crate) fn time_us(step: i64) -> i64 {
    1_767_225_600_000_000 + step * 10_000 + step.wrapping_mul(7919) % 1000
}

/// The text of one documented metric message.
fn message(name: &str, step: i64) -> String {
    let time = time_us(step);
    let seconds = time / 1_000_000 % 60;
    let micros = time % 1_000_000;
    format!(
        "{{\"type\": \"log_metric\", \"run_id\": \"0123456789abcdef0123456789abcdef\", \"name\": \"{name}\", \
         \"value\": {:?}, \"step\": {step}, \"epoch\": {}, \"context\": {{\"subset\": \"train\"}}, \"dtype\": \"float\", \
         \"client_datetime\": \"2026-01-01T03:04:{seconds:02}.{micros:06}+00:00\"}}",
        curve(step),
        step / 1000,
    )
}

/// Frames as the published client sends them, with `per_frame` messages each. The names of
/// `series` metrics alternate.
pub(crate) fn json_frames(frames: usize, per_frame: usize, series: usize) -> Vec<String> {
    let mut sent = 0;
    let mut next = || {
        let text =
            message(&format!("metric_{}", sent % series), i64::try_from(sent / series).expect("few points"));
        sent += 1;
        text
    };
    (0..frames)
        .map(|_| match per_frame {
            1 => next(),
            _ => format!("[{}]", (0..per_frame).map(|_| next()).collect::<Vec<_>>().join(", ")),
        })
        .collect()
}

/// Columnar batches of `series` metrics with `points` in each. The first batch defines the
/// series.
pub(crate) fn binary_batches(batches: usize, points: usize, series: usize) -> Vec<IngestionBatch> {
    let steps = points / series;
    let mut made = Vec::with_capacity(batches);
    for at in 0..batches {
        let first = i64::try_from(at * steps).expect("few points");
        made.push(IngestionBatch { series: definitions(at, series), ..binary_batch(first, steps, series) });
    }
    made
}

/// A columnar batch of `steps` points of each of `series` metrics, from a step on.
pub(crate) fn binary_batch(first: i64, steps: usize, series: usize) -> IngestionBatch {
    let groups = (0..series).map(|number| {
        let range = first..first + i64::try_from(steps).expect("few points");
        Points {
            series: vec![u32::try_from(number).expect("few series"); steps],
            values: range.clone().map(curve).collect(),
            steps: range.clone().collect(),
            epochs: Vec::new(),
            times_us: range.map(time_us).collect(),
            ..Points::default()
        }
    });
    IngestionBatch { points: groups.collect(), ..IngestionBatch::default() }
}

/// Batches of one point of every series each, all at the same step and time: a row, as clients send it.
pub(crate) fn wide_batches(batches: usize, series: usize) -> Vec<IngestionBatch> {
    let width = u32::try_from(series).expect("few series");
    (0..batches)
        .map(|batch| {
            let step = i64::try_from(batch).expect("few batches");
            let values: Vec<f64> = (0..i64::from(width)).map(|at| curve(step * 31 + at)).collect();
            let points = Points {
                steps: vec![step],
                times_us: vec![time_us(step)],
                rows: Some(rows::encode(0, width, &values)),
                ..Points::default()
            };
            IngestionBatch {
                series: definitions(batch, series),
                points: vec![points],
                ..IngestionBatch::default()
            }
        })
        .collect()
}

/// Definitions of the series, which the first batch of a producer carries.
pub(crate) fn definitions(batch: usize, series: usize) -> Vec<SeriesDef> {
    let names = if batch == 0 { 0..series } else { 0..0 };
    names
        .map(|number| SeriesDef {
            name: format!("metric_{number}"),
            context: r#"{"subset": "train"}"#.into(),
            dtype: "float".into(),
        })
        .collect()
}
