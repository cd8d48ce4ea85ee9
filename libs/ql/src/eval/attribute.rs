//! Attributes of any value. By contract, attribute access never fails: a missing attribute is
//! None. On a stored object the keys come first and hide the methods of a dict.

use super::{Arena, Exception, Machine, Result, arithmetic, method, view};
use crate::names::{self, Builtin, Member, Property, SequenceField};
use crate::value::{BoundMethod, Dict, Value};
use crate::view::{KeyPath, RunView};

pub(super) fn attribute<'a>(
    machine: &Machine<'a>,
    object: Value<'a>,
    name: &str,
    member: Option<Member>,
) -> Result<Value<'a>> {
    match object {
        Value::Object(dict) => Ok(entry(&machine.arena, dict, name)?.unwrap_or(Value::None)),
        Value::Run(run) => run_attribute(&machine.arena, run, name),
        Value::Sequence(sequence) => match SequenceField::find(name) {
            Some(field) => view::field_of(&machine.arena, machine.candidate.run, sequence, field),
            None => Ok(Value::None),
        },
        Value::Builtin(builtin) => builtin_attribute(&machine.arena, builtin, name, member),
        _ => match member {
            Some(member) => member_of(machine, object, member),
            None => Ok(Value::None),
        },
    }
}

fn run_attribute<'a>(arena: &Arena<'a>, run: &'a dyn RunView, name: &str) -> Result<Value<'a>> {
    match name {
        "tags" => Ok(Value::Tags(run)),
        "metrics" => Ok(Value::Metrics(run)),
        _ => match (names::hidden_property(name), Property::find(name)) {
            (Some(property), _) => {
                let value = view::param_at(arena, run, &KeyPath::new([name]))?;
                Ok(value.unwrap_or_else(|| view::property_of(run, property)))
            }
            (None, Some(property)) => Ok(view::property_of(run, property)),
            (None, None) => view::param_of(arena, run, name),
        },
    }
}

fn builtin_attribute<'a>(
    arena: &Arena<'a>,
    owner: Builtin,
    name: &str,
    member: Option<Member>,
) -> Result<Value<'a>> {
    if let Builtin::Module(module) = owner {
        if let Some(number) = names::module_number(module, name) {
            return Ok(Value::Float(number));
        }
        if let Some(text) = names::module_text(module, name) {
            return Ok(Value::Text(text));
        }
    }
    match (names::member_function(owner, name), owner, member) {
        (Some(function), _, _) => builtin(function),
        // An unbound method such as `str.lower`.
        (None, Builtin::Class(_), Some(member)) => {
            arena.alloc(BoundMethod { receiver: Value::Builtin(owner), member }).map(Value::BoundMethod)
        }
        _ => Ok(Value::None),
    }
}

/// Returns a built-in name as a value; `string.Formatter` is refused at the first
/// reference.
pub(super) fn builtin<'a>(builtin: Builtin) -> Result<Value<'a>> {
    match builtin {
        Builtin::Formatter => Err(Exception::NotImplementedError.into()),
        _ => Ok(Value::Builtin(builtin)),
    }
}

/// Returns the value at a string key of a dict.
pub(super) fn entry<'a>(arena: &Arena<'a>, dict: &'a Dict<'a>, key: &str) -> Result<Option<Value<'a>>> {
    arena.spend(1)?;
    arena.spend_bytes(key.len())?;
    let is_same = |known: &Value<'a>| Ok(known.text() == Some(key));
    let entry = dict.find(super::compare::hash_text(key), || arena.spend(1), is_same)?;
    Ok(entry.map(|entry| entry.value))
}

/// Returns an attribute that the type of a value defines: the value of a field, or a
/// bound method.
pub(super) fn member_of<'a>(machine: &Machine<'a>, object: Value<'a>, member: Member) -> Result<Value<'a>> {
    if let Some(value) = field(machine, object, member)? {
        return Ok(value);
    }
    if !method::has_method(object, member) {
        return Ok(Value::None);
    }
    machine.arena.alloc(BoundMethod { receiver: object, member }).map(Value::BoundMethod)
}

fn field<'a>(machine: &Machine<'a>, object: Value<'a>, member: Member) -> Result<Option<Value<'a>>> {
    Ok(Some(match (object, member) {
        (Value::Bool(_) | Value::Int(_) | Value::Big(_), Member::Real | Member::Numerator) => {
            arithmetic::unary(&machine.arena, crate::tree::Unary::Plus, object)?
        }
        (Value::Bool(_) | Value::Int(_) | Value::Big(_), Member::Imag) => Value::Int(0),
        (Value::Bool(_) | Value::Int(_) | Value::Big(_), Member::Denominator) => Value::Int(1),
        (Value::Float(value), Member::Real) => Value::Float(value),
        (Value::Float(_), Member::Imag) => Value::Float(0.0),
        (Value::Complex(real, _), Member::Real) => Value::Float(real),
        (Value::Complex(_, imaginary), Member::Imag) => Value::Float(imaginary),
        (Value::Range(range), Member::Start) => Value::Int(range.start),
        (Value::Range(range), Member::Stop) => Value::Int(range.stop),
        (Value::Range(range), Member::Step) => Value::Int(range.step),
        (Value::Slice(parts), Member::Start) => parts[0],
        (Value::Slice(parts), Member::Stop) => parts[1],
        (Value::Slice(parts), Member::Step) => parts[2],
        (Value::Time(seconds), member) => return machine.clock.time_field(seconds, member),
        (Value::Span(seconds), member) => return Ok(super::time::span_field(seconds, member)),
        _ => return Ok(None),
    }))
}
