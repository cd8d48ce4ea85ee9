//! Recorded search results and streams of the backend of Matyan 0.3, compared with the results
//! and streams of a whole server: the recorded project is sent over the WebSocket, and every
//! call must return the recorded bytes, except for known defects in the contract.

use std::collections::BTreeSet;

use futures::StreamExt;
use matyan_tests::{
    Server,
    codec::{Entry, Key, Value as Coded, entries},
    eventually,
    json::{Ack, CLIENT_TIME, JsonWriter},
    vectors,
};
use serde_json::{Value, json};

const REST: &str = "/api/v1/rest";

fn parse_vectors(prefix: &str) -> Vec<(String, Value)> {
    let parse = |(path, text): (std::path::PathBuf, String)| {
        let content =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (path.display().to_string(), content)
    };
    vectors::files(prefix, ".json").into_iter().map(parse).collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

/// Sends a run as it was recorded. The creation time cannot be sent, because the server assigns
/// it.
async fn send_run(server: &Server, run: &Value, items: Vec<Value>) {
    let mut all = vec![
        json!({"type": "create_run", "client_datetime": CLIENT_TIME, "force_resume": false}),
        json!({
            "type": "set_run_property", "name": run["name"], "description": run["description"],
            "archived": run["archived"], "experiment": run["experiment"],
        }),
    ];
    all.extend(list(&run["tags"]).iter().map(|tag| json!({"type": "add_tag", "tag_name": tag})));
    all.extend(items);
    if run["active"] == false {
        all.push(json!({"type": "finish_run", "client_datetime": CLIENT_TIME}));
    }
    let mut writer =
        JsonWriter::connect(&server.ingest, text(run, "hash")).await.expect("the server listens");
    for items in all.chunks(100) {
        assert_eq!(writer.send(&Value::Array(items.to_vec())).await, Ok(Ack::Ok), "{}", run["hash"]);
    }
    // Items are applied in order: once the last name can be read, everything before it can
    // be read too.
    for name in ["all was sent", text(run, "name")] {
        let named = json!({"type": "set_run_property", "name": name});
        assert_eq!(writer.send(&named).await, Ok(Ack::Ok));
        eventually("the last name of a run can be read", async || {
            let info = server.get(&format!("{REST}/runs/{}/info/", text(run, "hash"))).await?;
            if info["props"]["name"] == name { Ok(()) } else { Err(info["props"].to_string()) }
        })
        .await;
    }
}

fn is_object(dtype: &str) -> bool {
    matches!(dtype, "image" | "text" | "distribution" | "audio" | "figure")
}

/// One point of a sequence, as the published client sends it.
fn point(name: &str, context: &Value, dtype: &str, point: &Value) -> Value {
    let kind = if is_object(dtype) { "log_custom_object" } else { "log_metric" };
    json!({
        "type": kind, "name": name, "value": point["value"], "step": point["step"], "epoch": point["epoch"],
        "context": context, "dtype": dtype, "client_datetime": CLIENT_TIME,
    })
}

/// Status and body of a response.
async fn call(server: &Server, method: &str, path: &str, body: &Value, timezone: i64) -> (u16, Vec<u8>) {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let url = format!("{}{REST}{path}", server.query);
    let pairs: Vec<(&str, &str)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .collect();
    let client = reqwest::Client::new();
    let mut request = client.request(method.parse().expect("a method"), url).query(&pairs);
    if timezone != 0 {
        request = request.header("x-timezone-offset", timezone.to_string());
    }
    if !body.is_null() {
        request = request.json(body);
    }
    let response = request.send().await.expect("the server answers");
    let status = response.status().as_u16();
    let mut bytes = Vec::new();
    let mut stream = response.bytes_stream();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk.unwrap_or_else(|error| panic!("{path}: the stream broke: {error}")));
    }
    (status, bytes)
}

async fn load_project(server: &Server, data: &Value) {
    for experiment in list(&data["experiments"]) {
        let (status, body) =
            call(server, "POST", "/experiments/", &json!({"name": experiment["name"]}), 0).await;
        assert_eq!(status, 200);
        let id =
            serde_json::from_slice::<Value>(&body).expect("JSON")["id"].as_str().expect("an id").to_owned();
        let described = json!({"description": experiment["description"]});
        let (status, _) = call(server, "PUT", &format!("/experiments/{id}/"), &described, 0).await;
        assert_eq!(status, 200);
    }
    for tag in list(&data["tags"]) {
        let body = json!({"name": tag["name"], "color": tag["color"], "description": tag["description"]});
        assert_eq!(call(server, "POST", "/tags/", &body, 0).await.0, 200);
    }
    for run in list(&data["runs"]) {
        let mut items = vec![json!({"type": "log_hparams", "value": run["params"]})];
        for trace in list(&run["traces"]) {
            let context = &run["contexts"][trace["ctx"].to_string()];
            // No client can send several objects in one step.
            for it in list(&trace["points"]).iter().filter(|it| !it["value"].is_array()) {
                items.push(match text(trace, "dtype") {
                    "logs" => json!({"type": "log_terminal_line", "line": it["value"], "step": it["step"]}),
                    "log_records" => record(&it["value"]),
                    dtype => point(text(trace, "name"), context, dtype, it),
                });
            }
        }
        send_run(server, run, items).await;
    }
}

