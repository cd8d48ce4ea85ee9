//! Searches of 1,000, 10,000 and 100,000 runs on a warm server: time to the first and to the
//! last row, the same over REST, and the cost of a project's front page. Results are counted,
//! because a search that finds too little would seem fast.

pub(crate) mod expensive;
pub(crate) mod loaded;
pub(crate) mod steps;

use std::time::{Duration, Instant};

use bytes::Bytes;
use matyan_proto::{
    common::v1::SeriesKey,
    runs::v1::{ParamPath, RunParts},
    search::v1::{
        Aggregate, GroupBy, GroupsRequest, MetricValue, Query, RunsRequest, Sort, SortField, aggregate,
        group_by, search_service_client::SearchServiceClient, sort::By,
    },
};
use matyan_tests::{Server, channel, codec};
use tonic::transport::Channel;

use crate::{
    project::{self, Content},
    table::{Budget, Table, Unit},
};

pub(crate) type Client = SearchServiceClient<Channel>;

/// Matches every run: archived runs are only included when the query mentions `archived`.
pub(crate) const ALL: &str = "run.archived in (True, False)";

/// A search, and the number of runs that it must find.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    request: RunsRequest,
    finds: std::ops::RangeInclusive<usize>,
    first: Budget,
    last: Budget,
}

impl Case {
    fn rows(&self, prefix: &str) -> [String; 2] {
        ["first row", "last row"].map(|row| format!("{prefix}{}, {row}", self.name))
    }
}

pub(crate) struct Timing {
    first: f64,
    last: f64,
}

pub(crate) async fn rows(table: &mut Table, scale: u64) {
    for runs in [1_000, 10_000, 100_000 / scale] {
        let prefix = format!("{}k runs: ", runs / 1_000);
        let names = cases(runs).into_iter().flat_map(|case| case.rows(&prefix));
        let names = names.chain([groups_row(&prefix)]).chain(group_page_rows(&prefix));
        let mut names =
            names.chain(REST.map(|(name, ..)| format!("{prefix}{name}"))).chain([start_up_row(&prefix)]);
        if !names.any(|name| table.wants(&name)) {
            continue;
        }
        let directory = project::cached(Content::of_runs(runs)).await;
        let mut server = Server::up_on(&directory).await;
        let mut client = connect(&server).await;
        for case in cases(runs) {
            grpc(table, &prefix, &mut client, case).await;
        }
        groups(table, &prefix, &mut client, runs).await;
        group_page(table, &prefix, &mut client, budget(runs, 20.0)).await;
        rest(table, &prefix, &server, runs).await;
        start_up(table, &prefix, &mut server, runs).await;
        assert!(server.terminate().await.success(), "{}", server.log());
    }
}

pub(crate) async fn connect(server: &Server) -> Client {
    let channel = channel(&server.query).await;
    SearchServiceClient::new(channel).max_decoding_message_size(usize::MAX)
}

/// The columns of a table of runs: props and three params.
pub(crate) fn columns() -> RunParts {
    let path = |group: &str, name: &str| ParamPath { segments: vec![group.to_owned(), name.to_owned()] };
    let param_paths = vec![path("hparams", "seed"), path("hparams", "lr"), path("model", "units_07")];
    RunParts { props: true, param_paths, ..RunParts::default() }
}

/// The budget of a search in the largest project; smaller projects have no budget.
fn budget(runs: u64, milliseconds: f64) -> Budget {
    if runs == 100_000 { Budget::AtMost(milliseconds) } else { Budget::None }
}

pub(crate) fn cases(runs: u64) -> Vec<Case> {
    let of = |text: &str, limit, sort: &[SortField]| RunsRequest {
        query: Some(Query { text: text.to_owned(), ..Query::default() }),
        limit,
        sort: sort
            .iter()
            .map(|field| Sort { by: Some(By::Field((*field).into())), descending: true, ..Sort::default() })
            .collect(),
        parts: Some(columns()),
        ..RunsRequest::default()
    };
    let budget = |milliseconds| budget(runs, milliseconds);
    let runs = usize::try_from(runs).expect("few runs");
    let shown = runs - runs / 50;
    let case = |name, request, finds| Case { name, request, finds, first: Budget::None, last: Budget::None };
    let hits = runs / (runs / 1_000).max(10);
    let middle = runs as u64 / 2;
    let page = |name, field, position| Case {
        last: budget(20.0),
        ..case(name, RunsRequest { position, count: true, ..of("", 50, &[field]) }, 50..=50)
    };
    vec![
        Case {
            last: budget(3.0),
            ..case("indexed predicate", of("run.hparams.shard == 7", 0, &[]), hits * 8 / 10..=hits * 11 / 10)
        },
        Case {
            last: budget(40.0),
            ..case("full scan, 1 % match", of("run.hparams.seed % 100 == 7", 0, &[]), runs / 100..=runs / 100)
        },
        Case {
            last: budget(50.0),
            ..case(
                "full scan by a text",
                of("'17' in run.name and run.hparams.seed % 100 == 17", 0, &[]),
                runs / 100..=runs / 100,
            )
        },
        case("one run by its name", of("run.name == 'run 17'", 0, &[]), 1..=1),
        case("sort by date, 100 runs", of("", 100, &[SortField::Created]), 100..=100),
        case("sort by name, 100 runs", of("", 100, &[SortField::Name]), 100..=100),
        case("newest 1,000", of("", 1_000, &[]), shown.min(1_000)..=shown.min(1_000)),
        page("page of 50 by name", SortField::Name, 0),
        page("page of 50 by name, from the middle", SortField::Name, middle),
        page("page of 50 by duration, from the middle", SortField::Duration, middle),
        Case {
            last: budget(20.0),
            ..case(
                "page of 50 by two params, from the middle",
                RunsRequest {
                    sort: ["shard", "lr"].map(by_param).into(),
                    position: middle,
                    ..of("", 50, &[])
                },
                50..=50,
            )
        },
        Case {
            last: budget(20.0),
            ..case(
                "page of 50 by the last value of a metric, from the middle",
                RunsRequest { sort: vec![by_metric()], position: middle, ..of("", 50, &[]) },
                50..=50,
            )
        },
    ]
}

