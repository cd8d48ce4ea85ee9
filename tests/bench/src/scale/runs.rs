//! Runs: each with 20 params and the last values of five metrics.

use std::{ops::Range, time::Instant};

use matyan_proto::{
    common::v1::SeriesKey,
    ingest::v1::{
        CreateRun, Event, FinishRun, IngestionBatch, LogParams, PublishRequest, event::Kind,
        ingest_service_client::IngestServiceClient,
    },
    runs::v1::{ParamPath, RunParts},
    search::v1::{
        Aggregate, GroupBy, GroupsRequest, MetricValue, Query, RunsRequest, Sort, aggregate, group_by,
        search_service_client::SearchServiceClient, sort::By,
    },
};
use matyan_tests::{Server, channel};
use matyan_value::{Map, Value, cbor};
use prost::Message as _;
use tokio::task::JoinSet;
use tonic::transport::Channel;

use super::{Column, Growth, has_room, median, megabytes, reset_peak, restart};
use crate::{disk::settled, load, runs::until_found};

const COLUMNS: [Column; 10] = [
    Column { title: "created until found", unit: "runs/s" },
    Column { title: "peak memory while writing", unit: "MB" },
    Column { title: "idle memory after a restart", unit: "MB" },
    Column { title: "disk", unit: "GB" },
    Column { title: "disk a run", unit: "bytes" },
    Column { title: "restart until ready", unit: "ms" },
    Column { title: "first page after a restart, by a metric", unit: "ms" },
    Column { title: "page of 50 from the middle, by a metric", unit: "ms" },
    Column { title: "100 runs by an indexed param", unit: "ms" },
    Column { title: "groups by a param", unit: "ms" },
];

const CONNECTIONS: u64 = 8;
/// Calls that wait for their answers on each connection.
const OUTSTANDING: u64 = 4;
const METRICS: usize = 5;
const FLOATS: usize = 14;
/// Runs of each value of the param `shard`.
pub(crate) const SHARD: u64 = 100;
const GROUPS: u64 = 16;
/// Runs of a page.
pub(crate) const PAGE: u32 = 50;
/// Repetitions of a search, after a first one.
const SEARCHES: usize = 9;

pub(super) async fn grow(sizes: &[u64]) -> Growth {
    let mut growth = Growth::new("runs", &COLUMNS);
    let mut server = Server::up().await;
    let mut created = 0;
    let mut disk = 0.0;
    for &size in sizes {
        if !has_room(&server, disk, created, size) {
            break;
        }
        reset_peak(&server);
        let start = Instant::now();
        create(&server, created, size).await;
        until_found(&server, size).await;
        let rate = (size - created) as f64 / start.elapsed().as_secs_f64();
        created = size;
        let peak = megabytes(&server, "VmHWM");
        disk = settled(&server.data_dir()).await as f64;
        let [ready, idle] = restart(&mut server).await;
        let mut client = SearchServiceClient::new(channel(&server.query).await);
        let first = page(&mut client, 0).await;
        let mut figures = vec![rate, peak, idle, disk / 1e9, disk / size as f64, ready * 1e3, first];
        figures.push(repeated(async || page(&mut client, size / 2).await).await);
        figures.push(repeated(async || shard(&mut client).await).await);
        figures.push(repeated(async || groups(&mut client, size).await).await);
        growth.add(size, figures);
    }
    growth
}

pub(crate) async fn create(server: &Server, from: u64, to: u64) {
    publish_each(server, from..to, run).await;
}

/// Publishes the request of each index over several connections, each with several calls outstanding.
pub(crate) async fn publish_each(server: &Server, indexes: Range<u64>, request: fn(u64) -> PublishRequest) {
    let mut writers = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let channel = channel(&server.ingest).await;
        for _ in 0..OUTSTANDING {
            let first = indexes.start + writers.len() as u64;
            let end = indexes.end;
            let channel = channel.clone();
            writers.spawn(async move {
                let mut client = IngestServiceClient::new(channel);
                for index in (first..end).step_by((CONNECTIONS * OUTSTANDING) as usize) {
                    let published = client.publish(request(index)).await.expect("the server takes the run");
                    assert_eq!(published.into_inner().rejected_items, 0);
                }
            });
        }
    }
    writers.join_all().await;
}

pub(crate) fn run_id(index: u64) -> String {
    format!("scale{index:027x}")
}

