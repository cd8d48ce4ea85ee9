//! Pages: each begins where the previous one ended, regardless of concurrent changes.

use matyan_proto::{
    experiments::{self, v1::experiment_service_client::ExperimentServiceClient},
    runs::v1::RunParts,
    search::v1::{RunsRequest, Sort, SortField, sort::By},
    series::v1::ListRequest,
    tags::{self, v1::tag_service_client::TagServiceClient},
};
use tonic::Code;

use crate::search::harness::{self, Harness, RunSpec, spec};

/// More runs than are read at a time, so that later pages begin in the middle.
const RUNS: i64 = 700;

async fn project() -> Harness {
    let harness = Harness::new().await;
    for at in 0..RUNS {
        let mut run = spec(&format!("r{at:04}"), 1_000_000 + at);
        run.archived = at % 7 == 0;
        harness.create(&run).await;
    }
    harness
}

fn expected() -> Vec<String> {
    (0..RUNS).rev().filter(|at| at % 7 != 0).map(|at| format!("r{at:04}")).collect()
}

fn page(sort: &[Sort], limit: u32, after: &str) -> RunsRequest {
    RunsRequest { sort: sort.to_vec(), limit, after_run_id: after.to_owned(), ..harness::runs_request("") }
}

fn by_name() -> Vec<Sort> {
    vec![Sort { by: Some(By::Field(SortField::Name.into())), descending: true, ..Sort::default() }]
}

#[tokio::test]
async fn pages_add_up_to_the_whole_list() {
    let harness = project().await;
    for (sort, limit) in [(vec![], 45), (vec![], 1_000), (by_name(), 45), (by_name(), 299)] {
        let mut all: Vec<String> = Vec::new();
        let mut made = 0;
        loop {
            let after = all.last().cloned().unwrap_or_default();
            let found = harness.runs(page(&sort, limit, &after)).await.unwrap();
            assert!(found.runs.len() <= limit as usize);
            let place = all.len() as u64 + 1 + made;
            let reported = found.places.iter().zip(place..);
            assert!(
                reported.clone().all(|(reported, place)| reported.is_none_or(|it| it == place)),
                "{:?}",
                found.places
            );
            assert!(sort.is_empty() || found.places.first().is_none_or(|first| *first == Some(place)));
            all.extend(found.ids().iter().map(ToString::to_string));
            if found.runs.len() < limit as usize {
                break;
            }
            // New runs belong before all pages, and shift none of them.
            made += 1;
            let number = all.len() as i64;
            harness.create(&spec(&format!("z-{}-{limit}-{number}", sort.len()), 9_000_000 + number)).await;
        }
        let all: Vec<String> = all.into_iter().filter(|id| !id.starts_with('z')).collect();
        assert_eq!(all, expected(), "{} {limit}", sort.len());
    }
}

/// Creates more runs with the same time than are read at a time. The whole list is sorted by
/// other code than its pages.
#[tokio::test]
async fn pages_by_date_add_up_to_the_whole_list() {
    let harness = Harness::new().await;
    for at in 0..RUNS {
        let mut run = spec(&format!("r{:04}", at * 13 % RUNS), 1_000_000 + at / 300);
        run.archived = at % 7 == 0;
        harness.create(&run).await;
    }
    for descending in [true, false] {
        let sort = [Sort { by: Some(By::Field(SortField::Created.into())), descending, ..Sort::default() }];
        // Read elsewhere, because a server that has a table uses it for pages as well.
        let whole = harness.second().await.runs(page(&sort, 0, "")).await.unwrap();
        assert_eq!((whole.runs.len(), whole.match_count), (600, Some(600)));
        let mut all: Vec<String> = Vec::new();
        let mut counted: Option<u64> = None;
        loop {
            let after = all.last().cloned().unwrap_or_default();
            let found = harness.runs(page(&sort, 45, &after)).await.unwrap();
            let place = all.len() as u64 + 1;
            assert!(
                found
                    .places
                    .iter()
                    .zip(place..)
                    .all(|(reported, place)| reported.is_none_or(|it| it == place))
            );
            counted = counted.max(found.match_count);
            all.extend(found.ids().iter().map(ToString::to_string));
            if found.runs.len() < 45 {
                break;
            }
        }
        assert_eq!(all, whole.ids(), "{descending}");
        assert_eq!(counted, None, "the last page does not know the number of preceding runs");
        let first = harness.runs(page(&sort, 1_000, "")).await.unwrap();
        assert_eq!((first.ids(), first.match_count), (whole.ids(), Some(600)));
        for after in ["missing", "r0000"] {
            assert!(harness.runs(page(&sort, 10, after)).await.unwrap().runs.is_empty(), "{after}");
        }
    }
}

