//! Tests of projects on the embedded store.

use matyan_store::Store;

use super::*;
use crate::testing::TestStore;

const P: Project = Project(0);

#[tokio::test]
async fn info_and_pinned_sequences_are_read_back() {
    let store = TestStore::open().await;
    let snapshot = store.snapshot().await.unwrap();
    assert_eq!(project_info_get(&*snapshot, P).await.unwrap().name, "My project");
    assert!(pinned_get(&*snapshot, P).await.unwrap().is_empty());
    let info = ProjectInfo { name: "n".into(), description: "d".into(), updated_us: 1, pinned_updated_us: 2 };
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

async fn create(store: &TestStore, name: &str) -> Creation {
    let info = ProjectInfo::default();
    store.run(async |transaction| project_create(transaction, name, &info, 5, 3).await).await.unwrap()
}

#[tokio::test]
async fn the_default_project_has_an_empty_name() {
    let store = TestStore::open().await;
    create(&store, "other").await;
    let snapshot = store.snapshot().await.unwrap();
    assert_eq!(project_find(&*snapshot, "").await.unwrap(), Some(P));
    assert_eq!(project_find(&*snapshot, "other").await.unwrap(), Some(Project(1)));
    assert_eq!(project_find(&*snapshot, "unknown").await.unwrap(), None);
    let other = NamedProject { number: Project(1), name: "other".to_owned() };
    assert_eq!(projects_list(&*snapshot).await.unwrap(), [NamedProject::default(), other]);
}

#[tokio::test]
async fn projects_that_are_cleared_leave_room_for_others() {
    let store = TestStore::open().await;
    for name in ["a", "b", "c"] {
        assert!(matches!(create(&store, name).await, Creation::Created(_)));
    }
    assert_eq!(create(&store, "d").await, Creation::TooMany);
    let deleted = store.run(async |transaction| project_delete(transaction, "a", 9).await).await.unwrap();
    assert_eq!(create(&store, "d").await, Creation::TooMany, "its rows are still there");
    let mut batch = Batch::default();
    ListedProject { state: ProjectState::Cleared, ..deleted.unwrap() }.put(&mut batch);
    store.commit(batch).await.unwrap();
    let Creation::Created(fourth) = create(&store, "d").await else { panic!("there is room") };
    assert_eq!(fourth.project.number, Project(4), "numbers are not used again");
    assert_eq!(create(&store, "e").await, Creation::TooMany);
}

#[tokio::test]
async fn numbers_and_names_of_deleted_projects_are_not_used_again() {
    let store = TestStore::open().await;
    create(&store, "b").await;
    let deleted = store.run(async |transaction| project_delete(transaction, "b", 9).await).await.unwrap();
    assert_eq!(deleted.unwrap().deleted_us, Some(9));
    // A second deletion does not change when the project was deleted.
    let deleted = store.run(async |transaction| project_delete(transaction, "b", 10).await).await.unwrap();
    assert_eq!(deleted.as_ref().unwrap().deleted_us, Some(9));
    assert_eq!(project_find(&*store.snapshot().await.unwrap(), "b").await.unwrap(), None);
    assert_eq!(create(&store, "b").await, Creation::NameTaken(deleted.unwrap()));
    let Creation::Created(second) = create(&store, "a").await else { panic!("the name is free") };
    assert_eq!(second.project.number, Project(2));
    let from = [ProjectState::Active, ProjectState::Deleted, ProjectState::Deleting, ProjectState::Deleted];
    let after =
        [ProjectState::Deleting, ProjectState::Deleting, ProjectState::Deleted, ProjectState::Cleared];
    for (from, after) in from.into_iter().zip(after) {
        store.run(async |transaction| project_advance(transaction, "b", from).await).await.unwrap();
        let listed = project_get(&*store.snapshot().await.unwrap(), "b").await.unwrap().unwrap();
        assert_eq!(listed.state, after);
    }
    let gone = store.run(async |transaction| project_delete(transaction, "b", 11).await).await.unwrap();
    assert_eq!(gone, None);
    assert!(matches!(create(&store, "c").await, Creation::Created(_)));
    // A project that has left nothing takes no room.
    assert!(matches!(create(&store, "d").await, Creation::Created(_)));
    assert_eq!(create(&store, "e").await, Creation::TooMany);
}

#[tokio::test]
async fn clearing_a_project_leaves_the_others() {
    let store = TestStore::open().await;
    let mut batch = Batch::default();
    for project in [0, 1, 2] {
        for counter in 0..3_000 {
            batch.set(keys::number(Project(project), crate::ids::RunNumber(counter)), "");
        }
    }
    store.commit(batch).await.unwrap();
    let mut steps = 1;
    while !project_clear(&*store, Project(1)).await.unwrap() {
        steps += 1;
    }
    assert_eq!(steps, if store.clears_ranges_at_once() { 1 } else { 4 });
    let snapshot = store.snapshot().await.unwrap();
    for (project, expected) in [(0, 3_000), (1, 0), (2, 3_000)] {
        let rows = rows::scan_all(&*snapshot, &keys::project_rows(Project(project))).await.unwrap();
        assert_eq!(rows.len(), expected, "{project}");
    }
}
