//! W&B's protocol at the port: where its paths lead, what its requests become, and its errors.

use std::time::Duration;

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use matyan_edge::{Edge, Metrics, Protocol, Settings, Transport};
use matyan_proto::artifacts::v1 as artifacts;
use matyan_proto::common::v1::SeriesType;
use matyan_proto::documents::v1 as documents;
use matyan_proto::logs::v1 as logs;
use matyan_proto::runs::v1 as runs;
use matyan_proto::search::v1 as search;
use matyan_proto::series::v1 as series;
use serde_json::{Value, json};
use tokio::time::sleep;
use tonic::Status;

use super::backend::Backend;
use super::frontier::Frontier;

pub(super) const GET_ARTIFACT: &str = "artifacts.v1.ArtifactService/Get";
pub(super) const LIST_ARTIFACTS: &str = "artifacts.v1.ArtifactService/List";

pub(super) struct Port {
    pub(super) backend: Backend,
    pub(super) edge: Edge,
}

impl Port {
    pub(super) fn new(protocols: &[Protocol]) -> Self {
        Self::with_settings(Settings { protocols: protocols.to_vec(), ..Settings::default() })
    }

    pub(super) fn with_settings(settings: Settings) -> Self {
        let backend = Backend::default();
        let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
        let frontier = Some(Frontier::new().transport());
        let edge = matyan_edge::query(settings, metrics, Transport::new(backend.clone()), frontier);
        Port { backend, edge }
    }

    async fn send(&self, path: &str, body: &str) -> (u16, Vec<u8>) {
        let request =
            Request::post(path).header("host", "localhost:1").body(Body::from(body.to_owned())).unwrap();
        let (head, body) = self.edge.answer(request).await.into_parts();
        (head.status.as_u16(), body.collect().await.unwrap().to_bytes().to_vec())
    }

    async fn execute(&self, path: &str, document: &str, variables: Value) -> (u16, Value) {
        let body = json!({"query": document, "variables": variables}).to_string();
        let (status, answer) = self.send(path, &body).await;
        (status, serde_json::from_slice(&answer).unwrap())
    }
}

#[tokio::test]
async fn documents_are_executed() {
    let port = Port::new(&[Protocol::Wandb]);
    let document = r#"
        query ($skip: Boolean!) {
            who: viewer { ...F email @skip(if: $skip) }
            __type(name: "ArtifactAlias") { fields { name } }
            settings: __type(name: "ServerSettings") { fields { name } }
            serverInfo { cliVersionInfo features { name } }
            entity(name: "me") { organization { id coreWeaveOrganizationId } }
        }
        fragment F on User { __typename entity }
    "#;
    let (status, answer) = port.execute("/graphql", document, json!({"skip": true})).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["data"]["who"], json!({"__typename": "User", "entity": "matyan"}));
    let fields = json!([{"name": "id"}, {"name": "alias"}, {"name": "artifactCollection"}]);
    assert_eq!(answer["data"]["__type"]["fields"], fields);
    assert_eq!(answer["data"]["settings"]["fields"], json!([{"name": "serverMessages"}]));
    assert_eq!(answer["data"]["serverInfo"]["features"], json!([]));
    assert_eq!(answer["data"]["entity"], json!({"organization": null}));
}

#[tokio::test]
async fn an_operation_without_a_name_has_its_default_variables() {
    let port = Port::new(&[Protocol::Wandb]);
    let document = "query ($skip: Boolean = true) { viewer { entity email @skip(if: $skip) } }";
    for (variables, has_email) in [(json!({}), false), (json!({"skip": false}), true)] {
        // Some clients send an empty name.
        let body = json!({"query": document, "operationName": "", "variables": variables});
        let (status, answer) = port.send("/graphql", &body.to_string()).await;
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!((status, &answer["data"]["viewer"]["entity"]), (200, &json!("matyan")), "{answer}");
        assert_eq!(answer["data"]["viewer"].get("email").is_some(), has_email, "{answer}");
    }
}

