//! All params and series names, merged over all visible runs. Because this reads every run, the
//! result is cached for some time, and concurrent callers wait for a single computation, which
//! continues if they leave.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use matyan_model::{
    ids::{Project, RunNumber, SeriesNumber},
    keys::{self, SeriesKind},
    metric::{metric_headers_get, metric_names_page},
    object::object_headers_page,
    run::{Document, RunPage, params_get_bytes, runs_list},
};
use matyan_proto::{
    common::v1::SeriesType,
    project::v1::{ParamsResponse, SequenceName, TypeNames},
};
use matyan_store::{Error as StoreError, Key, Range, Scan, Snapshot};
use matyan_value::{Map, Value, cbor};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, timeout},
};

use crate::{
    series::ALL_TYPES,
    server::{
        Server,
        deps::Deps,
        error::{Error, Result},
        evaluation::PAGE_PARAMS,
        left_out_runs::LeftOutRuns,
        stream::{MESSAGE_BYTES, Sender, StreamEnd},
    },
    view::object_type,
};

/// Documents read from one snapshot.
const PAGE: Scan = Scan { rows: 64, bytes: 1 << 20, ..Scan::DEFAULT };

/// Top-level keys left out of the merged params: system params have a separate reader, goals of
/// metrics belong to the project, and neither progress nor blobs are params.
const EXCLUDED_KEYS: [&str; 4] = ["__system_params", "__metrics__", "__progress__", "__blobs__"];

/// Maximum size of a merge: its texts, each counted once. Params named after ids would grow
/// without a limit; what does not fit is left out.
const MAX_BYTES: usize = 64 << 20;

/// Memory of all merges that run, are kept, or are being sent: four of the largest, or many small ones.
const TOTAL_BYTES: usize = 4 * MAX_BYTES;

/// Merges that run at a time. Others wait for them.
const RUNNING: usize = 2;

/// Time that a merge waits for the memory of others, which slow readers may hold for minutes.
const MEMORY_TIMEOUT: Duration = Duration::from_secs(10);

/// Memory of an entry apart from its text.
const ENTRY_BYTES: usize = 64;

/// The merged params and series names of a project.
pub(crate) struct MergedParams {
    params: Bytes,
    names: HashMap<SeriesType, SequenceNames>,
    is_truncated: bool,
    /// Number of runs that were left out.
    damaged_runs: u32,
    /// `None` in tests.
    _memory: Option<OwnedSemaphorePermit>,
}

type MergeResult = Result<Arc<MergedParams>>;

/// The merge of a project.
enum ProjectMerge {
    /// The receiver gets the result.
    Running(watch::Receiver<Option<MergeResult>>),
    Done {
        at: Instant,
        merged: Arc<MergedParams>,
    },
}

/// One merge per project. It runs in a task of its own, so that it does not start again if the
/// callers that wait for it leave.
#[derive(Clone)]
pub(crate) struct ParamsCache {
    server: Server,
    merges: Arc<Mutex<HashMap<Project, ProjectMerge>>>,
    memory: MergeMemory,
    turns: Arc<Semaphore>,
}

impl ParamsCache {
    pub(crate) fn new(server: Server) -> Self {
        Self {
            server,
            merges: Arc::default(),
            memory: MergeMemory::new(),
            turns: Arc::new(Semaphore::new(RUNNING)),
        }
    }

    pub(crate) async fn merged(&self, project: Project) -> MergeResult {
        let mut running = match self.start_or_join(project) {
            Ok(merged) => return Ok(merged),
            Err(running) => running,
        };
        let result = running.wait_for(Option::is_some).await;
        match result.as_deref() {
            Ok(Some(merged)) => merged.clone(),
            // The task has ended without a result.
            Ok(None) | Err(_) => Err(Error::Stopping),
        }
    }

