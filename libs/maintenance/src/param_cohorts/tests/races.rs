//! Runs whose params change at any moment while they are collected, merged and read. The params are compared
//! with the documents of the runs.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};

use matyan_model::{
    index::MAX_TEXT_BYTES,
    param_cohort::ParamReader,
    params::{IndexedParam, ParamInterval},
    position::LogPosition,
    run::{
        Deletion, Head, RunEdit, bin_put, bin_restore, document_get, params_get, run_create, run_delete,
        sweep_step,
    },
    uncollected::uncollected_renew,
};
use matyan_store::Batch;
use matyan_value::{Map, Value as Tree};

use super::{format_6::make_indexed, *};
use crate::{
    COLLECT_PARAMS, JobLock,
    testing::{ChangingRuns, Random},
};

const NAMES: [&str; 3] = ["lr", "name", "rare"];
const COHORT: usize = 4;

struct Known {
    random: Random,
    /// The ids of runs, and whether they are deleted.
    runs: BTreeMap<RunNumber, (RunId, bool)>,
    /// Runs that have changed since this was cleared.
    changed: BTreeSet<RunNumber>,
    created: i64,
    counts: BTreeMap<&'static str, u32>,
}

type ChangingStore = crate::testing::ChangingStore<Known>;

impl ChangingRuns for Known {
    fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    async fn change(&mut self, store: &ChangingStore) {
        store.change(self).await;
    }
}

fn tree(random: &mut Random) -> Map {
    let mut tree = Map::new();
    let lr = match random.below(4) {
        0 => Tree::Float(0.5),
        1 => Tree::Null,
        2 => Tree::Bool(true),
        _ => Tree::Integer(random.below(4).cast_signed()),
    };
    tree.insert("lr".to_owned(), lr);
    let name = ["adam", "sgd"][random.below(2) as usize];
    if random.below(3) > 0 {
        tree.insert("name".to_owned(), Tree::Text(name.to_owned()));
    }
    if random.below(5) == 0 {
        tree.insert("rare".to_owned(), Tree::Text("x".repeat(200 + random.below(100) as usize)));
    }
    tree
}

impl ChangingStore {
    async fn open(seed: u64) -> Arc<Self> {
        let known = Known {
            random: Random(seed),
            runs: BTreeMap::new(),
            changed: BTreeSet::new(),
            created: 0,
            counts: BTreeMap::new(),
        };
        Self::with_runs(known).await
    }

    async fn change(&self, known: &mut Known) {
        let kind = known.random.below(9);
        let live: Vec<_> =
            known.runs.iter().filter(|(_, (_, is_deleted))| !is_deleted).map(|(it, _)| *it).collect();
        if kind == 0 || live.len() < 16 {
            return self.create(known, false).await;
        }
        let number = live[known.random.below(live.len() as u64) as usize];
        let name = match kind {
            1..=4 => self.change_params(known, number).await,
            5 => self.delete(known, number).await,
            6 => self.sweep(known).await,
            _ => self.move_to_bin_and_back(number).await,
        };
        *known.counts.entry(name).or_default() += 1;
    }

    async fn create(&self, known: &mut Known, is_indexed: bool) {
        known.created += 1;
        let created_us = known.created * 1_000;
        let id = RunId::new(format!("r{}", known.created));
        let mut tree = tree(&mut known.random);
        if is_indexed {
            tree.remove("rare");
        }
        let mut created = RunNumber::default();
        self.write(async |transaction| {
            let mut edit = run_create(transaction, P, &id, created_us).await?;
            created = edit.number();
            edit.params(transaction.unchecked()).await?.clone_from(&tree);
            edit.write(transaction.batch());
            Ok(())
        })
        .await;
        if is_indexed {
            make_indexed(&self.store, created, &tree).await;
            let mut batch = Batch::default();
            batch.set(keys::indexed_params(P, created), Vec::new());
            self.store.commit(batch).await.unwrap();
        }
        known.runs.insert(created, (id, false));
        known.changed.insert(created);
        *known.counts.entry("create").or_default() += 1;
    }