#[tokio::test]
async fn a_list_of_runs_is_a_search() {
    let port = Port::new(&[Protocol::Wandb]);
    let props = runs::Props { name: "n".into(), created_us: 1_000_000, ..Default::default() };
    let run = runs::Run { run_id: "r:p".into(), props: Some(props), ..Default::default() };
    let page =
        search::RunsResponse { runs: vec![run], done: true, next_cursor: "c".into(), ..Default::default() };
    port.backend.answers("search.v1.SearchService/Runs", [page]);
    let document = "query ($filters: JSONString) { project(name: \"p\", entityName: \"me\") {
        runs(filters: $filters, first: 3, order: \"-config.lr\") {
            edges { node { name displayName state createdAt project { name entity { name } } } cursor }
            pageInfo { hasNextPage endCursor }
        }
    } }";
    let filters = json!({"filters": "{\"config.lr\": {\"$lt\": 0.5}}"});
    let (status, answer) = port.execute("/p/team/graphql", document, filters).await;
    assert_eq!(status, 200, "{answer}");
    let node = json!({
        "name": "r",
        "displayName": "n",
        "state": "crashed",
        "createdAt": "1970-01-01T00:00:01.000000Z",
        "project": {"name": "p", "entity": {"name": "me"}},
    });
    let found = &answer["data"]["project"]["runs"];
    assert_eq!(found["edges"], json!([{"node": node, "cursor": "c"}]));
    assert_eq!(found["pageInfo"], json!({"hasNextPage": true, "endCursor": "c"}));
    let request: search::RunsRequest = port.backend.last_request("search.v1.SearchService/Runs");
    let text = request.query.unwrap().text;
    assert_eq!(text, "run.experiment == \"p\" and (((run.hparams.lr < 0.5)))");
    assert_eq!((request.limit, request.sort[0].descending), (3, true));
}

#[tokio::test]
async fn errors_are_those_of_graphql() {
    let port = Port::new(&[Protocol::Wandb]);
    for (document, named) in [
        ("{ viewer { nothing } }", "Cannot query field \"nothing\" on type \"User\"."),
        ("{ viewer {", " --> "),
        (&*"{ viewer ".repeat(1_000), "nested too deep"),
        (&*format!("{{ {} }}", "a: viewer { id } ".repeat(600)), "too complex"),
    ] {
        let (status, answer) = port.execute("/graphql", document, json!({})).await;
        assert!(status < 500, "{status}: {answer}");
        let message = answer["errors"][0]["message"].as_str().unwrap();
        assert!(message.contains(named), "{document}: {message}");
    }
    for sweep in [
        "mutation { upsertSweep(input: {config: \"{}\"}) { sweep { name } } }",
        "{ project(name: \"p\", entityName: \"me\") { sweep(sweepName: \"s\") { id } } }",
    ] {
        let (status, answer) = port.execute("/graphql", sweep, json!({})).await;
        assert_eq!(status, 200);
        assert!(answer["errors"][0]["message"].as_str().unwrap().contains("Optuna"), "{answer}");
    }
    for body in ["", "{", "[]", "{}"] {
        assert_eq!(port.send("/graphql", body).await.0, 400, "{body}");
    }
}

/// 1,500 bytes that the executor would expand to 20^15 fields.
#[tokio::test]
async fn rule_110_fragments_that_multiply_are_not_executed() {
    let port = Port::new(&[Protocol::Wandb]);
    let spreads = |next: usize| format!("...F{next} ").repeat(20);
    let fragments: String =
        (0..15).map(|at| format!("fragment F{at} on User {{ {} }} ", spreads(at + 1))).collect();
    let document = format!("{{ viewer {{ ...F0 }} }} {fragments} fragment F15 on User {{ id }}");
    let (status, answer) = port.execute("/graphql", &document, json!({})).await;
    assert_eq!(status, 400, "{answer}");
    assert!(answer["errors"][0]["message"].as_str().unwrap().contains("too complex"), "{answer}");
}

