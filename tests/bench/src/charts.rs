//! A page of charts: a very large number of series in one call, each at the width of its chart.

use std::{ops::Range, time::Instant};

use matyan_proto::series::v1::{BucketsRequest, RunSelection, series_service_client::SeriesServiceClient};
use matyan_tests::{Server, channel};
use tonic::transport::Channel;

use crate::{
    project::{self, Content, SERIES, run_id},
    table::{Budget, Table, Unit},
};

const WORK: &str = "500 series of 10,000 points each at 500 px";
const PIXELS: u32 = 500;

pub(crate) type Client = SeriesServiceClient<Channel>;

pub(crate) async fn rows(table: &mut Table) {
    if !table.wants(WORK) {
        return;
    }
    let content = Content::of_charts();
    let server = Server::up_on(&project::cached(content).await).await;
    let mut client = connect(&server).await;
    let request = request(0..content.runs);
    table
        .row(WORK, Budget::AtMost(30.0), Unit::Milliseconds, async || {
            let start = Instant::now();
            read(&mut client, &request).await;
            start.elapsed().as_secs_f64() * 1e3
        })
        .await;
}

pub(crate) async fn connect(server: &Server) -> Client {
    let channel = channel(&server.query).await;
    SeriesServiceClient::new(channel).max_decoding_message_size(usize::MAX)
}

/// Charts of all series of some runs of the project.
pub(crate) fn request(runs: Range<u64>) -> BucketsRequest {
    let selection = |index| RunSelection {
        run_id: run_id(index),
        numbers: (0..SERIES).collect(),
        ..RunSelection::default()
    };
    BucketsRequest { runs: runs.map(selection).collect(), pixels: PIXELS, ..BucketsRequest::default() }
}

/// Reads charts. Returns their number.
pub(crate) async fn read(client: &mut Client, request: &BucketsRequest) -> u64 {
    let mut pieces = client.buckets(request.clone()).await.expect("the stream starts").into_inner();
    let mut series = 0;
    while let Some(piece) = pieces.message().await.expect("the stream continues") {
        let is_drawn = |width: usize| (PIXELS as usize / 5..=PIXELS as usize).contains(&width);
        assert!(piece.series.iter().all(|series| is_drawn(series.index.len())), "a chart is too narrow");
        series += piece.series.len() as u64;
    }
    assert_eq!(series, request.runs.len() as u64 * u64::from(SERIES), "every series is drawn");
    series
}
