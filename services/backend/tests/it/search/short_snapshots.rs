//! Snapshots that expire in the middle of reads, and runs that change between two snapshots:
//! responses are still complete, and each run is as of one snapshot.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use matyan_model::keys::{self, Counter, EntityKind};
use matyan_proto::{
    admin::v1::{ReindexRequest, admin_service_client::AdminServiceClient},
    common::v1::SeriesType,
    objects::v1::Selection,
    project::v1::{ParamsRequest, project_service_client::ProjectServiceClient},
    runs::v1::{ListRequest, Run, run_service_client::RunServiceClient},
    search::v1::{
        MetricsRequest, ObjectsRequest, RunsRequest, Sort, SortField, metrics_request::Points, sort::By,
    },
    series::v1::{BucketsRequest, PointsRequest, RunSelection, SampleRequest},
};
use matyan_store::{
    Batch, Commit, Error, Key, Page, Range, Result, Scan, Snapshot, Store, Value, Version,
    embedded::EmbeddedStore,
};

use tokio::runtime::Handle;

use crate::search::harness::{self, Harness, P, RunSpec, Sequence, map, spec};

/// A store whose snapshots expire after a number of reads.
struct ShortLivedStore {
    store: Arc<EmbeddedStore>,
    reads: Arc<AtomicU64>,
    /// A key that is never read in time.
    late: Option<Key>,
}

struct ShortLivedSnapshot {
    snapshot: Box<dyn Snapshot>,
    left: AtomicU64,
    late: Option<Key>,
}

impl ShortLivedSnapshot {
    fn read(&self) -> Result<()> {
        let left = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        left.map(drop).map_err(|_| Error::SnapshotTooOld)
    }
}

#[async_trait]
impl Store for ShortLivedStore {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>> {
        let left = AtomicU64::new(self.reads.load(Ordering::Relaxed));
        let late = self.late.clone();
        Ok(Box::new(ShortLivedSnapshot { snapshot: self.store.snapshot().await?, left, late }))
    }

    async fn commit(&self, batch: Batch) -> Result<Commit> {
        self.store.commit(batch).await
    }

    async fn sync(&self) -> Result<()> {
        self.store.sync().await
    }

    async fn changed(&self, key: &Key, seen: Option<&Value>) -> Result<()> {
        self.store.changed(key, seen).await
    }

    fn clears_ranges_at_once(&self) -> bool {
        self.store.clears_ranges_at_once()
    }

    fn is_remote(&self) -> bool {
        self.store.is_remote()
    }
}

#[async_trait]
impl Snapshot for ShortLivedSnapshot {
    async fn get(&self, key: &Key) -> Result<Option<Value>> {
        self.read()?;
        if self.late.as_ref() == Some(key) {
            return Err(Error::SnapshotTooOld);
        }
        self.snapshot.get(key).await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Value>>> {
        self.read()?;
        self.snapshot.get_many(keys).await
    }

    async fn scan(&self, range: &Range, scan: Scan) -> Result<Page> {
        self.read()?;
        self.snapshot.scan(range, scan).await
    }

    fn version(&self) -> Version {
        self.snapshot.version()
    }
}

/// A harness whose snapshots each allow the given number of reads, once that number is set.
async fn short_lived() -> (Harness, Arc<AtomicU64>) {
    short_lived_with(None).await
}

async fn short_lived_with(late: Option<Key>) -> (Harness, Arc<AtomicU64>) {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path().join("store"), Default::default()).await.unwrap();
    let store = Arc::new(store);
    let reads = Arc::new(AtomicU64::new(u64::MAX));
    let layer = Arc::new(ShortLivedStore { store: store.clone(), reads: reads.clone(), late });
    (Harness::over(store, layer, directory).await, reads)
}

