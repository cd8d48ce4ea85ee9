//! Tests of opening stores of other formats, and of the migration, on the embedded store.

use matyan_store::{Batch, Commit, Key};
use matyan_value::{Map, Value};

use super::*;
use crate::{
    branch::{Ancestor, Branch, sharers_page},
    index::index_runs_page,
    project::{ProjectInfo, project_create},
    run::{Parent, Props, RunEdit, params_get, run_id_get},
    testing::TestStore,
};

async fn set_format(store: &TestStore, format: u32) {
    let mut batch = Batch::default();
    batch.set(keys::format(), rows::encode(&format));
    store.commit(batch).await.unwrap();
}

async fn rows_of(store: &TestStore) -> Vec<(Key, matyan_store::Value)> {
    rows::scan_all(&*store.snapshot().await.unwrap(), &Range::prefix(Key::default())).await.unwrap()
}

#[tokio::test]
async fn rule_32_a_store_of_an_unknown_format_is_refused_and_not_changed() {
    let store = TestStore::open().await;
    format_open(&*store).await.unwrap();
    format_open(&*store).await.unwrap();
    for (format, advice) in
        [(FORMAT + 1, "use the version that wrote it, or a newer one"), (1, "make a backup")]
    {
        set_format(&store, format).await;
        let before = rows_of(&store).await;
        let error = format_open(&*store).await.unwrap_err().to_string();
        assert!(
            error.contains(&format!("format {format}, but this program reads formats 2 to 7")),
            "{error}"
        );
        assert!(error.contains(advice), "{error}");
        assert_eq!(rows_of(&store).await, before);
    }
}

#[tokio::test]
async fn rule_44_a_row_of_an_unknown_format_is_an_error_with_a_reason() {
    let store = TestStore::open().await;
    let mut batch = Batch::default();
    batch.set(keys::format(), vec![9]);
    store.commit(batch).await.unwrap();
    let error = format_open(&*store).await.unwrap_err().to_string();
    assert!(
        error.contains("its format is 9, but this program reads format 1: a newer version wrote it"),
        "{error}"
    );
}

async fn params_list(snapshot: &dyn Snapshot, project: Project) -> UncollectedList {
    UncollectedList::read(snapshot, CohortKind::Params, project).await.unwrap()
}

/// Params that do not fit in the document, and differ per run.
fn large_params(number: u64) -> Map {
    let text = format!("{number:06}").repeat(20_000);
    [("a".into(), Value::Text(text)), ("n".into(), Value::Integer(number.cast_signed()))]
        .into_iter()
        .collect()
}

/// A store of format 2 with `count` runs in each of two projects. Every third has small params.
async fn old_store(count: u64) -> TestStore {
    let store = TestStore::open().await;
    set_format(&store, 2).await;
    let info = ProjectInfo::default();
    store.run(async |transaction| project_create(transaction, "other", &info, 5, 9).await).await.unwrap();
    for project in [Project(0), Project(1)] {
        for number in 0..count {
            store
                .run(async |transaction| {
                    let list = params_list(transaction.unchecked(), project).await;
                    let mut edit = RunEdit::create(project, RunNumber(number), Props::default(), list);
                    let params = if number % 3 == 0 { Map::default() } else { large_params(number) };
                    *edit.params(transaction.unchecked()).await? = params;
                    edit.write(transaction.batch());
                    Ok::<_, Error>(())
                })
                .await
                .unwrap();
            let key = keys::params_piece(project, RunNumber(number), 0);
            let piece = store.snapshot().await.unwrap().get(&key).await.unwrap();
            if let Some(piece) = piece {
                let mut batch = Batch::default();
                batch.set(key.clone(), piece.slice_ref(rows::body(&key, &piece).unwrap()));
                store.commit(batch).await.unwrap();
            }
        }
    }
    store
}

async fn check_params(store: &TestStore, count: u64) {
    let snapshot = store.snapshot().await.unwrap();
    for project in [Project(0), Project(1)] {
        for number in (0..count).map(RunNumber).filter(|number| number.0 % 3 != 0) {
            let document = crate::run::document_get(&*snapshot, project, number).await.unwrap().unwrap();
            assert_eq!(document.params, Params::Pieces);
            let params = params_get(&*snapshot, project, number, &document).await.unwrap();
            assert_eq!(params, large_params(number.0), "{project:?} {number}");
        }
    }
}