fn record(value: &Value) -> Value {
    let message = value.as_str().unwrap_or_else(|| text(value, "message"));
    json!({
        "type": "log_record", "message": message, "level": value["log_level"].as_i64().unwrap_or(20),
        "timestamp": value["timestamp"].as_f64().unwrap_or(0.0), "logger_info": value["logger_info"],
        "extra_args": value["args"],
    })
}

/// True for entries that may differ from the recorded ones: ids and times that the server
/// assigns, and known defects of the recorded responses, by their numbers.
fn is_excluded(case: &str, entry: &Entry) -> bool {
    let place = entry.path_text();
    let ends = |ends: &[&str]| ends.iter().any(|end| place.ends_with(end));
    let holds = |parts: &[&str]| parts.iter().any(|part| place.contains(part));
    let has_points = case.starts_with("metric_search");
    let has_steps = case.contains("_get_step");
    ends(&["props/creation_time", "experiment/id", "/id"])
        // S3: first, min and max repeat the last value.
        || ends(&["values/first", "values/min", "values/max"])
        // S4: metrics have no epochs and times. Objects have times that the recording
        // does not contain.
        || has_points && holds(&["/epochs/", "/timestamps/"])
        || holds(&["/timestamps"])
        // S6: ranges of one step.
        || has_steps && holds(&["record_range_used", "index_range"])
        // The step with several texts, which no client can send.
        || case.starts_with("texts_") && holds(&["values/1", "iters/1", "epochs/1", "_range_"])
        // S7: with a density, the indices of objects are renumbered.
        || case.contains("index_density") && ends(&["/index"])
        // Cannot be sent in the recorded form: a record that is just a string.
        || case == "log_records" && holds(&["1/timestamp", "1/args", "1/logger_info"])
}

/// S8: the list of active runs contains sequences of all types.
fn is_foreign_trace(case: &str, recorded: &[Entry], entry: &Entry) -> bool {
    const METRICS: [&str; 2] = ["loss", "acc"];
    let [_, traces, metric, index, ..] = &entry.path[..] else { return false };
    if !case.starts_with("active") || (traces.text(), metric.text()) != ("traces", "metric") {
        return false;
    }
    let named = |it: &&Entry| it.path[..4] == entry.path[..4] && it.path[4..] == [Key::Text("name".into())];
    let mut names = recorded.iter().filter(|it| it.path.len() == 5 && it.top() == entry.top());
    let name = names.find(named).map(|it| &it.value);
    assert!(matches!(index, Key::Integer(_)));
    !matches!(name, Some(Coded::Text(name)) if METRICS.contains(&name.as_str()))
}

/// The entries to compare. A search of sequences has no defined order of runs.
fn compared(case: &str, body: &[u8]) -> Vec<Entry> {
    let all = entries(body);
    let mut kept: Vec<Entry> = all
        .iter()
        .filter(|entry| !is_excluded(case, entry) && !is_foreign_trace(case, &all, entry))
        .cloned()
        .collect();
    if case.starts_with("active") {
        renumber(&mut kept);
    }
    if case.contains("_search") && !case.starts_with("run_search") || case.starts_with("active") {
        kept.retain(|entry| !case.starts_with("active") || !entry.is_progress());
        kept.sort_by(|a, b| a.top().cmp(b.top()));
    }
    kept
}

/// Renumbers the remaining series of each run.
fn renumber(entries: &mut [Entry]) {
    let mut seen: Vec<(String, Key)> = Vec::new();
    for entry in entries {
        let run = entry.top().to_owned();
        let is_series = entry.path.get(1).is_some_and(|key| key.text() == "traces");
        if let Some(index @ Key::Integer(_)) = entry.path.get_mut(3).filter(|_| is_series) {
            let key = (run.clone(), index.clone());
            if !seen.contains(&key) {
                seen.push(key.clone());
            }
            let of_run = seen.iter().filter(|it| it.0 == run);
            let place = of_run.clone().position(|it| *it == key).expect("it was added");
            *index = Key::Integer(place as i64);
        }
    }
}

/// A case that only requests the step with several texts.
const ONLY_OF_A_LIST: &str = "texts_get_batch_ranges";