/// A run whose params are stored in separate rows.
fn large(id: &str, at: i64) -> RunSpec {
    let mut run = spec(id, at);
    let seed = at % 7;
    let text = "x".repeat(20_000);
    run.params = map(&format!(r#"{{"at":{at},"x":{{"seed":{seed}}},"b":1,"c":2,"text":"{text}"}}"#));
    run
}

async fn list(harness: &Harness, page_size: u32) -> Vec<Run> {
    let mut client = RunServiceClient::new(harness.backend.clone().into_routes());
    let mut runs = Vec::new();
    let mut page_token = String::new();
    loop {
        let request =
            ListRequest { page_size, page_token, parts: harness::all_parts(), ..ListRequest::default() };
        let page = client.list(request).await.unwrap().into_inner();
        runs.extend(page.runs);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return runs;
        }
    }
}

fn ids(runs: &[Run]) -> Vec<&str> {
    runs.iter().map(|run| run.run_id.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_are_found_and_listed_with_short_lived_snapshots() {
    let (harness, reads) = short_lived().await;
    for at in 0..400 {
        harness.create(&large(&format!("r{at:03}"), at)).await;
    }
    let all: Vec<String> = (0..400).rev().map(|at| format!("r{at:03}")).collect();
    // Columns are read once the first documents had no match, and take six reads, the
    // minimum that a snapshot allows here.
    for life in [6, 12, 40, 1_000] {
        reads.store(life, Ordering::Relaxed);
        assert_eq!(ids(&list(&harness, 100).await), all, "{life}");
        let text = "run.x.seed + 0 == 3 and run.at + 0 < 50 and run.b + run.c == 3";
        let request = RunsRequest { parts: harness::all_parts(), ..harness::runs_request(text) };
        let found = harness.runs(request).await.unwrap();
        assert_eq!(found.ids(), ["r045", "r038", "r031", "r024", "r017", "r010", "r003"], "{life}");
    }
    reads.store(12, Ordering::Relaxed);
    assert!(project_params(&harness).await.0.contains_key("at"));
}

/// Counting the rows of a hundred probes takes more reads than a snapshot allows.
#[tokio::test(flavor = "multi_thread")]
async fn a_plan_needs_no_snapshot_that_lives_long() {
    let (harness, reads) = short_lived().await;
    for at in 0..20 {
        harness.create(&large(&format!("r{at:02}"), at)).await;
    }
    reads.store(6, Ordering::Relaxed);
    let text: Vec<String> = (10..110).map(|at| format!("run.at == {at}")).collect();
    let request = harness::runs_request(&text.join(" or "));
    let found = harness.runs(request).await.unwrap();
    assert_eq!(found.ids(), (10..20).rev().map(|at| format!("r{at}")).collect::<Vec<_>>());
}

/// The merged params, and the number of merged names of series.
async fn project_params(harness: &Harness) -> (matyan_value::Map, usize) {
    let mut client = ProjectServiceClient::new(harness.backend.clone().into_routes());
    let mut messages = client.params(ParamsRequest::default()).await.unwrap().into_inner();
    let mut params = Vec::new();
    let mut names = 0;
    while let Some(message) = messages.message().await.unwrap() {
        params.extend_from_slice(&message.params);
        names += message.types.iter().map(|of| of.names.len()).sum::<usize>();
    }
    (matyan_value::cbor::decode_map(&params).unwrap(), names)
}

/// A snapshot allows a few of the reads that the names of this run take: the run and a page of its metrics, or such
/// a page and the object series after it.
#[tokio::test(flavor = "multi_thread")]
async fn names_of_a_wide_run_are_merged_with_short_lived_snapshots() {
    let (harness, reads) = short_lived().await;
    let number = harness.create(&spec("wide", 1)).await;
    harness.widen(number, 15).await;
    reads.store(3, Ordering::Relaxed);
    assert_eq!(project_params(&harness).await.1, 15_000);
}

/// Runs created at the same time are sorted by id, even if they are read from many snapshots.
#[tokio::test(flavor = "multi_thread")]
async fn pages_by_date_are_in_order_with_short_lived_snapshots() {
    let (harness, reads) = short_lived().await;
    for at in 0..60 {
        // Ids are not in the order of run numbers.
        harness.create(&RunSpec { created_us: 5, ..large(&format!("r{:02}", at * 7 % 60), at) }).await;
    }
    reads.store(24, Ordering::Relaxed);
    let by = Some(By::Field(SortField::Created.into()));
    let mut all: Vec<String> = Vec::new();
    let mut after_run_id = String::new();
    loop {
        let sort = vec![Sort { by: by.clone(), descending: false, ..Sort::default() }];
        let request = RunsRequest { sort, limit: 9, after_run_id, ..harness::runs_request("run.at >= 0") };
        let found = harness.runs(request).await.unwrap();
        assert!(all.is_empty() || found.places.iter().all(Option::is_none), "the index does not count ranks");
        all.extend(found.ids().iter().map(ToString::to_string));
        if found.runs.len() < 9 {
            break;
        }
        after_run_id = all.last().cloned().unwrap();
    }
    assert_eq!(all, (0..60).map(|at| format!("r{at:02}")).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn series_are_read_with_short_lived_snapshots() {
    let (harness, reads) = short_lived().await;
    let mut run = spec("r", 1);
    for at in 0..300 {
        run.sequences.push(Sequence {
            name: format!("m{at:03}"),
            context: map("{}"),
            dtype: "float".into(),
            points: (0..40).map(|step| (step, at as f64)).collect(),
        });
    }
    harness.create(&run).await;
    let runs =
        || vec![RunSelection { run_id: "r".into(), numbers: (0..300).collect(), ..Default::default() }];
    // With this many pixels and points, sixty series are read at a time, and not all of them
    // from one snapshot. Charts are read in two parts at a time, of thirty series each.
    let mut client = harness.series();
    let expected: Vec<String> = run.sequences.iter().map(|it| it.name.clone()).collect();
    // Thirty reads are not enough for a part.
    for life in [400, 30] {
        reads.store(life, Ordering::Relaxed);
        let request = BucketsRequest { runs: runs(), pixels: 1_000, ..BucketsRequest::default() };
        let mut messages = client.buckets(request).await.unwrap().into_inner();
        let mut names = Vec::new();
        while let Some(message) = messages.message().await.unwrap() {
            names.extend(message.series.into_iter().map(|series| series.info.unwrap().name));
        }
        assert_eq!(names, expected, "{life}");
    }
    reads.store(400, Ordering::Relaxed);
    for density in [1_000, 0] {
        let request = SampleRequest { runs: runs(), density, ..SampleRequest::default() };
        let mut messages = client.sample(request).await.unwrap().into_inner();
        let mut names = Vec::new();
        while let Some(message) = messages.message().await.unwrap() {
            for series in message.series {
                assert_eq!(series.steps.len(), 40);
                names.push(series.info.unwrap().name);
            }
        }
        assert_eq!(names, expected, "density {density}");
    }
    let request = PointsRequest { run: runs().pop(), ..PointsRequest::default() };
    let mut messages = client.points(request).await.unwrap().into_inner();
    let mut points = 0;
    while let Some(message) = messages.message().await.unwrap() {
        points += message.points.unwrap().values.len();
    }
    assert_eq!(points, 300 * 40);
    // All points of 300 series take a read each: more than three snapshots allow, long
    // before a message is full.
    reads.store(100, Ordering::Relaxed);
    for points in [Points::Density(50), Points::Density(0), Points::Pixels(50), Points::None(true)] {
        let request =
            MetricsRequest { query: harness::query(""), points: Some(points), ..MetricsRequest::default() };
        let row = harness.metrics(request).await.unwrap().remove(0);
        assert_eq!(row.points.len() + row.buckets.len() + row.series.len(), 300);
    }
}

/// Many sequences with few objects, each read individually, long before a message is full.
#[tokio::test(flavor = "multi_thread")]
async fn objects_are_read_with_short_lived_snapshots() {
    let (harness, reads) = short_lived().await;
    let sequence = |at: i64| Sequence {
        name: format!("t{at:03}"),
        context: map("{}"),
        dtype: "text".into(),
        points: vec![(0, at as f64), (1, 0.5)],
    };
    let sequences: Vec<Sequence> = (0..100).map(sequence).collect();
    harness.create(&RunSpec { sequences, ..spec("r", 1) }).await;
    reads.store(20, Ordering::Relaxed);
    for record_density in [0, 1, 2] {
        let selection = Some(Selection { record_density, ..Selection::default() });
        let query = harness::query("");
        let of = SeriesType::Texts.into();
        let request = ObjectsRequest { query, r#type: of, selection, ..ObjectsRequest::default() };
        let row = harness.objects(request).await.unwrap().remove(0);
        let names: Vec<_> = row.sequences.iter().map(|it| it.name.clone()).collect();
        assert_eq!(names, (0..100).map(|at| format!("t{at:03}")).collect::<Vec<_>>());
        let steps = if record_density == 1 { 1 } else { 2 };
        assert!(row.sequences.iter().all(|it| it.steps.len() == steps), "{record_density}");
    }
}

/// A store in which one run is changed completely each time a snapshot is taken.
struct ChangingStore {
    store: Arc<EmbeddedStore>,
    harness: Harness,
    number: matyan_model::ids::RunNumber,
    round: AtomicU64,
}

impl ChangingStore {
    /// The state of the run in a round. Its params are alternately in the document and in
    /// separate rows.
    fn at(round: u64) -> RunSpec {
        let at = round.cast_signed();
        let mut run = RunSpec { name: format!("name {round}"), ..large("r", at) };
        if round.is_multiple_of(2) {
            run.params = map(&format!(r#"{{"at":{at}}}"#));
        }
        run
    }

    async fn harness(round: u64) -> Harness {
        let harness = Harness::new().await;
        let number = harness.create(&Self::at(round)).await;
        let store = harness.store.clone();
        let layer =
            Arc::new(Self { store: store.clone(), harness, number, round: AtomicU64::new(round + 1) });
        Harness::over(store, layer, tempfile::tempdir().unwrap()).await
    }
}

#[async_trait]
impl Store for ChangingStore {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>> {
        let round = self.round.fetch_add(1, Ordering::Relaxed);
        // Blocks, because the compiler cannot prove that this future is `Send`.
        let change = || Handle::current().block_on(self.harness.change(self.number, &Self::at(round)));
        tokio::task::block_in_place(change);
        self.store.snapshot().await
    }

    async fn commit(&self, batch: Batch) -> Result<Commit> {
        self.store.commit(batch).await
    }

    async fn sync(&self) -> Result<()> {
        self.store.sync().await
    }

    async fn changed(&self, key: &Key, seen: Option<&Value>) -> Result<()> {
        self.store.changed(key, seen).await
    }

    fn clears_ranges_at_once(&self) -> bool {
        self.store.clears_ranges_at_once()
    }

    fn is_remote(&self) -> bool {
        self.store.is_remote()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_23_a_listed_run_is_as_of_one_snapshot() {
    let changing = ChangingStore::harness(0).await;
    for _ in 0..5 {
        let run = list(&changing, 1).await.remove(0);
        let params = matyan_value::cbor::decode_map(&run.params).unwrap();
        let matyan_value::Value::Integer(at) = params["at"] else { panic!("{params:?}") };
        assert_eq!(run.props.unwrap().name, format!("name {at}"));
    }
    for round in [0, 1] {
        let params = project_params(&ChangingStore::harness(round).await).await;
        assert!(params.0.contains_key("at"), "params must be found in the document and in rows");
    }
}

/// One tag has more runs than a snapshot can count, and the counter of another one is wrong.
#[tokio::test(flavor = "multi_thread")]
async fn a_repair_of_indexes_names_the_counters_that_it_left_unchecked() {
    let counter = |id: &str| keys::entity_counter(P, EntityKind::Tag, id, Counter::Runs);
    let (harness, _) = short_lived_with(Some(counter("tag-large"))).await;
    for tag in ["large", "small"] {
        harness.create(&RunSpec { tags: vec![tag.to_owned()], ..spec(tag, 1) }).await;
    }
    let mut batch = Batch::default();
    batch.add(counter("tag-large"), 1).add(counter("tag-small"), 1);
    harness.store.commit(batch).await.unwrap();
    let mut client = AdminServiceClient::new(harness.backend.clone().into_routes());
    let mut messages = client.reindex(ReindexRequest::default()).await.unwrap().into_inner();
    let mut last = None;
    while let Some(message) = messages.message().await.unwrap() {
        last = Some(message);
    }
    let last = last.expect("a job reports its result");
    assert_eq!((last.rows, last.unchecked_counters), (1, 1));
}
