//! Conformance with Matyan 0.3: recorded messages and the resulting state, which must match, or
//! be an improvement where the file says so.

use std::path::PathBuf;

use bytes::Bytes;
use futures::StreamExt as _;
use matyan_log::Record;
use matyan_model::{index::index_runs_page, keys, run::Head};
use matyan_value::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    harness::{P, TestEnv},
    run_reader::{StoredRun, context_id},
};
use crate::record::Entry;

/// Vector files in the repository, and in the directory named by `MATYAN_VECTORS_DIR`.
fn files(prefix: &str) -> Vec<PathBuf> {
    let recorded = PathBuf::from("../../tests/vectors");
    let folders = std::iter::once(recorded).chain(std::env::var_os("MATYAN_VECTORS_DIR").map(PathBuf::from));
    let files =
        folders.flat_map(|folder| std::fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path());
    files.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(prefix)).collect()
}

/// Number of concurrent test stores: opening one waits for the disk.
const CONCURRENT_CASES: usize = 16;

#[tokio::test]
async fn vectors_ingest_apply() {
    let parse = |path: PathBuf| json::parse(&std::fs::read_to_string(path).unwrap()).unwrap();
    let files: Vec<Value> = files("ingest_apply").into_iter().map(parse).collect();
    let cases: Vec<&Map> = files.iter().flat_map(|file| list(&map(file)["cases"])).map(map).collect();
    assert!(!cases.is_empty());
    let problems: Vec<Vec<String>> =
        futures::stream::iter(cases).map(play).buffered(CONCURRENT_CASES).collect().await;
    let problems = problems.concat();
    assert!(problems.is_empty(), "{} problems\n{}", problems.len(), problems.join("\n"));
}

async fn play(case: &Map) -> Vec<String> {
    let env = TestEnv::new().await;
    let run = word(&case["run_id"]);
    let mut writer = env.writer(run);
    let mut offset = 0;
    for (at, batch) in list(&case["batches"]).iter().enumerate() {
        let mut entries = Vec::new();
        for message in list(batch) {
            entries.push(entry(run, map(message), at + 1, offset));
            offset += 1;
        }
        assert!(writer.apply(entries, &CancellationToken::new()).await.is_complete);
    }
    let mut actual = state(&env, run).await;
    let mut reference = map(&case["reference_state"]).clone();
    expect_spoken_name(run, &mut reference);
    let better = case.get("expected_instead").and_then(Value::as_map);
    let parked = env.parked().await.into_iter().map(|parked| parked.reason);
    // Matyan 0.3 drops a message of an unknown type.
    let parked =
        parked.filter(|reason| !(reason.starts_with("its type `") && reason.contains("` is unknown")));
    let mut problems: Vec<String> = parked.map(|reason| format!("parked: {reason}")).collect();
    let verdict = word(&case["verdict"]);
    if verdict == "match_or_better" && better.is_none() && map(&reference["meta"]).is_empty() {
        // Matyan 0.3 stored data without a run here; now the run is created.
        for key in ["meta", "times_listed", "listed_active"] {
            actual.insert(key.to_owned(), reference[key].clone());
        }
    }
    let mut against_reference = Vec::new();
    compare("", &Value::Map(reference), &Value::Map(actual.clone()), &mut against_reference);
    let mut against_better = Vec::new();
    for (key, expected) in better.into_iter().flatten().filter(|(key, _)| *key != "rule") {
        compare(key, expected, &actual[key], &mut against_better);
    }
    match verdict {
        "match" => problems.extend(against_reference),
        "match_or_better" if better.is_none() => problems.extend(against_reference),
        "match_or_better" if !against_reference.is_empty() => problems.extend(against_better),
        _ => problems.extend(against_better),
    }
    let name = word(&case["name"]);
    problems.extend(by_rule(name, &actual));
    problems.into_iter().map(|problem| format!("{name}: {problem}")).collect()
}

/// Replaces the default name of Matyan 0.3 by the default name of this server.
fn expect_spoken_name(run: &str, reference: &mut Map) {
    let Some(Value::Map(meta)) = reference.get_mut("meta") else { return };
    if let Some(Value::Text(name)) = meta.get_mut("name")
        && *name == format!("Run: {run}")
    {
        *name = matyan_value::spoken_name(run);
    }
}

