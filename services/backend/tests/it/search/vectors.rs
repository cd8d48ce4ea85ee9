//! The recorded queries of MatyanQL, run through the whole backend, from every file
//! `matyanql*.json` in the repository and in `MATYAN_VECTORS_DIR`.

use std::{collections::BTreeSet, path::PathBuf};

use matyan_proto::{
    common::v1::SeriesType,
    search::v1::{MetricsRequest, ObjectsRequest, Query, RunsRequest, metrics_request::Points},
};
use matyan_value::Map;
use serde_json::Value;
use tonic::Status;

use crate::search::harness::{Harness, RunSpec, STORED_PARAMS, Sequence, StoredParams, map, spec};

fn files() -> Vec<(String, Value)> {
    let own = PathBuf::from("../../tests/vectors");
    #[expect(
        clippy::disallowed_methods,
        reason = "the directory of further vectors is the only setting of these tests"
    )]
    let more = std::env::var("MATYAN_VECTORS_DIR").ok().map(PathBuf::from);
    let mut files = Vec::new();
    for folder in std::iter::once(own).chain(more) {
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}")) {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.starts_with("matyanql") && name.ends_with(".json") {
                files.push((name, serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap()));
            }
        }
    }
    assert!(!files.is_empty());
    files
}

fn microseconds(value: &Value) -> Option<i64> {
    value.as_f64().map(|seconds| (seconds * 1e6).round() as i64)
}

fn object(value: &Value) -> Map {
    if value.is_null() { Map::new() } else { map(&value.to_string()) }
}

