//! Benchmark of decoding frames of the Python client: `cargo run --release -p matyan-edge
//! --example frame_speed`.
//! Prints points per second of processor time, next to the result of parsing the same frames
//! with serde_json into a flat borrowed struct. It is not a test: it asserts nothing about
//! time.

#![expect(clippy::print_stdout, reason = "prints its results")]

use std::borrow::Cow;

use matyan_edge::ws::batch::{Dictionary, encode};
use matyan_wire::client_json::decode_frame;
use serde::Deserialize;
use serde_json::value::RawValue;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// An item for strict parsing: no NaN, no repeated keys, no conversions.
#[derive(Deserialize)]
#[expect(dead_code, reason = "the fields are only deserialized")]
struct Flat<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    #[serde(borrow)]
    name: Cow<'a, str>,
    value: f64,
    step: Option<i64>,
    epoch: Option<i64>,
    #[serde(borrow)]
    context: Option<&'a RawValue>,
    #[serde(borrow)]
    dtype: Option<Cow<'a, str>>,
    #[serde(borrow)]
    client_datetime: Cow<'a, str>,
}

const RUN: &str = "d41d8cd98f00b204e9800998ecf8427e";

fn frame(number: usize, items: usize, series: usize) -> String {
    let item = |index: usize| {
        let point = number * items + index;
        let value = (point as f64 * 0.37).sin();
        format!(
            "{{\"type\": \"log_metric\", \"run_id\": \"{RUN}\", \"name\": \"train/loss_{}\", \"value\": {value:?}, \
             \"step\": {}, \"epoch\": null, \"context\": {{\"subset\": \"train\"}}, \"dtype\": \"float\", \
             \"client_datetime\": \"2026-11-20T04:47:{:02}.{:06}+00:00\"}}",
            point % series,
            point / series,
            point / 1_000_000 % 60,
            point % 1_000_000,
        )
    };
    format!("[{}]", (0..items).map(item).collect::<Vec<_>>().join(", "))
}

/// Processor time used by this thread: on a shared machine a wall clock would also measure
/// other processes.
fn processor_seconds() -> f64 {
    let usage = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux provides schedstat");
    let nanoseconds = usage.split_whitespace().next().and_then(|it| it.parse::<f64>().ok());
    nanoseconds.expect("schedstat begins with a number") / 1e9
}

/// Prints the points per second of the best of five rounds over `frames`.
fn measure(name: &str, frames: &[String], items: usize, mut work: impl FnMut(&str) -> usize) {
    let round = |work: &mut dyn FnMut(&str) -> usize| {
        let begun = processor_seconds();
        let points: usize = frames.iter().map(|frame| work(frame)).sum();
        assert_eq!(points, frames.len() * items);
        points as f64 / (processor_seconds() - begun)
    };
    let best = (0..5).map(|_| round(&mut work)).fold(0.0, f64::max);
    println!("{name:40} {:6.2} M points/s", best / 1e6);
}

fn main() {
    for (items, series) in [(100, 10), (100, 10_000), (1, 10)] {
        let frames: Vec<String> = (0..200_000 / items).map(|number| frame(number, items, series)).collect();
        let bytes: usize = frames.iter().map(String::len).sum();
        println!("{items} items per frame, {series} series, {} bytes per item", bytes / frames.len() / items);
        measure("  decode", &frames, items, |frame| {
            decode_frame(frame.as_bytes()).expect("the frame is valid").metrics.len()
        });
        let mut dictionary = Dictionary::default();
        measure("  decode and encode the batch", &frames, items, |frame| {
            let mut frame = decode_frame(frame.as_bytes()).expect("the frame is valid");
            let batches = encode(RUN, &mut frame, &mut dictionary);
            batches.iter().map(|batch| batch.items.points as usize).sum()
        });
        measure("  serde_json, flat and strict", &frames, items, |frame| {
            serde_json::from_str::<Vec<Flat<'_>>>(frame).expect("the frame is strict").len()
        });
    }
}
