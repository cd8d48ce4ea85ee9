//! Values of a run and its sequences: properties, params by key, fields of a sequence, metrics by
//! name. A missing value is None.

use super::{Arena, Exception, Result, compare, datum};
use crate::names::{Property, SequenceField};
use crate::value::Value;
use crate::view::{KeyPath, RunView, SequenceView, StoredParam};

#[inline]
pub(super) fn property_of<'a>(run: &'a dyn RunView, property: Property) -> Value<'a> {
    match property {
        Property::Hash => Value::Text(run.hash()),
        Property::Name => optional_text(run.name()),
        Property::Description => optional_text(run.description()),
        Property::Experiment => optional_text(run.experiment()),
        Property::CreatedAt | Property::CreationTime => Value::Time(run.created_at()),
        Property::EndTime => run.end_time().map_or(Value::None, Value::Time),
        Property::Duration => Value::Span(run.end_time().map_or(0.0, |end| end - run.created_at())),
        Property::Active => Value::Bool(run.active()),
        Property::Outcome => optional_text(run.outcome()),
        Property::Parent => optional_text(run.parent()),
        Property::Archived | Property::IsArchived => Value::Bool(run.archived()),
    }
}

fn optional_text(text: Option<&str>) -> Value<'_> {
    text.map_or(Value::None, Value::Text)
}

fn optional_float<'a>(value: Option<f64>) -> Value<'a> {
    value.map_or(Value::None, Value::Float)
}

fn optional_int<'a>(value: Option<i64>) -> Value<'a> {
    value.map_or(Value::None, Value::Int)
}

/// Reads a param, and pays for the bytes that this takes. A value that does not fit in the arena is
/// not even built.
pub(super) fn param_at<'a>(
    arena: &Arena<'a>,
    run: &'a dyn RunView,
    path: &KeyPath,
) -> Result<Option<Value<'a>>> {
    let read = run.param(path, arena.most_items());
    datum::spend_read(arena, read.bytes)?;
    match read.param {
        StoredParam::Absent => Ok(None),
        StoredParam::Value(datum) => datum::to_value(arena, datum).map(Some),
        StoredParam::TooLarge => Err(Exception::MemoryError.into()),
    }
}

/// Returns a top-level param.
pub(super) fn param_of<'a>(arena: &Arena<'a>, run: &'a dyn RunView, key: &str) -> Result<Value<'a>> {
    Ok(param_at(arena, run, &KeyPath::new([key]))?.unwrap_or(Value::None))
}

/// Whether a run has a top-level param with this name, whose value is not decoded.
pub(super) fn has_param<'a>(arena: &Arena<'a>, run: &dyn RunView, name: Value<'a>) -> Result<bool> {
    let Value::Text(name) = name else { return Ok(false) };
    let read = run.param(&KeyPath::new([name]), 0);
    datum::spend_read(arena, read.bytes)?;
    Ok(read.param != StoredParam::Absent)
}

/// Returns the names of a run's tags, and pays for their number.
pub(super) fn tags_of<'a>(arena: &Arena<'a>, run: &'a dyn RunView) -> Result<Vec<&'a str>> {
    let tags = run.tags();
    arena.spend(tags.len() as u64)?;
    Ok(tags)
}

pub(super) fn has_tag<'a>(arena: &Arena<'a>, run: &'a dyn RunView, name: Value<'a>) -> Result<bool> {
    let Value::Text(name) = name else { return Ok(false) };
    Ok(tags_of(arena, run)?.contains(&name))
}

pub(super) fn whole_context<'a>(arena: &Arena<'a>, sequence: &'a dyn SequenceView) -> Result<Value<'a>> {
    sequence.context(&KeyPath::default()).map_or(Ok(Value::None), |datum| datum::to_value(arena, datum))
}

pub(super) fn field_of<'a>(
    arena: &Arena<'a>,
    run: &'a dyn RunView,
    sequence: &'a dyn SequenceView,
    field: SequenceField,
) -> Result<Value<'a>> {
    Ok(match field {
        SequenceField::Name => Value::Text(sequence.name()),
        SequenceField::Context => whole_context(arena, sequence)?,
        SequenceField::Run => Value::Run(run),
        SequenceField::Dtype => Value::Text(sequence.dtype()),
        SequenceField::First => optional_float(sequence.summary().first),
        SequenceField::Last => optional_float(sequence.summary().last),
        SequenceField::Min => optional_float(sequence.summary().min),
        SequenceField::Max => optional_float(sequence.summary().max),
        SequenceField::FirstStep => optional_int(sequence.summary().first_step),
        SequenceField::LastStep => optional_int(sequence.summary().last_step),
    })
}

/// Returns the sequence with this name: in the given context or, if none is given, the
/// sequence without context, otherwise the first sequence.
pub(super) fn metric_of<'a>(
    arena: &Arena<'a>,
    run: &'a dyn RunView,
    name: Value<'a>,
    context: Option<Value<'a>>,
) -> Result<Value<'a>> {
    let Value::Text(name) = name else { return Ok(Value::NoSequence) };
    let sequences = run.sequences(name);
    arena.spend(sequences.len() as u64)?;
    let mut equal = None;
    for &sequence in &sequences {
        let known = whole_context(arena, sequence)?;
        match context {
            None if !known.truth() => return Ok(Value::Sequence(sequence)),
            None => {}
            Some(wanted) if compare::same_context(arena, known, wanted, true)? => {
                return Ok(Value::Sequence(sequence));
            }
            // A context in which an int equals a float counts only without an exact match.
            Some(wanted) if equal.is_none() && compare::same_context(arena, known, wanted, false)? => {
                equal = Some(sequence);
            }
            Some(_) => {}
        }
    }
    let first = context.is_none().then(|| sequences.first().copied()).flatten();
    Ok(equal.or(first).map_or(Value::NoSequence, Value::Sequence))
}

pub(super) fn has_sequence<'a>(arena: &Arena<'a>, run: &'a dyn RunView, name: Value<'a>) -> Result<bool> {
    let found = match name {
        Value::Tuple([name, context]) => metric_of(arena, run, *name, Some(*context))?,
        name => metric_of(arena, run, name, None)?,
    };
    Ok(matches!(found, Value::Sequence(_)))
}

/// `run["a", "b"]`.
pub(super) fn path_of<'a>(
    arena: &Arena<'a>,
    run: &'a dyn RunView,
    first: &'a str,
    rest: &[Value<'a>],
) -> Result<Value<'a>> {
    let rest = rest.iter().map(Value::text);
    match [Some(first)].into_iter().chain(rest).collect::<Option<Vec<&str>>>() {
        Some(keys) => {
            arena.spend(keys.len() as u64)?;
            Ok(param_at(arena, run, &KeyPath::new(keys))?.unwrap_or(Value::None))
        }
        None => Ok(Value::None),
    }
}