fn entry(run: &str, message: &Map, time: usize, offset: u64) -> Entry {
    let mut value =
        format!(r#"{{"type":"{}","run_id":"{run}","timestamp":{time},"payload":"#, word(&message["type"]));
    write_json(&mut value, &message["payload"]);
    value.push('}');
    Entry::read(
        0,
        0,
        Record {
            offset,
            key: Bytes::new(),
            value: value.into(),
            headers: Vec::new(),
            appended_us: 0,
            leader_epoch: None,
        },
        false,
    )
}

fn write_json(out: &mut String, value: &Value) {
    match value {
        Value::Map(map) => {
            out.push('{');
            for (at, (key, value)) in map.iter().enumerate() {
                out.push_str(if at > 0 { "," } else { "" });
                out.push_str(&format!("{key:?}:"));
                write_json(out, value);
            }
            out.push('}');
        }
        Value::List(list) => {
            out.push('[');
            for (at, value) in list.iter().enumerate() {
                out.push_str(if at > 0 { "," } else { "" });
                write_json(out, value);
            }
            out.push(']');
        }
        scalar => {
            let map = Map::from([("x".to_owned(), scalar.clone())]);
            let text = matyan_value::Context::new(&map).canonical().to_owned();
            out.push_str(&text[5..text.len() - 1]);
        }
    }
}

/// Checks the cases whose expectation the file gives only in prose.
fn by_rule(case: &str, actual: &Map) -> Vec<String> {
    let sequence_values = |at: usize| list(&map(&list(&actual["sequences"])[at])["val"]).to_vec();
    let is_good = match case {
        "non-finite value" => {
            matches!(sequence_values(0)[..], [Value::Float(0.5), Value::Float(value)] if value.is_nan())
        }
        "integer above 64 bit" => {
            map(&actual["attrs"])["seed"] == Value::integer_from_decimal("1180591620717411303424").unwrap()
                && sequence_values(0) == [Value::Float(0.5)]
        }
        "value above 100 kB" => {
            list(&actual["sequences"]).len() == 2 && map(&actual["meta"]).contains_key("name")
        }
        "long string hyper-parameter" => {
            map(&actual["attrs"]).contains_key("hparams") && list(&actual["sequences"]).len() == 1
        }
        "log record redelivered" => sequence_values(0).len() == 1,
        "finish without create" => map(&actual["meta"]).get("active") == Some(&Value::Bool(false)),
        _ => true,
    };
    if is_good { Vec::new() } else { vec![format!("the rule of this case is violated: {actual:?}")] }
}

async fn state(env: &TestEnv, id: &str) -> Map {
    let snapshot = env.store().snapshot().await.unwrap();
    let head = matyan_model::run::head_get(&*snapshot, P, &matyan_model::ids::RunId::new(id)).await.unwrap();
    let run = env.read_run(id).await;
    let listed = async |range| index_runs_page(&*snapshot, &range, usize::MAX).await.unwrap().0;
    let number = run.as_ref().map(|run| run.number);
    let is_listed = |numbers: Vec<_>| Value::Bool(number.is_some_and(|number| numbers.contains(&number)));
    let mut state = Map::from([
        ("tombstoned".to_owned(), Value::Bool(matches!(head, Some(Head::Tombstone(_))))),
        ("times_listed".to_owned(), Value::Integer(env.listed().await.len() as i64)),
        ("listed_active".to_owned(), is_listed(listed(keys::index_active_all(P, true)).await)),
        ("listed_finished".to_owned(), is_listed(listed(keys::index_active_all(P, false)).await)),
        ("listed_archived".to_owned(), is_listed(listed(keys::index_archived_all(P, true)).await)),
        ("meta".to_owned(), Value::Map(Map::new())),
        ("attrs".to_owned(), Value::Null),
        ("contexts".to_owned(), Value::Map(Map::new())),
        ("traces".to_owned(), Value::List(Vec::new())),
        ("sequences".to_owned(), Value::List(Vec::new())),
        ("tags".to_owned(), Value::List(Vec::new())),
        ("experiment".to_owned(), Value::Null),
    ]);
    if let Some(run) = run {
        add_run(&mut state, env, run).await;
    }
    state
}

async fn add_run(state: &mut Map, env: &TestEnv, run: StoredRun) {
    let named = |name: String, count: i64| {
        object([("name", Value::Text(name)), ("run_count", Value::Integer(count))])
    };
    let tags = env.tags(&run.props).await.into_iter().map(|(name, count)| named(name, count)).collect();
    state.insert("tags".into(), Value::List(tags));
    if let Some((name, count)) = env.experiment(&run.props).await {
        state.insert("experiment".into(), named(name, count));
    }
    state.insert("meta".into(), meta(&run));
    state.insert("attrs".into(), attrs(&run));
    let mut sequences = Vec::new();
    for (header, points) in &run.metrics {
        let epochs = (0..points.len()).map(|at| points.get(at).epoch().map_or(Value::Null, Value::Integer));
        let values = points.values.iter().map(|value| Value::Float(*value)).collect();
        sequences.push(Sequence {
            name: header.name.clone(),
            context: header.context.clone(),
            dtype: header.dtype.clone(),
            last: points.values.last().map_or(Value::Null, |value| Value::Float(*value)),
            steps: points.steps.clone(),
            values,
            epochs: epochs.collect(),
        });
    }
    for (header, objects) in &run.objects {
        let mut values = Vec::new();
        for object in objects {
            values.push(env.value(object).await);
        }
        sequences.push(Sequence {
            name: header.name.clone(),
            context: header.context.clone(),
            dtype: header.dtype.clone(),
            last: Value::Float(0.0),
            steps: objects.iter().map(|object| object.step).collect(),
            epochs: objects.iter().map(|object| object.epoch.map_or(Value::Null, Value::Integer)).collect(),
            values,
        });
    }
    let lines = run.lines.iter().map(|line| (line.number, Value::Text(line.text.clone())));
    sequences.extend(Sequence::logs("logs", "logs", lines.collect()));
    let records = run.records.iter().map(|(sequence, record)| (*sequence as i64, log_record(record)));
    sequences.extend(Sequence::logs("__log_records", "log_records", records.collect()));
    sequences.sort_by_key(|sequence| (context_id(&sequence.context), sequence.name.clone()));
    let contexts = sequences.iter().map(|sequence| {
        let text = if sequence.context.is_empty() { "{}" } else { &sequence.context };
        (context_id(&sequence.context).to_string(), json::parse(text).unwrap())
    });
    state.insert("contexts".into(), Value::Map(contexts.collect()));
    state.insert("traces".into(), Value::List(sequences.iter().map(Sequence::trace).collect()));
    state.insert("sequences".into(), Value::List(sequences.iter().map(Sequence::values).collect()));
}

struct Sequence {
    name: String,
    context: String,
    dtype: String,
    last: Value,
    steps: Vec<i64>,
    values: Vec<Value>,
    epochs: Vec<Value>,
}

impl Sequence {
    fn logs(name: &str, dtype: &str, rows: Vec<(i64, Value)>) -> Option<Self> {
        let epochs = vec![Value::Null; rows.len()];
        let (steps, values): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
        let name = name.to_owned();
        let dtype = dtype.to_owned();
        let last = Value::Float(0.0);
        (!steps.is_empty()).then_some(Self {
            name,
            context: String::new(),
            dtype,
            last,
            steps,
            values,
            epochs,
        })
    }

    fn trace(&self) -> Value {
        object([
            ("name", Value::Text(self.name.clone())),
            ("context_id", Value::Integer(context_id(&self.context).into())),
            ("dtype", Value::Text(self.dtype.clone())),
            ("last", self.last.clone()),
            ("last_step", self.steps.last().map_or(Value::Null, |step| Value::Integer(*step))),
        ])
    }

    fn values(&self) -> Value {
        object([
            ("name", Value::Text(self.name.clone())),
            ("context_id", Value::Integer(context_id(&self.context).into())),
            ("steps", Value::List(self.steps.iter().map(|step| Value::Integer(*step)).collect())),
            ("val", Value::List(self.values.clone())),
            ("epoch", Value::List(self.epochs.clone())),
        ])
    }
}

fn meta(run: &StoredRun) -> Value {
    let time =
        |time_us: Option<i64>| time_us.map_or(Value::Null, |time_us| Value::Float(time_us as f64 / 1e6));
    let props = &run.props;
    object([
        ("name", Value::Text(props.name.clone())),
        ("description", Value::Text(props.description.clone())),
        ("active", Value::Bool(props.active)),
        ("is_archived", Value::Bool(props.archived)),
        ("created_at", time(Some(props.created_us))),
        ("client_start_ts", time(props.client_start_us)),
        ("finalized_at", time(props.finalized_us)),
        ("duration", time(props.duration_us)),
        ("experiment_id", props.experiment.clone().map_or(Value::Null, Value::Text)),
    ])
}

fn attrs(run: &StoredRun) -> Value {
    let mut attrs = run.params.clone();
    if !run.artifacts.is_empty() {
        let blobs = run.artifacts.iter().map(|(path, artifact)| {
            let key = artifact.blob_key.clone();
            let content_type = artifact.content_type.clone();
            (
                path.clone(),
                object([("s3_key", Value::Text(key)), ("content_type", Value::Text(content_type))]),
            )
        });
        attrs.insert("__blobs__".into(), Value::Map(blobs.collect()));
    }
    if attrs.is_empty() { Value::Null } else { Value::Map(attrs) }
}

fn log_record(record: &matyan_model::logs::LogRecord) -> Value {
    let decoded = |bytes: &[u8]| match bytes {
        [] => Value::Null,
        bytes => matyan_value::cbor::decode(bytes).unwrap(),
    };
    object([
        ("message", Value::Text(record.message.clone())),
        ("log_level", Value::Integer(record.level)),
        ("timestamp", Value::Float(record.timestamp)),
        ("args", decoded(&record.extra_args)),
        ("logger_info", decoded(&record.logger_info)),
    ])
}

/// Checks that everything expected exists. Placeholders match any time or id; numbers in
/// sequences may be integers or floats.
fn compare(path: &str, expected: &Value, actual: &Value, problems: &mut Vec<String>) {
    let is_equal = match (expected, actual) {
        (Value::Map(expected), Value::Map(actual)) => {
            let is_whole = !path.is_empty() && !path.ends_with("meta");
            if is_whole && expected.keys().ne(actual.keys()) {
                problems.push(format!("{path} has the keys {:?}, not {:?}", actual.keys(), expected.keys()));
            }
            for (key, value) in expected {
                compare(&format!("{path}.{key}"), value, actual.get(key).unwrap_or(&Value::Null), problems);
            }
            return;
        }
        (Value::List(expected), Value::List(actual)) if expected.len() == actual.len() => {
            for (at, (expected, actual)) in expected.iter().zip(actual).enumerate() {
                compare(&format!("{path}[{at}]"), expected, actual, problems);
            }
            return;
        }
        (Value::Text(text), Value::Float(time)) if text.starts_with("<apply time ") => {
            text.trim_start_matches("<apply time ").trim_end_matches('>').parse() == Ok(*time)
        }
        (Value::Text(text), Value::Text(_)) if text == "<id>" => true,
        (Value::Integer(expected), Value::Float(actual)) if path.contains("sequences") => {
            *expected as f64 == *actual
        }
        (Value::Map(map), Value::Null) => map.is_empty(),
        _ => expected == actual,
    };
    if !is_equal {
        problems.push(format!("{path} is {actual:?}, not {expected:?}"));
    }
}

fn object<const N: usize>(entries: [(&str, Value); N]) -> Value {
    Value::Map(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

fn map(value: &Value) -> &Map {
    value.as_map().unwrap_or_else(|| panic!("{value:?} is not an object"))
}

fn list(value: &Value) -> &[Value] {
    match value {
        Value::List(list) => list,
        other => panic!("{other:?} is not a list"),
    }
}

fn word(value: &Value) -> &str {
    match value {
        Value::Text(text) => text,
        other => panic!("{other:?} is not a text"),
    }
}
