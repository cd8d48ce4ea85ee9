//! Tests of entities on the embedded store: unique names, renames, large bodies, and deletion.

use matyan_store::{Batch, Store, Transaction};

use super::*;
use crate::{
    ids::{Project, RunNumber},
    keys::{self, Counter, EntityKind},
    project::project_count,
    rows,
    testing::TestStore,
};

const P: Project = Project(0);

fn tag(name: &str) -> Tag {
    Tag { name: name.to_owned(), ..Tag::default() }
}

async fn create<E: Entity>(store: &TestStore, id: &str, entity: &E) -> Result<(), EntityError> {
    store.run(async |transaction| entity_create(transaction, P, id, entity).await).await
}

#[tokio::test]
async fn a_name_is_unique_within_its_kind() {
    let store = TestStore::open().await;
    create(&store, "1", &tag("a")).await.unwrap();
    let taken = create(&store, "2", &tag("a")).await.unwrap_err();
    assert!(matches!(taken, EntityError::NameTaken { id, .. } if id == "1"));
    create(&store, "2", &Experiment { name: "a".into(), ..Experiment::default() }).await.unwrap();
    let snapshot = store.snapshot().await.unwrap();
    assert_eq!(entity_find(&*snapshot, P, EntityKind::Tag, "a").await.unwrap(), Some("1".to_owned()));
    assert_eq!(entity_find(&*snapshot, P, EntityKind::Tag, "b").await.unwrap(), None);
}

#[tokio::test]
async fn rule_26_a_rename_frees_the_old_name() {
    let store = TestStore::open().await;
    create(&store, "1", &tag("a")).await.unwrap();
    create(&store, "2", &tag("b")).await.unwrap();
    let rename = async |id: &str, name: &str| {
        store
            .run(async |transaction| {
                entity_put(transaction, P, id, |tag: &mut Tag| {
                    tag.name = name.to_owned();
                    Ok::<_, EntityError>(())
                })
                .await
            })
            .await
    };
    assert!(matches!(rename("1", "b").await, Err(EntityError::NameTaken { .. })));
    assert_eq!(rename("1", "c").await.unwrap().name, "c");
    rename("2", "a").await.unwrap();
    assert!(matches!(rename("3", "x").await, Err(EntityError::NotFound { .. })));
    let list: Vec<(String, Tag)> = entity_list(&*store.snapshot().await.unwrap(), P).await.unwrap();
    // Callers recognize a version by this time, so it increases although the change does not set it.
    let expected =
        [("1", "c"), ("2", "a")].map(|(id, name)| (id.to_owned(), Tag { updated_us: 1, ..tag(name) }));
    assert_eq!(list, expected);
}

#[tokio::test]
async fn concurrent_lookups_of_a_new_name_create_one_entity() {
    let store = TestStore::open().await;
    let named = async |id: &str| {
        store
            .run(async |transaction| entity_find_or_create(transaction, P, &tag("new"), id).await)
            .await
            .unwrap()
    };
    let (first, second) = tokio::join!(named("1"), named("2"));
    assert_eq!(first, second);
    let list: Vec<(String, Tag)> = entity_list(&*store.snapshot().await.unwrap(), P).await.unwrap();
    assert_eq!(list.len(), 1);
}

#[tokio::test]
async fn a_large_report_can_shrink() {
    let store = TestStore::open().await;
    let large = Report { name: "r".into(), code: "x".repeat(3 * rows::PIECE_BYTES), ..Report::default() };
    create(&store, "1", &large).await.unwrap();
    create(&store, "2", &Report::default()).await.unwrap();
    let list: Vec<(String, Report)> = entity_list(&*store.snapshot().await.unwrap(), P).await.unwrap();
    assert_eq!(list, [("1".to_owned(), large), ("2".to_owned(), Report::default())]);
    store
        .run(async |transaction| {
            entity_put(transaction, P, "1", |report: &mut Report| {
                report.updated_us = 1;
                report.code = "y".to_owned();
                Ok::<_, EntityError>(())
            })
            .await
        })
        .await
        .unwrap();
    let small: Report = entity_get(&*store.snapshot().await.unwrap(), P, "1").await.unwrap().unwrap();
    assert_eq!(small.code, "y");
}