#[tokio::test]
async fn ids_come_in_the_order_of_the_runs() {
    let harness = project().await;
    for sort in [vec![], by_name()] {
        for limit in [0, 45] {
            let runs = harness.runs(page(&sort, limit, "")).await.unwrap();
            let request = RunsRequest { ids_only: true, ..page(&sort, limit, "") };
            let mut messages = harness.search().runs(request).await.unwrap().into_inner();
            let mut ids = Vec::new();
            let mut done = false;
            while let Some(message) = messages.message().await.unwrap() {
                assert!(message.runs.is_empty());
                assert!(message.run_ids.is_empty() || message.first_place == Some(ids.len() as u64 + 1));
                ids.extend(message.run_ids);
                done = message.done;
            }
            assert!(done);
            assert_eq!(ids, runs.ids(), "{limit} {sort:?}");
        }
    }
}

#[tokio::test]
async fn a_page_continues_after_other_runs_are_deleted() {
    let harness = project().await;
    let first = harness.runs(page(&[], 100, "")).await.unwrap();
    let after = first.ids()[99].to_owned();
    for id in [first.ids()[98], "r0500"] {
        harness.delete(id).await;
    }
    let next = harness.runs(page(&[], 100, &after)).await.unwrap();
    let expected: Vec<String> =
        expected().into_iter().skip(100).filter(|id| id != "r0500").take(100).collect();
    assert_eq!(next.ids(), expected);
    assert_eq!(first.match_count, None, "a page that ends early does not know the total");
}

/// Ids that no page ends with: unknown, deleted, not matching, malformed.
#[tokio::test]
async fn a_page_after_a_run_that_does_not_match_is_empty() {
    let harness = project().await;
    harness.delete("r0300").await;
    let long = "x".repeat(5_000);
    for after in ["missing", "r0300", "r0007", "r0693", "\u{0}", "../r0001", &long] {
        for sort in [vec![], by_name()] {
            let found = harness.runs(page(&sort, 10, after)).await.unwrap();
            assert_eq!(found.ids(), Vec::<&str>::new(), "{after:?}");
        }
    }
    let found = harness.runs(page(&[], 10, "r0001")).await.unwrap();
    assert_eq!(found.ids(), Vec::<&str>::new(), "there is no page after the last run");
}

#[tokio::test]
async fn small_projects_report_ranks_and_totals_on_every_page() {
    let harness = Harness::new().await;
    for at in 0..10 {
        harness.create(&spec(&format!("r{at}"), at)).await;
    }
    let found = harness.runs(page(&[], 3, "r7")).await.unwrap();
    assert_eq!(found.ids(), ["r6", "r5", "r4"]);
    assert_eq!((&*found.places, found.match_count), (&[4, 5, 6].map(Some)[..], Some(10)));
    let nowhere = harness.runs(page(&[], 3, "missing")).await.unwrap();
    assert_eq!((nowhere.runs.len(), nowhere.match_count), (0, Some(10)));
}

#[tokio::test]
async fn invalid_requests_are_rejected() {
    let harness = Harness::new().await;
    let refused = async |request: RunsRequest, code: Code, reason: &str| {
        let status = harness.search().runs(request).await.expect_err("the request is invalid");
        assert_eq!(status.code(), code, "{status:?}");
        assert!(status.message().contains(reason), "{status:?}");
    };
    refused(harness::runs_request("run."), Code::InvalidArgument, "line 1").await;
    refused(harness::runs_request("run.__class__"), Code::InvalidArgument, "__class__").await;
    refused(page(&[Sort::default()], 0, ""), Code::InvalidArgument, "sort").await;
    let parts = RunParts { series_names: vec![String::new(); 1_001], ..RunParts::default() };
    refused(
        RunsRequest { parts: Some(parts), ..harness::runs_request("") },
        Code::ResourceExhausted,
        "series_names",
    )
    .await;
    let list = ListRequest { names: vec![String::new(); 1_001], ..ListRequest::default() };
    let status = harness.series().list(list).await.expect_err("the names are too many");
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert!(status.message().contains("names"), "{status:?}");
}

