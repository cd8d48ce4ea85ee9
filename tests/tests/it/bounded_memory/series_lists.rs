//! A run with many series: calls that read their list at the same time, and lists that no client reads.

use matyan_proto::{
    common::v1::SeriesType,
    runs::v1::{BatchGetRequest, GetRequest, RunParts, run_service_client::RunServiceClient},
    series::v1::{ListRequest, series_service_client::SeriesServiceClient},
};
use matyan_tests::{Server, channel, eventually};
use tokio::task::JoinSet;
use tonic::{Status, transport::Channel};

use super::{
    NAME_BYTES, NAMES, UNREAD_BOUND, megabytes, merged_params::others_are_served, name_series, naming_frames,
};

/// Frames that name series. The list of the series has 16 MB.
const FRAMES: usize = 16;

/// Upper bound of a message.
const MESSAGE_BYTES: usize = 16 << 20;

/// Number of simultaneous calls that read the list, and of simultaneous calls whose clients do not read their answers. A
/// list for each call would take 1.6 GB in all.
const CALLS: usize = 100;

/// Bytes of unread lists above which the server has as many in memory as it permits.
const LISTS_BYTES: u64 = 200 << 20;

/// The series of the run; without a limit, all that fit in a message.
fn series(series_limit: u32) -> RunParts {
    RunParts { series_types: vec![SeriesType::Metric.into()], series_limit, ..RunParts::default() }
}

fn get(parts: RunParts) -> GetRequest {
    GetRequest { run_id: "wide".into(), parts: Some(parts) }
}

/// Reads the run over a stream that contains all series, and returns their number.
async fn read_all(mut runs: RunServiceClient<Channel>) -> Result<usize, Status> {
    let request = BatchGetRequest { run_ids: vec!["wide".into()], parts: Some(series(0)) };
    let mut messages = runs.batch_get(request).await?.into_inner();
    let mut count = 0;
    while let Some(message) = messages.message().await? {
        count += message.runs.iter().map(|run| run.series.len()).sum::<usize>();
    }
    Ok(count)
}

async fn runs_of(server: &Server) -> RunServiceClient<Channel> {
    RunServiceClient::new(channel(&server.query).await).max_decoding_message_size(MESSAGE_BYTES)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_45_memory_is_bounded_with_lists_of_series_that_nobody_reads() {
    let mut server = Server::up().await;
    drop(name_series(server.ingest.clone(), "wide".into(), naming_frames(FRAMES)).await);
    let runs = runs_of(&server).await;
    eventually("all series are readable", async || {
        let answer = runs.clone().get(get(series(1))).await.map_err(|status| status.to_string())?;
        match answer.into_inner().run.map(|run| run.series_count) {
            Some(count) if count as usize == FRAMES * NAMES => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    // The memory that the creation of the series has taken is not measured.
    drop(runs);
    assert!(server.terminate().await.success(), "{}", server.log());
    server.start().await;
    let runs = runs_of(&server).await;
    let before = server.memory("VmHWM");
    let mut reading = JoinSet::new();
    let mut reading_all = JoinSet::new();
    for _ in 0..CALLS / 2 {
        reading_all.spawn(read_all(runs.clone()));
        let mut runs = runs.clone();
        reading.spawn(async move { runs.get(get(series(0))).await.map(drop) });
    }
    for answer in reading.join_all().await {
        answer.expect("the run is read when it is the call's turn");
    }
    for count in reading_all.join_all().await {
        assert_eq!(count.expect("the run is read when it is the call's turn"), FRAMES * NAMES);
    }
    let read = server.memory("VmHWM");
    let lists = SeriesServiceClient::new(channel(&server.query).await);
    let mut listing = JoinSet::new();
    for _ in 0..CALLS {
        let mut lists = lists.clone();
        let request = ListRequest { run_id: "wide".into(), ..ListRequest::default() };
        listing.spawn(async move { lists.list(request).await });
    }
    // As many lists as there is memory for have begun.
    let bytes = (FRAMES * NAMES * NAME_BYTES) as u64;
    let mut unread = Vec::new();
    while unread.len() as u64 * bytes < LISTS_BYTES {
        let answer = listing.join_next().await.expect("calls wait").expect("the call does not panic");
        unread.push(answer.expect("there is memory for the list").into_inner());
    }
    others_are_served(&server).await;
    let largest = server.memory("VmHWM");
    println!(
        "before {}; after {CALLS} calls at the same time for a list of {}: {}; with {} lists that nobody reads, and {} that wait: {}",
        megabytes(before),
        megabytes(bytes),
        megabytes(read),
        unread.len(),
        listing.len(),
        megabytes(largest),
    );
    assert!(largest <= UNREAD_BOUND, "{} exceeds {}", megabytes(largest), megabytes(UNREAD_BOUND));
}
