//! Reads back the written data exactly, through the gRPC API.

use matyan_proto::{
    common::v1::{SeriesKey, StepRange},
    logs::v1::{LinesRequest, RecordsRequest, log_service_client::LogServiceClient},
    series::v1::{
        BucketsRequest, ListRequest, PointColumns, PointsRequest, RunSelection, SeriesBuckets,
        series_service_client::SeriesServiceClient,
    },
};
use tonic::{Code, Status, transport::Channel};

use crate::channel;

/// One point of a series, with its epoch and time if it has them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    pub step: i64,
    pub value: f64,
    pub epoch: Option<i64>,
    pub time_us: Option<i64>,
}

pub struct Reader {
    channel: Channel,
}

/// The value in a column of epochs or times that means "none".
const NONE: i64 = i64::MIN;

impl Reader {
    pub async fn connect(base: &str) -> Self {
        Self { channel: channel(base).await }
    }

    /// All points of a metric series in ascending order of steps. Empty if the series or
    /// the run does not exist.
    pub async fn points(&self, run_id: &str, name: &str, context: &str) -> Result<Vec<Point>, Status> {
        let key = SeriesKey { name: name.into(), context: context.into() };
        let request = PointsRequest {
            run: Some(RunSelection { run_id: run_id.into(), keys: vec![key], ..RunSelection::default() }),
            steps: None,
            columns: Some(PointColumns { values: true, epochs: true, times: true }),
            by_column: false,
        };
        let mut client = SeriesServiceClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX);
        let mut pieces = match client.points(request).await {
            Ok(pieces) => pieces.into_inner(),
            Err(status) if status.code() == Code::NotFound => return Ok(Vec::new()),
            Err(status) => return Err(status),
        };
        let mut points = Vec::new();
        while let Some(piece) = pieces.message().await? {
            let piece = piece.points.unwrap_or_default();
            points.extend(piece.steps.iter().enumerate().map(|(at, step)| Point {
                step: *step,
                value: piece.values[at],
                epoch: optional(&piece.epochs, at),
                time_us: optional(&piece.times_us, at),
            }));
        }
        Ok(points)
    }

    /// Total number of points of all metric series of a run; 0 while the run does not
    /// exist.
    pub async fn count(&self, run_id: &str) -> Result<u64, Status> {
        let request = ListRequest { run_id: run_id.into(), ..ListRequest::default() };
        let mut client = SeriesServiceClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX);
        let mut pieces = match client.list(request).await {
            Ok(pieces) => pieces.into_inner(),
            Err(status) if status.code() == Code::NotFound => return Ok(0),
            Err(status) => return Err(status),
        };
        let mut count = 0;
        while let Some(piece) = pieces.message().await? {
            count += piece.series.iter().map(|series| series.count).sum::<u64>();
        }
        Ok(count)
    }

    /// Buckets of a series, for a chart that is `pixels` wide.
    pub async fn chart(
        &self,
        run_id: &str,
        key: SeriesKey,
        pixels: u32,
    ) -> Result<Option<SeriesBuckets>, Status> {
        let selection = RunSelection { run_id: run_id.into(), keys: vec![key], ..RunSelection::default() };
        let request = BucketsRequest { runs: vec![selection], pixels, ..BucketsRequest::default() };
        let mut pieces = SeriesServiceClient::new(self.channel.clone()).buckets(request).await?.into_inner();
        let mut found = None;
        while let Some(piece) = pieces.message().await? {
            found = piece.series.into_iter().next().or(found);
        }
        Ok(found)
    }

    /// All terminal lines, with their steps.
    pub async fn lines(&self, run_id: &str) -> Result<Vec<(i64, String)>, Status> {
        let request =
            LinesRequest { run_id: run_id.into(), steps: Some(everything()), ..LinesRequest::default() };
        let mut client = LogServiceClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX);
        let mut pieces = client.lines(request).await?.into_inner();
        let mut lines = Vec::new();
        while let Some(piece) = pieces.message().await? {
            lines.extend(piece.lines.into_iter().map(|line| (line.step, line.text)));
        }
        Ok(lines)
    }

    /// The messages of all log records, in order.
    pub async fn records(&self, run_id: &str) -> Result<Vec<String>, Status> {
        let request =
            RecordsRequest { run_id: run_id.into(), steps: Some(everything()), ..RecordsRequest::default() };
        let mut pieces = LogServiceClient::new(self.channel.clone()).records(request).await?.into_inner();
        let mut messages = Vec::new();
        while let Some(piece) = pieces.message().await? {
            messages.extend(piece.records.into_iter().map(|record| record.message));
        }
        Ok(messages)
    }
}

/// Returns the value of an optional column; `None` if it is absent.
fn optional(column: &[i64], at: usize) -> Option<i64> {
    column.get(at).copied().filter(|value| *value != NONE)
}

fn everything() -> StepRange {
    StepRange { start: Some(i64::MIN), stop: None }
}
