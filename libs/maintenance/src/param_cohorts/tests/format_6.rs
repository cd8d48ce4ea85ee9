//! Runs of a store of format 6, whose params have index rows.

use std::{borrow::Cow, collections::BTreeMap};

use matyan_model::{
    format::{MigrationState, format_migrate, format_open},
    param_cohort::ParamReader,
    params::IndexedParam,
    run::{Params, document_get},
};

use super::*;
use crate::cohort_round::CohortRound;

const FALSE: u8 = 0xf4;
const TRUE: u8 = 0xf5;

/// Gives a run index rows, instead of its row in the list of uncollected params. Its params must be short scalars.
pub(super) async fn make_indexed(store: &EmbeddedStore, number: RunNumber, params: &Map) {
    let snapshot = store.snapshot().await.unwrap();
    let key = keys::document(P, number);
    let document = document_get(&*snapshot, P, number).await.unwrap().unwrap();
    let Params::Inline(encoded) = document.params else { panic!("the params are large") };
    let mut row = snapshot.get(&key).await.unwrap().unwrap().to_vec();
    // The last field before the params says that they have no index rows.
    let last = row.len() - encoded.len() - 1;
    assert_eq!(row[last], TRUE);
    row[last] = FALSE;
    let mut batch = Batch::default();
    batch.set(key, row);
    let mut list = UncollectedReader::new(CohortKind::Params, P);
    while let Some(listed) = list.next(&*snapshot, Scan::default()).await.unwrap() {
        for (key, _) in listed {
            if keys::index_run(&key).unwrap() == number {
                batch.clear(key);
            }
        }
    }
    for (name, value) in params {
        let stored: u8 = match value {
            Value::Bool(_) => 1,
            Value::Integer(_) => 2,
            _ => 0,
        };
        let value = Scalar::from_value(value).unwrap().key();
        batch.set(keys::index_param(P, &[name.as_str().into()], &value, number), vec![stored]);
    }
    // No project has new ones once all are cleared, except here.
    let generations = keys::uncollected_generations(CohortKind::Params, P);
    if let Some(row) = snapshot.get(&generations).await.unwrap() {
        let mut row = row.to_vec();
        // The last field says that all are cleared.
        *row.last_mut().unwrap() = FALSE;
        batch.set(generations, row);
    }
    store.commit(batch).await.unwrap();
}

/// Checks that readers find the place of each run in the project as its param, unless its document must be read. Returns the
/// number of such documents.
async fn check_values(project: &TestProject) -> usize {
    let mut reader = ParamReader::new(P, &[Cow::Borrowed("lr")]);
    let mut found: BTreeMap<RunNumber, Option<String>> = BTreeMap::new();
    loop {
        let snapshot = project.store.snapshot().await.unwrap();
        let Some(page) = reader.next(&*snapshot).await.unwrap() else { break };
        let mut visit = |number: RunNumber, value: Option<IndexedParam<'_>>| {
            found.insert(number, value.map(|value| format!("{value:?}")));
        };
        page.visit(&mut visit).unwrap();
    }
    assert!(found.keys().eq(&project.numbers), "no run is left out");
    let mut unknown = 0;
    for (at, number) in (0..).zip(&project.numbers) {
        match &found[number] {
            Some(value) => assert_eq!(*value, format!("{:?}", IndexedParam::Integer(at)), "{number}"),
            None => unknown += 1,
        }
    }
    unknown
}

async fn rows(project: &TestProject, range: Range) -> usize {
    project.store.snapshot().await.unwrap().scan(&range, Scan::default()).await.unwrap().rows.len()
}

/// From the start of this program with a store of format 6 until no index row of a param is left.
#[tokio::test]
async fn rule_44_params_of_format_6_are_moved_to_cohorts() {
    const COUNT: usize = FEW_RUNS + 6;
    let project = TestProject::new(COUNT as i64).await;
    for (at, number) in (0..).zip(&project.numbers) {
        let params = Map::from([("lr".to_owned(), Value::Integer(at))]);
        make_indexed(&project.store, *number, &params).await;
    }
    let mut batch = Batch::default();
    // A row, and the number 6.
    batch.set(keys::format(), vec![1, 6]);
    project.store.commit(batch).await.unwrap();
    format_open(&project.store).await.unwrap();
    let waiting = WaitingProjects::default();

    // Until the migration has listed all runs, their rows stay.
    project.look(&waiting, NOW_US).await.unwrap();
    assert!(waiting.get(P).idle_since.is_none());
    assert_eq!(rows(&project, keys::index_params(P)).await, COUNT);
    assert_eq!(check_values(&project).await, 0);
    while project.write(async |transaction| format_migrate(transaction).await).await
        == MigrationState::Running
    {}
    assert_eq!(rows(&project, keys::indexed_params_all(P)).await, COUNT);
    assert_eq!(check_values(&project).await, 0);

    // A run that changes has no rows any more.
    project.change(project.numbers[0]).await;
    assert_eq!(rows(&project, keys::index_params(P)).await, COUNT - 1);
    assert_eq!(rows(&project, keys::indexed_params_all(P)).await, COUNT - 1);

    project
        .write(async |transaction| {
            let mut edit = RunEdit::load(transaction, P, project.numbers[0]).await?.unwrap();
            edit.params(transaction.unchecked()).await?.insert("lr".to_owned(), Value::Integer(0));
            edit.write(transaction.batch());
            Ok(())
        })
        .await;
    assert_eq!(check_values(&project).await, 1);
    project.look(&waiting, NOW_US).await.unwrap();
    assert_eq!(rows(&project, keys::index_params(P)).await, 0);
    assert_eq!(rows(&project, keys::indexed_params_all(P)).await, 0);
    assert_eq!(check_values(&project).await, COUNT, "all of them wait for a cohort");
    project.look(&waiting, NOW_US + WAIT_US).await.unwrap();
    assert_eq!(project.sizes().await, [COUNT]);
    assert_eq!(check_values(&project).await, 0);
    assert!(waiting.get(P).idle_since.is_some(), "nothing is left to do");
}

/// The migration may list runs just after the job has moved all that were listed.
#[tokio::test]
async fn rule_44_index_rows_stay_until_all_runs_that_have_them_are_moved() {
    let project = TestProject::new(2).await;
    let mut listed = Batch::default();
    for (at, number) in (0..).zip(&project.numbers) {
        let params = Map::from([("lr".to_owned(), Value::Integer(at))]);
        make_indexed(&project.store, *number, &params).await;
        listed.set(keys::indexed_params(P, *number), Vec::new());
    }
    project.store.commit(listed).await.unwrap();
    let clock = || NOW_US;
    let stop = CancellationToken::new();
    let cohorts = ParamCohorts::new(&project.store, &clock);
    let round = CohortRound::start(&project.store, &clock, CohortKind::Params, P, [1; 16], &stop);
    let mut round = round.await.unwrap();
    assert!(cohorts.clear_indexed(&mut round).await.unwrap(), "the runs are still to be moved");
    assert_eq!(rows(&project, keys::index_params(P)).await, 2);
    assert_eq!(check_values(&project).await, 0);
    assert_eq!(cohorts.move_indexed(&mut round, 2).await.unwrap(), 2);
    assert!(!cohorts.clear_indexed(&mut round).await.unwrap());
    assert_eq!(rows(&project, keys::index_params(P)).await, 0);
    assert_eq!(check_values(&project).await, 2, "both wait for a cohort");
}