#[tokio::test]
async fn a_deleted_entity_leaves_its_links_to_the_sweep() {
    let store = TestStore::open().await;
    create(&store, "1", &tag("a")).await.unwrap();
    let note = Note { owner: NoteOwner::Run(7), content: "n".into(), ..Note::default() };
    create(&store, "n", &note).await.unwrap();
    let notes = async || {
        let snapshot = store.snapshot().await.unwrap();
        rows::scan_all(&*snapshot, &keys::run_notes(P, RunNumber(7))).await.unwrap().len()
    };
    assert_eq!(notes().await, 1);
    store.run(async |transaction| entity_delete::<Tag>(transaction, P, "1").await).await.unwrap();
    store.run(async |transaction| entity_delete::<Note>(transaction, P, "n").await).await.unwrap();
    assert_eq!(notes().await, 0);
    let snapshot = store.snapshot().await.unwrap();
    assert_eq!(entity_get::<Tag>(&*snapshot, P, "1").await.unwrap(), None);
    assert!(snapshot.get(&keys::dead_entity(P, EntityKind::Tag, "1")).await.unwrap().is_some());
    create(&store, "2", &tag("a")).await.unwrap();
}

#[tokio::test]
async fn an_experiment_with_many_notes_can_be_deleted() {
    let store = TestStore::open().await;
    create(&store, "e", &Experiment { name: "e".into(), ..Experiment::default() }).await.unwrap();
    let owner = NoteOwner::Experiment("e".into());
    for part in 0..12 {
        let ids = (0..1_000).map(|at| format!("{:032}", part * 1_000 + at)).collect::<Vec<_>>();
        let create = async |transaction: &mut Transaction| -> Result<(), EntityError> {
            for id in &ids {
                let note = Note { owner: owner.clone(), ..Note::default() };
                entity_create(transaction, P, id, &note).await?;
            }
            Ok(())
        };
        store.run(create).await.unwrap();
    }
    store.run(async |transaction| entity_delete::<Experiment>(transaction, P, "e").await).await.unwrap();
    let left = async || notes_count(&*store.snapshot().await.unwrap(), P, &owner).await.unwrap();
    assert!(left().await < 12_000);
    while !store.run(async |transaction| notes_clear(transaction, P, &owner).await).await.unwrap() {}
    assert_eq!(left().await, 0);
}

#[tokio::test]
async fn notes_are_listed_by_owner_and_deleted_with_their_experiment() {
    let store = TestStore::open().await;
    let experiment = Experiment { name: "e".into(), ..Experiment::default() };
    create(&store, "e", &experiment).await.unwrap();
    let own = NoteOwner::Experiment("e".into());
    for (id, created_us, owner) in [("a", 2, own.clone()), ("b", 1, own.clone()), ("c", 0, NoteOwner::Run(1))]
    {
        create(&store, id, &Note { created_us, owner, ..Note::default() }).await.unwrap();
    }
    let ids = async |owner: &NoteOwner| {
        let snapshot = store.snapshot().await.unwrap();
        let (notes, rest) = notes_page(&*snapshot, P, owner, &notes_range(P, owner)).await.unwrap();
        assert!(rest.is_none());
        notes.into_iter().map(|(id, _)| id).collect::<Vec<_>>()
    };
    assert_eq!(ids(&own).await, ["a", "b"]);
    store.run(async |transaction| entity_delete::<Experiment>(transaction, P, "e").await).await.unwrap();
    assert!(ids(&own).await.is_empty());
    assert_eq!(ids(&NoteOwner::Run(1)).await, ["c"]);
    let left: Vec<(String, Note)> = entity_list(&*store.snapshot().await.unwrap(), P).await.unwrap();
    assert_eq!(left.len(), 1);
}

/// A document as versions stored it that did not count documents.
#[derive(minicbor::Encode)]
#[cbor(array)]
struct UncountedDocument {
    #[n(0)]
    created_us: i64,
    #[n(1)]
    updated_us: i64,
    #[cbor(n(2), with = "minicbor::bytes")]
    content: Vec<u8>,
}

#[tokio::test]
async fn a_document_of_an_earlier_version_counts_once_it_is_changed() {
    let store = TestStore::open().await;
    let uncounted = UncountedDocument { created_us: 1, updated_us: 1, content: vec![b'x'; 100] };
    let mut batch = Batch::default();
    for id in ["view/a", "view/b"] {
        batch.set(keys::entity_piece(P, EntityKind::Document, id, 0), rows::encode(&uncounted));
    }
    store.commit(batch).await.unwrap();
    let used = async || project_count(&*store.snapshot().await.unwrap(), P, Counter::Bytes).await.unwrap();
    store.run(async |transaction| entity_delete::<Document>(transaction, P, "view/a").await).await.unwrap();
    assert_eq!(used().await, 0, "bytes that were never added are not taken");
    let replace = async |transaction: &mut Transaction| {
        entity_put(transaction, P, "view/b", |document: &mut Document| {
            document.content = vec![b'y'; 4];
            document.is_counted = true;
            Ok::<_, EntityError>(())
        })
        .await
    };
    assert_eq!(store.run(replace).await.unwrap().created_us, 1);
    assert_eq!(used().await, 10);
    store.run(async |transaction| entity_delete::<Document>(transaction, P, "view/b").await).await.unwrap();
    assert_eq!(used().await, 0);
}
