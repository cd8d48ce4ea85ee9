//! Reading runs. Every function reads from a snapshot that is passed in, so that a caller sees
//! one version of the run.

use bytes::Bytes;
use matyan_store::{Key, Range, Result, Scan, Snapshot, Value};

use super::{Document, Params, head_live};
use crate::{
    ids::{Project, RunId, RunNumber},
    keys, params, rows,
};
use matyan_value::{Map, cbor};

/// The live run with this id, even if it is pending deletion.
pub async fn run_find(
    snapshot: &dyn Snapshot,
    project: Project,
    id: &RunId,
) -> Result<Option<(RunNumber, Document)>> {
    let Some(number) = head_live(snapshot, project, id).await? else { return Ok(None) };
    Ok(document_get(snapshot, project, number).await?.map(|document| (number, document)))
}

/// The document of a run number; `None` if the run is dead.
pub async fn document_get(
    snapshot: &dyn Snapshot,
    project: Project,
    number: RunNumber,
) -> Result<Option<Document>> {
    let key = keys::document(project, number);
    match snapshot.get(&key).await? {
        Some(value) => Ok(Some(Document::decode(&key, &value)?)),
        None => Ok(None),
    }
}

/// Number of documents above which reading them in two halves is faster.
const APART: usize = 130;

/// The documents of several run numbers, in the given order. A damaged one counts as missing, so that
/// it does not hide other runs; `document_get` returns the error.
pub async fn documents_get(
    snapshot: &dyn Snapshot,
    project: Project,
    numbers: &[RunNumber],
) -> Result<Vec<Option<Document>>> {
    let mut found = Vec::with_capacity(numbers.len());
    for (key, value) in document_rows(snapshot, project, numbers).await? {
        found.push(value.and_then(|value| readable(&key, &value)));
    }
    Ok(found)
}

/// A page of the runs with these numbers, in the given order. Dead ones are left out.
pub async fn runs_get(snapshot: &dyn Snapshot, project: Project, numbers: &[RunNumber]) -> Result<RunPage> {
    let mut runs = Vec::with_capacity(numbers.len());
    let mut damaged = Vec::new();
    for (number, (key, value)) in numbers.iter().zip(document_rows(snapshot, project, numbers).await?) {
        match value.map(|value| readable(&key, &value)) {
            Some(Some(document)) => runs.push((*number, document)),
            Some(None) => damaged.push(*number),
            None => {}
        }
    }
    Ok(RunPage { runs, damaged, rest: None })
}

/// The rows of documents, in the given order.
async fn document_rows(
    snapshot: &dyn Snapshot,
    project: Project,
    numbers: &[RunNumber],
) -> Result<Vec<(Key, Option<Value>)>> {
    let keys: Vec<_> = numbers.iter().map(|number| keys::document(project, *number)).collect();
    // A store may read the halves in parallel.
    let (first, second) = keys.split_at(if keys.len() < APART { 0 } else { keys.len() / 2 });
    let (mut values, others) =
        futures::future::try_join(snapshot.get_many(first), snapshot.get_many(second)).await?;
    values.extend(others);
    Ok(keys.into_iter().zip(values).collect())
}

fn readable(key: &Key, value: &Value) -> Option<Document> {
    let document = Document::decode(key, value);
    document.inspect_err(|error| tracing::error!(%error, "left out a damaged run")).ok()
}

/// The run id that a number was assigned to, even if the run is dead.
pub async fn run_id_get(
    snapshot: &dyn Snapshot,
    project: Project,
    number: RunNumber,
) -> Result<Option<RunId>> {
    let id: Option<String> = rows::get(snapshot, &keys::number(project, number)).await?;
    Ok(id.map(RunId::new))
}

