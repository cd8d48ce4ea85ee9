//! Charts and pages that people open, with their times. Every request differs from the one before it, so that no cache
//! of answers makes them fast.

use std::time::{Duration, Instant};

use matyan_proto::{
    common::v1::SeriesKey,
    project::v1::{FindColumnsRequest, project_service_client::ProjectServiceClient},
    search::v1::{RunsRequest, search_service_client::SearchServiceClient},
    series::v1::{BucketsRequest, ListRequest, RunSelection, series_service_client::SeriesServiceClient},
};
use matyan_tests::{Server, channel};
use tonic::{Status, transport::Channel};

use super::content::{CONTEXT, Dimension, METRICS_A_RUN, Size, metric_name, metrics_run_id};
use crate::{
    latency::p99,
    scale::{
        points::{LONG_RUN, chart_request},
        runs::{PAGE, SHARD, groups_request, page_request, run_id, shard_request},
    },
};

/// Series of a chart of many runs or of many metrics, and the width of the chart.
const CHARTED: u64 = 50;
const PIXELS: u32 = 500;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    NewestRuns,
    RunsByMetric,
    RunsByParam,
    GroupsOfRuns,
    MetricOfRuns,
    LongRun,
    LongSeries,
    PartOfLongSeries,
    MetricsOfRun,
    ListedMetrics,
    FoundMetrics,
}

impl View {
    pub(super) const ALL: [Self; 11] = [
        Self::NewestRuns,
        Self::RunsByMetric,
        Self::RunsByParam,
        Self::GroupsOfRuns,
        Self::MetricOfRuns,
        Self::LongRun,
        Self::LongSeries,
        Self::PartOfLongSeries,
        Self::MetricsOfRun,
        Self::ListedMetrics,
        Self::FoundMetrics,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::NewestRuns => "50 runs by date",
            Self::RunsByMetric => "50 runs by a metric",
            Self::RunsByParam => "100 runs by an indexed param",
            Self::GroupsOfRuns => "groups of all runs",
            Self::MetricOfRuns => "a metric of 50 runs",
            Self::LongRun => "series of the long run",
            Self::LongSeries => "the long series",
            Self::PartOfLongSeries => "a tenth of the long series",
            Self::MetricsOfRun => "50 metrics of a run",
            Self::ListedMetrics => "series of a run of 10,000 metrics",
            Self::FoundMetrics => "metrics found by a text",
        }
    }

    /// The dimension that the view depends on.
    pub(super) fn dimension(self) -> Dimension {
        match self {
            Self::NewestRuns
            | Self::RunsByMetric
            | Self::RunsByParam
            | Self::GroupsOfRuns
            | Self::MetricOfRuns => Dimension::Runs,
            Self::LongRun | Self::LongSeries | Self::PartOfLongSeries => Dimension::Steps,
            Self::MetricsOfRun | Self::ListedMetrics | Self::FoundMetrics => Dimension::Metrics,
        }
    }

    /// Whether it is a chart; the others are pages.
    fn is_chart(self) -> bool {
        matches!(self, Self::MetricOfRuns | Self::LongSeries | Self::PartOfLongSeries | Self::MetricsOfRun)
    }
}

/// The view with the highest 99th percentile, in milliseconds.
#[derive(Clone, Copy)]
pub(super) struct Slowest {
    pub(super) view: &'static str,
    pub(super) p99: f64,
}

/// Times of some views.
pub(super) struct Times(Vec<ViewTimes>);

struct ViewTimes {
    view: View,
    times: Vec<Duration>,
    /// The reason of the server. A view that was refused is not opened again.
    refusal: Option<String>,
}

impl Times {
    pub(super) fn of(views: impl Iterator<Item = View>) -> Self {
        Self(views.map(|view| ViewTimes { view, times: Vec::new(), refusal: None }).collect())
    }

    pub(super) fn slowest_chart(&self) -> Option<Slowest> {
        self.slowest(true)
    }

    pub(super) fn slowest_page(&self) -> Option<Slowest> {
        self.slowest(false)
    }

    fn slowest(&self, charts: bool) -> Option<Slowest> {
        let views = self.0.iter().filter(|of| of.view.is_chart() == charts && !of.times.is_empty());
        let figures = views.map(|of| Slowest { view: of.view.name(), p99: p99(of.times.clone()) });
        figures.max_by(|one, other| one.p99.total_cmp(&other.p99))
    }

    /// The first view that the server refused, with its reason.
    pub(super) fn refusal(&self) -> Option<String> {
        self.0.iter().find_map(|of| {
            let reason = of.refusal.as_ref()?;
            Some(format!("\"{}\" was refused: {reason}", of.view.name()))
        })
    }
}

pub(super) struct Viewer {
    search: SearchServiceClient<Channel>,
    series: SeriesServiceClient<Channel>,
    project: ProjectServiceClient<Channel>,
}

impl Viewer {
    pub(super) async fn connect(server: &Server) -> Self {
        let channel = channel(&server.query).await;
        Self {
            search: SearchServiceClient::new(channel.clone()).max_decoding_message_size(usize::MAX),
            series: SeriesServiceClient::new(channel.clone()).max_decoding_message_size(usize::MAX),
            project: ProjectServiceClient::new(channel).max_decoding_message_size(usize::MAX),
        }
    }

    /// Opens each of the views once. Samples with different numbers read different parts of the project.
    pub(super) async fn open(&mut self, times: &mut Times, sample: u64, size: Size) {
        for of in times.0.iter_mut().filter(|of| of.refusal.is_none()) {
            let start = Instant::now();
            match self.read(of.view, sample, size).await {
                Ok(()) => of.times.push(start.elapsed()),
                Err(status) => of.refusal = Some(status.message().to_owned()),
            }
        }
    }

