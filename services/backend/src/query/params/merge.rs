//! The merge of the params and series names of all visible runs of a project.

use std::collections::{HashMap, HashSet};

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
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    series::ALL_TYPES,
    server::{
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
pub(super) const MAX_BYTES: usize = 64 << 20;

/// Memory of an entry apart from its text.
const ENTRY_BYTES: usize = 64;

/// The merged params and series names of a project.
pub(crate) struct MergedParams {
    params: Bytes,
    /// In the order of first appearance.
    names: HashMap<SeriesType, Vec<SequenceName>>,
    is_truncated: bool,
    /// Number of runs that were left out.
    damaged_runs: u32,
    /// `None` in tests.
    _memory: Option<OwnedSemaphorePermit>,
}

impl MergedParams {
    /// Params without series.
    #[cfg(test)]
    pub(crate) fn of_params(params: &Map) -> Self {
        let params = Bytes::from(cbor::encode_map(params));
        Self { params, names: HashMap::new(), is_truncated: false, damaged_runs: 0, _memory: None }
    }

    #[cfg(test)]
    pub(super) fn with_memory(self, memory: OwnedSemaphorePermit) -> Self {
        Self { _memory: Some(memory), ..self }
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
            for (name, context) in self.series(of) {
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
        pairs(self.names(of))
    }

    /// The names of a type, in the order of first appearance.
    pub(crate) fn names(&self, of: SeriesType) -> &[SequenceName] {
        self.names.get(&of).map_or(&[], Vec::as_slice)
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
}

/// Each name with each of its contexts.
fn pairs(names: &[SequenceName]) -> impl Iterator<Item = (&str, &str)> {
    names.iter().flat_map(|name| name.contexts.iter().map(|context| (&*name.name, &**context)))
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

/// Merges the params and series names of a project within the reserved memory, and gives back the part that
/// it does not need.
pub(super) async fn merge(
    deps: &Deps,
    project: Project,
    mut memory: OwnedSemaphorePermit,
) -> Result<MergedParams> {
    let mut merging = ParamsMerge {
        project,
        tree: Map::new(),
        names: HashMap::new(),
        metrics: HashSet::new(),
        budget: MergeBudget::new(),
    };
    let left_out = LeftOutRuns::default();
    let mut rest = Some(keys::documents(project));
    while let Some(range) = rest {
        let _memory = deps.evaluation.page().await;
        let snapshot = deps.store.snapshot().await?;
        let page = runs_list(snapshot.as_ref(), project, &range, PAGE).await?;
        let read = merging.page(deps, snapshot.as_ref(), page, range.end, &left_out).await?;
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
    let names = names.into_iter().map(|(of, names)| (of, names.order)).collect();
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
        left_out: &LeftOutRuns,
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

/// Gives back the memory that a finished merge does not need.
pub(super) fn shrink(memory: &mut OwnedSemaphorePermit, bytes: usize) {
    let unused = memory.num_permits().saturating_sub(bytes.div_ceil(1 << 10));
    drop(memory.split(unused));
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

    #[test]
    fn names_and_contexts_keep_the_order_of_first_appearance() {
        let mut names = SequenceNames::default();
        for (name, context) in [("b", "{}"), ("a", r#"{"x":1}"#), ("b", r#"{"x":1.0}"#), ("b", "{}")] {
            names.add(name.into(), context.into(), &mut MergeBudget::new());
        }
        let pairs: Vec<_> = pairs(&names.order).collect();
        assert_eq!(pairs, [("b", "{}"), ("b", r#"{"x":1.0}"#), ("a", r#"{"x":1}"#)]);
    }
}
