//! All params and series names, merged over all visible runs. Because this reads every run, the
//! result is cached for some time, and concurrent callers wait for a single computation.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use matyan_model::{
    ids::{Project, RunNumber, SeriesNumber},
    keys::{self, SeriesKind},
    metric::{metric_headers_get, series_contexts},
    object::object_series_list,
    run::{Document, params_get, runs_list},
};
use matyan_proto::{
    common::v1::SeriesType,
    project::v1::{ParamsResponse, SequenceName, TypeNames},
};
use matyan_store::{Error as StoreError, Range, Scan, Snapshot};
use matyan_value::{Map, Value, cbor};
use tokio::{sync::OnceCell, time::Instant};

use crate::{
    Deps,
    call::Call,
    error::{Error, Result},
    series::ALL_TYPES,
    stream::{MESSAGE_BYTES, Sender, StreamEnd},
    view::object_type,
};

/// Documents read from one snapshot.
const PAGE: Scan = Scan { rows: 256, bytes: 1 << 20, reverse: false };

/// Top-level keys left out of the merged params: system params have a separate reader, and
/// blobs are not params.
const EXCLUDED_KEYS: [&str; 2] = ["__system_params", "__blobs__"];

/// The merged params and series names of a project.
pub(crate) struct MergedParams {
    params: Bytes,
    names: HashMap<SeriesType, SequenceNames>,
}

type SharedResult = Arc<OnceCell<Arc<MergedParams>>>;

/// One result per project, with the time its computation started.
#[derive(Clone, Default)]
pub(crate) struct ParamsCache(Arc<Mutex<HashMap<Project, (Instant, SharedResult)>>>);

impl ParamsCache {
    pub(crate) async fn merged(&self, deps: &Deps, call: &Call) -> Result<Arc<MergedParams>> {
        let merged = self.entry(call.project, deps.params_cache_ttl);
        let merged = merged.get_or_try_init(async || merge(deps, call.project).await.map(Arc::new)).await?;
        Ok(merged.clone())
    }

    fn entry(&self, project: Project, kept: Duration) -> SharedResult {
        let mut results = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        results.retain(|_, (begun, _)| now.duration_since(*begun) < kept);
        results.entry(project).or_insert_with(|| (now, SharedResult::default())).1.clone()
    }
}