/// A sort key: a param of the group `hparams`.
fn by_param(name: &str) -> Sort {
    let path = ParamPath { segments: vec!["hparams".to_owned(), name.to_owned()] };
    Sort { by: Some(By::Param(path)), ..Sort::default() }
}

fn by_metric() -> Sort {
    let key = SeriesKey { name: "metric_00".to_owned(), context: r#"{"subset": "train"}"#.to_owned() };
    Sort { by: Some(By::Metric(key)), metric_value: MetricValue::Last.into(), ..Sort::default() }
}

async fn grpc(table: &mut Table, prefix: &str, client: &mut Client, case: Case) {
    let [first, last] = case.rows(prefix);
    let timings = measured(table, &[&first, &last], async || search(client, &case).await).await;
    if let Some(timings) = timings {
        let (firsts, lasts) = timings.into_iter().map(|Timing { first, last }| (first, last)).unzip();
        table.print(&first, case.first, Unit::Milliseconds, firsts);
        table.print(&last, case.last, Unit::Milliseconds, lasts);
    }
}

fn groups_row(prefix: &str) -> String {
    format!("{prefix}groups by a param, with the mean of another")
}

fn by_shard() -> Vec<GroupBy> {
    let path = ParamPath { segments: ["hparams", "shard"].map(str::to_owned).into() };
    vec![GroupBy { by: Some(group_by::By::Param(path)), ..GroupBy::default() }]
}

async fn groups(table: &mut Table, prefix: &str, client: &mut Client, runs: u64) {
    let lr = ParamPath { segments: ["hparams", "lr"].map(str::to_owned).into() };
    let aggregates = vec![Aggregate { of: Some(aggregate::Of::Param(lr)), ..Aggregate::default() }];
    let request = GroupsRequest { by: by_shard(), aggregates, ..GroupsRequest::default() };
    let work = groups_row(prefix);
    let measure = async || {
        let start = Instant::now();
        let found = client.groups(request.clone()).await.expect("the groups are read").into_inner();
        assert_eq!(found.run_count, runs - runs / 50, "every run that is not archived is in a group");
        milliseconds(start)
    };
    if let Some(times) = measured(table, &[&work], measure).await {
        table.print(&work, budget(runs, 20.0), Unit::Milliseconds, times);
    }
}

const GROUP_PAGE: &str = "page of 50 by name, from the middle of a group";

fn group_page_rows(prefix: &str) -> [String; 2] {
    ["first row", "last row"].map(|row| format!("{prefix}{GROUP_PAGE}, {row}"))
}

async fn group_page(table: &mut Table, prefix: &str, client: &mut Client, last: Budget) {
    let request = GroupsRequest { by: by_shard(), limit: 1, ..GroupsRequest::default() };
    let group = client.groups(request).await.expect("the groups are read").into_inner().groups.remove(0);
    let request = RunsRequest {
        sort: vec![Sort { by: Some(By::Field(SortField::Name.into())), ..Sort::default() }],
        group: group.token,
        position: group.run_count.saturating_sub(50) / 2,
        limit: 50,
        count: true,
        parts: Some(columns()),
        ..RunsRequest::default()
    };
    let case = Case { name: GROUP_PAGE, request, finds: 50..=50, first: Budget::None, last };
    grpc(table, prefix, client, case).await;
}

/// Measures repeatedly after one warm-up, if any of the rows is wanted.
pub(crate) async fn measured<T>(
    table: &Table,
    rows: &[&str],
    mut measure: impl AsyncFnMut() -> T,
) -> Option<Vec<T>> {
    if !rows.iter().any(|row| table.wants(row)) {
        return None;
    }
    measure().await;
    let mut figures = Vec::new();
    for _ in 0..table.runs() {
        figures.push(measure().await);
    }
    Some(figures)
}

pub(crate) async fn search(client: &mut Client, case: &Case) -> Timing {
    let start = Instant::now();
    let mut messages = client.runs(case.request.clone()).await.expect("the stream starts").into_inner();
    let mut found = 0;
    let mut first = None;
    let mut done = false;
    while let Some(message) = messages.message().await.expect("the stream continues") {
        if !message.runs.is_empty() {
            first.get_or_insert_with(|| milliseconds(start));
        }
        found += message.runs.len();
        done = message.done;
    }
    let last = milliseconds(start);
    assert!(done && case.finds.contains(&found), "{}: {found} runs instead of {:?}", case.name, case.finds);
    Timing { first: first.unwrap_or(last), last }
}

fn milliseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

/// Requests of the browser UI. Searches of a whole project are only measured on the smallest
/// one.
const REST: [(&str, &str, Budget); 4] = [
    ("REST search of 200 params, all match, last row", SEARCH, Budget::AtMost(10.0)),
    ("REST search of 200 params and 50 series, all match, last row", SEARCH_SERIES, Budget::AtMost(30.0)),
    ("project params", "projects/params/", Budget::None),
    ("project activity", "projects/activity/", Budget::None),
];
const SEARCH: &str = "runs/search/run/?q=run.archived%20in%20(True,False)&exclude_traces=true";
const SEARCH_SERIES: &str = "runs/search/run/?q=run.archived%20in%20(True,False)";

async fn rest(table: &mut Table, prefix: &str, server: &Server, runs: u64) {
    let client = reqwest::Client::new();
    for (name, path, budget) in REST {
        let is_search = path.starts_with("runs/");
        if is_search && runs != 1_000 {
            continue;
        }
        let work = format!("{prefix}{name}");
        let url = format!("{}/api/v1/rest/{path}", server.query);
        let Some(answers) = measured(table, &[&work], async || rest_read(&client, &url).await).await else {
            continue;
        };
        let (times, bodies): (_, Vec<_>) = answers.into_iter().unzip();
        if is_search {
            for body in &bodies {
                assert_eq!(runs_of(body), 1_000, "{work}");
            }
        }
        table.print(&work, budget, Unit::Milliseconds, times);
    }
}

async fn rest_read(client: &reqwest::Client, url: &str) -> (f64, Bytes) {
    let start = Instant::now();
    let mut answer = client.get(url).send().await.expect("the server answers");
    assert!(answer.status().is_success(), "{}", answer.status());
    let mut chunks = Vec::new();
    while let Some(chunk) = answer.chunk().await.expect("the response continues") {
        chunks.push(chunk);
    }
    (milliseconds(start), chunks.concat().into())
}

fn runs_of(body: &[u8]) -> usize {
    codec::entries(body).iter().filter(|entry| entry.path_text().ends_with("/props/name")).count()
}

fn start_up_row(prefix: &str) -> String {
    format!("{prefix}`matyan up` from exec to ready")
}

async fn start_up(table: &mut Table, prefix: &str, server: &mut Server, runs: u64) {
    let work = start_up_row(prefix);
    let budget = if runs == 100_000 { Budget::AtMost(0.08) } else { Budget::None };
    table
        .row(&work, budget, Unit::Seconds, async || {
            assert!(server.terminate().await.success(), "{}", server.log());
            let start = Instant::now();
            server.start().await;
            start.elapsed().as_secs_f64()
        })
        .await;
}

/// Peak memory of the server while it sends all runs with all their params to a slow reader.
pub(crate) async fn slow_reader(table: &mut Table, scale: u64) {
    const PAUSE: Duration = Duration::from_millis(20);
    let runs = 100_000 / scale;
    let work = format!("memory of the server while {}k runs stream to a slow reader", runs / 1_000);
    if !table.wants(&work) {
        return;
    }
    let directory = project::cached(Content::of_runs(runs)).await;
    let server = Server::up_on(&directory).await;
    let mut client = connect(&server).await;
    let request = RunsRequest {
        query: Some(Query { text: ALL.to_owned(), ..Query::default() }),
        parts: Some(RunParts { props: true, params: true, ..RunParts::default() }),
        ..RunsRequest::default()
    };
    let mut messages = client.runs(request).await.expect("the stream starts").into_inner();
    let mut found = 0;
    while let Some(message) = messages.message().await.expect("the stream continues") {
        found += message.runs.len() as u64;
        tokio::time::sleep(PAUSE).await;
    }
    assert_eq!(found, runs, "all runs are sent");
    let largest = server.memory("VmHWM") as f64 / 1e6;
    table.print(&work, Budget::AtMost(128.0), Unit::Megabytes, vec![largest]);
}
