//! Warnings after a search that found nothing, about the names in its query that no run has.

use std::{borrow::Cow, ops::Bound, time::Duration};

use matyan_model::{
    ids::{Project, RunNumber},
    index::{index_has_row, is_indexed_path},
    keys,
    param_cohort::ReadList,
    run::{Params, documents_get, params_get_bytes},
};
use matyan_proto::search::v1::Warning;
use matyan_ql::{Interval, KeyPath, Probe, param_text, text_literal};
use matyan_store::{Error as StoreError, Snapshot};
use matyan_value::cbor;
use tokio::time::timeout;

use super::complete;
use crate::{
    query::{
        catalog::Catalog,
        params::MergedParams,
        plan::{CompiledQuery, RenewedSnapshot, index},
    },
    series::ALL_TYPES,
    server::{call::Call, error::Result},
};

/// Maximum number of warnings about one query.
const MAX_WARNINGS: usize = 5;

/// Time that a search waits for the merged params of its project.
const MERGE_WAIT: Duration = Duration::from_secs(1);

/// Maximum number of known names that are compared with an unknown one.
const MAX_COMPARED: usize = 50_000;

/// Maximum number of runs whose documents are looked at, and how many of them at a time.
const MAX_LISTED: usize = 2_000;
const DOCUMENTS: usize = 64;

/// A name that no index has.
enum MissingName {
    /// The keys of its path.
    Param(Vec<String>),
    Series(String),
    Tag(String),
    Experiment(String),
}

/// Warnings about names that no run has. Only if an index lacks a name, the params and series of all runs
/// are read, to find similar names.
pub(super) async fn unknown_names(
    catalog: &Catalog,
    call: &Call,
    compiled: &CompiledQuery,
) -> Result<Vec<Warning>> {
    let snapshot = RenewedSnapshot::open(catalog.deps.store.clone()).await?;
    let missing = missing_names(&snapshot, call.project, compiled).await?;
    drop(snapshot);
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    // It is read in its own task, and is there for the next search.
    let Ok(Ok(merged)) = timeout(MERGE_WAIT, catalog.params.merged(call.project)).await else {
        return Ok(Vec::new());
    };
    let find = move || -> Result<Vec<Warning>> {
        let known = if merged.is_truncated() { Vec::new() } else { complete::params(&merged)? };
        let messages = missing.iter().filter_map(|name| name.message(&merged, &known));
        Ok(messages.map(|message| Warning { message, ..Warning::default() }).collect())
    };
    catalog.deps.evaluation.run(find).await?
}

/// The names in a query that no index has; none in a project without runs.
async fn missing_names(
    snapshot: &dyn Snapshot,
    project: Project,
    compiled: &CompiledQuery,
) -> Result<Vec<MissingName>> {
    let mut missing = Vec::new();
    if index::count_runs(snapshot, project).await? == Some(0) {
        return Ok(missing);
    }
    for path in compiled.query.named_params() {
        // System params are not among the known names.
        let is_hidden = path.keys().first().is_none_or(|key| key.starts_with("__"));
        if missing.len() < MAX_WARNINGS && !is_hidden && !has_param(snapshot, project, &path).await? {
            missing.push(MissingName::Param(path.keys().iter().map(ToString::to_string).collect()));
        }
    }
    for probe in compiled.plan.probes() {
        if missing.len() < MAX_WARNINGS
            && let Some(name) = probed_name(probe)
            && !index::has_runs(snapshot, project, probe).await?
        {
            missing.push(name);
        }
    }
    Ok(missing)
}

/// Whether a run has, or may have, a scalar at this path. Maps and lists are in no index.
async fn has_param(snapshot: &dyn Snapshot, project: Project, path: &KeyPath) -> Result<bool> {
    if !is_indexed_path(path.keys()) {
        return Ok(false);
    }
    let keys: Vec<Cow<'_, str>> = path.keys().iter().map(|key| Cow::Borrowed(&**key)).collect();
    if index_has_row(snapshot, &keys::param_columns(project, &keys)).await? {
        return Ok(true);
    }
    // The runs whose params are only in documents yet.
    let Some(list) = ReadList::read(snapshot, project, MAX_LISTED).await? else { return Ok(true) };
    if list.may_have_index_rows() && index_has_row(snapshot, &keys::index_param_path(project, &keys)).await? {
        return Ok(true);
    }
    let listed: Vec<RunNumber> = list.runs().iter().copied().collect();
    for numbers in listed.chunks(DOCUMENTS) {
        let documents = documents_get(snapshot, project, numbers).await?;
        for (number, document) in numbers.iter().zip(&documents) {
            let Some(document) = document else { continue };
            // Reading large params of many runs would take minutes.
            if document.params == Params::Pieces {
                return Ok(true);
            }
            // Damaged params are no reason to doubt a name.
            let has_param = match params_get_bytes(snapshot, project, *number, document).await {
                Ok(params) => cbor::find(&params, &keys).map_or(true, |found| found.is_some()),
                Err(StoreError::Corrupt { .. }) => true,
                Err(error) => return Err(error.into()),
            };
            if has_param {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// The name that a probe looks for, if it is one.
fn probed_name(probe: &Probe) -> Option<MissingName> {
    match probe {
        Probe::Tag(name) => Some(MissingName::Tag(name.to_string())),
        Probe::Experiment(Some(name)) => Some(MissingName::Experiment(name.to_string())),
        Probe::Sequence(Interval { low: Bound::Included(low), high: Bound::Included(high) })
            if low == high =>
        {
            Some(MissingName::Series(low.to_string()))
        }
        _ => None,
    }
}

impl MissingName {
    /// The text of a warning; `None` if the name is known after all.
    fn message(&self, merged: &MergedParams, params: &[Vec<String>]) -> Option<String> {
        match self {
            Self::Param(_) if params.is_empty() && merged.is_truncated() => None,
            Self::Param(path) if params.iter().any(|known| known.starts_with(path)) => None,
            Self::Param(path) => {
                // The same key in another group is the likeliest one.
                let in_other_group = params.iter().find(|known| known.last() == path.last());
                let similar = in_other_group.map(|known| param_text(known)).or_else(|| {
                    most_similar(&param_text(path), params.iter().map(|known| param_text(known)))
                });
                Some(format!("no run has the param {}{}", param_text(path), advice(similar)))
            }
            Self::Series(name) => {
                let names = ALL_TYPES.into_iter().flat_map(|of| merged.series(of)).map(|(name, _)| name);
                let similar = most_similar(name, names.map(str::to_owned)).map(|name| text_literal(&name));
                Some(format!("no run has a series with the name {}{}", text_literal(name), advice(similar)))
            }
            Self::Tag(name) => Some(format!("no run has the tag {}", text_literal(name))),
            Self::Experiment(name) => Some(format!("no run is in the experiment {}", text_literal(name))),
        }
    }
}

fn advice(similar: Option<String>) -> String {
    similar.map_or_else(|| ": check its name".to_owned(), |name| format!(": did you mean {name}?"))
}

/// The most similar name, if at most a third of it differs.
fn most_similar(name: &str, known: impl Iterator<Item = String>) -> Option<String> {
    let most = name.chars().count() / 3;
    let distance = |known: String| (strsim::osa_distance(name, &known), known);
    let near = known.take(MAX_COMPARED).map(distance).filter(|(distance, _)| *distance <= most);
    near.min_by_key(|(distance, _)| *distance).map(|(_, known)| known)
}