/// More runs than are read at a time share one experiment and one tag; their lists can continue
/// after any of them.
#[tokio::test]
async fn runs_of_an_experiment_and_of_a_tag_come_in_pieces() {
    let harness = Harness::new().await;
    for at in 0..RUNS {
        let run = RunSpec {
            experiment: Some("e".into()),
            tags: vec!["t".into()],
            ..spec(&format!("r{at:04}"), at)
        };
        harness.create(&run).await;
    }
    let expected: Vec<String> = (0..RUNS).rev().map(|at| format!("r{at:04}")).collect();
    let mut experiments = ExperimentServiceClient::new(harness.backend.clone().into_routes());
    let mut tags = TagServiceClient::new(harness.backend.clone().into_routes());
    for (limit, after, expected) in
        [(0, "", &expected[..]), (400, "r0650", &expected[50..450]), (0, "r0003", &expected[697..])]
    {
        let id = "experiment-e".to_owned();
        let after_run_id = after.to_owned();
        let request = experiments::v1::ListRunsRequest {
            id,
            limit,
            after_run_id: after_run_id.clone(),
            ..Default::default()
        };
        let mut messages = experiments.list_runs(request).await.unwrap().into_inner();
        let mut listed = Vec::new();
        while let Some(message) = messages.message().await.unwrap() {
            listed.extend(message.runs.into_iter().map(|run| run.run_id));
        }
        assert_eq!(listed, expected, "{limit} {after}");
        let request =
            tags::v1::ListRunsRequest { id: "tag-t".into(), limit, after_run_id, ..Default::default() };
        let mut messages = tags.list_runs(request).await.unwrap().into_inner();
        let mut listed = Vec::new();
        while let Some(message) = messages.message().await.unwrap() {
            listed.extend(message.runs.into_iter().map(|run| run.run_id));
        }
        assert_eq!(listed, expected, "{limit} {after}");
    }
}

/// The last run of each page is deleted before the next page is read.
#[tokio::test]
async fn lists_of_a_tag_and_an_experiment_continue_by_cursor() {
    let harness = Harness::new().await;
    for at in 0..RUNS {
        let run = RunSpec {
            experiment: Some("e".into()),
            tags: vec!["t".into()],
            ..spec(&format!("r{at:04}"), at)
        };
        harness.create(&run).await;
    }
    let mut experiments = ExperimentServiceClient::new(harness.backend.clone().into_routes());
    let mut tags = TagServiceClient::new(harness.backend.clone().into_routes());
    let mut all: Vec<String> = (0..RUNS).rev().map(|at| format!("r{at:04}")).collect();
    for is_tag in [true, false] {
        let mut listed: Vec<String> = Vec::new();
        let mut cursor = String::new();
        let mut deleted = Vec::new();
        loop {
            let before = listed.len();
            let mut next = String::new();
            if is_tag {
                let request = tags::v1::ListRunsRequest {
                    id: "tag-t".into(),
                    limit: 150,
                    cursor,
                    ..Default::default()
                };
                let mut messages = tags.list_runs(request).await.unwrap().into_inner();
                while let Some(message) = messages.message().await.unwrap() {
                    listed.extend(message.runs.into_iter().map(|run| run.run_id));
                    next = message.next_cursor;
                }
            } else {
                let id = "experiment-e".to_owned();
                let request =
                    experiments::v1::ListRunsRequest { id, limit: 150, cursor, ..Default::default() };
                let mut messages = experiments.list_runs(request).await.unwrap().into_inner();
                while let Some(message) = messages.message().await.unwrap() {
                    listed.extend(message.runs.into_iter().map(|run| run.run_id));
                    next = message.next_cursor;
                }
            }
            assert!(listed.len() - before <= 150);
            if next.is_empty() {
                break;
            }
            cursor = next;
            deleted.extend(listed.last().cloned());
            harness.delete(listed.last().unwrap()).await;
        }
        assert_eq!(listed, all, "{is_tag}");
        all.retain(|id| !deleted.contains(id));
    }
    let request = tags::v1::ListRunsRequest {
        id: "tag-t".into(),
        after_run_id: "r0001".into(),
        cursor: "x".into(),
        ..Default::default()
    };
    assert_eq!(tags.list_runs(request).await.unwrap_err().code(), Code::InvalidArgument);
}
