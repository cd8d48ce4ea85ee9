//! Access to params and contexts by path, and to metrics by an expression. A missing value is
//! None, except that a missing item (`["key"]`) raises unless it is directly on the run.

use super::{Exception, Machine, Result, attribute, datum, index, view};
use crate::names::{Property, SequenceField};
use crate::tree::{Lookup, Metric, PathStep};
use crate::value::{Environment, Value};

pub(super) fn param<'a>(machine: &Machine<'a>, lookup: &'a Lookup) -> Result<Value<'a>> {
    machine.candidate.value_of(lookup, || {
        let run = machine.candidate.run;
        match view::param_at(&machine.arena, run, &lookup.path)? {
            Some(value) => Ok(value),
            None if lookup.absent_is_none() => Ok(Value::None),
            None => {
                // The path does not exist. Its steps decide whether the result is None or an error.
                let top = view::param_at(&machine.arena, run, &lookup.top())?.unwrap_or(Value::None);
                follow(machine, top, &lookup.path.keys()[1..], &lookup.steps[1..])
            }
        }
    })
}

pub(super) fn param_or<'a>(
    machine: &Machine<'a>,
    lookup: &'a Lookup,
    property: Property,
) -> Result<Value<'a>> {
    machine.candidate.value_of(lookup, || {
        let run = machine.candidate.run;
        let value = view::param_at(&machine.arena, run, &lookup.path)?;
        Ok(value.unwrap_or_else(|| view::property_of(run, property)))
    })
}

pub(super) fn context<'a>(machine: &Machine<'a>, lookup: &'a Lookup) -> Result<Value<'a>> {
    machine.candidate.value_of(lookup, || read_context(machine, lookup))
}

fn read_context<'a>(machine: &Machine<'a>, lookup: &'a Lookup) -> Result<Value<'a>> {
    let sequence = machine.candidate.sequence.ok_or(Exception::NameError)?;
    machine.arena.spend(lookup.path.keys().len() as u64)?;
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