    /// The result, if it is recent enough; otherwise the merge to wait for.
    fn start_or_join(
        &self,
        project: Project,
    ) -> Result<Arc<MergedParams>, watch::Receiver<Option<MergeResult>>> {
        let kept = self.server.deps.params_cache_ttl;
        let mut merges = self.lock();
        merges.retain(|_, merge| match merge {
            ProjectMerge::Running(running) => running.has_changed().is_ok(),
            ProjectMerge::Done { at, .. } => at.elapsed() < kept,
        });
        match merges.get(&project) {
            Some(ProjectMerge::Done { merged, .. }) => return Ok(merged.clone()),
            Some(ProjectMerge::Running(running)) => return Err(running.clone()),
            None => {}
        }
        let (sender, running) = watch::channel(None);
        merges.insert(project, ProjectMerge::Running(running.clone()));
        let cache = self.clone();
        let deps = self.server.deps.clone();
        self.server.streams.spawn(|stop| async move {
            let merging = async {
                let _turn = cache.turns.acquire().await.expect("the semaphore is never closed");
                cache.make_room();
                merge(&deps, project, cache.memory.reserve().await?).await
            };
            let merged = stop.run_until_cancelled(merging).await;
            let merged = merged.unwrap_or(Err(Error::Stopping)).map(Arc::new);
            cache.finish(project, &merged);
            sender.send_replace(Some(merged));
        });
        Err(running)
    }

    /// Keeps a result from now on; after an error, the next caller starts again.
    fn finish(&self, project: Project, merged: &MergeResult) {
        let mut merges = self.lock();
        match merged {
            Ok(merged) => {
                merges.insert(project, ProjectMerge::Done { at: Instant::now(), merged: merged.clone() })
            }
            Err(_) => merges.remove(&project),
        };
        drop(merges);
        self.make_room();
    }

