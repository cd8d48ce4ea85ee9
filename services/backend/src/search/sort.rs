//! Sort order of a search of runs: a key for each matching run, and their comparison. Runs
//! without a value come last in both directions; ties are broken by run id.

use std::{cmp::Ordering, collections::HashMap, sync::Arc};

use matyan_model::{
    entity::{Experiment, entity_get},
    ids::{Project, RunNumber},
    index::Scalar,
    metric::metric_series_find,
    run::{Document, params_get_bytes},
    series::{RunRef, RunSeries},
};
use matyan_proto::{
    common::v1::SeriesKey,
    limits,
    search::v1::{Sort, SortField, sort::By},
};
use matyan_store::{Error as StoreError, Snapshot};
use matyan_value::{Context, Value, cbor};

use crate::{
    convert,
    error::{Error, Result},
};

/// Memory limit of the sort keys: about 300,000 runs with one or two names.
const MAX_KEY_BYTES: usize = 64 << 20;
/// Maximum number of keys in a sort order.
const MAX_KEYS: usize = 16;

/// One validated key of a request.
pub(super) struct SortKey {
    by: KeyBy,
    descending: bool,
}

enum KeyBy {
    Field(SortField),
    Param(Vec<String>),
    /// The last value of a metric.
    Metric(String, Context),
}

pub(super) fn parse_keys(sort: Vec<Sort>) -> Result<Vec<SortKey>> {
    convert::check_limit("sort", sort.len(), MAX_KEYS)?;
    let key = |Sort { by, descending }: Sort| {
        let by = match by.ok_or_else(|| Error::field("sort", "is missing a key to sort by"))? {
            By::Field(field) => match SortField::try_from(field) {
                Ok(SortField::Unspecified) | Err(_) => {
                    return Err(Error::field("sort", "contains an unknown field"));
                }
                Ok(field) => KeyBy::Field(field),
            },
            By::Param(path) if path.segments.is_empty() => {
                return Err(Error::field("sort", "contains an empty param path: give at least one key"));
            }
            By::Param(path) => KeyBy::Param(path.segments),
            By::Metric(key) => metric(key)?,
        };
        Ok(SortKey { by, descending })
    };
    sort.into_iter().map(key).collect()
}

/// Whether the newest runs come first, if runs are sorted by creation time only.
pub(super) fn created_order(keys: &[SortKey]) -> Option<bool> {
    match keys {
        [SortKey { by: KeyBy::Field(SortField::Created), descending }] => Some(*descending),
        _ => None,
    }
}

fn metric(key: SeriesKey) -> Result<KeyBy> {
    convert::check_limit("name", key.name.len(), limits::NAME_BYTES)?;
    let context = convert::context(&key)?;
    Ok(KeyBy::Metric(key.name, context))
}

/// The value of one sort key for a run.
#[derive(Debug, PartialEq)]
enum SortTerm {
    Absent,
    Integer(i64),
    Float(f64),
    Text(String),
}

/// A run to be sorted.
#[derive(Debug)]
pub(super) struct SortEntry {
    terms: Box<[SortTerm]>,
    pub(super) run_id: String,
    pub(super) number: RunNumber,
}

impl SortEntry {
    fn bytes(&self) -> usize {
        let text = |term: &SortTerm| if let SortTerm::Text(text) = term { text.capacity() } else { 0 };
        size_of::<Self>()
            + self.run_id.capacity()
            + self.terms.iter().map(|term| size_of::<SortTerm>() + text(term)).sum::<usize>()
    }
}

/// Collects runs as they are found, and sorts them at the end.
pub(super) struct Sorter {
    keys: Arc<[SortKey]>,
    /// Names of experiments, each read once.
    experiments: HashMap<String, Option<String>>,
    entries: Vec<SortEntry>,
    bytes: usize,
    /// The current time, for the duration of active runs.
    now_us: i64,
}

impl Sorter {
    pub(super) fn new(keys: Vec<SortKey>, now_us: i64) -> Self {
        let (keys, experiments) = (keys.into(), HashMap::new());
        Self { keys, experiments, entries: Vec::new(), bytes: 0, now_us }
    }

