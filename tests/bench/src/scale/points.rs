//! Points: a tenth of them in one series that never ends, the others in runs that finish.

use std::{ops::Range, time::Instant};

use matyan_proto::{
    common::v1::{SeriesKey, StepRange},
    ingest::v1::{Event, FinishRun, IngestionBatch, event::Kind},
    series::v1::{BucketsRequest, RunSelection, series_service_client::SeriesServiceClient},
};
use matyan_tests::{Server, binary::BinaryWriter, channel};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use super::{Column, Growth, has_room, median, megabytes, reset_peak, restart};
use crate::{
    disk::settled,
    ingest::{points_readable, send_each},
    load,
};

const COLUMNS: [Column; 9] = [
    Column { title: "ingestion until readable", unit: "points/s" },
    Column { title: "the long series alone", unit: "points/s" },
    Column { title: "peak memory while writing", unit: "MB" },
    Column { title: "idle memory after a restart", unit: "MB" },
    Column { title: "disk", unit: "GB" },
    Column { title: "disk a point", unit: "bytes" },
    Column { title: "restart until ready", unit: "ms" },
    Column { title: "first chart of the long series", unit: "ms" },
    Column { title: "zoom to a tenth of it", unit: "ms" },
];

/// Runs that are written at the same time.
const RUNS: u64 = 8;
/// Metrics of each of them.
const SERIES: usize = 50;
const POINTS_A_BATCH: usize = 10_000;
pub(crate) const LONG_RUN: &str = "long";
const PIXELS: u32 = 1_000;

pub(super) async fn grow(sizes: &[u64]) -> Growth {
    let mut growth = Growth::new("points", &COLUMNS);
    let mut server = Server::up().await;
    let mut written = 0;
    let mut long = 0;
    let mut disk = 0.0;
    for &size in sizes {
        if !has_room(&server, disk, written, size) {
            break;
        }
        reset_peak(&server);
        let more = size - written;
        let start = Instant::now();
        long = write_long(&server, long, more / 10).await;
        let long_rate = (more / 10) as f64 / start.elapsed().as_secs_f64();
        let start = Instant::now();
        let steps = (more - more / 10) / RUNS / SERIES as u64;
        let others = write_runs(&server, size, steps).await;
        let rate = others as f64 / start.elapsed().as_secs_f64();
        written += more / 10 + others;
        let peak = megabytes(&server, "VmHWM");
        disk = settled(&server.data_dir()).await as f64;
        let [ready, idle] = restart(&mut server).await;
        let mut charts = Charts::connect(&server).await;
        let first = charts.milliseconds(0..long).await;
        let mut zooms = Vec::new();
        // Ranges that start and end within buckets, like nearly all ranges that people choose.
        for tenth in 0..9 {
            let start = long * tenth / 10 + 12_347 % (long / 10);
            zooms.push(charts.milliseconds(start..start + long / 10).await);
        }
        let figures = vec![
            rate,
            long_rate,
            peak,
            idle,
            disk / 1e9,
            disk / written as f64,
            ready * 1e3,
            first,
            median(zooms),
        ];
        growth.add(size, figures);
    }
    growth
}

/// Appends points to the long series. Returns their number so far.
async fn write_long(server: &Server, from: u64, points: u64) -> u64 {
    let steps = from..from + points;
    write(server.ingest.clone(), LONG_RUN.to_owned(), steps.clone(), 1, false).await;
    points_readable(server, LONG_RUN, steps.end).await;
    steps.end
}

/// Writes finished runs. Returns the number of their points.
async fn write_runs(server: &Server, size: u64, steps: u64) -> u64 {
    let id = |number: u64| format!("size-{size}-run-{number}");
    let mut writers = JoinSet::new();
    for number in 0..RUNS {
        writers.spawn(write(server.ingest.clone(), id(number), 0..steps, SERIES, true));
    }
    writers.join_all().await;
    let points = steps * SERIES as u64;
    for number in 0..RUNS {
        points_readable(server, &id(number), points).await;
    }
    points * RUNS
}

/// Writes a point of each series at each of the steps.
pub(crate) async fn write(base: String, run: String, steps: Range<u64>, series: usize, finish: bool) {
    let mut writer = BinaryWriter::new(&run);
    writer.connect(&base).await.expect("the server listens");
    let steps = steps.start.cast_signed()..steps.end.cast_signed();
    let steps_a_batch = POINTS_A_BATCH / series;
    let define = IngestionBatch { series: load::definitions(0, series), ..IngestionBatch::default() };
    let points = steps.clone().step_by(steps_a_batch).map(|first| {
        let left = usize::try_from(steps.end - first).expect("few steps");
        load::binary_batch(first, left.min(steps_a_batch), series)
    });
    let finish = finish.then(|| {
        let finish = Event { kind: Some(Kind::FinishRun(FinishRun::default())), ..Event::default() };
        IngestionBatch { events: vec![finish], ..IngestionBatch::default() }
    });
    send_each(writer, [define].into_iter().chain(points).chain(finish)).await;
}

/// A chart of some steps of the long series.
pub(crate) fn chart_request(steps: Range<u64>) -> BucketsRequest {
    let key = SeriesKey { name: "metric_0".into(), context: r#"{"subset": "train"}"#.into() };
    let run = RunSelection { run_id: LONG_RUN.into(), keys: vec![key], ..RunSelection::default() };
    let [start, stop] = [steps.start, steps.end].map(|step| Some(step.cast_signed()));
    let steps = Some(StepRange { start, stop });
    BucketsRequest { runs: vec![run], pixels: PIXELS, steps, ..BucketsRequest::default() }
}

struct Charts(SeriesServiceClient<Channel>);

impl Charts {
    /// Connects, and makes a call, so that charts do not wait for the connection.
    async fn connect(server: &Server) -> Self {
        Self(SeriesServiceClient::new(channel(&server.query).await))
    }

    /// Time until a chart of some steps of the long series is read.
    async fn milliseconds(&mut self, steps: Range<u64>) -> f64 {
        let request = chart_request(steps);
        let start = Instant::now();
        let mut pieces = self.0.buckets(request).await.expect("the stream starts").into_inner();
        let mut buckets = 0;
        while let Some(piece) = pieces.message().await.expect("the stream continues") {
            buckets += piece.series.iter().map(|series| series.index.len()).sum::<usize>();
        }
        let elapsed = start.elapsed().as_secs_f64() * 1e3;
        assert!((PIXELS as usize / 2..=PIXELS as usize).contains(&buckets), "{buckets} buckets");
        elapsed
    }
}
