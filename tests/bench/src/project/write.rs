//! Writes rows of runs as the server leaves them after they have ended, many runs per transaction:
//! their points are folded.

use std::{
    io::{IsTerminal, Write},
    path::Path,
    sync::Arc,
};

use futures::{StreamExt, TryStreamExt, stream};
use matyan_maintenance::ParamCohorts;
use matyan_model::{
    entity::{Experiment, Tag, entity_create},
    format::format_open,
    ids::{Project, RunId, RunNumber, SeriesNumber},
    keys::{self, Counter},
    metric::metric_series_create,
    run::{WritingState, run_create, writing_put},
    series::{FoldStatus, LiveRow, MetricHeader, RunRef, fold_run},
};
use matyan_store::{
    Batch, Commit, Store, Transaction,
    embedded::{EmbeddedStore, Settings},
};
use matyan_value::Context;
use tokio_util::sync::CancellationToken;

use super::{Content, SERIES, run_id, runs};

const PROJECT: Project = Project(0);
const EXPERIMENTS: u64 = 10;
const TAG: &str = "baseline";
/// Runs per transaction: about 20,000 rows.
const AT_ONCE: u64 = 50;
/// Transactions prepared while one is written.
const AHEAD: usize = 3;
/// Number of points of a series above which a run has its own transaction.
const LONG_FROM: u32 = 1_000;

pub(super) async fn project(content: Content, directory: &Path) {
    let store = Arc::new(new_store(directory).await);
    let starts = (0..content.runs).step_by(AT_ONCE as usize);
    let writes = stream::iter(starts.map(|start| {
        let end = content.runs.min(start + AT_ONCE);
        tokio::spawn(write_runs(store.clone(), content, start, end))
    }));
    let written = writes.buffered(AHEAD).try_for_each(async |end| {
        progress(end, content.runs);
        Ok(())
    });
    written.await.expect("writing does not panic");
    // Searches are measured as they are some seconds after the last run.
    collect_params(&store).await;
    store.sync().await.expect("the store syncs");
    store.close().await.expect("the store closes");
}

/// A store in an empty directory, with the experiments and the tag of the project.
async fn new_store(directory: &Path) -> EmbeddedStore {
    let store = EmbeddedStore::open(directory, Settings::default()).await.expect("a new store opens");
    format_open(&store).await.expect("the store is writable");
    entities(&store).await;
    store
}

/// Writes runs of a project with their params, but without series, to a store in an empty directory. No cohort has
/// their params yet.
pub(crate) async fn with_params(content: Content, directory: &Path) -> EmbeddedStore {
    let store = new_store(directory).await;
    for start in (0..content.runs).step_by(AT_ONCE as usize) {
        let mut transaction = begin(&store).await;
        for index in start..content.runs.min(start + AT_ONCE) {
            document(&mut transaction, content, index, &mut runs::random(content, index)).await;
        }
        commit(&store, transaction).await;
    }
    store
}

/// Stores the params of all runs in columns, as the job of a server does.
pub(crate) async fn collect_params(store: &EmbeddedStore) {
    let clock = || runs::created_us(0);
    let cohorts = ParamCohorts::new(store, &clock);
    let stop = CancellationToken::new();
    while cohorts.collect(PROJECT, 1, [1; 16], &stop).await.expect("the store can be written").has_more {}
}

/// Draws a progress bar, but only on a terminal: elsewhere, each step would be a line.
fn progress(done: u64, all: u64) {
    const WIDTH: u64 = 50;
    if !std::io::stderr().is_terminal() {
        return;
    }
    let bar = "#".repeat((done * WIDTH / all) as usize);
    let end = if done == all { "\n" } else { "" };
    let written = write!(std::io::stderr(), "\rgenerating runs [{bar:<50}] {done} of {all}{end}");
    written.and_then(|()| std::io::stderr().flush()).expect("standard error is writable");
}

async fn commit(store: &EmbeddedStore, transaction: Transaction) {
    let committed = store.commit(transaction.into_batch()).await.expect("the store takes a batch");
    assert!(matches!(committed, Commit::Done { .. }), "there are no concurrent writers");
}

async fn begin(store: &EmbeddedStore) -> Transaction {
    let mut transaction = Transaction::new(store.snapshot().await.expect("the store can be read"));
    transaction.set_buffered();
    transaction
}

fn experiment_id(number: u64) -> String {
    format!("{number:08x}-0000-4000-8000-000000000000")
}

