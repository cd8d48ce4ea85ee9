//! Access to the run and its sequences: properties, params and contexts by path, metrics by
//! name. A missing value is None, except that a missing item (`["key"]`) raises unless it is
//! directly on the run.

use super::{Exception, Machine, Result};
use crate::names::{Property, SequenceField};
use crate::tree::{Lookup, Metric, PathStep};
use crate::value::{Environment, Value};
use crate::view::{KeyPath, SequenceView};

impl<'a> Machine<'a> {
    pub(super) fn property(&self, property: Property) -> Result<Value<'a>> {
        let text = |text: Option<&'a str>| text.map_or(Value::None, Value::Text);
        let run = self.run;
        Ok(match property {
            Property::Hash => Value::Text(run.hash()),
            Property::Name => text(run.name()),
            Property::Description => text(run.description()),
            Property::Experiment => text(run.experiment()),
            Property::CreatedAt | Property::CreationTime => Value::Time(run.created_at()),
            Property::EndTime => run.end_time().map_or(Value::None, Value::Time),
            Property::Duration => Value::Span(run.end_time().map_or(0.0, |end| end - run.created_at())),
            Property::Active => Value::Bool(run.active()),
            Property::Archived | Property::IsArchived => Value::Bool(run.archived()),
        })
    }

    pub(super) fn param(&self, lookup: &'a Lookup) -> Result<Value<'a>> {
        if let Some(built) = self.cached_container(lookup) {
            return Ok(built);
        }
        match self.run.param(&lookup.path) {
            Some(datum) => self.build_container(lookup, datum),
            None if lookup.absent_is_none() => Ok(Value::None),
            None => {
                // The path does not exist. Its steps decide whether the result is None or an error.
                let first = &lookup.path.keys()[0];
                let top = self.param_of(first)?;
                self.follow(top, &lookup.path.keys()[1..], &lookup.steps[1..])
            }
        }
    }

    /// Returns a top-level param.
    pub(super) fn param_of(&self, key: &str) -> Result<Value<'a>> {
        self.run.param(&KeyPath::new([key])).map_or(Ok(Value::None), |datum| self.datum(datum))
    }

    pub(super) fn context(&self, lookup: &'a Lookup) -> Result<Value<'a>> {
        let sequence = self.sequence.ok_or(Exception::NameError)?;
        match sequence.context(&lookup.path) {
            Some(datum) => self.datum(datum),
            None if lookup.absent_is_none() => Ok(Value::None),
            None => self.follow(self.whole_context(sequence)?, lookup.path.keys(), &lookup.steps),
        }
    }

    fn whole_context(&self, sequence: &'a dyn SequenceView) -> Result<Value<'a>> {
        sequence.context(&KeyPath::default()).map_or(Ok(Value::None), |datum| self.datum(datum))
    }

    /// Follows a path step by step, where a missing part or a member of a type affects the
    /// result.
    fn follow(&self, top: Value<'a>, keys: &'a [Box<str>], steps: &[PathStep]) -> Result<Value<'a>> {
        let mut value = top;
        for (key, step) in keys.iter().zip(steps) {
            value = match step {
                PathStep::Attribute(member) => self.attribute(value, key, *member)?,
                PathStep::Item => self.index(value, Value::Text(key))?,
                PathStep::Lenient => match value {
                    Value::Object(object) => self.entry(object, key)?.unwrap_or(Value::None),
                    _ => Value::None,
                },
            };
        }
        Ok(value)
    }

    pub(super) fn sequence_field(&self, field: SequenceField) -> Result<Value<'a>> {
        let sequence = self.sequence.ok_or(Exception::NameError)?;
        self.field_of(sequence, field)
    }

    pub(super) fn field_of(&self, sequence: &'a dyn SequenceView, field: SequenceField) -> Result<Value<'a>> {
        let number = |value: Option<f64>| value.map_or(Value::None, Value::Float);
        let step = |value: Option<i64>| value.map_or(Value::None, Value::Int);
        Ok(match field {
            SequenceField::Name => Value::Text(sequence.name()),
            SequenceField::Context => self.whole_context(sequence)?,
            SequenceField::Run => Value::Run,
            SequenceField::Dtype => Value::Text(sequence.dtype()),
            SequenceField::First => number(sequence.summary().first),
            SequenceField::Last => number(sequence.summary().last),
            SequenceField::Min => number(sequence.summary().min),
            SequenceField::Max => number(sequence.summary().max),
            SequenceField::FirstStep => step(sequence.summary().first_step),
            SequenceField::LastStep => step(sequence.summary().last_step),
        })
    }

    pub(super) fn metric(&self, environment: Environment<'a>, metric: &'a Metric) -> Result<Value<'a>> {
        let name = self.eval(environment, &metric.name)?;
        match &metric.context {
            None if matches!(name, Value::Tuple([_, _])) => self.index(Value::Metrics, name),
            None => self.metric_of(name, None),
            Some(context) => {
                let context = self.eval(environment, context)?;
                self.metric_of(name, Some(context))
            }
        }
    }

    /// Returns the sequence with this name: in the given context or, if none is given, the
    /// one without context, otherwise the first.
    pub(super) fn metric_of(&self, name: Value<'a>, context: Option<Value<'a>>) -> Result<Value<'a>> {
        let Value::Text(name) = name else { return Ok(Value::NoSequence) };
        let sequences = self.run.sequences(name);
        self.spend(sequences.len() as u64)?;
        let mut equal = None;
        for &sequence in &sequences {
            let known = self.whole_context(sequence)?;
            match context {
                None if !known.truth() => return Ok(Value::Sequence(sequence)),
                None => {}
                Some(wanted) if self.same_context(known, wanted, true)? => {
                    return Ok(Value::Sequence(sequence));
                }
                // A context in which an int equals a float counts only without an exact match.
                Some(wanted) if equal.is_none() && self.same_context(known, wanted, false)? => {
                    equal = Some(sequence);
                }
                Some(_) => {}
            }
        }
        let first = context.is_none().then(|| sequences.first().copied()).flatten();
        Ok(equal.or(first).map_or(Value::NoSequence, Value::Sequence))
    }

    pub(super) fn has_sequence(&self, name: Value<'a>) -> Result<bool> {
        let found = match name {
            Value::Tuple([name, context]) => self.metric_of(*name, Some(*context))?,
            name => self.metric_of(name, None)?,
        };
        Ok(matches!(found, Value::Sequence(_)))
    }

    /// `run["a", "b"]`.
    pub(super) fn path_of(&self, first: &'a str, rest: &[Value<'a>]) -> Result<Value<'a>> {
        let rest = rest.iter().map(Value::text);
        match [Some(first)].into_iter().chain(rest).collect::<Option<Vec<&str>>>() {
            Some(keys) => {
                self.run.param(&KeyPath::new(keys)).map_or(Ok(Value::None), |datum| self.datum(datum))
            }
            None => Ok(Value::None),
        }
    }
}