    async fn change_params(&self, known: &mut Known, number: RunNumber) -> &'static str {
        let tree = tree(&mut known.random);
        self.write(async |transaction| {
            let mut edit = RunEdit::load(transaction, P, number).await?.unwrap();
            edit.params(transaction.unchecked()).await?.clone_from(&tree);
            edit.touch(1);
            edit.write(transaction.batch());
            Ok(())
        })
        .await;
        known.changed.insert(number);
        "change"
    }

    async fn delete(&self, known: &mut Known, number: RunNumber) -> &'static str {
        let (id, is_deleted) = known.runs.get_mut(&number).unwrap();
        *is_deleted = true;
        let id = id.clone();
        let head = Head::Live(number);
        let at = LogPosition::default();
        self.write(async |transaction| {
            let deletion = Deletion { at, time_us: 5, now_us: 5, caller: "", project_name: "" };
            run_delete(transaction, P, &id, Some(&head), deletion).await?;
            Ok(())
        })
        .await;
        "delete"
    }

    /// Does a step of the sweep of a deleted run.
    async fn sweep(&self, known: &mut Known) -> &'static str {
        let deleted: Vec<_> =
            known.runs.iter().filter(|(_, (_, is_deleted))| *is_deleted).map(|(it, _)| *it).collect();
        if !deleted.is_empty() {
            let number = deleted[known.random.below(deleted.len() as u64) as usize];
            sweep_step(&self.store, P, number).await.unwrap();
        }
        "sweep"
    }

    async fn move_to_bin_and_back(&self, number: RunNumber) -> &'static str {
        self.write(async |transaction| {
            if !bin_put(transaction, P, number, 9).await? {
                bin_restore(transaction, P, number, 9).await?;
            }
            Ok(())
        })
        .await;
        "bin"
    }

    /// Reads the values of a param while runs change, and compares the values of runs that have not changed
    /// in the meantime with their documents. Returns the number of values that columns had.
    async fn check(&self, name: &'static str) -> usize {
        self.known.lock().await.changed.clear();
        let path = [Cow::Borrowed(name)];
        let mut reader = ParamReader::new(P, &path).with_page_columns(1);
        let mut read: BTreeMap<RunNumber, BTreeSet<String>> = BTreeMap::new();
        let mut unknown = BTreeSet::new();
        loop {
            let snapshot = self.snapshot().await.unwrap();
            let Some(page) = reader.next(&*snapshot).await.unwrap() else { break };
            page.visit(&mut |number, value| match value {
                Some(value) => {
                    read.entry(number).or_default().insert(format!("{value:?}"));
                }
                None => {
                    unknown.insert(number);
                }
            })
            .unwrap();
            if self.known.lock().await.random.below(8) == 0 {
                self.collect(&self.store).await;
            }
        }
        let known = self.known.lock().await;
        for number in known.unchanged() {
            let expected = self.param(number, name).await.map(|value| format!("{value:?}"));
            let found = read.get(&number).map(|values| values.iter().cloned().collect::<Vec<_>>());
            match found {
                Some(values) => {
                    assert_eq!(Some(values), expected.map(|value| vec![value]), "{number} {name}")
                }
                None => assert!(unknown.contains(&number) || expected.is_none(), "{number} {name}"),
            }
        }
        read.len()
    }

    /// Looks for a value while runs change.
    async fn check_find(&self) {
        self.known.lock().await.changed.clear();
        let interval = ParamInterval::Numbers { low: Bound::Included(1.0), high: Bound::Excluded(3.0) };
        let mut reader =
            ParamReader::within(P, &[Cow::Borrowed("lr")], vec![interval]).unwrap().with_page_columns(1);
        let mut found = Vec::new();
        let mut unknown = Vec::new();
        loop {
            let snapshot = self.snapshot().await.unwrap();
            let Some(page) = reader.next(&*snapshot).await.unwrap() else { break };
            page.find(&mut found, &mut unknown).unwrap();
        }
        let known = self.known.lock().await;
        for number in known.unchanged() {
            let is_match = match self.param(number, "lr").await {
                Some(IndexedParam::Bool(value)) => value,
                Some(IndexedParam::Integer(value)) => (1..3).contains(&value),
                _ => false,
            };
            assert!(unknown.contains(&number) || found.contains(&number) == is_match, "{number}");
        }
    }

    /// A param of a run, by its document.
    async fn param(&self, number: RunNumber, name: &str) -> Option<IndexedParam<'static>> {
        let snapshot = self.store.snapshot().await.unwrap();
        let document = document_get(&*snapshot, P, number).await.unwrap()?;
        let tree = params_get(&*snapshot, P, number, &document).await.unwrap();
        Some(match tree.get(name)? {
            Tree::Null => IndexedParam::Null,
            Tree::Bool(value) => IndexedParam::Bool(*value),
            Tree::Integer(value) => IndexedParam::Integer(*value),
            Tree::Float(value) => IndexedParam::Float(*value),
            Tree::Text(text) if text.len() > MAX_TEXT_BYTES => return None,
            Tree::Text(text) => IndexedParam::Text(text.clone().into()),
            other => panic!("{other:?}"),
        })
    }

    /// Takes one step of renewing the list, like a job that is then interrupted.
    async fn renew_list(&self, store: &dyn Store) {
        let clock = || NOW_US;
        let mut lock = JobLock::acquire(store, &clock, COLLECT_PARAMS, P, [4; 16]).await.unwrap();
        let renew = async |mut transaction: Transaction| {
            let is_done = uncollected_renew(&mut transaction, CohortKind::Params, P).await?;
            Ok::<_, Error>((transaction, is_done))
        };
        lock.write(renew).await.unwrap();
        lock.release(Ok::<_, Error>(())).await.unwrap();
    }

    async fn collect(&self, store: &dyn Store) {
        let stop = CancellationToken::new();
        let cohorts = ParamCohorts::new(store, &|| NOW_US).of_runs(COHORT);
        cohorts.collect(P, 2, [1; 16], &stop).await.unwrap();
        if self.known.lock().await.random.below(4) == 0 {
            self.renew_list(store).await;
        }
        cohorts.merge(P, [2; 16], &stop).await.unwrap();
    }
}

impl Known {
    fn unchanged(&self) -> Vec<RunNumber> {
        let live = self.runs.iter().filter(|(_, (_, is_deleted))| !is_deleted).map(|(number, _)| *number);
        live.filter(|number| !self.changed.contains(number)).collect()
    }
}

#[tokio::test]
async fn rule_133_params_are_those_of_documents_whatever_changes() {
    for seed in 1..=4_u64 {
        let changing = ChangingStore::open(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)).await;
        let mut collected = 0;
        for round in 0..60_usize {
            for _ in 0..6 {
                let mut known = changing.known.lock().await;
                changing.change(&mut known).await;
            }
            // Not while the job works: it clears index rows once no listed run has any, because no run gets
            // new ones.
            changing.create(&mut *changing.known.lock().await, true).await;
            if round % 2 == 0 {
                changing.collect(&*changing).await;
            }
            collected += changing.check(NAMES[round % NAMES.len()]).await;
            changing.check_find().await;
        }
        let known = changing.known.lock().await;
        assert!(collected > 100, "{collected}");
        assert!(
            known.counts.len() == 5 && known.counts.values().all(|count| *count > 5),
            "{:?}",
            known.counts
        );
    }
}