impl MergedParams {
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
            sender.send(ParamsResponse { params, types: Vec::new() }).await?;
        }
        let types = if types.is_empty() { ALL_TYPES.to_vec() } else { types };
        let (mut gathered, mut bytes) = (Vec::new(), 0);
        for of in types {
            gathered.push(TypeNames { r#type: of.into(), names: Vec::new() });
            for (name, context) in self.names.get(&of).into_iter().flat_map(SequenceNames::pairs) {
                if bytes >= MESSAGE_BYTES {
                    let next = vec![TypeNames { r#type: of.into(), names: Vec::new() }];
                    let types = std::mem::replace(&mut gathered, next);
                    sender.send(ParamsResponse { params: Bytes::new(), types }).await?;
                    bytes = 0;
                }
                let names = gathered.last_mut().map(|types| &mut types.names);
                bytes += add(names.expect("an entry for this type was pushed above"), name, context);
            }
        }
        Ok(sender.send(ParamsResponse { params: Bytes::new(), types: gathered }).await?)
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
    fn add(&mut self, name: String, context: String) {
        if !self.seen.insert((name.clone(), context.clone())) {
            return;
        }
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

/// The result of the merge so far.
struct ParamsMerge {
    project: Project,
    tree: Map,
    names: HashMap<SeriesType, SequenceNames>,
    /// Metrics found in an earlier run, whose headers need not be read again.
    metrics: HashSet<(String, [u8; 16])>,
}

async fn merge(deps: &Deps, project: Project) -> Result<MergedParams> {
    let mut merging =
        ParamsMerge { project, tree: Map::new(), names: HashMap::new(), metrics: HashSet::new() };
    let mut rest = Some(keys::documents(project));
    while let Some(range) = rest {
        let snapshot = deps.store.snapshot().await?;
        let page = runs_list(snapshot.as_ref(), project, &range, PAGE).await?;
        rest = page.rest;
        deps.metrics.count_left_out(page.damaged.len());
        for (index, (number, document)) in page.runs.into_iter().enumerate() {
            if document.props.pending_delete {
                continue;
            }
            match merging.run(snapshot.as_ref(), number, &document).await {
                // The page outlasted its snapshot: continue with this run in a
                // new one.
                Err(Error::Store(StoreError::SnapshotTooOld)) if index > 0 => {
                    rest = Some(Range::new(keys::document(project, number), range.end));
                    break;
                }
                Err(error) => deps.metrics.leave_out(&document.props.run_id, error)?,
                Ok(()) => {}
            }
        }
    }
    Ok(MergedParams { params: cbor::encode_map(&merging.tree).into(), names: merging.names })
}

impl ParamsMerge {
    async fn run(&mut self, snapshot: &dyn Snapshot, number: RunNumber, document: &Document) -> Result<()> {
        for (key, value) in params_get(snapshot, self.project, number, document).await? {
            if !EXCLUDED_KEYS.contains(&key.as_str()) {
                insert(&mut self.tree, key, value);
            }
        }
        self.metrics(snapshot, number).await?;
        for (_, header) in object_series_list(snapshot, self.project, number).await? {
            if let Some(of) = object_type(&header.dtype) {
                self.names.entry(of).or_default().add(header.name, header.context);
            }
        }
        Ok(())
    }

    async fn metrics(&mut self, snapshot: &dyn Snapshot, number: RunNumber) -> Result<()> {
        let listed = series_contexts(snapshot, self.project, number, SeriesKind::Metric).await?;
        let mut new: Vec<SeriesNumber> = Vec::new();
        for (name, digest, series) in listed {
            if self.metrics.insert((name, digest)) {
                new.push(series);
            }
        }
        new.sort_unstable();
        let headers = metric_headers_get(snapshot, self.project, number, &new).await?;
        for header in headers.into_iter().flatten() {
            self.names.entry(SeriesType::Metric).or_default().add(header.name, header.context);
        }
        Ok(())
    }
}

/// Inserts a value: maps are merged, otherwise the later value wins.
fn insert(tree: &mut Map, key: String, value: Value) {
    match (tree.get_mut(&key), value) {
        (Some(Value::Map(known)), Value::Map(new)) => {
            for (key, value) in new {
                insert(known, key, value);
            }
        }
        (_, value) => {
            tree.insert(key, value);
        }
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
                map(run).into_iter().for_each(|(key, value)| insert(&mut tree, key, value));
            }
            assert_eq!(tree, map(merged), "{runs:?}");
        };
        check(&[r#"{"a":{"x":1,"y":2}}"#, r#"{"a":{"y":3,"z":null}}"#], r#"{"a":{"x":1,"y":3,"z":null}}"#);
        check(&[r#"{"a":{"x":1}}"#, r#"{"a":5}"#], r#"{"a":5}"#);
        check(&[r#"{"a":5}"#, r#"{"a":{"x":1}}"#], r#"{"a":{"x":1}}"#);
        check(&[r#"{"a":[1]}"#, r#"{"a":[2],"b":null}"#], r#"{"a":[2],"b":null}"#);
    }

    #[test]
    fn names_and_contexts_keep_the_order_of_first_appearance() {
        let mut names = SequenceNames::default();
        for (name, context) in [("b", "{}"), ("a", r#"{"x":1}"#), ("b", r#"{"x":1.0}"#), ("b", "{}")] {
            names.add(name.into(), context.into());
        }
        let pairs: Vec<_> = names.pairs().collect();
        assert_eq!(pairs, [("b", "{}"), ("b", r#"{"x":1.0}"#), ("a", r#"{"x":1}"#)]);
    }
}
