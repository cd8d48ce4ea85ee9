//! Searches for runs and metrics, and x axes, in entries of the streaming codec.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::server::STUCK;

/// The entries that run search streams for `run()` and an empty run.
const TWO_RUNS: &str = r##"progress_0 = []
progress_0/0 = 0
progress_0/1 = 2
r/params/lr = 0.5
r/params/n = NaN
r/params/big = 1.8446744073709552e19
r/traces/metric = []
r/traces/metric/0/name = "loss"
r/traces/metric/0/context/subset = "train"
r/traces/metric/0/context/x = NaN
r/traces/metric/0/values/last = inf
r/traces/metric/0/values/last_step = 7
r/traces/metric/0/values/first = 1.0
r/traces/metric/0/values/min = -1.0
r/traces/metric/0/values/max = 2.0
r/traces/metric/1/name = "img"
r/traces/metric/1/context = {}
r/traces/metric/1/values/last = 0.0
r/traces/metric/1/values/last_step = 7
r/traces/metric/1/values/first = 1.0
r/traces/metric/1/values/min = -1.0
r/traces/metric/1/values/max = 2.0
r/props/name = "Run: r"
r/props/description = ""
r/props/experiment/id = "e"
r/props/experiment/name = "exp"
r/props/experiment/description = ""
r/props/tags = []
r/props/tags/0/id = "t"
r/props/tags/0/name = "tag"
r/props/tags/0/color = "#fff"
r/props/tags/0/description = ""
r/props/creation_time = 1700000000.5
r/props/end_time = 1700000001.0
r/props/archived = false
r/props/active = true
progress_1 = []
progress_1/0 = 1
progress_1/1 = 2
s/params = {}
s/traces/metric = []
s/props/name = ""
s/props/description = ""
s/props/experiment/id = null
s/props/experiment/name = null
s/props/experiment/description = null
s/props/tags = []
s/props/creation_time = 0.0
s/props/end_time = null
s/props/archived = false
s/props/active = false
progress_2 = []
progress_2/0 = 2
progress_2/1 = 2
progress_3 = []
progress_3/0 = 0
progress_3/1 = 0"##;

#[tokio::test]
async fn run_search_streams_trees_and_progress() {
    let rest = Rest::new();
    let mut second = run();
    second.run_id = "s".into();
    second.series.clear();
    second.params = vec![0xa0].into();
    second.props = Some(runs::v1::Props::default());
    let messages = [
        search::v1::RunsResponse {
            runs: vec![run()],
            first_place: Some(1),
            match_count: Some(2),
            ..Default::default()
        },
        search::v1::RunsResponse {
            runs: vec![second],
            first_place: Some(2),
            match_count: Some(2),
            done: true,
            ..Default::default()
        },
    ];
    rest.backend.answers("search.v1.SearchService/Runs", messages);
    let answer = rest.get("/runs/search/run/?q=run.active%20%3D%3D+True&limit=5&offset=x").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/octet-stream")));
    assert_eq!(answer.entries().join("\n"), TWO_RUNS);
    let request: search::v1::RunsRequest = rest.backend.last_request("search.v1.SearchService/Runs");
    let query = request.query.unwrap();
    assert_eq!((query.text.as_str(), query.report_progress), ("run.active == True", true));
    assert_eq!((request.limit, request.after_run_id.as_str()), (5, "x"));
    assert_eq!(request.parts.unwrap().series_types, [SeriesType::Metric as i32]);
    assert_eq!(rest.get("/runs/search/run/?limit=-1").await.status, 422);
    assert_eq!(rest.get("/runs/search/run/?sort=%5B1%5D").await.status, 400);
}