    pub(super) fn found(&self) -> u64 {
        self.entries.len() as u64
    }

    pub(super) async fn add(
        &mut self,
        snapshot: &dyn Snapshot,
        project: Project,
        number: RunNumber,
        document: &Document,
    ) -> Result<()> {
        let mut terms = Vec::with_capacity(self.keys.len());
        let keys = self.keys.clone();
        for key in keys.iter() {
            terms.push(match &key.by {
                KeyBy::Field(field) => self.field(snapshot, project, *field, document).await?,
                KeyBy::Param(path) => match param(snapshot, project, number, document, path).await {
                    // The run is left out when it is delivered.
                    Err(Error::Damaged(_)) => SortTerm::Absent,
                    term => term?,
                },
                KeyBy::Metric(name, context) => {
                    last_value(snapshot, RunRef { project, number }, name, context).await?
                }
            });
        }
        let run_id = document.props.run_id.clone();
        let entry = SortEntry { terms: terms.into(), run_id, number };
        self.bytes += entry.bytes();
        if self.bytes > MAX_KEY_BYTES {
            return Err(Error::SortTooLarge { limit: MAX_KEY_BYTES });
        }
        self.entries.push(entry);
        Ok(())
    }

    async fn field(
        &mut self,
        snapshot: &dyn Snapshot,
        project: Project,
        field: SortField,
        document: &Document,
    ) -> Result<SortTerm> {
        let props = &document.props;
        Ok(match field {
            SortField::Unspecified => SortTerm::Absent,
            SortField::Created => SortTerm::Integer(props.created_us),
            SortField::Duration => {
                let ended = if props.active { Some(self.now_us) } else { props.ended_us() };
                ended.map_or(SortTerm::Absent, |ended| {
                    SortTerm::Integer(ended.saturating_sub(props.created_us))
                })
            }
            SortField::Name => SortTerm::Text(props.name.clone()),
            SortField::RunId => SortTerm::Text(props.run_id.clone()),
            SortField::Description => SortTerm::Text(props.description.clone()),
            SortField::Experiment => {
                // A run without an experiment sorts like one whose experiment has an empty name.
                let Some(id) = &props.experiment else { return Ok(SortTerm::Text(String::new())) };
                if !self.experiments.contains_key(id) {
                    let found = entity_get::<Experiment>(snapshot, project, id).await?;
                    self.experiments.insert(id.clone(), found.map(|experiment| experiment.name));
                }
                SortTerm::Text(self.experiments[id].clone().unwrap_or_default())
            }
        })
    }

    /// The runs in order, by the most significant key first.
    pub(super) fn sorted(self) -> Vec<SortEntry> {
        let Self { keys, mut entries, .. } = self;
        entries.sort_unstable_by(|a, b| {
            let terms = keys.iter().zip(a.terms.iter().zip(&b.terms));
            let differing = terms.map(|(key, (a, b))| compare(a, b, key.descending));
            let first = differing.into_iter().find(|ordering| ordering.is_ne());
            first.unwrap_or(Ordering::Equal).then_with(|| a.run_id.cmp(&b.run_id))
        });
        entries
    }
}

fn compare(a: &SortTerm, b: &SortTerm, descending: bool) -> Ordering {
    let ascending = match (a, b) {
        (SortTerm::Absent, SortTerm::Absent) => return Ordering::Equal,
        (SortTerm::Absent, _) => return Ordering::Greater,
        (_, SortTerm::Absent) => return Ordering::Less,
        (SortTerm::Text(a), SortTerm::Text(b)) => a.cmp(b),
        (SortTerm::Text(_), _) => Ordering::Greater,
        (_, SortTerm::Text(_)) => Ordering::Less,
        (SortTerm::Integer(a), SortTerm::Integer(b)) => a.cmp(b),
        (SortTerm::Float(a), SortTerm::Float(b)) => compare_floats(*a, *b),
        (SortTerm::Integer(a), SortTerm::Float(b)) => compare_mixed(*a, *b),
        (SortTerm::Float(a), SortTerm::Integer(b)) => compare_mixed(*b, *a).reverse(),
    };
    if descending { ascending.reverse() } else { ascending }
}

