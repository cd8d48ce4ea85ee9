//! Tests of projects on the embedded store.

use matyan_store::Store;

use super::*;
use crate::testing::TestStore;

const P: Project = Project(0);

#[tokio::test]
async fn rule_32_a_store_of_another_format_is_rejected() {
    let store = TestStore::open().await;
    format_open(&*store).await.unwrap();
    format_open(&*store).await.unwrap();
    for (format, advice) in [(FORMAT + 1, "use a newer version"), (FORMAT - 1, "make a backup")] {
        let mut batch = Batch::default();
        batch.set(keys::format(), rows::encode(&format));
        store.commit(batch).await.unwrap();
        let error = format_open(&*store).await.unwrap_err().to_string();
        assert!(error.contains(&format!("format {format},")) && error.contains(advice), "{error}");
    }
}

#[tokio::test]
async fn info_and_pinned_sequences_are_read_back() {
    let store = TestStore::open().await;
    let snapshot = store.snapshot().await.unwrap();
    assert_eq!(project_info_get(&*snapshot, P).await.unwrap().name, "My project");
    assert!(pinned_get(&*snapshot, P).await.unwrap().is_empty());
    let info = ProjectInfo { name: "n".into(), description: "d".into() };
    let pinned: Vec<Vec<u8>> = (0..300).map(|at| vec![at as u8; 1_000]).collect();
    let mut batch = Batch::default();
    project_info_put(&mut batch, P, &info);
    pinned_put(&mut batch, P, &pinned);
    store.commit(batch).await.unwrap();
    let snapshot = store.snapshot().await.unwrap();
    assert_eq!(project_info_get(&*snapshot, P).await.unwrap(), info);
    assert_eq!(pinned_get(&*snapshot, P).await.unwrap(), pinned);
    let mut batch = Batch::default();
    pinned_put(&mut batch, P, &pinned[..1]);
    store.commit(batch).await.unwrap();
    assert_eq!(pinned_get(&*store.snapshot().await.unwrap(), P).await.unwrap(), pinned[..1]);
}

#[tokio::test]
async fn the_default_project_has_an_empty_name() {
    let store = TestStore::open().await;
    let mut batch = Batch::default();
    batch.set(keys::project_by_name("other"), rows::encode(&7_u32));
    store.commit(batch).await.unwrap();
    let snapshot = store.snapshot().await.unwrap();
    assert_eq!(project_find(&*snapshot, "").await.unwrap(), Some(P));
    assert_eq!(project_find(&*snapshot, "other").await.unwrap(), Some(Project(7)));
    assert_eq!(project_find(&*snapshot, "unknown").await.unwrap(), None);
    let other = NamedProject { number: Project(7), name: "other".to_owned() };
    assert_eq!(projects_list(&*snapshot).await.unwrap(), [NamedProject::default(), other]);
}