async fn old_rows(store: &TestStore, count: u64) -> usize {
    let snapshot = store.snapshot().await.unwrap();
    let mut found = 0;
    for project in [Project(0), Project(1)] {
        for number in (0..count).map(RunNumber) {
            let piece = snapshot.get(&keys::params_piece(project, number, 0)).await.unwrap();
            found += usize::from(piece.is_some_and(|piece| is_params_of_format_2(&piece)));
        }
    }
    found
}

/// The runs in the list of uncollected runs of a project.
async fn listed(store: &TestStore, project: Project) -> Vec<u64> {
    let all = keys::uncollected_all(CohortKind::Metrics, project, keys::ListGeneration::FIRST);
    let rows = rows::scan_all(&*store.snapshot().await.unwrap(), &all).await.unwrap();
    rows.iter().map(|(key, _)| keys::tail::<(u64,)>(&all.start, key).unwrap().0).collect()
}

/// Runs whose params have index rows, and runs whose documents are read for a param.
async fn param_lists(store: &TestStore, project: Project) -> [Vec<u64>; 2] {
    let lists = [
        keys::indexed_params_all(project),
        keys::uncollected_all(CohortKind::Params, project, keys::ListGeneration::FIRST),
    ];
    let mut found = [Vec::new(), Vec::new()];
    for (found, all) in found.iter_mut().zip(lists) {
        let rows = rows::scan_all(&*store.snapshot().await.unwrap(), &all).await.unwrap();
        found.extend(rows.iter().map(|(key, _)| keys::tail::<(u64,)>(&all.start, key).unwrap().0));
    }
    found
}

/// The params of all runs of a store of format 6 have index rows. Only the params of two runs have changed
/// since, and a cohort has one of these runs.
#[tokio::test]
async fn rule_44_runs_whose_params_have_index_rows_are_listed() {
    const RUNS: u64 = 7;
    let store = TestStore::open().await;
    let project = Project(0);
    for number in (0..RUNS).map(RunNumber) {
        let mut batch = Batch::default();
        let snapshot = store.snapshot().await.unwrap();
        let list = params_list(&*snapshot, project).await;
        let mut edit = RunEdit::create(project, number, Props::default(), list);
        edit.params(&*snapshot).await.unwrap().insert("a".into(), Value::Integer(1));
        edit.write(&mut batch);
        store.commit(batch).await.unwrap();
        let document = crate::run::document_get(&*store.snapshot().await.unwrap(), project, number).await;
        let mut document = document.unwrap().unwrap();
        assert!(document.props.is_without_param_rows);
        document.props.is_without_param_rows = false;
        let mut batch = Batch::default();
        if number.0 > 1 {
            batch.set(keys::document(project, number), document.encode());
        }
        if number.0 > 0 {
            batch.clear(keys::uncollected(CohortKind::Params, project, keys::ListGeneration::FIRST, number));
        }
        match number.0 {
            1 | 2 => batch.set(keys::run_cohort(CohortKind::Params, project, number), rows::encode(&1_u64)),
            3 => batch.set(keys::document(project, number), vec![0xff]),
            _ => &mut batch,
        };
        store.commit(batch).await.unwrap();
    }
    set_format(&store, 6).await;
    format_open(&*store).await.unwrap();
    assert!(!format_has_every_run(&*store.snapshot().await.unwrap()).await.unwrap());
    while migrate(&store).await == MigrationState::Running {}
    assert!(format_has_every_run(&*store.snapshot().await.unwrap()).await.unwrap());
    let [indexed, uncollected] = param_lists(&store, project).await;
    assert_eq!(indexed, [4, 5, 6], "runs of a cohort have been moved before");
    assert_eq!(uncollected, [0, 3], "the document of a damaged run is read, so that it is reported");
}

async fn migrate(store: &TestStore) -> MigrationState {
    store.run(async |transaction| format_migrate(transaction).await).await.unwrap()
}