    /// Drops kept merges, the oldest first, until the next one has enough memory, which those that are still
    /// being sent may hold nevertheless.
    fn make_room(&self) {
        let mut merges = self.lock();
        while !self.memory.has_room() && remove_oldest(&mut merges) {}
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Project, ProjectMerge>> {
        self.merges.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes the merge that was done first. False if none is done.
fn remove_oldest(merges: &mut HashMap<Project, ProjectMerge>) -> bool {
    let done = merges.iter().filter_map(|(project, merge)| match merge {
        ProjectMerge::Done { at, .. } => Some((*at, *project)),
        ProjectMerge::Running(_) => None,
    });
    let Some((_, oldest)) = done.min_by_key(|(at, _)| *at) else { return false };
    merges.remove(&oldest);
    true
}

/// The memory of the merges of all projects, in KiB.
#[derive(Clone)]
struct MergeMemory(Arc<Semaphore>);

impl MergeMemory {
    fn new() -> Self {
        Self(Arc::new(Semaphore::new(TOTAL_BYTES >> 10)))
    }

    /// Whether a merge of any size can start.
    fn has_room(&self) -> bool {
        self.0.available_permits() >= MAX_BYTES >> 10
    }

    /// Reserves the memory of a merge of any size.
    async fn reserve(&self) -> Result<OwnedSemaphorePermit> {
        let permits = const { (MAX_BYTES >> 10) as u32 };
        let reserved = timeout(MEMORY_TIMEOUT, self.0.clone().acquire_many_owned(permits)).await;
        let full = "the memory for merged params is taken by projects whose params are read slowly";
        Ok(reserved.map_err(|_| Error::Waiting(full))?.expect("the semaphore is never closed"))
    }
}

/// Gives back what a finished merge does not need.
fn shrink(memory: &mut OwnedSemaphorePermit, bytes: usize) {
    let unused = memory.num_permits().saturating_sub(bytes.div_ceil(1 << 10));
    drop(memory.split(unused));
}

impl MergedParams {
    /// Params without series.
    #[cfg(test)]
    pub(crate) fn of_params(params: &Map) -> Self {
        let params = Bytes::from(cbor::encode_map(params));
        Self { params, names: HashMap::new(), is_truncated: false, damaged_runs: 0, _memory: None }
    }

    /// Sends the params, if wanted, and then the names of the given types, or of all six if
    /// none is given.
    pub(crate) async fn send(
        &self,
        with_params: bool,
        types: Vec<SeriesType>,
        sender: &Sender<ParamsResponse>,
    ) -> Result<(), StreamEnd> {
        let mut params = if with_params { self.params.clone() } else { Bytes::new() };
        while !params.is_empty() {
            let params = params.split_to(params.len().min(MESSAGE_BYTES));
            sender.send(ParamsResponse { params, ..ParamsResponse::default() }).await?;
        }
        let types = if types.is_empty() { ALL_TYPES.to_vec() } else { types };
        let mut gathered = Vec::new();
        let mut bytes = 0;
        for of in types {
            gathered.push(TypeNames { r#type: of.into(), names: Vec::new() });
            for (name, context) in self.names.get(&of).into_iter().flat_map(SequenceNames::pairs) {
                if bytes >= MESSAGE_BYTES {
                    let next = vec![TypeNames { r#type: of.into(), names: Vec::new() }];
                    let types = std::mem::replace(&mut gathered, next);
                    sender.send(ParamsResponse { types, ..ParamsResponse::default() }).await?;
                    bytes = 0;
                }
                let names = gathered.last_mut().map(|types| &mut types.names);
                bytes += add(names.expect("an entry for this type was pushed above"), name, context);
            }
        }
        let truncated = self.is_truncated;
        let damaged_runs = self.damaged_runs;
        sender.send(ParamsResponse { params: Bytes::new(), types: gathered, truncated, damaged_runs }).await
    }

    /// Whether the project has more than was merged.
    pub(crate) fn is_truncated(&self) -> bool {
        self.is_truncated
    }

    /// The encoded params.
    pub(crate) fn params(&self) -> &Bytes {
        &self.params
    }

    /// The names of a type with their contexts.
    pub(crate) fn series(&self, of: SeriesType) -> impl Iterator<Item = (&str, &str)> {
        self.names.get(&of).into_iter().flat_map(SequenceNames::pairs)
    }

    /// The names of a type, in the order of first appearance.
    pub(crate) fn names(&self, of: SeriesType) -> &[SequenceName] {
        self.names.get(&of).map_or(&[], |names| &names.order)
    }
}

/// Adds a context of a name, and returns an upper bound for the added bytes.
fn add(names: &mut Vec<SequenceName>, name: &str, context: &str) -> usize {
    match names.last_mut().filter(|last| last.name == name) {
        Some(last) => last.contexts.push(context.to_owned()),
        None => names.push(SequenceName { name: name.to_owned(), contexts: vec![context.to_owned()] }),
    }
    name.len() + context.len() + 16
}

/// Names in the order of first appearance, each with its contexts.
#[derive(Default)]
struct SequenceNames {
    order: Vec<SequenceName>,
    indexes: HashMap<String, usize>,
    seen: HashSet<(String, String)>,
}

impl SequenceNames {
    fn add(&mut self, name: String, context: String, budget: &mut MergeBudget) {
        let is_known = self.seen.contains(&(name.clone(), context.clone()));
        if is_known || !budget.take(name.len() + context.len() + ENTRY_BYTES) {
            return;
        }
        self.seen.insert((name.clone(), context.clone()));
        let index = *self.indexes.entry(name.clone()).or_insert_with(|| {
            self.order.push(SequenceName { name, contexts: Vec::new() });
            self.order.len() - 1
        });
        self.order[index].contexts.push(context);
    }

    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.order.iter().flat_map(|name| name.contexts.iter().map(|context| (&*name.name, &**context)))
    }
}

/// The memory that is left to a merge.
struct MergeBudget {
    left: usize,
    is_truncated: bool,
}

impl MergeBudget {
    fn new() -> Self {
        Self { left: MAX_BYTES, is_truncated: false }
    }

    /// Takes memory; false if there is not enough.
    fn take(&mut self, bytes: usize) -> bool {
        match self.left.checked_sub(bytes) {
            Some(left) => self.left = left,
            None => self.is_truncated = true,
        }
        !self.is_truncated
    }

    fn give_back(&mut self, bytes: usize) {
        self.left += bytes;
    }
}

/// A run with its id.
type NamedRun = (RunNumber, String);

/// The result of the merge so far.
struct ParamsMerge {
    project: Project,
    tree: Map,
    names: HashMap<SeriesType, SequenceNames>,
    /// Metrics found in an earlier run, whose headers need not be read again.
    metrics: HashSet<(String, [u8; 16])>,
    budget: MergeBudget,
}

/// The params of the runs of a page that were read, and the range of the other runs.
struct ParamsPage {
    params: Vec<(NamedRun, Bytes)>,
    rest: Option<Range>,
}

async fn merge(deps: &Deps, project: Project, mut memory: OwnedSemaphorePermit) -> Result<MergedParams> {
    let mut merging = ParamsMerge {
        project,
        tree: Map::new(),
        names: HashMap::new(),
        metrics: HashSet::new(),
        budget: MergeBudget::new(),
    };
    let mut left_out = LeftOutRuns::default();
    let mut rest = Some(keys::documents(project));
    while let Some(range) = rest {
        let _memory = deps.evaluation.page().await;
        let snapshot = deps.store.snapshot().await?;
        let page = runs_list(snapshot.as_ref(), project, &range, PAGE).await?;
        let read = merging.page(deps, snapshot.as_ref(), page, range.end, &mut left_out).await?;
        rest = read.rest;
        drop(snapshot);
        let (merged, damaged) = deps.evaluation.run(move || merging.params(read.params)).await?;
        merging = merged;
        if merging.budget.is_truncated {
            rest = None;
        }
        for ((number, run_id), error) in damaged {
            left_out.leave_out(&deps.metrics, (number, &run_id), error)?;
        }
    }
    let encoded = deps.evaluation.run(move || (Bytes::from(cbor::encode_map(&merging.tree)), merging));
    let (params, ParamsMerge { names, budget, .. }) = encoded.await?;
    if budget.is_truncated {
        tracing::warn!(
            project = project.0,
            limit = MAX_BYTES,
            "too many distinct params and series to merge all of them; suggestions are incomplete"
        );
    }
    let damaged_runs = u32::try_from(left_out.count()).unwrap_or(u32::MAX);
    shrink(&mut memory, MAX_BYTES - budget.left);
    Ok(MergedParams { params, names, is_truncated: budget.is_truncated, damaged_runs, _memory: Some(memory) })
}

impl ParamsMerge {
    /// Merges the names of the series of the runs of a page, and returns the params of these runs, as many as
    /// fit in memory and can be read before the snapshot of the page expires. `end` is the end of the scan.
    async fn page(
        &mut self,
        deps: &Deps,
        snapshot: &dyn Snapshot,
        page: RunPage,
        end: Key,
        left_out: &mut LeftOutRuns,
    ) -> Result<ParamsPage> {
        left_out.extend(&deps.metrics, &page.damaged);
        let mut params = Vec::with_capacity(page.runs.len());
        let mut bytes = 0;
        for (index, (number, document)) in page.runs.into_iter().enumerate() {
            if document.props.pending_delete {
                continue;
            }
            if bytes > PAGE_PARAMS {
                return Ok(ParamsPage { params, rest: Some(self.rest(number, end)) });
            }
            match self.run(deps, snapshot, number, &document).await {
                // The page outlasted its snapshot: continue with this run in a
                // new one.
                Err(Error::Store(StoreError::SnapshotTooOld)) if index > 0 => {
                    return Ok(ParamsPage { params, rest: Some(self.rest(number, end)) });
                }
                Err(error) => {
                    left_out.leave_out(&deps.metrics, (number, &document.props.run_id), error)?;
                }
                Ok(read) => {
                    bytes += read.len();
                    params.push(((number, document.props.run_id), read));
                }
            }
        }
        Ok(ParamsPage { params, rest: page.rest })
    }

    /// The part of a scan that starts with a run.
    fn rest(&self, number: RunNumber, end: Key) -> Range {
        Range::new(keys::document(self.project, number), end)
    }

    /// Merges the names of the series of a run, and returns its params.
    async fn run(
        &mut self,
        deps: &Deps,
        snapshot: &dyn Snapshot,
        number: RunNumber,
        document: &Document,
    ) -> Result<Bytes> {
        let params = params_get_bytes(snapshot, self.project, number, document).await?;
        // A run may have more series than can be read from one snapshot.
        let mut newer: Option<Box<dyn Snapshot>> = None;
        let range = keys::series_names(self.project, number, SeriesKind::Metric);
        let mut rest = self.metrics(snapshot, number, &range).await?;
        while let Some(range) = rest.filter(|_| !self.budget.is_truncated) {
            let snapshot = newer.insert(deps.store.snapshot().await?);
            rest = self.metrics(snapshot.as_ref(), number, &range).await?;
        }
        let range = keys::object_headers(self.project, number);
        let mut rest = self.objects(newer.as_deref().unwrap_or(snapshot), &range).await?;
        while let Some(range) = rest.filter(|_| !self.budget.is_truncated) {
            let snapshot = newer.insert(deps.store.snapshot().await?);
            rest = self.objects(snapshot.as_ref(), &range).await?;
        }
        Ok(params)
    }

    /// Merges encoded params; returns also the runs whose params are damaged.
    fn params(mut self, params: Vec<(NamedRun, Bytes)>) -> (Self, Vec<(NamedRun, Error)>) {
        let mut damaged = Vec::new();
        for (run, params) in params {
            match cbor::decode_map(&params) {
                Ok(map) => {
                    for (key, value) in map {
                        if !EXCLUDED_KEYS.contains(&key.as_str()) {
                            insert(&mut self.tree, key, value, &mut self.budget);
                        }
                    }
                }
                Err(error) => {
                    let error = StoreError::corrupt(format!("invalid params of a run: {error}"));
                    damaged.push((run, Error::Damaged(error)));
                }
            }
        }
        (self, damaged)
    }

    /// Merges the names of a page of metrics, and returns the range of the rest.
    async fn metrics(
        &mut self,
        snapshot: &dyn Snapshot,
        number: RunNumber,
        range: &Range,
    ) -> Result<Option<Range>> {
        let (listed, rest) = metric_names_page(snapshot, self.project, number, range).await?;
        let mut new: Vec<SeriesNumber> = Vec::new();
        for (name, digest, series) in listed {
            if !self.budget.is_truncated && self.metrics.insert((name, digest)) {
                new.push(series);
            }
        }
        new.sort_unstable();
        let headers = metric_headers_get(snapshot, self.project, number, &new).await?;
        for header in headers.into_iter().flatten() {
            let names = self.names.entry(SeriesType::Metric).or_default();
            names.add(header.name, header.context, &mut self.budget);
        }
        Ok(rest)
    }

    /// Merges the names of a page of object series, and returns the range of the rest.
    async fn objects(&mut self, snapshot: &dyn Snapshot, range: &Range) -> Result<Option<Range>> {
        let (headers, rest) = object_headers_page(snapshot, range).await?;
        for header in headers {
            if let Some(of) = object_type(&header.dtype) {
                self.names.entry(of).or_default().add(header.name, header.context, &mut self.budget);
            }
        }
        Ok(rest)
    }
}

/// Inserts a value: maps are merged, otherwise the later value wins.
fn insert(tree: &mut Map, key: String, value: Value, budget: &mut MergeBudget) {
    match (tree.get_mut(&key), value) {
        (Some(Value::Map(known)), Value::Map(new)) => {
            for (key, value) in new {
                insert(known, key, value, budget);
            }
        }
        (Some(known), value) => {
            budget.give_back(bytes_of(known));
            if budget.take(bytes_of(&value)) {
                *known = value;
            }
        }
        (None, Value::Map(new)) => {
            if budget.take(key.len() + ENTRY_BYTES) {
                let mut known = Map::new();
                for (key, value) in new {
                    insert(&mut known, key, value, budget);
                }
                tree.insert(key, Value::Map(known));
            }
        }
        (None, value) => {
            if budget.take(key.len() + ENTRY_BYTES + bytes_of(&value)) {
                tree.insert(key, value);
            }
        }
    }
}

/// The approximate memory of a value.
fn bytes_of(value: &Value) -> usize {
    ENTRY_BYTES
        + match value {
            Value::Text(text) => text.len(),
            Value::Bytes(bytes) => bytes.len(),
            Value::List(items) => items.iter().map(bytes_of).sum(),
            Value::Map(map) => map.iter().map(|(key, value)| key.len() + bytes_of(value)).sum(),
            _ => 0,
        }
}

#[cfg(test)]
mod tests {
    use matyan_value::json;

    use super::*;

    fn map(text: &str) -> Map {
        match json::parse(text).unwrap() {
            Value::Map(map) => map,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn maps_are_merged_and_later_values_win() {
        let check = |runs: &[&str], merged: &str| {
            let mut tree = Map::new();
            for run in runs {
                for (key, value) in map(run) {
                    insert(&mut tree, key, value, &mut MergeBudget::new());
                }
            }
            assert_eq!(tree, map(merged), "{runs:?}");
        };
        check(&[r#"{"a":{"x":1,"y":2}}"#, r#"{"a":{"y":3,"z":null}}"#], r#"{"a":{"x":1,"y":3,"z":null}}"#);
        check(&[r#"{"a":{"x":1}}"#, r#"{"a":5}"#], r#"{"a":5}"#);
        check(&[r#"{"a":5}"#, r#"{"a":{"x":1}}"#], r#"{"a":{"x":1}}"#);
        check(&[r#"{"a":[1]}"#, r#"{"a":[2],"b":null}"#], r#"{"a":[2],"b":null}"#);
    }

    #[test]
    fn a_merge_has_a_maximum_size() {
        let mut tree = Map::new();
        let mut budget = MergeBudget { left: 1_000, is_truncated: false };
        // Overwriting takes no more memory.
        for number in 0..100 {
            insert(&mut tree, "same".into(), Value::Integer(number), &mut budget);
        }
        assert_eq!(tree.get("same"), Some(&Value::Integer(99)));
        assert!(!budget.is_truncated);
        for number in 0..100 {
            insert(&mut tree, format!("key {number}"), Value::Integer(number), &mut budget);
        }
        assert!(budget.is_truncated && (2..20).contains(&tree.len()), "{} keys", tree.len());
    }

    fn kept(memory: OwnedSemaphorePermit) -> ProjectMerge {
        let merged = MergedParams { _memory: Some(memory), ..MergedParams::of_params(&Map::new()) };
        ProjectMerge::Done { at: Instant::now(), merged: Arc::new(merged) }
    }

    #[tokio::test(start_paused = true)]
    async fn kept_merges_make_room_for_others_the_oldest_first() {
        let memory = MergeMemory::new();
        let mut merges = HashMap::new();
        let mut small = memory.reserve().await.unwrap();
        shrink(&mut small, 1_000);
        assert_eq!(small.num_permits(), 1);
        merges.insert(Project(0), kept(small));
        for project in 1..4 {
            tokio::time::advance(Duration::from_secs(1)).await;
            merges.insert(Project(project), kept(memory.reserve().await.unwrap()));
        }
        assert!(!memory.has_room());
        assert!(remove_oldest(&mut merges));
        assert!(memory.has_room());
        assert!(!merges.contains_key(&Project(0)) && merges.len() == 3);

        // One that is still being sent keeps its memory.
        let Some(ProjectMerge::Done { merged: sent, .. }) = merges.remove(&Project(1)) else { panic!() };
        merges.insert(Project(4), kept(memory.reserve().await.unwrap()));
        while !memory.has_room() {
            assert!(remove_oldest(&mut merges));
        }
        assert_eq!(merges.len(), 2);
        let mut held = vec![memory.reserve().await.unwrap()];
        merges.clear();
        held.extend([memory.reserve().await.unwrap(), memory.reserve().await.unwrap()]);
        assert!(matches!(memory.reserve().await, Err(Error::Waiting(_))));
        drop(sent);
        held.push(memory.reserve().await.unwrap());
    }

    #[test]
    fn names_and_contexts_keep_the_order_of_first_appearance() {
        let mut names = SequenceNames::default();
        for (name, context) in [("b", "{}"), ("a", r#"{"x":1}"#), ("b", r#"{"x":1.0}"#), ("b", "{}")] {
            names.add(name.into(), context.into(), &mut MergeBudget::new());
        }
        let pairs: Vec<_> = names.pairs().collect();
        assert_eq!(pairs, [("b", "{}"), ("b", r#"{"x":1.0}"#), ("a", r#"{"x":1}"#)]);
    }
}