async fn entities(store: &EmbeddedStore) {
    let mut transaction = begin(store).await;
    for number in 0..EXPERIMENTS {
        let experiment = Experiment { name: format!("experiment {number}"), ..Experiment::default() };
        let made = entity_create(&mut transaction, PROJECT, &experiment_id(number), &experiment).await;
        made.expect("the names differ");
    }
    let tag = Tag { name: TAG.to_owned(), ..Tag::default() };
    entity_create(&mut transaction, PROJECT, TAG, &tag).await.expect("the only tag");
    commit(store, transaction).await;
}

/// Writes the runs from `start` to `end`, and returns `end`.
async fn write_runs(store: Arc<EmbeddedStore>, content: Content, start: u64, end: u64) -> u64 {
    let mut transaction = begin(&store).await;
    let mut numbers = Vec::new();
    let mut sum = CounterIncrements::default();
    for index in start..end {
        numbers.push(run(&mut transaction, content, index, &mut sum).await);
        if content.points >= LONG_FROM {
            commit(&store, std::mem::replace(&mut transaction, begin(&store).await)).await;
        }
    }
    sum.add_to(transaction.batch());
    commit(&store, transaction).await;
    for number in numbers {
        fold(&store, number).await;
    }
    end
}

/// Increments for the counters of the project.
#[derive(Default)]
struct CounterIncrements {
    series: i64,
    points: i64,
    bytes: i64,
}

impl CounterIncrements {
    fn add_to(&self, batch: &mut Batch) {
        for (counter, count) in
            [(Counter::Series, self.series), (Counter::Points, self.points), (Counter::Bytes, self.bytes)]
        {
            batch.add(keys::project_counter(PROJECT, counter), count);
        }
    }
}

async fn run(
    transaction: &mut Transaction,
    content: Content,
    index: u64,
    sum: &mut CounterIncrements,
) -> RunNumber {
    let mut random = runs::random(content, index);
    let number = document(transaction, content, index, &mut random).await;
    let batch = transaction.batch();
    for series in 0..SERIES {
        let (name, context) = runs::series(series);
        let context = Context::parse(context).expect("generated contexts are valid");
        let header = MetricHeader { name, context: context.stored().to_owned(), dtype: "float".to_owned() };
        metric_series_create(batch, PROJECT, number, SeriesNumber(series), &header, &context.digest());
    }
    points(batch, content, index, number, sum, &mut random);
    number
}

/// Creates a run with everything but its series.
async fn document(
    transaction: &mut Transaction,
    content: Content,
    index: u64,
    random: &mut rand::rngs::StdRng,
) -> RunNumber {
    let created_us = runs::created_us(index);
    let id = RunId::new(run_id(index));
    let mut edit = run_create(transaction, PROJECT, &id, created_us).await.expect("the store can be read");
    let number = edit.number();
    let params = edit.params(transaction.unchecked()).await.expect("a new run has none yet");
    *params = runs::params(content, index, random);
    edit.props.set_created(created_us);
    edit.props.name = format!("run {index}");
    edit.props.active = false;
    edit.props.archived = index.is_multiple_of(50);
    edit.props.finalized_us = Some(created_us + 60_000_000);
    edit.props.experiment = Some(experiment_id(index % EXPERIMENTS));
    if index.is_multiple_of(10) {
        assert!(edit.tag_add(TAG), "a new run has room for a tag");
    }
    edit.write(transaction.batch());
    number
}

fn points(
    batch: &mut Batch,
    content: Content,
    index: u64,
    number: RunNumber,
    sum: &mut CounterIncrements,
    random: &mut rand::rngs::StdRng,
) {
    let written = runs::points(content, index, random);
    let mut writing = WritingState {
        series: SERIES,
        points: written.len() as u64,
        last_data_us: runs::created_us(index),
        ..WritingState::default()
    };
    for block in written.blocks() {
        writing.bytes += block.len() as u64;
        batch.set(keys::block(PROJECT, number, writing.next_block), block);
        writing.next_block += 1;
    }
    sum.series += i64::from(writing.series);
    sum.points += writing.points.cast_signed();
    sum.bytes += writing.bytes.cast_signed();
    writing_put(batch, PROJECT, number, &writing);
}

async fn fold(store: &EmbeddedStore, number: RunNumber) {
    let key = keys::document(PROJECT, number);
    let snapshot = store.snapshot().await.expect("the store can be read");
    let value = snapshot.get(&key).await.expect("the store can be read").expect("the run was just written");
    let index = RunRef { project: PROJECT, number };
    let folding = fold_run(store, index, &LiveRow { key, value }, true, &|| 0).await.expect("blocks fold");
    assert_eq!(folding, FoldStatus::Done, "there are no concurrent writers");
}
