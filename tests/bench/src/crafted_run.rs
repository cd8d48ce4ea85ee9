//! Runs whose params are as large as the server allows, which make queries and answers expensive.

use std::ops::Range;

use matyan_tests::{
    Server, eventually,
    json::{Ack, JsonWriter, create_run},
};
use serde_json::{Map, Value, json};

/// Params of the largest run. Each takes 8 bytes as CBOR, and a run may have 6 MiB.
const ENTRIES: usize = 786_000;

/// Integers of the longest list. Each takes 5 bytes as CBOR, and a message may have 4 MiB.
const LONG: i64 = 838_000;
/// The least integer of 5 bytes.
const FIRST: i64 = 1 << 16;

/// Integers with equal low bits, for tables that are indexed by them.
const INTEGERS: i64 = 40_000;

const WIDE: usize = 20_000;

/// The largest number of params, in messages: a message may have 4 MiB.
pub(crate) fn most_params() -> [Value; 2] {
    let entries = |range: Range<usize>| {
        let params: Map<String, Value> = range.map(|number| (format!("k{number:05x}"), json!(1))).collect();
        Value::Object(params)
    };
    [entries(0..ENTRIES / 2), entries(ENTRIES / 2..ENTRIES)]
}

/// A long list `list`, a list of crafted integers `integers`, and an object of many keys `wide`.
pub(crate) fn lists() -> [Value; 2] {
    let list: Vec<i64> = (FIRST..FIRST + LONG).collect();
    let integers: Vec<i64> = (0..INTEGERS).map(|number| number << 16).collect();
    let wide: Map<String, Value> = (0..WIDE).map(|number| (format!("key_{number:05}"), json!(1))).collect();
    [json!({"list": list}), json!({"integers": integers, "wide": wide})]
}

/// Creates a run with the params of messages, and waits until it is readable. No two messages have a param in
/// common.
pub(crate) async fn create(server: &Server, run: &str, messages: &[Value]) {
    let mut writer = JsonWriter::connect(&server.ingest, run).await.expect("the server listens");
    assert_eq!(writer.send(&create_run()).await, Ok(Ack::Ok));
    for params in messages {
        let frame = json!({"type": "log_hparams", "value": params});
        assert_eq!(writer.send(&frame).await, Ok(Ack::Ok));
    }
    let all: usize = messages.iter().map(entries).sum();
    let path = format!("/api/v1/rest/runs/{run}/info/");
    eventually("the params of the run are readable", async || {
        let info = server.get(&path).await?;
        let stored = entries(&info["params"]);
        if stored >= all { Ok(()) } else { Err(format!("{stored} params of {all}")) }
    })
    .await;
}

fn entries(params: &Value) -> usize {
    params.as_object().map_or(0, Map::len)
}
