//! Sorted lists while runs change in every way, compared with a sort of the runs that the test keeps in
//! memory.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use matyan_maintenance::{MetricCohorts, ParamCohorts};
use matyan_model::{
    change::change_put,
    entity::{EntityError, Experiment, entity_put},
    ids::{RunId, RunNumber, SeriesNumber},
    keys::{self, CohortKind, Counter, SeriesKind},
    metric::metric_series_find,
    run::{Head, head_live},
    series::{
        ABSENT, FoldStatus, LiveRow, Point, Removal, RunRef, StepRange, StepRemoval, WrittenPoints, fold_run,
        remove_folded_steps,
    },
};
use matyan_proto::{
    backup::v1::{
        BeginRunRequest, FinishRunRequest, ReadRunRequest, WriteRunRequest,
        backup_service_client::BackupServiceClient,
    },
    common::v1::SeriesKey,
    runs::v1::ParamPath,
    search::v1::{MetricValue, RunsRequest, Sort, SortField, sort::By},
};
use matyan_ql::Endpoint;
use matyan_store::{
    Batch, Commit, Key, Page, Range, Result as StoreResult, Scan, Snapshot, Store, Value, Version,
    embedded::EmbeddedStore,
};
use matyan_value::Context;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::search::{
    harness::{self, Harness, NOW_US, P, RunSpec, is_object},
    naive::{NaiveSearch, compare},
    random::{self, Random},
    table_contents::reindex,
};

/// A store with few rows in a page of the index of a metric, so that its values are read from cohorts.
struct ShortPagesStore(Arc<EmbeddedStore>);

struct ShortPagesSnapshot(Box<dyn Snapshot>);

#[async_trait]
impl Store for ShortPagesStore {
    async fn snapshot(&self) -> StoreResult<Box<dyn Snapshot>> {
        Ok(Box::new(ShortPagesSnapshot(self.0.snapshot().await?)))
    }

    async fn commit(&self, batch: Batch) -> StoreResult<Commit> {
        self.0.commit(batch).await
    }

    async fn sync(&self) -> StoreResult<()> {
        self.0.sync().await
    }

    async fn changed(&self, key: &Key, seen: Option<&Value>) -> StoreResult<()> {
        self.0.changed(key, seen).await
    }

    fn clears_ranges_at_once(&self) -> bool {
        self.0.clears_ranges_at_once()
    }

    fn is_remote(&self) -> bool {
        self.0.is_remote()
    }
}

#[async_trait]
impl Snapshot for ShortPagesSnapshot {
    async fn get(&self, key: &Key) -> StoreResult<Option<Value>> {
        self.0.get(key).await
    }

    async fn get_many(&self, keys: &[Key]) -> StoreResult<Vec<Option<Value>>> {
        self.0.get_many(keys).await
    }

    async fn scan(&self, range: &Range, scan: Scan) -> StoreResult<Page> {
        let index = keys::index_series_name_all(P, SeriesKind::Metric, "loss");
        let rows = if index.contains(&range.start) { scan.rows.min(3) } else { scan.rows };
        self.0.scan(range, Scan { rows, ..scan }).await
    }

    fn version(&self) -> Version {
        self.0.version()
    }
}

struct KnownRun {
    number: RunNumber,
    spec: RunSpec,
    next_block: u64,
}

/// A project whose runs change, and another one that runs are restored from.
struct Project {
    harness: Harness,
    source: Harness,
    random: Random,
    runs: BTreeMap<String, KnownRun>,
    created: u64,
    /// The names of the experiments, by those that they had first.
    names: BTreeMap<&'static str, String>,
}

fn backup(harness: &Harness) -> BackupServiceClient<Routes> {
    BackupServiceClient::new(harness.backend.clone().into_routes())
}

