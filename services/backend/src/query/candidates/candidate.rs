//! A run as the query language sees it: its document, plus only the data that the query names.

use std::{borrow::Cow, sync::Arc};

use matyan_model::{
    ids::{RunId, RunNumber, SeriesNumber},
    object::ObjectHeader,
    run::Document,
    series::MetricHeader,
};
use matyan_ql::{Datum, KeyPath, ParamRead, RunView, SequenceSummary, SequenceView};
use matyan_value::{Map, Value};

use super::encoded_params::{EncodedParams, big_datum};
use crate::query::plan::seconds;

/// A run to be evaluated against a query.
pub(crate) struct Candidate {
    pub(crate) number: RunNumber,
    pub(crate) document: Document,
    /// Empty if the query uses none, and once the run matches.
    pub(super) params: EncodedParams,
    pub(super) experiment: Option<Arc<str>>,
    pub(super) tags: Vec<Arc<str>>,
    pub(super) parent: Option<RunId>,
    pub(crate) sequences: LoadedSequences,
}

/// The sequences of a run, in order of context id, then name.
pub(crate) struct LoadedSequences {
    sequences: Vec<Sequence>,
    /// Indexes into the sequences, in order of name, then context id.
    by_name: Box<[u32]>,
}

/// A sequence of the run.
pub(crate) struct Sequence {
    pub(crate) number: SeriesNumber,
    pub(crate) header: SequenceHeader,
    pub(super) context: Arc<SequenceContext>,
    pub(super) summary: SequenceSummary,
}

pub(crate) enum SequenceHeader {
    Metric(MetricHeader),
    Object(ObjectHeader),
}

/// A context, decoded once for all sequences that share it.
pub(super) struct SequenceContext {
    pub(super) id: u32,
    pub(super) values: Map,
}

impl Candidate {
    pub(crate) fn params_bytes(&self) -> usize {
        self.params.len()
    }
}

impl LoadedSequences {
    pub(super) fn new(mut sequences: Vec<Sequence>) -> Self {
        sequences.sort_by(|a, b| (a.context.id, a.name()).cmp(&(b.context.id, b.name())));
        let indexes = 0..u32::try_from(sequences.len()).expect("a run has at most 200,000 series");
        let mut by_name: Box<[u32]> = indexes.collect();
        // Stable, so that the contexts of a name stay in order.
        by_name.sort_by_key(|index| sequences[*index as usize].name());
        Self { sequences, by_name }
    }

    /// The sequences with this name.
    fn named<'s>(&'s self, name: &str) -> impl Iterator<Item = &'s Sequence> {
        let name_at = |index: &u32| self.sequences[*index as usize].name();
        let from = self.by_name.partition_point(|index| name_at(index) < name);
        let count = self.by_name[from..].partition_point(|index| name_at(index) == name);
        self.by_name[from..from + count].iter().map(|index| &self.sequences[*index as usize])
    }

    pub(crate) fn into_vec(self) -> Vec<Sequence> {
        self.sequences
    }
}

impl std::ops::Deref for LoadedSequences {
    type Target = [Sequence];

    fn deref(&self) -> &[Sequence] {
        &self.sequences
    }
}

impl RunView for Candidate {
    fn hash(&self) -> &str {
        &self.document.props.run_id
    }

    fn name(&self) -> Option<&str> {
        Some(&self.document.props.name)
    }

    fn description(&self) -> Option<&str> {
        Some(&self.document.props.description)
    }

    fn experiment(&self) -> Option<&str> {
        self.experiment.as_deref()
    }

    fn created_at(&self) -> f64 {
        seconds(self.document.props.created_us)
    }

    fn end_time(&self) -> Option<f64> {
        let props = &self.document.props;
        props.ended_us().filter(|_| !props.active).map(seconds)
    }

    fn active(&self) -> bool {
        self.document.props.active
    }

    fn outcome(&self) -> Option<&str> {
        self.document.props.outcome.as_ref().and_then(|outcome| outcome.kind.to_api().name())
    }

    fn parent(&self) -> Option<&str> {
        self.parent.as_ref().map(RunId::as_str)
    }

    fn archived(&self) -> bool {
        self.document.props.archived
    }

    fn tags(&self) -> Vec<&str> {
        self.tags.iter().map(|tag| &**tag).collect()
    }

    fn param(&self, path: &KeyPath, most_values: usize) -> ParamRead<'_> {
        self.params.read(path, most_values).unwrap_or_else(|error| {
            tracing::error!(
                run_id = self.hash(),
                error = &error as &dyn std::error::Error,
                "failed to read params"
            );
            None.into()
        })
    }

    fn sequences(&self, name: &str) -> Vec<&dyn SequenceView> {
        self.sequences.named(name).map(|sequence| sequence as &dyn SequenceView).collect()
    }
}

impl SequenceView for Sequence {
    fn name(&self) -> &str {
        match &self.header {
            SequenceHeader::Metric(header) => &header.name,
            SequenceHeader::Object(header) => &header.name,
        }
    }

    fn dtype(&self) -> &str {
        match &self.header {
            SequenceHeader::Metric(header) => &header.dtype,
            SequenceHeader::Object(header) => &header.dtype,
        }
    }

    fn context(&self, path: &KeyPath) -> Option<Datum<'_>> {
        let Some((first, rest)) = path.keys().split_first() else {
            return Some(object(&self.context.values));
        };
        let top = self.context.values.get(&**first)?;
        rest.iter().try_fold(top, |value, key| value.as_map()?.get(&**key)).map(datum)
    }

    fn summary(&self) -> SequenceSummary {
        self.summary
    }
}

pub(super) fn datum(value: &Value) -> Datum<'_> {
    match value {
        Value::Text(text) => Datum::Text(Cow::Borrowed(text)),
        Value::Bytes(bytes) => Datum::Bytes(Cow::Borrowed(bytes)),
        Value::List(items) => Datum::List(items.iter().map(datum).collect()),
        Value::Map(map) => object(map),
        scalar => scalar_datum(scalar),
    }
}

fn object(map: &Map) -> Datum<'_> {
    Datum::Object(map.iter().map(|(key, value)| (Cow::Borrowed(key.as_str()), datum(value))).collect())
}

fn scalar_datum(value: &Value) -> Datum<'_> {
    match value {
        Value::Bool(value) => Datum::Bool(*value),
        Value::Integer(value) => Datum::Int(*value),
        Value::Float(value) => Datum::Float(*value),
        Value::Big(big) => big_datum(big.is_negative(), big.magnitude()),
        Value::Null | Value::Text(_) | Value::Bytes(_) | Value::List(_) | Value::Map(_) => Datum::None,
    }
}
