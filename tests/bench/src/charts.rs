//! A page of charts: a very large number of series in one call, each at the width of its chart.

use std::time::Instant;

use matyan_proto::series::v1::{BucketsRequest, RunSelection, series_service_client::SeriesServiceClient};
use matyan_tests::Server;
use tonic::transport::Channel;

use crate::{
    project::{self, Content, SERIES, run_id},
    table::{Budget, Table, Unit},
};

const WORK: &str = "500 series of 10,000 points each at 500 px";
const PIXELS: u32 = 500;

pub(crate) async fn rows(table: &mut Table) {
    if !table.wants(WORK) {
        return;
    }
    let content = Content::of_charts();
    let server = Server::up_on(&project::cached(content).await).await;
    let endpoint = Channel::from_shared(server.query.clone()).expect("the base is a URL");
    let channel = endpoint.connect().await.expect("the server listens");
    let mut client = SeriesServiceClient::new(channel).max_decoding_message_size(usize::MAX);
    let selection = |index| RunSelection {
        run_id: run_id(index),
        numbers: (0..SERIES).collect(),
        ..RunSelection::default()
    };
    let request = BucketsRequest {
        runs: (0..content.runs).map(selection).collect(),
        pixels: PIXELS,
        ..Default::default()
    };
    table
        .row(WORK, Budget::AtMost(30.0), Unit::Milliseconds, async || {
            let start = Instant::now();
            let mut pieces = client.buckets(request.clone()).await.expect("the stream starts").into_inner();
            let mut series = 0;
            while let Some(piece) = pieces.message().await.expect("the stream continues") {
                let is_drawn = |width: usize| (PIXELS as usize / 5..=PIXELS as usize).contains(&width);
                assert!(
                    piece.series.iter().all(|series| is_drawn(series.index.len())),
                    "a chart is too narrow"
                );
                series += piece.series.len() as u64;
            }
            assert_eq!(series, content.runs * u64::from(SERIES), "every series is drawn");
            start.elapsed().as_secs_f64() * 1e3
        })
        .await;
}
