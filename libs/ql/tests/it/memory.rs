//! Runs in memory, read from JSON, over which tests evaluate queries. Params are kept as parsed
//! JSON, so that a query reads the values that a store would have kept.

use std::borrow::Cow;

use matyan_ql::{Datum, KeyPath, ParamRead, RunView, SequenceSummary, SequenceView};
use serde_json::Value;

#[derive(Debug, Clone, Default)]
pub(crate) struct Run {
    pub(crate) hash: String,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) experiment: Option<String>,
    pub(crate) tags: Vec<String>,
    pub(crate) created_at: f64,
    pub(crate) end_time: Option<f64>,
    pub(crate) active: bool,
    pub(crate) archived: bool,
    pub(crate) outcome: Option<String>,
    pub(crate) parent: Option<String>,
    pub(crate) params: Value,
    pub(crate) sequences: Vec<Sequence>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Sequence {
    pub(crate) name: String,
    pub(crate) context: Value,
    pub(crate) dtype: String,
    pub(crate) summary: SequenceSummary,
}

impl RunView for Run {
    fn hash(&self) -> &str {
        &self.hash
    }
    fn name(&self) -> Option<&str> {
        Some(&self.name)
    }
    fn description(&self) -> Option<&str> {
        Some(&self.description)
    }
    fn experiment(&self) -> Option<&str> {
        self.experiment.as_deref()
    }
    fn created_at(&self) -> f64 {
        self.created_at
    }
    fn end_time(&self) -> Option<f64> {
        self.end_time
    }
    fn active(&self) -> bool {
        self.active
    }
    fn outcome(&self) -> Option<&str> {
        self.outcome.as_deref()
    }
    fn parent(&self) -> Option<&str> {
        self.parent.as_deref()
    }
    fn archived(&self) -> bool {
        self.archived
    }
    fn tags(&self) -> Vec<&str> {
        self.tags.iter().map(String::as_str).collect()
    }
    fn param(&self, path: &KeyPath, _: usize) -> ParamRead<'_> {
        at(&self.params, path).map(datum).into()
    }
    fn sequences(&self, name: &str) -> Vec<&dyn SequenceView> {
        let named = self.sequences.iter().filter(|sequence| sequence.name == name);
        named.map(|sequence| sequence as &dyn SequenceView).collect()
    }
}

impl SequenceView for Sequence {
    fn name(&self) -> &str {
        &self.name
    }
    fn dtype(&self) -> &str {
        &self.dtype
    }
    fn context(&self, path: &KeyPath) -> Option<Datum<'_>> {
        at(&self.context, path).map(datum)
    }
    fn summary(&self) -> SequenceSummary {
        self.summary
    }
}

fn at<'v>(value: &'v Value, path: &KeyPath) -> Option<&'v Value> {
    path.keys().iter().try_fold(value, |value, key| value.as_object()?.get(&**key))
}

pub(crate) fn datum(value: &Value) -> Datum<'_> {
    match value {
        Value::Null => Datum::None,
        Value::Bool(value) => Datum::Bool(*value),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(int), _) => Datum::Int(int),
            (None, Some(big)) => {
                Datum::BigInt { negative: false, magnitude: big.to_be_bytes().to_vec().into() }
            }
            (None, None) => Datum::Float(number.as_f64().expect("a JSON number")),
        },
        Value::String(text) => Datum::Text(Cow::Borrowed(text)),
        Value::Array(items) => Datum::List(items.iter().map(datum).collect()),
        Value::Object(entries) => {
            let entries = entries.iter().map(|(key, value)| (Cow::Borrowed(key.as_str()), datum(value)));
            Datum::Object(entries.collect())
        }
    }
}