#[tokio::test]
async fn vectors_streaming_endpoints() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for (file, recording) in parse_vectors("streaming_endpoints") {
        let server = Server::up().await;
        load_project(&server, &recording["data"]).await;
        for case in list(&recording["cases"]) {
            let name = text(case, "name");
            if name == ONLY_OF_A_LIST {
                continue;
            }
            count += 1;
            let (status, body) =
                call(&server, text(case, "method"), text(case, "path"), &case["body"], 0).await;
            if status != 200 {
                wrong.push(format!("{file} {name}: {status} {}", String::from_utf8_lossy(&body)));
                continue;
            }
            let recorded = hex(text(case, "response_hex"));
            let ours = compared(name, &body);
            let theirs = compared(name, &recorded);
            if ours == theirs || body == recorded {
                continue;
            }
            let at =
                ours.iter().zip(&theirs).position(|(a, b)| a != b).unwrap_or(ours.len().min(theirs.len()));
            let describe =
                |entries: &[Entry]| entries.get(at).map_or("the end".to_owned(), ToString::to_string);
            wrong.push(format!(
                "{file} {name}: entry {at} is {}, expected {}",
                describe(&ours),
                describe(&theirs)
            ));
        }
    }
    println!("{count} calls");
    assert!(count > 0);
    assert!(wrong.is_empty(), "{} of {count} differ:\n{}", wrong.len(), wrong.join("\n"));
}

fn hex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal digits");
    (0..text.len()).step_by(2).map(digit).collect()
}

// MatyanQL queries.

/// True for queries on times of runs, which the server assigns. They are tested in the backend,
/// where runs can be dated.
fn uses_run_times(query: &str) -> bool {
    ["created_at", "creation_time", "end_time", "duration", "finalized_at"]
        .iter()
        .any(|word| query.contains(word))
}

/// True for queries on missing first values or last steps. The recorded system kept no first
/// values, and some sequences of the fixture have no step; here every point has both.
fn is_always_known(query: &str) -> bool {
    query.contains(".first is None") || query.contains(".last_step is None")
}

fn value_of(dtype: &str, last: &Value) -> Value {
    match dtype {
        "image" => {
            json!({"type": "image", "format": "png", "caption": "", "width": 1, "height": 1, "s3_key": "k"})
        }
        "audio" => json!({"type": "audio", "format": "wav", "caption": "", "rate": 8000, "s3_key": "k"}),
        "text" => json!({"type": "text", "data": "x"}),
        "distribution" => json!({"type": "distribution", "bin_count": 1, "range": [0.0, 1.0], "data": [1]}),
        "figure" => json!({"type": "figure", "data": {"data": [], "layout": {}}}),
        _ => last.clone(),
    }
}

async fn load_fixture(server: &Server, fixture: &Value) {
    for run in list(&fixture["runs"]) {
        let mut items = Vec::new();
        if run["attrs"].is_object() {
            items.push(json!({"type": "log_hparams", "value": run["attrs"]}));
        }
        for sequence in list(&run["sequences"]).iter().filter(|it| it["dtype"] != "logs") {
            let dtype = text(sequence, "dtype");
            let step = sequence["last_step"].as_i64().unwrap_or(0);
            let written = json!({"step": step, "value": value_of(dtype, &sequence["last"])});
            items.push(point(text(sequence, "name"), &sequence["context"], dtype, &written));
        }
        send_run(server, run, items).await;
        if run["pending_deletion"] == true {
            let path = format!("/runs/{}/", text(run, "hash"));
            assert_eq!(call(server, "DELETE", &path, &Value::Null, 0).await.0, 200);
        }
    }
}

#[derive(Debug)]
enum SearchOutcome {
    /// Run ids, or combinations of run id, name and context.
    Matches(BTreeSet<String>),
    /// Status, and the error message.
    Refused(u16, String),
    /// A response that was aborted, because the query failed after the first keep-alive message.
    Aborted,
}

/// A canonical text of a value that does not depend on the order of keys.
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

/// Entries as a JSON tree, with the types that contexts need.
fn tree<'e>(entries: impl Iterator<Item = (&'e [Key], &'e Coded)>) -> Value {
    let mut root = Value::Object(Default::default());
    for (path, value) in entries {
        let leaf = match value {
            Coded::Null => Value::Null,
            Coded::Bool(value) => json!(value),
            Coded::Integer(value) => json!(value),
            Coded::Float(value) => json!(value),
            Coded::Text(value) => json!(value),
            Coded::Array => json!([]),
            Coded::Object => json!({}),
            Coded::Bytes(_) => panic!("a context contains no bytes"),
        };
        let slot = path.iter().fold(&mut root, |node, key| match key {
            Key::Text(key) => {
                if !node.is_object() {
                    *node = json!({});
                }
                &mut node[key.as_str()]
            }
            Key::Integer(index) => {
                let items = node.as_array_mut().expect("the array marker comes first");
                items.resize(items.len().max(*index as usize + 1), Value::Null);
                &mut items[*index as usize]
            }
        });
        *slot = leaf;
    }
    root
}

