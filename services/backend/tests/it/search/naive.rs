//! Reference implementation of a search: evaluates the query on every spec and sorts the matches,
//! without index, store or stream.

use std::{borrow::Cow, cmp::Ordering};

use matyan_model::run::OutcomeKind;
use matyan_proto::search::v1::{MetricValue, Sort, SortField, sort::By};
use matyan_ql::{
    Datum, Endpoint, Evaluator, KeyPath, Outcome, ParamRead, QueryLimits, QueryOptions, RunView,
    SequenceSummary, SequenceView, compile,
};
use matyan_value::{Context as SeriesContext, Map, Value};

use crate::search::harness::{NOW_US, RunSpec, Sequence, is_object, map};

struct View<'a>(&'a RunSpec);

fn datum(value: &Value) -> Datum<'_> {
    match value {
        Value::Null => Datum::None,
        Value::Bool(value) => Datum::Bool(*value),
        Value::Integer(value) => Datum::Int(*value),
        Value::Float(value) => Datum::Float(*value),
        Value::Text(text) => Datum::Text(Cow::Borrowed(text)),
        Value::List(items) => Datum::List(items.iter().map(datum).collect()),
        Value::Map(map) => {
            Datum::Object(map.iter().map(|(key, value)| (Cow::Borrowed(&**key), datum(value))).collect())
        }
        Value::Big(_) | Value::Bytes(_) => panic!("specs contain no big integers or bytes"),
    }
}

fn at<'a>(map: &'a Map, path: &KeyPath) -> Option<Datum<'a>> {
    let Some((first, rest)) = path.keys().split_first() else {
        return Some(Datum::Object(map.iter().map(|(k, v)| (Cow::Borrowed(&**k), datum(v))).collect()));
    };
    rest.iter().try_fold(map.get(&**first)?, |value, key| value.as_map()?.get(&**key)).map(datum)
}

impl RunView for View<'_> {
    fn hash(&self) -> &str {
        &self.0.id
    }
    fn name(&self) -> Option<&str> {
        Some(&self.0.name)
    }
    fn description(&self) -> Option<&str> {
        Some(&self.0.description)
    }
    fn experiment(&self) -> Option<&str> {
        self.0.experiment.as_deref()
    }
    fn created_at(&self) -> f64 {
        self.0.created_us as f64 / 1e6
    }
    fn end_time(&self) -> Option<f64> {
        self.0.finalized_us.filter(|_| !self.0.active).map(|end| end as f64 / 1e6)
    }
    fn active(&self) -> bool {
        self.0.active
    }
    fn outcome(&self) -> Option<&str> {
        let outcome = self.0.outcome.as_ref()?;
        Some(match outcome.kind {
            OutcomeKind::Finished => "finished",
            OutcomeKind::Failed => "failed",
            OutcomeKind::Interrupted => "interrupted",
        })
    }
    fn parent(&self) -> Option<&str> {
        None
    }

    fn archived(&self) -> bool {
        self.0.archived
    }
    fn tags(&self) -> Vec<&str> {
        self.0.tags.iter().map(String::as_str).collect()
    }
    fn param(&self, path: &KeyPath, _: usize) -> ParamRead<'_> {
        at(&self.0.params, path).into()
    }
    fn sequences(&self, name: &str) -> Vec<&dyn SequenceView> {
        let mut named: Vec<&Sequence> = self.0.sequences.iter().filter(|it| it.name == name).collect();
        named.sort_by_key(|it| SeriesContext::new(&it.context).id());
        named.into_iter().map(|it| it as &dyn SequenceView).collect()
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
        at(&self.context, path)
    }
    fn summary(&self) -> SequenceSummary {
        let first = self.points.first();
        let last = self.points.last();
        let steps = SequenceSummary {
            first_step: first.map(|it| it.0),
            last_step: last.map(|it| it.0),
            ..SequenceSummary::default()
        };
        if is_object(&self.dtype) {
            return SequenceSummary { last: Some(0.0), ..steps };
        }
        let finite = || self.points.iter().map(|it| it.1).filter(|value| value.is_finite());
        SequenceSummary {
            first: first.map(|it| it.1),
            last: last.map(|it| it.1),
            min: finite().reduce(f64::min),
            max: finite().reduce(f64::max),
            ..steps
        }
    }
}

pub(crate) struct NaiveSearch {
    query: matyan_ql::Query,
}

impl NaiveSearch {
    pub(crate) fn new(text: &str, endpoint: Endpoint) -> Self {
        let options = QueryOptions { endpoint, offset_minutes: 0, now: NOW_US as f64 / 1e6 };
        Self { query: compile(text, options).unwrap_or_else(|error| panic!("{text}: {error}")) }
    }