#[tokio::test]
async fn rule_44_an_interrupted_migration_continues() {
    const RUNS: u64 = 30;
    let store = old_store(RUNS).await;
    assert_eq!(old_rows(&store, RUNS).await, 40);
    format_open(&*store).await.unwrap();
    check_params(&store, RUNS).await;
    let mut steps = 0;
    let mut left = 40;
    loop {
        // One attempt is lost before its commit, as in a crash; the next process opens the store again.
        let mut lost = Transaction::new(store.snapshot().await.unwrap());
        format_migrate(&mut lost).await.unwrap();
        format_open(&*store).await.unwrap();
        let state = migrate(&store).await;
        // Another attempt was slower: it had read the same progress.
        assert_eq!(store.commit(lost.into_batch()).await.unwrap(), Commit::Conflict);
        let now_left = old_rows(&store, RUNS).await;
        assert!(left - now_left <= STEP_REWRITTEN, "a step is bounded");
        steps += 1;
        left = now_left;
        check_params(&store, RUNS).await;
        if state != MigrationState::Running {
            break;
        }
    }
    assert_eq!((steps, left), (4, 0), "every step does a part, and none is repeated");
    for project in [Project(0), Project(1)] {
        assert_eq!(listed(&store, project).await, Vec::from_iter(0..RUNS), "{project:?}");
    }
    assert!(!format_is_migrating(&*store.snapshot().await.unwrap()).await.unwrap());
    // Opening the migrated store does not start another migration.
    format_open(&*store).await.unwrap();
    assert!(!format_is_migrating(&*store.snapshot().await.unwrap()).await.unwrap());
}

#[tokio::test]
async fn rule_44_a_damaged_run_does_not_stop_the_migration() {
    const RUNS: u64 = 6;
    let store = old_store(RUNS).await;
    format_open(&*store).await.unwrap();
    let key = keys::document(Project(0), RunNumber(1));
    let document = store.snapshot().await.unwrap().get(&key).await.unwrap().unwrap();
    let mut batch = Batch::default();
    batch.set(key, vec![0xff]);
    store.commit(batch).await.unwrap();
    let waiting = MigrationState::Waiting { damaged: 1 };
    while migrate(&store).await != waiting {}
    assert_eq!(old_rows(&store, RUNS).await, 1);
    assert_eq!(listed(&store, Project(0)).await, Vec::from_iter(0..RUNS), "also the damaged run");
    assert!(format_has_every_run(&*store.snapshot().await.unwrap()).await.unwrap());
    // Then a cohort takes all runs but two.
    let mut batch = Batch::default();
    for number in (2..RUNS).map(RunNumber) {
        batch.clear(keys::uncollected(CohortKind::Metrics, Project(0), keys::ListGeneration::FIRST, number));
        batch.set(keys::run_cohort(CohortKind::Metrics, Project(0), number), rows::encode(&1_u64));
    }
    store.commit(batch).await.unwrap();
    // The migration waits, also in other processes, until it is restarted.
    assert_eq!(migrate(&store).await, waiting);
    assert!(format_is_migrating(&*store.snapshot().await.unwrap()).await.unwrap());
    for repaired in [false, true] {
        if repaired {
            let mut batch = Batch::default();
            batch.set(keys::document(Project(0), RunNumber(1)), document.clone());
            store.commit(batch).await.unwrap();
        }
        store.run(async |transaction| format_retry(transaction).await).await.unwrap();
        let expected = if repaired { MigrationState::Done } else { waiting };
        loop {
            let has_every_run = format_has_every_run(&*store.snapshot().await.unwrap()).await.unwrap();
            assert!(has_every_run, "the rows of the round before stay");
            if migrate(&store).await == expected {
                break;
            }
        }
        assert_eq!(old_rows(&store, RUNS).await, usize::from(!repaired));
        assert_eq!(listed(&store, Project(0)).await, [0, 1], "runs of cohorts stay there");
    }
    check_params(&store, RUNS).await;
    assert!(!format_is_migrating(&*store.snapshot().await.unwrap()).await.unwrap());
}

#[tokio::test]
async fn rule_131_runs_of_a_damaged_project_are_not_taken_for_listed() {
    let store = old_store(3).await;
    format_open(&*store).await.unwrap();
    let projects = rows::scan_all(&*store.snapshot().await.unwrap(), &keys::projects()).await.unwrap();
    let mut batch = Batch::default();
    batch.set(projects[0].0.clone(), vec![0xff]);
    store.commit(batch).await.unwrap();
    let waiting = MigrationState::Waiting { damaged: 1 };
    while migrate(&store).await != waiting {}
    assert_eq!((listed(&store, Project(0)).await.len(), listed(&store, Project(1)).await.len()), (3, 0));
    store.run(async |transaction| format_retry(transaction).await).await.unwrap();
    let mut state = MigrationState::Running;
    while state != waiting {
        assert!(!format_has_every_run(&*store.snapshot().await.unwrap()).await.unwrap());
        state = migrate(&store).await;
    }
    assert!(!format_has_every_run(&*store.snapshot().await.unwrap()).await.unwrap());
}

