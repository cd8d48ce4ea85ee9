//! Figures of a client that does nothing special.

use std::time::Instant;

use matyan_proto::search::v1::{Query, RunsRequest};
use matyan_tests::{
    Reader, Server, eventually,
    json::{Ack, JsonWriter, metric},
};
use tonic::Status;

use crate::{
    latency,
    search::{self, Client},
};

/// Number of points that are written one after another, each once the previous one is readable.
const POINTS: u64 = 20;
const SEARCHES: usize = 10;

/// Rows of a page, which the search finds.
const PAGE: u32 = 50;

/// Times in milliseconds.
pub(super) struct Figures {
    /// The 99th percentile at 10,000 points per second.
    pub(super) acknowledgement: f64,
    /// From the sending of a point until it was readable: the median.
    pub(super) readable: f64,
    /// A page of runs with an indexed param: the median.
    pub(super) search: f64,
}

impl Figures {
    /// `run` is the run that gets the points.
    pub(super) async fn measure(server: &Server, run: &str, frames: usize) -> Self {
        Self {
            acknowledgement: latency::light_acks(server, frames).await,
            readable: until_readable(server, run).await,
            search: until_found(server).await,
        }
    }
}

async fn until_readable(server: &Server, run: &str) -> f64 {
    let reader = Reader::connect(&server.query).await;
    let mut writer = JsonWriter::connect(&server.ingest, run).await.expect("the server listens");
    // The project may have the run from an earlier measurement.
    let before = eventually("the points are counted", async || {
        reader.count(run).await.map_err(|status| status.to_string())
    })
    .await;
    let mut times = Vec::new();
    for more in 1..=POINTS {
        let start = Instant::now();
        assert_eq!(writer.send(&metric("loss", 0.5, None)).await, Ok(Ack::Ok));
        eventually("the point is readable", async || match reader.count(run).await {
            Ok(count) if count == before + more => Ok(()),
            other => Err(format!("{other:?} instead of {}", before + more)),
        })
        .await;
        times.push(milliseconds(start));
    }
    median(times)
}

async fn until_found(server: &Server) -> f64 {
    let mut client = search::connect(server).await;
    let mut times = Vec::new();
    for _ in 0..SEARCHES {
        let start = Instant::now();
        // A refused search is repeated, as people do; its time counts.
        eventually("a search is answered", async || {
            search_page(&mut client).await.map_err(|status| status.to_string())
        })
        .await;
        times.push(milliseconds(start));
    }
    median(times)
}

async fn search_page(client: &mut Client) -> Result<(), Status> {
    let query = Query { text: "run.hparams.shard == 7".to_owned(), ..Query::default() };
    let request = RunsRequest {
        query: Some(query),
        limit: PAGE,
        parts: Some(search::columns()),
        ..RunsRequest::default()
    };
    let mut messages = client.runs(request).await?.into_inner();
    let mut found = 0;
    while let Some(message) = messages.message().await? {
        found += message.runs.len();
    }
    assert_eq!(found, PAGE as usize, "the project has more runs with this value");
    Ok(())
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn milliseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}
