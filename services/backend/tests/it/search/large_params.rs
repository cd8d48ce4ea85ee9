//! Runs whose params are stored in pieces: few of them are in memory at a time, however many there are.

use matyan_model::{ids::RunNumber, keys};
use matyan_proto::{
    project::v1::{ParamsRequest, project_service_client::ProjectServiceClient},
    runs::v1::{WatchRequest, run_service_client::RunServiceClient},
    search::v1::{RunsRequest, Sort, SortField, sort},
};

use crate::search::{
    harness::{P, RunSpec, map, runs_request, spec},
    observed_store::{LARGE_RUNS, observed},
};

/// Size of the params of a run.
const PARAMS: usize = 1 << 20;

/// Searches that may read large params at a time.
const READING: u64 = 4;

/// Maximum size of what is read at a time, with some more.
const MOST: u64 = 6 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn few_large_params_are_read_at_a_time() {
    let (harness, observer) = observed().await;
    for at in 0..LARGE_RUNS {
        let params = map(&format!(r#"{{"at":{at},"text":["{}"]}}"#, "x".repeat(PARAMS)));
        let number = harness.create(&RunSpec { params, ..spec(&format!("r{at}"), at as i64) }).await;
        assert!(number.0 <= LARGE_RUNS);
    }
    let check = |of: &str| {
        let bytes = observer.take_params_bytes();
        assert!(bytes >= PARAMS as u64 && bytes < MOST, "{bytes} bytes for {of}");
    };
    let text = "run.at % 2 == 0 and len(run.text) == 1";
    let by_time = Sort { by: Some(sort::By::Field(SortField::Created.into())), ..Sort::default() };
    for sort in [Vec::new(), vec![by_time]] {
        observer.take_params_bytes();
        let list = RunsRequest { sort, ids_only: true, ..runs_request(text) };
        let mut messages = harness.search().runs(list).await.unwrap().into_inner();
        let mut found = 0;
        while let Some(message) = messages.message().await.unwrap() {
            found += message.run_ids.len() as u64;
        }
        assert_eq!(found, LARGE_RUNS / 2);
        check("a search");
    }

    let mut project = ProjectServiceClient::new(harness.backend.clone().into_routes());
    let mut messages = project.params(ParamsRequest::default()).await.unwrap().into_inner();
    let mut bytes = 0;
    while let Some(message) = messages.message().await.unwrap() {
        bytes += message.params.len();
    }
    assert!(bytes > PARAMS);
    check("the merge");

    let mut runs = RunServiceClient::new(harness.backend.clone().into_routes());
    let request = WatchRequest { query: text.to_owned(), snapshot: true, ..WatchRequest::default() };
    let mut messages = runs.watch(request).await.unwrap().into_inner();
    let mut found = 0;
    while let Some(message) = messages.message().await.unwrap() {
        found += message.changes.len() as u64;
        if message.snapshot_done {
            break;
        }
    }
    assert_eq!(found, LARGE_RUNS / 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_45_searches_that_wait_for_room_for_large_params_find_every_run() {
    let (harness, observer) = observed().await;
    for at in 0..LARGE_RUNS {
        let params = map(&format!(r#"{{"at":{at},"text":"{}"}}"#, "x".repeat(20_000)));
        harness.create(&RunSpec { params, ..spec(&format!("r{at}"), at as i64) }).await;
    }
    let text = "run.at % 2 == 0";
    let search = |request: RunsRequest| {
        let mut service = harness.search();
        tokio::spawn(async move {
            let mut messages = service.runs(request).await.unwrap().into_inner();
            let mut ids = Vec::new();
            while let Some(message) = messages.message().await.unwrap() {
                ids.extend(message.run_ids);
            }
            ids
        })
    };
    let list = || RunsRequest { ids_only: true, ..runs_request(text) };
    let by_time = Sort { by: Some(sort::By::Field(SortField::Created.into())), ..Sort::default() };
    observer.close(keys::params(P, RunNumber(LARGE_RUNS)));
    let reading: Vec<_> = (0..READING).map(|_| search(list())).collect();
    observer.only_these_wait(READING).await;
    let before = observer.documents();
    let waiting: Vec<_> = [
        list(),
        RunsRequest { after_run_id: "r12".into(), ..list() },
        RunsRequest { sort: vec![by_time], limit: 5, ..list() },
    ]
    .map(search)
    .into();
    // They have read documents, and then hold no snapshot: they wait for room.
    while observer.documents() < before + 2 * LARGE_RUNS {
        tokio::task::yield_now().await;
    }
    observer.only_these_wait(READING).await;
    // The params of this run are not read.
    let small = harness.runs(runs_request("run.hash == 'r3'")).await.unwrap();
    assert_eq!(small.ids(), ["r3"]);
    observer.open();
    let even = |from: u64| (0..=from).rev().filter(|at| at % 2 == 0).map(|at| format!("r{at}"));
    for found in reading {
        assert!(even(LARGE_RUNS - 1).eq(found.await.unwrap()));
    }
    let mut found = Vec::new();
    for waiting in waiting {
        found.push(waiting.await.unwrap());
    }
    assert!(even(LARGE_RUNS - 1).eq(found[0].iter().cloned()), "{:?}", found[0]);
    assert!(even(11).eq(found[1].iter().cloned()), "{:?}", found[1]);
    assert_eq!(found[2], ["r0", "r2", "r4", "r6", "r8"]);
    let read = observer.documents() - before;
    assert!(read < 12 * LARGE_RUNS, "{read} documents were read");
}