    /// Reads a view completely, and fails if there is less to see than there should be.
    async fn read(&mut self, view: View, sample: u64, size: Size) -> Result<(), Status> {
        let place = |places: u64| spread(sample, places);
        let metrics_run = || place(size.metrics / METRICS_A_RUN);
        match view {
            View::NewestRuns => {
                let request = page_request(place(size.runs - u64::from(PAGE)));
                self.find(RunsRequest { sort: Vec::new(), ..request }, PAGE.into()).await
            }
            View::RunsByMetric => {
                self.find(page_request(place(size.runs - u64::from(PAGE))), PAGE.into()).await
            }
            View::RunsByParam => self.find(shard_request(place(size.runs / SHARD)), SHARD).await,
            View::GroupsOfRuns => {
                let found = self.search.groups(groups_request()).await?.into_inner();
                assert!(found.run_count >= size.runs, "every run is in a group");
                Ok(())
            }
            View::MetricOfRuns => {
                let first = place(size.runs);
                let run = |at: u64| (first + at * (size.runs / CHARTED)) % size.runs;
                let runs = (0..CHARTED).map(|at| selection(run_id(run(at)), ["metric_3".to_owned()]));
                self.draw(charts(runs.collect()), CHARTED).await
            }
            View::LongRun => self.list(LONG_RUN.to_owned(), 1).await,
            View::LongSeries => {
                // A few steps are left out, so that no two charts are the same.
                self.draw(chart_request(place(size.steps / 100)..size.steps), 1).await
            }
            View::PartOfLongSeries => {
                let tenth = size.steps / 10;
                let start = place(size.steps - tenth);
                self.draw(chart_request(start..start + tenth), 1).await
            }
            View::MetricsOfRun => {
                let run = metrics_run();
                let first = place(METRICS_A_RUN - CHARTED);
                let names = (first..first + CHARTED).map(|metric| metric_name(run, metric));
                self.draw(charts(vec![selection(metrics_run_id(run), names)]), CHARTED).await
            }
            View::ListedMetrics => self.list(metrics_run_id(metrics_run()), METRICS_A_RUN).await,
            View::FoundMetrics => {
                let text = metric_name(metrics_run(), place(METRICS_A_RUN));
                // The answer may be from the names of a sample of the runs, so their number is not checked.
                let request =
                    FindColumnsRequest { text, exclude_params: true, ..FindColumnsRequest::default() };
                self.project.find_columns(request).await.map(drop)
            }
        }
    }

    async fn find(&mut self, request: RunsRequest, runs: u64) -> Result<(), Status> {
        let mut messages = self.search.runs(request).await?.into_inner();
        let mut found = 0;
        while let Some(message) = messages.message().await? {
            found += message.runs.len() as u64;
        }
        assert_eq!(found, runs, "the runs that are found");
        Ok(())
    }

    async fn draw(&mut self, request: BucketsRequest, series: u64) -> Result<(), Status> {
        let mut pieces = self.series.buckets(request).await?.into_inner();
        let mut drawn = 0;
        while let Some(piece) = pieces.message().await? {
            drawn += piece.series.iter().filter(|series| !series.index.is_empty()).count() as u64;
        }
        assert_eq!(drawn, series, "the series that are drawn");
        Ok(())
    }

    async fn list(&mut self, run_id: String, series: u64) -> Result<(), Status> {
        let request = ListRequest { run_id, ..ListRequest::default() };
        let mut pieces = self.series.list(request).await?.into_inner();
        let mut listed = 0;
        while let Some(piece) = pieces.message().await? {
            listed += piece.series.len() as u64;
        }
        assert_eq!(listed, series, "the series that are listed");
        Ok(())
    }
}

/// A place for a sample. A few samples are spread over all places.
fn spread(sample: u64, places: u64) -> u64 {
    /// 2^64 divided by the golden ratio.
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    let place = (u128::from(sample.wrapping_mul(STEP)) * u128::from(places)) >> 64;
    place as u64
}

fn selection(run_id: String, names: impl IntoIterator<Item = String>) -> RunSelection {
    let keys = names.into_iter().map(|name| SeriesKey { name, context: CONTEXT.to_owned() });
    RunSelection { run_id, keys: keys.collect(), ..RunSelection::default() }
}

fn charts(runs: Vec<RunSelection>) -> BucketsRequest {
    BucketsRequest { runs, pixels: PIXELS, ..BucketsRequest::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_spread_over_all_places() {
        let mut tenths = [0; 10];
        for sample in 0..100 {
            tenths[spread(sample, 10) as usize] += 1;
        }
        assert!(tenths.iter().all(|count| (8..=12).contains(count)), "{tenths:?}");
        assert_eq!(spread(7, 1), 0);
    }

    #[test]
    fn the_slowest_view_has_the_highest_percentile() {
        let of = |view, milliseconds| ViewTimes {
            view,
            times: vec![Duration::from_millis(milliseconds)],
            refusal: None,
        };
        let refused = ViewTimes { refusal: Some("too many".to_owned()), ..of(View::GroupsOfRuns, 9) };
        let times = Times(vec![of(View::NewestRuns, 3), refused, of(View::LongSeries, 20)]);
        assert_eq!(times.slowest_page().unwrap().view, "groups of all runs");
        assert_eq!(times.slowest_chart().unwrap().p99, 20.0);
        assert_eq!(times.refusal().unwrap(), "\"groups of all runs\" was refused: too many");
        assert!(Times::of(View::ALL.into_iter()).slowest_chart().is_none());
    }
}