/// The ids of several runs, in the given order.
pub async fn run_ids_get(
    snapshot: &dyn Snapshot,
    project: Project,
    numbers: &[RunNumber],
) -> Result<Vec<Option<RunId>>> {
    let keys: Vec<_> = numbers.iter().map(|number| keys::number(project, *number)).collect();
    let values = snapshot.get_many(&keys).await?;
    keys.iter()
        .zip(values)
        .map(|(key, value)| {
            value.map(|value| Ok(RunId::new(rows::decode::<String>(key, &value)?))).transpose()
        })
        .collect()
}

/// A page of run numbers with the ids they were assigned to, and the range of the rest.
#[derive(Debug, Default)]
pub struct RunIdPage {
    pub runs: Vec<(RunNumber, RunId)>,
    pub rest: Option<Range>,
}

/// One page of every run number ever assigned, ascending. `range` is `keys::numbers` for the first
/// page, then the `rest` of the previous one.
pub async fn run_ids_list(
    snapshot: &dyn Snapshot,
    project: Project,
    range: &Range,
    scan: Scan,
) -> Result<RunIdPage> {
    let prefix = keys::numbers(project).start;
    let page = snapshot.scan(range, scan).await?;
    let runs = page
        .rows
        .iter()
        .map(|(key, value)| {
            let (number,) = keys::tail(&prefix, key)?;
            Ok((RunNumber(number), RunId::new(rows::decode::<String>(key, value)?)))
        })
        .collect::<Result<_>>()?;
    let rest = page.rows.last().filter(|_| page.more).map(|(last, _)| range.after(last));
    Ok(RunIdPage { runs, rest })
}

/// A page of runs in scan order, and the range of the rest.
#[derive(Debug, Default)]
pub struct RunPage {
    pub runs: Vec<(RunNumber, Document)>,
    /// Runs of the page whose documents are damaged.
    pub damaged: Vec<RunNumber>,
    pub rest: Option<Range>,
}

/// One page of all runs of the project, by run number, which is close to creation order.
/// `range` is `keys::documents` for the first page, then the `rest` of the previous one.
/// Includes runs that are pending deletion.
pub async fn runs_list(
    snapshot: &dyn Snapshot,
    project: Project,
    range: &Range,
    scan: Scan,
) -> Result<RunPage> {
    let prefix = keys::documents(project).start;
    let page = snapshot.scan(range, scan).await?;
    let mut runs = Vec::with_capacity(page.rows.len());
    let mut damaged = Vec::new();
    for (key, value) in &page.rows {
        let (number,) = keys::tail(&prefix, key)?;
        match readable(key, value) {
            Some(document) => runs.push((RunNumber(number), document)),
            None => damaged.push(RunNumber(number)),
        }
    }
    let rest = page
        .rows
        .last()
        .filter(|_| page.more)
        .map(|(last, _)| if scan.reverse { range.before(last) } else { range.after(last) });
    Ok(RunPage { runs, damaged, rest })
}

/// The encoded map of the params, without decoding it.
pub async fn params_get_bytes(
    snapshot: &dyn Snapshot,
    project: Project,
    number: RunNumber,
    document: &Document,
) -> Result<Bytes> {
    match &document.params {
        Params::Inline(bytes) => Ok(bytes.clone()),
        Params::Pieces => {
            let range = keys::params(project, number);
            let pieces = rows::get_pieces(snapshot, &range).await?;
            let Some(pieces) = pieces else {
                return Err(rows::corrupt(&range.start, &"the params of the document are missing"));
            };
            // Without a format byte, until the migration of the store reaches them.
            if params::is_params_of_format_2(&pieces) {
                Ok(pieces)
            } else {
                Ok(pieces.slice_ref(rows::body(&range.start, &pieces)?))
            }
        }
    }
}

pub async fn params_get(
    snapshot: &dyn Snapshot,
    project: Project,
    number: RunNumber,
    document: &Document,
) -> Result<Map> {
    let bytes = params_get_bytes(snapshot, project, number, document).await?;
    cbor::decode_map(&bytes).map_err(|error| rows::corrupt(&keys::document(project, number), &error))
}