/// Compares numbers that are not NaN; both zeros are equal.
fn compare_floats(a: f64, b: f64) -> Ordering {
    (a + 0.0).total_cmp(&(b + 0.0))
}

/// Compares exactly: integers beyond 2^53 have no exact float.
fn compare_mixed(integer: i64, other: f64) -> Ordering {
    match compare_floats(integer as f64, other) {
        // Both are whole numbers here, and fit into the wider type.
        Ordering::Equal => i128::from(integer).cmp(&(other as i128)),
        ordering => ordering,
    }
}

async fn param(
    snapshot: &dyn Snapshot,
    project: Project,
    number: RunNumber,
    document: &Document,
    path: &[String],
) -> Result<SortTerm> {
    let params = params_get_bytes(snapshot, project, number, document).await?;
    let corrupt = |error: cbor::CborError| {
        Error::Damaged(StoreError::corrupt(format!("invalid params of run {number}: {error}")))
    };
    let Some(found) = cbor::find(&params, path).map_err(corrupt)? else { return Ok(SortTerm::Absent) };
    let value = cbor::decode(found).map_err(corrupt)?;
    Ok(match (Scalar::from_value(&value), &value) {
        (Some(Scalar::Number(_)), Value::Integer(integer)) => SortTerm::Integer(*integer),
        (Some(Scalar::Number(number)), _) => SortTerm::Float(number),
        (Some(Scalar::Text(text)), _) => SortTerm::Text(text.to_owned()),
        (Some(Scalar::Null) | None, _) => SortTerm::Absent,
    })
}

async fn last_value(
    snapshot: &dyn Snapshot,
    run_ref: RunRef,
    name: &str,
    context: &Context,
) -> Result<SortTerm> {
    let found =
        metric_series_find(snapshot, run_ref.project, run_ref.number, name, &context.digest()).await?;
    let Some(series) = found else { return Ok(SortTerm::Absent) };
    let view = RunSeries::open(snapshot, run_ref).await?.view(snapshot, series).await?;
    let last = view.summary(snapshot).await?.map(|summary| summary.last.value);
    Ok(last.filter(|value| !value.is_nan()).map_or(SortTerm::Absent, SortTerm::Float))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_ordered_with_absent_ones_last() {
        let text = |text: &str| SortTerm::Text(text.into());
        let rising = [
            SortTerm::Float(f64::NEG_INFINITY),
            SortTerm::Integer(-1),
            SortTerm::Float(-0.5),
            SortTerm::Integer(0),
            SortTerm::Float(9_007_199_254_740_992.0),
            SortTerm::Integer(9_007_199_254_740_993),
            SortTerm::Integer(i64::MAX),
            SortTerm::Float(9_223_372_036_854_775_808.0),
            SortTerm::Float(f64::INFINITY),
            text(""),
            text("Z"),
            text("a"),
            text("é"),
        ];
        for (position, a) in rising.iter().enumerate() {
            for (other, b) in rising.iter().enumerate() {
                assert_eq!(compare(a, b, false), position.cmp(&other), "{a:?} {b:?}");
                assert_eq!(compare(a, b, true), other.cmp(&position), "{a:?} {b:?}");
            }
            for descending in [false, true] {
                assert_eq!(compare(a, &SortTerm::Absent, descending), Ordering::Less);
                assert_eq!(compare(&SortTerm::Absent, a, descending), Ordering::Greater);
            }
        }
        assert_eq!(compare(&SortTerm::Float(-0.0), &SortTerm::Integer(0), false), Ordering::Equal);
    }

    #[test]
    fn invalid_orders_are_rejected() {
        let sort = |by| Sort { by, descending: false };
        for wrong in [None, Some(By::Field(0)), Some(By::Field(99)), Some(By::Param(Default::default()))] {
            assert!(parse_keys(vec![sort(wrong)]).is_err());
        }
        let field = Some(By::Field(SortField::Name.into()));
        assert!(parse_keys(vec![sort(field.clone()); MAX_KEYS]).is_ok());
        assert!(parse_keys(vec![sort(field); MAX_KEYS + 1]).is_err());
    }
}