#[tokio::test]
async fn rule_116_a_body_that_would_grow_is_not_parsed() {
    let port = Port::new(&[Protocol::Wandb]);
    let variables = json!({ "lists": vec![json!([]); 200_000] });
    let (status, answer) = port.execute("/graphql", "{ viewer { id } }", variables).await;
    assert_eq!(status, 400, "{answer}");
    assert!(answer["errors"][0]["message"].as_str().unwrap().contains("200000 values"), "{answer}");
}

#[tokio::test]
async fn operations_without_an_answer_are_counted_from_zero_on() {
    let port = Port::with_settings(Settings::default());
    let metrics = async || {
        let request = Request::get("/metrics/").body(Body::empty()).unwrap();
        let body = port.edge.answer(request).await.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(body.to_vec()).unwrap()
    };
    let series = |operation: &str, protocol: &str, count: u64| {
        format!(
            "matyan_unanswered_operations_total{{operation=\"{operation}\",protocol=\"{protocol}\"}} {count}\n"
        )
    };
    let before = metrics().await;
    for protocol in Protocol::ALL.into_iter().filter(|protocol| protocol.is_included()) {
        let label = format!("protocol=\"{}\"}} 0\n", protocol.name());
        assert!(before.contains(&label), "{label}: {before}");
    }
    let counted = ["unknown query", "unknown mutation", "upsertSweep"];
    for operation in counted {
        assert!(before.contains(&series(operation, "wandb", 0)), "{operation}: {before}");
    }
    for document in [
        "{ somethingNew { id } }",
        "mutation { somethingElse { id } }",
        "mutation { upsertSweep(input: {}) { sweep { id } } }",
        "{ viewer { id } }",
    ] {
        port.execute("/graphql", document, json!({})).await;
    }
    let after = metrics().await;
    for operation in counted {
        assert!(after.contains(&series(operation, "wandb", 1)), "{operation}: {after}");
    }
    assert!(!after.contains("something"), "names from outside: {after}");
}

/// A run with one metric, whose points come in this many messages of 50,000.
fn answer_history(backend: &Backend, messages: usize) {
    const POINTS: i64 = 50_000;
    let run = runs::Run { run_id: "r:p".into(), props: Some(runs::Props::default()), ..Default::default() };
    backend.answers("runs.v1.RunService/Get", [runs::GetResponse { run: Some(run) }]);
    let info = runs::SeriesInfo {
        name: "loss".into(),
        context: "{}".into(),
        r#type: SeriesType::Metric.into(),
        ..Default::default()
    };
    backend.answers("series.v1.SeriesService/List", [series::ListResponse { series: vec![info] }]);
    let points = series::SeriesPoints {
        place: Some(series::Place { run: 0, series: 0 }),
        steps: (0..POINTS).collect(),
        values: vec![0.5; POINTS as usize],
        ..Default::default()
    };
    let message = series::PointsResponse { points: Some(points) };
    backend.answers("series.v1.SeriesService/Points", vec![message; messages]);
}

fn check_over_budget(status: u16, answer: &Value, named: &str) {
    assert_eq!(status, 400, "{answer}");
    assert_eq!(answer["data"], Value::Null, "no part of the answer");
    let message = answer["errors"][0]["message"].as_str().unwrap_or_default();
    assert!(message.contains(named), "{answer}");
}

#[tokio::test]
async fn rule_114_all_histories_of_a_request_share_its_values() {
    let port = Port::new(&[Protocol::Wandb]);
    answer_history(&port.backend, 11);
    let history = |count: usize| {
        let aliases = (0..count).map(|at| format!("h{at}: parquetHistory(liveKeys: []) {{ liveData }} "));
        format!("{{ project(name: \"p\") {{ run(name: \"r\") {{ {} }} }} }}", aliases.collect::<String>())
    };
    let (status, answer) = port.execute("/graphql", &history(1), json!({})).await;
    assert_eq!(status, 200);
    let rows = answer["data"]["project"]["run"]["h0"]["liveData"].as_array().unwrap();
    assert_eq!((rows.len(), &rows[3]), (50_000, &json!({"_step": 3, "loss": 0.5})));
    let (status, answer) = port.execute("/graphql", &history(2), json!({})).await;
    check_over_budget(status, &answer, "more than 1000000 values");
    let (status, answer) = port.execute("/graphql", &history(300), json!({})).await;
    check_over_budget(status, &answer, "more than 1000000 values");
    // The next request has its own budget.
    assert_eq!(port.execute("/graphql", &history(1), json!({})).await.0, 200);
}

