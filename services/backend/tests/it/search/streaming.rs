//! Searches while the project changes, with a slow reader, and after the reader has
//! disconnected.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use matyan_model::{
    ids::{RunNumber, SeriesNumber},
    keys,
    object::{Object, ObjectValue, object_put},
};
use matyan_proto::{
    common::v1::{SeriesKey, SeriesType, StepRange},
    objects::v1::{BatchRequest, Selection, object_service_client::ObjectServiceClient},
    runs::v1::Run,
    search::v1::{MetricsRequest, ObjectsRequest, RunsResponse, metrics_request::Points},
    series::v1::{RunSelection, SampleRequest},
};
use matyan_store::{
    Batch, Commit, Key, Page, Range, Result, Scan, Snapshot, Store, Version, embedded::EmbeddedStore,
};
use matyan_value::Value;
use tonic::Streaming;

use crate::search::{
    harness::{self, Harness, P, RunSpec, Sequence, map, spec},
    naive::NaiveSearch,
    observed_store::observed,
    random::{self, Random},
};

/// A store that counts the bytes read and the open snapshots.
struct CountingStore {
    store: Arc<EmbeddedStore>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    bytes: AtomicU64,
    held: AtomicU64,
}

struct CountingSnapshot {
    snapshot: Box<dyn Snapshot>,
    counts: Arc<Counts>,
}

