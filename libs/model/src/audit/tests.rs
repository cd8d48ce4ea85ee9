//! Pages, filters and the end of audit entries.

use matyan_store::Store as _;

use super::*;
use crate::testing::TestStore;

fn entry(time_us: i64, id: &str, project: Option<&str>, rpc: &str) -> AuditEntry {
    AuditEntry {
        position: AuditPosition { time_us, id: id.to_owned() },
        principal: "ana".to_owned(),
        credential: "0123456789abcdef".to_owned(),
        address: "10.0.0.1".to_owned(),
        project: project.map(str::to_owned),
        rpc: rpc.to_owned(),
        resource: format!("run-{time_us}"),
        code: i32::from(time_us % 2 == 0),
        request_id: "r".to_owned(),
    }
}

async fn put(store: &TestStore, entries: &[AuditEntry]) {
    let mut batch = Batch::default();
    for entry in entries {
        audit_put(&mut batch, entry);
    }
    store.commit(batch).await.unwrap();
}

async fn page(
    store: &TestStore,
    filter: &AuditFilter,
    before: Option<&AuditPosition>,
    limit: usize,
) -> AuditPage {
    audit_page(&*store.snapshot().await.unwrap(), filter, before, limit).await.unwrap()
}

/// The times of all entries, page by page.
async fn times(store: &TestStore, filter: &AuditFilter, limit: usize) -> Vec<i64> {
    let mut times = Vec::new();
    let mut last = None;
    loop {
        let page = page(store, filter, last.as_ref(), limit).await;
        assert!(page.entries.len() <= limit);
        times.extend(page.entries.iter().map(|entry| entry.position.time_us));
        last = page.last;
        if last.is_none() {
            return times;
        }
    }
}

#[tokio::test]
async fn entries_are_read_newest_first_and_once() {
    let store = TestStore::open().await;
    let entries: Vec<_> = (1..=7).map(|time| entry(time, "a", Some(""), "RunService/Delete")).collect();
    put(&store, &entries).await;
    // A second entry of the same time.
    put(&store, &[entry(4, "b", Some(""), "RunService/Delete")]).await;
    for limit in [1, 2, 3, 8, 100] {
        assert_eq!(times(&store, &AuditFilter::default(), limit).await, [7, 6, 5, 4, 4, 3, 2, 1], "{limit}");
    }
    let newest = page(&store, &AuditFilter::default(), None, 1).await;
    assert_eq!(newest.entries, entries[6..]);
    assert_eq!(newest.last, Some(entries[6].position.clone()));
}

#[tokio::test]
async fn rule_80_filters_leave_out_other_projects_and_calls() {
    let store = TestStore::open().await;
    put(
        &store,
        &[
            entry(1, "a", None, "sign-in"),
            entry(2, "a", Some(""), "RunService/Delete"),
            entry(3, "a", Some("speech"), "RunService/Delete"),
            entry(4, "a", Some("speech"), "AccessService/Grant"),
            entry(5, "a", Some("speech2"), "AccessService/Grant"),
        ],
    )
    .await;
    let of = |project: &str| AuditFilter { project: Some(project.to_owned()), ..AuditFilter::default() };
    let all = AuditFilter::default();
    let check = async |filter: &AuditFilter, expected: &[i64]| {
        assert_eq!(times(&store, filter, 10).await, expected, "{filter:?}");
        assert_eq!(times(&store, filter, 1).await, expected, "{filter:?}");
    };
    check(&of("speech"), &[4, 3]).await;
    check(&of(""), &[2]).await;
    check(&of("nobody"), &[]).await;
    check(&AuditFilter { rpc: "Grant".to_owned(), ..all.clone() }, &[5, 4]).await;
    check(&AuditFilter { principal: "an".to_owned(), ..all.clone() }, &[]).await;
    check(&AuditFilter { resource: "run-3".to_owned(), ..all.clone() }, &[3]).await;
    check(&AuditFilter { failed: true, ..all.clone() }, &[4, 2]).await;
    check(&AuditFilter { since_us: Some(2), until_us: Some(4), ..all.clone() }, &[3, 2]).await;
    check(&AuditFilter { since_us: Some(4), until_us: Some(2), ..all }, &[]).await;
}

#[tokio::test]
async fn rule_80_a_page_of_a_project_says_nothing_about_other_projects() {
    let store = TestStore::open().await;
    let mut entries = vec![entry(5, "own", Some("speech"), "RunService/Delete")];
    for (id, project) in [("a", None), ("b", Some("")), ("c", Some("vision")), ("d", Some("speech2"))] {
        entries.extend((0..10).map(|time| entry(time, id, project, "RunService/Delete")));
    }
    put(&store, &entries).await;
    let filter = AuditFilter { project: Some("speech".to_owned()), ..AuditFilter::default() };
    // A reader may ask for entries before any time and id, and with any filter.
    for time_us in 0..=10 {
        for id in ["", "b", "own", "z"] {
            let before = AuditPosition { time_us, id: id.to_owned() };
            for filter in [filter.clone(), AuditFilter { principal: "cy".to_owned(), ..filter.clone() }] {
                let found = page(&store, &filter, Some(&before), 1).await;
                let shown = found.entries.iter().map(|entry| &entry.position).chain(&found.last);
                for position in shown {
                    assert_eq!(position.id, "own", "{before:?} {filter:?}");
                }
            }
        }
    }
    assert_eq!(times(&store, &filter, 1).await, [5]);
}

#[tokio::test]
async fn a_page_of_rare_calls_reads_a_bounded_number_of_entries() {
    let store = TestStore::open().await;
    put(&store, &[entry(0, "a", Some("speech"), "AccessService/Grant")]).await;
    let others: Vec<_> =
        (1..=2 * MAX_READ as i64).map(|time| entry(time, "a", Some("speech"), "RunService/Delete")).collect();
    for some in others.chunks(500) {
        put(&store, some).await;
    }
    for project in [None, Some("speech".to_owned())] {
        let filter = AuditFilter { project, rpc: "Grant".to_owned(), ..AuditFilter::default() };
        let first = page(&store, &filter, None, 10).await;
        assert_eq!(first.entries, []);
        assert_eq!(first.last.map(|last| last.time_us), Some(MAX_READ as i64 + 1));
        assert_eq!(times(&store, &filter, 10).await, [0]);
    }
}

#[tokio::test]
async fn rule_80_entries_are_cleared_at_their_end_and_not_before() {
    let store = TestStore::open().await;
    put(&store, &(1..=5).map(|time| entry(time, "a", None, "sign-in")).collect::<Vec<_>>()).await;
    put(&store, &(1..=5).map(|time| entry(time, "b", Some("speech"), "Grant")).collect::<Vec<_>>()).await;
    let mut batch = Batch::default();
    assert!(audit_trim(&*store.snapshot().await.unwrap(), 4, &mut batch).await.unwrap());
    store.commit(batch).await.unwrap();
    assert_eq!(times(&store, &AuditFilter::default(), 10).await, [5, 5, 4, 4]);
    let of_project = AuditFilter { project: Some("speech".to_owned()), ..AuditFilter::default() };
    assert_eq!(times(&store, &of_project, 10).await, [5, 4]);
    let mut batch = Batch::default();
    assert!(!audit_trim(&*store.snapshot().await.unwrap(), 4, &mut batch).await.unwrap());
}