#[tokio::test]
async fn rows_with_many_keys_are_thinned_until_their_values_fit() {
    let port = Port::new(&[Protocol::Wandb]);
    answer_history(&port.backend, 1);
    let info = |name: &str| runs::SeriesInfo {
        name: name.into(),
        r#type: SeriesType::Metric.into(),
        count: 1,
        ..Default::default()
    };
    let listed = series::ListResponse { series: vec![info("loss"), info("acc")] };
    port.backend.answers("series.v1.SeriesService/List", [listed]);
    port.backend.answers("series.v1.SeriesService/Sample", Vec::<series::SampleResponse>::new());
    let document = "query ($specs: [JSONString!]!) {
        project(name: \"p\") { run(name: \"r\") { sampledHistory(specs: $specs) } }
    }";
    // A million values for ten lists of two keys. A scan gets all rows of its steps, or an error.
    for (steps, density) in [(200_000, 50_000), (100_000, 100_000)] {
        let spec = json!({"keys": ["loss", "acc"], "samples": 100_000, "minStep": 0, "maxStep": steps});
        let specs = vec![spec.to_string(); 10];
        let (status, answer) = port.execute("/graphql", document, json!({"specs": specs})).await;
        assert_eq!(status, 200, "{answer}");
        let asked: series::SampleRequest = port.backend.last_request("series.v1.SeriesService/Sample");
        assert_eq!(asked.density, density, "{steps} steps");
    }
}

/// The newest client begins each scan with this question, whatever it reads afterwards.
#[tokio::test]
async fn a_scan_of_a_long_history_begins_with_its_first_step() {
    let port = Port::new(&[Protocol::Wandb]);
    answer_history(&port.backend, 1);
    let document = r#"{ project(name: "p") { run(name: "r") {
        parquetHistory(liveKeys: ["_step"]) { parquetUrls liveData }
    } } }"#;
    let (status, answer) = port.execute("/graphql", document, json!({})).await;
    let expected = json!({"parquetUrls": [], "liveData": [{"_step": 0}]});
    assert_eq!((status, &answer["data"]["project"]["run"]["parquetHistory"]), (200, &expected), "{answer}");
    assert_eq!(port.backend.call_count("series.v1.SeriesService/Points"), 0);
}

fn listed(paths: &[&str]) -> artifacts::ListResponse {
    let file =
        |path: &&str| artifacts::Artifact { path: (*path).into(), size: Some(1), ..Default::default() };
    artifacts::ListResponse { artifacts: paths.iter().map(file).collect() }
}