impl Drop for CountingSnapshot {
    fn drop(&mut self) {
        self.counts.held.fetch_sub(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl Store for CountingStore {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>> {
        self.counts.held.fetch_add(1, Ordering::Relaxed);
        let snapshot = self.store.snapshot().await?;
        Ok(Box::new(CountingSnapshot { snapshot, counts: self.counts.clone() }))
    }

    async fn commit(&self, batch: Batch) -> Result<Commit> {
        self.store.commit(batch).await
    }

    async fn sync(&self) -> Result<()> {
        self.store.sync().await
    }

    async fn changed(&self, key: &Key, seen: Option<&matyan_store::Value>) -> Result<()> {
        self.store.changed(key, seen).await
    }

    fn clears_ranges_at_once(&self) -> bool {
        self.store.clears_ranges_at_once()
    }

    fn is_remote(&self) -> bool {
        self.store.is_remote()
    }
}

impl CountingSnapshot {
    fn count(&self, bytes: usize) {
        self.counts.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

#[async_trait]
impl Snapshot for CountingSnapshot {
    async fn get(&self, key: &Key) -> Result<Option<matyan_store::Value>> {
        let value = self.snapshot.get(key).await?;
        self.count(value.as_ref().map_or(0, matyan_store::Value::len));
        Ok(value)
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<matyan_store::Value>>> {
        let values = self.snapshot.get_many(keys).await?;
        self.count(values.iter().flatten().map(matyan_store::Value::len).sum());
        Ok(values)
    }

    async fn scan(&self, range: &Range, scan: Scan) -> Result<Page> {
        let page = self.snapshot.scan(range, scan).await?;
        self.count(page.rows.iter().map(|(key, value)| key.len() + value.len()).sum());
        Ok(page)
    }

    fn version(&self) -> Version {
        self.snapshot.version()
    }
}

async fn counting() -> (Harness, Arc<Counts>) {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path().join("store"), Default::default()).await.unwrap();
    let store = Arc::new(store);
    let counts = Arc::new(Counts::default());
    let layer = Arc::new(CountingStore { store: store.clone(), counts: counts.clone() });
    (Harness::over(store, layer, directory).await, counts)
}

/// A run with params of about 12 kB, which are stored in the document.
fn heavy(id: &str, at: i64) -> RunSpec {
    let mut run = spec(id, at);
    run.params = map(&format!(r#"{{"at":{at},"text":"{}"}}"#, "x".repeat(12_000)));
    run
}

/// The runs of the first message that has any: a search reports its progress before it has found a run.
async fn first_runs(messages: &mut Streaming<RunsResponse>) -> Vec<Run> {
    loop {
        let message = messages.message().await.unwrap().expect("a run before the end of the search");
        if !message.runs.is_empty() {
            return message.runs;
        }
    }
}

/// Waits until reading has stopped with more than `least` bytes read and no snapshot open;
/// returns the bytes read.
async fn reading_stopped(counts: &Counts, least: u64) -> u64 {
    let began = std::time::Instant::now();
    let mut read = 0;
    loop {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        let now = counts.bytes.load(Ordering::Relaxed);
        let held = counts.held.load(Ordering::Relaxed);
        if now == read && now > least && held == 0 {
            return read;
        }
        assert!(began.elapsed().as_secs() < 60, "{now} bytes were read, {held} snapshots are open");
        read = now;
    }
}

/// 20 MB of runs. A reader takes one message and then pauses.
/// Runtimes that read documents cannot acknowledge in the meantime.
#[tokio::test]
async fn rule_45_searches_read_on_the_threads_of_queries() {
    let (harness, observer) = observed().await;
    harness.create(&spec("r", 1)).await;
    observer.take_document_readers();
    let found = harness.runs(harness::runs_request("run.archived in (True, False)")).await.unwrap();
    assert_eq!(found.ids(), ["r"]);
    let threads: Vec<String> = observer.take_document_readers().into_iter().collect();
    assert_eq!(threads, ["matyan-query"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_uses_little_memory() {
    let (harness, counts) = counting().await;
    for at in 0..1_700 {
        harness.create(&heavy(&format!("r{at:04}"), at)).await;
    }
    let request = matyan_proto::search::v1::RunsRequest {
        parts: harness::all_parts(),
        ..harness::runs_request("run.at >= 0")
    };
    let mut messages = harness.search().runs(request).await.unwrap().into_inner();
    let first = first_runs(&mut messages).await;
    let read = reading_stopped(&counts, 512 << 10).await;
    assert!(read < 10 << 20, "{read} bytes were read ahead");
    let mut ids: Vec<String> = first.into_iter().map(|run| run.run_id).collect();
    while let Some(message) = messages.message().await.unwrap() {
        ids.extend(message.runs.into_iter().map(|run| run.run_id));
    }
    assert_eq!(ids, (0..1_700).rev().map(|at| format!("r{at:04}")).collect::<Vec<_>>());
}

/// The client has taken one message of the first page, and the server cannot send the rest of that page.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_page_is_read_while_a_page_is_sent() {
    let (harness, observer) = observed().await;
    let mut last = RunNumber(0);
    for at in 0..200 {
        last = harness.create(&heavy(&format!("r{at:04}"), at)).await;
    }
    let all = keys::documents(P);
    // Scans go on from the newest run of the next page.
    observer.close(Range::new(all.start, keys::document(P, last)));
    let request =
        matyan_proto::search::v1::RunsRequest { parts: harness::all_parts(), ..harness::runs_request("") };
    let mut messages = harness.search().runs(request).await.unwrap().into_inner();
    let first = first_runs(&mut messages).await;
    observer.waits().await;
    assert!(first.len() < 50, "{} runs are more than a message", first.len());
    observer.open();
    let mut ids: Vec<String> = first.into_iter().map(|run| run.run_id).collect();
    while let Some(message) = messages.message().await.unwrap() {
        ids.extend(message.runs.into_iter().map(|run| run.run_id));
    }
    assert_eq!(ids, (0..200).rev().map(|at| format!("r{at:04}")).collect::<Vec<_>>());
}

/// The server waits for the client when the next page fails.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_gets_the_page_before_a_page_that_fails() {
    let (harness, observer) = observed().await;
    let mut runs = Vec::new();
    for at in 0..200 {
        runs.push(harness.create(&heavy(&format!("r{at:04}"), at)).await);
    }
    let all = keys::documents(P);
    observer.close(Range::new(all.start, keys::document(P, runs[199])));
    let request =
        matyan_proto::search::v1::RunsRequest { parts: harness::all_parts(), ..harness::runs_request("") };
    let mut messages = harness.search().runs(request).await.unwrap().into_inner();
    let mut found = first_runs(&mut messages).await.len();
    observer.only_waits().await;
    observer.fail_closed();
    let error = loop {
        match messages.message().await {
            Ok(message) => found += message.expect("an error at the end").runs.len(),
            Err(error) => break error,
        }
    };
    // A page has a MiB at first, and a message about an eighth of it.
    assert!((60..200).contains(&found), "{found} runs, and then {error}");
}

/// A reader that pauses after every message: the data dropped and read again is about the data
/// of the next message.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_always_pauses_costs_little() {
    let (harness, counts) = counting().await;
    for at in 0..200 {
        harness.create(&heavy(&format!("r{at:04}"), at)).await;
    }
    let before = counts.bytes.load(Ordering::Relaxed);
    let request =
        matyan_proto::search::v1::RunsRequest { parts: harness::all_parts(), ..harness::runs_request("") };
    let mut messages = harness.search().runs(request).await.unwrap().into_inner();
    let mut ids = Vec::new();
    while let Some(message) = messages.message().await.unwrap() {
        ids.extend(message.runs.into_iter().map(|run| run.run_id));
        if ids.len() < 200 {
            reading_stopped(&counts, before).await;
        }
    }
    assert_eq!(ids, (0..200).rev().map(|at| format!("r{at:04}")).collect::<Vec<_>>());
    let read = counts.bytes.load(Ordering::Relaxed) - before;
    assert!(read < 4 * 200 * 12_000, "{read} bytes of {} were read", 200 * 12_000);
}

/// The first page by date is read from the index, along with only as many documents as it
/// returns.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_by_date_reads_little() {
    use matyan_proto::search::v1::{RunsRequest, Sort, SortField, sort::By};
    let (harness, counts) = counting().await;
    for at in 0..1_700 {
        harness.create(&heavy(&format!("r{at:04}"), at)).await;
    }
    let before = counts.bytes.load(Ordering::Relaxed);
    let sort =
        vec![Sort { by: Some(By::Field(SortField::Created.into())), descending: false, ..Sort::default() }];
    let found = harness.runs(RunsRequest { sort, limit: 45, ..harness::runs_request("") }).await.unwrap();
    assert_eq!(found.ids(), (0..45).map(|at| format!("r{at:04}")).collect::<Vec<_>>());
    let read = counts.bytes.load(Ordering::Relaxed) - before;
    assert!(read < 6 << 20, "{read} bytes of 20 MB");
}

/// The oldest runs, a tenth of the project, lack the param in the query.
#[tokio::test(flavor = "multi_thread")]
async fn old_runs_of_another_kind_do_not_cause_a_scan() {
    let (harness, counts) = counting().await;
    for at in 0..3_000 {
        let mut run = heavy(&format!("r{at:04}"), at);
        if at < 300 {
            run.params = map("{}");
        }
        harness.create(&run).await;
    }
    harness.collect_params(1_024).await;
    let before = counts.bytes.load(Ordering::Relaxed);
    let found = harness.runs(harness::runs_request("run.at % 1000 == 7")).await.unwrap();
    assert_eq!(found.ids(), ["r2007", "r1007"]);
    let read = counts.bytes.load(Ordering::Relaxed) - before;
    assert!(read < 12 << 20, "{read} bytes of 32 MB");
}

/// A reader that takes every message as soon as possible causes no document to be read twice.
/// On a busy machine the snapshot may be dropped once, so the test makes several attempts.
#[tokio::test(flavor = "multi_thread")]
async fn a_steady_reader_causes_no_second_read() {
    let (harness, counts) = counting().await;
    for at in 0..1_700 {
        harness.create(&heavy(&format!("r{at:04}"), at)).await;
    }
    let mut read = Vec::new();
    for _ in 0..10 {
        let before = counts.bytes.load(Ordering::Relaxed);
        let request = matyan_proto::search::v1::RunsRequest {
            parts: harness::all_parts(),
            ..harness::runs_request("")
        };
        let found = harness.runs(request).await.unwrap();
        assert_eq!(found.runs.len(), 1_700);
        read.push(counts.bytes.load(Ordering::Relaxed) - before);
        if read.last().is_some_and(|read| *read < 24 << 20) {
            return;
        }
    }
    panic!("{read:?} bytes of 20 MB");
}

/// 10 MB of texts, all of which are requested.
#[tokio::test(flavor = "multi_thread")]
async fn objects_are_read_once() {
    let (harness, counts) = counting().await;
    let points = (0..500).map(|step| (step, 0.5)).collect();
    let text = Sequence { name: "t".into(), context: map("{}"), dtype: "text".into(), points };
    let number = harness.create(&RunSpec { sequences: vec![text], ..spec("r", 1) }).await;
    let data = [("data".to_owned(), Value::Text("x".repeat(20_000)))].into();
    let value = ObjectValue::Inline(matyan_value::cbor::encode_map(&data).into());
    for part in 0..5 {
        harness
            .transact(async |transaction| {
                for step in part * 100..(part + 1) * 100 {
                    let object = Object { step, epoch: None, time_us: step, value: value.clone() };
                    object_put(transaction.batch(), harness::P, number, SeriesNumber(0), &object);
                }
                Ok(())
            })
            .await;
    }
    let selection = |record_density, start| {
        let record_range = Some(StepRange { start, stop: None });
        Some(Selection { record_density, record_range, ..Selection::default() })
    };
    // The density is at least the number of objects, so all of them are read.
    // A selection of them does not need the others.
    for (selection, steps, most) in [
        (selection(500, None), 500, 12 << 20),
        (selection(0, Some(100)), 400, 10 << 20),
        (selection(50, None), 50, 2 << 20),
    ] {
        let before = counts.bytes.load(Ordering::Relaxed);
        let query = harness::query("");
        let of = SeriesType::Texts.into();
        let request = ObjectsRequest { query, r#type: of, selection, ..ObjectsRequest::default() };
        let row = harness.objects(request).await.unwrap().remove(0);
        assert_eq!(row.sequences.iter().map(|it| it.steps.len()).sum::<usize>(), steps);
        let read = counts.bytes.load(Ordering::Relaxed) - before;
        assert!(read < most, "{read} bytes for {steps} steps");
    }
}

/// Looks up missing names in a run with 4,000 series.
#[tokio::test(flavor = "multi_thread")]
async fn missing_series_cost_no_listing() {
    let (harness, counts) = counting().await;
    let sequence = |at: i64| {
        let (kind, dtype) = if at % 2 == 0 { ("m", "float") } else { ("t", "text") };
        let name = format!("{kind}{at}");
        Sequence { name, context: map("{}"), dtype: dtype.into(), points: vec![(0, 1.0)] }
    };
    let sequences: Vec<Sequence> = (0..4_000).map(sequence).collect();
    harness.create(&RunSpec { sequences, ..spec("r", 1) }).await;
    let key_of = |name: &str| SeriesKey { name: name.into(), context: String::new() };
    let key = |at: usize| key_of(&format!("missing {at}"));
    let keys: Vec<SeriesKey> = (0..50).map(key).chain([key_of("m2")]).collect();
    let before = counts.bytes.load(Ordering::Relaxed);
    let run = RunSelection { run_id: "r".into(), keys: keys.clone(), ..RunSelection::default() };
    let request = SampleRequest { runs: vec![run], density: 10, ..SampleRequest::default() };
    let mut messages = harness.series().sample(request).await.unwrap().into_inner();
    let mut places = Vec::new();
    while let Some(message) = messages.message().await.unwrap() {
        places.extend(message.series.into_iter().map(|series| series.place.unwrap().series));
    }
    assert_eq!(places, [50]);
    let sequences = keys.into_iter().chain([key_of("t3")]).collect();
    let run_id = "r".into();
    let of = SeriesType::Texts.into();
    let request = BatchRequest { run_id, r#type: of, sequences, selection: None };
    let mut client = ObjectServiceClient::new(harness.backend.clone().into_routes());
    let mut messages = client.batch(request).await.unwrap().into_inner();
    let message = messages.message().await.unwrap().unwrap();
    assert_eq!(message.sequence.unwrap().name, "t3");
    // The points of all series are in blocks of about 50 kB, which are read once.
    let read = counts.bytes.load(Ordering::Relaxed) - before;
    assert!(read < 500_000, "{read} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_disconnects_stops_the_search() {
    let (harness, counts) = counting().await;
    for at in 0..1_700 {
        harness.create(&heavy(&format!("r{at:04}"), at)).await;
    }
    let before = counts.bytes.load(Ordering::Relaxed);
    // One run matches and is sent; no index shows that no other does.
    let text = "len(run.text) < 0 or run.at + 1 == 1700";
    let mut messages = harness.search().runs(harness::runs_request(text)).await.unwrap().into_inner();
    assert_eq!(first_runs(&mut messages).await.len(), 1);
    drop(messages);
    let read = reading_stopped(&counts, before).await - before;
    assert!(read < 10 << 20, "{read} bytes were read after the disconnect");
}

/// The reader takes one message of a long series, and then pauses.
#[tokio::test(flavor = "multi_thread")]
async fn rule_23_a_slow_reader_of_points_holds_no_snapshot() {
    let (harness, counts) = counting().await;
    let points = (0..400_000).map(|step| (step, step as f64)).collect();
    let loss = Sequence { name: "loss".into(), context: map("{}"), dtype: "float".into(), points };
    harness.create(&RunSpec { sequences: vec![loss], ..spec("r", 1) }).await;
    let run =
        matyan_proto::series::v1::RunSelection { run_id: "r".into(), numbers: vec![0], ..Default::default() };
    let request = matyan_proto::series::v1::PointsRequest { run: Some(run), ..Default::default() };
    let mut messages = harness.series().points(request).await.unwrap().into_inner();
    let mut points = messages.message().await.unwrap().unwrap().points.unwrap().steps.len();
    reading_stopped(&counts, 0).await;
    while let Some(message) = messages.message().await.unwrap() {
        points += message.points.unwrap().steps.len();
    }
    assert_eq!(points, 400_000);
}

/// Runs are created, changed, archived, tagged and deleted during a search. An untouched run is
/// found if and only if it matches; a touched one is found only in a state in which it matched.
#[tokio::test(flavor = "multi_thread")]
async fn a_search_sees_each_run_as_of_one_snapshot() {
    let harness = Harness::new().await;
    let mut random = Random(9);
    let mut runs = Vec::new();
    let mut numbers: Vec<RunNumber> = Vec::new();
    for at in 0..600 {
        let run = random::run(&mut random, at);
        numbers.push(harness.create(&run).await);
        runs.push(run);
    }
    for (round, text) in
        ["run.hparams.seed >= 0", "'cv' in run.tags", "run.experiment == 'rare' or run.active"]
            .into_iter()
            .enumerate()
    {
        let request = matyan_proto::search::v1::RunsRequest {
            parts: harness::all_parts(),
            ..harness::runs_request(text)
        };
        let mut messages = harness.search().runs(request).await.unwrap().into_inner();
        let naive = NaiveSearch::new(text, matyan_ql::Endpoint::Run);
        let mut touched: HashSet<usize> = HashSet::new();
        let mut moments: Vec<Vec<RunSpec>> = runs.iter().map(|run| vec![run.clone()]).collect();
        let mut found = Vec::new();
        loop {
            for _ in 0..20 {
                let at = random.below(600) as usize;
                if runs[at].pending_delete {
                    continue;
                }
                touched.insert(at);
                let mut changed = random::run(&mut random, at as u64);
                changed.id.clone_from(&runs[at].id);
                changed.sequences.clone_from(&runs[at].sequences);
                harness.change(numbers[at], &changed).await;
                moments[at].push(changed.clone());
                runs[at] = changed;
            }
            harness.create(&random::run(&mut random, 10_000 + round as u64 * 100 + found.len() as u64)).await;
            match messages.message().await.unwrap() {
                Some(message) => found.extend(message.runs),
                None => break,
            }
        }
        let ids: HashSet<&str> = found.iter().map(|run| run.run_id.as_str()).collect();
        assert_eq!(ids.len(), found.len(), "no run is returned twice");
        for run in &found {
            let Some(at) = moments.iter().position(|moments| moments[0].id == run.run_id) else { continue };
            let props = run.props.as_ref().unwrap();
            let params = matyan_value::cbor::decode_map(&run.params).unwrap();
            let is_whole = moments[at].iter().any(|moment| {
                let experiment = props.experiment.as_ref().map(|experiment| &experiment.name);
                naive.matches(moment)
                    && moment.params == params
                    && moment.name == props.name
                    && moment.archived == props.archived
                    && moment.experiment.as_ref() == experiment
                    && moment.tags.len() == props.tags.len()
            });
            assert!(is_whole, "{} never had this state: {props:?}", run.run_id);
        }
        for (at, moments) in moments.iter().enumerate().filter(|(at, _)| !touched.contains(at)) {
            assert_eq!(ids.contains(&*moments[0].id), naive.matches(&moments[0]), "{text}: run {at}");
        }
        assert!(!touched.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_deleted_during_a_search_are_left_out() {
    let harness = Harness::new().await;
    for at in 0..800 {
        harness.create(&heavy(&format!("r{at:04}"), at)).await;
    }
    let request =
        matyan_proto::search::v1::RunsRequest { parts: harness::all_parts(), ..harness::runs_request("") };
    let mut messages = harness.search().runs(request).await.unwrap().into_inner();
    let first = first_runs(&mut messages).await;
    harness.delete("r0001").await;
    harness.delete("r0000").await;
    let mut ids: Vec<String> = first.into_iter().map(|run| run.run_id).collect();
    while let Some(message) = messages.message().await.unwrap() {
        ids.extend(message.runs.into_iter().map(|run| run.run_id));
    }
    assert_eq!(ids, (2..800).rev().map(|at| format!("r{at:04}")).collect::<Vec<_>>());
}

/// A run with enough series to be sent in pieces, and a reader that pauses in the middle of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_with_very_many_series_comes_in_pieces() {
    let (harness, counts) = counting().await;
    let mut run = spec("wide", 2);
    for at in 0..5_000 {
        run.sequences.push(Sequence {
            name: format!("m{at:05}"),
            context: map("{}"),
            dtype: "float".into(),
            points: (0..60).map(|step| (step, at as f64)).collect(),
        });
    }
    harness.create(&run).await;
    harness.create(&RunSpec { sequences: run.sequences[..1].to_vec(), ..spec("small", 1) }).await;
    let points = Some(Points::Density(50));
    let request = MetricsRequest { query: harness::query(""), points, ..MetricsRequest::default() };
    let mut messages = harness.search().metrics(request.clone()).await.unwrap().into_inner();
    let mut pieces = 0;
    let mut open = false;
    while let Some(message) = messages.message().await.unwrap() {
        for row in &message.runs {
            pieces += usize::from(row.more);
            open = row.more;
        }
        if open {
            // The search has dropped its snapshot in the middle of the run.
            reading_stopped(&counts, 0).await;
        }
    }
    assert!(pieces >= 1 && !open, "{pieces} pieces");
    let rows = harness.metrics(request).await.unwrap();
    assert_eq!(rows.len(), 2);
    let names: Vec<&str> = rows[0].points.iter().map(|it| it.info.as_ref().unwrap().name.as_str()).collect();
    assert_eq!(names, run.sequences.iter().map(|it| it.name.as_str()).collect::<Vec<_>>());
    assert!(rows[0].points.iter().all(|it| it.steps.len() == 50));
}

/// A search that exceeds its budget fails, and a query that fails for every run yields a
/// warning.
#[tokio::test]
async fn errors_in_a_query_are_reported() {
    let harness = Harness::new().await;
    for at in 0..3 {
        harness.create(&heavy(&format!("r{at}"), at)).await;
    }
    let expensive = "sum(len([y for y in range(1000)]) for x in range(1000) for z in range(1000)) > run.at";
    let status =
        harness.runs(harness::runs_request(expensive)).await.expect_err("the query exceeds its budget");
    assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{status:?}");
    let found = harness.runs(harness::runs_request("run.text > 3")).await.unwrap();
    assert!(found.runs.is_empty());
    assert!(found.warnings.iter().any(|it| it.contains("fails for everything")), "{:?}", found.warnings);
    let found = harness.runs(harness::runs_request("experiment == 'x'")).await.unwrap();
    assert!(found.warnings.iter().any(|it| it.contains("'experiment'")), "{:?}", found.warnings);
    assert!(harness.runs(harness::runs_request("run.at == 0")).await.unwrap().warnings.is_empty());
    // Names that no run has, with similar ones.
    let cases = [
        ("run.aat == 0", Some("no run has the param run.aat: did you mean run.at?")),
        ("run.hparams.at > 100", Some("no run has the param run.hparams.at: did you mean run.at?")),
        ("run.nothing_like_it.upper() == 'A'", Some("run.nothing_like_it: check its name")),
        (
            "run.metrics['loss'].last > 1e9",
            Some("no run has a series with the name \"loss\": check its name"),
        ),
        ("'best' in run.tags", Some("no run has the tag \"best\"")),
        ("run.experiment == 'x'", Some("no run is in the experiment \"x\"")),
        ("run.at == 77", None),
        ("run.text.startswith('nothing')", None),
        ("run.aat == 0 or run.at == 0", None),
    ];
    for (text, expected) in cases {
        let found = harness.runs(harness::runs_request(text)).await.unwrap().warnings;
        match expected {
            Some(part) => assert!(found.iter().any(|it| it.contains(part)), "{text}: {found:?}"),
            None => assert!(found.is_empty(), "{text}: {found:?}"),
        }
    }
    // Warnings are in the first message, before any match, so that they can go into the head
    // of an HTTP response.
    let query = harness::runs_request("run.at >= 0 or experiment == 'x'");
    let first =
        harness.search().runs(query.clone()).await.unwrap().into_inner().message().await.unwrap().unwrap();
    assert_eq!((first.warnings.len(), first.runs.len(), first.done), (1, 0, false), "{first:?}");
    let request = MetricsRequest { query: query.query, ..MetricsRequest::default() };
    let mut stream = harness.search().metrics(request).await.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap();
    assert_eq!((first.warnings.len(), first.runs.len(), first.done), (1, 0, false), "{first:?}");
}