/// Only a request with a cursor gets one, before the entry that marks the end; the cursor of the last page is
/// empty.
#[tokio::test]
async fn pages_of_a_run_search_continue_by_cursor() {
    let rest = Rest::new();
    let name = "search.v1.SearchService/Runs";
    let page = |next_cursor: &str| {
        let first = search::v1::RunsResponse { runs: vec![run()], ..Default::default() };
        let last =
            search::v1::RunsResponse { done: true, next_cursor: next_cursor.into(), ..Default::default() };
        [first, last]
    };
    let texts = async |path: &str| -> Vec<String> {
        let entries = rest.get(path).await.entries();
        entries.into_iter().filter(|entry| entry.starts_with("progress_")).collect()
    };
    rest.backend.answers(name, page("c+1"));
    let plain = texts("/runs/search/run/?limit=1").await;
    assert!(!plain.iter().any(|entry| entry.starts_with("progress_cursor")), "{plain:?}");
    rest.backend.answers(name, page("c+1"));
    let mut first = texts("/runs/search/run/?limit=1&cursor=").await;
    assert_eq!(first.remove(first.len() - 4), r#"progress_cursor = "c+1""#);
    assert_eq!(first, plain);
    rest.backend.answers(name, page(""));
    let last = texts("/runs/search/run/?limit=1&cursor=c%2B1&report_progress=false").await;
    assert_eq!(last, [r#"progress_cursor = """#]);
    let request: search::v1::RunsRequest = rest.backend.last_request(name);
    assert_eq!((request.limit, request.cursor.as_str()), (1, "c+1"));
}

#[tokio::test]
async fn a_rejected_query_is_an_error_before_the_stream() {
    let rest = Rest::new();
    let metadata = [("statement", "run."), ("line", "1"), ("offset", "6"), ("end_offset", "7")];
    let refused = status(tonic::Code::InvalidArgument, "INVALID_QUERY", "a name is missing", &metadata);
    rest.backend.fails::<search::v1::RunsResponse>("search.v1.SearchService/Runs", [], refused);
    let answer = rest.get("/runs/search/run/?q=run.").await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.json()["message"], "SyntaxError");
    assert_eq!(answer.json()["error"]["message"], "Invalid query syntax: a name is missing");
    assert_eq!(answer.json()["detail"]["offset"], 6);
    // This also holds for a query with warnings.
    let warned =
        search::v1::RunsResponse { warnings: vec![search::v1::Warning::default()], ..Default::default() };
    let refused = status(tonic::Code::ResourceExhausted, "TOO_LARGE", "it is too large", &[]);
    rest.backend.fails("search.v1.SearchService/Runs", [warned], refused);
    assert_eq!(rest.get("/runs/search/run/?q=x").await.status, 413);
}

/// Users who find nothing because of a misspelled name are warned before the first row.
#[tokio::test]
async fn warnings_about_a_query_are_in_a_header() {
    let rest = Rest::new();
    let warned = |messages: &[String]| -> Vec<search::v1::Warning> {
        let warning =
            |message: &String| search::v1::Warning { message: message.clone(), ..Default::default() };
        messages.iter().map(warning).collect()
    };
    let answer_with_warnings = |messages: &[String]| {
        let warnings = warned(messages);
        let first = search::v1::RunsResponse { warnings: warnings.clone(), ..Default::default() };
        let last = search::v1::RunsResponse { done: true, ..Default::default() };
        rest.backend.answers("search.v1.SearchService/Runs", [first, last]);
        let first = search::v1::MetricsResponse { warnings: warnings.clone(), ..Default::default() };
        let last = search::v1::MetricsResponse { done: true, ..Default::default() };
        rest.backend.answers("search.v1.SearchService/Metrics", [first, last]);
        let whole = search::v1::ObjectsResponse { warnings, done: true, ..Default::default() };
        rest.backend.answers("search.v1.SearchService/Objects", [whole]);
    };
    let messages = ["the name 'größe' is\n\u{7f} not known".to_owned(), "\u{1f600}".to_owned()];
    answer_with_warnings(&messages);
    for kind in ["run", "metric", "images"] {
        let answer = rest.get(&format!("/runs/search/{kind}/?q=x")).await;
        let text = answer.header("x-query-warnings").unwrap();
        assert!(text.bytes().all(|byte| (b' '..0x7f).contains(&byte)), "{text}");
        assert_eq!(serde_json::from_str::<Vec<String>>(text).unwrap(), messages);
        assert_eq!(answer.entries(), ["progress_0 = []", "progress_0/0 = 0", "progress_0/1 = 0"], "{kind}");
    }
    // Only the warnings that fit are included.
    answer_with_warnings(&[vec!["x".repeat(3_000)], vec!["ä".repeat(100); 9]].concat());
    let text = rest.get("/runs/search/run/").await.header("x-query-warnings").unwrap().to_owned();
    assert_eq!(serde_json::from_str::<Vec<String>>(&text).unwrap(), vec!["ä".repeat(100); 3]);
    answer_with_warnings(&[]);
    assert_eq!(rest.get("/runs/search/run/").await.header("x-query-warnings"), None);
}

/// A long search may have no new progress, but its reader must not consider it dead.
#[tokio::test]
async fn searches_for_sequences_pass_keep_alives_on() {
    let rest = Rest::new();
    let progress = Some(Progress { checked: 1, total: 2, matched: 0 });
    let alive = || search::v1::MetricsResponse { progress, ..Default::default() };
    let end = search::v1::MetricsResponse { progress, done: true, ..Default::default() };
    rest.backend.answers("search.v1.SearchService/Metrics", [alive(), alive(), alive(), end]);
    let alive = || search::v1::ObjectsResponse { progress, ..Default::default() };
    let end = search::v1::ObjectsResponse { progress, done: true, ..Default::default() };
    rest.backend.answers("search.v1.SearchService/Objects", [alive(), alive(), alive(), end]);
    for kind in ["metric", "texts"] {
        let entries = rest.get(&format!("/runs/search/{kind}/")).await.entries();
        let frames: Vec<_> = entries.chunks(3).map(|frame| frame.join(" ")).collect();
        let frame = |number, checked, total| {
            format!("progress_{number} = [] progress_{number}/0 = {checked} progress_{number}/1 = {total}")
        };
        let expected = [frame(0, 1, 2), frame(1, 1, 2), frame(2, 1, 2), frame(3, 0, 0)];
        assert_eq!(frames, expected, "{kind}");
        assert!(rest.get(&format!("/runs/search/{kind}/?report_progress=false")).await.body.is_empty());
    }
}

#[tokio::test]
async fn a_failed_stream_aborts_the_response() {
    let rest = Rest::new();
    let first = search::v1::RunsResponse {
        runs: vec![run()],
        first_place: Some(1),
        match_count: Some(2),
        ..Default::default()
    };
    let check = async || {
        let request = Request::get("/api/v1/rest/runs/search/run/").body(Body::empty()).unwrap();
        let response = rest.edge.answer(request).await;
        assert_eq!(response.status(), 200);
        assert!(response.into_body().collect().await.is_err());
    };
    rest.backend.fails("search.v1.SearchService/Runs", [first.clone()], Status::internal("broken"));
    check().await;
    // A stream that ends without its last message is incomplete.
    rest.backend.answers("search.v1.SearchService/Runs", [first]);
    check().await;
}

/// A closed browser tab reads nothing more, so its search must end, both in the middle and
/// before the first match.
#[tokio::test]
async fn a_search_ends_when_its_client_disconnects() {
    let rest = Rest::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let serving = tokio::spawn(matyan_edge::serve(listener, None, rest.edge.clone(), stop.clone()));
    let first = search::v1::RunsResponse {
        runs: vec![run()],
        first_place: Some(1),
        match_count: Some(2),
        ..Default::default()
    };
    for messages in [vec![first], vec![]] {
        let is_silent = messages.is_empty();
        let gone = rest.backend.answers_and_holds("search.v1.SearchService/Runs", messages);
        let mut client = TcpStream::connect(address).await.unwrap();
        let request = "GET /api/v1/rest/runs/search/run/ HTTP/1.1\r\nhost: localhost\r\n\r\n";
        client.write_all(request.as_bytes()).await.unwrap();
        if is_silent {
            while rest.backend.call_count("search.v1.SearchService/Runs") < 2 {
                tokio::task::yield_now().await;
            }
        } else {
            let mut head = [0; 12];
            client.read_exact(&mut head).await.unwrap();
            assert_eq!(&head, b"HTTP/1.1 200");
        }
        drop(client);
        // If the search continued, this would wait until the timeout.
        let outcome = tokio::time::timeout(STUCK, gone).await.expect("the search must end");
        outcome.expect_err("the sender is dropped without sending");
    }
    stop.cancel();
    serving.await.unwrap();
}

#[tokio::test]
async fn active_runs_have_only_last_values() {
    let rest = Rest::new();
    let message = search::v1::RunsResponse {
        runs: vec![run()],
        first_place: Some(1),
        match_count: Some(1),
        done: true,
        ..Default::default()
    };
    rest.backend.answers("search.v1.SearchService/Runs", [message]);
    let entries = rest.get("/runs/active/").await.entries();
    assert!(entries[0].starts_with("r/traces/metric = []"), "{entries:?}");
    assert!(!entries.iter().any(|it| it.contains("values/min") || it.contains("params")));
    assert_eq!(entries[entries.len() - 3..], ["progress_0 = []", "progress_0/0 = 1", "progress_0/1 = 1"]);
}

#[tokio::test]
async fn metric_search_streams_points() {
    let rest = Rest::new();
    let points = |name: &str| series::v1::SeriesPoints {
        info: Some(info(name, "", SeriesType::Metric, 0.0)),
        steps: vec![0, 5],
        values: vec![1.0, f64::NAN],
        epochs: vec![i64::MIN, 3],
        times_us: vec![i64::MIN, 2_000_000],
        x_places: vec![1],
        x_values: vec![9.0],
        ..Default::default()
    };
    let found = |run: Option<runs::v1::Run>, name: &str, more| search::v1::RunMetrics {
        run,
        points: vec![points(name)],
        more,
        ..Default::default()
    };
    let mut plain = run();
    plain.params = vec![0xa0].into();
    let messages = [
        search::v1::MetricsResponse {
            runs: vec![found(Some(plain), "a", true)],
            progress: Some(Progress { checked: 1, total: 2, matched: 1 }),
            ..Default::default()
        },
        search::v1::MetricsResponse {
            runs: vec![found(None, "b", false)],
            progress: Some(Progress { checked: 2, total: 2, matched: 1 }),
            done: true,
            ..Default::default()
        },
    ];
    rest.backend.answers("search.v1.SearchService/Metrics", messages);
    let entries = rest.get("/runs/search/metric/?p=100&x_axis=b").await.entries();
    let expected = r#"r/params = {}
r/traces = []
r/traces/0/name = "a"
r/traces/0/context = {}
r/traces/0/slice = []
r/traces/0/slice/0 = 0
r/traces/0/slice/1 = 5
r/traces/0/slice/2 = 1
r/traces/0/values/shape = 2
r/traces/0/values/blob = [1.0, NaN]
r/traces/0/iters/shape = 2
r/traces/0/iters/blob = [0.0, 5.0]
r/traces/0/epochs/shape = 2
r/traces/0/epochs/blob = [NaN, 3.0]
r/traces/0/timestamps/shape = 2
r/traces/0/timestamps/blob = [NaN, 2.0]
r/traces/0/x_axis_values/shape = 1
r/traces/0/x_axis_values/blob = [9.0]
r/traces/0/x_axis_iters/shape = 1
r/traces/0/x_axis_iters/blob = [5.0]
r/traces/1/name = "b""#;
    assert_eq!(entries[..21].join("\n"), expected);
    assert!(entries.iter().any(|it| it == "r/props/active = true"));
    let progress: Vec<_> = entries.iter().filter(|it| it.starts_with("progress_")).collect();
    assert_eq!(progress.len(), 6, "{progress:?}");
    let request: search::v1::MetricsRequest = rest.backend.last_request("search.v1.SearchService/Metrics");
    assert_eq!(request.points, Some(search::v1::metrics_request::Points::Density(100)));
    assert_eq!(request.x_axis.as_deref(), Some("b"));
    assert_eq!(rest.get("/runs/search/metric/?p=0").await.status, 422);
}

/// A series of several messages is one trace, whose columns are written as they arrive.
#[tokio::test]
async fn a_long_series_of_a_metric_search_is_one_trace() {
    let rest = Rest::new();
    let piece = |count, more, points: series::v1::SeriesPoints| search::v1::MetricsResponse {
        runs: vec![search::v1::RunMetrics {
            run: Some(runs::v1::Run { run_id: "r".into(), ..Default::default() }),
            points: vec![series::v1::SeriesPoints { count, more, ..points }],
            more: true,
            ..Default::default()
        }],
        progress: Some(Progress { checked: 1, total: 1, matched: 1 }),
        ..Default::default()
    };
    let points = series::v1::SeriesPoints::default;
    let named = |name: &str| series::v1::SeriesPoints {
        info: Some(info(name, r#"{"x":1}"#, SeriesType::Metric, 0.0)),
        ..points()
    };
    let end = |name: &str| {
        let mut message =
            piece(0, false, series::v1::SeriesPoints { steps: vec![4], values: vec![5.0], ..named(name) });
        message.runs[0].more = false;
        message.done = true;
        message
    };
    let messages = [
        piece(3, true, series::v1::SeriesPoints { steps: vec![0, 2], ..named("long") }),
        piece(0, false, series::v1::SeriesPoints { steps: vec![7], ..points() }),
        piece(3, true, series::v1::SeriesPoints { values: vec![0.5, f64::NAN], ..points() }),
        piece(0, false, series::v1::SeriesPoints { values: vec![1.5], ..points() }),
        piece(3, false, series::v1::SeriesPoints { epochs: vec![i64::MIN, 1, 2], ..points() }),
        piece(3, false, series::v1::SeriesPoints { times_us: vec![i64::MIN, 1_000_000, 2], ..points() }),
        piece(2, true, series::v1::SeriesPoints { x_values: vec![8.0], ..points() }),
        piece(0, false, series::v1::SeriesPoints { x_values: vec![9.0], ..points() }),
        piece(2, true, series::v1::SeriesPoints { steps: vec![0, 2], x_places: vec![1], ..points() }),
        piece(0, false, series::v1::SeriesPoints { steps: vec![7], x_places: vec![0], ..points() }),
        end("next"),
    ];
    rest.backend.answers("search.v1.SearchService/Metrics", messages.clone());
    let entries = rest.get("/runs/search/metric/?p=70000&x_axis=b").await.entries();
    let traces: Vec<_> = entries.iter().filter_map(|it| it.strip_prefix("r/traces/")).collect();
    let expected = r#"0/name = "long"
0/context/x = 1
0/iters/shape = 3
0/iters/blob = [0.0, 2.0, 7.0]
0/slice = []
0/slice/0 = 0
0/slice/1 = 7
0/slice/2 = 1
0/values/shape = 3
0/values/blob = [0.5, NaN, 1.5]
0/epochs/shape = 3
0/epochs/blob = [NaN, 1.0, 2.0]
0/timestamps/shape = 3
0/timestamps/blob = [NaN, 1.0, 2e-6]
0/x_axis_values/shape = 2
0/x_axis_values/blob = [8.0, 9.0]
0/x_axis_iters/shape = 2
0/x_axis_iters/blob = [2.0, 7.0]
1/name = "next""#;
    assert_eq!(traces[..19].join("\n"), expected);
    let request: search::v1::MetricsRequest = rest.backend.last_request("search.v1.SearchService/Metrics");
    assert!(request.by_column);
    // Without an x axis, no columns for it are awaited.
    let own = messages[..6].iter().cloned().chain([end("next")]);
    rest.backend.answers("search.v1.SearchService/Metrics", own);
    let entries = rest.get("/runs/search/metric/?p=70000").await.entries();
    assert!(entries.contains(&r#"r/traces/1/name = "next""#.to_owned()), "{entries:?}");
    // A column of another length, or a missing column, would make the rest unreadable.
    let too_long = piece(1, true, series::v1::SeriesPoints { steps: vec![0, 2], ..named("long") });
    for broken in [vec![too_long, end("next")], vec![messages[0].clone(), end("next")]] {
        rest.backend.answers("search.v1.SearchService/Metrics", broken);
        let request = Request::get("/api/v1/rest/runs/search/metric/?p=70000");
        let response = rest.edge.answer(request.body(Body::empty()).unwrap()).await;
        assert!(response.into_body().collect().await.is_err(), "the body must be aborted");
    }
}

#[tokio::test]
async fn axes_are_streamed_by_run() {
    let rest = Rest::new();
    // A column arrives in pieces, with its length in the first of them.
    let piece = |series, x_values: &[f64], steps: &[i64], count, more| series::v1::AlignResponse {
        run_id: "r".into(),
        run: 0,
        series: vec![series::v1::AlignedSeries {
            series,
            x_values: x_values.to_vec(),
            steps: steps.to_vec(),
            count,
            more,
        }],
    };
    let end = series::v1::AlignResponse { run_id: "s".into(), run: 1, series: vec![] };
    let messages = [
        piece(1, &[0.5], &[], 2, true),
        piece(1, &[1.5], &[], 0, false),
        piece(1, &[], &[3, 4], 2, false),
        piece(0, &[], &[], 0, false),
        piece(0, &[], &[], 0, false),
        end,
    ];
    rest.backend.answers("series.v1.SeriesService/Align", messages);
    let trace = |name: &str, stop| json!({"name": name, "context": {"a": 1}, "slice": [0, stop, 1]});
    let body = json!({"align_by": "x", "runs": [
        {"run_id": "r", "traces": [trace("m", 4), trace("n", 0)]},
        {"run_id": "s", "traces": []},
    ]});
    let answer = rest.send("POST", "/runs/search/metric/align/", body.clone()).await;
    let expected = r#"r = []
r/0/name = "n"
r/0/context/a = 1
r/0/x_axis_values/shape = 2
r/0/x_axis_values/blob = [0.5, 1.5]
r/0/x_axis_iters/shape = 2
r/0/x_axis_iters/blob = [3.0, 4.0]
r/1/name = "m"
r/1/context/a = 1
r/1/x_axis_values/shape = 0
r/1/x_axis_values/blob = []
r/1/x_axis_iters/shape = 0
r/1/x_axis_iters/blob = []
s = []"#;
    assert_eq!(answer.entries().join("\n"), expected);
    let request: series::v1::AlignRequest = rest.backend.last_request("series.v1.SeriesService/Align");
    assert_eq!(request.runs[0].series[0].steps, Some(StepRange { start: None, stop: Some(5) }));
    assert_eq!(request.runs[0].series[1].steps, None);
    assert!(request.by_column);
    // A column of another length than announced would make the rest unreadable.
    let too_short = vec![piece(1, &[0.5], &[], 2, false)];
    // The next column would complete the answer.
    let too_long = vec![
        piece(1, &[0.5], &[], 2, true),
        piece(1, &[1.5, 2.5], &[], 0, false),
        piece(1, &[], &[3, 4], 2, false),
    ];
    for messages in [too_short, too_long] {
        rest.backend.answers("series.v1.SeriesService/Align", messages);
        let request = Request::post("/api/v1/rest/runs/search/metric/align/");
        let response = rest.edge.answer(request.body(Body::from(body.to_string())).unwrap()).await;
        assert!(response.into_body().collect().await.is_err(), "the body must be aborted");
    }
}