    fn evaluator(&self) -> Evaluator<'_> {
        self.query.evaluator(QueryLimits::default())
    }

    pub(crate) fn matches(&self, run: &RunSpec) -> bool {
        !run.pending_delete && self.evaluator().run(&View(run)).unwrap() == Outcome::Match
    }

    /// The matching runs, newest first.
    pub(crate) fn runs<'a>(&self, runs: impl IntoIterator<Item = &'a RunSpec>) -> Vec<&'a RunSpec> {
        let mut found: Vec<&RunSpec> = runs.into_iter().filter(|run| self.matches(run)).collect();
        found.sort_by_key(|run| std::cmp::Reverse(run.created_us));
        found
    }

    /// The matching sequences of a run, by context id and name.
    pub(crate) fn sequences<'a>(&self, run: &'a RunSpec) -> Vec<&'a Sequence> {
        let endpoint = self.query.options().endpoint;
        let mut evaluator = self.evaluator();
        let candidates = run.sequences.iter().filter(|it| !run.pending_delete && endpoint.accepts(&it.dtype));
        let mut found: Vec<&Sequence> =
            candidates.filter(|it| evaluator.sequence(&View(run), *it).unwrap() == Outcome::Match).collect();
        found.sort_by_key(|it| (SeriesContext::new(&it.context).id(), it.name.clone()));
        found
    }
}

/// The sort key of a spec: absent last, numbers before texts.
fn term(run: &RunSpec, sort: &Sort) -> (u8, f64, String) {
    let text = |text: &str| (1, 0.0, text.to_owned());
    let number = |number: f64| (0, number, String::new());
    let value = match sort.by.as_ref().unwrap() {
        By::Field(field) => match SortField::try_from(*field).unwrap() {
            SortField::Name => Some(text(&run.name)),
            SortField::Experiment => Some(text(run.experiment.as_deref().unwrap_or_default())),
            SortField::Created => Some(number(run.created_us as f64)),
            SortField::RunId => Some(text(&run.id)),
            SortField::Description => Some(text(&run.description)),
            SortField::Duration => {
                let end = if run.active { Some(NOW_US) } else { run.finalized_us };
                end.map(|end| number((end - run.created_us) as f64))
            }
            SortField::Ended => run.finalized_us.filter(|_| !run.active).map(|end| number(end as f64)),
            SortField::Outcome if run.active => Some(text("active")),
            SortField::Outcome => View(run).outcome().map(text),
            SortField::Tags => {
                let mut tags = run.tags.clone();
                tags.sort();
                tags.dedup();
                (!tags.is_empty()).then(|| text(&tags.join(", ")))
            }
            SortField::Unspecified => panic!("not used by the test"),
        },
        By::Param(path) => {
            let (last, above) = path.segments.split_last().unwrap();
            let parent = above.iter().try_fold(&run.params, |map, key| map.get(key)?.as_map());
            match parent.and_then(|map| map.get(last)) {
                Some(Value::Integer(value)) => Some(number(*value as f64)),
                Some(Value::Float(value)) => Some(number(*value)),
                Some(Value::Bool(value)) => Some(number(f64::from(u8::from(*value)))),
                Some(Value::Text(value)) => Some(text(value)),
                _ => None,
            }
        }
        By::Metric(key) => {
            let context = map(if key.context.is_empty() { "{}" } else { &key.context });
            let of = |it: &&Sequence| it.name == key.name && it.context == context && !is_object(&it.dtype);
            let points = run.sequences.iter().find(of).map_or(&[][..], |it| &it.points);
            let finite = points.iter().map(|it| it.1).filter(|value| value.is_finite());
            let value = match sort.metric_value() {
                MetricValue::Unspecified | MetricValue::Last => points.last().map(|it| it.1),
                MetricValue::First => points.first().map(|it| it.1),
                MetricValue::Min => finite.reduce(f64::min),
                MetricValue::Max => finite.reduce(f64::max),
            };
            value.filter(|value| !value.is_nan()).map(number)
        }
    };
    value.unwrap_or((2, 0.0, String::new()))
}

/// The order of two runs in a list: by the keys, then by id.
pub(crate) fn compare(a: &RunSpec, b: &RunSpec, sort: &[Sort]) -> Ordering {
    let by_keys = sort.iter().map(|sort| {
        let a = term(a, sort);
        let b = term(b, sort);
        let ordering = a.partial_cmp(&b).unwrap();
        let is_absent = a.0 == 2 || b.0 == 2;
        if sort.descending && !is_absent { ordering.reverse() } else { ordering }
    });
    by_keys.fold(Ordering::Equal, Ordering::then).then(a.id.cmp(&b.id))
}