fn run(value: &Value) -> RunSpec {
    let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let sequences = value["sequences"].as_array().unwrap().iter().filter(|it| it["dtype"] != "logs");
    RunSpec {
        name: text("name"),
        description: text("description"),
        experiment: value["experiment"].as_str().map(str::to_owned),
        tags: value["tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap().to_owned()).collect(),
        finalized_us: microseconds(&value["finalized_at"]),
        active: value["active"].as_bool().unwrap(),
        archived: value["archived"].as_bool().unwrap(),
        pending_delete: value["pending_deletion"].as_bool().unwrap(),
        params: object(&value["attrs"]),
        sequences: sequences.map(sequence).collect(),
        ..spec(&text("hash"), microseconds(&value["created_at"]).unwrap())
    }
}

/// A sequence that was never written to has no points; a value without a step gets step 0.
fn sequence(value: &Value) -> Sequence {
    let last = value["last"].as_f64();
    let step = value["last_step"].as_i64();
    Sequence {
        name: value["name"].as_str().unwrap().to_owned(),
        context: object(&value["context"]),
        dtype: value["dtype"].as_str().unwrap().to_owned(),
        points: last.map(|last| (step.unwrap_or(0), last)).into_iter().collect(),
    }
}

/// A canonical string for a value, regardless of the order of keys.
fn id(value: &Value) -> String {
    match value {
        Value::Object(entries) => {
            let mut parts: Vec<String> = entries.iter().map(|(k, v)| format!("{k:?}:{}", id(v))).collect();
            parts.sort();
            format!("{{{}}}", parts.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(id).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

async fn response(harness: &Harness, vector: &Value) -> Result<BTreeSet<String>, Status> {
    let query = Some(Query {
        text: vector["q"].as_str().unwrap().to_owned(),
        timezone_offset_min: vector["tz_offset_min"].as_i64().unwrap_or(0) as i32,
        report_progress: false,
    });
    let triple = |run: &str, name: &str, context: &str| {
        let context = if context.is_empty() { "{}" } else { context };
        let context: Value = serde_json::from_str(context).unwrap();
        id(&serde_json::json!([run, name, context]))
    };
    let of = match vector["mode"].as_str().unwrap() {
        "run" => {
            let found = harness.runs(RunsRequest { query, ..RunsRequest::default() }).await?;
            return Ok(found.ids().into_iter().map(|run| id(&Value::from(run))).collect());
        }
        "metric" => {
            let request =
                MetricsRequest { query, points: Some(Points::None(true)), ..MetricsRequest::default() };
            let rows = harness.metrics(request).await?;
            let names = rows.iter().flat_map(|row| {
                let run = row.run.as_ref().unwrap();
                row.series.iter().map(|it| triple(&run.run_id, &it.name, &it.context))
            });
            return Ok(names.collect());
        }
        "images" => SeriesType::Images,
        "texts" => SeriesType::Texts,
        "distributions" => SeriesType::Distributions,
        "audios" => SeriesType::Audios,
        "figures" => SeriesType::Figures,
        other => panic!("unknown mode {other}"),
    };
    let request = ObjectsRequest { query, r#type: of.into(), ..ObjectsRequest::default() };
    let rows = harness.objects(request).await?;
    let names = rows.iter().flat_map(|row| {
        let run = row.run.as_ref().unwrap();
        row.sequences.iter().map(|it| triple(&run.run_id, &it.name, &it.context))
    });
    Ok(names.collect())
}

fn fits(response: &Result<BTreeSet<String>, Status>, expected: &Value) -> bool {
    let refused = |code: tonic::Code| response.as_ref().is_err_and(|status| status.code() == code);
    match expected["kind"].as_str().unwrap() {
        "match" => {
            let list = expected.get("runs").or(expected.get("triples")).and_then(Value::as_array).unwrap();
            response.as_ref().is_ok_and(|found| *found == list.iter().map(id).collect())
        }
        "syntax_error" | "rejected" | "internal_error" => refused(tonic::Code::InvalidArgument),
        // Time and memory are bounded, and nothing matches.
        "resource_limit" | "not_executed" | "hang" => match response {
            Ok(found) => found.is_empty(),
            Err(_) => refused(tonic::Code::InvalidArgument) || refused(tonic::Code::ResourceExhausted),
        },
        other => panic!("unknown kind {other}"),
    }
}

/// Whether a query tests for values that are always present here: the recorded system kept no
/// first value, and some sequences of the fixture have no steps.
fn is_always_known(query: &str) -> bool {
    query.contains(".first is None") || query.contains(".last_step is None")
}

/// Runs of a cohort: few, so that a file has several.
const COHORT: usize = 2;

/// A project with the runs of a file.
async fn project(runs: &[Value], stored: StoredParams) -> Harness {
    let harness = Harness::new().await;
    for (at, value) in runs.iter().enumerate() {
        if stored == StoredParams::Both && at == runs.len() / 2 {
            harness.collect_params(COHORT).await;
        }
        harness.create(&run(value)).await;
    }
    if stored == StoredParams::Columns {
        harness.collect_params(COHORT).await;
    }
    harness
}

/// Adds the vectors that do not give what was recorded. Returns the number of all vectors.
async fn check(content: &Value, stored: StoredParams, name: &str, wrong: &mut Vec<String>) -> usize {
    let harness = project(content["fixture"]["runs"].as_array().unwrap(), stored).await;
    let mut count = 0;
    for vector in content["vectors"].as_array().unwrap() {
        if is_always_known(vector["q"].as_str().unwrap()) {
            continue;
        }
        count += 1;
        let response = response(&harness, vector).await;
        let expected = vector.get("recommended").unwrap_or(&vector["expect"]);
        let accepted = vector.get("also_accept");
        if !fits(&response, expected) && !accepted.is_some_and(|accepted| fits(&response, accepted)) {
            wrong.push(format!("{name} {stored:?} {}: {}\n  {response:?}", vector["id"], vector["q"]));
        }
    }
    count
}

#[tokio::test]
async fn rule_133_vectors_matyanql_through_the_backend() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for (file, content) in files() {
        for stored in STORED_PARAMS {
            count += check(&content, stored, &file, &mut wrong).await;
        }
    }
    println!("{count} vectors");
    assert!(count > 0);
    assert!(wrong.is_empty(), "{} of {count} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
