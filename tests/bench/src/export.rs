//! Exports of points, until the last byte of the file has arrived: of one series, of a run with many series, and of a
//! search. The points are read once before they are measured.

use std::{sync::Arc, time::Instant};

use matyan_proto::export::v1::{Format, MetricsRequest, Piece, export_service_client::ExportServiceClient};
use matyan_tests::{Server, binary::BinaryWriter, channel};
use tonic::transport::Channel;

use crate::{
    disk::settled,
    ingest::{finish, run_id, send_batches, until_readable},
    load,
    project::{self, Content},
    search::measured,
    table::{Budget, Table, Unit},
};

type Client = ExportServiceClient<Channel>;

/// Points of the run with one series, and of the run with many.
const POINTS: usize = 10_000_000;
const POINTS_A_BATCH: usize = 10_000;
/// Numbers of series of the runs.
const SERIES: [usize; 2] = [1, 50];

const FORMATS: [(&str, Format); 2] = [("Arrow", Format::Arrow), ("Parquet", Format::Parquet)];

/// Required rate, and milliseconds until the first bytes arrive.
const RATE: f64 = 100e6;
const FIRST: f64 = 32.0;

/// The rows of an export.
fn names(what: &str, format: &str) -> [String; 2] {
    ["points", "first bytes"].map(|figure| format!("export of {what} as {format}, {figure}"))
}

pub(crate) async fn rows(table: &mut Table, scale: usize) {
    of_runs(table, POINTS / scale).await;
    of_search(table).await;
}

async fn of_runs(table: &mut Table, points: usize) {
    let works = ["a series", "a run of 50 series"];
    if !works.iter().any(|what| wants(table, what)) {
        return;
    }
    let server = Server::up().await;
    let start = Instant::now();
    for (connection, series) in SERIES.into_iter().enumerate() {
        let load = Arc::new(load::binary_batches(points / POINTS_A_BATCH, POINTS_A_BATCH, series));
        let mut writer = BinaryWriter::new(&run_id(connection));
        writer.connect(&server.ingest).await.expect("the server listens");
        send_batches(writer, load).await;
    }
    until_readable(&server, SERIES.len(), points, start).await;
    for connection in 0..SERIES.len() {
        finish(&server, connection).await;
    }
    settled(&server.data_dir()).await;
    for (connection, what) in works.into_iter().enumerate() {
        let request = MetricsRequest { run_ids: vec![run_id(connection)], ..MetricsRequest::default() };
        export(table, &server, what, request, points as u64).await;
    }
}

async fn of_search(table: &mut Table) {
    let what = "a search of 10 runs of 50 series";
    if !wants(table, what) {
        return;
    }
    let content = Content::of_charts();
    let server = Server::up_on(&project::cached(content).await).await;
    // The first run of a generated project is archived, and so left out.
    let series = (content.runs - 1) * u64::from(project::SERIES);
    export(table, &server, what, MetricsRequest::default(), series * u64::from(content.points)).await;
}

fn wants(table: &Table, what: &str) -> bool {
    FORMATS.iter().any(|(format, _)| names(what, format).iter().any(|name| table.wants(name)))
}

async fn export(table: &mut Table, server: &Server, what: &str, request: MetricsRequest, points: u64) {
    let mut client = ExportServiceClient::new(channel(&server.query).await);
    for (name, format) in FORMATS {
        let [rate, first] = names(what, name);
        let request = MetricsRequest { format: format.into(), ..request.clone() };
        let measure = async || file(&mut client, request.clone(), points).await;
        let Some(files) = measured(table, &[&rate, &first], measure).await else { continue };
        let (rates, firsts) = files.into_iter().map(|ExportedFile { rate, first }| (rate, first)).unzip();
        table.print(&rate, Budget::AtLeast(RATE), Unit::PerSecond("points"), rates);
        table.print(&first, Budget::AtMost(FIRST), Unit::Milliseconds, firsts);
    }
}

struct ExportedFile {
    /// Points per second.
    rate: f64,
    /// Milliseconds until the first bytes.
    first: f64,
}

/// Receives a file, which is not kept.
async fn file(client: &mut Client, request: MetricsRequest, points: u64) -> ExportedFile {
    let start = Instant::now();
    let mut messages = client.metrics(request).await.expect("the export starts").into_inner();
    let mut first = None;
    let mut last = Piece::default();
    while let Some(message) = messages.message().await.expect("the export continues") {
        last = message.piece.expect("every message has a piece");
        if !last.data.is_empty() {
            first.get_or_insert_with(|| start.elapsed());
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    assert!(last.done && last.rows == points, "{} of {points} points", last.rows);
    let first = first.expect("a file has bytes");
    ExportedFile { rate: points as f64 / seconds, first: first.as_secs_f64() * 1e3 }
}