impl Project {
    async fn new(seed: u64) -> Self {
        let harness = Harness::new().await;
        let source = Harness::new().await;
        let names = ["baseline", "sweep", "rare"].map(|name| (name, name.to_owned())).into();
        let random = Random(seed);
        let runs = BTreeMap::new();
        let mut project = Self { harness, source, random, runs, created: 0, names };
        for _ in 0..60 {
            project.create().await;
        }
        project
    }

    fn next_spec(&mut self) -> RunSpec {
        self.created += 1;
        let mut spec = random::run(&mut self.random, self.created);
        spec.description = self.random.below(4).to_string();
        spec.experiment = spec.experiment.map(|name| self.names[name.as_str()].clone());
        spec
    }

    fn know(&mut self, number: RunNumber, spec: RunSpec) {
        self.runs.insert(spec.id.clone(), KnownRun { number, spec, next_block: 1_000 });
    }

    fn any(&mut self) -> Option<&mut KnownRun> {
        let at = self.random.below(self.runs.len() as u64);
        self.runs.values_mut().nth(usize::try_from(at).unwrap())
    }

    async fn create(&mut self) {
        let spec = self.next_spec();
        let number = self.harness.create(&spec).await;
        self.know(number, spec);
    }

    async fn change(&mut self) -> &'static str {
        let kind = self.random.below(10);
        match kind {
            0 => {
                self.create().await;
                "create"
            }
            1 => {
                self.restore().await;
                "restore"
            }
            2 => {
                self.rename_experiment().await;
                "rename"
            }
            3 => {
                if let Some(id) = self.any().map(|run| run.spec.id.clone()) {
                    self.runs.remove(&id);
                    self.harness.delete(&id).await;
                }
                "delete"
            }
            4 | 5 => {
                let value = self.random.below(600) as f64 / 100.0 - 2.0;
                let value = if self.random.below(8) == 0 { f64::NAN } else { value };
                self.log_point(value).await;
                if kind == 5 {
                    self.fold().await;
                }
                "log"
            }
            6 => {
                self.collect().await;
                "collect"
            }
            7 => {
                self.remove_steps().await;
                "remove"
            }
            _ => {
                let new = self.next_spec();
                let Some(run) = self.any() else { return "nothing" };
                let RunSpec { id, created_us, sequences, .. } = run.spec.clone();
                run.spec = RunSpec { id, created_us, sequences, ..new };
                let number = run.number;
                let spec = run.spec.clone();
                self.harness.change(number, &spec).await;
                "change"
            }
        }
    }

    /// Appends a point to the last metric series of a run.
    async fn log_point(&mut self, value: f64) {
        let Some(run) = self.any() else { return };
        let series = run.spec.sequences.iter().rposition(|it| !is_object(&it.dtype));
        let Some(series) = series else { return };
        let points = &mut run.spec.sequences[series].points;
        let step = points.last().map_or(0, |(step, _)| step + 1);
        points.push((step, value));
        let number = run.number;
        let sequence = run.next_block;
        run.next_block += 1;
        let mut written = WrittenPoints::default();
        let series = SeriesNumber(u32::try_from(series).unwrap());
        written.push(series, Point { step, value, epoch: ABSENT, time_us: step });
        let block = written.blocks().remove(0);
        self.harness
            .transact(async |transaction| {
                let batch = transaction.batch();
                batch.set(keys::block(P, number, sequence), block.clone());
                batch.set(keys::unfolded(P, number), Vec::new());
                change_put(batch, P, number, NOW_US, "");
                Ok(())
            })
            .await;
    }

    async fn fold(&mut self) {
        let Some(number) = self.any().map(|run| run.number) else { return };
        self.fold_run(number).await;
    }

    async fn fold_run(&self, number: RunNumber) {
        let id = self.runs.values().find(|run| run.number == number).map(|run| run.spec.id.clone());
        let id = RunId::new(id.unwrap());
        let live = LiveRow { key: keys::head(P, &id), value: Head::Live(number).encode() };
        let run = RunRef { project: P, number };
        let folded = Box::pin(fold_run(&*self.harness.store, run, &live, false, &|| NOW_US)).await.unwrap();
        assert_eq!(folded, FoldStatus::Done);
    }

    /// Collects the values of ended runs whose points are folded, and params.
    async fn collect(&mut self) {
        for number in self.runs.values().map(|run| run.number).collect::<Vec<_>>() {
            if self.random.below(3) > 0 {
                self.fold_run(number).await;
                self.harness
                    .transact(async |transaction| {
                        transaction.batch().clear(keys::unfolded(P, number));
                        Ok(())
                    })
                    .await;
            }
        }
        let cohorts = MetricCohorts::new(&*self.harness.store, &|| NOW_US).of_runs(5);
        let stop = CancellationToken::new();
        cohorts.collect(P, [7; 16], &stop).await.unwrap();
        cohorts.merge(P, [7; 16], &stop).await.unwrap();
        let cohorts = ParamCohorts::new(&*self.harness.store, &|| NOW_US).of_runs(5);
        cohorts.collect(P, 3, [7; 16], &stop).await.unwrap();
        cohorts.merge(P, [7; 16], &stop).await.unwrap();
    }

    /// A backend that was just started, and has no columns yet.
    async fn started(&self) -> Harness {
        let store = self.harness.store.clone();
        let layer = Arc::new(ShortPagesStore(store.clone()));
        Harness::over(store, layer, tempfile::tempdir().unwrap()).await
    }

    /// Damages all rows in a range.
    async fn damage(&self, range: &Range) {
        let snapshot = self.harness.store.snapshot().await.unwrap();
        let rows = snapshot.scan(range, Scan::default()).await.unwrap().rows;
        assert!(!rows.is_empty());
        let mut batch = Batch::default();
        for (key, _) in rows {
            batch.set(key, vec![9]);
        }
        self.harness.store.commit(batch).await.unwrap();
    }

    /// Removes the summaries of runs whose values are in cohorts, and returns how many.
    async fn remove_collected_summaries(&self) -> usize {
        let snapshot = self.harness.store.snapshot().await.unwrap();
        let mut batch = Batch::default();
        for run in self.runs.values() {
            let number = run.number;
            let cohort = snapshot.get(&keys::run_cohort(CohortKind::Metrics, P, number)).await.unwrap();
            let others = [
                keys::uncollected(CohortKind::Metrics, P, keys::ListGeneration::FIRST, number),
                keys::unfolded(P, number),
                keys::branch(P, number),
            ];
            let others = snapshot.get_many(&others).await.unwrap();
            if cohort.is_some() && others.iter().all(Option::is_none) {
                for series in 0..run.spec.sequences.len() {
                    let key = keys::series_summary(P, number, SeriesNumber(u32::try_from(series).unwrap()));
                    if snapshot.get(&key).await.unwrap().is_some() {
                        batch.clear(key);
                    }
                }
            }
        }
        let removed = batch.mutations.len();
        self.harness.store.commit(batch).await.unwrap();
        removed
    }

    async fn damage_counter_of_runs(&self) {
        let mut batch = Batch::default();
        batch.set(keys::project_counter(P, Counter::Runs), vec![9]);
        self.harness.store.commit(batch).await.unwrap();
    }

    /// Compares a list with a sort of the runs as the test knows them.
    async fn check(&self, harness: &Harness, query: &str, sort: &[Sort], place: &str) {
        let specs = self.runs.values().map(|run| &run.spec);
        let mut expected = NaiveSearch::new(query, Endpoint::Run).runs(specs);
        expected.sort_by(|a, b| compare(a, b, sort));
        let expected: Vec<&str> = expected.iter().map(|run| run.id.as_str()).collect();
        let list = RunsRequest { sort: sort.to_vec(), ..harness::runs_request(query) };
        let found = harness.runs(list.clone()).await.unwrap();
        assert_eq!(found.ids(), expected, "{place}: {list:?}");
    }

    /// Removes the first step of the first metric series of a run.
    async fn remove_steps(&mut self) {
        let Some(run) = self.any() else { return };
        let sequence = run.spec.sequences.iter_mut().find(|it| !is_object(&it.dtype));
        let Some(sequence) = sequence.filter(|it| it.points.len() > 1) else { return };
        let (last_removed, _) = sequence.points.remove(0);
        let name = sequence.name.clone();
        let digest = Context::new(&sequence.context).digest();
        let number = run.number;
        self.fold_run(number).await;
        // A restored run has other numbers.
        let snapshot = self.harness.store.snapshot().await.unwrap();
        let series = metric_series_find(&*snapshot, P, number, &name, &digest).await.unwrap().unwrap();
        drop(snapshot);
        let run = RunRef { project: P, number };
        let steps = StepRange::new(i64::MIN, last_removed);
        self.harness
            .transact(async |transaction| {
                let mut batch = Batch::default();
                let removal = StepRemoval { run, series, steps, now_us: NOW_US };
                let removed = remove_folded_steps(transaction.unchecked(), &mut batch, removal).await?;
                assert_eq!(removed, Removal::Done);
                change_put(&mut batch, P, number, NOW_US, "");
                transaction.batch().mutations.append(&mut batch.mutations);
                Ok(())
            })
            .await;
    }

    async fn rename_experiment(&mut self) {
        let at = self.random.below(3) as usize;
        let (first, name) = self.names.iter().nth(at).map(|(first, name)| (*first, name.clone())).unwrap();
        let id = format!("experiment-{first}");
        let renamed = format!("{}{first}", self.random.below(100));
        self.harness
            .transact(async |transaction| {
                let put = entity_put::<Experiment, EntityError>(transaction, P, &id, |it| {
                    it.name.clone_from(&renamed);
                    Ok(())
                });
                put.await.unwrap();
                Ok(())
            })
            .await;
        for run in self.runs.values_mut().filter(|run| run.spec.experiment.as_ref() == Some(&name)) {
            run.spec.experiment = Some(renamed.clone());
        }
        self.names.insert(first, renamed);
    }

    /// Creates a run in the other project, and restores it here.
    async fn restore(&mut self) {
        let experiment = None;
        let tags = Vec::new();
        let spec = RunSpec { experiment, tags, pending_delete: false, ..self.next_spec() };
        self.source.create(&spec).await;
        let id = spec.id.clone();
        let source = vec![5; 32];
        let mut messages =
            backup(&self.source).read_run(ReadRunRequest { run_id: id.clone() }).await.unwrap().into_inner();
        let mut head = None;
        let mut pieces = Vec::new();
        while let Some(message) = messages.message().await.unwrap() {
            head = head.or(message.head);
            pieces.extend(message.pieces);
        }
        let mut client = backup(&self.harness);
        let created_us = head.as_ref().unwrap().created_us;
        let begin =
            BeginRunRequest { run_id: id.clone(), source: source.clone().into(), created_us, dry_run: false };
        client.begin_run(begin).await.unwrap();
        let write =
            WriteRunRequest { run_id: id.clone(), source: source.clone().into(), pieces, position: 1 };
        client.write_run(futures::stream::iter([write])).await.unwrap();
        let finish = FinishRunRequest { run_id: id.clone(), source: source.into(), head, cut: None };
        client.finish_run(finish).await.unwrap();
        let snapshot = self.harness.store.snapshot().await.unwrap();
        let number = head_live(&*snapshot, P, &RunId::new(id)).await.unwrap().unwrap();
        self.know(number, spec);
    }
}