fn run(index: u64) -> PublishRequest {
    let kinds = [
        Kind::CreateRun(CreateRun::default()),
        Kind::LogParams(LogParams { value: cbor::encode_map(&params(index)).into() }),
        Kind::FinishRun(FinishRun::default()),
    ];
    let events = kinds.map(|kind| Event { kind: Some(kind), ..Event::default() }).into();
    let batch = IngestionBatch {
        events,
        series: load::definitions(0, METRICS),
        // The step differs between runs, and so does the value.
        ..load::binary_batch(index.cast_signed(), 1, METRICS)
    };
    PublishRequest { run_id: run_id(index), batch: batch.encode_to_vec().into(), ..PublishRequest::default() }
}

fn params(index: u64) -> Map {
    let mut hparams = Map::new();
    for at in 0..FLOATS {
        let float = (index as f64 * (at + 1) as f64 * 0.618).fract();
        hparams.insert(format!("rate_{at:02}"), Value::Float(float));
    }
    let others = [
        ("seed", Value::Integer(index.cast_signed())),
        ("shard", Value::Integer((index / SHARD).cast_signed())),
        ("layers", Value::Integer((index % GROUPS).cast_signed())),
        ("batch_size", Value::Integer(1 << (index % 7))),
        ("optimizer", Value::Text(["adam", "sgd", "lion"][index as usize % 3].to_owned())),
        ("dataset", Value::Text(format!("images-{}", index % 11))),
    ];
    hparams.extend(others.map(|(name, value)| (name.to_owned(), value)));
    [("hparams".to_owned(), Value::Map(hparams))].into()
}

fn param(name: &str) -> ParamPath {
    ParamPath { segments: vec!["hparams".to_owned(), name.to_owned()] }
}

type Client = SearchServiceClient<Channel>;

/// Milliseconds of a page of the table of runs, sorted by a metric.
pub(crate) async fn page(client: &mut Client, position: u64) -> f64 {
    search(client, page_request(position), PAGE as usize).await
}

/// A page of the table of runs, sorted by a metric.
pub(crate) fn page_request(position: u64) -> RunsRequest {
    let parts =
        RunParts { props: true, param_paths: vec![param("seed"), param("rate_00")], ..RunParts::default() };
    let key = SeriesKey { name: "metric_3".into(), context: r#"{"subset": "train"}"#.into() };
    let value = MetricValue::Last.into();
    let sort = vec![Sort { by: Some(By::Metric(key)), metric_value: value, ..Sort::default() }];
    let parts = Some(parts);
    RunsRequest { limit: PAGE, count: true, position, sort, parts, ..RunsRequest::default() }
}

/// Milliseconds of a search that an index answers.
async fn shard(client: &mut Client) -> f64 {
    search(client, shard_request(3), SHARD as usize).await
}

/// A search for the runs of a shard.
pub(crate) fn shard_request(shard: u64) -> RunsRequest {
    let query = Query { text: format!("run.hparams.shard == {shard}"), ..Query::default() };
    let parts = RunParts { props: true, ..RunParts::default() };
    RunsRequest { query: Some(query), parts: Some(parts), ..RunsRequest::default() }
}

async fn search(client: &mut Client, request: RunsRequest, finds: usize) -> f64 {
    let start = Instant::now();
    let mut messages = client.runs(request).await.expect("the stream starts").into_inner();
    let mut found = 0;
    while let Some(message) = messages.message().await.expect("the stream continues") {
        found += message.runs.len();
    }
    assert_eq!(found, finds, "the runs that are found");
    start.elapsed().as_secs_f64() * 1e3
}

/// Milliseconds of groups of all runs by a param, with the mean of another.
async fn groups(client: &mut Client, runs: u64) -> f64 {
    let request = groups_request();
    let start = Instant::now();
    let found = client.groups(request).await.expect("the groups are read").into_inner();
    assert_eq!(found.run_count, runs, "every run is in a group");
    start.elapsed().as_secs_f64() * 1e3
}

/// Groups of all runs by a param, with the mean of another.
pub(crate) fn groups_request() -> GroupsRequest {
    let by = GroupBy { by: Some(group_by::By::Param(param("layers"))), ..GroupBy::default() };
    let mean = Aggregate { of: Some(aggregate::Of::Param(param("rate_03"))), ..Aggregate::default() };
    GroupsRequest { by: vec![by], aggregates: vec![mean], ..GroupsRequest::default() }
}

/// The median of repetitions, after a first one.
async fn repeated(mut measure: impl AsyncFnMut() -> f64) -> f64 {
    measure().await;
    let mut figures = Vec::new();
    for _ in 0..SEARCHES {
        figures.push(measure().await);
    }
    median(figures)
}