#[tokio::test]
async fn a_page_of_files_is_read_without_the_others() {
    let port = Port::new(&[Protocol::Wandb]);
    answer_history(&port.backend, 1);
    let folder = ["a", "wandb-artifacts/x/f", "wandb-artifacts/x/g"];
    let answers = [listed(&folder), listed(&["y", "z"]), listed(&["z"])];
    port.backend.answers_next(LIST_ARTIFACTS, answers.map(Ok));
    let pages = async |arguments: &str| {
        let fields = "pageInfo { endCursor hasNextPage } edges { cursor node { name } }";
        let document = format!(
            "{{ project(name: \"p\") {{ run(name: \"r\") {{ files({arguments}) {{ {fields} }} }} }} }}"
        );
        let (status, answer) = port.execute("/graphql", &document, json!({})).await;
        assert_eq!(status, 200, "{answer}");
        answer["data"]["project"]["run"]["files"].clone()
    };
    let file = |name: &str| json!({"cursor": format!("path:{name}"), "node": {"name": name}});
    let page_info = |end: &str, has_next: bool| json!({"endCursor": end, "hasNextPage": has_next});
    let page = pages("first: 2").await;
    assert_eq!(page, json!({"pageInfo": page_info("path:y", true), "edges": [file("a"), file("y")]}));
    let asked: artifacts::ListRequest = port.backend.last_request(LIST_ARTIFACTS);
    assert_eq!(
        (asked.after.as_str(), asked.limit),
        ("wandb-artifacts/\u{10ffff}", 2),
        "the folder is skipped"
    );
    let page = pages(r#"first: 2, after: "path:y""#).await;
    assert_eq!(page, json!({"pageInfo": page_info("path:z", false), "edges": [file("z")]}));
    let asked: artifacts::ListRequest = port.backend.last_request(LIST_ARTIFACTS);
    assert_eq!((asked.after.as_str(), asked.limit), ("y", 3));
    assert_eq!(port.backend.call_count(LIST_ARTIFACTS), 3);
}

#[tokio::test]
async fn files_of_a_run_are_counted_without_the_folder_of_artifacts() {
    let port = Port::new(&[Protocol::Wandb]);
    answer_history(&port.backend, 1);
    let answers = [listed(&["a", "wandb-artifacts/x/f"]), listed(&["y", "z"])];
    port.backend.answers_next(LIST_ARTIFACTS, answers.map(Ok));
    let document = r#"{ project(name: "p") { run(name: "r") { fileCount } } }"#;
    let (status, answer) = port.execute("/graphql", document, json!({})).await;
    assert_eq!((status, &answer["data"]["project"]["run"]["fileCount"]), (200, &json!(3)), "{answer}");
    let asked: artifacts::ListRequest = port.backend.last_request(LIST_ARTIFACTS);
    assert_eq!((asked.after.as_str(), asked.limit), ("wandb-artifacts/\u{10ffff}", 0));
    assert_eq!(port.backend.call_count(LIST_ARTIFACTS), 2);
}

#[tokio::test]
async fn a_client_that_follows_the_terminal_continues_after_a_page_without_lines() {
    let port = Port::new(&[Protocol::Wandb]);
    answer_history(&port.backend, 1);
    let line = |step| logs::Line { step, text: format!("line {step}") };
    for (lines, expected) in [
        (
            vec![line(7), line(8)],
            json!([{"cursor": "8", "node": {"line": "line 7"}}, {"cursor": "9", "node": {"line": "line 8"}}]),
        ),
        (Vec::new(), json!([])),
    ] {
        let end = if lines.is_empty() { "7" } else { "9" };
        let last_step = Some(if lines.is_empty() { 6 } else { 8 });
        port.backend.answers("logs.v1.LogService/Lines", [logs::LinesResponse { lines, last_step }]);
        let fields = "pageInfo { endCursor hasNextPage } edges { cursor node { line } }";
        let document = format!(
            r#"{{ project(name: "p") {{ run(name: "r") {{ logLines(after: "7") {{ {fields} }} }} }} }}"#
        );
        let (status, answer) = port.execute("/graphql", &document, json!({})).await;
        assert_eq!(status, 200, "{answer}");
        let page = &answer["data"]["project"]["run"]["logLines"];
        assert_eq!(page["pageInfo"], json!({"endCursor": end, "hasNextPage": false}), "{answer}");
        assert_eq!(page["edges"], expected, "{answer}");
    }
}

#[tokio::test]
async fn a_page_of_the_terminal_does_not_end_at_missing_lines() {
    let port = Port::new(&[Protocol::Wandb]);
    answer_history(&port.backend, 1);
    let lines = [3, 100_000, 100_001].map(|step| logs::Line { step, text: String::new() });
    let answer = logs::LinesResponse { lines: lines.to_vec(), last_step: Some(100_001) };
    port.backend.fails("logs.v1.LogService/Lines", [answer], Status::internal("the rest was read"));
    let document = r#"{ project(name: "p") { run(name: "r") { logLines(first: 2, after: "3") {
        pageInfo { endCursor hasNextPage } edges { node { number } }
    } } } }"#;
    let (status, answer) = port.execute("/graphql", document, json!({})).await;
    assert_eq!(status, 200, "{answer}");
    let edges = json!([{"node": {"number": 3}}, {"node": {"number": 100_000}}]);
    let expected = json!({"pageInfo": {"endCursor": "100001", "hasNextPage": true}, "edges": edges});
    assert_eq!(answer["data"]["project"]["run"]["logLines"], expected, "{answer}");
    let asked: logs::LinesRequest = port.backend.last_request("logs.v1.LogService/Lines");
    assert_eq!(asked.steps.unwrap().stop, None);
}

