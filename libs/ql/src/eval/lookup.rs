//! Access to params and contexts by path, and to metrics by an expression. A missing value is
//! None, except that a missing item (`["key"]`) raises unless it is directly on the run.

use super::{Exception, Machine, Result, attribute, datum, index, view};
use crate::names::SequenceField;
use crate::tree::{Lookup, Metric, PathStep};
use crate::value::{Environment, Value};

pub(super) fn param<'a>(machine: &Machine<'a>, lookup: &'a Lookup) -> Result<Value<'a>> {
    if let Some(built) = machine.candidate.built_container(lookup) {
        return Ok(built);
    }
    match machine.candidate.run.param(&lookup.path) {
        Some(datum) => {
            let value = datum::to_value(&machine.arena, datum)?;
            machine.candidate.keep_container(lookup, value);
            Ok(value)
        }
        None if lookup.absent_is_none() => Ok(Value::None),
        None => {
            // The path does not exist. Its steps decide whether the result is None or an error.
            let first = &lookup.path.keys()[0];
            let top = view::param_of(&machine.arena, machine.candidate.run, first)?;
            follow(machine, top, &lookup.path.keys()[1..], &lookup.steps[1..])
        }
    }
}

pub(super) fn context<'a>(machine: &Machine<'a>, lookup: &'a Lookup) -> Result<Value<'a>> {
    let sequence = machine.candidate.sequence.ok_or(Exception::NameError)?;
    match sequence.context(&lookup.path) {
        Some(datum) => datum::to_value(&machine.arena, datum),
        None if lookup.absent_is_none() => Ok(Value::None),
        None => {
            follow(machine, view::whole_context(&machine.arena, sequence)?, lookup.path.keys(), &lookup.steps)
        }
    }
}

/// Follows a path step by step, where a missing part or a member of a type affects the
/// result.
fn follow<'a>(
    machine: &Machine<'a>,
    top: Value<'a>,
    keys: &'a [Box<str>],
    steps: &[PathStep],
) -> Result<Value<'a>> {
    let mut value = top;
    for (key, step) in keys.iter().zip(steps) {
        value = match step {
            PathStep::Attribute(member) => attribute::attribute(machine, value, key, *member)?,
            PathStep::Item => index::index(&machine.arena, value, Value::Text(key))?,
            PathStep::Lenient => match value {
                Value::Object(object) => {
                    attribute::entry(&machine.arena, object, key)?.unwrap_or(Value::None)
                }
                _ => Value::None,
            },
        };
    }
    Ok(value)
}

pub(super) fn sequence_field<'a>(machine: &Machine<'a>, field: SequenceField) -> Result<Value<'a>> {
    let sequence = machine.candidate.sequence.ok_or(Exception::NameError)?;
    view::field_of(&machine.arena, machine.candidate.run, sequence, field)
}

pub(super) fn metric<'a>(
    machine: &Machine<'a>,
    environment: Environment<'a>,
    metric: &'a Metric,
) -> Result<Value<'a>> {
    let run = machine.candidate.run;
    let name = machine.eval(environment, &metric.name)?;
    match &metric.context {
        None if matches!(name, Value::Tuple([_, _])) => {
            index::index(&machine.arena, Value::Metrics(run), name)
        }
        None => view::metric_of(&machine.arena, run, name, None),
        Some(context) => {
            let context = machine.eval(environment, context)?;
            view::metric_of(&machine.arena, run, name, Some(context))
        }
    }
}