fn matched_rows(mode: &str, body: &[u8]) -> BTreeSet<String> {
    let all = entries(body);
    let rows = all.iter().filter(|entry| !entry.is_progress());
    if mode == "run" {
        return rows.map(|entry| id(&json!(entry.top()))).collect();
    }
    let trace = |entry: &&Entry| {
        (entry.path.len() >= 4 && entry.path[1].text() == "traces").then(|| entry.path[..3].to_vec())
    };
    let traces: BTreeSet<Vec<Key>> = rows.clone().filter_map(|entry| trace(&entry)).collect();
    let triple = |trace: &Vec<Key>| {
        let of = all.iter().filter(|entry| entry.path.starts_with(trace));
        let name = of.clone().find(|entry| entry.path[3].text() == "name" && entry.path.len() == 4);
        let Some(Coded::Text(name)) = name.map(|entry| &entry.value) else { panic!("{trace:?} has no name") };
        let context =
            tree(of.filter(|it| it.path[3].text() == "context").map(|it| (&it.path[4..], &it.value)));
        id(&json!([trace[0].text(), name, context]))
    };
    traces.iter().map(triple).collect()
}

async fn ask(server: &Server, vector: &Value) -> SearchOutcome {
    let mode = text(vector, "mode");
    let url = format!("{}{REST}/runs/search/{mode}/", server.query);
    let client = reqwest::Client::new();
    let mut request = client.get(url).query(&[("q", text(vector, "q")), ("report_progress", "true")]);
    if let Some(offset) = vector["tz_offset_min"].as_i64() {
        request = request.header("x-timezone-offset", offset.to_string());
    }
    let response = request.send().await.expect("the server answers");
    let status = response.status().as_u16();
    let Ok(body) = response.bytes().await else { return SearchOutcome::Aborted };
    if status != 200 {
        let body: Value = serde_json::from_slice(&body).expect("errors are JSON");
        return SearchOutcome::Refused(status, text(&body["error"], "message").to_owned());
    }
    let all = entries(&body);
    let last: Vec<&Coded> = all.iter().rev().take(2).map(|entry| &entry.value).collect();
    assert_eq!(last, [&Coded::Integer(0), &Coded::Integer(0)], "{}: incomplete response", vector["q"]);
    SearchOutcome::Matches(matched_rows(mode, &body))
}

fn matches_expectation(answer: &SearchOutcome, expected: &Value) -> bool {
    let refused = |line: Option<u64>| match answer {
        SearchOutcome::Refused(400, message) => {
            let place = line.is_none_or(|line| message.ends_with(&format!("(<query>, line {line})")));
            message.starts_with("Invalid query syntax: ") && place
        }
        _ => false,
    };
    match text(expected, "kind") {
        "match" => {
            let list = expected.get("runs").or(expected.get("triples")).and_then(Value::as_array);
            let expected = list.expect("a match names its runs or triples").iter().map(id).collect();
            matches!(answer, SearchOutcome::Matches(found) if *found == expected)
        }
        "syntax_error" => refused(expected["line"].as_u64()),
        "rejected" | "internal_error" => refused(None),
        // Bounded time and memory, and no match.
        "resource_limit" | "not_executed" | "hang" => match answer {
            SearchOutcome::Matches(found) => found.is_empty(),
            SearchOutcome::Refused(status, _) => (400..500).contains(status),
            SearchOutcome::Aborted => true,
        },
        other => panic!("unknown kind {other}"),
    }
}

#[tokio::test]
async fn vectors_matyanql_through_the_server() {
    let mut wrong = Vec::new();
    let mut count = 0;
    let mut skipped = 0;
    for (file, content) in parse_vectors("matyanql") {
        let server = Server::up().await;
        load_fixture(&server, &content["fixture"]).await;
        for vector in list(&content["vectors"]) {
            let query = text(vector, "q");
            if uses_run_times(query) || is_always_known(query) {
                skipped += 1;
                continue;
            }
            count += 1;
            let answer = ask(&server, vector).await;
            let expected = vector.get("recommended").unwrap_or(&vector["expect"]);
            let accepted = vector.get("also_accept");
            if !matches_expectation(&answer, expected)
                && !accepted.is_some_and(|accepted| matches_expectation(&answer, accepted))
            {
                wrong.push(format!("{file} {}: {}\n  {answer:?}", vector["id"], vector["q"]));
            }
        }
    }
    println!("{count} queries, {skipped} skipped");
    assert!(count > 0);
    assert!(wrong.is_empty(), "{} of {count} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