/// Earlier versions of the server have committed versions without the digest of the manifest.
#[tokio::test]
async fn a_manifest_without_a_digest_is_read_again_once_it_is_replaced() {
    let port = Port::new(&[Protocol::Wandb]);
    let version = json!({"id": "x", "project": "p", "collection": "data", "run": "r", "run_id": "r:p", "state": "COMMITTED"});
    let content = version.to_string().into_bytes().into();
    let document = documents::Document { content, updated_us: 1, ..Default::default() };
    let answer = documents::GetResponse { document: Some(document) };
    port.backend.answers("documents.v1.DocumentService/Get", [answer]);
    let listed = r#"{"contents": {"a": {"digest": "Cg==", "size": 3}}}"#;
    let empty = r#"{"contents": {}}"#;
    // The texts of the second and the last answer differ from what was kept, so that a second read would be seen.
    for (uri, version, text, expected) in [
        ("s3://b/p/r/m", "1", listed, 200),
        ("s3://b/p/r/m", "1", empty, 200),
        ("s3://b/p/r/m", "2", empty, 404),
        ("s3://b/q/r/m", "1", empty, 404),
        ("s3://b/p/r/m", "", empty, 404),
        ("s3://b/p/r/m", "", listed, 200),
        ("s3://b/p/r/m", "2", listed, 404),
    ] {
        let artifact = artifacts::Artifact { uri: uri.to_owned(), ..Default::default() };
        let description = artifacts::get_response::Message::Artifact(artifact);
        let chunk = artifacts::get_response::Message::Chunk(text.to_owned().into());
        let messages = [(description, version), (chunk, "")];
        let messages = messages.map(|(message, version)| artifacts::GetResponse {
            message: Some(message),
            version: version.to_owned(),
        });
        port.backend.answers(GET_ARTIFACT, messages);
        let request = Request::get("/artifactsV2/default/me/x/0a").header("host", "localhost:1");
        let answer = port.edge.answer(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status().as_u16(), expected, "{uri} {version} {text}");
    }
    let asked: artifacts::GetRequest = port.backend.last_request(GET_ARTIFACT);
    assert_eq!(asked.length, Some(0), "the text of a known manifest is not opened");
}

/// The transport of a client with an HTTP/2 window of zero would keep the answer for ever.
#[tokio::test(start_paused = true)]
async fn rule_114_an_answer_that_is_not_read_is_dropped() {
    let port = Port::new(&[Protocol::Wandb]);
    answer_history(&port.backend, 1);
    let document =
        r#"{ project(name: "p") { run(name: "r") { parquetHistory(liveKeys: []) { liveData } } } }"#;
    let body = Body::from(json!({"query": document}).to_string());
    let request = Request::post("/graphql").header("host", "localhost:1").body(body).unwrap();
    let mut answer = port.edge.answer(request).await.into_body();
    assert!(answer.frame().await.unwrap().is_ok());
    sleep(Duration::from_secs(12 * 60)).await;
    assert!(answer.frame().await.unwrap().is_err());
}

