//! Tables of runs under several requests: what they wait for, what an abandoned one leaves, and the
//! memory that all of them take.

use std::time::Duration;

use matyan_model::keys;
use matyan_proto::{
    runs::v1::ParamPath,
    search::v1::{RunsRequest, Sort, SortField, sort::By},
};
use matyan_store::Store;
use tonic::Code;

use crate::search::{
    harness::{self, Harness, P, map, spec},
    observed_store::{CHANGES, many_changes, observed},
};

fn sorted_by(by: By) -> RunsRequest {
    let sort = vec![Sort { by: Some(by), ..Sort::default() }];
    RunsRequest { sort, ids_only: true, ..harness::runs_request("") }
}

fn by_name() -> RunsRequest {
    sorted_by(By::Field(SortField::Name.into()))
}

async fn ids(harness: &Harness, request: RunsRequest) -> Vec<String> {
    let found = harness.runs(request).await.unwrap();
    found.messages.into_iter().flat_map(|message| message.run_ids).collect()
}

/// Another request reads the table, and does not finish.
#[tokio::test]
async fn plain_pages_do_not_wait_for_a_table() {
    let (harness, observer) = observed().await;
    for at in 0..50 {
        harness.create(&spec(&format!("r{at:02}"), 10 + at)).await;
    }
    observer.close(keys::numbers(P));
    let mut sorted = Box::pin(ids(&harness, by_name()));
    tokio::select! {
        _ = &mut sorted => panic!("the list needs the table"),
        () = observer.waits() => {}
    }
    for limit in [10, 60] {
        let page = harness.runs(RunsRequest { limit, ..harness::runs_request("") });
        let page = tokio::time::timeout(Duration::from_secs(60), page).await.expect("the page does not wait");
        assert_eq!(page.unwrap().runs.len(), limit.min(50) as usize);
    }
    observer.open();
    assert_eq!(sorted.await.len(), 50);
    let page = harness.runs(RunsRequest { limit: 10, ..harness::runs_request("") }).await.unwrap();
    assert_eq!(page.match_count, Some(50), "a table that is up to date knows the total");
}

#[tokio::test]
async fn a_request_continues_where_an_abandoned_one_has_stopped() {
    const RUNS: i64 = 1_000;
    let (harness, observer) = observed().await;
    let mut runs = Vec::new();
    for at in 0..RUNS {
        let run = spec(&format!("r{at:04}"), 10 + at);
        runs.push((harness.create(&run).await, run));
    }
    assert_eq!(ids(&harness, by_name()).await.len(), RUNS as usize);
    for (number, run) in &mut runs {
        run.name = format!("changed {}", RUNS - run.created_us);
        harness.change(*number, run).await;
    }
    let before = observer.documents();
    let abandoned = harness.search().runs(by_name()).await.unwrap();
    while observer.documents() - before < 500 {
        tokio::task::yield_now().await;
    }
    drop(abandoned);
    runs.sort_by(|(_, a), (_, b)| a.name.cmp(&b.name));
    let expected: Vec<&str> = runs.iter().map(|(_, run)| run.id.as_str()).collect();
    assert_eq!(ids(&harness, by_name()).await, expected);
    let read = observer.documents() - before;
    assert!(read < RUNS as u64 + 200, "{read} documents for {RUNS} changed runs");
}

/// A list is as of the time when it was asked for.
#[tokio::test]
async fn a_list_ends_while_runs_change_faster_than_it_reads() {
    let (harness, observer) = observed().await;
    for at in 0..3 {
        harness.create(&spec(&format!("r{at}"), 10 + at)).await;
    }
    assert_eq!(ids(&harness, by_name()).await.len(), 3);
    harness.store.commit(many_changes()).await.unwrap();
    // The other list needs a part that is not there.
    for list in [by_name(), sorted_by(By::Field(SortField::Description.into()))] {
        observer.change_after(40);
        let before = observer.changes();
        assert_eq!(ids(&harness, list).await, ["r0", "r1", "r2"]);
        let read = observer.changes() - before;
        assert!(read < 20 * CHANGES, "{read}");
    }
}