#[tokio::test]
async fn rule_131_a_project_that_is_repaired_after_the_migration_has_passed_it_is_migrated() {
    const RUNS: u64 = 3;
    let store = old_store(RUNS).await;
    let info = ProjectInfo::default();
    store.run(async |transaction| project_create(transaction, "third", &info, 6, 9).await).await.unwrap();
    format_open(&*store).await.unwrap();
    let other = keys::project_by_name("other");
    let row = store.snapshot().await.unwrap().get(&other).await.unwrap().unwrap();
    let mut batch = Batch::default();
    batch.set(other.clone(), vec![0xff]);
    store.commit(batch).await.unwrap();
    assert_eq!(migrate(&store).await, MigrationState::Running, "the migration is in the third project now");
    let mut batch = Batch::default();
    batch.set(other, row);
    store.commit(batch).await.unwrap();
    assert_eq!(migrate(&store).await, MigrationState::Waiting { damaged: 1 });
    assert!(!format_has_every_run(&*store.snapshot().await.unwrap()).await.unwrap());
    store.run(async |transaction| format_retry(transaction).await).await.unwrap();
    while migrate(&store).await != MigrationState::Done {}
    assert_eq!(listed(&store, Project(1)).await, Vec::from_iter(0..RUNS));
    assert_eq!(old_rows(&store, RUNS).await, 0);
}

#[tokio::test]
async fn rule_44_a_run_that_is_deleted_during_a_step_leaves_no_row() {
    let store = old_store(3).await;
    format_open(&*store).await.unwrap();
    let mut step = Transaction::new(store.snapshot().await.unwrap());
    format_migrate(&mut step).await.unwrap();
    let mut batch = Batch::default();
    batch.clear(keys::document(Project(0), RunNumber(0)));
    store.commit(batch).await.unwrap();
    assert_eq!(store.commit(step.into_batch()).await.unwrap(), Commit::Conflict);
}

/// A store of format 3 has branches, but no rows that lead to them.
#[tokio::test]
async fn rule_44_branches_of_a_store_of_format_3_are_found() {
    const BRANCHES: u64 = 250;
    let store = TestStore::open().await;
    let project = Project(0);
    let parent = RunNumber(1);
    let mut batch = Batch::default();
    batch.set(keys::number(project, parent), rows::encode(&"p"));
    let props = Props { parent: Some(Parent { number: parent.0, step: Some(5) }), ..Props::default() };
    let branch = Branch::of(Ancestor::new(parent, 5, 9), &Branch::default()).unwrap();
    let list = params_list(&*store.snapshot().await.unwrap(), project).await;
    for number in (2..2 + BRANCHES).map(RunNumber) {
        RunEdit::create(project, number, props.clone(), list.clone()).write(&mut batch);
        batch.set(keys::branch(project, number), rows::encode(&branch));
    }
    store.commit(batch).await.unwrap();
    let listed = keys::uncollected_all(CohortKind::Params, project, keys::ListGeneration::FIRST);
    let (listed, _) = index_runs_page(&*store.snapshot().await.unwrap(), &listed, 1_000).await.unwrap();
    assert_eq!(listed.len() as u64, BRANCHES, "a new run is listed without params, too");
    set_format(&store, 3).await;
    format_open(&*store).await.unwrap();
    let found = async || {
        let snapshot = store.snapshot().await.unwrap();
        let by_parent = keys::index_parent_all(project, "p");
        let (by_parent, _) = index_runs_page(&*snapshot, &by_parent, 1_000).await.unwrap();
        let sharers = keys::sharers_from(project, parent, 5);
        let (sharers, _) = sharers_page(&*snapshot, &sharers, 1_000).await.unwrap();
        assert_eq!(by_parent, sharers);
        (by_parent.len() as u64, format_has_every_run(&*snapshot).await.unwrap())
    };
    assert_eq!(found().await, (0, false));
    let mut steps = 0;
    while migrate(&store).await == MigrationState::Running {
        steps += 1;
        assert_eq!(found().await, (steps * STEP_BRANCHES as u64, false));
    }
    assert_eq!((steps, found().await), (2, (BRANCHES, true)));
}

#[tokio::test]
async fn rule_44_a_new_store_has_nothing_to_migrate() {
    let store = TestStore::open().await;
    format_open(&*store).await.unwrap();
    assert_eq!(migrate(&store).await, MigrationState::Done);
    assert_eq!(run_id_get(&*store.snapshot().await.unwrap(), Project(0), RunNumber(1)).await.unwrap(), None);
}