#[tokio::test]
async fn rule_114_pages_are_charged_before_they_are_read() {
    let port = Port::new(&[Protocol::Wandb]);
    let page = search::RunsResponse { done: true, ..Default::default() };
    port.backend.answers("search.v1.SearchService/Runs", [page]);
    let pages = |count: usize| {
        let aliases = (0..count).map(|at| format!("r{at}: runs(first: 1000) {{ totalCount }} "));
        format!("{{ project(name: \"p\") {{ {} }} }}", aliases.collect::<String>())
    };
    assert_eq!(port.execute("/graphql", &pages(100), json!({})).await.0, 200);
    let before = port.backend.call_count("search.v1.SearchService/Runs");
    let (status, answer) = port.execute("/graphql", &pages(400), json!({})).await;
    check_over_budget(status, &answer, "more than 100000 rows");
    assert!(port.backend.call_count("search.v1.SearchService/Runs") - before <= 100);
}

#[tokio::test]
async fn rule_114_fields_of_lists_are_charged_before_they_are_resolved() {
    let port = Port::new(&[Protocol::Wandb]);
    let run = |at: usize| runs::Run {
        run_id: format!("r{at}:p"),
        props: Some(runs::Props::default()),
        ..Default::default()
    };
    let page = search::RunsResponse { runs: (0..1_000).map(run).collect(), done: true, ..Default::default() };
    port.backend.answers("search.v1.SearchService/Runs", [page]);
    let document = |names: usize| {
        let names: String = (0..names).map(|at| format!("n{at}: name ")).collect();
        format!("{{ project(name: \"p\") {{ runs(first: 1000) {{ edges {{ node {{ {names} }} }} }} }} }}")
    };
    let (status, answer) = port.execute("/graphql", &document(150), json!({})).await;
    assert_eq!(status, 200);
    assert_eq!(answer["data"]["project"]["runs"]["edges"][999]["node"]["n149"], "r999");
    let (status, answer) = port.execute("/graphql", &document(900), json!({})).await;
    check_over_budget(status, &answer, "more than 500000 fields");
}

/// A page that is too large for memory is shorter than the client wants, and the client continues after it.
#[tokio::test]
async fn rule_114_a_page_of_large_runs_is_asked_for_again_with_fewer() {
    let port = Port::new(&[Protocol::Wandb]);
    let text = matyan_value::Value::Text("x".repeat(12 << 20));
    let summary = matyan_value::Value::Map(matyan_value::Map::from([("text".to_owned(), text)]));
    let params = matyan_value::Map::from([("summary".to_owned(), summary)]);
    let params = matyan_value::cbor::encode_map(&params);
    let page = |at: usize| {
        let run = runs::Run {
            run_id: format!("r{at}:p"),
            props: Some(runs::Props::default()),
            params: params.clone().into(),
            ..Default::default()
        };
        search::RunsResponse { runs: vec![run], done: at == 2, ..Default::default() }
    };
    port.backend.answers("search.v1.SearchService/Runs", (0..3).map(page));
    let document = "{ project(name: \"p\") { runs(first: 3) { totalCount } } }";
    port.execute("/graphql", document, json!({})).await;
    let request: search::RunsRequest = port.backend.last_request("search.v1.SearchService/Runs");
    assert_eq!(request.limit, 2);
    assert_eq!(port.backend.call_count("search.v1.SearchService/Runs"), 2);
}

/// Clients look for `error` or `errors` in every refusal.
#[tokio::test]
async fn figures_about_clients_are_dropped() {
    let port = Port::new(&[Protocol::Wandb]);
    for path in ["/sdk/otel/v1/metrics", "/sdk/otel/v1/logs"] {
        assert_eq!(port.send(path, "\u{1}\u{2}").await, (200, Vec::new()));
    }
}

#[tokio::test]
async fn a_protocol_that_is_off_has_no_routes() {
    let port = Port::new(&[]);
    for path in ["/graphql", "/files/me/p/r/file_stream", "/sdk/otel/v1/logs"] {
        assert_eq!(port.send(path, "{}").await.0, 404, "{path}");
    }
}