#[tokio::test]
async fn plain_pages_do_not_wait_until_a_table_is_up_to_date() {
    let (harness, observer) = observed().await;
    for at in 0..50 {
        harness.create(&spec(&format!("r{at:02}"), 10 + at)).await;
    }
    assert_eq!(ids(&harness, by_name()).await.len(), 50);
    let page = RunsRequest { limit: 10, ..harness::runs_request("") };
    assert_eq!(harness.runs(page.clone()).await.unwrap().match_count, Some(50));
    harness.store.commit(many_changes()).await.unwrap();
    let before = observer.changes();
    assert_eq!(harness.runs(page.clone()).await.unwrap().runs.len(), 10);
    let read = observer.changes() - before;
    assert!(read < 500, "{read}");
    assert_eq!(ids(&harness, by_name()).await.len(), 50);
    assert_eq!(harness.runs(page).await.unwrap().match_count, Some(50));
}

fn used(harness: &Harness) -> usize {
    let families = harness.registry.gather();
    let family = families.iter().find(|family| family.name() == "matyan_run_table_bytes").unwrap();
    family.get_metric()[0].get_gauge().get_value() as usize
}

fn param(at: usize) -> By {
    By::Param(ParamPath { segments: vec![format!("p{at}")] })
}

#[tokio::test(flavor = "multi_thread")]
async fn all_tables_stay_within_their_memory() {
    const LIMIT: usize = 700_000;
    let harness = Harness::with_table_bytes(LIMIT).await;
    for at in 0..800 {
        let mut run = spec(&format!("r{at:03}"), 10 + at);
        let params: Vec<String> = (0..8)
            .map(|param| format!(r#""p{param}":"{:03}{}""#, (at * (2 * param + 1)) % 800, "x".repeat(100)))
            .collect();
        run.params = map(&format!("{{{}}}", params.join(",")));
        harness.create(&run).await;
    }
    let mut most = 0;
    for round in 0..3 {
        for at in 0..8 {
            let mut expected: Vec<usize> = (0..800).collect();
            expected.sort_by_key(|run| ((run * (2 * at + 1)) % 800, *run));
            let expected: Vec<String> = expected.iter().map(|run| format!("r{run:03}")).collect();
            assert_eq!(ids(&harness, sorted_by(param(at))).await, expected, "{round} {at}");
            most = most.max(used(&harness));
            assert!(used(&harness) <= LIMIT, "{} bytes", used(&harness));
        }
    }
    // Eight columns do not fit, but more than two do.
    assert!(most > LIMIT / 2, "{most}");
    let sort = (0..8).map(|at| Sort { by: Some(param(at)), ..Sort::default() }).collect();
    let refused = harness.runs(RunsRequest { sort, ..harness::runs_request("") }).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    assert!(used(&harness) <= LIMIT);
    assert_eq!(harness.runs(harness::runs_request("")).await.unwrap().runs.len(), 800);
    assert_eq!(ids(&harness, sorted_by(param(3))).await.len(), 800, "a smaller request still has room");
}

#[tokio::test]
async fn a_roster_takes_sixty_bytes_for_each_run() {
    const RUNS: usize = 1_500;
    let harness = Harness::with_table_bytes(60 * RUNS).await;
    for at in 0..RUNS {
        harness.create(&spec(&format!("{at:032x}"), 10 + at as i64)).await;
    }
    let by_id = || sorted_by(By::Field(SortField::RunId.into()));
    assert_eq!(ids(&harness, by_id()).await.len(), RUNS);
    let before = used(&harness);
    harness.create(&spec("new", 10)).await;
    assert_eq!(ids(&harness, by_id()).await.len(), RUNS + 1);
    assert!(used(&harness) < before + RUNS, "{} bytes, before {before}", used(&harness));
}

#[tokio::test]
async fn a_new_run_takes_the_memory_of_one() {
    let harness = Harness::new().await;
    for at in 0..1_000 {
        harness.create(&spec(&format!("r{at:03}"), 10 + at)).await;
    }
    assert_eq!(ids(&harness, by_name()).await.len(), 1_000);
    let before = used(&harness);
    harness.create(&spec("new", 10)).await;
    assert_eq!(ids(&harness, by_name()).await.len(), 1_001);
    assert!(used(&harness) < before + 1_000, "{} bytes, before {before}", used(&harness));
}
