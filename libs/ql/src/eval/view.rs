//! Values of a run and its sequences: properties, params by key, fields of a sequence, metrics by
//! name. A missing value is None.

use super::{Arena, Result, compare, datum};
use crate::names::{Property, SequenceField};
use crate::value::Value;
use crate::view::{KeyPath, RunView, SequenceView};

#[inline]
pub(super) fn property_of<'a>(run: &'a dyn RunView, property: Property) -> Value<'a> {
    let text = |text: Option<&'a str>| text.map_or(Value::None, Value::Text);
    match property {
        Property::Hash => Value::Text(run.hash()),
        Property::Name => text(run.name()),
        Property::Description => text(run.description()),
        Property::Experiment => text(run.experiment()),
        Property::CreatedAt | Property::CreationTime => Value::Time(run.created_at()),
        Property::EndTime => run.end_time().map_or(Value::None, Value::Time),
        Property::Duration => Value::Span(run.end_time().map_or(0.0, |end| end - run.created_at())),
        Property::Active => Value::Bool(run.active()),
        Property::Outcome => text(run.outcome()),
        Property::Parent => text(run.parent()),
        Property::Archived | Property::IsArchived => Value::Bool(run.archived()),
    }
}

/// Returns a top-level param.
pub(super) fn param_of<'a>(arena: &Arena<'a>, run: &'a dyn RunView, key: &str) -> Result<Value<'a>> {
    run.param(&KeyPath::new([key])).map_or(Ok(Value::None), |datum| datum::to_value(arena, datum))
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
    let number = |value: Option<f64>| value.map_or(Value::None, Value::Float);
    let step = |value: Option<i64>| value.map_or(Value::None, Value::Int);
    Ok(match field {
        SequenceField::Name => Value::Text(sequence.name()),
        SequenceField::Context => whole_context(arena, sequence)?,
        SequenceField::Run => Value::Run(run),
        SequenceField::Dtype => Value::Text(sequence.dtype()),
        SequenceField::First => number(sequence.summary().first),
        SequenceField::Last => number(sequence.summary().last),
        SequenceField::Min => number(sequence.summary().min),
        SequenceField::Max => number(sequence.summary().max),
        SequenceField::FirstStep => step(sequence.summary().first_step),
        SequenceField::LastStep => step(sequence.summary().last_step),
    })
}

/// Returns the sequence with this name: in the given context or, if none is given, the
/// one without context, otherwise the first.
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
            run.param(&KeyPath::new(keys)).map_or(Ok(Value::None), |datum| datum::to_value(arena, datum))
        }
        None => Ok(Value::None),
    }
}