fn keys_of_lists() -> Vec<Sort> {
    let field = |field: SortField| By::Field(field.into());
    let param =
        |path: &[&str]| By::Param(ParamPath { segments: path.iter().map(ToString::to_string).collect() });
    let metric = |context: &str| By::Metric(SeriesKey { name: "loss".into(), context: context.into() });
    let sort = |by| Sort { by: Some(by), ..Sort::default() };
    let mut keys: Vec<Sort> = [
        field(SortField::Created),
        field(SortField::Duration),
        field(SortField::Name),
        field(SortField::RunId),
        field(SortField::Experiment),
        field(SortField::Description),
        field(SortField::Ended),
        field(SortField::Outcome),
        field(SortField::Tags),
        param(&["hparams", "lr"]),
        param(&["hparams", "seed"]),
        param(&["top"]),
        param(&["note"]),
    ]
    .map(sort)
    .into();
    for value in [MetricValue::Last, MetricValue::First, MetricValue::Min, MetricValue::Max] {
        let sort = |context| Sort { metric_value: value.into(), ..sort(metric(context)) };
        keys.extend([sort("{}"), sort(r#"{"subset": "val", "fold": 1}"#)]);
    }
    keys
}

#[tokio::test]
async fn lists_are_sorted_by_the_values_that_runs_have_now() {
    for seed in [21, 22] {
        let mut project = Project::new(seed).await;
        let keys = keys_of_lists();
        let mut changes: BTreeMap<&str, u32> = BTreeMap::new();
        for round in 0..60 {
            for _ in 0..=project.random.below(3) {
                *changes.entry(project.change().await).or_default() += 1;
            }
            let started = if round % 2 == 0 { Some(project.started().await) } else { None };
            for _ in 0..3 {
                let mut key = || Sort {
                    descending: project.random.below(2) == 0,
                    ..keys[project.random.below(keys.len() as u64) as usize].clone()
                };
                let sort = vec![key(), key()];
                let query = ["", "run.archived in (True, False)", "run.hparams.seed > 5"][round % 3];
                let place = format!("seed {seed}, round {round}, {changes:?}");
                project.check(&project.harness, query, &sort, &place).await;
                if let Some(started) = &started {
                    project.check(started, query, &sort, &place).await;
                }
            }
        }
        project.damage(&keys::cohort_columns_all(P)).await;
        let by_metric: Vec<_> =
            keys.iter().filter(|key| matches!(key.by, Some(By::Metric(_)))).cloned().collect();
        let started = project.started().await;
        for sort in by_metric.chunks(2) {
            project.check(&started, "", sort, "damaged cohorts").await;
        }
        project.damage(&keys::cohorts(CohortKind::Params, P)).await;
        let is_param = |key: &&Sort| matches!(key.by, Some(By::Param(_)));
        let by_param: Vec<_> = keys.iter().filter(is_param).cloned().collect();
        let started = project.started().await;
        for query in ["", "run.hparams.seed > 5"] {
            for sort in by_param.chunks(2) {
                project.check(&started, query, sort, "damaged cohorts of params").await;
            }
        }
        reindex(&project.harness).await;
        let snapshot = project.harness.store.snapshot().await.unwrap();
        let cohorts = snapshot.scan(&keys::cohorts(CohortKind::Metrics, P), Scan::default()).await.unwrap();
        assert!(cohorts.rows.is_empty(), "cohorts with damage are cleared");
        project.collect().await;
        let started = project.started().await;
        for sort in by_metric.chunks(2) {
            project.check(&started, "", sort, "cohorts made again").await;
        }
        assert!(project.remove_collected_summaries().await > 20);
        let started = project.started().await;
        for sort in by_metric.chunks(2) {
            project.check(&started, "", sort, "values that only cohorts have").await;
        }
        project.damage_counter_of_runs().await;
        let started = project.started().await;
        for query in ["", "run.hparams.seed > 5", "run.archived in (True, False)"] {
            project.check(&started, query, &by_metric[..2], "a damaged counter of runs").await;
        }
        assert!(changes.len() == 8 && changes.values().all(|count| *count > 3), "{changes:?}");
    }
}
